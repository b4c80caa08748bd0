//! HPACK (RFC 7541): a decoder with a dynamic table, and an encoder that writes only literals.

mod huffman;
mod static_table;

use std::collections::VecDeque;

use super::limits::MAX_HEAD_BYTES;

/// The default size of the dynamic table (RFC 9113, section 6.5.2).
const TABLE_BYTES: usize = 4096;

/// The overhead of an entry of the table, and of a field in a header list (RFC 7541, section 4.1).
const ENTRY_BYTES: usize = 32;

/// The number of coded bytes above which a field is skipped: the head is too large, and the field does not fit into the
/// table (the longest code has 30 bits for 8).
const LONG_FIELD_BYTES: usize = MAX_HEAD_BYTES;

/// The fields of a header block, in their order.
#[derive(Default)]
pub(super) struct Fields {
    text: Vec<u8>,
    /// The ends of each field's name and value in `text`.
    ends: Vec<(usize, usize)>,
    size: usize,
    too_large: bool,
}

impl Fields {
    /// Returns names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        begins.zip(&self.ends).map(|(begin, (name_end, end))| {
            let text = |from, to| self.text.get(from..to).unwrap_or_default();
            (text(begin, *name_end), text(*name_end, *end))
        })
    }

    /// Returns the memory of the list in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<(usize, usize)>()
    }

    /// Returns whether the list exceeds the limit. Then it is incomplete.
    pub(super) fn are_too_large(&self) -> bool {
        self.too_large
    }

    /// Removes all fields and releases the memory of a large list.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(TABLE_BYTES);
        self.ends.clear();
        self.ends.shrink_to(128);
        (self.size, self.too_large) = (0, false);
    }

    /// Adds a field. Counts the size as h2 does, which refuses a list that reaches the limit.
    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.size = self.size.saturating_add(name.len() + value.len() + ENTRY_BYTES);
        self.too_large |= self.size >= MAX_HEAD_BYTES;
        if self.too_large {
            return;
        }
        self.text.extend_from_slice(name);
        let name_end = self.text.len();
        self.text.extend_from_slice(value);
        self.ends.push((name_end, self.text.len()));
    }
}

/// The block cannot be decoded, which is a connection error (RFC 9113, section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// The decoder of a connection's header blocks, which accepts parts of blocks.
#[derive(Default)]
pub(super) struct Decoder {
    table: Table,
    skipping: Option<Skipping>,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// A field with a string that is too long, which is skipped.
struct Skipping {
    left: usize,
    value_follows: bool,
    indexed: bool,
}

impl Decoder {
    /// Reads all complete fields in `bytes` and returns the number of bytes that were read. The caller must pass the
    /// rest again, together with the following bytes.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        fields: &mut Fields,
        at_start: &mut bool,
    ) -> Result<usize, Broken> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            if self.skipping.is_some() {
                let skipped = self.skip(rest, fields)?;
                at += skipped;
                if skipped == 0 && self.skipping.is_some() {
                    return Ok(at);
                }
                continue;
            }
            match self.field(rest, fields, at_start)? {
                Some(length) => at += length,
                None => return Ok(at),
            }
        }
    }

    /// Returns whether a skipped field has not ended.
    pub(super) fn is_inside_field(&self) -> bool {
        self.skipping.is_some()
    }

    fn field(
        &mut self,
        bytes: &[u8],
        fields: &mut Fields,
        at_start: &mut bool,
    ) -> Result<Option<usize>, Broken> {
        let Some(kind) = bytes.first() else { return Ok(None) };
        let (prefix, indexed) = match kind {
            0x80.. => {
                let Some((index, length)) = integer(bytes, 7)? else { return Ok(None) };
                let (name, value) = self.table.entry(index).ok_or(Broken)?;
                fields.push(name, value);
                *at_start = false;
                return Ok(Some(length));
            }
            0x40..0x80 => (6, true),
            0x20..0x40 => {
                let Some((size, length)) = integer(bytes, 5)? else { return Ok(None) };
                // The table size may change only at the start of a block (RFC 7541, section 4.2).
                if !*at_start || size > TABLE_BYTES {
                    return Err(Broken);
                }
                self.table.resize(size);
                return Ok(Some(length));
            }
            ..0x20 => (4, false),
        };
        let length = self.literal(bytes, prefix, indexed, fields)?;
        *at_start &= length.is_none();
        for text in [&mut self.name, &mut self.value] {
            text.clear();
            text.shrink_to(TABLE_BYTES);
        }
        Ok(length)
    }

    /// Reads a literal (RFC 7541, section 6.2).
    fn literal(
        &mut self,
        bytes: &[u8],
        prefix: u32,
        indexed: bool,
        fields: &mut Fields,
    ) -> Result<Option<usize>, Broken> {
        let Some((index, mut at)) = integer(bytes, prefix)? else { return Ok(None) };
        if index > 0 {
            let (name, _) = self.table.entry(index).ok_or(Broken)?;
            self.name.extend_from_slice(name);
        } else {
            match string(bytes, at, &mut self.name)? {
                Text::Whole(end) => at = end,
                Text::Partial => return Ok(None),
                Text::TooLong { begin, left } => {
                    self.skipping = Some(Skipping { left, value_follows: true, indexed });
                    return Ok(Some(begin));
                }
            }
        }
        match string(bytes, at, &mut self.value)? {
            Text::Whole(end) => at = end,
            Text::Partial => return Ok(None),
            Text::TooLong { begin, left } => {
                self.skipping = Some(Skipping { left, value_follows: false, indexed });
                return Ok(Some(begin));
            }
        }
        fields.push(&self.name, &self.value);
        if indexed {
            self.table.insert(&self.name, &self.value);
        }
        Ok(Some(at))
    }

    /// Skips the rest of a long field. Returns the number of bytes that belong to it.
    fn skip(&mut self, bytes: &[u8], fields: &mut Fields) -> Result<usize, Broken> {
        let Some(Skipping { left, value_follows, indexed }) = &mut self.skipping else {
            return Ok(0);
        };
        let mut at = bytes.len().min(*left);
        *left -= at;
        if *left > 0 {
            return Ok(at);
        }
        if *value_follows {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some((length, prefix)) = integer(rest, 7)? else { return Ok(at) };
            at += prefix;
            (*left, *value_follows) = (length, false);
            return Ok(at);
        }
        if *indexed {
            // An entry that is larger than the table empties it (RFC 7541, section 4.4).
            self.table.clear();
        }
        fields.too_large = true;
        self.skipping = None;
        Ok(at)
    }
}

/// The dynamic table.
struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    max_size: usize,
}

struct Entry {
    text: Box<[u8]>,
    name_length: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, max_size: TABLE_BYTES }
    }
}

impl Table {
    /// Returns an entry of the static or the dynamic table (RFC 7541, section 2.3.3).
    fn entry(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let Some(index) = index.checked_sub(static_table::ENTRIES.len() + 1) else {
            return static_table::entry(index);
        };
        let entry = self.entries.get(index)?;
        entry.text.split_at_checked(entry.name_length)
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + ENTRY_BYTES;
        self.shrink(self.max_size.saturating_sub(size));
        if size <= self.max_size {
            let text = [name, value].concat().into_boxed_slice();
            self.entries.push_front(Entry { text, name_length: name.len() });
            self.size += size;
        }
    }

    fn resize(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.shrink(max_size);
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.size = 0;
    }

    /// Removes the oldest entries until the size is at most `size`.
    fn shrink(&mut self, size: usize) {
        while self.size > size
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.text.len() + ENTRY_BYTES;
        }
    }
}

/// Reads an integer with a prefix of this many bits, and its length in bytes (RFC 7541, section 5.1). `None` if more
/// bytes are needed.
fn integer(bytes: &[u8], prefix: u32) -> Result<Option<(usize, usize)>, Broken> {
    // Five bytes reach 2^28, which is larger than all valid integers in a request.
    const MAX_BYTES: usize = 5;
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(*first) & mask;
    if value < mask {
        return Ok(Some((value, 1)));
    }
    for (nth, byte) in rest.iter().take(MAX_BYTES - 1).enumerate() {
        value += usize::from(byte & 0x7f) << (7 * nth);
        if byte & 0x80 == 0 {
            return Ok(Some((value, nth + 2)));
        }
    }
    if bytes.len() < MAX_BYTES { Ok(None) } else { Err(Broken) }
}

/// The result of reading a string literal.
enum Text {
    /// The whole string was read and ends here.
    Whole(usize),
    /// More bytes are needed.
    Partial,
    /// The string that begins here is too long, alone or together with the name.
    TooLong { begin: usize, left: usize },
}

/// Reads the string literal of a field that begins at `at`, and appends it to `text` (RFC 7541, section 5.2).
fn string(field: &[u8], at: usize, text: &mut Vec<u8>) -> Result<Text, Broken> {
    let bytes = field.get(at..).unwrap_or_default();
    let Some((length, prefix)) = integer(bytes, 7)? else { return Ok(Text::Partial) };
    let begin = at + prefix;
    if begin + length > LONG_FIELD_BYTES {
        return Ok(Text::TooLong { begin, left: length });
    }
    let Some(coded) = field.get(begin..begin + length) else { return Ok(Text::Partial) };
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        huffman::decode(coded, text).ok_or(Broken)?;
    } else {
        text.extend_from_slice(coded);
    }
    Ok(Text::Whole(begin + length))
}

/// Appends a field as a literal without indexing (RFC 7541, section 6.2.2).
pub(super) fn write_literal(name: &[u8], value: &[u8], block: &mut Vec<u8>) {
    block.push(0);
    for text in [name, value] {
        write_length(text.len(), block);
        block.extend_from_slice(text);
    }
}

/// Appends the length of a string that is not compressed.
fn write_length(length: usize, block: &mut Vec<u8>) {
    const PREFIX: usize = 0x7f;
    let Some(mut rest) = length.checked_sub(PREFIX) else {
        block.extend(u8::try_from(length));
        return;
    };
    block.push(0x7f);
    while rest > 0x7f {
        block.extend(u8::try_from(rest & 0x7f | 0x80));
        rest >>= 7;
    }
    block.extend(u8::try_from(rest));
}

#[cfg(test)]
mod tests;
