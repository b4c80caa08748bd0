//! A decoder for the Huffman code of HPACK (RFC 7541, appendix B).

/// The length of each symbol's code in bits. The last symbol is the end of string. The code is canonical (RFC 7541,
/// section 5.2): symbols with codes of the same length have consecutive codes.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const SYMBOLS: usize = 257;
const END_OF_STRING: u16 = 256;
const MAX_BITS: u32 = 30;
const ALL_ONES: u32 = (1 << MAX_BITS) - 1;

/// The maximum length of codes that are found with one table lookup.
const SHORT_BITS: u32 = 8;

/// The codes of one length: the first code, the number of codes, and the index of their first symbol in `ORDER`.
#[derive(Clone, Copy)]
struct Group {
    first: u32,
    count: u32,
    start: usize,
}

/// The symbols, ordered by the length of their code and then by value.
const ORDER: [u16; SYMBOLS] = order();

/// The codes by length.
const GROUPS: [Group; MAX_BITS as usize + 1] = groups();

/// The symbol and code length for each value of the first eight bits. The length is 0 if the code is longer.
static SHORT: [(u16, u8); 1 << SHORT_BITS] = short();

#[expect(
    clippy::indexing_slicing,
    reason = "checked by the compiler: the constants are built at compile time"
)]
const fn order() -> [u16; SYMBOLS] {
    let mut order = [0; SYMBOLS];
    let (mut placed, mut length) = (0, 1);
    while length <= MAX_BITS {
        let mut symbol: u16 = 0;
        while (symbol as usize) < SYMBOLS {
            if LENGTHS[symbol as usize] as u32 == length {
                order[placed] = symbol;
                placed += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    order
}

#[expect(
    clippy::indexing_slicing,
    reason = "checked by the compiler: the constants are built at compile time"
)]
const fn groups() -> [Group; MAX_BITS as usize + 1] {
    let mut groups = [Group { first: 0, count: 0, start: 0 }; MAX_BITS as usize + 1];
    let (mut next, mut start, mut length) = (0, 0, 1);
    while length < groups.len() {
        next <<= 1;
        let mut count = 0;
        while start + (count as usize) < SYMBOLS
            && LENGTHS[ORDER[start + count as usize] as usize] as usize == length
        {
            count += 1;
        }
        groups[length] = Group { first: next, count, start };
        next += count;
        start += count as usize;
        length += 1;
    }
    groups
}

#[expect(
    clippy::indexing_slicing,
    reason = "checked by the compiler: the constants are built at compile time"
)]
const fn short() -> [(u16, u8); 1 << SHORT_BITS] {
    let mut short = [(0, 0); 1 << SHORT_BITS];
    let mut bits: u32 = 0;
    while bits < 1 << SHORT_BITS {
        let mut length = 1;
        while length <= SHORT_BITS {
            let group = GROUPS[length as usize];
            let code = bits >> (SHORT_BITS - length);
            if code >= group.first && code - group.first < group.count {
                let symbol = ORDER[group.start + (code - group.first) as usize];
                short[bits as usize] = (symbol, LENGTHS[symbol as usize]);
                break;
            }
            length += 1;
        }
        bits += 1;
    }
    short
}

/// Appends the decoded bytes to `text`. `None` if they contain the end-of-string symbol, or the padding is invalid.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Option<()> {
    let mut coded = coded.iter();
    // The lowest `held` bits of `bits` are not decoded yet.
    let (mut bits, mut held) = (0_u64, 0_u32);
    loop {
        while held <= 32
            && let Some(byte) = coded.next()
        {
            bits = bits << 8 | u64::from(*byte);
            held += 8;
        }
        let window = window(bits, held);
        let (symbol, length) = first_symbol(window)?;
        if symbol == END_OF_STRING || length > held {
            // Padding is the beginning of the end-of-string code, shorter than a byte (RFC 7541, section 5.2).
            return (held < 8 && window == ALL_ONES).then_some(());
        }
        text.push(u8::try_from(symbol).ok()?);
        held -= length;
    }
}

/// Returns the next bits, padded with ones.
fn window(bits: u64, held: u32) -> u32 {
    let window = if let Some(more) = held.checked_sub(MAX_BITS) {
        bits >> more
    } else {
        let missing = MAX_BITS - held;
        bits << missing | ((1 << missing) - 1)
    };
    u32::try_from(window & u64::from(ALL_ONES)).unwrap_or(ALL_ONES)
}

/// Returns the symbol whose code these bits start with, and the length of the code.
fn first_symbol(window: u32) -> Option<(u16, u32)> {
    let (symbol, length) = *SHORT.get((window >> (MAX_BITS - SHORT_BITS)) as usize)?;
    if length > 0 {
        return Some((symbol, length.into()));
    }
    (SHORT_BITS + 1..=MAX_BITS).find_map(|length| {
        let group = GROUPS.get(length as usize)?;
        let nth = (window >> (MAX_BITS - length)).checked_sub(group.first)?;
        let symbol = ORDER.get(group.start + nth as usize)?;
        (nth < group.count).then_some((*symbol, length))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the code of a symbol as in appendix B.
    fn code(symbol: u8) -> (u32, u32) {
        let length = u32::from(LENGTHS[usize::from(symbol)]);
        let group = GROUPS[length as usize];
        let nth = ORDER[group.start..].iter().position(|other| *other == u16::from(symbol));
        (group.first + u32::try_from(nth.unwrap()).unwrap(), length)
    }

    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits: Vec<bool> = text
            .iter()
            .map(|symbol| code(*symbol))
            .flat_map(|(code, length)| (0..length).rev().map(move |bit| code >> bit & 1 == 1))
            .collect();
        bits.resize(bits.len().next_multiple_of(8), true);
        let byte = |bits: &[bool]| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        bits.chunks(8).map(byte).collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(coded, &mut text).map(|()| text)
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        for (symbol, wanted) in [
            (b'0', (0x0, 5)),
            (b'a', (0x3, 5)),
            (b' ', (0x14, 6)),
            (b'&', (0xf8, 8)),
            (b'<', (0x7ffc, 15)),
            (b'\\', (0x7fff0, 19)),
            (0, (0x1ff8, 13)),
            (b'\n', (0x3fff_fffc, 30)),
            (22, (0x3fff_fffe, 30)),
            (255, (0x3ff_ffee, 26)),
        ] {
            assert_eq!(code(symbol), wanted, "{symbol}");
        }
    }

    #[test]
    fn wrong_padding_and_the_end_of_string_symbol_are_refused() {
        assert_eq!(decoded(b""), Some(vec![]));
        // `0` and three bits that are not ones; a whole byte of padding; the end-of-string symbol.
        for coded in [&[0b0000_0000][..], &[0b0000_0111, 0xff], &[0xff; 4], &[0xff, 0xff]] {
            assert_eq!(decoded(coded), None, "{coded:?}");
        }
    }

    proptest! {
        #[test]
        fn encoded_text_decodes_to_the_same(text in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(decoded(&encode(&text)), Some(text));
        }

        #[test]
        fn text_that_decodes_encodes_to_the_same(coded in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(text) = decoded(&coded) {
                prop_assert_eq!(encode(&text), coded);
            }
        }
    }
}
