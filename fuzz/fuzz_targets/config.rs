//! Configuration files: an accepted file is complete; the problems of a rejected file have a place and repeat no
//! values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenant_gateway::fuzzing::read_config;
use toml::Value;

/// A stand-in for a secret that was written into the file.
const SECRET: &str = "hunter2";

fuzz_target!(init: seed_is_accepted(), |text: &str| fuzz(text));

/// A valid file is accepted; otherwise the fuzzer would reach little code.
fn seed_is_accepted() {
    assert!(read_config(include_str!("../corpus_seed/config/least")).is_ok());
}

fn fuzz(text: &str) {
    match read_config(text) {
        Ok(loaded) => {
            assert!(!loaded.config.applications.is_empty());
            for (index, application) in loaded.config.applications.iter().enumerate() {
                let id = &application.id;
                assert_eq!(id.as_str().parse().as_ref(), Ok(id));
                assert!(
                    loaded.config.applications.iter().skip(index + 1).all(|other| other.id != *id)
                );
            }
            assert!(!loaded.warnings.iter().any(|line| line.contains(SECRET)));
            let _ = loaded.config.check_servable();
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            let tree = text.parse::<toml::Table>();
            for problem in &error.problems {
                // Invalid TOML has no keys, so its problem has a line instead.
                let named = !problem.key.is_empty() || (tree.is_err() && problem.line.is_some());
                assert!(named, "{problem:?}");
                assert!(!problem.message.is_empty());
            }
            if !tree.is_ok_and(|tree| is_key(&Value::Table(tree))) {
                assert!(!error.to_string().contains(SECRET), "{error}");
            }
        }
    }
}

/// Returns whether the word is in a key, which messages may repeat.
fn is_key(value: &Value) -> bool {
    match value {
        Value::Table(table) => {
            table.iter().any(|(key, value)| key.contains(SECRET) || is_key(value))
        }
        Value::Array(array) => array.iter().any(is_key),
        _ => false,
    }
}
