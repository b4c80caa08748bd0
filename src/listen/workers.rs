//! The threads that serve connections: one for each core, each with its own runtime.
//!
//! A call is answered on the thread that reads its connection. Waking another thread costs more time than the rest of a
//! call. Work that belongs to no call (token exchanges, the audit trail, listeners) runs on the runtime that started
//! it.

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

/// The capacity of the queue of one worker, which takes connections from it at once.
const QUEUE_CAPACITY: usize = 16;

/// The stream of new connections of one worker.
pub type Incoming = BoxStream<'static, Connection<ConnectionCounter>>;

/// Counts the open connections of one worker: each connection holds a clone.
#[derive(Debug, Clone, Default)]
pub struct ConnectionCounter(Arc<()>);

/// A worker thread ended although the listener was not stopped.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a worker thread of the listener ended unexpectedly")]
pub struct WorkerEnded;

/// The worker threads of a listener. Dropping this ends them; [`Self::shut_down`] also waits until they have ended.
pub struct Workers<E> {
    handles: Vec<WorkerHandle>,
    serving: FuturesUnordered<oneshot::Receiver<Result<(), E>>>,
    threads: Vec<thread::JoinHandle<()>>,
    quit: DropGuard,
}

/// The queue of one worker, and the number of its connections.
struct WorkerHandle {
    connections: mpsc::Sender<Connection<ConnectionCounter>>,
    /// Each connection of the worker holds a clone.
    open_connections: ConnectionCounter,
}

impl<E: From<WorkerEnded> + Send + 'static> Workers<E> {
    /// Starts the threads. Their names begin with `name`. Each thread runs the future that `serve` returns for its
    /// stream of connections, until that future ends.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start<F: Future<Output = Result<(), E>>>(
        name: &str,
        serve: impl Fn(Incoming) -> F + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let quit = CancellationToken::new();
        let mut workers = Self {
            handles: Vec::new(),
            serving: FuturesUnordered::new(),
            threads: Vec::new(),
            quit: quit.clone().drop_guard(),
        };
        for number in 0..worker_count()? {
            let (connections, incoming) = mpsc::channel(QUEUE_CAPACITY);
            let (ended, serving) = oneshot::channel();
            let (serve, quit) = (serve.clone(), quit.clone());
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let run = move || {
                // A connection that has failed meanwhile is dropped.
                let incoming = ReceiverStream::new(incoming).filter_map(
                    async |connection: Connection<ConnectionCounter>| {
                        connection.move_to_current_runtime().ok()
                    },
                );
                let serving = async { serve(incoming.boxed()).await };
                let end = runtime.block_on(quit.run_until_cancelled(serving)).unwrap_or(Ok(()));
                // Closes the remaining connections. Does not wait for name resolution on blocking threads.
                runtime.shutdown_background();
                // Fails only if `Workers` was dropped, which is fine.
                let _ = ended.send(end);
            };
            let thread = thread::Builder::new().name(format!("{name}-{number}")).spawn(run)?;
            workers
                .handles
                .push(WorkerHandle { connections, open_connections: ConnectionCounter::default() });
            workers.serving.push(serving);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Sends each connection to the worker with the fewest connections, until all workers have ended. A worker may end
    /// only after `stop` is cancelled; before that, its end is an error.
    ///
    /// # Errors
    /// The error of a worker, or [`WorkerEnded`].
    pub async fn serve(
        &mut self,
        mut opened: mpsc::Receiver<Connection>,
        stop: &CancellationToken,
    ) -> Result<(), E> {
        loop {
            tokio::select! {
                connection = opened.recv(), if !self.handles.is_empty() => match connection {
                    Some(connection) => self.send_to_least_loaded(connection).await,
                    // There are no more connections: closes the queues, so that the workers end.
                    None => self.handles.clear(),
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

    async fn send_to_least_loaded(&self, connection: Connection) {
        let fewest =
            self.handles.iter().min_by_key(|worker| Arc::strong_count(&worker.open_connections.0));
        if let Some(WorkerHandle { connections, open_connections }) = fewest {
            // If the worker has ended, this drops the connection.
            let _ = connections.send(connection.with_attachment(open_connections.clone())).await;
        }
    }

    /// Ends all threads with their connections, and waits for the threads.
    pub async fn shut_down(mut self) {
        drop(self.quit);
        while self.serving.next().await.is_some() {}
        for thread in self.threads {
            // A panic has been reported by `serve` already. The thread has ended, so this does not block.
            let _ = thread.join();
        }
    }
}

/// Returns the number of worker threads of a listener.
///
/// # Errors
/// If the system does not report its number of cores.
pub fn worker_count() -> io::Result<usize> {
    thread::available_parallelism().map(usize::from)
}
