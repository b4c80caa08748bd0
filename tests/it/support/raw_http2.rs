//! A raw HTTP/2 client for requests that no client library sends.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The time limit of a response.
const TIMEOUT: Duration = Duration::from_secs(15);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The largest payload of a frame.
const FRAME_BYTES: usize = 16 * 1024;

/// The response on a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Http2Answer {
    /// The first byte of the header block: the status, if it is in the static table.
    status: Option<u8>,
    pub(crate) body: String,
    pub(crate) reset: bool,
}

impl Http2Answer {
    /// Returns whether the status is 200 (RFC 7541, appendix A).
    pub(crate) fn is_ok(&self) -> bool {
        self.status == Some(0x88)
    }

    /// Asserts status and reason of a problem response, and returns the problem.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, reason: &str) -> Value {
        assert!(!self.reset, "{self:?}");
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!((&problem["status"], &problem["reason"]), (&status.into(), &reason.into()));
        assert!(!problem["request_id"].as_str().unwrap().is_empty());
        problem
    }
}

/// Returns the fields of a plain request.
pub(crate) fn get<'a>(path: &'a [u8], more: &[(&'a str, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
    let pseudo: [(&str, &[u8]); 4] =
        [(":method", b"GET"), (":scheme", b"http"), (":authority", b"gateway"), (":path", path)];
    [&pseudo[..], more].concat()
}

/// Sends each request on its own stream of one connection, and returns the responses in the same order.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    requests: &[Vec<(&str, &[u8])>],
) -> Vec<Http2Answer> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, b""));
    for (id, fields) in (1..).step_by(2).zip(requests) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name.as_bytes(), value] {
                length(text.len(), &mut block);
                block.extend(text);
            }
        }
        let mut parts = block.chunks(FRAME_BYTES).peekable();
        let (mut kind, mut flags) = (HEADERS, END_STREAM);
        while let Some(part) = parts.next() {
            let end = if parts.peek().is_none() { END_HEADERS } else { 0 };
            bytes.extend(frame(kind, flags | end, id, part));
            (kind, flags) = (CONTINUATION, 0);
        }
    }
    stream.write_all(&bytes).await.unwrap();
    let reading = answers(&mut stream, requests.len());
    tokio::time::timeout(TIMEOUT, reading).await.expect("no response in time")
}

async fn answers(stream: &mut (impl AsyncRead + Unpin), count: usize) -> Vec<Http2Answer> {
    let mut answers = vec![Http2Answer::default(); count];
    let mut ended = 0;
    while ended < count {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("the connection ends before the answers");
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l2, l1, l0]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        assert_ne!(kind, GO_AWAY, "the connection is ended");
        let id = u32::from_be_bytes([s3, s2, s1, s0]) as usize;
        let Some(answer) = id.checked_sub(1).and_then(|id| answers.get_mut(id / 2)) else {
            continue;
        };
        match kind {
            HEADERS => answer.status = answer.status.or(payload.first().copied()),
            DATA => answer.body.push_str(str::from_utf8(&payload).unwrap()),
            RST_STREAM => answer.reset = true,
            _ => continue,
        }
        ended += usize::from(kind == RST_STREAM || flags & END_STREAM != 0);
    }
    answers
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// Encodes the length of a string that is not compressed (RFC 7541, section 5.2).
fn length(length: usize, block: &mut Vec<u8>) {
    let Some(mut rest) = length.checked_sub(0x7f) else {
        block.push(u8::try_from(length).unwrap());
        return;
    };
    block.push(0x7f);
    while rest > 0x7f {
        block.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    block.push(u8::try_from(rest).unwrap());
}
