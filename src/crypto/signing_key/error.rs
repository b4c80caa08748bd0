//! What people give instead of a usable key, and what to tell them.

use aws_lc_rs::error::KeyRejected;

/// Why a text is not a usable signing key. The messages say what was found and what to do; no part of the text is
/// in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// Nothing but white space.
    #[error(
        "the key is empty; give the private key that the Developer Portal showed when it was made"
    )]
    Empty,
    /// Far longer than a key.
    #[error(
        "found more than 64 KiB of text, which is no key; give a file with the one private key only"
    )]
    TooLong,
    /// Neither XML nor PEM.
    #[error(
        "found neither XML nor PEM; give the whole private key, from `<RSAKeyValue>` to `</RSAKeyValue>` \
         or with its `-----BEGIN` and `-----END` lines"
    )]
    Unrecognized,
    /// The public half.
    #[error(
        "found a public key; signing needs the private key, which the Developer Portal showed once when it was made"
    )]
    PublicOnly,
    /// A certificate.
    #[error(
        "found a certificate, which has only the public key; give the private key that belongs to it"
    )]
    Certificate,
    /// A passphrase is on it.
    #[error(
        "found an encrypted private key; decrypt it first with `openssl pkey -in key.pem -out decrypted.pem` \
         and protect the file instead"
    )]
    Encrypted,
    /// A key or something else that is not RSA.
    #[error("found {0}; SuperOffice works with RSA keys only")]
    NotRsa(&'static str),
    /// More than one key.
    #[error("found more than one private key; give one only")]
    SeveralKeys,
    /// No END line.
    #[error("found PEM that is cut off: its `-----END` line is missing; give the whole text")]
    CutOff,
    /// Damaged base64.
    #[error("found {0} that is not standard base64; copy the key again, whole and unchanged")]
    Base64(&'static str),
    /// Base64 of something else.
    #[error(
        "found PEM whose content is damaged or not the key that its `-----BEGIN` line names; \
         copy the key again, whole and unchanged"
    )]
    Encoding,
    /// Not well-formed.
    #[error(
        "found XML that is not well-formed at line {line}, column {column}; copy the key again, whole and unchanged"
    )]
    Xml {
        /// The line, from 1.
        line: u32,
        /// The column, from 1.
        column: u32,
    },
    /// Refused before anything in it is expanded.
    #[error("found XML with a document type or entities, which keys do not have; remove them")]
    XmlEntities,
    /// Another document.
    #[error(
        "found XML whose root is not `RSAKeyValue`; give the key as the Developer Portal showed it"
    )]
    XmlRoot,
    /// Not all eight numbers are there.
    #[error("found RSAKeyValue without {0}; copy the key again, whole and unchanged")]
    Missing(&'static str),
    /// A number is there twice.
    #[error("found RSAKeyValue with more than one {0}; copy the key again, whole and unchanged")]
    Repeated(&'static str),
    /// The numbers do not belong together.
    #[error(
        "found an RSA key whose numbers do not belong together; copy the key again, whole and unchanged"
    )]
    Inconsistent,
    /// Too easy to break.
    #[error(
        "found an RSA key below 2048 bits, which can be broken; make a new one in the Developer Portal"
    )]
    TooSmall,
    /// So large that each signature would take tenths of a second.
    #[error("found an RSA key above 8192 bits; make a new one of 2048 to 4096 bits")]
    TooLarge,
}

impl SigningKeyError {
    /// What the library's reason means for a key that was decoded; `otherwise` for reasons it does not tell apart.
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
