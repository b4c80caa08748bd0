//! A raw HTTP/2 client (RFC 9113): the test writes every frame, and sees every frame of the
//! gateway.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A received frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Returns the error code of `RST_STREAM` or `GOAWAY`.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// Returns the bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Returns the head of a request, each field as a literal (RFC 7541 section 6.2.2).
pub(crate) fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap());
            block.extend(text.bytes());
        }
    }
    frame(HEADERS, flags | END_HEADERS, stream, &block)
}

/// Returns a frame that cancels a stream.
pub(crate) fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// The client.
pub(crate) struct RawHttp2Client(pub(crate) TcpStream);

impl RawHttp2Client {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        let mut frames = Self(TcpStream::connect(to).await.unwrap());
        let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, b"")];
        frames.send(&preface.concat()).await;
        frames
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Returns the next frame that is not about the connection itself; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        timeout(TIMEOUT, self.read()).await.expect("no frame comes")
    }

    async fn read(&mut self) -> Option<Frame> {
        loop {
            let mut begin = [0; 9];
            self.0.read_exact(&mut begin).await.ok()?;
            let [_, high, low, kind, flags, stream @ ..] = begin;
            let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
            self.0.read_exact(&mut payload).await.ok()?;
            match kind {
                SETTINGS | PING if flags & ACK == 0 => {
                    let pong = if kind == PING { &payload[..] } else { b"" };
                    let _ = self.0.write_all(&frame(kind, ACK, 0, pong)).await;
                }
                SETTINGS | WINDOW_UPDATE => {}
                _ => {
                    return Some(Frame {
                        kind,
                        flags,
                        stream: u32::from_be_bytes(stream),
                        payload,
                    });
                }
            }
        }
    }

    /// Returns the next frame of a stream. The connection must not end before.
    pub(crate) async fn next_on_stream(&mut self, stream: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection ended");
            assert_ne!(frame.kind, GOAWAY, "{}", frame.code());
            if frame.stream == stream {
                return frame;
            }
        }
    }
}

/// Reads until the gateway ends the connection or answers a `PING`. Returns the code of `GOAWAY`,
/// if any.
pub(crate) async fn until_goaway(reader: &mut (impl AsyncRead + Unpin)) -> Option<u32> {
    let mut begin = [0; 9];
    let reading = async {
        while reader.read_exact(&mut begin).await.is_ok() {
            let [_, high, low, kind, flags, ..] = begin;
            let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
            reader.read_exact(&mut payload).await.ok()?;
            match kind {
                GOAWAY => {
                    return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                }
                PING if flags & ACK != 0 => return None,
                _ => {}
            }
        }
        None
    };
    timeout(4 * TIMEOUT, reading)
        .await
        .expect("neither a PING answer nor the end of the connection")
}
