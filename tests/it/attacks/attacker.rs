//! The clients of an attacker: raw HTTP/2, from many loopback addresses.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout_at},
};

use crate::support::frames::{
    DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, head,
};

const CONTINUATION: u8 = 9;
const ACK: u8 = 1;

/// The initial window of a stream and of a connection (RFC 9113 section 6.9.2).
const FIRST_WINDOW: i64 = 65_535;

/// The largest payload of a frame.
const FRAME_BYTES: usize = 16 * 1024;

/// An incomplete request message.
#[derive(Clone)]
pub(crate) struct IncompleteMessage {
    pub(crate) path: &'static str,
    pub(crate) token: Option<String>,
    /// The declared length, of which one byte is never sent.
    pub(crate) bytes: usize,
}

/// Connects from `127.0.0.{host}`.
pub(crate) async fn connect_from(host: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Opens connections and sends nothing.
pub(crate) async fn silent(to: SocketAddr, from: &[u8], count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for host in from {
        for _ in 0..count {
            held.push(connect_from(*host, to).await);
        }
    }
    held
}

/// Returns the first bytes of a client.
pub(crate) fn preface() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, b"")].concat()
}

/// Returns the head of a call. A token is a literal of up to 16 KiB.
pub(crate) fn grpc_head(stream: u32, path: &str, token: Option<&str>, wait: &str) -> Vec<u8> {
    let mut bytes = head(
        stream,
        0,
        &[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "gateway"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", wait),
        ],
    );
    if let Some(token) = token {
        let value = format!("Bearer {token}");
        let mut field = vec![0, 13];
        field.extend(b"authorization");
        field.push(0x7f);
        let mut rest = value.len() - 0x7f;
        while rest > 0x7f {
            field.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        field.push(u8::try_from(rest).unwrap());
        field.extend(value.bytes());
        bytes.extend(field.iter());
        let length = u32::try_from(bytes.len() - 9).unwrap().to_be_bytes();
        bytes[..3].copy_from_slice(&length[1..]);
    }
    bytes
}

/// Returns an incomplete header block with `length` bytes of literals.
pub(crate) fn half_block(stream: u32, length: usize) -> Vec<u8> {
    let mut field = vec![0, 1, b'x', 100];
    field.extend([b'y'; 100]);
    let block: Vec<u8> = field.iter().copied().cycle().take(length).collect();
    in_frames(stream, &block)
}

/// Returns an incomplete header block with references to one entry of the static table (`accept-encoding: gzip,
/// deflate`).
pub(crate) fn half_block_of_references(stream: u32, count: usize) -> Vec<u8> {
    in_frames(stream, &vec![0x90; count])
}

fn in_frames(stream: u32, block: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut kind = HEADERS;
    for part in block.chunks(FRAME_BYTES) {
        bytes.extend(frame(kind, 0, stream, part));
        kind = CONTINUATION;
    }
    bytes
}

/// An HTTP/2 connection that respects flow control.
struct Connection {
    stream: TcpStream,
    window: i64,
    windows: HashMap<u32, i64>,
    first_window: i64,
}

/// The kind of a received frame.
enum Received {
    Frame { kind: u8, stream: u32 },
    End,
}

impl Connection {
    async fn open(to: SocketAddr, from: u8) -> Self {
        let mut stream = connect_from(from, to).await;
        let _ = stream.write_all(&preface()).await;
        let windows = HashMap::new();
        Self { stream, window: FIRST_WINDOW, windows, first_window: FIRST_WINDOW }
    }

    /// Reads a frame, and updates the windows.
    async fn read(&mut self) -> Received {
        let mut begin = [0; 9];
        if self.stream.read_exact(&mut begin).await.is_err() {
            return Received::End;
        }
        let [_, high, low, kind, flags, stream @ ..] = begin;
        let stream = u32::from_be_bytes(stream);
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        if self.stream.read_exact(&mut payload).await.is_err() {
            return Received::End;
        }
        match kind {
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if setting[1] == 4 {
                        let window = u32::from_be_bytes(setting[2..].try_into().unwrap()).into();
                        let more = window - self.first_window;
                        self.first_window = window;
                        self.windows.values_mut().for_each(|window| *window += more);
                    }
                }
                let _ = self.stream.write_all(&frame(SETTINGS, ACK, 0, b"")).await;
            }
            PING if flags & ACK == 0 => {
                let _ = self.stream.write_all(&frame(PING, ACK, 0, &payload)).await;
            }
            WINDOW_UPDATE => {
                let more = i64::from(u32::from_be_bytes(payload.try_into().unwrap()));
                if stream == 0 {
                    self.window += more;
                } else if let Some(window) = self.windows.get_mut(&stream) {
                    *window += more;
                }
            }
            GOAWAY => return Received::End,
            _ => {}
        }
        Received::Frame { kind, stream }
    }
}

/// Opens streams on one connection and sends on each as much of the message as the windows allow. Returns when the
/// connection ends.
pub(crate) async fn fill(to: SocketAddr, from: u8, streams: u32, half: IncompleteMessage) {
    let mut connection = Connection::open(to, from).await;
    let mut left = HashMap::new();
    for number in 0..streams {
        let id = 2 * number + 1;
        let head = grpc_head(id, half.path, half.token.as_deref(), "99999999H");
        let mut prefix = vec![0];
        prefix.extend(u32::try_from(half.bytes).unwrap().to_be_bytes());
        connection.windows.insert(id, connection.first_window);
        left.insert(id, half.bytes - 1);
        if connection.stream.write_all(&head).await.is_err() {
            return;
        }
        if !send(&mut connection, id, &prefix).await {
            return;
        }
    }
    let block = vec![b'x'; FRAME_BYTES];
    loop {
        for (id, left) in &mut left {
            while *left > 0 {
                let window = connection.windows.get(id).copied().unwrap_or_default();
                let room = usize::try_from(window.min(connection.window)).unwrap_or_default();
                let part = room.min(*left).min(FRAME_BYTES);
                if part == 0 {
                    break;
                }
                if !send(&mut connection, *id, &block[..part]).await {
                    return;
                }
                *left -= part;
            }
        }
        match connection.read().await {
            Received::End => return,
            Received::Frame { kind: RST_STREAM, stream, .. } => {
                left.remove(&stream);
            }
            Received::Frame { .. } => {}
        }
    }
}

async fn send(connection: &mut Connection, id: u32, part: &[u8]) -> bool {
    let length = i64::try_from(part.len()).unwrap();
    connection.window -= length;
    if let Some(window) = connection.windows.get_mut(&id) {
        *window -= length;
    }
    connection.stream.write_all(&frame(DATA, 0, id, part)).await.is_ok()
}

/// Streams of one connection with endless responses.
pub(crate) struct Streams(Connection);

/// Opens calls without message content.
pub(crate) async fn open_streams(to: SocketAddr, from: u8, path: &str, count: u32) -> Streams {
    let mut connection = Connection::open(to, from).await;
    let mut bytes = Vec::new();
    for number in 0..count {
        let id = 2 * number + 1;
        bytes.extend(grpc_head(id, path, None, "99999999H"));
        bytes.extend(frame(DATA, END_STREAM, id, &[0; 5]));
    }
    let _ = connection.stream.write_all(&bytes).await;
    Streams(connection)
}

impl Streams {
    /// Counts the messages received within this time.
    pub(crate) async fn answered_within(&mut self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut messages = 0;
        while let Ok(Received::Frame { kind, .. }) = timeout_at(end, self.0.read()).await {
            messages += usize::from(kind == DATA);
        }
        messages
    }

    /// Returns whether the connection ends within this time.
    pub(crate) async fn ends_within(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            match timeout_at(end, self.0.read()).await {
                Ok(Received::End) => return true,
                Ok(Received::Frame { .. }) => {}
                Err(_) => return false,
            }
        }
    }
}

/// Sends requests on streams with a zero window, so that no response byte is sent.
pub(crate) async fn unread_answers(to: SocketAddr, from: u8, path: &'static str, count: u32) {
    let mut stream = connect_from(from, to).await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0.
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let mut bytes = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat();
    for number in 0..count {
        let id = 2 * number + 1;
        if path.starts_with("/grpc") {
            bytes.extend(grpc_head(id, path, None, "9H"));
            bytes.extend(frame(DATA, END_STREAM, id, &[0; 5]));
        } else {
            let fields =
                [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "x")];
            bytes.extend(head(id, END_STREAM, &fields));
        }
    }
    let _ = stream.write_all(&bytes).await;
    let mut sink = [0; 4096];
    while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
}

/// Sends bodies on streams of one connection, without their ends.
pub(crate) async fn half_bodies(
    to: SocketAddr,
    from: u8,
    path: &'static str,
    streams: u32,
    bytes: usize,
) {
    let mut connection = Connection::open(to, from).await;
    for number in 0..streams {
        let id = 2 * number + 1;
        connection.windows.insert(id, connection.first_window);
        let fields =
            [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")];
        let _ = connection.stream.write_all(&head(id, 0, &fields)).await;
    }
    let block = vec![b'x'; FRAME_BYTES];
    let mut left: HashMap<u32, usize> =
        (0..streams).map(|number| (2 * number + 1, bytes)).collect();
    loop {
        for (id, left) in &mut left {
            let window = connection.windows.get(id).copied().unwrap_or_default();
            let room = usize::try_from(window.min(connection.window)).unwrap_or_default();
            let part = room.min(*left).min(FRAME_BYTES);
            if part > 0 && !send(&mut connection, *id, &block[..part]).await {
                return;
            }
            *left -= part;
        }
        if matches!(connection.read().await, Received::End) {
            return;
        }
    }
}
