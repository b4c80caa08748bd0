use jiff::Timestamp;
use tempfile::TempDir;

use super::*;

const CONTEXT: &str = "ListTenants applications/a";

/// Returns two replicas with the same keyring of two keys, and different active keys.
fn keys() -> [PageTokenKey; 2] {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keyring.toml");
    let first = Keyring::generate(&path, Timestamp::UNIX_EPOCH).unwrap();
    let second = Keyring::generate_additional(&path, Timestamp::UNIX_EPOCH).unwrap();
    // Loaded twice, as two replicas do.
    [first, second].map(|id| PageTokenKey::new(&Keyring::load(&path).unwrap(), &id).unwrap())
}

#[test]
fn replicas_open_each_others_page_tokens() {
    let [one, other] = keys();
    for payload in [&b""[..], b"Cust12345", &[0; 600]] {
        let token = one.seal(CONTEXT, payload).unwrap();
        assert_eq!(one.open(CONTEXT, &token).unwrap(), payload);
        assert_eq!(other.open(CONTEXT, &token).unwrap(), payload);
        let token = other.seal(CONTEXT, payload).unwrap();
        assert_eq!(one.open(CONTEXT, &token).unwrap(), payload);
    }
}

#[test]
fn rejects_tokens_of_another_context_keyring_or_layout() {
    let [one, _] = keys();
    let [foreign, _] = keys();
    let token = one.seal(CONTEXT, b"Cust12345").unwrap();
    assert_eq!(one.open("ListTenants applications/b", &token), None);
    assert_eq!(foreign.open(CONTEXT, &token), None);
    for length in 0..token.len() {
        assert_eq!(one.open(CONTEXT, &token[..length]), None);
    }
    assert_eq!(one.open(CONTEXT, &format!("{token}A")), None);
    for position in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[position] = if altered[position] == b'A' { b'B' } else { b'A' };
        assert_eq!(one.open(CONTEXT, str::from_utf8(&altered).unwrap()), None);
    }
}

#[test]
fn page_tokens_have_a_maximum_length() {
    let [one, _] = keys();
    assert!(one.seal(CONTEXT, &[0; 700]).unwrap().len() <= MAX_PAGE_TOKEN_LENGTH);
    assert_eq!(one.seal(CONTEXT, &[0; 800]), Err(SealError::Failed));
    assert_eq!(one.open(CONTEXT, &"A".repeat(MAX_PAGE_TOKEN_LENGTH + 1)), None);
}

#[test]
fn page_tokens_reveal_nothing_and_need_no_escaping() {
    let [one, _] = keys();
    let token = one.seal(CONTEXT, b"Cust12345").unwrap();
    assert_ne!(token, one.seal(CONTEXT, b"Cust12345").unwrap());
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
    let decoded = URL_SAFE_NO_PAD.decode(token).unwrap();
    assert!(!decoded.windows(4).any(|window| window == b"Cust"));
}

#[test]
fn the_derived_key_differs_from_its_source() {
    let key = [7; KEY_LENGTH];
    let mut token = Vec::new();
    derive(&key).unwrap().seal_into(b"", b"payload", &mut token).unwrap();
    assert!(AeadKey::new(&key).unwrap().open(b"", &token).is_none());
    assert!(derive(&key).unwrap().open(b"", &token).is_some());
}

/// Shared by tests with many cases, because creating a keyring writes a file.
static KEY: std::sync::LazyLock<PageTokenKey> = std::sync::LazyLock::new(|| {
    let [one, _] = keys();
    one
});

proptest::proptest! {
    #[test]
    fn arbitrary_text_neither_opens_nor_panics(token in "[A-Za-z0-9_-]{0,200}|.*") {
        assert_eq!(KEY.open(CONTEXT, &token), None);
    }

    #[test]
    fn a_page_token_opens_only_in_its_context(
        context in ".{0,40}",
        other in "ListTenants applications/[ab]|.{0,40}",
        payload in ".{0,60}",
    ) {
        let token = KEY.seal(&context, payload.as_bytes()).unwrap();
        assert_eq!(KEY.open(&context, &token).as_deref(), Some(payload.as_bytes()));
        assert_eq!(KEY.open(&other, &token).is_some(), other == context);
    }
}
