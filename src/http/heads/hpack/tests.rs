use proptest::prelude::*;

use super::*;

/// Decodes whole blocks in parts of this size with one decoder. Returns the fields of each block.
fn decode(blocks: &[Vec<u8>], at_once: usize) -> Result<Vec<Vec<(String, String)>>, Broken> {
    let mut decoder = Decoder::default();
    blocks
        .iter()
        .map(|block| {
            let mut fields = Fields::default();
            let mut first = true;
            let mut undecoded = Vec::new();
            for part in block.chunks(at_once) {
                undecoded.extend_from_slice(part);
                let read = decoder.read(&undecoded, &mut fields, &mut first)?;
                undecoded.drain(..read);
            }
            if !undecoded.is_empty() || decoder.is_inside_field() {
                return Err(Broken);
            }
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            Ok(fields.iter().map(|(name, value)| (text(name), text(value))).collect())
        })
        .collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn fields(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// RFC 7541, appendix C.3 and C.4.
#[test]
fn the_requests_of_the_standard_decode_plain_and_compressed() {
    let plain = [
        hex("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d"),
        hex("8286 84be 5808 6e6f 2d63 6163 6865"),
        hex("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65"),
    ];
    let compressed = [
        hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"),
        hex("8286 84be 5886 a8eb 1064 9cbf"),
        hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"),
    ];
    let get = |rest: &[(&str, &str)]| {
        [&fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/")])[..], &fields(rest)]
            .concat()
    };
    let authority = (":authority", "www.example.com");
    let wanted = vec![
        get(&[authority]),
        get(&[authority, ("cache-control", "no-cache")]),
        fields(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            authority,
            ("custom-key", "custom-value"),
        ]),
    ];
    for at_once in [1, 2, 5, 100] {
        assert_eq!(decode(&plain, at_once), Ok(wanted.clone()));
        assert_eq!(decode(&compressed, at_once), Ok(wanted.clone()));
    }
}

/// RFC 7541, appendix C.6, in which entries are evicted from the table.
#[test]
fn old_entries_leave_a_small_table() {
    let blocks = [
        // A change of the table size to 256 bytes, and the first answer.
        hex(
            "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d \
             29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        ),
        hex("4883 640e ffc1 c0bf"),
        hex(
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
             e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ),
    ];
    let (date, location) = ("Mon, 21 Oct 2013 20:13:21 GMT", "https://www.example.com");
    let answer = |status, date| {
        fields(&[
            (":status", status),
            ("cache-control", "private"),
            ("date", date),
            ("location", location),
        ])
    };
    let last = [
        &answer("200", "Mon, 21 Oct 2013 20:13:22 GMT")[..],
        &fields(&[
            ("content-encoding", "gzip"),
            ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
        ]),
    ];
    assert_eq!(
        decode(&blocks, 7),
        Ok(vec![answer("302", date), answer("307", date), last.concat()])
    );
}

#[test]
fn blocks_that_cannot_be_decoded_are_refused() {
    for block in [
        "80",                // entry 0
        "be",                // an entry that is not in the table
        "7e 01 61",          // a name that is not in the table
        "82 20",             // a size that changes within a block
        "3f e2 1f",          // a table of 4097 bytes
        "ff ff ff ff ff 01", // an integer without an end
        "00 01 61 82 ff ff", // compressed text that is only padding
        "41 05 61",          // a value that does not end
        "00",                // a field that does not end
    ] {
        assert_eq!(decode(&[hex(block)], 100), Err(Broken), "{block}");
    }
}

#[test]
fn a_string_that_is_too_long_is_skipped_and_empties_the_table_if_it_is_indexed() {
    let long = LONG_FIELD_BYTES + 1;
    let mut indexed = vec![0x40, 1, b'a'];
    write_length(long, &mut indexed);
    indexed.resize(indexed.len() + long, b'x');
    let mut long_name = vec![0x00];
    write_length(long, &mut long_name);
    long_name.resize(long_name.len() + long, b'x');
    long_name.extend([1, b'v']);
    for at_once in [1000, 100_000] {
        let mut decoder = Decoder::default();
        decoder.table.insert(b"kept", b"value");
        for (block, entries) in [(&long_name, 1), (&indexed, 0)] {
            let (mut fields, mut undecoded) = (Fields::default(), Vec::new());
            let block = [&block[..], &[0x82]].concat();
            for part in block.chunks(at_once) {
                undecoded.extend_from_slice(part);
                let read = decoder.read(&undecoded, &mut fields, &mut true).unwrap();
                undecoded.drain(..read);
                assert!(undecoded.len() < 10);
            }
            assert!(undecoded.is_empty() && !decoder.is_inside_field());
            assert!(fields.are_too_large());
            assert_eq!(decoder.table.entries.len(), entries);
        }
    }
}

proptest! {
    #[test]
    fn written_fields_read_the_same_however_they_arrive(
        all in prop::collection::vec(("[a-z:-]{0,200}", "[ -~]{0,400}"), 0..12),
        at_once in 1..300_usize,
    ) {
        let mut block = Vec::new();
        for (name, value) in &all {
            write_literal(name.as_bytes(), value.as_bytes(), &mut block);
        }
        prop_assert_eq!(decode(&[block], at_once), Ok(vec![all]));
    }
}
