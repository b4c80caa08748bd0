//! What all listeners share, whatever is spoken on them: letting connections in, TLS with files that are read again,
//! the id of a request.
//!
//! [`Acceptor`] hands over each [`Connection`] whose peer has begun to speak, [`Workers`] are the threads that serve
//! them; what it says is read by `grpc` and `http`.

mod accept;
mod cancelled;
mod connection;
mod connection_limiter;
mod forwarded;
mod intake_budget;
mod places;
mod proxy_protocol;
mod request_id;
mod socket;
mod tls;
mod undecided;
mod waiting_room;
mod workers;

use std::any::Any;

pub(crate) use self::cancelled::charge;
pub use self::{
    accept::Acceptor,
    cancelled::{MAX_CANCELLED_STREAMS, MAX_STREAM_ERRORS},
    connection::{ClientSlot, Connection, Protocol},
    forwarded::{ForwardedTwice, FrontProxies, client_address},
    intake_budget::{IntakeBudget, IntakeExhausted, Reservation},
    places::{Place, Places},
    request_id::{REQUEST_ID, RequestIds, trace_id},
    socket::{bound_socket, why_not_bound},
    tls::{ServerTls, TlsFiles, TlsProblem},
    undecided::Undecided,
    workers::{Incoming, Seat, WorkerEnded, Workers, worker_count},
};

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/2 and nothing else.
    Http2,
    /// HTTP/2 or HTTP/1.1, as the client likes.
    Http2OrHttp1,
}

/// The names of both protocols in a TLS handshake (RFC 7301).
const ALPN_HTTP_2: &[u8] = b"h2";
const ALPN_HTTP_1: &[u8] = b"http/1.1";

impl Speaks {
    /// What a client is offered, the best first.
    fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http2 => vec![ALPN_HTTP_2.to_vec()],
            Self::Http2OrHttp1 => vec![ALPN_HTTP_2.to_vec(), ALPN_HTTP_1.to_vec()],
        }
    }
}

/// What a panic said, if it said it in text. Panics are our own words, never a caller's or SuperOffice's.
#[must_use]
pub fn text_of_panic(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without text")
}
