//! A thread with its own runtime, for work that many calls wait for: it does not queue behind other tasks, and waking
//! it wakes no other task.

use std::{io, thread};

use futures_util::future::BoxFuture;
use tokio::{runtime::Builder, sync::oneshot};

/// A thread that waits for one future and runs it. It ends after that future, or when this handle is dropped unused.
pub(super) struct DedicatedThread {
    work: oneshot::Sender<BoxFuture<'static, ()>>,
    ended: oneshot::Receiver<()>,
    thread: thread::JoinHandle<()>,
}

impl DedicatedThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the operating system does not start another thread.
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
            // An error means that the receiver was dropped, so nothing waits for the end.
            let _ = end.send(());
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { work, ended, thread })
    }

    /// Runs `work` on the thread and waits until it has ended or panicked. If this future is dropped, the work
    /// continues.
    pub(super) async fn run(self, work: impl Future<Output = ()> + Send + 'static) {
        // The thread still waits for its work, so this cannot fail.
        let _ = self.work.send(Box::pin(work));
        let _ = self.ended.await;
        // The thread has ended, so this does not block. A panic has already been reported.
        let _ = self.thread.join();
    }
}
