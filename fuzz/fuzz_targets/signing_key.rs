//! Pasted private keys: an accepted key can sign, and surrounding text does not change it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenant_gateway::crypto::SigningKey;
use tenant_gateway_fuzz::assert_not_repeated;

fuzz_target!(init: seed_is_accepted(), |text: &str| fuzz(text));

/// A valid key is accepted; otherwise the fuzzer would reach little code.
fn seed_is_accepted() {
    assert!(
        SigningKey::parse(&include_str!("../corpus_seed/signing_key/rsa-2048.xml").into()).is_ok()
    );
}

fn fuzz(text: &str) {
    match SigningKey::parse(&text.into()) {
        Ok(key) => {
            assert!((2048..=8192).contains(&key.modulus_bits()));
            assert_eq!(key.key_id().len(), 43);
            let same = |text: String| {
                let other = SigningKey::parse(&text.into()).expect("the same key");
                assert_eq!(other.key_id(), key.key_id());
            };
            same(format!("\u{feff}\r\n {text}\n"));
            // A completely quoted text is unquoted once; inside the quotes, `\n` is not yet white space.
            if !text.trim_start_matches(['\u{feff}', ' ', '\n']).starts_with(['"', '\'']) {
                same(format!("\"{}\"", text.replace('\n', "\\n")));
            }
        }
        Err(error) => assert_not_repeated(text, &format!("{error} {error:?}")),
    }
}
