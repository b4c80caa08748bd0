//! The file of public keys.

use std::{collections::BTreeMap, io};

use super::{files, files::Files, format::MAX_KEY_ID_BYTES, input::Input, names};
use crate::domain::{AuditSignature, StoredPublicKey};

const MAGIC: [u8; 8] = *b"TGAUDPK\n";
const VERSION: u32 = 1;
/// The most keys, and the bytes of the longest key or certificate. Together they limit the file to about 600 kB.
const MAX_KEYS: usize = 1024;
const MAX_BYTES: usize = 255;
const MAX_FILE_BYTES: usize = 20 + MAX_KEYS * 4 * (1 + MAX_BYTES);

/// Encodes the file. Returns `None` if there are too many keys or one is too long.
pub(crate) fn encode(keys: &BTreeMap<String, StoredPublicKey>) -> Option<Vec<u8>> {
    if keys.len() > MAX_KEYS {
        return None;
    }
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&u32::try_from(keys.len()).ok()?.to_be_bytes());
    for StoredPublicKey { key_id, public_key, certificate } in keys.values() {
        for field in
            [key_id.as_bytes(), public_key, certificate.key_id.as_bytes(), &certificate.bytes]
        {
            out.push(u8::try_from(field.len()).ok()?);
            out.extend_from_slice(field);
        }
    }
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_be_bytes());
    Some(out)
}

/// Parses the file.
pub(crate) fn decode(bytes: &[u8]) -> Option<BTreeMap<String, StoredPublicKey>> {
    let (content, checksum) = bytes.split_last_chunk::<4>()?;
    let mut input = Input(content);
    let starts = input.array()? == MAGIC && input.array()? == VERSION.to_be_bytes();
    if !starts || *checksum != crc32c::crc32c(content).to_be_bytes() {
        return None;
    }
    let count = input.u32().filter(|count| *count as usize <= MAX_KEYS)?;
    let mut keys = BTreeMap::new();
    for _ in 0..count {
        let key_id = str::from_utf8(input.short(MAX_KEY_ID_BYTES)?).ok()?.to_owned();
        let public_key = input.short(MAX_BYTES)?.to_vec();
        let by = str::from_utf8(input.short(MAX_KEY_ID_BYTES)?).ok()?.into();
        let certificate = AuditSignature { key_id: by, bytes: input.short(MAX_BYTES)?.to_vec() };
        let key = StoredPublicKey { key_id: key_id.clone(), public_key, certificate };
        keys.insert(key_id, key);
    }
    (input.left() == 0).then_some(keys)
}

/// Reads the file in a directory. Returns no keys if there is none.
pub(crate) fn read(
    files: &dyn Files,
    directory: &std::path::Path,
) -> io::Result<BTreeMap<String, StoredPublicKey>> {
    let path = directory.join(names::PUBLIC_KEYS);
    let Some(bytes) = files::read_small(files, &path, MAX_FILE_BYTES)? else {
        return Ok(BTreeMap::new());
    };
    decode(&bytes).ok_or_else(|| {
        let what = format!("{}: not a valid file of public keys", path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}
