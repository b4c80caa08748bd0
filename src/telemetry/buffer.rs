//! Log lines wait a moment and are written together: a system call for each would cost a call more than its answer.
//!
//! Bounded: while standard error does not take them, lines beyond the bound are dropped and counted. Warnings and
//! errors are written at once, and what waits is written when logging ends.

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

/// How long a line waits at most.
const DELAY: Duration = Duration::from_millis(50);

/// At the end, what waits has this long to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// So much is written without waiting for more …
const ENOUGH: usize = 64 * 1024;
/// … and more than this does not wait: lines are dropped.
const MOST: usize = 8 * 1024 * 1024;

/// Lines on their way to standard error. Clones share them.
#[derive(Clone)]
pub(super) struct Buffer(Arc<Shared>);

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

/// Writes what waits, and ends the thread that does, when it is dropped.
pub struct LogGuard {
    buffer: Buffer,
    writer: Option<thread::JoinHandle<()>>,
}

impl Buffer {
    /// A buffer, and the guard of the thread that empties it.
    pub(super) fn start(mut out: impl Write + Send + 'static) -> io::Result<(Self, LogGuard)> {
        let shared =
            Shared { state: Mutex::default(), work: Condvar::new(), dropped: AtomicU64::new(0) };
        let buffer = Self(Arc::new(shared));
        let source = buffer.clone();
        let write = move || source.empty_into(&mut out);
        let writer = thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok((buffer.clone(), LogGuard { buffer, writer: Some(writer) }))
    }

    fn empty_into(&self, out: &mut impl Write) {
        let mut lines = Vec::new();
        loop {
            let closed = self.wait_for(&mut lines);
            // There is nobody to tell that the log cannot be written.
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

    /// Takes what waits once it is worth it, or once logging ends.
    fn wait_for(&self, lines: &mut Vec<u8>) -> bool {
        let lock = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let lock = self.0.work.wait_while(lock, nothing).unwrap_or_else(PoisonError::into_inner);
        // The first line has come: others may follow.
        let little =
            |state: &mut State| state.waiting.len() < ENOUGH && !state.urgent && !state.closed;
        let waited = self.0.work.wait_timeout_while(lock, DELAY, little);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, lines);
        state.urgent = false;
        state.closed
    }

    fn add(&self, line: &[u8], urgent: bool) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.len() + line.len() > MOST {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        state.urgent |= urgent;
        // The thread is woken once for a batch, not for every line.
        if first || state.urgent || state.waiting.len() >= ENOUGH {
            drop(state);
            self.0.work.notify_one();
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.buffer.0.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.buffer.0.work.notify_one();
        // Whoever should read the log may have stopped reading: the end of the process does not wait for that.
        let until = Instant::now() + LAST_LINES;
        while self.writer.as_ref().is_some_and(|writer| !writer.is_finished())
            && Instant::now() < until
        {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// One line being formatted.
pub(super) struct Line {
    buffer: Buffer,
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

impl<'a> MakeWriter<'a> for Buffer {
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
    fn lines_are_written_together_and_all_of_them_at_the_end() {
        let (sender, written) = mpsc::channel();
        let (buffer, guard) = Buffer::start(Channel(sender)).unwrap();
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
    fn a_log_that_is_not_read_costs_lines_and_no_memory_without_end() {
        // Never emptied: there is no thread.
        let shared =
            Shared { state: Mutex::default(), work: Condvar::new(), dropped: AtomicU64::new(0) };
        let buffer = Buffer(Arc::new(shared));
        let line = vec![b'x'; MOST / 4];
        for _ in 0..6 {
            buffer.add(&line, false);
        }
        assert_eq!(buffer.0.dropped.load(Ordering::Relaxed), 2);
    }
}
