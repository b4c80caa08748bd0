//! The threads that serve connections: one for each core, each with a runtime of its own.
//!
//! A call is answered where its connection is read, without waking another thread: waking cost more than all the
//! rest of a call. What belongs to the gateway and not to a call (exchanges, the audit trail, listeners) runs on the
//! runtime that started it.

use std::{io, sync::Arc, thread};

use futures_util::{
    StreamExt as _,
    stream::{BoxStream, FuturesUnordered},
};
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Connection;

/// Opened connections on their way to a worker, which takes them at once.
const OPENED_CONNECTIONS: usize = 16;

/// The connections of a worker, as they come.
pub type Incoming = BoxStream<'static, Connection<Seat>>;

/// Counts a connection among those of its worker.
#[derive(Debug, Clone, Default)]
pub struct Seat(Arc<()>);

/// A worker ended that should not.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a thread of the listener ended by itself")]
pub struct WorkerEnded;

/// Its threads end when it is dropped; [`Self::end`] waits until they have.
pub struct Workers<E> {
    doors: Vec<Door>,
    serving: FuturesUnordered<oneshot::Receiver<Result<(), E>>>,
    threads: Vec<thread::JoinHandle<()>>,
    quit: DropGuard,
}

/// The way to one worker.
struct Door {
    connections: mpsc::Sender<Connection<Seat>>,
    /// Each of its connections has a clone.
    open: Seat,
}

impl<E: From<WorkerEnded> + Send + 'static> Workers<E> {
    /// Starts them; their names begin with `name`. Each serves what it is handed with a future that `serve` makes on
    /// its thread, until that ends.
    ///
    /// # Errors
    /// If there are no threads to be had.
    pub fn start<F: Future<Output = Result<(), E>>>(
        name: &str,
        serve: impl Fn(Incoming) -> F + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let quit = CancellationToken::new();
        let mut workers = Self {
            doors: Vec::new(),
            serving: FuturesUnordered::new(),
            threads: Vec::new(),
            quit: quit.clone().drop_guard(),
        };
        for number in 0..worker_count()? {
            let (connections, incoming) = mpsc::channel(OPENED_CONNECTIONS);
            let (ended, serving) = oneshot::channel();
            let (serve, quit) = (serve.clone(), quit.clone());
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let run = move || {
                // One that has broken meanwhile is nobody's loss.
                let incoming = ReceiverStream::new(incoming)
                    .filter_map(async |connection: Connection<Seat>| connection.settle().ok());
                let serving = async { serve(incoming.boxed()).await };
                let end = runtime.block_on(quit.run_until_cancelled(serving)).unwrap_or(Ok(()));
                // Ends whatever connections are left. A name that is still looked up is not waited for.
                runtime.shutdown_background();
                // Nobody waits for it any more: then nobody has to know.
                let _ = ended.send(end);
            };
            let thread = thread::Builder::new().name(format!("{name}-{number}")).spawn(run)?;
            workers.doors.push(Door { connections, open: Seat::default() });
            workers.serving.push(serving);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Hands each connection to the worker that has the fewest, until all workers have ended: as they should once
    /// `stop` is cancelled, and with an error before.
    ///
    /// # Errors
    /// That of a worker, or [`WorkerEnded`].
    pub async fn serve(
        &mut self,
        mut opened: mpsc::Receiver<Connection>,
        stop: &CancellationToken,
    ) -> Result<(), E> {
        loop {
            tokio::select! {
                connection = opened.recv(), if !self.doors.is_empty() => match connection {
                    Some(connection) => self.hand_over(connection).await,
                    // No more will come, and each worker is to know.
                    None => self.doors.clear(),
                },
                ended = self.serving.next() => match ended {
                    None => return Ok(()),
                    Some(Ok(Ok(()))) if stop.is_cancelled() => {}
                    Some(Ok(Err(error))) => return Err(error),
                    Some(Ok(Ok(())) | Err(_)) => return Err(WorkerEnded.into()),
                },
            }
        }
    }

    async fn hand_over(&self, connection: Connection) {
        let fewest = self.doors.iter().min_by_key(|door| Arc::strong_count(&door.open.0));
        if let Some(Door { connections, open }) = fewest {
            // It has ended: the connection ends, too.
            let _ = connections.send(connection.with(open.clone())).await;
        }
    }

    /// Ends all threads, and what is left on them, and waits for it.
    pub async fn end(mut self) {
        drop(self.quit);
        while self.serving.next().await.is_some() {}
        for thread in self.threads {
            // A panic has been reported where it was seen first. The thread is at its end: nothing is waited for.
            let _ = thread.join();
        }
    }
}

/// How many threads each listener has that serves on threads of its own.
///
/// # Errors
/// If the system does not say how many cores there are.
pub fn worker_count() -> io::Result<usize> {
    thread::available_parallelism().map(usize::from)
}
