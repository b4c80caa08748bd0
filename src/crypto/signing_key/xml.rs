//! .NET's XML format of an RSA key: `RSAKeyValue`, with one element for each number, in base64 of its big-endian bytes.

use aws_lc_rs::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use roxmltree::{Document, Error, Node, ParsingOptions};
use zeroize::Zeroizing;

use super::{SigningKeyError, bits, pem::decode_base64};

/// The maximum number of XML nodes. A key has 9 elements; the rest is for text, comments and line breaks.
const MAX_NODES: u32 = 500;
/// The allowed length of the modulus.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

type Number = Zeroizing<Vec<u8>>;

/// Parses a key. Its elements may be in any order.
pub(super) fn parse(text: &str) -> Result<KeyPair, SigningKeyError> {
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document =
        Document::parse_with_options(text, options).map_err(|error| xml_error(&error))?;
    let root = document.root_element();
    if root.tag_name().name() != "RSAKeyValue" {
        return Err(SigningKeyError::XmlRoot);
    }
    if child(root, "D")?.is_none() && child(root, "Modulus")?.is_some() {
        return Err(SigningKeyError::PublicOnly);
    }

    let components = KeyPairComponents {
        public_key: PublicKeyComponents {
            n: number(root, "Modulus")?,
            e: number(root, "Exponent")?,
        },
        d: number(root, "D")?,
        p: number(root, "P")?,
        q: number(root, "Q")?,
        dP: number(root, "DP")?,
        dQ: number(root, "DQ")?,
        qInv: number(root, "InverseQ")?,
    };
    // Checked first, because the library's consistency check is slow for huge numbers.
    match bits(&components.public_key.n) {
        found if found < *MODULUS_BITS.start() => return Err(SigningKeyError::TooSmall),
        found if found > *MODULUS_BITS.end() => return Err(SigningKeyError::TooLarge),
        _ => {}
    }
    KeyPair::from_components(&components)
        .map_err(|rejected| SigningKeyError::rejected(rejected, SigningKeyError::Inconsistent))
}

fn child<'a, 'input>(
    root: Node<'a, 'input>,
    name: &'static str,
) -> Result<Option<Node<'a, 'input>>, SigningKeyError> {
    let mut found =
        root.children().filter(|node| node.is_element() && node.tag_name().name() == name);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(SigningKeyError::Repeated(name)),
        (first, None) => Ok(first),
    }
}

/// Returns the bytes of one number without leading zeros, which .NET never writes but other tools do.
fn number(root: Node<'_, '_>, name: &'static str) -> Result<Number, SigningKeyError> {
    let element = child(root, name)?.ok_or(SigningKeyError::Missing(name))?;
    // A comment splits the text around it in two.
    let pieces = || element.children().filter(Node::is_text).filter_map(|node| node.text());
    let mut text = Zeroizing::new(String::with_capacity(pieces().map(str::len).sum()));
    text.extend(pieces());
    let decoded = decode_base64(&text).ok_or(SigningKeyError::Base64(name))?;
    let zeros = decoded.iter().take_while(|byte| **byte == 0).count();
    match decoded.split_at_checked(zeros) {
        Some((_, significant)) if !significant.is_empty() => {
            Ok(Zeroizing::new(significant.to_vec()))
        }
        _ => Err(SigningKeyError::Missing(name)),
    }
}

/// Converts an XML error to its position, because the parser's messages quote the text.
fn xml_error(error: &Error) -> SigningKeyError {
    match error {
        Error::DtdDetected
        | Error::UnknownEntityReference(..)
        | Error::MalformedEntityReference(_)
        | Error::EntityReferenceLoop(_) => SigningKeyError::XmlEntities,
        _ => SigningKeyError::Xml { line: error.pos().row, column: error.pos().col },
    }
}
