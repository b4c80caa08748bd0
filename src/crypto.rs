//! Cryptography: encrypts stored secrets, signs system user tokens, and generates random bytes.
//!
//! [`Keyring`] is the file of key-encryption keys. [`EnvelopeSealer`] uses them to encrypt every credential in the
//! store. [`PageTokenKey`], which encrypts page tokens, and [`AuditKeys`], which sign the audit trail, are derived from
//! them. [`SigningKey`] is an application's RSA key. [`KeyedDigest`] identifies values that must not be stored.
//! [`TokenSignatures`] verifies callers' tokens. [`WebhookKey`] verifies webhooks of SuperOffice. Only this module uses
//! the cryptographic library.

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
