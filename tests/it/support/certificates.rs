//! Certificate authorities, certificates and TLS clients for tests.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

/// Issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: Vec<u8>,
    key: Vec<u8>,
    /// Intermediate certificates that are sent with it.
    pub(crate) others: Vec<Vec<u8>>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        // Differs from the names it signs: some clients take equal names for a self-signed certificate.
        params.distinguished_name.push(DnType::CommonName, "authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Issues a new certificate for `localhost` and 127.0.0.1, valid for servers and clients.
    pub(crate) fn issue(&self) -> Identity {
        self.issue_until(4000)
    }

    /// Like [`Self::issue`], valid until the first day of a year.
    pub(crate) fn issue_until(&self, year: i32) -> Identity {
        let mut params =
            CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        let certificate = params.clone().signed_by(&key, issuer).unwrap();
        Identity {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            others: Vec::new(),
        }
    }

    /// Issues a client certificate with these alternative names (RFC 5280, 4.2.1.6), unchanged.
    pub(crate) fn issue_for(&self, uris: &[&str], names: &[&str]) -> Identity {
        let mut params = CertificateParams::default();
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let names = names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        params.subject_alt_names = uris.chain(names).collect();
        self.sign(&params)
    }

    /// Like [`Self::issue_for`] with one URI, valid until a time in Unix seconds.
    pub(crate) fn issue_for_until(&self, uri: &str, seconds: i64) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let since = std::time::Duration::from_secs(u64::try_from(seconds).unwrap());
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since;
        self.sign(&params)
    }

    /// Returns its own certificate.
    pub(crate) fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    /// Returns a client that trusts this authority.
    pub(crate) fn client(&self) -> Client {
        Client {
            authority: self.0.der().clone(),
            identity: None,
            versions: rustls::ALL_VERSIONS.to_vec(),
            alpn: Some("h2"),
        }
    }
}

impl Identity {
    pub(crate) fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// Returns the TLS configuration of a server with this certificate and one protocol.
    pub(crate) fn server(self, alpn: &str) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let (chain, key) = (vec![self.certificate.into()], PrivateKeyDer::Pkcs8(self.key.into()));
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config
    }

    /// Replaces `tls.crt` and `tls.key` atomically: writes new files, then renames them.
    pub(crate) fn write(&self, folder: &Path) {
        replace(folder, "tls.crt", &self.certificate_pem());
        replace(folder, "tls.key", &self.key_pem());
    }
}

/// Writes a new file into a folder, and renames it over the old one.
pub(crate) fn replace(folder: &Path, file: &str, text: &str) {
    let beside = folder.join(".beside");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, folder.join(file)).unwrap();
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|l| str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A TLS client.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) authority: CertificateDer<'static>,
    pub(crate) identity: Option<Identity>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    pub(crate) alpn: Option<&'static str>,
}

/// An open connection, and the certificate and protocol that were negotiated.
pub(crate) struct Connected {
    pub(crate) channel: Channel,
    pub(crate) certificate: Vec<u8>,
    pub(crate) version: ProtocolVersion,
}

impl Client {
    /// Adds a client certificate.
    pub(crate) fn showing(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.identity.clone() {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key, others }) => {
                let chain = std::iter::once(certificate).chain(others).map(Into::into).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(key.into())).unwrap()
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// Does the TLS handshake only.
    pub(crate) async fn handshake(&self, to: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(to).await?;
        let connector = TlsConnector::from(Arc::new(self.config()));
        connector.connect("localhost".try_into().unwrap(), tcp).await
    }

    /// Opens a gRPC channel on one connection without reconnects.
    pub(crate) async fn connect(
        &self,
        to: SocketAddr,
    ) -> Result<Connected, Box<dyn std::error::Error>> {
        let tls = self.handshake(to).await?;
        let session = tls.get_ref().1;
        let certificate = session.peer_certificates().unwrap()[0].to_vec();
        let version = session.protocol_version().unwrap();
        let once = Mutex::new(Some(TokioIo::new(tls)));
        let connector = tower::service_fn(move |_| {
            let tls = once.lock().unwrap().take();
            std::future::ready(tls.ok_or_else(|| io::Error::other("connected already")))
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connector).await?;
        Ok(Connected { channel, certificate, version })
    }
}
