//! Sealed secrets: only an unaltered value opens, and only at its own place.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret as _;
use tenant_gateway::{
    crypto::{EnvelopeSealer, key_id_of},
    ports::{SealError, SealedField, Sealer as _},
};
use tenant_gateway_fuzz::keyring;

/// A value that was sealed with the fixture keyring, at [`PLACE`].
const GENUINE: &[u8] = include_bytes!("../corpus_seed/envelope/genuine");

const PLACE: SealedField<'static> = SealedField {
    environment: "sod",
    table: "tenants",
    resource: "applications/crm-sync/tenants/Cust12345",
    field: "system_user_token",
};
const TABLES: [&str; 3] = ["tenants", "tickets", ""];
const FIELDS: [&str; 3] = ["system_user_token", "value", ""];

static SEALER: LazyLock<EnvelopeSealer> = LazyLock::new(|| {
    let keyring = keyring();
    EnvelopeSealer::new(&keyring, keyring.first_id()).expect("a sealer")
});

// The first byte selects the meaning of the rest.
fuzz_target!(|data: &[u8]| match data.split_first() {
    // The position of the byte to alter, the new value, the cut position, and the secret.
    Some((b'a', [high, low, mask, cut, secret @ ..])) => {
        altered([*high, *low], *mask, usize::from(*cut), secret);
    }
    // Two bytes and two lines for the place, then the secret.
    Some((b'p', [table, field, rest @ ..])) => elsewhere(*table, *field, rest),
    // An arbitrary sealed value, valid or not.
    _ => arbitrary(data),
});

fn arbitrary(sealed: &[u8]) {
    let id = key_id_of(sealed);
    if let Some(id) = id {
        assert!((1..=64).contains(&id.len()));
        assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    }
    match SEALER.open(&PLACE, sealed) {
        Ok(secret) => {
            assert_eq!(sealed, GENUINE);
            assert_eq!(secret.expose_secret(), "Søndag App-8k8Q7DmBgo");
        }
        Err(SealError::KeyUnavailable(wanted)) => assert_eq!(id, Some(wanted.as_str())),
        Err(_) => {}
    }
}

fn altered(position: [u8; 2], mask: u8, cut: usize, secret: &[u8]) {
    let Ok(secret) = std::str::from_utf8(secret) else { return };
    let mut sealed = SEALER.seal(&PLACE, &secret.into()).expect("sealed");
    assert_eq!(SEALER.open(&PLACE, &sealed).expect("opened").expose_secret(), secret);
    let position = usize::from(u16::from_be_bytes(position)) % sealed.len();
    sealed[position] ^= mask;
    sealed.truncate(sealed.len().saturating_sub(cut));
    assert!(SEALER.open(&PLACE, &sealed).is_err() || (mask, cut) == (0, 0));
}

fn elsewhere(table: u8, field: u8, rest: &[u8]) {
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (environment, resource, secret) = (line(), line(), line());
    let table = TABLES[usize::from(table) % TABLES.len()];
    let field = FIELDS[usize::from(field) % FIELDS.len()];
    let place = SealedField { environment, table, resource, field };
    let same = |one: &SealedField<'_>, other: &SealedField<'_>| {
        one.environment == other.environment
            && one.table == other.table
            && one.resource == other.resource
            && one.field == other.field
    };
    let sealed = SEALER.seal(&place, &secret.into()).expect("sealed");
    assert_eq!(SEALER.open(&place, &sealed).expect("opened").expose_secret(), secret);
    assert_eq!(SEALER.open(&PLACE, &sealed).is_ok(), same(&place, &PLACE));
    assert_eq!(SEALER.open(&place, GENUINE).is_ok(), same(&place, &PLACE));
}
