//! The audit journal: the events of each chain in files of their own, which are only appended to.
//!
//! A chain is a directory of segments. A segment has a signed header and groups of events, each with a checksum and the
//! signed head of the chain behind it. One thread writes: a group is one write and one sync to a file whose blocks
//! exist already. Stored groups are never changed. A write that failed is repeated in a new segment.
//!
//! Readers need no lock. They accept only bytes whose checksum is right and whose numbers grow, and name damage
//! with file and offset. `docs/reference/journal.md` describes the files for other programs.

mod backward;
mod chain;
mod compressed;
mod damage;
mod error;
mod events;
mod files;
mod format;
mod header;
mod input;
mod keys;
mod maintenance;
mod names;
mod place;
#[cfg(any(test, fuzzing))]
pub(crate) mod probe;
mod reserve;
mod segment;
mod segment_end;
mod shortening;
mod store;
mod watched;
mod worker;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use self::{
    chain::Chain,
    files::{Disk, Files, Lock},
    place::Place,
    worker::Worker,
    writer::{Opening, Sizes},
};
use jiff::Timestamp;

pub use self::{damage::Damage, error::OpenError};
use crate::ports::{AuditSigner, Clock, Random, StoreError};

/// The size of the first segment of a chain, and the least size that can be configured: 1 MiB.
const MIN_SEGMENT_BYTES: u64 = 1024 * 1024;

/// The largest size of a segment: 1 GiB.
const MAX_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;

/// The most chains of a journal.
const MAX_CHAINS: usize = 65_536;

/// The kind of process that opens a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A server. It has the directory for itself, and keeps the chains that it writes locked until it closes them.
    Server,
    /// A command beside a server. It locks a chain while it appends a group, and waits while another command does.
    Command,
}

/// The settings of a journal.
#[derive(Debug, Clone)]
pub struct JournalSettings {
    /// The directory. It is created if there is none.
    pub directory: PathBuf,
    /// The size of a segment in bytes; less than 1 MiB counts as 1 MiB, and more than 1
    /// GiB as 1 GiB. The first segments of a chain are smaller: 1
    /// MiB, then twice as much each time.
    pub segment_bytes: u64,
    /// The kind of process.
    pub role: Role,
}

/// The dependencies of a journal.
#[derive(Clone)]
pub struct JournalPorts {
    /// Signs the headers of segments, and verifies them.
    pub signer: Arc<dyn AuditSigner>,
    /// The wall clock, for the times in headers.
    pub clock: Arc<dyn Clock>,
    /// The source of the ids of chains.
    pub random: Arc<dyn Random>,
}

/// The segments of all chains in a directory.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    place: Arc<Place>,
    ports: JournalPorts,
    sizes: Sizes,
    role: Role,
    /// The chains that were read.
    chains: Mutex<BTreeMap<Arc<str>, Arc<Mutex<Chain>>>>,
    /// The thread that writes, from the first group on.
    worker: OnceLock<Result<Worker, String>>,
    /// The server's lock of the directory, until the journal is closed.
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl Journal {
    /// Opens the journal in a directory. Segments are read when they are needed.
    ///
    /// # Errors
    /// If the directory cannot be created, or if a server opens it while another one has it open.
    pub fn open(settings: JournalSettings, ports: JournalPorts) -> Result<Self, OpenError> {
        Self::open_in(Arc::new(Disk), settings, ports, true)
    }

    fn open_in(
        files: Arc<dyn Files>,
        settings: JournalSettings,
        ports: JournalPorts,
        ahead: bool,
    ) -> Result<Self, OpenError> {
        let JournalSettings { directory, segment_bytes, role } = settings;
        let unavailable =
            |cause: io::Error| OpenError::Unavailable { directory: directory.clone(), cause };
        files.create_directory(&directory).map_err(unavailable)?;
        let place = Place::new(files, directory.clone(), Arc::clone(&ports.signer));
        let lock = if role == Role::Server {
            let path = directory.join(names::SERVER_LOCK);
            let lock = place.files.lock(&path, false).map_err(unavailable)?;
            let served =
                || OpenError::AlreadyServed { directory: directory.clone(), lock: path.clone() };
            let lock = lock.ok_or_else(served)?;
            let id = place.files.id(&path).map_err(unavailable)?;
            place.watched.watch(&directory, &path, id);
            reserve::fill(&place);
            Some(lock)
        } else {
            None
        };
        let segment_bytes = segment_bytes.clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES);
        let sizes = Sizes { first_bytes: MIN_SEGMENT_BYTES, segment_bytes, ahead };
        Ok(Self(Arc::new(Shared {
            place: Arc::new(place),
            ports,
            sizes,
            role,
            chains: Mutex::default(),
            worker: OnceLock::new(),
            lock: Mutex::new(lock),
        })))
    }

    /// Returns the damaged places that were found so far, at most 256. Reading names a place when it comes to it: after
    /// a verification of all chains all places are known.
    #[must_use]
    pub fn damages(&self) -> Vec<Damage> {
        self.0.place.damages.found()
    }

    /// Prepares the first segment of a chain that this server will write, so that its first group does not wait for it.
    /// The chain begins with its first group; a prepared file is no part of it.
    ///
    /// # Errors
    /// If the chain cannot be opened or the file cannot be written. The chain can be written nevertheless, if the cause
    /// has gone by then.
    pub async fn prepare(&self, chain: &Arc<str>) -> Result<(), StoreError> {
        self.worker()?.prepare(Arc::clone(chain)).await
    }

    /// Checks that the directory and the segments that are written are still at their paths. Does not wait for a write.
    ///
    /// # Errors
    /// `Lost` if one was removed, renamed or replaced.
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.0.place.check_files()
    }

    /// Closes the chains that this process writes, gives the rest of their last segments back to the file system, and
    /// lets another server open the directory.
    ///
    /// # Errors
    /// If the writing thread has ended.
    pub async fn close(&self) -> Result<(), StoreError> {
        let closed = match self.0.worker.get() {
            Some(Ok(worker)) => worker.close().await,
            _ => Ok(()),
        };
        self.0.place.watched.forget_all();
        drop(self.0.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        closed
    }

    /// Compresses the segments that are complete, and the last segments of chains whose newest event is older than
    /// `idle_before` and that no process writes. Returns the number of compressed segments. Readers and writers go on
    /// meanwhile.
    ///
    /// # Errors
    /// If a file cannot be read or written. The segments before it are compressed.
    pub async fn compress(&self, idle_before: Timestamp) -> Result<u64, StoreError> {
        self.read(move |shared| {
            let mut count = 0;
            for chain in shared.chains()? {
                count += maintenance::compress(&shared.place, &chain, idle_before)?;
            }
            Ok(count)
        })
        .await
    }

    fn worker(&self) -> Result<&Worker, StoreError> {
        let start = || {
            let Shared { place, ports, sizes, role, .. } = &*self.0;
            let opening = Opening {
                place: Arc::clone(place),
                clock: Arc::clone(&ports.clock),
                random: Arc::clone(&ports.random),
                sizes: *sizes,
                wait: *role == Role::Command,
            };
            Worker::start(opening, *role == Role::Command).map_err(|error| error.to_string())
        };
        let worker = self.0.worker.get_or_init(start);
        worker.as_ref().map_err(|error| StoreError::Unavailable(error.clone()))
    }

    /// Runs a read on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.0);
        let result = tokio::task::spawn_blocking(move || read(&shared)).await;
        let failed = |what: String| StoreError::Unavailable(format!("the audit journal: {what}"));
        result.map_err(|error| failed(error.to_string()))?.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => StoreError::Corrupt(error.to_string()),
            _ => failed(error.to_string()),
        })
    }

    /// Runs a read of one chain. Returns `None` if the directory has no such chain.
    async fn read_chain<T: Send + 'static>(
        &self,
        chain: &str,
        read: impl FnOnce(&Place, &mut Chain) -> io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let name: Arc<str> = chain.into();
        self.read(move |shared| {
            let Some(chain) = shared.chain_named(&name)? else { return Ok(None) };
            let mut chain = lock(&chain);
            chain.refresh(&shared.place)?;
            read(&shared.place, &mut chain).map(Some)
        })
        .await
    }
}

impl Shared {
    /// Returns a chain, if the directory has one of this name.
    fn chain_named(&self, name: &Arc<str>) -> io::Result<Option<Arc<Mutex<Chain>>>> {
        let known = self.known().get(name).cloned();
        let Some(folder) = names::directory_name(name).filter(|_| known.is_none()) else {
            return Ok(known);
        };
        let there = self.place.files.list(&self.place.directory)?.contains(&folder);
        Ok(if there { self.chains()?.into_iter().find(|c| lock(c).name == *name) } else { None })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Mutex<Chain>>>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all chains of the directory, in the order of their names.
    fn chains(&self) -> io::Result<Vec<Arc<Mutex<Chain>>>> {
        let mut folders = self.place.files.list(&self.place.directory)?;
        folders.sort_unstable();
        let mut known = self.known();
        let former = std::mem::take(&mut *known);
        for folder in folders {
            let Some(name) = names::chain_of_directory(&folder) else { continue };
            if known.len() >= MAX_CHAINS {
                let what =
                    format!("{}: more than {MAX_CHAINS} chains", self.place.directory.display());
                return Err(io::Error::other(what));
            }
            let name: Arc<str> = name.into();
            let chain = former.get(&name).cloned().unwrap_or_else(|| {
                let directory = self.place.directory.join(&folder);
                Arc::new(Mutex::new(Chain::new(Arc::clone(&name), directory)))
            });
            known.insert(name, chain);
        }
        Ok(known.values().cloned().collect())
    }
}

fn lock(chain: &Mutex<Chain>) -> MutexGuard<'_, Chain> {
    chain.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("directory", &self.0.place.directory)
            .finish_non_exhaustive()
    }
}
