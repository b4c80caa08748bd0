use super::*;

fn group(first: i64, bodies: &[&str]) -> AuditGroup {
    let rows: Vec<AuditRow> = (first..)
        .zip(bodies)
        .map(|(sequence, body)| AuditRow {
            sequence,
            time: Timestamp::from_microsecond(1_000_000 - sequence).unwrap(),
            hash: [u8::try_from(sequence).unwrap(); 32],
            body: body.as_bytes().to_vec(),
        })
        .collect();
    let AuditRow { sequence, time, hash, .. } = *rows.last().unwrap();
    let point = ChainPoint { chain: "cli".into(), sequence, hash, time };
    let signature = AuditSignature { key_id: "k-1".into(), bytes: vec![9; 64] };
    AuditGroup { rows, head: SignedPoint { point, signature } }
}

fn sealed(group: &AuditGroup) -> EncodedGroup {
    let mut encoded = EncodedGroup::new(group).unwrap();
    encoded.seal(&[3; 16]);
    encoded
}

#[test]
fn a_group_is_parsed_as_it_was_encoded() {
    let group = group(5, &["one", "", "three"]);
    let encoded = sealed(&group);
    assert_eq!((encoded.first, encoded.last), (5, 7));
    assert_eq!((encoded.earliest, encoded.latest), (999_993, 999_995));
    let view = GroupView::parse(&encoded.bytes, &[3; 16]).unwrap();
    assert_eq!(view.rows().collect::<Vec<_>>(), group.rows);
    assert_eq!(view.head(&"cli".into()), group.head);
    assert_eq!(view.encoded(), encoded);
}

/// The bytes that the reference describes.
#[test]
fn a_group_has_the_documented_layout() {
    let bytes = sealed(&group(2, &["abc"])).bytes;
    assert_eq!(bytes.len(), 148);
    assert_eq!(bytes[..8], *b"AGRP\0\0\0\x94");
    assert_eq!(bytes[12..24], [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]);
    assert_eq!(bytes[24..32], 999_998_i64.to_be_bytes());
    assert_eq!(bytes[32..64], [2; 32]);
    assert_eq!(bytes[64..75], *b"\0\0\0\x03abc\x03k-1");
    assert_eq!(bytes[75..76], [64]);
    assert_eq!(bytes[140..], *b"\0\0\0\x94PRGA".as_slice());
    let checked = [&[3; 16][..], &bytes[12..140]].concat();
    assert_eq!(bytes[8..12], crc32c::crc32c(&checked).to_be_bytes());
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn every_change_of_a_byte_makes_a_group_invalid() {
    let encoded = sealed(&group(1, &["one", "two"]));
    for place in 0..encoded.bytes.len() {
        for change in [1, 0x80] {
            let mut bytes = encoded.bytes.clone();
            bytes[place] ^= change;
            assert!(GroupView::parse(&bytes, &[3; 16]).is_none(), "{place}");
        }
    }
    assert!(GroupView::parse(&encoded.bytes, &[4; 16]).is_none(), "another chain");
    for length in 0..encoded.bytes.len() {
        assert!(GroupView::parse(&encoded.bytes[..length], &[3; 16]).is_none(), "{length}");
    }
}

#[test]
fn groups_that_are_no_part_of_a_chain_are_not_encoded() {
    let mut apart = group(1, &["one", "two"]);
    apart.rows[1].sequence = 3;
    let mut zero = group(1, &["one"]);
    zero.rows[0].sequence = 0;
    let mut empty = group(1, &["one"]);
    empty.rows.clear();
    for group in [apart, zero, empty] {
        assert_eq!(EncodedGroup::new(&group), Err(EncodeError::Sequence));
    }
    let mut other = group(1, &["one"]);
    other.head.point.hash = [0; 32];
    assert_eq!(EncodedGroup::new(&other), Err(EncodeError::Head));
    let mut signature = group(1, &["one"]);
    signature.head.signature.bytes = vec![0; 129];
    assert_eq!(EncodedGroup::new(&signature), Err(EncodeError::Field));
}
