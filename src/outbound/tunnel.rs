//! A tunnel through an HTTP proxy: `CONNECT` (RFC 9110 section 9.3.6).

use std::io;

use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::{fault::error_kind, proxy::ProxyFault};

/// The maximum size of the head of a response to `CONNECT`.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The maximum number of headers in it.
const MAX_HEADERS: usize = 100;

/// Asks the proxy at the other end of `stream` to connect to a host. After that, the stream leads to the host.
pub(super) async fn establish<S>(
    stream: &mut S,
    host: &str,
    port: u16,
    authorization: Option<&HeaderValue>,
) -> Result<(), ProxyFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&request(host, port, authorization)).await.map_err(|error| broken(&error))?;
    stream.flush().await.map_err(|error| broken(&error))?;
    let mut head = Vec::new();
    loop {
        // A proxy that closes the connection after an incomplete head is not an HTTP proxy.
        if stream.read_buf(&mut head).await.map_err(|error| broken(&error))? == 0 {
            return Err(if head.is_empty() { ProxyFault::Closed } else { ProxyFault::NotAProxy });
        }
        while let Some((answer, length)) = parse(&head)? {
            head.drain(..length);
            if answer.status.is_informational() {
                continue;
            }
            return answer.outcome(!head.is_empty(), authorization.is_some());
        }
        if head.len() > MAX_HEAD_BYTES {
            return Err(ProxyFault::NotAProxy);
        }
    }
}

fn request(host: &str, port: u16, authorization: Option<&HeaderValue>) -> Zeroizing<Vec<u8>> {
    let start = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    let value = authorization.map(HeaderValue::as_bytes).unwrap_or_default();
    // Allocates once: a buffer that grows would leave copies of the password in memory.
    let mut request = Zeroizing::new(Vec::with_capacity(start.len() + value.len() + 64));
    request.extend_from_slice(start.as_bytes());
    if !value.is_empty() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

/// The head of a response to `CONNECT`.
struct Answer {
    status: StatusCode,
    takes_basic: bool,
}

/// Returns the head and its length, once it is complete.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>, ProxyFault> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes).map_err(|_| ProxyFault::NotAProxy)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(ProxyFault::NotAProxy)?;
    let challenges = response.headers.iter();
    let challenges =
        challenges.filter(|header| header.name.eq_ignore_ascii_case("proxy-authenticate"));
    let mut schemes = challenges.map(|header| header.value.to_ascii_lowercase()).peekable();
    // A response without a challenge is treated as Basic. A field may list several challenges.
    let takes_basic = schemes.peek().is_none()
        || schemes.any(|value| value.windows(5).any(|scheme| scheme == b"basic"));
    Ok(Some((Answer { status, takes_basic }, length)))
}

impl Answer {
    /// Returns the result of `CONNECT`. `more`: bytes follow the head; they cannot come from the host, because in TLS
    /// the client speaks first.
    fn outcome(&self, more: bool, credential_sent: bool) -> Result<(), ProxyFault> {
        match self.status {
            status if status.is_success() && more => Err(ProxyFault::NotAProxy),
            status if status.is_success() => Ok(()),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(match credential_sent {
                _ if !self.takes_basic => ProxyFault::OtherScheme,
                true => ProxyFault::CredentialRefused,
                false => ProxyFault::CredentialMissing,
            }),
            StatusCode::FORBIDDEN => Err(ProxyFault::Denied),
            // A web server, which does not support CONNECT or treats it as a request of its own.
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND => {
                Err(ProxyFault::NotAProxy)
            }
            status if status.is_redirection() => Err(ProxyFault::NotAProxy),
            status => Err(ProxyFault::Status(status)),
        }
    }
}

fn broken(error: &io::Error) -> ProxyFault {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => ProxyFault::Closed,
        _ => ProxyFault::Broken(error_kind(error)),
    }
}
