use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeyPair, KeySize},
    signature::UnparsedPublicKey,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../tests/fixtures/keys/", $name))
    };
}

const PKCS1: &str = fixture!("rsa-2048.pkcs1.pem");
const PKCS8: &str = fixture!("rsa-2048.pkcs8.pem");
const XML: &str = fixture!("rsa-2048.xml");
const EDITED_XML: &str = fixture!("rsa-2048.edited.xml");

fn parse(text: &str) -> Result<SigningKey, SigningKeyError> {
    SigningKey::parse(&SecretString::from(text))
}

fn refusal(text: &str) -> SigningKeyError {
    let error = parse(text).unwrap_err();
    // No message contains a part of the text that could be key material.
    let message = format!("{error} {error:?}");
    for word in text.split(|character: char| !character.is_ascii_alphanumeric()) {
        assert!(word.len() < 20 || !message.contains(word), "{message}");
    }
    error
}

/// Returns the content of an element of the XML fixture.
fn element(name: &str) -> &'static str {
    let (_, after) = XML.split_once(&format!("<{name}>")).unwrap();
    after.split_once(&format!("</{name}>")).unwrap().0
}

#[test]
fn all_formats_of_a_key_give_the_same_key() {
    let expected = parse(PKCS1).unwrap();
    let message = "My App-pzqc70604i.202612241830".as_bytes();
    let signature = expected.sign(message).unwrap();
    let verifier =
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, expected.pair.public_key().as_ref());
    verifier.verify(message, &signature).unwrap();
    assert_eq!(signature.len(), 256);
    assert_eq!(expected.modulus_bits(), 2048);
    assert_eq!(expected.key_id().len(), 43);

    for form in [PKCS8, XML, EDITED_XML] {
        let key = parse(form).unwrap();
        assert_eq!(key.key_id(), expected.key_id());
        assert_eq!(key.modulus_bits(), 2048);
        assert_eq!(key.sign(message).unwrap(), signature);
    }
}

#[test]
fn the_fixture_contains_the_irregularities() {
    assert!(EDITED_XML.starts_with("\u{feff}<?xml"));
    assert!(EDITED_XML.contains("<!-- wrapped -->") && EDITED_XML.contains("\r\n"));
    assert!(EDITED_XML.find("<D>").unwrap() < EDITED_XML.find("<Modulus>").unwrap());
}

#[test]
fn accepts_changes_by_shells_and_environment_variables() {
    let key_id = parse(PKCS1).unwrap().key_id;
    for text in [PKCS1, PKCS8, XML, EDITED_XML] {
        let variants = [
            text.replace('\r', "").replace('\n', "\\n"),
            text.replace('\r', "").replace('\n', "\\r\\n"),
            text.replace('\r', "").replace('\n', "\r\n"),
            text.replace('\n', " "),
            format!("\u{feff}  \n\t{text}\n\n "),
            format!("\"{text}\""),
            format!(" '{}' \n", text.replace('\r', "").replace('\n', "\\n")),
            format!("\"\\n{text}\\n\""),
        ];
        for variant in variants {
            assert_eq!(parse(&variant).unwrap().key_id, key_id, "{variant:.60}");
        }
    }
}

#[test]
fn generated_keys_of_each_length_work() {
    for (size, bits) in [(KeySize::Rsa2048, 2048), (KeySize::Rsa3072, 3072)] {
        let pair = KeyPair::generate(size).unwrap();
        let der = STANDARD.encode(pair.as_der().unwrap().as_ref());
        let key = parse(&format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----"))
            .unwrap();
        assert_eq!(key.modulus_bits(), bits);
        let signature = key.sign(b"message").unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())
            .verify(b"message", &signature)
            .unwrap();
    }
}

#[test]
fn finds_a_private_key_next_to_its_certificate() {
    let certificate = fixture!("certificate.pem");
    for text in [format!("{certificate}{PKCS8}"), format!("Bag Attributes\n{PKCS1}{certificate}")] {
        assert!(parse(&text).is_ok());
    }
    assert_eq!(refusal(&format!("{PKCS8}{PKCS1}")), SigningKeyError::SeveralKeys);
}

#[test]
fn errors_name_what_was_found_instead_of_a_key() {
    use SigningKeyError as E;
    let cases = [
        (fixture!("public.pem"), E::PublicOnly),
        (fixture!("certificate.pem"), E::Certificate),
        (fixture!("encrypted.pkcs8.pem"), E::Encrypted),
        (fixture!("encrypted.pkcs1.pem"), E::Encrypted),
        (fixture!("ec.sec1.pem"), E::NotRsa("an elliptic curve key")),
        (fixture!("ec.pkcs8.pem"), E::NotRsa("a private key of another algorithm")),
        (fixture!("rsa-1024.pkcs1.pem"), E::TooSmall),
        (fixture!("rsa-1024.pkcs8.pem"), E::TooSmall),
        (fixture!("rsa-1024.xml"), E::TooSmall),
        ("", E::Empty),
        (" \u{feff} \r\n", E::Empty),
        ("\"\"", E::Empty),
        ("'\\n\\r'", E::Empty),
        ("\\r", E::Empty),
        ("hunter2", E::Unrecognized),
        (element("Modulus"), E::Unrecognized),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAA==\n-----END OPENSSH PRIVATE KEY-----",
            E::NotRsa("a key in OpenSSH's own format"),
        ),
        (
            "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----",
            E::NotRsa("a certificate request"),
        ),
        (
            "-----BEGIN NOTHING-----\nAA==\n-----END NOTHING-----",
            E::NotRsa("PEM of an unknown kind"),
        ),
        ("-----BEGIN PRIVATE KEY-----\nAAAA", E::CutOff),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----", E::CutOff),
        ("-----BEGIN PRIVATE KEY-----\nA*==\n-----END PRIVATE KEY-----", E::Base64("PEM")),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", E::Encoding),
        ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----", E::Encoding),
        ("<RSAKeyValue/>", E::Missing("Modulus")),
        ("<RSAKeyPair/>", E::XmlRoot),
        ("<RSAKeyValue>", E::Xml { line: 1, column: 1 }),
        ("<RSAKeyValue><Modulus>AQAB</Modulus></RSAKeyValue>", E::PublicOnly),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><RSAKeyValue>&b;</RSAKeyValue>", E::XmlEntities),
        ("<RSAKeyValue><D>&b;</D></RSAKeyValue>", E::XmlEntities),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected, "{text:.80}");
    }
    assert_eq!(refusal(&" ".repeat(64 * 1024 + 1)), E::TooLong);
    assert!(refusal(fixture!("encrypted.pkcs8.pem")).to_string().contains("openssl pkey"));
}

#[test]
fn requires_every_xml_number_once_in_base64() {
    for name in ["Modulus", "Exponent", "P", "Q", "DP", "DQ", "InverseQ"] {
        let whole = format!("<{name}>{}</{name}>", element(name));
        let rest = XML.replace(&whole, "");
        assert_eq!(refusal(&rest), SigningKeyError::Missing(name));
        assert_eq!(
            refusal(&XML.replace(&whole, &format!("<{name}/>"))),
            SigningKeyError::Missing(name)
        );
        assert_eq!(
            refusal(&XML.replace(&whole, &format!("{whole}{whole}"))),
            SigningKeyError::Repeated(name)
        );
        let broken = format!("<{name}>*</{name}>");
        assert_eq!(refusal(&XML.replace(&whole, &broken)), SigningKeyError::Base64(name));
    }
}

#[test]
fn rejects_numbers_of_different_keys() {
    let number = |name| STANDARD.decode(element(name)).unwrap();
    for name in ["Modulus", "Exponent", "P", "Q", "DP", "DQ", "InverseQ", "D"] {
        let mut other = number(name);
        // Changes a byte in the middle, so that odd numbers stay odd and lengths stay the same.
        other[1] ^= 0b100;
        let text = XML.replace(
            &format!("<{name}>{}</{name}>", element(name)),
            &format!("<{name}>{}</{name}>", STANDARD.encode(other)),
        );
        assert_ne!(text, XML);
        assert_eq!(refusal(&text), SigningKeyError::Inconsistent, "{name}");
    }
    // P and Q are swapped, but not the numbers derived from them.
    let (p, q) = (element("P"), element("Q"));
    let swapped = XML.replace(p, "-").replace(q, p).replace('-', q);
    assert_eq!(refusal(&swapped), SigningKeyError::Inconsistent);
}

#[test]
fn ignores_leading_zeros_in_xml_numbers() {
    let mut modulus = STANDARD.decode(element("Modulus")).unwrap();
    modulus.insert(0, 0);
    let padded = XML.replace(element("Modulus"), &STANDARD.encode(modulus));
    assert_eq!(parse(&padded).unwrap().key_id(), parse(XML).unwrap().key_id());
}

#[test]
fn rejects_a_huge_modulus_before_any_computation() {
    let huge = STANDARD.encode([0xff; 1025]);
    assert_eq!(refusal(&XML.replace(element("Modulus"), &huge)), SigningKeyError::TooLarge);
}

#[test]
fn debug_output_contains_only_key_id_and_length() {
    let key = parse(PKCS1).unwrap();
    assert_eq!(
        format!("{key:?}"),
        format!("SigningKey {{ key_id: {:?}, modulus_bits: 2048, .. }}", key.key_id())
    );
}

const NUMBERS: [&str; 8] = ["Modulus", "Exponent", "P", "Q", "DP", "DQ", "InverseQ", "D"];

static KEY_ID: std::sync::LazyLock<String> =
    std::sync::LazyLock::new(|| parse(PKCS1).unwrap().key_id);

/// The characters that people, editors and shells leave between the parts of a key.
fn white_space() -> impl Strategy<Value = String> {
    "([ \t\r\n]|\\\\n|\\\\r\\\\n|\\\\r){0,3}"
}

fn between_elements() -> impl Strategy<Value = String> {
    (white_space(), "(<!--[ a-z<>&]{0,9}-->|<\\?[a-z]{1,4}\\?>|<Extra a='1'/>)?", white_space())
        .prop_map(|(before, comment, after)| format!("{before}{comment}{after}"))
}

fn around() -> impl Strategy<Value = (String, String)> {
    let quotes = prop::sample::select(&["", "\"", "'"][..]);
    (white_space(), quotes, white_space(), "[\u{feff} \n]{0,3}").prop_map(
        |(inner, quote, end, outer)| {
            (format!("{outer}{quote}{inner}"), format!("{end}{quote}{outer}"))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn xml_in_any_order_and_layout_gives_the_same_key(
        order in Just(NUMBERS).prop_shuffle(),
        spaces in prop::collection::vec(between_elements(), 9),
        inside in prop::collection::vec((any::<prop::sample::Index>(), white_space()), 8),
        (before, after) in around(),
    ) {
        let mut text = format!("{before}<RSAKeyValue>");
        for ((name, space), (position, cut)) in order.into_iter().zip(&spaces).zip(&inside) {
            let number = element(name);
            let (one, other) = number.split_at(position.index(number.len()));
            text.extend([space, "<", name, ">", one, cut, "<!-- -->", other, "</", name, ">"]);
        }
        text.extend([&spaces[8], "</RSAKeyValue>", &after]);
        prop_assert_eq!(&parse(&text).unwrap().key_id, &*KEY_ID);
    }

    #[test]
    fn pem_with_any_line_breaks_gives_the_same_key(
        form in prop::sample::select(&[PKCS1, PKCS8][..]),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), white_space()), 0..9),
        note in "[A-Za-z0-9: ]{0,20}",
        (before, after) in around(),
    ) {
        let (begin, rest) = form.split_once("KEY-----\n").unwrap();
        let (body, end) = rest.split_once("-----END").unwrap();
        let mut body = body.replace('\n', "");
        for (position, cut) in cuts {
            let at = position.index(body.len());
            // Not inside an escape that was inserted before.
            if body.is_char_boundary(at) && !body[..at].ends_with('\\') {
                body.insert_str(at, &cut);
            }
        }
        let text = format!("{before}{note}\n{begin}KEY-----{body}-----END{}{after}", end.trim_end());
        prop_assert_eq!(&parse(&text).unwrap().key_id, &*KEY_ID);
    }
}

proptest! {
    #[test]
    fn arbitrary_text_does_not_panic(text in r#"(\\[rn]|[<>&;"'-]|-----|BEGIN |END |PRIVATE KEY|<RSAKeyValue>|<D>|A|=|.){0,60}"#) {
        let _ = parse(&text);
    }

    #[test]
    fn a_damaged_key_does_not_panic(position in 0..1_600_usize, with in any::<char>()) {
        for text in [PKCS1, PKCS8, XML] {
            let damaged: String = text
                .chars()
                .enumerate()
                .map(|(at, character)| if at == position { with } else { character })
                .collect();
            let _ = parse(&damaged);
        }
    }
}
