//! Filters the heads of requests before hyper reads them. hyper and h2 would refuse some heads by themselves, without a
//! request id and a log line. Such a head is corrected, or reaches the service as a [`HeadProblem`].
//!
//! - Characters in a target that clients send but `http::Uri` refuses are percent-encoded.
//! - `#` in a target becomes a problem; `http::Uri` would cut the target there.
//! - Heads that are too large or malformed become a problem, and bodies with an ambiguous length.
//!
//! All other bytes pass unchanged, most of them without a copy.
//!
//! An incomplete head is held in memory that grows as bytes arrive. Over HTTP/1.1 it is at most 32 KiB and one read.
//! Over HTTP/2 it is at most 96 KiB: a frame of 16 KiB, 48 KiB of a field, and 32 KiB of the fields before it. Only the
//! list of fields has spare capacity. The HPACK table has at most 4 KiB. All connections share one budget for these
//! bytes; a connection is closed if the budget is exhausted.
//!
//! A rewritten head may be much larger than the bytes that the client sent, because a reference to the HPACK table has
//! one byte. At most 64 KiB and one head wait for hyper. Further bytes of the client are processed after hyper has read
//! these.

mod chunked;
mod fields;
mod hpack;
mod http1;
mod http2;
mod limits;
mod output;
mod problem;
mod target;
#[cfg(any(test, fuzzing))]
mod test_server;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(fuzzing)]
pub(crate) use self::test_server::compare;
use self::{http1::Http1, http2::Http2, output::Output};
pub(super) use self::{limits::MAX_HEAD_BYTES, problem::HeadProblem};
use crate::listen::{
    HttpVersion, IntakeExhausted, Reservation, charge_read, delegate_writes, poll_read_turn,
};

/// The buffer capacity that is kept for the next rewritten head.
const MAX_KEPT_CAPACITY: usize = 4096;

/// The held bytes that are not charged, because they belong to the base cost of a connection.
const UNCHARGED_BYTES: usize = 2 * MAX_KEPT_CAPACITY;

/// A stream from which hyper reads only heads that it accepts.
pub(super) struct HeadFilter<S> {
    stream: S,
    protocol: HeadParser,
    /// Rewritten bytes for hyper, and the number of them that hyper has read.
    ready: Vec<u8>,
    taken: usize,
    /// Bytes of the client that are processed after hyper has read the ready ones.
    unprocessed: Vec<u8>,
    ended: bool,
    /// The memory charge of the held bytes.
    reservation: Reservation,
}

enum HeadParser {
    Http1(Http1),
    Http2(Box<Http2>),
}

impl HeadParser {
    /// Processes bytes of the client; an empty input is the end. Returns the number of processed bytes.
    fn pass(&mut self, input: &[u8], output: &mut Output<'_>) -> usize {
        match self {
            Self::Http1(heads) if input.is_empty() => heads.end(output),
            Self::Http2(heads) if input.is_empty() => heads.end(output),
            Self::Http1(heads) => heads.pass(input, output),
            Self::Http2(heads) => return heads.pass(input, output),
        }
        input.len()
    }

    fn has_refused(&self) -> bool {
        matches!(self, Self::Http1(heads) if heads.has_refused())
    }

    /// Returns the memory of incomplete heads in bytes.
    fn held_bytes(&self) -> usize {
        match self {
            Self::Http1(heads) => heads.held_bytes(),
            Self::Http2(heads) => heads.held_bytes(),
        }
    }
}

impl<S> HeadFilter<S> {
    /// Wraps a stream. `reservation` is the memory charge of incomplete heads.
    pub(super) fn new(stream: S, protocol: HttpVersion, reservation: Reservation) -> Self {
        let protocol = match protocol {
            HttpVersion::Http1 => HeadParser::Http1(Http1::new()),
            HttpVersion::Http2 => HeadParser::Http2(Box::new(Http2::new())),
        };
        let (ready, unprocessed) = (Vec::new(), Vec::new());
        Self { stream, protocol, ready, taken: 0, unprocessed, ended: false, reservation }
    }

    fn is_ready(&self) -> bool {
        self.taken < self.ready.len()
    }

    /// Copies ready bytes to the buffer. Returns their number.
    fn copy_ready(&mut self, buffer: &mut ReadBuf<'_>) -> usize {
        let rest = self.ready.get(self.taken..).unwrap_or_default();
        let fits = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..fits).unwrap_or_default());
        self.taken += fits;
        if self.taken == self.ready.len() {
            self.taken = 0;
            self.ready.clear();
            self.ready.shrink_to(MAX_KEPT_CAPACITY);
        }
        fits
    }

    /// Processes the bytes of a read; an empty input is the end. Returns the number of bytes that pass in place.
    fn process(&mut self, input: &[u8]) -> usize {
        let mut output = Output { kept: 0, in_place: true, ready: &mut self.ready };
        let used = self.protocol.pass(input, &mut output);
        let kept = output.kept;
        self.unprocessed.extend_from_slice(input.get(used..).unwrap_or_default());
        kept
    }

    /// Updates the memory charge of the held bytes.
    fn charge_held(&mut self) -> Result<(), IntakeExhausted> {
        let held = self.protocol.held_bytes() + self.ready.capacity() + self.unprocessed.capacity();
        self.reservation.resize(if held > UNCHARGED_BYTES { held } else { 0 })
    }

    /// Processes the remaining bytes of an earlier read.
    fn process_rest(&mut self) {
        let mut output = Output { kept: 0, in_place: false, ready: &mut self.ready };
        let used = self.protocol.pass(&self.unprocessed, &mut output);
        self.unprocessed.drain(..used);
        if self.unprocessed.is_empty() {
            self.unprocessed = Vec::new();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadFilter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.is_ready() {
                // These may be more bytes than the client has sent.
                ready!(poll_read_turn(context));
                let given = this.copy_ready(buffer);
                charge_read(given);
                return Poll::Ready(Ok(()));
            }
            if this.protocol.has_refused() {
                // The bytes after a refused head are not parsed. hyper closes the connection after the answer, also if
                // the client has closed its side, and the shutdown discards the rest.
                return Poll::Pending;
            }
            if !this.unprocessed.is_empty() {
                this.process_rest();
                continue;
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            let input = buffer.filled().get(before..).unwrap_or_default();
            this.ended = input.is_empty();
            let kept = this.process(input);
            buffer.set_filled(before + kept);
            this.charge_held().map_err(io::Error::other)?;
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadFilter<S> {
    delegate_writes!();

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Adds the problem of a refused request to its extensions.
pub(super) fn find_problem<B>(mut request: Request<B>) -> Request<B> {
    if let Some(problem) = HeadProblem::from_uri(request.uri()) {
        *request.uri_mut() = axum::http::Uri::default();
        request.extensions_mut().insert(problem);
    }
    request
}

#[cfg(test)]
mod tests;
