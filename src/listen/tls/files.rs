//! Builds a rustls configuration from the PEM files of a listener, or lists all problems.

use std::{
    fmt,
    fs::File,
    hash::{Hash, Hasher},
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    InconsistentKeys, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{
        NoServerSessionStorage, ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};
use zeroize::Zeroizing;

use super::{chain_limits::ChainLimitVerifier, validity::Validity};
use crate::{
    domain::{NotUtf8, remove_byte_order_marks, without_byte_order_mark},
    listen::Protocol,
    ports::explain_read_error,
};

/// The maximum file size. A bundle of all public CAs has a quarter of this.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// The files of a listener, as `[grpc.tls]` and `[http.tls]` name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The configuration section of the listener.
    pub listener: &'static str,
    /// The accepted HTTP versions.
    pub protocol: Protocol,
    /// The certificate chain, the listener's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub private_key: PathBuf,
    /// The CAs of clients. Certificates of other CAs are rejected.
    pub client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are rejected, if there is a client CA. Not where a token can identify
    /// them.
    pub client_certificate_required: bool,
}

/// A problem with one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsProblem {
    /// The key in the section `tls` that names the file.
    pub key: &'static str,
    /// The file.
    pub file: PathBuf,
    /// The problem, and what to do.
    pub what: String,
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

/// A consistent TLS configuration.
pub(super) struct TlsConfiguration {
    pub(super) config: Arc<ServerConfig>,
    pub(super) client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) validity: Option<Validity>,
}

/// The contents of the files at one moment. The hash shows whether anything changed, including read errors.
#[derive(Hash)]
pub(super) struct Contents {
    certificate: Content,
    private_key: Content,
    client_ca: Option<Content>,
}

struct Content(Result<Zeroizing<Vec<u8>>, &'static str>);

impl Hash for Content {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ref().map(|bytes| bytes.as_slice()).hash(state);
    }
}

impl TlsFiles {
    /// Returns a warning if every user can read the key. Kubernetes mounts secrets with mode 0644, so it is no error.
    pub(super) fn world_readable_key_warning(&self) -> Option<String> {
        use std::os::unix::fs::MetadataExt as _;
        let data = std::fs::metadata(&self.private_key).ok()?;
        (data.mode() & 0o004 != 0).then(|| {
            let (listener, file) = (self.listener, self.private_key.display());
            format!("{listener}.tls.private_key_file: every user of this machine can read {file}; run `chmod o-r` on it")
        })
    }
}

impl Contents {
    pub(super) fn read(files: &TlsFiles) -> Self {
        let read = |path: &Path| Content(read_bounded(path));
        Self {
            certificate: read(&files.certificate),
            private_key: read(&files.private_key),
            client_ca: files.client_ca.as_deref().map(read),
        }
    }
}

fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut file = File::open(path).map_err(|error| explain_read_error(&error))?;
    // Allocates once: a buffer that grows would leave copies of the key in memory.
    let length = file.metadata().map_or(0, |data| data.len());
    let room = usize::try_from(length).unwrap_or(MAX_FILE_BYTES).min(MAX_FILE_BYTES);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room + 1));
    let limit = u64::try_from(MAX_FILE_BYTES + 1).unwrap_or(u64::MAX);
    file.by_ref()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| explain_read_error(&error))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err("is larger than 1 MiB");
    }
    // PEM parsers look for BEGIN at the beginning of a line.
    without_byte_order_mark(&bytes).map_err(NotUtf8::text)?;
    // Concatenated files have byte order marks in the middle, too.
    remove_byte_order_marks(&mut bytes);
    Ok(bytes)
}

/// Builds the configuration, if all files are complete and match each other.
pub(super) fn build_tls_configuration(
    files: &TlsFiles,
    contents: &Contents,
    time: Arc<dyn TimeProvider>,
) -> Result<TlsConfiguration, Vec<TlsProblem>> {
    let provider = Arc::new(default_provider());
    let problem = |key, file: &Path, what| TlsProblem { key, file: file.to_owned(), what };
    let key_problem = |what| problem("private_key_file", &files.private_key, what);
    let chain = certificates(&contents.certificate)
        .map_err(|what| problem("certificate_file", &files.certificate, what));
    let key = private_key(&contents.private_key, &provider).map_err(key_problem);
    let authorities = match (&files.client_ca, &contents.client_ca) {
        (Some(file), Some(content)) => {
            authorities(content).map(Some).map_err(|what| problem("client_ca_file", file, what))
        }
        _ => Ok(None),
    };
    let (chain, key, authorities) = match (chain, key, authorities) {
        (Ok(chain), Ok(key), Ok(authorities)) => (chain, key, authorities),
        (chain, key, authorities) => {
            let problems = [chain.err(), key.err(), authorities.err()];
            return Err(problems.into_iter().flatten().collect());
        }
    };
    let validity = chain.first().and_then(|own| Validity::from_der(own));
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        // Unknown: this kind of key does not expose its public key. The handshake will check it.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(_) => {
            let certificate = files.certificate.display();
            let what = format!(
                "is not the key of the first certificate in {certificate}: replace both together"
            );
            return Err(vec![key_problem(what)]);
        }
    }
    let unusable = |error| vec![key_problem(format!("cannot be used for TLS ({error})"))];
    let client_verifier = authorities
        .map(|authorities| client_verifier(files, authorities, Arc::clone(&provider)))
        .transpose()
        .map_err(|error| unusable(error.into()))?;
    let config =
        server_config(files, pair, client_verifier.clone(), provider, time).map_err(unusable)?;
    Ok(TlsConfiguration { config: Arc::new(config), client_verifier, validity })
}

fn client_verifier(
    files: &TlsFiles,
    authorities: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
    let required = files.client_certificate_required;
    let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
    Ok(Arc::new(ChainLimitVerifier(verifier.build()?)))
}

fn server_config(
    files: &TlsFiles,
    pair: CertifiedKey,
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let builder = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let asks_for_certificates = client_verifier.is_some();
    let builder = match client_verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = files.protocol.alpn();
    if asks_for_certificates {
        // A resumed session sends no certificate, so it would outlive the client's certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn certificates(content: &Content) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = content.0.as_ref().map_err(|what| (*what).to_owned())?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(&error))?;
    if chain.is_empty() {
        return Err(
            "contains no certificate; it must be PEM (-----BEGIN CERTIFICATE-----)".to_owned()
        );
    }
    for (number, certificate) in (1..).zip(&chain) {
        if let Err(error) = ParsedCertificate::try_from(certificate) {
            return Err(format!("certificate {number} in the file cannot be parsed ({error})"));
        }
    }
    Ok(chain)
}

fn authorities(content: &Content) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(content)?) {
        store.add(certificate).map_err(|error| {
            format!("certificate {number} in the file cannot be used as a CA ({error})")
        })?;
    }
    Ok(store)
}

fn private_key(
    content: &Content,
    provider: &CryptoProvider,
) -> Result<Arc<dyn rustls::sign::SigningKey>, String> {
    let bytes = content.0.as_ref().map_err(|what| (*what).to_owned())?;
    let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            "contains no private key; it must be unencrypted PEM (-----BEGIN PRIVATE KEY-----)"
                .to_owned()
        }
        error => not_pem(&error),
    })?;
    provider.key_provider.load_private_key(key).map_err(|_| {
        "contains a key that TLS does not support; use RSA with at least 2048 bits, ECDSA P-256 or P-384, or Ed25519"
            .to_owned()
    })
}

/// Describes a PEM error without quoting the file, as the error itself would.
fn not_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "is incomplete: a PEM section has no end; write the file again".to_owned()
        }
        _ => "is not valid PEM".to_owned(),
    }
}
