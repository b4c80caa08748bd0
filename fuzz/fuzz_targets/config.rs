//! Configuration files: an accepted one has what it must have, and a refused one says where, without its values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenant_gateway::fuzzing::read_config;
use toml::Value;

/// Stands for a secret that somebody wrote into the file.
const SECRET: &str = "hunter2";

fuzz_target!(init: seed_is_accepted(), |text: &str| fuzz(text));

/// Were it refused, little of what follows would be reached.
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
                // What is no TOML has no keys, and a place instead.
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

/// Whether the word stands in a key, where it may be repeated.
fn is_key(value: &Value) -> bool {
    match value {
        Value::Table(table) => {
            table.iter().any(|(key, value)| key.contains(SECRET) || is_key(value))
        }
        Value::Array(array) => array.iter().any(is_key),
        _ => false,
    }
}
