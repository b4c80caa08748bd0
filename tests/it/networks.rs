//! Tests of outbound connections of the real server: an outbound proxy and a private certificate
//! authority.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tonic::Code;

use crate::support::{Authority, Options, World, assert_status};

const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const BROKEN: &[u8] =
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\n\r\n<html>canary</html>";

/// Terminates TLS before a host.
async fn front(tls: TlsAcceptor, host: SocketAddr, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            connections.spawn(async move {
                let Ok(mut stream) = tls.accept(stream).await else { return };
                let mut host = TcpStream::connect(host).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut host).await;
            });
        }
    });
    address
}

/// A proxy that connects to one address for every request, unless it is broken.
async fn proxy(to: SocketAddr, broken: Arc<AtomicBool>, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let broken = Arc::clone(&broken);
            connections.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"CONNECT login.crm.example:443 HTTP/1.1\r\n"));
                if broken.load(Ordering::Relaxed) {
                    stream.write_all(BROKEN).await.unwrap();
                    return;
                }
                stream.write_all(CONNECTED).await.unwrap();
                let mut host = TcpStream::connect(to).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut host).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_come_through_the_proxy_and_calls_are_unavailable_while_it_is_broken() {
    let mut world = World::with_files(Options::default()).await;
    let authority = Authority::new();
    let identity = authority.issue_for(&[], &["login.crm.example"]);
    let tls = TlsAcceptor::from(Arc::new(identity.server("http/1.1")));
    let login = world.sandbox.login_uri();
    let host = login.trim_start_matches("http://").parse().unwrap();
    let (mut tasks, broken) = (JoinSet::new(), Arc::new(AtomicBool::new(true)));
    let to = front(tls, host, &mut tasks).await;
    let proxy = proxy(to, Arc::clone(&broken), &mut tasks).await;
    fs::write(world.folder.path().join("proxy-ca.crt"), authority.pem()).unwrap();
    let text = fs::read_to_string(world.config_file()).unwrap();
    let own = format!("login_uri = \"{login}\"");
    assert!(text.contains(&own));
    let through = format!("login_uri = \"https://login.crm.example\"\nissuer = \"{login}\"");
    let network =
        format!("[proxy]\nhttps = \"http://{proxy}\"\n[outbound]\nca_file = \"proxy-ca.crt\"\n");
    fs::write(world.config_file(), network + &text.replace(&own, &through)).unwrap();
    world.start().await.unwrap();

    world.enroll("Cust1").await;
    let status = world.ticket("Cust1").await.unwrap_err();
    let details = assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    assert!(details.retry_info().is_some() && !status.message().contains("canary"), "{status:?}");
    assert_eq!(world.exchanges(), 0);

    broken.store(false, Ordering::Relaxed);
    world.advance(Duration::from_mins(1));
    world.ticket("Cust1").await.unwrap();
    assert_eq!(world.exchanges(), 1);
}

#[tokio::test]
async fn an_unusable_ca_file_is_a_configuration_error_with_its_line() {
    let extra_config = "[outbound]\nca_file = \"ca.crt\"".to_owned();
    let mut world = World::with_files(Options { extra_config, ..Options::default() }).await;
    fs::write(world.folder.path().join("ca.crt"), "not PEM").unwrap();
    let text = fs::read_to_string(world.config_file()).unwrap();
    let line = text.lines().position(|line| line.starts_with("ca_file")).unwrap() + 1;
    let error = world.start().await.unwrap_err().to_string();
    assert!(error.contains(&format!("gateway.toml:{line}: outbound.ca_file: ")), "{error}");
    assert!(error.contains("ca.crt: contains no certificate"), "{error}");
}
