use super::*;

fn header() -> Header {
    Header {
        chain: "serve-1".into(),
        incarnation: [7; 16],
        first: 12,
        follows: [8; 32],
        begun: 1,
        created: 2,
        latest: i64::MIN,
        former_earliest: i64::MAX,
        signature: AuditSignature { key_id: "k-1".into(), bytes: vec![9; 64] },
    }
}

/// The bytes that the reference describes.
#[test]
fn a_header_has_the_documented_layout() {
    let bytes = header().encode().unwrap();
    assert_eq!(bytes.len(), 512);
    assert_eq!(bytes[..12], *b"TGAUDIT\n\0\0\0\x01");
    assert_eq!(bytes[12..28], [7; 16]);
    assert_eq!(bytes[28..36], 12_i64.to_be_bytes());
    assert_eq!(bytes[36..68], [8; 32]);
    assert_eq!(bytes[84..92], i64::MIN.to_be_bytes());
    assert_eq!(bytes[92..100], i64::MAX.to_be_bytes());
    assert_eq!(bytes[116..124], *b"\x07serve-1");
    assert_eq!(bytes[181..185], *b"\x03k-1");
    assert_eq!(bytes[246..311], [&[64][..], &[9; 64]].concat());
    assert!(bytes[375..508].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[508..], crc32c::crc32c(&bytes[..508]).to_be_bytes());
    let message = [&b"tenant-gateway audit segment v1\0"[..], &bytes[..246]].concat();
    assert_eq!(header().message().unwrap(), message);
    assert_eq!(Header::decode(&bytes), Some(header()));
}

#[test]
fn every_change_of_a_byte_makes_a_block_invalid() {
    let checkpoint = SignedPoint {
        point: ChainPoint {
            chain: "cli".into(),
            sequence: 3,
            hash: [1; 32],
            time: Timestamp::from_second(5).unwrap(),
        },
        signature: AuditSignature { key_id: "k-1".into(), bytes: vec![2; 64] },
    };
    let encoded = encode_checkpoint(&checkpoint).unwrap();
    assert_eq!(decode_checkpoint(&encoded), Some(checkpoint));
    let header = header().encode().unwrap();
    assert!(decode_checkpoint(&header).is_none() && Header::decode(&encoded).is_none());
    for place in 0..512 {
        for block in [&header, &encoded] {
            let mut bytes = block.clone();
            bytes[place] ^= 0x20;
            assert!(Header::decode(&bytes).is_none() && decode_checkpoint(&bytes).is_none());
        }
    }
    // Nothing but zeros is behind the fields, also with a right checksum.
    for place in [105, 130, 200, 330, 400, 507] {
        let mut bytes = header.clone();
        bytes[place] = 1;
        bytes.truncate(508);
        seal_block(&mut bytes);
        assert!(Header::decode(&bytes).is_none(), "{place}");
    }
}
