//! The threads that serve connections: one for each core, each with a runtime of its own.
//!
//! A call is answered where its connection is read, without waking another thread: waking cost more than all the
//! rest of a call. What belongs to the gateway and not to a call (exchanges, the audit trail, listeners) runs on the
//! runtime that started it.

use std::{io, sync::Arc, thread};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{service::Routes, transport::Server};

use super::{ServeError, connection::called};
use crate::{broker::Bell, grpc::layer::Around, listen::Connection};

/// Opened connections on their way to a worker, which takes them at once.
const OPENED_CONNECTIONS: usize = 16;

/// What each worker serves.
pub(super) type HttpServer =
    Server<tower::layer::util::Stack<Around, tower::layer::util::Identity>>;

/// Its threads end when it is dropped; [`Self::end`] waits until they have.
pub(super) struct Workers {
    doors: Vec<Door>,
    serving: FuturesUnordered<oneshot::Receiver<Result<(), ServeError>>>,
    threads: Vec<thread::JoinHandle<()>>,
    quit: DropGuard,
}

/// The way to one worker.
struct Door {
    connections: mpsc::Sender<(Connection, Arc<()>)>,
    /// Each of its connections has a clone.
    open: Arc<()>,
}

impl Workers {
    /// Starts them. Once `stop` is cancelled they send GOAWAY and end with their last call.
    pub(super) fn start(
        server: &HttpServer,
        routes: &Routes,
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let quit = CancellationToken::new();
        let mut workers = Self {
            doors: Vec::new(),
            serving: FuturesUnordered::new(),
            threads: Vec::new(),
            quit: quit.clone().drop_guard(),
        };
        for number in 0..thread::available_parallelism()?.get() {
            let (connections, incoming) = mpsc::channel(OPENED_CONNECTIONS);
            let (ended, serving) = oneshot::channel();
            let services = server.clone().add_routes(routes.clone());
            let (stop, quit) = (stop.clone().cancelled_owned(), quit.clone());
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let serve = move || {
                // One that has broken meanwhile is nobody's loss.
                let incoming = ReceiverStream::new(incoming)
                    .filter_map(async |(connection, count): (Connection, _)| {
                        let settled = connection.settle().ok()?;
                        Some(Ok::<_, io::Error>(called(settled, count)))
                    })
                    .boxed();
                let serving = services.serve_with_incoming_shutdown(incoming, stop);
                let serving = async {
                    tokio::select! {
                        end = serving => end,
                        () = Bell::serve() => Ok(()),
                    }
                };
                let end = runtime.block_on(quit.run_until_cancelled(serving)).unwrap_or(Ok(()));
                // Ends whatever connections are left.
                drop(runtime);
                // Nobody waits for it any more: then nobody has to know.
                let _ = ended.send(end.map_err(ServeError::from));
            };
            let thread = thread::Builder::new().name(format!("grpc-{number}")).spawn(serve)?;
            workers.doors.push(Door { connections, open: Arc::new(()) });
            workers.serving.push(serving);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Hands each connection to the worker that has the fewest, until all workers have ended: as they should once
    /// `stop` is cancelled, and with an error before.
    pub(super) async fn serve(
        &mut self,
        mut opened: mpsc::Receiver<Connection>,
        stop: &CancellationToken,
    ) -> Result<(), ServeError> {
        loop {
            tokio::select! {
                Some(connection) = opened.recv() => {
                    let fewest = self.doors.iter().min_by_key(|door| Arc::strong_count(&door.open));
                    if let Some(Door { connections, open }) = fewest {
                        // It has ended: the connection ends, too.
                        let _ = connections.send((connection, Arc::clone(open))).await;
                    }
                }
                ended = self.serving.next() => match ended {
                    None => return Ok(()),
                    Some(Ok(Ok(()))) if stop.is_cancelled() => {}
                    Some(Ok(Err(error))) => return Err(error),
                    Some(Ok(Ok(())) | Err(_)) => return Err(ServeError::WorkerEnded),
                },
            }
        }
    }

    /// Ends all threads, and what is left on them, and waits for it.
    pub(super) async fn end(mut self) {
        drop(self.quit);
        while self.serving.next().await.is_some() {}
        for thread in self.threads {
            // A panic has been reported where it was seen first. The thread is at its end: nothing is waited for.
            let _ = thread.join();
        }
    }
}
