//! What the targets share: a fixed tenant, a fixed time, fixed keys. Nothing here is secret.

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

/// Whose credentials are asked for.
pub const TENANT: &str = "Cust12345";

/// The one configured suffix.
pub const ALLOWED_HOST: &str = "superoffice.com";

/// The names of the key in [`public_keys`].
pub const KID: &str = "8E4D";

const PRIVATE_KEY: &str = include_str!("../../tests/fixtures/keys/rsa-2048.xml");

/// [`TENANT`], parsed.
pub fn tenant() -> ContextIdentifier {
    TENANT.parse().expect("a tenant")
}

/// The time at which everything happens: 2026-02-23T09:00:00Z.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_771_837_200).expect("a time")
}

/// [`ALLOWED_HOST`], checked.
pub fn allowed_hosts() -> AllowedApiHosts {
    AllowedApiHosts::new(vec![ALLOWED_HOST.to_owned()]).expect("a host")
}

/// A keyring with two keys, the first of which is active.
pub fn keyring() -> Keyring {
    let text = include_str!("../corpus_seed/keyring/two_keys");
    fuzzing::read_keyring(text).expect("a keyring")
}

/// `{header}.{claims}.{signature}`, signed with the fixture key whatever it says.
pub fn sign_jwt(header: &[u8], claims: &[u8]) -> String {
    static KEY: LazyLock<SigningKey> =
        LazyLock::new(|| SigningKey::parse(&PRIVATE_KEY.into()).expect("a key"));
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = KEY.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The public half of the fixture key, as a login service publishes it.
pub fn public_keys() -> PublicKeys {
    PublicKeys::read(jwks().as_bytes()).expect("a key set")
}

/// The set of that key alone.
pub fn jwks() -> String {
    let number = |name: &str| {
        let (_, after) = PRIVATE_KEY.split_once(&format!("<{name}>")).expect("an element");
        let (text, _) = after.split_once('<').expect("its end");
        URL_SAFE_NO_PAD.encode(STANDARD.decode(text).expect("a number"))
    };
    let (n, e) = (number("Modulus"), number("Exponent"));
    format!(r#"{{"keys":[{{"kty":"RSA","use":"sig","kid":"{KID}","n":"{n}","e":"{e}"}}]}}"#)
}

/// No word of the input that could be key material is in a message.
pub fn assert_not_repeated(input: &str, message: &str) {
    for word in input.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() > 24) {
        let random = word.bytes().any(|b| b.is_ascii_uppercase());
        assert!(!random || !message.contains(word), "{message}");
    }
}

/// The id of a certificate is a host name or a URI; a SPIFFE id is whole.
pub fn assert_names_one_caller(id: &str) {
    assert!((1..=2048).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let host =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    assert!(id.contains(':') || id.bytes().all(host));
    if id.to_ascii_lowercase().starts_with("spiffe:") {
        let rest = id.strip_prefix("spiffe://").expect("the scheme as it is written");
        let (domain, path) = rest.split_once('/').expect("a path");
        assert!(!domain.is_empty() && !path.is_empty());
        assert!(!rest.contains(['?', '#', '@', ':', '%']));
    }
}
