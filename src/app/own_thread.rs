//! A thread with a runtime of its own, for work that many wait for: it does not stand in line behind others, and
//! waking it wakes nobody else.

use std::{io, thread};

use futures_util::future::BoxFuture;
use tokio::{runtime::Builder, sync::oneshot};

/// A thread that waits for its work. It ends with it, or when this is dropped before.
pub(super) struct OwnThread {
    work: oneshot::Sender<BoxFuture<'static, ()>>,
    ended: oneshot::Receiver<()>,
    thread: thread::JoinHandle<()>,
}

impl OwnThread {
    /// Starts it.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (work, given) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let run = move || {
            runtime.block_on(async {
                if let Ok(work) = given.await {
                    work.await;
                }
            });
            drop(runtime);
            // Nobody waits for it any more: then nobody has to know.
            let _ = end.send(());
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { work, ended, thread })
    }

    /// Does this work there, and waits for its end; also where it panics. If this is dropped, the work goes on.
    pub(super) async fn run(self, work: impl Future<Output = ()> + Send + 'static) {
        // It waits for nothing else.
        let _ = self.work.send(Box::pin(work));
        let _ = self.ended.await;
        // At its end: nothing is waited for. A panic has been reported where it happened.
        let _ = self.thread.join();
    }
}
