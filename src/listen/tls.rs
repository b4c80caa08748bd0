//! TLS of a listener: what is in force, and how it is read again without dropping a connection.

mod bounds;
mod client_trust;
mod files;
mod validity;

use std::{
    convert::Infallible,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use jiff::Timestamp;
use rustls::{ServerConfig, pki_types::UnixTime, time_provider::TimeProvider};
use tokio::sync::Mutex;

pub(super) use self::client_trust::{ClientTrust, ShownChain};
use self::files::{Contents, Set};
pub use self::files::{TlsFiles, TlsProblem};
use crate::ports::{Clock, Reloadable, Settling};

/// How often the files are looked at. Content is compared, so that every way to replace a file is seen: in place,
/// by renaming, and by the symbolic link that Kubernetes turns to a new folder.
const LOOK_AT_FILES: Duration = Duration::from_secs(1);

/// Certificate, key and client authorities: read once at the start, and again when they change.
pub struct ServerTls {
    files: TlsFiles,
    time: Arc<ClockTime>,
    in_force: ArcSwap<ServerConfig>,
    /// With authorities of clients: whether the chains of open connections are still trusted.
    client_trust: Option<Arc<ClientTrust>>,
    looks: Mutex<Looks>,
    hasher: RandomState,
}

/// What was seen of the files, by the fingerprint of all of them together.
struct Looks {
    settling: Settling,
    /// How many sets have been in force.
    generation: u64,
}

impl ServerTls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// With everything that is wrong with them.
    pub fn load(files: TlsFiles, clock: Arc<dyn Clock>) -> Result<Self, Vec<TlsProblem>> {
        let contents = Contents::read(&files);
        let time = Arc::new(ClockTime(clock));
        let set = files::assemble(&files, &contents, Arc::clone(&time) as _)?;
        if let Some(warning) = files.warning_of_readers() {
            tracing::warn!("{warning}");
        }
        let hasher = RandomState::new();
        let fingerprint = hasher.hash_one(&contents);
        let tls = Self {
            files,
            time,
            in_force: ArcSwap::new(Arc::clone(&set.config)),
            client_trust: set
                .client_verifier
                .clone()
                .map(|verifier| Arc::new(ClientTrust::new(verifier))),
            looks: Mutex::new(Looks { settling: Settling::new(fingerprint), generation: 1 }),
            hasher,
        };
        tls.announce(&set, 1, "certificate loaded");
        Ok(tls)
    }

    /// Reads the files and takes nothing into force: the first and the last moment of the certificate, if they can
    /// be read.
    ///
    /// # Errors
    /// With everything that is wrong with them.
    pub fn inspect(
        files: &TlsFiles,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<(Timestamp, Timestamp)>, Vec<TlsProblem>> {
        let set = files::assemble(files, &Contents::read(files), Arc::new(ClockTime(clock)))?;
        Ok(set.validity.map(|valid| (valid.not_before, valid.not_after)))
    }

    /// For the next handshake.
    pub(super) fn in_force(&self) -> Arc<ServerConfig> {
        self.in_force.load_full()
    }

    /// Judges the certificates of connections that are open, if clients show any.
    pub(super) fn client_trust(&self) -> Option<Arc<ClientTrust>> {
        self.client_trust.clone()
    }

    /// Takes what changes, for ever.
    pub async fn watch(&self) -> Infallible {
        loop {
            self.time.0.sleep(LOOK_AT_FILES).await;
            self.look(false).await;
        }
    }

    async fn look(&self, asked: bool) {
        let mut looks = self.looks.lock().await;
        let files = self.files.clone();
        // The folder may be a network's.
        let read = tokio::task::spawn_blocking(move || Contents::read(&files)).await;
        let Ok(contents) = read else { return };
        if !looks.settling.look(self.hasher.hash_one(&contents), asked) {
            return;
        }
        match files::assemble(&self.files, &contents, Arc::clone(&self.time) as _) {
            Ok(set) => {
                self.in_force.store(Arc::clone(&set.config));
                if let (Some(trust), Some(verifier)) = (&self.client_trust, &set.client_verifier) {
                    trust.replace(Arc::clone(verifier));
                }
                looks.generation += 1;
                self.announce(&set, looks.generation, "certificate reloaded");
            }
            Err(problems) => {
                for TlsProblem { key, file, what } in problems {
                    tracing::error!(
                        listener = self.files.listener,
                        key,
                        file = %file.display(),
                        what,
                        "TLS files cannot be used; what was in force before stays in force"
                    );
                }
            }
        }
    }

    fn announce(&self, set: &Set, generation: u64, message: &'static str) {
        let (listener, file) = (self.files.listener, self.files.certificate.display());
        let Some(valid) = set.validity else {
            tracing::warn!(listener, %file, generation, "{message}, but its validity cannot be read");
            return;
        };
        let (from, until) = (valid.not_before, valid.not_after);
        tracing::info!(listener, %file, generation, not_after = %until, "{message}");
        let now = self.time.0.now();
        if now < from || until < now {
            tracing::warn!(listener, %file, not_before = %from, not_after = %until, "the certificate is not valid now; callers will refuse it");
        }
    }
}

#[async_trait]
impl Reloadable for ServerTls {
    async fn reload(&self) {
        self.look(true).await;
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Certificates are valid or not by the clock that everything else goes by.
struct ClockTime(Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockTime")
    }
}

#[cfg(test)]
pub(in crate::listen) mod tests;
