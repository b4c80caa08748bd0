//! Parts that all listeners share: the accept loop, reloadable TLS files, connection limits and request ids.
//!
//! [`Acceptor`] passes on each [`Connection`] after its first bytes. [`Workers`] are the threads that serve them.

mod accept;
mod cancelled;
mod connection;
mod connection_limiter;
mod delegate;
mod forwarded;
mod intake_budget;
mod proxy_protocol;
mod request_charge;
mod request_id;
mod socket;
mod tls;
mod waiting_room;
mod workers;

use std::{any::Any, time::Duration};

pub use self::{
    accept::Acceptor,
    cancelled::{MAX_CANCELLED_STREAMS, MAX_STREAM_ERRORS},
    connection::{ClientSlot, Connection, HttpVersion},
    forwarded::{ConflictingForwardedHeaders, FrontProxies, client_address},
    intake_budget::{IntakeBudget, IntakeExhausted, Reservation},
    request_charge::RequestCharge,
    request_id::{REQUEST_ID, RequestIdGenerator, trace_id},
    socket::{bind_error_advice, bound_socket},
    tls::{ServerTls, TlsFiles, TlsProblem},
    workers::{ConnectionCounter, Incoming, WorkerEnded, Workers, worker_count},
};
pub(crate) use self::{
    cancelled::{charge_read, poll_read_turn},
    delegate::delegate_writes,
};

/// The HTTP versions that a listener accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 and nothing else.
    Http2,
    /// HTTP/2 or HTTP/1.1; the client chooses.
    Http2OrHttp1,
}

/// The time limit from the TCP connection to the first bytes of HTTP.
const OPENING_TIME: Duration = Duration::from_secs(10);

/// The duration from which a successful call is logged at `info` although the audit trail has it. A call that is
/// answered from memory takes about a millisecond.
pub const SLOW_CALL: Duration = Duration::from_millis(100);

/// The ALPN names of both versions (RFC 7301).
const ALPN_HTTP_2: &[u8] = b"h2";
const ALPN_HTTP_1: &[u8] = b"http/1.1";

impl Protocol {
    /// Returns the ALPN names that the listener offers, the preferred one first.
    fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http2 => vec![ALPN_HTTP_2.to_vec()],
            Self::Http2OrHttp1 => vec![ALPN_HTTP_2.to_vec(), ALPN_HTTP_1.to_vec()],
        }
    }
}

/// Returns the message of a panic, if it is text. Panic messages are written in this program and hold no input.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without text")
}
