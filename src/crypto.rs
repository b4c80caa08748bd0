//! Keys and what is done with them: sealing what is stored, signing system user tokens, randomness.
//!
//! [`Keyring`] is the file of key-encryption keys. From it come [`EnvelopeSealer`], which seals every credential in
//! the store, [`PageTokenKey`], which seals what callers carry from page to page, and [`AuditKeys`], which sign the
//! audit trail. [`SigningKey`] is an application's RSA key. [`KeyedDigest`] names what must not be kept.
//! [`TokenSignatures`] verifies callers' tokens. [`WebhookKey`] tells deliveries of SuperOffice from anybody's. The cryptographic library is used in this room only.

mod aead;
mod audit_key;
#[cfg(feature = "dev")]
mod demo_issuer;
mod envelope;
mod keyed_digest;
mod keyring;
mod random;
mod signing_key;
mod token_seal;
mod token_signature;
mod webhook_key;

#[cfg(feature = "dev")]
pub use self::demo_issuer::DemoIssuer;
pub use self::{
    audit_key::AuditKeys,
    envelope::{EnvelopeSealer, key_id_of},
    keyed_digest::KeyedDigest,
    keyring::{KeyEncryptionKey, Keyring, KeyringError, KeyringFormatError},
    random::SystemRandom,
    signing_key::{SigningKey, SigningKeyError},
    token_seal::{MAX_PAGE_TOKEN_LENGTH, PageTokenKey},
    token_signature::TokenSignatures,
    webhook_key::WebhookKey,
};
