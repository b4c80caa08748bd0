//! HTTP/2: decodes each header block of a connection and changes only blocks that h2 would refuse (RFC 9113).
//!
//! Until the first change, all bytes pass unchanged, and h2 has the same dynamic table as the client. After it, each
//! block of the connection is rewritten with literals, which need no table.

use super::{
    fields::{are_trailers, check_head, write, write_malformed, write_replacement},
    hpack::{Decoder, Fields},
    limits::MAX_READY_BYTES,
    output::Output,
    problem::HeadProblem,
    target::TargetDecision,
};

/// The length of the connection preface (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

const FRAME_HEAD_BYTES: usize = 9;

/// The maximum payload of a frame, which h2 does not raise (RFC 9113, section 6.5.2).
const MAX_FRAME_BYTES: usize = 16 * 1024;

/// The maximum number of frames in a block (about 1 MiB). More end the connection, because a block could be endless.
const MAX_BLOCK_FRAMES: u32 = 64;

const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The parser of a connection's header blocks.
pub(super) struct Http2 {
    state: State,
    decoder: Decoder,
    /// The fields of the current block.
    fields: Fields,
    /// The incomplete block.
    block: Option<Block>,
    /// Whether all blocks are rewritten.
    rewrites: bool,
    /// The last stream that was opened.
    last_stream: u32,
    /// The first bytes of an incomplete frame.
    held: Vec<u8>,
}

/// The meaning of the next bytes.
enum State {
    Preface(usize),
    Frame,
    /// The payload of a frame without a header block.
    Payload(usize),
    /// A frame for which h2 closes the connection, and everything after it.
    PassThrough,
    /// No more bytes pass, because the connection ends.
    Broken,
}

/// A header block.
struct Block {
    stream: u32,
    ends_stream: bool,
    at_start: bool,
    depends_on_itself: bool,
    frames: u32,
    /// The first bytes of an incomplete field.
    undecoded: Vec<u8>,
}

/// The header of a frame.
#[derive(Clone, Copy)]
struct FrameHead {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHead {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0, ..] = *bytes else { return None };
        let length = u32::from_be_bytes([0, l2, l1, l0]);
        let stream = u32::from_be_bytes([s3 & 0x7f, s2, s1, s0]);
        Some(Self { length: usize::try_from(length).ok()?, kind, flags, stream })
    }

    fn write(self) -> [u8; FRAME_HEAD_BYTES] {
        let [_, l2, l1, l0] = u32::try_from(self.length).unwrap_or_default().to_be_bytes();
        let [s3, s2, s1, s0] = self.stream.to_be_bytes();
        [l2, l1, l0, self.kind, self.flags, s3, s2, s1, s0]
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn holds_block(self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION)
    }
}

/// The connection violates the protocol.
struct Broken;

impl Http2 {
    pub(super) fn new() -> Self {
        Self {
            state: State::Preface(PREFACE_BYTES),
            decoder: Decoder::default(),
            fields: Fields::default(),
            block: None,
            rewrites: false,
            last_stream: 0,
            held: Vec::new(),
        }
    }

    /// Returns the memory of the incomplete block and frame in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        let block = self.block.as_ref().map_or(0, |block| block.undecoded.capacity());
        self.held.capacity() + self.fields.capacity() + block
    }

    /// Processes the next bytes of the client, until more than [`MAX_READY_BYTES`] wait in the output. Returns the
    /// number of processed bytes.
    pub(super) fn pass(&mut self, input: &[u8], output: &mut Output<'_>) -> usize {
        let mut used = 0;
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty())
            && output.ready.len() <= MAX_READY_BYTES
        {
            used += match &mut self.state {
                State::Preface(left) | State::Payload(left) => {
                    let here = rest.len().min(*left);
                    *left -= here;
                    if *left == 0 {
                        self.state = State::Frame;
                    }
                    output.keep(rest.get(..here).unwrap_or_default());
                    here
                }
                State::Frame => self.frame(rest, output),
                State::PassThrough => {
                    output.keep(rest);
                    rest.len()
                }
                State::Broken => {
                    output.drop_input();
                    rest.len()
                }
            };
        }
        used
    }

    /// Passes the held bytes of an incomplete frame unchanged, because the client sends no more.
    pub(super) fn end(&mut self, output: &mut Output<'_>) {
        output.put(&std::mem::take(&mut self.held));
    }

    /// Processes bytes of a frame. Returns their number.
    fn frame(&mut self, input: &[u8], output: &mut Output<'_>) -> usize {
        if self.held.is_empty() {
            if let Some(length) = needed_bytes(input)
                && let Some(frame) = input.get(..length)
            {
                self.whole_frame(frame, true, output);
                return length;
            }
            output.drop_input();
            self.hold(input);
            return input.len();
        }
        output.drop_input();
        let wanted_now = needed_bytes(&self.held).unwrap_or(FRAME_HEAD_BYTES);
        let missing = wanted_now.saturating_sub(self.held.len()).min(input.len());
        self.hold(input.get(..missing).unwrap_or_default());
        if needed_bytes(&self.held).is_some_and(|length| length <= self.held.len()) {
            let frame = std::mem::take(&mut self.held);
            self.whole_frame(&frame, false, output);
        }
        missing
    }

    /// Holds bytes of a frame without spare capacity, because unauthorized clients may keep many frames incomplete.
    fn hold(&mut self, bytes: &[u8]) {
        self.held.reserve_exact(bytes.len());
        self.held.extend_from_slice(bytes);
    }

    /// Processes a frame. Without a header block, only the header of the frame is present.
    fn whole_frame(&mut self, frame: &[u8], in_input: bool, output: &mut Output<'_>) {
        let Some(head) = FrameHead::read(frame) else { return };
        let pass = |output: &mut Output<'_>| {
            if in_input { output.keep(frame) } else { output.put(frame) }
        };
        if head.length > MAX_FRAME_BYTES || head.kind == PUSH_PROMISE {
            // h2 refuses both and closes the connection.
            self.state = State::PassThrough;
            return pass(output);
        }
        if !head.holds_block() {
            if self.block.is_some() {
                return self.end_connection(head.stream, output);
            }
            self.state = if head.length > 0 { State::Payload(head.length) } else { State::Frame };
            return pass(output);
        }
        let payload = frame.get(FRAME_HEAD_BYTES..).unwrap_or_default();
        match self.decode_part(head, payload) {
            Err(Broken) => self.end_connection(head.stream, output),
            Ok(None) => output.drop_input(),
            Ok(Some(block)) => match self.replacement(&block) {
                Some(new) => write_block(&block, &new, output),
                None => pass(output),
            },
        }
        if self.block.is_none() {
            self.fields.clear();
        }
    }

    /// Decodes a part of a header block. Returns the block if it ends with this part.
    fn decode_part(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Block>, Broken> {
        let (mut block, part) = match (head.kind, self.block.take()) {
            (HEADERS, None) => {
                let (part, dependency) = fragment(head, payload).ok_or(Broken)?;
                let block = Block {
                    stream: head.stream,
                    ends_stream: head.has(END_STREAM),
                    at_start: true,
                    depends_on_itself: dependency == Some(head.stream),
                    frames: 0,
                    undecoded: Vec::new(),
                };
                (block, part)
            }
            (CONTINUATION, Some(block)) if block.stream == head.stream => (block, payload),
            _ => return Err(Broken),
        };
        block.frames += 1;
        if block.frames > MAX_BLOCK_FRAMES {
            return Err(Broken);
        }
        let ends = head.has(END_HEADERS);
        if block.undecoded.is_empty() {
            let read = self.decode(part, &mut block)?;
            block.undecoded = part.get(read..).unwrap_or_default().to_vec();
        } else {
            let mut undecoded = std::mem::take(&mut block.undecoded);
            undecoded.reserve_exact(part.len());
            undecoded.extend_from_slice(part);
            let read = self.decode(&undecoded, &mut block)?;
            undecoded.drain(..read);
            undecoded.shrink_to_fit();
            block.undecoded = undecoded;
        }
        if ends {
            let is_whole = block.undecoded.is_empty() && !self.decoder.is_inside_field();
            return is_whole.then_some(Some(block)).ok_or(Broken);
        }
        // The original frames before the last are not kept, so the block must be rewritten.
        self.rewrites = true;
        self.block = Some(block);
        Ok(None)
    }

    fn decode(&mut self, bytes: &[u8], block: &mut Block) -> Result<usize, Broken> {
        let first = &mut block.at_start;
        self.decoder.read(bytes, &mut self.fields, first).map_err(|_| Broken)
    }

    /// Returns the block that replaces this one, or `None` if it passes unchanged.
    fn replacement(&mut self, block: &Block) -> Option<Vec<u8>> {
        let opens = block.stream % 2 == 1 && block.stream > self.last_stream;
        let new = if opens {
            self.last_stream = block.stream;
            match check_head(&self.fields, block.ends_stream) {
                TargetDecision::Refuse(problem) => Some(write_replacement(&self.fields, problem)),
                _ if block.depends_on_itself => {
                    Some(write_replacement(&self.fields, HeadProblem::Malformed))
                }
                TargetDecision::Keep => None,
                TargetDecision::Replace(path) => Some(write(&self.fields, Some(&path))),
            }
        } else {
            // Trailers. The service notices a reset stream when it reads the body.
            (!are_trailers(&self.fields)).then(write_malformed)
        };
        self.rewrites |= new.is_some();
        new.or_else(|| self.rewrites.then(|| write(&self.fields, None)))
    }

    /// Makes h2 close the connection with GOAWAY, with a block that refers to the invalid table entry 0.
    fn end_connection(&mut self, stream: u32, output: &mut Output<'_>) {
        let (kind, flags) = (HEADERS, END_HEADERS | END_STREAM);
        let head = FrameHead { length: 1, kind, flags, stream: stream.max(1) };
        output.put(&head.write());
        output.put(&[0x80]);
        (self.state, self.block) = (State::Broken, None);
        self.held = Vec::new();
    }
}

/// Returns the number of bytes of a frame that must be complete: the whole frame if it has a header block, else only
/// its header.
fn needed_bytes(bytes: &[u8]) -> Option<usize> {
    let head = FrameHead::read(bytes)?;
    let payload =
        if head.holds_block() && head.length <= MAX_FRAME_BYTES { head.length } else { 0 };
    Some(FRAME_HEAD_BYTES + payload)
}

/// Returns the header block fragment of a HEADERS frame and the stream that it depends on (RFC 9113, section 6.2).
fn fragment(head: FrameHead, mut payload: &[u8]) -> Option<(&[u8], Option<u32>)> {
    let mut padding = 0;
    if head.has(PADDED) {
        let (length, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(*length), rest);
    }
    let mut dependency = None;
    if head.has(PRIORITY) {
        let ([d3, d2, d1, d0, _], rest) = payload.split_first_chunk()?;
        dependency = Some(u32::from_be_bytes([d3 & 0x7f, *d2, *d1, *d0]));
        payload = rest;
    }
    let length = payload.len().checked_sub(padding)?;
    Some((payload.get(..length)?, dependency))
}

/// Writes a header block as a HEADERS frame and CONTINUATION frames.
fn write_block(block: &Block, new: &[u8], output: &mut Output<'_>) {
    let mut parts = new.chunks(MAX_FRAME_BYTES).peekable();
    let mut kind = HEADERS;
    let mut flags = if block.ends_stream { END_STREAM } else { 0 };
    loop {
        let part = parts.next().unwrap_or_default();
        if parts.peek().is_none() {
            flags |= END_HEADERS;
        }
        let head = FrameHead { length: part.len(), kind, flags, stream: block.stream };
        output.put(&head.write());
        output.put(part);
        if parts.peek().is_none() {
            return;
        }
        (kind, flags) = (CONTINUATION, 0);
    }
}

#[cfg(test)]
mod tests;
