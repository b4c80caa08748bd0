use std::fs;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    access::{CertificateRules, PeerCertificate},
    domain::TrustedProxies,
    listen::{
        TlsFiles,
        tls::tests::{Authority, clock},
    },
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct TestServer {
    address: SocketAddr,
    opened: mpsc::Receiver<Connection>,
    stop: CancellationToken,
    accepting: JoinHandle<()>,
}

async fn server(tls: Option<ServerTls>) -> TestServer {
    server_for(Protocol::Http2, tls).await
}

async fn server_for(protocol: Protocol, tls: Option<ServerTls>) -> TestServer {
    server_at(
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        FrontProxies::default(),
        protocol,
        tls,
    )
}

async fn server_behind(
    proxies: FrontProxies,
    protocol: Protocol,
    tls: Option<ServerTls>,
) -> TestServer {
    server_at(TcpListener::bind("127.0.0.1:0").await.unwrap(), proxies, protocol, tls)
}

#[expect(clippy::disallowed_methods, reason = "the test owns it")]
fn server_at(
    listener: TcpListener,
    proxies: FrontProxies,
    protocol: Protocol,
    tls: Option<ServerTls>,
) -> TestServer {
    let address = listener.local_addr().unwrap();
    let (sender, opened) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let (name, tls, unauthorized_connections) = ("test", tls.map(Arc::new), 64);
    let acceptor = Acceptor {
        name,
        protocol,
        listener,
        tls,
        proxies,
        unauthorized_connections,
        intake: Arc::default(),
        stop: stop.clone(),
    };
    TestServer { address, opened, stop, accepting: tokio::spawn(acceptor.run(sender)) }
}

/// Returns a client configuration that trusts the CA and sends a certificate of it.
fn trusting(authority: &Authority) -> ClientConfig {
    let (certificate, key) = authority.issue();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.der().to_vec())).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    config.alpn_protocols = vec![ALPN_HTTP_2.to_vec()];
    config
}

#[tokio::test]
async fn a_connection_has_the_clients_address_and_verified_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let tls = ServerTls::load(authority.write(folder.path()), clock()).unwrap();
    let mut server = server(Some(tls)).await;

    let config = trusting(&authority);
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let from = tcp.local_addr().unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut client = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    client.write_all(PREFACE).await.unwrap();
    client.write_all(b"and more").await.unwrap();

    let mut connection = server.opened.recv().await.unwrap();
    assert_eq!(connection.address(), from);
    let shown = connection.client_certificate().unwrap();
    assert_eq!(
        PeerCertificate::read(shown.der(), &CertificateRules::default()).unwrap().id(),
        "localhost"
    );
    // The server sees every byte once.
    let mut words = [0; 32];
    connection.read_exact(&mut words).await.unwrap();
    assert_eq!(words, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more");
}

#[tokio::test]
async fn an_ipv4_client_of_an_ipv6_listener_has_its_ipv4_address() {
    let any = "[::]:0".parse().unwrap();
    let listener = crate::listen::bound_socket(any).unwrap().listen(8).unwrap();
    let mut server = server_at(listener, FrontProxies::default(), Protocol::Http2, None);
    for loopback in ["127.0.0.1", "::1"] {
        let address = (loopback, server.address.port());
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(PREFACE).await.unwrap();
        let connection = server.opened.recv().await.unwrap();
        assert_eq!(connection.address(), client.local_addr().unwrap());
        assert_eq!(connection.address().is_ipv4(), loopback == "127.0.0.1");
    }
}

#[tokio::test]
async fn accepts_clients_without_a_certificate_only_if_none_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.write(folder.path());
    let foreign = Authority::new().issue();
    for (required, shown, accepted) in [
        (true, None, false),
        (false, None, true),
        (true, Some(&foreign), false),
        (false, Some(&foreign), false),
    ] {
        let files = TlsFiles { client_certificate_required: required, ..files.clone() };
        let mut server = server(Some(ServerTls::load(files, clock()).unwrap())).await;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.der().to_vec())).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![ALPN_HTTP_2.to_vec()];
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut client = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        // In TLS 1.3 the client learns of a rejection only after its own handshake is complete.
        let _ = client.write_all(PREFACE).await;
        if accepted {
            assert!(server.opened.recv().await.unwrap().client_certificate().is_none());
        } else {
            assert!(client.read_u8().await.is_err());
            assert!(server.opened.try_recv().is_err());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn disconnects_silent_clients_with_and_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::new().write(folder.path());
    fs::remove_file(files.client_ca.unwrap()).unwrap();
    let tls = ServerTls::load(TlsFiles { client_ca: None, ..files }, clock()).unwrap();
    for tls in [Some(tls), None] {
        let with_tls = tls.is_some();
        let server = server(tls).await;
        let begin = Instant::now();
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        // The first byte of a TLS handshake, or of HTTP/2.
        let first = if with_tls { 0x16 } else { b'P' };
        silent.write_u8(first).await.unwrap();
        let mut nothing = Vec::new();
        let _ = silent.read_to_end(&mut nothing).await;
        assert!(begin.elapsed() >= OPENING_TIME);
    }
}

#[tokio::test]
async fn rejects_other_protocols_on_an_http2_listener_at_once() {
    let server = server(None).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut nothing = Vec::new();
    let _ = client.read_to_end(&mut nothing).await;
    assert_eq!(nothing, b"");
}

#[tokio::test]
async fn detects_the_http_version_and_replays_the_first_bytes() {
    let mut server = server_for(Protocol::Http2OrHttp1, None).await;
    for (words, protocol) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], HttpVersion::Http1),
        (b"P", HttpVersion::Http1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!", HttpVersion::Http1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more", HttpVersion::Http2),
    ] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(words).await.unwrap();
        // The next bytes decide the version.
        if words == b"P" {
            client.write_all(b"UT").await.unwrap();
        }
        client.shutdown().await.unwrap();
        let mut connection = server.opened.recv().await.unwrap();
        assert_eq!(connection.version(), protocol);
        let mut seen = Vec::new();
        connection.read_to_end(&mut seen).await.unwrap();
        assert!(seen.starts_with(words), "{seen:?}");
    }
}

#[tokio::test]
async fn stopping_drops_connections_in_handshake_and_frees_the_port() {
    let mut server = server(None).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    server.stop.cancel();
    server.accepting.await.unwrap();
    assert!(server.opened.recv().await.is_none());
    assert!(TcpStream::connect(server.address).await.is_err());
    for mut client in silent {
        let mut nothing = Vec::new();
        let _ = client.read_to_end(&mut nothing).await;
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_disconnects_only_peers_that_send_nothing() {
    let mut server = server(None).await;
    for answers in [false, true] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(PREFACE).await.unwrap();
        let mut connection = server.opened.recv().await.unwrap();
        let mut words = [0; 24];
        connection.read_exact(&mut words).await.unwrap();
        server.stop.cancel();
        let read = async { connection.read_exact(&mut words[..1]).await };
        if answers {
            let write = async { client.write_all(b"x").await };
            tokio::try_join!(read, write).unwrap();
            let patience = Duration::from_mins(1);
            timeout(patience, connection.read_u8()).await.unwrap_err();
        } else {
            assert_eq!(read.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            // The listener has stopped, so the next connection needs a new one.
            server = self::server(None).await;
        }
    }
}

#[test]
fn limits_log_lines_about_rejected_connections() {
    let mut log = RejectLog::new("test");
    assert_eq!(log.suppressed_if_due(), Some(0));
    assert_eq!((log.suppressed_if_due(), log.suppressed_if_due()), (None, None));
    log.next = None;
    assert_eq!(log.suppressed_if_due(), Some(2));
}

/// Starts a server behind a proxy in `trusted` that sends the PROXY protocol.
async fn server_behind_a_proxy_in(trusted: &str, tls: Option<ServerTls>) -> TestServer {
    let trusted = TrustedProxies::new(vec![trusted.parse().unwrap()]);
    server_behind(FrontProxies { trusted, proxy_protocol: true }, Protocol::Http2OrHttp1, tls).await
}

const FORGED: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.2 50000 443\r\n";

/// Returns whether the connection is closed without being passed on.
async fn is_refused(server: &mut TestServer, bytes: &[u8]) -> bool {
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    // A connection that is closed with unread bytes is reset.
    let ended = client.read_to_end(&mut rest).await;
    let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
    assert!(ended.as_ref().map_or_else(is_reset, |_| true), "{ended:?}");
    rest.is_empty() && server.opened.try_recv().is_err()
}

#[tokio::test]
async fn rejects_a_proxy_header_from_an_untrusted_peer() {
    let mut server = server_behind_a_proxy_in("10.0.0.0/8", None).await;
    assert!(is_refused(&mut server, &[FORGED, b"GET / HTTP/1.1\r\n\r\n"].concat()).await);
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x02\xc3\x50\x01\xbb";
    assert!(is_refused(&mut server, binary).await);
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let connection = server.opened.recv().await.unwrap();
    assert_eq!(connection.address(), client.local_addr().unwrap());
}

#[tokio::test]
async fn requires_a_proxy_header_from_a_trusted_proxy() {
    let mut server = server_behind_a_proxy_in("127.0.0.0/8", None).await;
    assert!(is_refused(&mut server, PREFACE).await);
    assert!(is_refused(&mut server, b"PROXY TCP4 nonsense\r\n").await);
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(&[FORGED, PREFACE].concat()).await.unwrap();
    let connection = server.opened.recv().await.unwrap();
    assert_eq!(connection.address(), "192.0.2.7:50000".parse().unwrap());
    assert_eq!(connection.version(), HttpVersion::Http2);
}

#[tokio::test]
async fn a_header_comes_before_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let tls = ServerTls::load(authority.write(folder.path()), clock()).unwrap();
    let mut server = server_behind_a_proxy_in("127.0.0.1", Some(tls)).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(FORGED).await.unwrap();
    let connector = TlsConnector::from(Arc::new(trusting(&authority)));
    let mut client = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    client.write_all(PREFACE).await.unwrap();
    let connection = server.opened.recv().await.unwrap();
    assert_eq!(connection.address(), "192.0.2.7:50000".parse().unwrap());
    assert!(connection.client_certificate().is_some());
}
