use std::path::PathBuf;

use jiff::Timestamp;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const SECRET: &str = "My App-pzqc70604i with æøå";

/// Creates a keyring file with `count` keys.
fn keyring(count: usize) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keyring.toml");
    Keyring::generate(&path, Timestamp::UNIX_EPOCH).unwrap();
    for _ in 1..count {
        Keyring::generate_additional(&path, Timestamp::UNIX_EPOCH).unwrap();
    }
    (folder, path)
}

fn sealer() -> EnvelopeSealer {
    let (_folder, path) = keyring(1);
    let keyring = Keyring::load(&path).unwrap();
    EnvelopeSealer::new(&keyring, keyring.first_id()).unwrap()
}

fn place() -> SealedField<'static> {
    SealedField {
        environment: "sod",
        table: "tenants",
        resource: "applications/a/tenants/Cust12345",
        field: "system_user_token",
    }
}

fn sealed(sealer: &EnvelopeSealer) -> Vec<u8> {
    sealer.seal(&place(), &SecretString::from(SECRET)).unwrap()
}

#[test]
fn a_sealed_secret_opens_at_its_location() {
    let sealer = sealer();
    for secret in ["", "a", SECRET, &"long".repeat(10_000)] {
        let value = sealer.seal(&place(), &SecretString::from(secret)).unwrap();
        assert_eq!(sealer.open(&place(), &value).unwrap().expose_secret(), secret);
        assert_eq!(key_id_of(&value), Some(sealer.active_id()));
    }
}

#[test]
fn sealing_twice_gives_different_ciphertexts() {
    let sealer = sealer();
    let (one, other) = (sealed(&sealer), sealed(&sealer));
    assert_ne!(one, other);
    // No eight consecutive bytes of the secret appear anywhere.
    for piece in SECRET.as_bytes().windows(8) {
        assert!(!one.windows(8).any(|window| window == piece));
    }
}

#[test]
fn rejects_any_altered_byte() {
    let sealer = sealer();
    let original = sealed(&sealer);
    for position in 0..original.len() {
        for bit in 0..8 {
            let mut altered = original.clone();
            altered[position] ^= 1 << bit;
            assert!(sealer.open(&place(), &altered).is_err(), "bit {bit} of byte {position}");
        }
    }
}

#[test]
fn rejects_any_other_length() {
    let sealer = sealer();
    let mut original = sealed(&sealer);
    for length in 0..original.len() {
        let error = sealer.open(&place(), &original[..length]).unwrap_err();
        assert!(matches!(error, SealError::Corrupt(_)), "{length}: {error}");
    }
    original.push(0);
    assert!(sealer.open(&place(), &original).is_err());
}

#[test]
fn rejects_any_other_location() {
    let sealer = sealer();
    let original = sealed(&sealer);
    let places = [
        SealedField { environment: "online", ..place() },
        SealedField { table: "tickets", ..place() },
        SealedField { resource: "applications/a/tenants/Cust12346", ..place() },
        SealedField { field: "ticket", ..place() },
        // The same bytes with another border between two fields.
        SealedField { environment: "sodt", table: "enants", ..place() },
    ];
    for other in places {
        let error = sealer.open(&other, &original).unwrap_err();
        assert!(matches!(error, SealError::Corrupt(_)), "{other:?}: {error}");
    }
}

#[test]
fn the_record_key_of_one_value_does_not_open_another() {
    let sealer = sealer();
    let (one, other) = (sealed(&sealer), sealed(&sealer));
    let border = 2 + sealer.active_id().len() + WRAPPED_KEY_LENGTH;
    let spliced = [&one[..border], &other[border..]].concat();
    assert!(sealer.open(&place(), &spliced).is_err());
}

#[test]
fn the_error_names_a_missing_key() {
    let (one, other) = (sealer(), sealer());
    assert_eq!(
        other.open(&place(), &sealed(&one)).unwrap_err(),
        SealError::KeyUnavailable(one.active_id().to_owned())
    );
}

#[test]
fn the_new_key_seals_and_the_old_key_still_opens() {
    let (_folder, path) = keyring(2);
    let keyring = Keyring::load(&path).unwrap();
    let sealer = EnvelopeSealer::new(&keyring, keyring.first_id()).unwrap();
    let before = sealed(&sealer);

    let second = keyring.keys()[1].id();
    sealer.activate(second).unwrap();
    let after = sealed(&sealer);
    assert_eq!(key_id_of(&before), Some(keyring.first_id()));
    assert_eq!(key_id_of(&after), Some(second));
    for value in [before, after] {
        assert_eq!(sealer.open(&place(), &value).unwrap().expose_secret(), SECRET);
    }

    let message = sealer.activate("k-other").unwrap_err().to_string();
    assert!(message.contains("k-other") && message.contains(second), "{message}");
    assert_eq!(sealer.active_id(), second);
}

#[test]
fn rejects_a_store_with_another_keyring() {
    let (_folder, path) = keyring(1);
    let keyring = Keyring::load(&path).unwrap();
    let error = EnvelopeSealer::new(&keyring, "k-other").unwrap_err();
    assert!(matches!(error, KeyringError::UnknownActiveKey { .. }), "{error}");
}

#[test]
fn debug_output_shows_ids_only() {
    let sealer = sealer();
    let id = sealer.active_id();
    assert_eq!(
        format!("{sealer:?}"),
        format!("EnvelopeSealer {{ active: {id:?}, keys: [{id:?}] }}")
    );
}

/// Shared by tests with many cases, because creating a keyring writes a file.
static SEALER: std::sync::LazyLock<EnvelopeSealer> = std::sync::LazyLock::new(sealer);

proptest! {
    #[test]
    fn arbitrary_bytes_neither_open_nor_panic(tail in prop::collection::vec(any::<u8>(), 0..300), known in any::<bool>()) {
        let sealer = &*SEALER;
        // Half of them follow a valid header, so that they get further.
        let mut bytes = if known { header(VERSION, sealer.active_id()).unwrap() } else { Vec::new() };
        bytes.extend(tail);
        prop_assert!(sealer.open(&place(), &bytes).is_err());
        let _ = key_id_of(&bytes);
    }

    #[test]
    fn rejects_any_alteration(
        secret in ".{0,60}",
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 0..4),
        cut in 0_usize..3,
    ) {
        let original = SEALER.seal(&place(), &secret.into()).unwrap();
        let mut altered = original.clone();
        for (position, mask) in flips {
            altered[position.index(original.len())] ^= mask;
        }
        altered.truncate(original.len() - cut);
        prop_assert_eq!(SEALER.open(&place(), &altered).is_ok(), altered == original);
    }

    #[test]
    fn opens_only_at_its_own_location(
        environment in "sod|online|\\PC{0,6}",
        table in prop::sample::select(&["tenants", "tickets", ""][..]),
        resource in "applications/a/tenants/Cust1234[5-9]|\\PC{0,40}",
        field in prop::sample::select(&["system_user_token", "value", ""][..]),
    ) {
        let other = SealedField { environment: &environment, table, resource: &resource, field };
        let own = place();
        let here = (other.environment, other.table, other.resource, other.field)
            == (own.environment, own.table, own.resource, own.field);
        let sealed_there = SEALER.seal(&other, &SECRET.into()).unwrap();
        let opened = SEALER.open(&other, &sealed_there).unwrap();
        prop_assert_eq!(opened.expose_secret(), SECRET);
        prop_assert_eq!(SEALER.open(&place(), &sealed_there).is_ok(), here);
        prop_assert_eq!(SEALER.open(&other, &sealed(&SEALER)).is_ok(), here);
    }
}
