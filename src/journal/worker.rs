//! The thread that writes. Groups are handed over by a channel, and each is written as soon as it is there.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    error::WriteError,
    format::EncodedGroup,
    writer::{ChainWriter, Opening},
};
use crate::ports::StoreError;

/// The most groups that wait for the thread. Each has a caller that waits for it.
const MAX_WAITING: usize = 64;
/// The most chains that a process writes.
const MAX_CHAINS: usize = 16;

type Reply = oneshot::Sender<Result<(), WriteError>>;

enum Job {
    Append { chain: Arc<str>, group: EncodedGroup, reply: Reply },
    Prepare { chain: Arc<str>, reply: Reply },
    Close { reply: Reply },
}

/// Hands groups over to the thread.
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts the thread. `shared` says that other processes write the same chains: each is opened for each group.
    pub(crate) fn start(opening: Opening, shared: bool) -> io::Result<Self> {
        let (jobs, mut waiting) = mpsc::channel(MAX_WAITING);
        let run = move || {
            let mut chains = Writers { opening, shared, open: BTreeMap::new() };
            while let Some(job) = waiting.blocking_recv() {
                // A caller that no longer waits is not told.
                let _ = match job {
                    Job::Append { chain, group, reply } => reply.send(chains.append(&chain, group)),
                    Job::Prepare { chain, reply } => reply.send(chains.prepare(&chain)),
                    Job::Close { reply } => {
                        chains.close();
                        reply.send(Ok(()))
                    }
                };
            }
        };
        std::thread::Builder::new().name("audit-journal".to_owned()).spawn(run)?;
        Ok(Self { jobs })
    }

    /// Stores a group. It is stored or refused even if the caller stops waiting.
    pub(crate) async fn append(
        &self,
        chain: Arc<str>,
        group: EncodedGroup,
    ) -> Result<(), StoreError> {
        self.run(|reply| Job::Append { chain, group, reply }).await
    }

    /// Prepares the first segment of a chain.
    pub(crate) async fn prepare(&self, chain: Arc<str>) -> Result<(), StoreError> {
        self.run(|reply| Job::Prepare { chain, reply }).await
    }

    /// Closes all chains. A later group opens its chain again.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.run(|reply| Job::Close { reply }).await
    }

    async fn run(&self, job: impl FnOnce(Reply) -> Job) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Unavailable("the thread of the audit journal has ended".into());
        self.jobs.send(job(reply)).await.map_err(|_| gone())?;
        Ok(answer.await.map_err(|_| gone())??)
    }
}

/// The chains that are open for writing.
struct Writers {
    opening: Opening,
    shared: bool,
    open: BTreeMap<Arc<str>, ChainWriter>,
}

impl Writers {
    fn append(&mut self, chain: &Arc<str>, group: EncodedGroup) -> Result<(), WriteError> {
        if self.shared {
            return self.opening.open(chain)?.append(group);
        }
        let place = Arc::clone(&self.opening.place);
        // Nothing is written to a directory that has taken the place of the one that was opened.
        place.check_files().map_err(WriteError::Lost)?;
        self.writer(chain)?.append(group)?;
        place.check_files().map_err(|lost| WriteError::Unknown(io::Error::other(lost.to_string())))
    }

    /// Opens a chain and prepares its first segment. Does nothing if other processes write it.
    fn prepare(&mut self, chain: &Arc<str>) -> Result<(), WriteError> {
        if self.shared {
            return Ok(());
        }
        self.opening.place.check_files().map_err(WriteError::Lost)?;
        self.writer(chain)?.prepare().map_err(WriteError::from)
    }

    fn writer(&mut self, chain: &Arc<str>) -> Result<&mut ChainWriter, WriteError> {
        if !self.open.contains_key(chain) && self.open.len() >= MAX_CHAINS {
            return Err(WriteError::TooManyChains(MAX_CHAINS));
        }
        match self.open.entry(Arc::clone(chain)) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(vacant) => Ok(vacant.insert(self.opening.open(chain)?)),
        }
    }

    fn close(&mut self) {
        for writer in std::mem::take(&mut self.open).into_values() {
            writer.close();
        }
    }
}
