//! Public keys: only RSA signature keys are accepted, and found only by their own ids.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tenant_gateway::fuzzing::PublicKeys;
use tenant_gateway_fuzz::assert_not_repeated;

fuzz_target!(init: seed_is_accepted(), |body: &[u8]| fuzz(body));

/// A valid key set is accepted; otherwise the fuzzer would reach little code.
fn seed_is_accepted() {
    assert!(PublicKeys::read(include_bytes!("../corpus_seed/jwks/one")).is_ok());
}

fn fuzz(body: &[u8]) {
    let keys = match PublicKeys::read(body) {
        Ok(keys) => keys,
        Err(error) => {
            return assert_not_repeated(&String::from_utf8_lossy(body), &error.to_string());
        }
    };
    // Only objects, because serde also accepts arrays in the order of the fields.
    let Ok(Value::Object(set)) = serde_json::from_slice(body) else { return };
    let Some(all) = set.get("keys").and_then(Value::as_array) else { return };
    if !all.iter().all(Value::is_object) {
        return;
    }
    let signs = |key: &&Value| {
        let is = |name: &str, wanted: &str| key[name].is_null() || key[name] == wanted;
        key["kty"] == "RSA" && is("use", "sig") && is("alg", "RS256") && key["n"].is_string()
    };
    let usable: Vec<&Value> = all.iter().take(32).filter(signs).collect();
    assert!(!usable.is_empty());
    for id in all.iter().flat_map(|key| [key["kid"].as_str(), key["x5t"].as_str()]).flatten() {
        let named = |key: &&Value| key["kid"] == id || key["x5t"] == id;
        for (kid, x5t) in [(Some(id), None), (None, Some(id))] {
            assert!(!keys.has(kid, x5t) || usable.iter().any(named));
        }
    }
    assert!(!keys.has(None, None));
}
