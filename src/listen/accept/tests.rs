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

struct Door {
    address: SocketAddr,
    opened: mpsc::Receiver<Connection>,
    stop: CancellationToken,
    accepting: JoinHandle<()>,
}

async fn door(tls: Option<ServerTls>) -> Door {
    door_for(Speaks::Http2, tls).await
}

async fn door_for(speaks: Speaks, tls: Option<ServerTls>) -> Door {
    door_at(TcpListener::bind("127.0.0.1:0").await.unwrap(), FrontProxies::default(), speaks, tls)
}

async fn door_behind(proxies: FrontProxies, speaks: Speaks, tls: Option<ServerTls>) -> Door {
    door_at(TcpListener::bind("127.0.0.1:0").await.unwrap(), proxies, speaks, tls)
}

#[expect(clippy::disallowed_methods, reason = "the test owns it")]
fn door_at(
    listener: TcpListener,
    proxies: FrontProxies,
    speaks: Speaks,
    tls: Option<ServerTls>,
) -> Door {
    let address = listener.local_addr().unwrap();
    let (sender, opened) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let (name, tls, strangers) = ("test", tls.map(Arc::new), 64);
    let acceptor = Acceptor {
        name,
        speaks,
        listener,
        tls,
        proxies,
        strangers,
        intake: Arc::default(),
        stop: stop.clone(),
    };
    Door { address, opened, stop, accepting: tokio::spawn(acceptor.run(sender)) }
}

/// A client that trusts the authority and shows a certificate of it.
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
async fn a_connection_knows_the_address_of_its_peer_and_the_certificate_that_was_verified() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let tls = ServerTls::load(authority.write(folder.path()), clock()).unwrap();
    let mut door = door(Some(tls)).await;

    let config = trusting(&authority);
    let tcp = TcpStream::connect(door.address).await.unwrap();
    let from = tcp.local_addr().unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut client = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    client.write_all(PREFACE).await.unwrap();
    client.write_all(b"and more").await.unwrap();

    let mut connection = door.opened.recv().await.unwrap();
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
async fn an_ipv4_client_of_a_listener_for_both_families_has_its_ipv4_address() {
    let any = "[::]:0".parse().unwrap();
    let listener = crate::listen::bound_socket(any).unwrap().listen(8).unwrap();
    let mut door = door_at(listener, FrontProxies::default(), Speaks::Http2, None);
    for loopback in ["127.0.0.1", "::1"] {
        let address = (loopback, door.address.port());
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(PREFACE).await.unwrap();
        let connection = door.opened.recv().await.unwrap();
        assert_eq!(connection.address(), client.local_addr().unwrap());
        assert_eq!(connection.address().is_ipv4(), loopback == "127.0.0.1");
    }
}

#[tokio::test]
async fn without_a_certificate_one_gets_in_only_where_none_is_required_and_a_bad_one_never_helps() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.write(folder.path());
    let foreign = Authority::new().issue();
    for (required, shown, let_in) in [
        (true, None, false),
        (false, None, true),
        (true, Some(&foreign), false),
        (false, Some(&foreign), false),
    ] {
        let files = TlsFiles { client_certificate_required: required, ..files.clone() };
        let mut door = door(Some(ServerTls::load(files, clock()).unwrap())).await;
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
        let tcp = TcpStream::connect(door.address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut client = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        // In TLS 1.3 the client learns of a refusal by what comes after its own last word.
        let _ = client.write_all(PREFACE).await;
        if let_in {
            assert!(door.opened.recv().await.unwrap().client_certificate().is_none());
        } else {
            assert!(client.read_u8().await.is_err());
            assert!(door.opened.try_recv().is_err());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_silent_are_sent_away_with_and_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::new().write(folder.path());
    fs::remove_file(files.client_ca.unwrap()).unwrap();
    let tls = ServerTls::load(TlsFiles { client_ca: None, ..files }, clock()).unwrap();
    for tls in [Some(tls), None] {
        let with_tls = tls.is_some();
        let door = door(tls).await;
        let begin = Instant::now();
        let mut silent = TcpStream::connect(door.address).await.unwrap();
        // The first byte of a handshake, and of HTTP/2.
        let first = if with_tls { 0x16 } else { b'P' };
        silent.write_u8(first).await.unwrap();
        let mut nothing = Vec::new();
        let _ = silent.read_to_end(&mut nothing).await;
        assert!(begin.elapsed() >= OPENING_TIME);
    }
}

#[tokio::test]
async fn what_is_not_http2_is_sent_away_at_once() {
    let door = door(None).await;
    let mut client = TcpStream::connect(door.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut nothing = Vec::new();
    let _ = client.read_to_end(&mut nothing).await;
    assert_eq!(nothing, b"");
}

#[tokio::test]
async fn where_both_are_spoken_the_first_words_tell_which_and_none_is_lost() {
    let mut door = door_for(Speaks::Http2OrHttp1, None).await;
    for (words, protocol) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], Protocol::Http1),
        (b"P", Protocol::Http1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!", Protocol::Http1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more", Protocol::Http2),
    ] {
        let mut client = TcpStream::connect(door.address).await.unwrap();
        client.write_all(words).await.unwrap();
        // Only with the next it is clear.
        if words == b"P" {
            client.write_all(b"UT").await.unwrap();
        }
        client.shutdown().await.unwrap();
        let mut connection = door.opened.recv().await.unwrap();
        assert_eq!(connection.protocol(), protocol);
        let mut seen = Vec::new();
        connection.read_to_end(&mut seen).await.unwrap();
        assert!(seen.starts_with(words), "{seen:?}");
    }
}

#[tokio::test]
async fn when_it_stops_whatever_is_not_open_is_dropped_and_the_port_is_free() {
    let mut door = door(None).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(door.address).await.unwrap());
    }
    door.stop.cancel();
    door.accepting.await.unwrap();
    assert!(door.opened.recv().await.is_none());
    assert!(TcpStream::connect(door.address).await.is_err());
    for mut client in silent {
        let mut nothing = Vec::new();
        let _ = client.read_to_end(&mut nothing).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_stop_a_peer_that_answers_nothing_is_given_up_and_one_that_answers_is_not() {
    let mut door = door(None).await;
    for answers in [false, true] {
        let mut client = TcpStream::connect(door.address).await.unwrap();
        client.write_all(PREFACE).await.unwrap();
        let mut connection = door.opened.recv().await.unwrap();
        let mut words = [0; 24];
        connection.read_exact(&mut words).await.unwrap();
        door.stop.cancel();
        let read = async { connection.read_exact(&mut words[..1]).await };
        if answers {
            let write = async { client.write_all(b"x").await };
            tokio::try_join!(read, write).unwrap();
            let patience = Duration::from_mins(1);
            timeout(patience, connection.read_u8()).await.unwrap_err();
        } else {
            assert_eq!(read.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            // The listener stops too: the next connection is to another.
            door = self::door(None).await;
        }
    }
}

#[test]
fn complaints_are_bounded() {
    let mut complaints = Complaints::of("test");
    assert_eq!(complaints.due(), Some(0));
    assert_eq!((complaints.due(), complaints.due()), (None, None));
    complaints.next = None;
    assert_eq!(complaints.due(), Some(2));
}

/// Behind a proxy in `trusted`, which begins its connections with a header.
async fn door_behind_a_proxy_in(trusted: &str, tls: Option<ServerTls>) -> Door {
    let trusted = TrustedProxies::new(vec![trusted.parse().unwrap()]);
    door_behind(FrontProxies { trusted, protocol: true }, Speaks::Http2OrHttp1, tls).await
}

const FORGED: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.2 50000 443\r\n";

/// Whether the connection ends without another being opened.
async fn is_refused(door: &mut Door, bytes: &[u8]) -> bool {
    let mut client = TcpStream::connect(door.address).await.unwrap();
    client.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    // Closed with unread bytes in it, it is reset.
    let ended = client.read_to_end(&mut rest).await;
    let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
    assert!(ended.as_ref().map_or_else(is_reset, |_| true), "{ended:?}");
    rest.is_empty() && door.opened.try_recv().is_err()
}

#[tokio::test]
async fn a_header_of_an_untrusted_peer_is_refused_and_without_one_it_is_let_in_at_its_own_address()
{
    let mut door = door_behind_a_proxy_in("10.0.0.0/8", None).await;
    assert!(is_refused(&mut door, &[FORGED, b"GET / HTTP/1.1\r\n\r\n"].concat()).await);
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x02\xc3\x50\x01\xbb";
    assert!(is_refused(&mut door, binary).await);
    let mut client = TcpStream::connect(door.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let connection = door.opened.recv().await.unwrap();
    assert_eq!(connection.address(), client.local_addr().unwrap());
}

#[tokio::test]
async fn a_trusted_proxy_must_begin_with_a_header_which_names_the_client() {
    let mut door = door_behind_a_proxy_in("127.0.0.0/8", None).await;
    assert!(is_refused(&mut door, PREFACE).await);
    assert!(is_refused(&mut door, b"PROXY TCP4 nonsense\r\n").await);
    let mut client = TcpStream::connect(door.address).await.unwrap();
    client.write_all(&[FORGED, PREFACE].concat()).await.unwrap();
    let connection = door.opened.recv().await.unwrap();
    assert_eq!(connection.address(), "192.0.2.7:50000".parse().unwrap());
    assert_eq!(connection.protocol(), Protocol::Http2);
}

#[tokio::test]
async fn a_header_comes_before_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let tls = ServerTls::load(authority.write(folder.path()), clock()).unwrap();
    let mut door = door_behind_a_proxy_in("127.0.0.1", Some(tls)).await;
    let mut tcp = TcpStream::connect(door.address).await.unwrap();
    tcp.write_all(FORGED).await.unwrap();
    let connector = TlsConnector::from(Arc::new(trusting(&authority)));
    let mut client = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    client.write_all(PREFACE).await.unwrap();
    let connection = door.opened.recv().await.unwrap();
    assert_eq!(connection.address(), "192.0.2.7:50000".parse().unwrap());
    assert!(connection.client_certificate().is_some());
}
