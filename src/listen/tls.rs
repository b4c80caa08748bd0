//! The TLS configuration of a listener, and its reload without dropping connections.

mod chain_limits;
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

pub(super) use self::client_trust::{ClientChain, ClientTrust};
use self::files::{Contents, TlsConfiguration};
pub use self::files::{TlsFiles, TlsProblem};
use crate::ports::{ChangeDetector, Clock, Reloadable};

/// The interval between two checks of the files. Contents are compared, so that every kind of replacement is noticed:
/// in place, by renaming, and by the symbolic link that Kubernetes switches to a new directory.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The certificate, key and client CA of a listener. They are read at startup, and again when they change.
pub struct ServerTls {
    files: TlsFiles,
    time: Arc<ClockTime>,
    current_config: ArcSwap<ServerConfig>,
    /// The verifier for client certificates of open connections, if there is a client CA.
    client_trust: Option<Arc<ClientTrust>>,
    reload_state: Mutex<ReloadState>,
    hasher: RandomState,
}

/// The state of the reload: the fingerprint of all files together.
struct ReloadState {
    settling: ChangeDetector,
    /// The number of configurations that were loaded.
    generation: u64,
}

impl ServerTls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// All problems of the files.
    pub fn load(files: TlsFiles, clock: Arc<dyn Clock>) -> Result<Self, Vec<TlsProblem>> {
        let contents = Contents::read(&files);
        let time = Arc::new(ClockTime(clock));
        let set = files::build_tls_configuration(&files, &contents, Arc::clone(&time) as _)?;
        if let Some(warning) = files.world_readable_key_warning() {
            tracing::warn!("{warning}");
        }
        let hasher = RandomState::new();
        let fingerprint = hasher.hash_one(&contents);
        let tls = Self {
            files,
            time,
            current_config: ArcSwap::new(Arc::clone(&set.config)),
            client_trust: set
                .client_verifier
                .clone()
                .map(|verifier| Arc::new(ClientTrust::new(verifier))),
            reload_state: Mutex::new(ReloadState {
                settling: ChangeDetector::new(fingerprint),
                generation: 1,
            }),
            hasher,
        };
        tls.announce(&set, 1, "certificate loaded");
        Ok(tls)
    }

    /// Checks the files without using them. Returns the validity period of the certificate, if it is readable.
    ///
    /// # Errors
    /// All problems of the files.
    pub fn inspect(
        files: &TlsFiles,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<(Timestamp, Timestamp)>, Vec<TlsProblem>> {
        let set = files::build_tls_configuration(
            files,
            &Contents::read(files),
            Arc::new(ClockTime(clock)),
        )?;
        Ok(set.validity.map(|valid| (valid.not_before, valid.not_after)))
    }

    /// Returns the configuration for the next handshake.
    pub(super) fn current_config(&self) -> Arc<ServerConfig> {
        self.current_config.load_full()
    }

    /// Returns the verifier for client certificates of open connections, if there is a client CA.
    pub(super) fn client_trust(&self) -> Option<Arc<ClientTrust>> {
        self.client_trust.clone()
    }

    /// Reloads the files when they change. Never returns.
    pub async fn watch(&self) -> Infallible {
        loop {
            self.time.0.sleep(FILE_CHECK_INTERVAL).await;
            self.check_files(false).await;
        }
    }

    async fn check_files(&self, requested: bool) {
        let mut state = self.reload_state.lock().await;
        let files = self.files.clone();
        // The directory may be on a network file system.
        let read = tokio::task::spawn_blocking(move || Contents::read(&files)).await;
        let Ok(contents) = read else { return };
        if !state.settling.should_reload(self.hasher.hash_one(&contents), requested) {
            return;
        }
        match files::build_tls_configuration(&self.files, &contents, Arc::clone(&self.time) as _) {
            Ok(set) => {
                self.current_config.store(Arc::clone(&set.config));
                if let (Some(trust), Some(verifier)) = (&self.client_trust, &set.client_verifier) {
                    trust.replace(Arc::clone(verifier));
                }
                state.generation += 1;
                self.announce(&set, state.generation, "certificate reloaded");
            }
            Err(problems) => {
                for TlsProblem { key, file, what } in problems {
                    tracing::error!(
                        listener = self.files.listener,
                        key,
                        file = %file.display(),
                        what,
                        "TLS files cannot be used; keeping the previous ones"
                    );
                }
            }
        }
    }

    fn announce(&self, set: &TlsConfiguration, generation: u64, message: &'static str) {
        let (listener, file) = (self.files.listener, self.files.certificate.display());
        let Some(valid) = set.validity else {
            tracing::warn!(listener, %file, generation, "{message}, but its validity period is unreadable");
            return;
        };
        let (from, until) = (valid.not_before, valid.not_after);
        tracing::info!(listener, %file, generation, not_after = %until, "{message}");
        let now = self.time.0.now();
        if now < from || until < now {
            tracing::warn!(listener, %file, not_before = %from, not_after = %until, "the certificate is not valid now; clients will reject it");
        }
    }
}

#[async_trait]
impl Reloadable for ServerTls {
    async fn reload(&self) {
        self.check_files(true).await;
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Verifies certificates with the clock of the application.
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
