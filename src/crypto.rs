//! Keys and what is done with them: sealing what is stored, signing system user tokens, randomness.
//!
//! [`Keyring`] is the file of key-encryption keys. From it come [`EnvelopeSealer`], which seals every credential in
//! the store, [`PageTokenKey`], which seals what callers carry from page to page, and [`AuditKeys`], which sign the
//! audit trail. [`SigningKey`] is an application's RSA key. The cryptographic library is used in this room only.

mod aead;
mod audit_key;
mod envelope;
mod keyring;
mod random;
mod signing_key;
mod token_seal;

pub use self::{
    audit_key::AuditKeys,
    envelope::{EnvelopeSealer, key_id_of},
    keyring::{KeyEncryptionKey, Keyring, KeyringError, KeyringFormatError},
    random::SystemRandom,
    signing_key::{SigningKey, SigningKeyError},
    token_seal::{MAX_PAGE_TOKEN_LENGTH, PageTokenKey},
};
