//! Tests with a local issuer host that records its requests.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{issuers::KeyFile, outbound::NetworkOptions};

fn network() -> Network {
    Network::new(NetworkOptions::default()).unwrap()
}

/// A host that responds by path and records requests.
struct Host {
    origin: String,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    seen: Mutex<Vec<String>>,
}

impl Host {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        Self { origin, listener, tls: None, seen: Mutex::default() }
    }

    /// Starts a host with a certificate of this CA.
    async fn secure(authority: &CertifiedIssuer<'static, KeyPair>) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, authority).unwrap().der().clone();
        Self::with_certificate(certificate, &key).await
    }

    async fn with_certificate(certificate: CertificateDer<'static>, key: &KeyPair) -> Self {
        let chain = vec![certificate];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let host = Self::new().await;
        let tls = Some(TlsAcceptor::from(Arc::new(config.unwrap())));
        Self { origin: host.origin.replace("http:", "https:"), tls, ..host }
    }

    async fn serve(&self, answers: &[(&str, String)]) -> std::convert::Infallible {
        loop {
            let (tcp, _) = self.listener.accept().await.unwrap();
            match &self.tls {
                None => self.answer(tcp, answers).await,
                // A client that does not trust the certificate disconnects.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(tcp).await {
                        self.answer(stream, answers).await;
                    }
                }
            }
        }
    }

    /// Like [`Self::serve`], also with clients that do not use HTTP.
    async fn serve_anything(&self, answers: &[(&str, String)]) {
        loop {
            let (mut tcp, _) = self.listener.accept().await.unwrap();
            let mut first = [0];
            if matches!(tcp.peek(&mut first).await, Ok(1)) && first[0] == b'G' {
                self.answer(tcp, answers).await;
            } else {
                let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        }
    }

    async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        answers: &[(&str, String)],
    ) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let request = String::from_utf8(request).unwrap();
        let path = request.split(' ').nth(1).unwrap().to_owned();
        self.seen.lock().unwrap().push(request);
        let answer = answers.iter().find(|(known, _)| *known == path);
        let answer = answer.map_or_else(|| status("404 Not Found", ""), |(_, text)| text.clone());
        // The client may disconnect early.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    async fn fetch(
        &self,
        endpoint: IssuerEndpoint,
        answers: &[(&str, String)],
    ) -> Result<Vec<u8>, JwksError> {
        let source = KeyEndpoint::new(endpoint, network());
        tokio::select! {
            never = self.serve(answers) => match never {},
            fetched = source.fetch() => fetched,
        }
    }

    fn sent_token(&self) -> Vec<bool> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|request| request.contains("authorization: Bearer canary")).collect()
    }

    fn endpoint(&self) -> IssuerEndpoint {
        IssuerEndpoint {
            issuer: self.origin.clone(),
            jwks_uri: None,
            ca_file: None,
            bearer_token_file: None,
        }
    }

    fn document(&self, keys: &str) -> (&'static str, String) {
        let text = format!("{{\"issuer\":\"{}\",\"jwks_uri\":\"{keys}\"}}", self.origin);
        ("/.well-known/openid-configuration", status("200 OK", &text))
    }
}

fn status(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

#[tokio::test]
async fn reports_a_response_without_keys_and_what_to_do() {
    let host = Host::new().await;
    let keys = format!("{}/jwks", host.origin);
    let known = IssuerEndpoint { jwks_uri: Some(keys.clone()), ..host.endpoint() };
    let moved = format!(
        "HTTP/1.1 302 Found\r\nlocation: {keys}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    for (endpoint, answers, why) in [
        (known.clone(), vec![], "HTTP 404"),
        (known.clone(), vec![("/jwks", status("401 Unauthorized", ""))], "set bearer_token_file"),
        (known.clone(), vec![("/jwks", status("500 Internal Server Error", ""))], "HTTP 500"),
        (known.clone(), vec![("/jwks", moved)], "redirects are not followed"),
        (known.clone(), vec![("/jwks", status("200 OK", &"x".repeat(256 * 1024 + 1)))], "256 KiB"),
        (known.clone(), vec![("/jwks", "nonsense\r\n\r\n".to_owned())], "connection broke"),
        (host.endpoint(), vec![], "HTTP 404"),
        (host.endpoint(), vec![host.document("http://10.0.0.1/jwks")], "jwks_uri is not an https"),
        (
            IssuerEndpoint { jwks_uri: Some("http://10.0.0.1/".to_owned()), ..known.clone() },
            vec![],
            "must be an https",
        ),
        (
            IssuerEndpoint { ca_file: Some("/nowhere".into()), ..known.clone() },
            vec![],
            "ca_file: /nowhere: there is no",
        ),
        (
            IssuerEndpoint { bearer_token_file: Some("/nowhere".into()), ..known },
            vec![],
            "bearer_token_file: /nowhere",
        ),
    ] {
        let error = host.fetch(endpoint, &answers).await.unwrap_err();
        assert!(error.0.contains(why), "{error} is not {why}");
    }
}

#[tokio::test]
async fn discovers_keys_and_sends_the_token_only_to_the_issuer() {
    let (host, other) = (Host::new().await, Host::new().await);
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "canary\n").unwrap();
    let endpoint = IssuerEndpoint { bearer_token_file: Some(token), ..host.endpoint() };
    let keys = ("/jwks", status("200 OK", "keys"));
    let own = [host.document(&format!("{}/jwks", host.origin)), keys.clone()];
    assert_eq!(host.fetch(endpoint.clone(), &own).await.unwrap(), b"keys");
    assert_eq!(host.sent_token(), [true, true]);

    let away = [host.document(&format!("{}/jwks", other.origin))];
    let there = [keys];
    let fetched = tokio::select! {
        never = other.serve(&there) => match never {},
        fetched = host.fetch(endpoint, &away) => fetched,
    };
    assert_eq!(fetched.unwrap(), b"keys");
    assert_eq!(other.sent_token(), [false]);
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    named_authority("authority of the tests")
}

fn named_authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn pem(authority: &CertifiedIssuer<'static, KeyPair>) -> String {
    pem_of(authority.der())
}

fn pem_of(certificate: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn trusts_only_hosts_signed_by_the_ca_in_the_file() {
    let (own, foreign) = (authority(), authority());
    let (of_own, of_foreign) = (pem(&own), pem(&foreign));
    let folder = tempfile::tempdir().unwrap();
    let (file, token) = (folder.path().join("ca.crt"), folder.path().join("token"));
    fs::write(&token, "canary").unwrap();
    let host = Host::secure(&own).await;
    let (ca_file, bearer_token_file) = (Some(file.clone()), Some(token));
    let endpoint = IssuerEndpoint { ca_file, bearer_token_file, ..host.endpoint() };
    let answers =
        [host.document(&format!("{}/jwks", host.origin)), ("/jwks", status("200 OK", "keys"))];
    // The file is read at each fetch.
    for (authorities, believed) in [
        (&of_foreign, false),
        (&of_own, true),
        (&format!("{of_foreign}{of_own}"), true),
        (&of_foreign, false),
    ] {
        fs::write(&file, authorities).unwrap();
        host.seen.lock().unwrap().clear();
        match host.fetch(endpoint.clone(), &answers).await {
            Ok(keys) => assert!(believed && keys == b"keys"),
            Err(error) => assert!(!believed && error.0.contains("ca_file"), "{error}"),
        }
        assert_eq!(host.sent_token(), if believed { vec![true, true] } else { vec![] });
    }
    // The system's authorities do not include it either.
    let endpoint = IssuerEndpoint { ca_file: None, ..endpoint };
    let error = host.fetch(endpoint, &answers).await.unwrap_err().0;
    assert!(error.contains("not trusted here") && error.contains("set ca_file"), "{error}");
    assert!(host.sent_token().is_empty());
}

#[tokio::test]
async fn reports_tls_failures_with_cause_and_what_to_do() {
    let own = authority();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.crt");
    fs::write(&ca_file, pem(&own)).unwrap();
    let signed = |change: &dyn Fn(&mut CertificateParams)| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        (params.signed_by(&key, &own).unwrap().der().clone(), key)
    };
    let as_server = {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().der().clone(), key)
    };
    let trusted = folder.path().join("as-server.crt");
    fs::write(&trusted, pem_of(&as_server.0)).unwrap();
    let of_foreign = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &named_authority(name)).unwrap().der().clone(), key)
    };
    for ((certificate, key), ca_file, why, mend) in [
        (
            of_foreign("other"),
            &ca_file,
            "authority that is not trusted here",
            "ca_file must contain",
        ),
        // Every Kubernetes cluster gives its CA the same name.
        (
            of_foreign("authority of the tests"),
            &ca_file,
            "not from the trusted authority of this name",
            "ca_file must contain",
        ),
        (
            signed(&|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            &ca_file,
            "has expired",
            "renew it",
        ),
        (
            signed(&|params| params.not_before = rcgen::date_time_ymd(2999, 1, 1)),
            &ca_file,
            "not valid yet",
            "clock",
        ),
        (
            signed(&|params| {
                let names = CertificateParams::new(["issuer.example".to_owned()]);
                params.subject_alt_names = names.unwrap().subject_alt_names;
            }),
            &ca_file,
            "for another name",
            "write the host",
        ),
        (
            signed(&|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            &ca_file,
            "not for servers",
            "correct the certificate",
        ),
        (as_server, &trusted, "that of an authority (CA:TRUE)", "its own certificate"),
    ] {
        let host = Host::with_certificate(certificate, &key).await;
        let endpoint = IssuerEndpoint { ca_file: Some(ca_file.clone()), ..host.endpoint() };
        let error = host.fetch(endpoint, &[]).await.unwrap_err().0;
        assert!(error.contains(why) && error.contains(mend), "{error} is not {why}: {mend}");
        assert!(error.contains(&host.origin) && !error.contains("issuer.example"), "{error}");
    }
}

#[tokio::test]
async fn reports_how_far_a_request_to_an_unreachable_host_got() {
    let host = Host::new().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}/jwks", free.local_addr().unwrap());
    drop(free);
    let plain = host.origin.replace("http:", "https:");
    let html = status("200 OK", "\n<!doctype html><title>Sign in</title>");
    for (uri, why, mend) in [
        (closed, "cannot connect (connection refused)", "check whether the host runs"),
        ("https://issuer.invalid/jwks".to_owned(), "cannot be resolved", "name server"),
        (format!("{plain}/jwks"), "does not use TLS", "the port"),
        (format!("{}/jwks", host.origin), "HTML instead of JSON", "check the URI"),
    ] {
        let endpoint = IssuerEndpoint { jwks_uri: Some(uri), ..host.endpoint() };
        let answers = [("/jwks", html.clone())];
        let source = KeyEndpoint::new(endpoint, network());
        let error = tokio::select! {
            fetched = source.fetch() => fetched.unwrap_err().0,
            () = host.serve_anything(&answers) => unreachable!(),
        };
        assert!(error.contains(why) && error.contains(mend), "{error} is not {why}: {mend}");
    }
    // Accepts the connection, and sends nothing.
    let endpoint =
        IssuerEndpoint { jwks_uri: Some(format!("{}/jwks", host.origin)), ..host.endpoint() };
    let error = KeyEndpoint::new(endpoint, network()).fetch().await.unwrap_err().0;
    assert!(error.contains("no response within 5s"), "{error}");
}

#[tokio::test]
async fn requests_each_document_with_its_registered_media_type() {
    let host = Host::new().await;
    let answers =
        [host.document(&format!("{}/jwks", host.origin)), ("/jwks", status("200 OK", "keys"))];
    host.fetch(host.endpoint(), &answers).await.unwrap();
    let seen = host.seen.lock().unwrap().clone();
    assert!(seen[0].contains("accept: application/json, */*;q=0.1\r\n"), "{}", seen[0]);
    let wanted = "accept: application/jwk-set+json, application/json, */*;q=0.1\r\n";
    assert!(seen[1].contains(wanted), "{}", seen[1]);
}

#[tokio::test]
async fn accepts_a_byte_order_mark_in_every_file_of_an_issuer() {
    let own = authority();
    let host = Host::secure(&own).await;
    let folder = tempfile::tempdir().unwrap();
    let (ca_file, token) = (folder.path().join("ca.crt"), folder.path().join("token"));
    fs::write(&ca_file, format!("\u{feff}{}", pem(&own))).unwrap();
    fs::write(&token, "\u{feff}canary\r\n").unwrap();
    let (ca_file, bearer_token_file) = (Some(ca_file), Some(token.clone()));
    let endpoint = IssuerEndpoint { ca_file, bearer_token_file, ..host.endpoint() };
    let answers =
        [host.document(&format!("{}/jwks", host.origin)), ("/jwks", status("200 OK", "keys"))];
    host.fetch(endpoint.clone(), &answers).await.unwrap();
    assert_eq!(host.sent_token(), [true, true]);

    let file = folder.path().join("jwks.json");
    fs::write(&file, "\u{feff}{\"keys\":[]}").unwrap();
    assert_eq!(KeyFile::new(file.clone()).fetch().await.unwrap(), b"{\"keys\":[]}");
    for wide in [&file, &token] {
        fs::write(wide, b"\xff\xfe{\0").unwrap();
    }
    assert!(KeyFile::new(file).fetch().await.unwrap_err().0.contains("UTF-16"));
    assert!(host.fetch(endpoint, &answers).await.unwrap_err().0.contains("UTF-16"));
}

#[tokio::test]
async fn sends_the_current_token_of_the_file_with_each_fetch() {
    let host = Host::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let endpoint = IssuerEndpoint {
        jwks_uri: Some(format!("{}/jwks", host.origin)),
        bearer_token_file: Some(file.clone()),
        ..host.endpoint()
    };
    let source = KeyEndpoint::new(endpoint, network());
    let answers = [("/jwks", status("200 OK", "keys"))];
    for token in ["first", "second"] {
        fs::write(&file, token).unwrap();
        let fetched = tokio::select! {
            never = host.serve(&answers) => match never {},
            fetched = source.fetch() => fetched,
        };
        assert_eq!(fetched.unwrap(), b"keys");
        let seen = host.seen.lock().unwrap().pop().unwrap();
        assert!(seen.contains(&format!("authorization: Bearer {token}\r\n")), "{seen}");
    }
}

#[tokio::test]
async fn reports_an_invalid_token_file_without_its_content() {
    let host = Host::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    for text in ["", "\n", "canary canary", "canary\ncanary", "canary\u{e4}"] {
        fs::write(&file, text).unwrap();
        let endpoint = IssuerEndpoint { bearer_token_file: Some(file.clone()), ..host.endpoint() };
        let error = host.fetch(endpoint, &[]).await.unwrap_err().0;
        assert!(error.contains("bearer_token_file") && !error.contains("canary"), "{error}");
    }
    assert!(host.sent_token().is_empty());
}

#[tokio::test]
async fn reads_a_key_file_completely_or_rejects_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let source = KeyFile::new(file.clone());
    assert!(source.fetch().await.unwrap_err().0.contains("there is no such file"));
    fs::write(&file, "keys").unwrap();
    assert_eq!(source.fetch().await.unwrap(), b"keys");
    fs::write(&file, vec![b'x'; 1024 * 1024 + 1]).unwrap();
    assert!(source.fetch().await.unwrap_err().0.contains("larger than 1 MiB"));
}
