"""Writes a key set and tokens with every algorithm, created by PyJWT, for tests/tokens.rs.

Usage: make.py FOLDER
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.test"
RSA_NAMES = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
EC_NAMES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}

folder = pathlib.Path(sys.argv[1])
now = int(time.time())
claims = {"iss": ISSUER, "aud": ["other", "new-name"], "sub": "8f0c", "azp": "sync", "iat": now, "exp": now + 3600}


def private(key):
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def public(algorithm, key, **members):
    return json.loads(algorithm.to_jwk(key.public_key())) | members


def sign(key, name, payload=None, **header):
    return jwt.encode(payload or claims, key and private(key), name, headers=header)


def encoded(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def raw(header, payload, signature):
    """Returns a token that no library would create."""
    signed = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(payload).encode())}"
    return f"{signed}.{encoded(signature(signed.encode()))}"


rsa_key = rsa.generate_private_key(65537, 3072)
rsa_only_256 = rsa.generate_private_key(65537, 2048)
ec_keys = {name: ec.generate_private_key(curve) for name, curve in EC_NAMES.items()}
ed_key = ed25519.Ed25519PrivateKey.generate()
ed448_key = ed448.Ed448PrivateKey.generate()
k256_key = ec.generate_private_key(ec.SECP256K1())

jwks = [public(RSAAlgorithm, rsa_key, kid="rsa"), public(RSAAlgorithm, rsa_only_256, kid="only", alg="RS256")]
jwks += [public(ECAlgorithm, key, kid=name, alg=name) for name, key in ec_keys.items()]
jwks += [public(OKPAlgorithm, ed_key, kid="ed")]
unsupported = [public(OKPAlgorithm, ed448_key, kid="ed448"), public(ECAlgorithm, k256_key, kid="k256", alg="ES256K")]

good = {name: sign(rsa_key, name, kid="rsa") for name in RSA_NAMES}
good |= {name: sign(key, name, kid=name) for name, key in ec_keys.items()}
good["EdDSA"] = sign(ed_key, "EdDSA", kid="ed")
good["Ed25519 by the name of RFC 9864"] = raw(
    {"alg": "Ed25519", "typ": "JWT", "kid": "ed"}, claims, ed_key.sign
)
good["ES384 without a key name"] = sign(ec_keys["ES384"], "ES384")
good["RS256 without a key name, of two keys"] = sign(rsa_only_256, "RS256")
good["within the leeway"] = sign(ed_key, "EdDSA", claims | {"exp": now - 45}, kid="ed")

public_pem = rsa_key.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
foreign = ec.generate_private_key(ec.SECP384R1())
bad = {
    "no signature": sign(None, "none"),
    "HMAC with the public key": raw(
        {"alg": "HS256", "kid": "rsa"}, claims, lambda text: hmac.digest(public_pem, text, hashlib.sha256)
    ),
    "another algorithm than the key's": sign(rsa_only_256, "PS256", kid="only"),
    "another curve than the header says": raw(
        {"alg": "ES384", "kid": "ES384"}, claims, lambda text: bytes(96)
    ),
    "a foreign key": sign(foreign, "ES384", kid="ES384"),
    "ES256K": sign(k256_key, "ES256K", kid="k256"),
    "Ed448": sign(ed448_key, "EdDSA", kid="ed448"),
    "crit": sign(ed_key, "EdDSA", kid="ed", crit=["exp"]),
    "no such claim": sign(ed_key, "EdDSA", {k: v for k, v in claims.items() if k != "azp"}, kid="ed"),
    "a claim that is no string": sign(ed_key, "EdDSA", claims | {"azp": 5}, kid="ed"),
    "an empty claim": sign(ed_key, "EdDSA", claims | {"azp": ""}, kid="ed"),
    "a claim with a space": sign(ed_key, "EdDSA", claims | {"azp": "sync two"}, kid="ed"),
    "another audience": sign(ed_key, "EdDSA", claims | {"aud": "third-name"}, kid="ed"),
    "beyond the leeway": sign(ed_key, "EdDSA", claims | {"exp": now - 120}, kid="ed"),
    "another issuer": sign(ed_key, "EdDSA", claims | {"iss": ISSUER + "/"}, kid="ed"),
}

(folder / "jwks.json").write_text(json.dumps({"keys": jwks + unsupported}))
(folder / "unsupported.json").write_text(json.dumps({"keys": unsupported}))
(folder / "tokens.json").write_text(json.dumps({"good": good, "bad": bad}))
