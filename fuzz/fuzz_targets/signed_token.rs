//! Signed system user tokens: splitting one from the right, like its receiver, returns the original parts.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret as _;
use tenant_gateway::{
    domain::SystemUserToken,
    fuzzing,
    ports::{SignError, Signer},
};

/// A signer that returns the message as the signature.
struct Echo;

impl Signer for Echo {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(message.to_vec())
    }
}

// Input: four bytes with the time in seconds since 1970, then the token.
fuzz_target!(|data: &[u8]| {
    let Some((seconds, text)) = data.split_first_chunk() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(token) = SystemUserToken::new(&text.into()) else { return };
    let now = Timestamp::from_second(u32::from_be_bytes(*seconds).into()).expect("a time");

    let signed = fuzzing::signed_token(&Echo, token.secret(), now).expect("a signature");
    let (payload, signature) = signed.rsplit_once('.').expect("a signature after a dot");
    let (found, minute) = payload.rsplit_once('.').expect("a minute after a dot");
    assert_eq!(found, token.secret().expose_secret());
    assert_eq!(STANDARD.decode(signature).expect("base64"), payload.as_bytes());
    assert!(minute.len() == 12 && minute.bytes().all(|b| b.is_ascii_digit()));
    let minute = DateTime::strptime("%Y%m%d%H%M", minute).expect("a minute");
    let minute = minute.to_zoned(TimeZone::UTC).expect("a time").timestamp();
    assert!((0..60).contains(&(now.as_second() - minute.as_second())));
});
