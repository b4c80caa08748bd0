//! Fixtures for the fuzz targets: a fixed tenant, time and keys. They contain no real secrets.

use std::sync::LazyLock;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use tenant_gateway::{
    crypto::{Keyring, SigningKey},
    domain::{AllowedApiHosts, ContextIdentifier},
    fuzzing::{self, PublicKeys},
    ports::Signer as _,
};

/// The tenant of all requests.
pub const TENANT: &str = "Cust12345";

/// The only allowed host suffix.
pub const ALLOWED_HOST: &str = "superoffice.com";

/// The key id (`kid`) of the key in [`public_keys`].
pub const KID: &str = "8E4D";

const PRIVATE_KEY: &str = include_str!("../../tests/fixtures/keys/rsa-2048.xml");

/// Returns the parsed [`TENANT`].
pub fn tenant() -> ContextIdentifier {
    TENANT.parse().expect("a tenant")
}

/// Returns the fixed current time: 2026-02-23T09:00:00Z.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_771_837_200).expect("a time")
}

/// Returns the allowed hosts: only [`ALLOWED_HOST`].
pub fn allowed_hosts() -> AllowedApiHosts {
    AllowedApiHosts::new(vec![ALLOWED_HOST.to_owned()]).expect("a host")
}

/// Returns a keyring with two keys; the first one is active.
pub fn keyring() -> Keyring {
    let text = include_str!("../corpus_seed/keyring/two_keys");
    fuzzing::read_keyring(text).expect("a keyring")
}

/// Signs any header and claims with the fixture key. Returns `{header}.{claims}.{signature}`.
pub fn sign_jwt(header: &[u8], claims: &[u8]) -> String {
    static KEY: LazyLock<SigningKey> =
        LazyLock::new(|| SigningKey::parse(&PRIVATE_KEY.into()).expect("a key"));
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = KEY.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Returns the public fixture key, parsed from a key set like that of a login host.
pub fn public_keys() -> PublicKeys {
    PublicKeys::read(jwks().as_bytes()).expect("a key set")
}

/// Returns the key set that contains only the fixture key.
pub fn jwks() -> String {
    let number = |name: &str| {
        let (_, after) = PRIVATE_KEY.split_once(&format!("<{name}>")).expect("an element");
        let (text, _) = after.split_once('<').expect("its end");
        URL_SAFE_NO_PAD.encode(STANDARD.decode(text).expect("a number"))
    };
    let (n, e) = (number("Modulus"), number("Exponent"));
    format!(r#"{{"keys":[{{"kty":"RSA","use":"sig","kid":"{KID}","n":"{n}","e":"{e}"}}]}}"#)
}

/// Checks that the message repeats no word of the input that could be key material.
pub fn assert_not_repeated(input: &str, message: &str) {
    for word in input.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() > 24) {
        let random = word.bytes().any(|b| b.is_ascii_uppercase());
        assert!(!random || !message.contains(word), "{message}");
    }
}

/// Checks that a caller id from a certificate is a host name or a URI, and that a SPIFFE id is complete.
pub fn assert_names_one_caller(id: &str) {
    assert!((1..=2048).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let host =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    assert!(id.contains(':') || id.bytes().all(host));
    if id.to_ascii_lowercase().starts_with("spiffe:") {
        let rest = id.strip_prefix("spiffe://").expect("a lower-case scheme");
        let (domain, path) = rest.split_once('/').expect("a path");
        assert!(!domain.is_empty() && !path.is_empty());
        assert!(!rest.contains(['?', '#', '@', ':', '%']));
    }
}
