//! A copy of a small request body, taken while the body is sent, so that the request can be sent once more.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream};

/// The largest body that is copied, in bytes. A larger body is sent only once.
pub const MAX_COPY_BYTES: usize = 64 * 1024;

/// The first allocation of a copy, in bytes. Most bodies of the Web API are smaller.
const INITIAL_COPY_BYTES: usize = 2 * 1024;

/// A request body that arrives while it is sent.
pub type BodyParts = BoxStream<'static, io::Result<Bytes>>;

/// The memory that all copies may use together. Clones share it.
#[derive(Debug, Clone)]
pub struct CopyBudget(Arc<AtomicUsize>);

impl CopyBudget {
    /// Creates a budget of this many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Returns the number of bytes that no copy uses.
    #[must_use]
    pub fn available(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |free: usize| free.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// The buffer of a copy. Dropping it returns its bytes to the budget.
struct ChargedBuffer {
    bytes: Vec<u8>,
    charged: usize,
    budget: CopyBudget,
}

impl ChargedBuffer {
    fn new(budget: CopyBudget) -> Self {
        Self { bytes: Vec::new(), charged: 0, budget }
    }

    /// Appends a part. Returns `false` if the body is too long or the budget is used up.
    fn append(&mut self, part: &[u8]) -> bool {
        let wanted = self.bytes.len().saturating_add(part.len());
        if wanted > MAX_COPY_BYTES {
            return false;
        }
        if wanted > self.charged {
            let capacity = wanted.max(2 * self.charged).clamp(INITIAL_COPY_BYTES, MAX_COPY_BYTES);
            if !self.budget.take(capacity - self.charged) {
                return false;
            }
            self.charged = capacity;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
        true
    }
}

impl AsRef<[u8]> for ChargedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for ChargedBuffer {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.charged, Ordering::Relaxed);
    }
}

/// The body, shared by the stream that is sent and by the handle of its copy.
struct Shared {
    /// The source of the parts; `None` after the end or failure of the body.
    source: Option<BodyParts>,
    /// The copy; `None` if the body is too long or failed, the budget is used up, or the handle was dropped.
    copy: Option<ChargedBuffer>,
    /// Whether the whole body was read.
    ended: bool,
    /// Parts that were read for the copy and are not sent yet.
    ahead: VecDeque<Bytes>,
    /// Whether [`BodyCopy::into_bytes`] reads the body now. Then the stream that is sent waits.
    reading_ahead: bool,
    /// Whether another request sends the body now. Then this stream ends with an error.
    replaced: bool,
    sender: Option<Waker>,
}

impl Shared {
    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Some(source) = &mut self.source else {
            let failed = || Err(io::ErrorKind::UnexpectedEof.into());
            return Poll::Ready((!self.ended).then(failed));
        };
        let part = ready!(source.as_mut().poll_next(context));
        match &part {
            Some(Ok(part)) => {
                if self.copy.as_mut().is_some_and(|copy| !copy.append(part)) {
                    self.copy = None;
                }
            }
            Some(Err(_)) => (self.source, self.copy) = (None, None),
            None => (self.source, self.ended) = (None, true),
        }
        Poll::Ready(part)
    }
}

/// The handle of a body's copy. Dropping it frees the memory; the body is still sent to its end.
pub struct BodyCopy(Arc<Mutex<Shared>>);

/// The stream that is sent while the copy is taken.
struct CopiedStream(Arc<Mutex<Shared>>);

impl BodyCopy {
    /// Returns a stream that yields the same parts, and the handle of the copy that is taken while it is read.
    #[must_use]
    pub fn new(parts: BodyParts, budget: &CopyBudget) -> (BodyParts, Self) {
        let shared = Arc::new(Mutex::new(Shared {
            source: Some(parts),
            copy: Some(ChargedBuffer::new(budget.clone())),
            ended: false,
            ahead: VecDeque::new(),
            reading_ahead: false,
            replaced: false,
            sender: None,
        }));
        (Box::pin(CopiedStream(Arc::clone(&shared))), Self(shared))
    }

    /// Reads the rest of the body and returns all of it, or `None` if it was not copied completely. If it returns the
    /// body, the stream of [`Self::new`] ends with an error; otherwise the stream continues without losing a part.
    pub async fn into_bytes(self) -> Option<Bytes> {
        let reading = ReadingAhead::begin(&self.0);
        poll_fn(|context| {
            let shared = &mut *lock(reading.0);
            while shared.copy.is_some() && !shared.ended {
                if let Some(Ok(part)) = ready!(shared.poll_source(context)) {
                    shared.ahead.push_back(part);
                }
            }
            Poll::Ready(())
        })
        .await;
        let shared = &mut *lock(&self.0);
        let copy = shared.copy.take()?;
        shared.replaced = true;
        shared.ahead.clear();
        Some(Bytes::from_owner(copy))
    }
}

impl Drop for BodyCopy {
    fn drop(&mut self) {
        lock(&self.0).copy = None;
    }
}

/// Pauses the stream that is sent. Dropping this resumes it.
struct ReadingAhead<'a>(&'a Mutex<Shared>);

impl<'a> ReadingAhead<'a> {
    fn begin(shared: &'a Mutex<Shared>) -> Self {
        lock(shared).reading_ahead = true;
        Self(shared)
    }
}

impl Drop for ReadingAhead<'_> {
    fn drop(&mut self) {
        let sender = {
            let shared = &mut *lock(self.0);
            shared.reading_ahead = false;
            shared.sender.take()
        };
        if let Some(sender) = sender {
            sender.wake();
        }
    }
}

impl Stream for CopiedStream {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let shared = &mut *lock(&self.0);
        if shared.replaced {
            return Poll::Ready(Some(Err(io::ErrorKind::Interrupted.into())));
        }
        if let Some(part) = shared.ahead.pop_front() {
            return Poll::Ready(Some(Ok(part)));
        }
        shared.sender = Some(context.waker().clone());
        if shared.reading_ahead { Poll::Pending } else { shared.poll_source(context) }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

// Bodies are customer data, so they are never printed.
impl fmt::Debug for BodyCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyCopy")
    }
}

#[cfg(test)]
mod tests;
