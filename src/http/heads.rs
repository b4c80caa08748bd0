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
//! before it. Growing buffers may have the same again in spare capacity. The table of HPACK holds at most 4 KiB.

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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) use self::problem::HeadProblem;
#[cfg(fuzzing)]
pub(crate) use self::trial::compare;
use self::{http1::Http1, http2::Http2};
use crate::listen::Protocol;

/// The head of a request. Over HTTP/2 it is counted as RFC 9113 does, with 32 bytes for each field (section 6.5.2).
pub(super) const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Header lines of a request over HTTP/1.1.
const MAX_HEADER_LINES: usize = 100;

/// The bytes that are read and dropped behind a head that was refused.
const DROPPED_BYTES: usize = 256 * 1024;

/// Replaced heads of more than this are not kept in memory for the next.
const KEPT_CAPACITY: usize = 4096;

/// A connection of which hyper reads such heads only as it accepts.
pub(super) struct AcceptableHeads<S> {
    stream: S,
    protocol: Heads,
    /// Bytes for hyper that are not those of the client, and how many of them it has.
    ready: Vec<u8>,
    taken: usize,
    ended: bool,
    dropped: usize,
}

enum Heads {
    Http1(Http1),
    Http2(Box<Http2>),
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
    pub(super) fn new(stream: S, protocol: Protocol) -> Self {
        let protocol = match protocol {
            Protocol::Http1 => Heads::Http1(Http1::new()),
            Protocol::Http2 => Heads::Http2(Box::new(Http2::new())),
        };
        Self { stream, protocol, ready: Vec::new(), taken: 0, ended: false, dropped: 0 }
    }

    /// Gives out what is ready. Returns whether there was something.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let rest = self.ready.get(self.taken..).unwrap_or_default();
        if rest.is_empty() {
            return false;
        }
        let fits = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..fits).unwrap_or_default());
        self.taken += fits;
        if self.taken == self.ready.len() {
            self.taken = 0;
            self.ready.clear();
            self.ready.shrink_to(KEPT_CAPACITY);
        }
        true
    }

    /// Takes what was read. Returns how much of it passes where it is; an empty input is the end.
    fn take(&mut self, input: &[u8]) -> usize {
        let mut output = Output { kept: 0, in_place: true, ready: &mut self.ready };
        match &mut self.protocol {
            Heads::Http1(heads) if input.is_empty() => heads.end(&mut output),
            Heads::Http2(heads) if input.is_empty() => heads.end(&mut output),
            Heads::Http1(heads) => heads.pass(input, &mut output),
            Heads::Http2(heads) => heads.pass(input, &mut output),
        }
        output.kept
    }

    fn has_refused(&self) -> bool {
        matches!(&self.protocol, Heads::Http1(heads) if heads.has_refused())
    }
}

impl<S: AsyncRead + Unpin> AcceptableHeads<S> {
    /// Reads and drops what has arrived behind a head that was refused: closing a socket with unread bytes resets it,
    /// and the client may lose the answer (RFC 9112, section 9.6).
    fn drop_rest(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) {
        let before = buffer.filled().len();
        while !self.ended && self.dropped < DROPPED_BYTES && buffer.remaining() > 0 {
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) else {
                return;
            };
            let dropped = buffer.filled().len() - before;
            buffer.set_filled(before);
            self.dropped += dropped;
            self.ended = dropped == 0 || read.is_err();
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
        loop {
            let refused = this.has_refused();
            if refused {
                this.drop_rest(context, buffer);
            }
            if buffer.remaining() == 0 || this.give(buffer) {
                return Poll::Ready(Ok(()));
            }
            if refused {
                // hyper ends the connection with its answer, which a client gets that has ended its side before.
                return Poll::Pending;
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            let input = buffer.filled().get(before..).unwrap_or_default();
            this.ended = input.is_empty();
            let kept = this.take(input);
            buffer.set_filled(before + kept);
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
