//! TLS of outbound connections: the system's certificate authorities, and those of a reloadable file.

use std::{
    convert::Infallible,
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, RootCertStore,
    client::danger::ServerCertVerifier,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject as _},
    },
};
use rustls_platform_verifier::Verifier;
use tokio::sync::Mutex;

use super::stream::ALPN_HTTP_2;
use crate::{
    domain::{NotUtf8, remove_byte_order_marks, without_byte_order_mark},
    ports::{ChangeDetector, Clock, explain_read_error},
};

const ALPN_HTTP_1: &[u8] = b"http/1.1";

/// The interval between two checks of the file of authorities. Contents are compared, as for the files of listeners.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum file size. A bundle of all public CAs has a quarter of this.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// TLS cannot be set up.
#[derive(Debug, Clone, thiserror::Error)]
#[error("TLS of outbound connections cannot be set up: {0}")]
pub struct TlsError(#[from] rustls::Error);

/// Certificates of authorities.
#[derive(Debug, Clone)]
pub struct Authorities(Vec<CertificateDer<'static>>);

/// A file does not contain usable authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthoritiesError {
    /// The text is not PEM.
    #[error("is not valid PEM")]
    NotPem,
    /// There is no certificate in the text.
    #[error("contains no certificate; it must be PEM (-----BEGIN CERTIFICATE-----)")]
    Empty,
    /// A certificate is malformed.
    #[error("contains a certificate that cannot be parsed; export it again as PEM")]
    NotACertificate,
}

impl Authorities {
    /// Parses PEM.
    ///
    /// # Errors
    /// If there is no certificate, or one that cannot be parsed.
    pub fn from_pem(text: &[u8]) -> Result<Self, AuthoritiesError> {
        let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
        let found = found.map_err(|_| AuthoritiesError::NotPem)?;
        if found.is_empty() {
            return Err(AuthoritiesError::Empty);
        }
        let mut store = RootCertStore::empty();
        for certificate in &found {
            store.add(certificate.clone()).map_err(|_| AuthoritiesError::NotACertificate)?;
        }
        Ok(Self(found))
    }
}

/// The TLS settings of clients.
#[derive(Debug)]
pub(super) struct Tls {
    /// For hosts: HTTP/2 or HTTP/1.1.
    pub(super) to_host: Arc<ClientConfig>,
    /// For a proxy with TLS: HTTP/1.1.
    pub(super) to_proxy: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts the system's authorities and `extra`.
    pub(super) fn with_system(extra: Option<Authorities>) -> Result<Self, TlsError> {
        let extra = extra.map(|authorities| authorities.0).unwrap_or_default();
        let provider = provider();
        let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider))?;
        Self::verified_by(Arc::new(verifier), provider)
    }

    /// Trusts only these authorities for hosts. A proxy is trusted as in `shared`.
    pub(super) fn only(authorities: Authorities, shared: &Self) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for certificate in authorities.0 {
            store.add(certificate)?;
        }
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions()?;
        let mut to_host = builder.with_root_certificates(store).with_no_client_auth();
        to_host.alpn_protocols = vec![ALPN_HTTP_2.to_vec(), ALPN_HTTP_1.to_vec()];
        Ok(Self { to_host: Arc::new(to_host), to_proxy: Arc::clone(&shared.to_proxy) })
    }

    fn verified_by(
        verifier: Arc<dyn ServerCertVerifier>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut to_host = builder.with_no_client_auth();
        let mut to_proxy = to_host.clone();
        to_host.alpn_protocols = vec![ALPN_HTTP_2.to_vec(), ALPN_HTTP_1.to_vec()];
        to_proxy.alpn_protocols = vec![ALPN_HTTP_1.to_vec()];
        Ok(Self { to_host: Arc::new(to_host), to_proxy: Arc::new(to_proxy) })
    }
}

fn provider() -> Arc<CryptoProvider> {
    let installed = CryptoProvider::get_default().cloned();
    installed.unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// The current settings, and the file that changes them.
pub(super) struct ReloadableTls {
    ca_file: Option<PathBuf>,
    current: ArcSwap<Tls>,
    settling: Mutex<ChangeDetector>,
    hasher: RandomState,
}

impl ReloadableTls {
    /// Reads the file for the first time.
    pub(super) fn load(ca_file: Option<PathBuf>) -> Result<Self, CaFileError> {
        let hasher = RandomState::new();
        let content = ca_file.as_deref().map(read).transpose();
        let fingerprint = hasher.hash_one(&content);
        let authorities = content?.map(|text| Authorities::from_pem(&text)).transpose()?;
        let in_force = ArcSwap::from_pointee(Tls::with_system(authorities)?);
        let settling = Mutex::new(ChangeDetector::new(fingerprint));
        Ok(Self { ca_file, current: in_force, settling, hasher })
    }

    pub(super) fn current(&self) -> Arc<Tls> {
        self.current.load_full()
    }

    /// Reloads the file when it changes. Never returns.
    pub(super) async fn watch(&self, clock: &dyn Clock) -> Infallible {
        if self.ca_file.is_none() {
            std::future::pending::<Infallible>().await;
        }
        loop {
            clock.sleep(FILE_CHECK_INTERVAL).await;
            self.check_file(false).await;
        }
    }

    /// Reads the file, and uses it if it has changed. `requested`: an explicit reload.
    pub(super) async fn check_file(&self, requested: bool) {
        let Some(path) = self.ca_file.clone() else { return };
        let mut settling = self.settling.lock().await;
        let file = path.display().to_string();
        // The directory may be on a network file system.
        let reading = tokio::task::spawn_blocking(move || Some(read(&path)).transpose()).await;
        let Ok(content) = reading else { return };
        if !settling.should_reload(self.hasher.hash_one(&content), requested) {
            return;
        }
        let tls = content.map_err(CaFileError::from).and_then(|text| {
            let authorities = text.map(|text| Authorities::from_pem(&text)).transpose()?;
            Ok(Tls::with_system(authorities)?)
        });
        match tls {
            Ok(tls) => {
                self.current.store(Arc::new(tls));
                tracing::info!(file, "certificate authorities of outbound connections reloaded");
            }
            Err(error) => tracing::error!(
                file,
                %error,
                "outbound.ca_file cannot be used; keeping the previous authorities"
            ),
        }
    }
}

/// The file of authorities cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum CaFileError {
    #[error("{0}")]
    Unreadable(&'static str),
    #[error(transparent)]
    Authorities(#[from] AuthoritiesError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl From<&'static str> for CaFileError {
    fn from(what: &'static str) -> Self {
        Self::Unreadable(what)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, &'static str> {
    let file = File::open(path).map_err(|error| explain_read_error(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| explain_read_error(&error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err("is larger than 1 MiB");
    }
    without_byte_order_mark(&bytes).map_err(NotUtf8::text)?;
    // Concatenated files have byte order marks in the middle, too.
    remove_byte_order_marks(&mut bytes);
    Ok(bytes)
}
