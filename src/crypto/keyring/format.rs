//! The text of a keyring file.
//!
//! It is read from the TOML tree without serde: messages of serde and the TOML parser quote the text, which has keys.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use secrecy::SecretBox;
use toml::{Table, Value};
use zeroize::Zeroizing;

use super::{KeyEncryptionKey, KeyringFormatError};
use crate::crypto::aead::{KEY_LENGTH, is_key_id};

const HEADER: &str = "\
# The keyring of Tenant Gateway: keys that open every credential in the store. Keep it secret, and keep a copy in
# another place than the store's backups: without it the store cannot be opened, and nobody can make it again.
# Never remove a key while a backup that it sealed may be needed. `keys generate --add` adds one, `keys rotate`
# makes it the active one.
";

/// The maximum length of an unknown field name that a message repeats. A longer one may be a key.
const MAX_ECHOED_NAME: usize = 24;

/// Returns a new file with one key.
pub(super) fn new_file(key: &KeyEncryptionKey) -> Zeroizing<String> {
    append_key(HEADER, key)
}

/// Returns `text` with one more key.
pub(super) fn append_key(text: &str, key: &KeyEncryptionKey) -> Zeroizing<String> {
    // Allocates once: growing would leave copies in memory that are not zeroed.
    let mut file = Zeroizing::new(String::with_capacity(text.len() + 256));
    file.push_str(text);
    if !text.ends_with('\n') {
        file.push('\n');
    }
    file.push_str("\n[[keys]]\nid = \"");
    file.push_str(key.id());
    file.push_str("\"\ncreate_time = \"");
    file.push_str(&key.create_time().to_string());
    file.push_str("\"\nkey = \"");
    STANDARD.encode_string(key.bytes(), &mut file);
    file.push_str("\"\n");
    file
}

/// Reads the keys of a file.
pub(super) fn parse(text: &str) -> Result<Vec<KeyEncryptionKey>, KeyringFormatError> {
    let mut table: Table = toml::from_str(text).map_err(|error| syntax_error(text, &error))?;
    let tables = match table.remove("keys") {
        None => Vec::new(),
        Some(Value::Array(tables)) => tables,
        Some(_) => {
            return Err(field_error(
                "the file",
                "`keys` must be tables, each beginning with `[[keys]]`",
            ));
        }
    };
    reject_unknown_field("the file", &table)?;
    let mut keys = Vec::with_capacity(tables.len());
    for (position, table) in tables.into_iter().enumerate() {
        let place = format!("key {}", position + 1);
        let Value::Table(table) = table else {
            return Err(field_error(&place, "it must be a table, beginning with `[[keys]]`"));
        };
        let key = parse_key(&place, table)?;
        if keys.iter().any(|earlier: &KeyEncryptionKey| earlier.id == key.id) {
            return Err(KeyringFormatError::DuplicateId { place, id: key.id });
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(KeyringFormatError::Empty);
    }
    Ok(keys)
}

fn parse_key(place: &str, mut table: Table) -> Result<KeyEncryptionKey, KeyringFormatError> {
    // The key comes first, so that it is zeroed even if another field is invalid.
    let encoded = match table.remove("key") {
        Some(Value::String(text)) => Zeroizing::new(text),
        _ => return Err(field_error(place, "`key` is missing or not a string")),
    };
    let id = match table.remove("id") {
        Some(Value::String(id)) if is_key_id(&id) => id,
        _ => return Err(field_error(place, "`id` must be 1 to 64 of a-z, 0-9 and -")),
    };
    let create_time = match table.remove("create_time") {
        Some(Value::String(text)) => text.parse::<Timestamp>().ok(),
        Some(Value::Datetime(time)) => time.to_string().parse().ok(),
        _ => None,
    };
    let Some(create_time) = create_time else {
        return Err(field_error(place, "`create_time` must be a time like 2026-01-31T12:00:00Z"));
    };
    reject_unknown_field(place, &table)?;
    let bytes = decode_key(&encoded)
        .ok_or_else(|| field_error(place, "`key` must be standard base64 of exactly 32 bytes"))?;
    Ok(KeyEncryptionKey { id, create_time, bytes })
}

fn decode_key(encoded: &str) -> Option<SecretBox<[u8; KEY_LENGTH]>> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(encoded.len()));
    STANDARD.decode_vec(encoded, &mut decoded).ok()?;
    let bytes: &[u8; KEY_LENGTH] = decoded.as_slice().try_into().ok()?;
    Some(SecretBox::init_with_mut(|key: &mut [u8; KEY_LENGTH]| {
        key.copy_from_slice(bytes);
    }))
}

fn reject_unknown_field(place: &str, table: &Table) -> Result<(), KeyringFormatError> {
    let Some(name) = table.keys().next() else {
        return Ok(());
    };
    let is_name = name.len() <= MAX_ECHOED_NAME
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'-');
    Err(KeyringFormatError::UnknownField {
        place: place.to_owned(),
        field: if is_name { format!("`{name}`") } else { "(not shown)".to_owned() },
    })
}

fn field_error(place: &str, problem: &'static str) -> KeyringFormatError {
    KeyringFormatError::Field { place: place.to_owned(), problem }
}

fn syntax_error(text: &str, error: &toml::de::Error) -> KeyringFormatError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    KeyringFormatError::Syntax { line: before.matches('\n').count() + 1 }
}
