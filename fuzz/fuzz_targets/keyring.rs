//! Keyring files: an accepted one is usable, and the error of a rejected one does not repeat its keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenant_gateway::{
    crypto::{EnvelopeSealer, PageTokenKey},
    fuzzing::read_keyring,
};
use tenant_gateway_fuzz::assert_not_repeated;

fuzz_target!(|text: &str| match read_keyring(text) {
    Ok(keyring) => {
        let ids: Vec<&str> = keyring.key_ids().collect();
        assert!(!ids.is_empty());
        for (index, id) in ids.iter().enumerate() {
            assert!((1..=64).contains(&id.len()));
            assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            assert!(!ids[..index].contains(id), "{id} twice");
            assert_eq!(keyring.get(id).map(|key| key.id()), Some(*id));
        }
        assert!(EnvelopeSealer::new(&keyring, ids[0]).is_ok());
        assert!(PageTokenKey::new(&keyring, ids[0]).is_ok());
    }
    Err(error) => assert_not_repeated(text, &format!("{error} {error:?}")),
});
