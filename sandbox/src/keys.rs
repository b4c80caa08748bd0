//! RSA keys of applications and of the login service, and their formats.

mod der;
mod pem;
mod private;
mod public;
mod signing;

pub(crate) use private::PrivateKey;
pub(crate) use public::{KeyFormatError, PublicKey};
pub(crate) use signing::{SigningKey, SigningKeys};
