//! Errors for texts that are not a usable key.

use aws_lc_rs::error::KeyRejected;

/// The reason why a text is not a usable signing key. No message contains a part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// The text is empty or white space.
    #[error(
        "the key is empty; use the private key that the Developer Portal showed when it was created"
    )]
    Empty,
    /// The text is far longer than a key.
    #[error(
        "found more than 64 KiB of text, which is not a key; use a file with only the private key"
    )]
    TooLong,
    /// The text is not XML and not PEM.
    #[error(
        "found neither XML nor PEM; use the whole private key, from `<RSAKeyValue>` to `</RSAKeyValue>` \
         or with its `-----BEGIN` and `-----END` lines"
    )]
    Unrecognized,
    /// The public half.
    #[error(
        "found a public key; signing needs the private key, which the Developer Portal showed once when it was created"
    )]
    PublicOnly,
    /// A certificate.
    #[error(
        "found a certificate, which has only the public key; use the private key that belongs to it"
    )]
    Certificate,
    /// The key is encrypted with a passphrase.
    #[error(
        "found an encrypted private key; decrypt it first with `openssl pkey -in key.pem -out decrypted.pem` \
         and protect the file instead"
    )]
    Encrypted,
    /// Another kind of key or object.
    #[error("found {0}; SuperOffice accepts only RSA keys")]
    NotRsa(&'static str),
    /// More than one key.
    #[error("found more than one private key; use only one")]
    SeveralKeys,
    /// No END line.
    #[error("found incomplete PEM: its `-----END` line is missing; use the whole text")]
    CutOff,
    /// Damaged base64.
    #[error("found {0} that is not standard base64; copy the whole key again, unchanged")]
    Base64(&'static str),
    /// The content is not a key of this kind.
    #[error(
        "found PEM whose content is damaged or does not match its `-----BEGIN` line; \
         copy the whole key again, unchanged"
    )]
    Encoding,
    /// Not well-formed.
    #[error(
        "found XML that is not well-formed at line {line}, column {column}; copy the whole key again, unchanged"
    )]
    Xml {
        /// The line, from 1.
        line: u32,
        /// The column, from 1.
        column: u32,
    },
    /// The XML has a document type or entities; nothing is expanded.
    #[error("found XML with a document type or entities, which keys do not have; remove them")]
    XmlEntities,
    /// The XML is another document.
    #[error(
        "found XML whose root is not `RSAKeyValue`; use the key as the Developer Portal showed it"
    )]
    XmlRoot,
    /// One of the eight numbers is missing.
    #[error("found RSAKeyValue without {0}; copy the whole key again, unchanged")]
    Missing(&'static str),
    /// A number is repeated.
    #[error("found RSAKeyValue with more than one {0}; copy the whole key again, unchanged")]
    Repeated(&'static str),
    /// The numbers do not match each other.
    #[error(
        "found an RSA key whose numbers do not match each other; copy the whole key again, unchanged"
    )]
    Inconsistent,
    /// The key is too short.
    #[error(
        "found an RSA key below 2048 bits, which is insecure; create a new one in the Developer Portal"
    )]
    TooSmall,
    /// The key is so long that each signature would take tenths of a second.
    #[error("found an RSA key above 8192 bits; create a new one of 2048 to 4096 bits")]
    TooLarge,
}

impl SigningKeyError {
    /// Converts the library's reason for rejecting a decoded key; `otherwise` is used for reasons without an own error.
    pub(super) fn rejected(rejected: KeyRejected, otherwise: Self) -> Self {
        match rejected.description_() {
            "TooSmall" => Self::TooSmall,
            "TooLarge" => Self::TooLarge,
            "InconsistentComponents" => Self::Inconsistent,
            "WrongAlgorithm" => Self::NotRsa("a private key of another algorithm"),
            _ => otherwise,
        }
    }
}
