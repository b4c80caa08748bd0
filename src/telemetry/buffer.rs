//! Buffers log lines and writes them together: one system call for each line would cost more than the call it logs.
//!
//! The buffer is bounded: while standard error blocks, further lines are dropped and counted. Warnings and errors are
//! written at once, and the buffer is written when logging ends.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The maximum time that a line is buffered.
const DELAY: Duration = Duration::from_millis(50);

/// The time limit for writing the buffer at the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The buffer size at which lines are written at once.
const FLUSH_BYTES: usize = 64 * 1024;
/// The maximum buffer size; beyond it, lines are dropped.
const MAX_BYTES: usize = 1024 * 1024;

/// The buffered lines. Clones share them.
#[derive(Clone)]
pub(super) struct LogBuffer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    urgent: bool,
    closed: bool,
}

/// Writes the buffer and ends the writer thread when it is dropped.
pub struct LogGuard {
    buffer: LogBuffer,
    writer: Option<thread::JoinHandle<()>>,
}

impl LogBuffer {
    /// Returns a buffer, and the guard of the thread that writes it.
    pub(super) fn start(mut out: impl Write + Send + 'static) -> io::Result<(Self, LogGuard)> {
        let shared =
            Shared { state: Mutex::default(), work: Condvar::new(), dropped: AtomicU64::new(0) };
        let buffer = Self(Arc::new(shared));
        let source = buffer.clone();
        let write = move || source.write_to(&mut out);
        let writer = thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok((buffer.clone(), LogGuard { buffer, writer: Some(writer) }))
    }

    fn write_to(&self, out: &mut impl Write) {
        let mut lines = Vec::new();
        loop {
            let closed = self.take_batch(&mut lines);
            // A failure to write the log cannot be reported anywhere.
            let _ = out.write_all(&lines).and_then(|()| out.flush());
            lines.clear();
            let dropped = self.0.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let _ = writeln!(
                    out,
                    r#"{{"level":"WARN","message":"log lines dropped","count":{dropped}}}"#
                );
            }
            if closed {
                return;
            }
        }
    }

    /// Takes the lines once there are enough, the delay has passed, or logging ends. Returns whether it ends.
    fn take_batch(&self, lines: &mut Vec<u8>) -> bool {
        let lock = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let lock = self.0.work.wait_while(lock, nothing).unwrap_or_else(PoisonError::into_inner);
        // The first line has arrived; waits for more.
        let little =
            |state: &mut State| state.waiting.len() < FLUSH_BYTES && !state.urgent && !state.closed;
        let waited = self.0.work.wait_timeout_while(lock, DELAY, little);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, lines);
        state.urgent = false;
        state.closed
    }

    fn add(&self, line: &[u8], urgent: bool) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.len() + line.len() > MAX_BYTES {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        state.urgent |= urgent;
        // Wakes the thread once for a batch, not for every line.
        if first || state.urgent || state.waiting.len() >= FLUSH_BYTES {
            drop(state);
            self.0.work.notify_one();
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.buffer.0.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.buffer.0.work.notify_one();
        // The reader of the log may have stopped reading, so the wait at the end is limited.
        let until = Instant::now() + SHUTDOWN_TIMEOUT;
        while self.writer.as_ref().is_some_and(|writer| !writer.is_finished())
            && Instant::now() < until
        {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The writer of one line.
pub(super) struct Line {
    buffer: LogBuffer,
    urgent: bool,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.buffer.add(line, self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogBuffer {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { buffer: self.clone(), urgent: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        Line { buffer: self.clone(), urgent: *metadata.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Channel(mpsc::Sender<Vec<u8>>);

    impl Write for Channel {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let sent = self.0.send(bytes.to_vec());
            sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn writes_lines_in_batches_and_all_lines_at_the_end() {
        let (sender, written) = mpsc::channel();
        let (buffer, guard) = LogBuffer::start(Channel(sender)).unwrap();
        for number in 0..1000 {
            buffer.add(format!("{number}\n").as_bytes(), false);
        }
        drop(guard);
        let parts: Vec<_> = written.iter().collect();
        let all = String::from_utf8(parts.concat()).unwrap();
        assert_eq!(all.lines().count(), 1000);
        assert!(parts.len() < 100, "{}", parts.len());
    }

    #[test]
    fn drops_lines_if_the_log_is_not_read() {
        // This buffer is never written, because there is no thread.
        let shared =
            Shared { state: Mutex::default(), work: Condvar::new(), dropped: AtomicU64::new(0) };
        let buffer = LogBuffer(Arc::new(shared));
        let line = vec![b'x'; MAX_BYTES / 4];
        for _ in 0..6 {
            buffer.add(&line, false);
        }
        assert_eq!(buffer.0.dropped.load(Ordering::Relaxed), 2);
    }
}
