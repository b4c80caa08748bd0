//! The heads of requests, before hyper reads them: everything that hyper or h2 would refuse by itself, without a request
//! id and a log line, either becomes acceptable or reaches the service as a [`HeadProblem`].
//!
//! - Characters of a target that `http::Uri` refuses although clients send them are percent-encoded.
//! - `#` in a target, which `http::Uri` would cut off with what follows, becomes a problem.
//! - So do heads that are too large or malformed, and bodies without a clear length.
//!
//! All other bytes pass as they came, most of them without being copied.
//!
//! A head that has not arrived as a whole is held in memory that grows as it arrives. Over HTTP/1.1 that is at most
//! 32 KiB and one read. Over HTTP/2 it is at most 96 KiB: a frame of 16 KiB, 48 KiB of a field, and 32 KiB of the fields
//! before it. Only the list of fields has spare capacity. The table of HPACK holds at most 4 KiB. All connections share
//! one budget for these bytes; a connection for which nothing is left of it ends.
//!
//! A head that is written anew may be much larger than the bytes that the client sent, because a reference to the table
//! of HPACK has one byte. At most 64 KiB and one head wait for hyper. The bytes of the client behind them are read
//! when hyper has taken these.

mod chunked;
mod fields;
mod hpack;
mod http1;
mod http2;
mod problem;
mod target;
#[cfg(any(test, fuzzing))]
mod trial;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop,
};

pub(super) use self::problem::HeadProblem;
#[cfg(fuzzing)]
pub(crate) use self::trial::compare;
use self::{http1::Http1, http2::Http2};
use crate::listen::{IntakeExhausted, Protocol, Reservation, charge};

/// The head of a request. Over HTTP/2 it is counted as RFC 9113 does, with 32 bytes for each field (section 6.5.2).
pub(super) const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Header lines of a request over HTTP/1.1.
const MAX_HEADER_LINES: usize = 100;

/// When more bytes than this wait for hyper, no other frame of HTTP/2 is read.
const MAX_READY_BYTES: usize = 64 * 1024;

/// Replaced heads of more than this are not kept in memory for the next.
const KEPT_CAPACITY: usize = 4096;

/// Held bytes up to this are a part of what a connection costs, and are not charged.
const UNCHARGED_BYTES: usize = 2 * KEPT_CAPACITY;

/// A connection of which hyper reads such heads only as it accepts.
pub(super) struct AcceptableHeads<S> {
    stream: S,
    protocol: Heads,
    /// Bytes for hyper that are not those of the client, and how many of them it has.
    ready: Vec<u8>,
    taken: usize,
    /// Bytes of the client that are read when hyper has taken those that are ready.
    later: Vec<u8>,
    ended: bool,
    /// The memory of what is held.
    reservation: Reservation,
}

enum Heads {
    Http1(Http1),
    Http2(Box<Http2>),
}

impl Heads {
    /// Takes bytes of the client; an empty input is the end. Returns how many were taken.
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

    /// The memory of heads that have not arrived as a whole, in bytes.
    fn held_bytes(&self) -> usize {
        match self {
            Self::Http1(heads) => heads.held_bytes(),
            Self::Http2(heads) => heads.held_bytes(),
        }
    }
}

/// The output for the bytes of one read.
struct Output<'a> {
    /// The length of the beginning that passes where it is.
    kept: usize,
    /// Whether nothing has been left out or put in yet.
    in_place: bool,
    /// The bytes that pass behind it.
    ready: &'a mut Vec<u8>,
}

impl Output<'_> {
    /// Passes the next bytes of the input.
    fn keep(&mut self, input: &[u8]) {
        if self.in_place {
            self.kept += input.len();
        } else {
            self.ready.extend_from_slice(input);
        }
    }

    /// Passes other bytes in place of the next bytes of the input.
    fn put(&mut self, bytes: &[u8]) {
        self.in_place = false;
        self.ready.extend_from_slice(bytes);
    }

    /// Leaves out the next bytes of the input, or holds them.
    fn drop_input(&mut self) {
        self.in_place = false;
    }
}

impl<S> AcceptableHeads<S> {
    /// `reservation`: the memory of heads that have not arrived as a whole.
    pub(super) fn new(stream: S, protocol: Protocol, reservation: Reservation) -> Self {
        let protocol = match protocol {
            Protocol::Http1 => Heads::Http1(Http1::new()),
            Protocol::Http2 => Heads::Http2(Box::new(Http2::new())),
        };
        let (ready, later) = (Vec::new(), Vec::new());
        Self { stream, protocol, ready, taken: 0, later, ended: false, reservation }
    }

    fn is_ready(&self) -> bool {
        self.taken < self.ready.len()
    }

    /// Gives out bytes that are ready. Returns how many.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> usize {
        let rest = self.ready.get(self.taken..).unwrap_or_default();
        let fits = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..fits).unwrap_or_default());
        self.taken += fits;
        if self.taken == self.ready.len() {
            self.taken = 0;
            self.ready.clear();
            self.ready.shrink_to(KEPT_CAPACITY);
        }
        fits
    }

    /// Takes the bytes of a read. Returns how many of them pass where they are; an empty input is the end.
    fn take(&mut self, input: &[u8]) -> usize {
        let mut output = Output { kept: 0, in_place: true, ready: &mut self.ready };
        let used = self.protocol.pass(input, &mut output);
        let kept = output.kept;
        self.later.extend_from_slice(input.get(used..).unwrap_or_default());
        kept
    }

    /// Charges what is held now.
    fn charge_held(&mut self) -> Result<(), IntakeExhausted> {
        let held = self.protocol.held_bytes() + self.ready.capacity() + self.later.capacity();
        self.reservation.resize(if held > UNCHARGED_BYTES { held } else { 0 })
    }

    /// Takes bytes of an earlier read.
    fn take_later(&mut self) {
        let mut output = Output { kept: 0, in_place: false, ready: &mut self.ready };
        let used = self.protocol.pass(&self.later, &mut output);
        self.later.drain(..used);
        if self.later.is_empty() {
            self.later = Vec::new();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AcceptableHeads<S> {
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
                // Charged like a read: these may be many more bytes than the client has sent.
                ready!(coop::poll_proceed(context)).made_progress();
                let given = this.give(buffer);
                charge(given, context);
                return Poll::Ready(Ok(()));
            }
            if this.protocol.has_refused() {
                // The bytes behind this head are not read as a request. hyper ends the connection with its answer, also if the
                // client has ended its side before, and the shutdown reads and discards the rest.
                return Poll::Pending;
            }
            if !this.later.is_empty() {
                this.take_later();
                continue;
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            let input = buffer.filled().get(before..).unwrap_or_default();
            this.ended = input.is_empty();
            let kept = this.take(input);
            buffer.set_filled(before + kept);
            this.charge_held().map_err(io::Error::other)?;
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AcceptableHeads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Finds the problem of a request that was refused, and puts it into its extensions.
pub(super) fn find_problem<B>(mut request: Request<B>) -> Request<B> {
    if let Some(problem) = HeadProblem::of(request.uri()) {
        *request.uri_mut() = axum::http::Uri::default();
        request.extensions_mut().insert(problem);
    }
    request
}

#[cfg(test)]
mod tests;
