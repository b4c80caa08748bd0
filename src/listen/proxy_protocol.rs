//! Headers of the PROXY protocol, in which a TCP proxy names the address of its client (versions 1 and 2 of haproxy's
//! proxy-protocol.txt). The header is the first data on a connection, before TLS.
//!
//! Only headers from trusted proxies are accepted. Each connection of a trusted proxy must begin with a header: if the
//! header were optional, a client could send a forged one.

use std::{io, net::SocketAddr, time::Duration};

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::TcpStream,
    time::timeout,
};

/// The time limit for the whole header. A proxy sends it in its first packet.
pub(super) const HEADER_TIME: Duration = Duration::from_secs(5);

/// The first bytes of a header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The first bytes of a header of version 1. No header is shorter than `SIGNATURE`.
const TEXT: &[u8] = b"PROXY ";

/// The longest header of version 1, with its line break.
const MAX_TEXT_BYTES: usize = 107;

/// The longest accepted header of version 2. Addresses take 36 bytes; the rest is for extensions such as a proxy's
/// certificate, which are ignored.
const MAX_BINARY_BYTES: usize = 4096;

/// The reason why a connection is rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyHeaderError {
    #[error(
        "received a PROXY protocol header from an address that is not in trusted_proxies; if it is your proxy, add its \
         network there"
    )]
    Untrusted,
    #[error(
        "a trusted proxy sent no PROXY protocol header; configure the proxy to send one, or set proxy_protocol = false \
         for this listener"
    )]
    Missing,
    #[error("the PROXY protocol header was not complete within {} s", HEADER_TIME.as_secs())]
    Late,
    #[error("the PROXY protocol header is longer than {MAX_BINARY_BYTES} bytes")]
    TooLong,
    #[error("the PROXY protocol header is malformed, or is not for a TCP connection")]
    Invalid,
    #[error("the proxy closed the connection before its PROXY protocol header was complete")]
    Gone(#[from] io::Error),
}

/// Reads the header at the beginning of a trusted proxy's connection, and no byte after it. Returns the client's
/// address, or the proxy's own address for a connection without a client, such as a health check.
///
/// # Errors
/// If no complete and valid header arrives in time.
pub(super) async fn read_client(
    stream: &mut (impl AsyncRead + Unpin),
    proxy: SocketAddr,
) -> Result<SocketAddr, ProxyHeaderError> {
    let header = timeout(HEADER_TIME, read_header(stream));
    let header = header.await.map_err(|_| ProxyHeaderError::Late)??;
    let read = ProxyHeader::parse(&header, ParseConfig::default());
    let (header, length) = read.map_err(|_| ProxyHeaderError::Invalid)?;
    match header.proxied_address() {
        // The command LOCAL, or an address family other than IPv4 and IPv6.
        None => Ok(proxy),
        Some(address) if address.protocol == Protocol::Stream && length > 0 => Ok(address.source),
        Some(_) => Err(ProxyHeaderError::Invalid),
    }
}

async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, ProxyHeaderError> {
    let mut header = vec![0; SIGNATURE.len()];
    read_prefix(stream, &mut header).await?;
    if header == SIGNATURE {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        header.extend_from_slice(&rest);
        let [_, _, high, low] = rest;
        let (length, have) = (usize::from(u16::from_be_bytes([high, low])), header.len());
        if have + length > MAX_BINARY_BYTES {
            return Err(ProxyHeaderError::TooLong);
        }
        header.resize(have + length, 0);
        stream.read_exact(header.get_mut(have..).unwrap_or_default()).await?;
        return Ok(header);
    }
    while !header.ends_with(b"\n") {
        if header.len() >= MAX_TEXT_BYTES {
            return Err(ProxyHeaderError::Invalid);
        }
        // Reads byte by byte, because the bytes after the header belong to the next protocol.
        header.push(stream.read_u8().await?);
    }
    Ok(header)
}

/// Fills `begin`, and fails as soon as the bytes cannot be the beginning of a header.
async fn read_prefix(
    stream: &mut (impl AsyncRead + Unpin),
    begin: &mut [u8],
) -> Result<(), ProxyHeaderError> {
    let mut read = 0;
    while let Some(room) = begin.get_mut(read..).filter(|room| !room.is_empty()) {
        let more = stream.read(room).await?;
        if more == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        read += more;
        let have = begin.get(..read).unwrap_or_default();
        let shorter = TEXT.get(..read).unwrap_or(TEXT);
        if !SIGNATURE.starts_with(have) && !have.starts_with(shorter) {
            return Err(ProxyHeaderError::Missing);
        }
    }
    Ok(())
}

/// Rejects a connection that begins with a header although its peer is not a trusted proxy. Consumes no bytes.
///
/// # Errors
/// If there is a header. A peer that sends nothing passes: the next reader has its own time limit.
pub(super) async fn reject_header(stream: &TcpStream) -> Result<(), ProxyHeaderError> {
    let mut begin = [0; SIGNATURE.len()];
    let peeked = timeout(HEADER_TIME, stream.peek(&mut begin));
    let Ok(length) = peeked.await else { return Ok(()) };
    let length = length?;
    let begin = begin.get(..length).unwrap_or_default();
    // An incomplete header is rejected by the next reader.
    if begin == SIGNATURE || begin.starts_with(TEXT) {
        return Err(ProxyHeaderError::Untrusted);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proxy_header::ProxiedAddress;
    use tokio::{
        io::{AsyncWriteExt as _, DuplexStream, duplex},
        time::Instant,
    };

    use super::*;

    const PROXY: &str = "10.0.0.1:4711";
    const CLIENT: &str = "192.0.2.7:50000";
    const CLIENT_V6: &str = "[2001:db8::7]:50000";

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn binary(source: &str) -> Vec<u8> {
        let destination = if source.starts_with('[') { "[::1]:443" } else { "10.0.0.2:443" };
        let header = ProxiedAddress::stream(address(source), address(destination));
        let mut bytes = vec![0; 256];
        let length = ProxyHeader::with_address(header).encode_to_slice_v2(&mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    }

    /// A header of version 2 with this command and family, and these bytes behind its length.
    fn raw(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, rest].concat()
    }

    /// Returns the result for these bytes, and the bytes left after the header.
    async fn read(bytes: &[u8]) -> (Result<SocketAddr, ProxyHeaderError>, Vec<u8>) {
        let (mut ours, mut theirs): (DuplexStream, DuplexStream) = duplex(16 * 1024);
        theirs.write_all(bytes).await.unwrap();
        drop(theirs);
        let client = read_client(&mut ours, address(PROXY)).await;
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        (client, rest)
    }

    #[tokio::test]
    async fn reads_headers_of_both_versions_and_no_byte_after_them() {
        let text = b"PROXY TCP4 192.0.2.7 10.0.0.2 50000 443\r\n".to_vec();
        let text_v6 = b"PROXY TCP6 2001:db8::7 ::1 50000 443\r\n".to_vec();
        let tlvs = [&[192, 0, 2, 7, 10, 0, 0, 2, 0xc3, 0x50, 1, 0xbb][..], &[4, 0, 3, 0, 0, 0]];
        for (header, client) in [
            (text, CLIENT),
            (text_v6, CLIENT_V6),
            (binary(CLIENT), CLIENT),
            (binary(CLIENT_V6), CLIENT_V6),
            (raw(1, 0x11, &tlvs.concat()), CLIENT),
        ] {
            let (found, rest) = read(&[&header[..], b"\x16\x03PROXY "].concat()).await;
            assert_eq!(found.unwrap(), address(client), "{header:?}");
            assert_eq!(rest, b"\x16\x03PROXY ");
        }
    }

    #[tokio::test]
    async fn a_connection_without_a_client_has_the_proxys_address() {
        for header in [
            raw(0, 0, b""),
            raw(0, 0x11, &[192, 0, 2, 7, 10, 0, 0, 2, 0xc3, 0x50, 1, 0xbb]),
            raw(1, 0, b""),
            raw(1, 0x31, &[b'x'; 216]),
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN 192.0.2.7 10.0.0.2 50000 443\r\n".to_vec(),
        ] {
            assert_eq!(read(&header).await.0.unwrap(), address(PROXY), "{header:?}");
        }
    }

    #[tokio::test]
    async fn rejects_anything_that_is_not_a_header() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
            b"P",
            b"\r\n\r\nGET / HTTP/1.1\r\n",
            b"proxy TCP4 192.0.2.7 10.0.0.2 50000 443\r\n",
        ] {
            let refused = read(bytes).await.0.unwrap_err();
            let early = bytes.len() < TEXT.len();
            let gone = matches!(refused, ProxyHeaderError::Gone(_));
            let missing = matches!(refused, ProxyHeaderError::Missing);
            assert!(if early { gone } else { missing }, "{bytes:?}: {refused}");
        }
        let long = format!("PROXY TCP4 {} 10.0.0.2 1 2\r\n", "1".repeat(200));
        for bytes in [
            &b"PROXY TCP4 192.0.2.7 10.0.0.2 50000\r\n"[..],
            b"PROXY TCP4 192.0.2.256 10.0.0.2 50000 443\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 50000 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.2 50000 65536\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.2 50000 443\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.2 50000 443\r\n",
            long.as_bytes(),
            // UDP, an unknown command, an unknown version, addresses that are cut off.
            &raw(1, 0x12, &[192, 0, 2, 7, 10, 0, 0, 2, 0xc3, 0x50, 1, 0xbb]),
            &raw(5, 0x11, &[192, 0, 2, 7, 10, 0, 0, 2, 0xc3, 0x50, 1, 0xbb]),
            &[&SIGNATURE[..], &[0x11, 0x11, 0, 0]].concat(),
            &raw(1, 0x11, &[192, 0, 2, 7]),
        ] {
            let refused = read(bytes).await.0.unwrap_err();
            assert!(matches!(refused, ProxyHeaderError::Invalid), "{bytes:?}: {refused}");
        }
        let refused = read(&raw(1, 0x11, &[0; 5000])).await.0.unwrap_err();
        assert!(matches!(refused, ProxyHeaderError::TooLong), "{refused}");
        for bytes in [&binary(CLIENT)[..20], b"PROXY TCP4 192", b""] {
            let refused = read(bytes).await.0.unwrap_err();
            assert!(matches!(refused, ProxyHeaderError::Gone(_)), "{bytes:?}: {refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn times_out_if_the_header_does_not_arrive() {
        for bytes in [&b""[..], b"PROXY TCP4 ", &binary(CLIENT)[..20]] {
            let (mut ours, mut theirs) = duplex(1024);
            theirs.write_all(bytes).await.unwrap();
            let begin = Instant::now();
            let refused = read_client(&mut ours, address(PROXY)).await.unwrap_err();
            assert!(matches!(refused, ProxyHeaderError::Late), "{bytes:?}: {refused}");
            assert_eq!(begin.elapsed().as_secs(), HEADER_TIME.as_secs());
        }
    }
}
