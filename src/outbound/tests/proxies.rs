//! Test proxies that work or fail.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::hosts::read_head;
use crate::{
    domain::{NoProxy, ProxyAddress},
    outbound::OutboundProxy,
};

const CONNECTED: &str = "HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n";
const ASKS: &str =
    "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n";

/// The behaviour of a proxy on each connection.
#[derive(Debug, Clone)]
pub(super) enum Behaviour {
    /// Connects to this address for every request.
    ConnectsTo(SocketAddr),
    /// Connects to this address if the request has this credential.
    Asks(&'static str, SocketAddr),
    /// Sends this response, and closes the connection.
    Says(String),
    /// Sends the first response, waits for data of the client, sends the second and closes.
    SaysLater(String, String),
    /// Accepts the connection, and sends nothing.
    Silent,
}

impl Behaviour {
    pub(super) fn says(text: &str) -> Self {
        Self::Says(text.to_owned())
    }

    pub(super) fn after_client_hello(first: &str, then: &str) -> Self {
        Self::SaysLater(first.to_owned(), then.to_owned())
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        mut stream: S,
        asked: &Mutex<Vec<String>>,
    ) {
        let Some(head) = read_head(&mut stream).await else { return };
        asked.lock().unwrap().push(head.lines().next().unwrap().to_owned());
        let to = match self {
            Self::Silent => return pending().await,
            Self::Says(text) => {
                // The client may disconnect early.
                let _ = stream.write_all(text.as_bytes()).await;
                let _ = stream.shutdown().await;
                return;
            }
            Self::SaysLater(first, then) => {
                stream.write_all(first.as_bytes()).await.unwrap();
                stream.read_u8().await.unwrap();
                let _ = stream.write_all(then.as_bytes()).await;
                let _ = stream.shutdown().await;
                // Closing with unread bytes would reset the connection before the client has read the response.
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                return;
            }
            Self::Asks(credential, _)
                if !head.contains(&format!("Proxy-Authorization: {credential}\r\n")) =>
            {
                stream.write_all(ASKS.as_bytes()).await.unwrap();
                return;
            }
            Self::ConnectsTo(to) | Self::Asks(_, to) => to,
        };
        let mut host = TcpStream::connect(to).await.unwrap();
        stream.write_all(CONNECTED.as_bytes()).await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut host).await;
    }
}

/// A proxy that runs until it is dropped.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    tls: bool,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn new(behaviour: Behaviour) -> Self {
        Self::with(behaviour, None).await
    }

    pub(super) async fn secure(behaviour: Behaviour, tls: TlsAcceptor) -> Self {
        Self::with(behaviour, Some(tls)).await
    }

    async fn with(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, is_tls) = (Arc::clone(&asked), tls.is_some());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (behaviour, seen, tls) = (behaviour.clone(), Arc::clone(&seen), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => behaviour.serve(stream, &seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                behaviour.serve(stream, &seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, tls: is_tls, asked, _tasks: tasks }
    }

    /// Returns the request lines of all requests.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn outbound(&self) -> OutboundProxy {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        let address = ProxyAddress { tls: self.tls, host, port };
        OutboundProxy { address, credential: None, no_proxy: NoProxy::default() }
    }
}
