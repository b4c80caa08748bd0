//! From when until when a certificate is valid. Libraries for TLS judge it and do not tell it.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, which holds the version.
const VERSION: u8 = 0xa0;

/// RFC 5280, 4.1.2.5.1: from this on, two digits mean the twentieth century.
const FIRST_YEAR_OF_1900S: i16 = 50;

/// Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Validity {
    /// Reads it out of a certificate in DER (RFC 5280, 4.1): version, serial, algorithm, issuer, validity.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let mut outside = Der(certificate);
        let mut certificate = Der(outside.next(SEQUENCE)?);
        let mut signed = Der(certificate.next(SEQUENCE)?);
        if signed.0.first() == Some(&VERSION) {
            signed.next(VERSION)?;
        }
        signed.next(INTEGER)?;
        signed.next(SEQUENCE)?;
        signed.next(SEQUENCE)?;
        let mut validity = Der(signed.next(SEQUENCE)?);
        Some(Self { not_before: validity.time()?, not_after: validity.time()? })
    }
}

/// What is left to read.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, if it has this tag.
    fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_first()?;
        let (length, rest) = length(rest)?;
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (*found == tag).then_some(content)
    }

    fn time(&mut self) -> Option<Timestamp> {
        if self.0.first() == Some(&UTC_TIME) {
            let (year, rest) = self.next(UTC_TIME)?.split_at_checked(2)?;
            let year = number(year)?;
            timestamp(if year < FIRST_YEAR_OF_1900S { 2000 } else { 1900 } + year, rest)
        } else {
            let (year, rest) = self.next(GENERALIZED_TIME)?.split_at_checked(4)?;
            timestamp(number(year)?, rest)
        }
    }
}

/// The length of an element, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        return Some((usize::from(*first), rest));
    }
    // No certificate has lengths of more than three bytes.
    let count = usize::from(*first & 0x7f);
    let (digits, rest) = (1..=3).contains(&count).then(|| rest.split_at_checked(count))??;
    let length = digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit));
    Some((length, rest))
}

/// `MMDDHHMMSSZ`.
fn timestamp(year: i16, rest: &[u8]) -> Option<Timestamp> {
    let digits = rest.strip_suffix(b"Z").filter(|digits| digits.len() == 10)?;
    let mut fields = digits.chunks_exact(2).map(|field| i8::try_from(number(field)?).ok());
    let mut next = || fields.next().flatten();
    let civil = DateTime::new(year, next()?, next()?, next()?, next()?, next()?, 0).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn number(digits: &[u8]) -> Option<i16> {
    digits.iter().try_fold(0, |number: i16, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(i16::try_from(digit).ok()?)
    })
}
