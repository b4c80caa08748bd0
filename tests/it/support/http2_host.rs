//! API hosts that accept HTTP/2 over TLS only (ALPN): one on hyper, and one with hand-written frames that breaks off
//! streams and connections.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, future::BoxFuture};
use http::{Request, Response, request::Parts};
use http_body::{Body as _, Frame};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::Authority;

/// A request that the host received.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedRequest {
    pub(crate) head: Parts,
    /// Whether its head said that there is no body.
    pub(crate) bodiless: bool,
    pub(crate) body_bytes: u64,
    pub(crate) whole: bool,
}

/// The host.
pub(crate) struct Http2Host {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    seen: Arc<HostState>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct HostState {
    arrived: Mutex<Vec<ReceivedRequest>>,
    /// The next responses.
    answers: Mutex<VecDeque<Response<Body>>>,
    /// The ends of the next requests at a host that breaks off.
    breaks: Mutex<VecDeque<Break>>,
    /// The number of requests that it received.
    heads: Mutex<usize>,
    holds: watch::Sender<bool>,
}

/// The way in which a request is broken off.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Break {
    /// The stream is reset with an error code (RFC 9113, section 7).
    Reset(u32),
    /// The connection ends; `GOAWAY` says that the request was not processed.
    NotProcessed,
    /// The connection ends; the request may have been processed.
    MaybeProcessed,
    /// The connection stays open, but the host reads and sends nothing more.
    Silence,
}

impl Http2Host {
    /// Starts a host that answers every request.
    pub(crate) async fn start() -> Self {
        Self::serve(|tls, seen| Box::pin(serve_connection(tls, seen))).await
    }

    /// Starts a host that breaks off on demand, and otherwise answers 200.
    pub(crate) async fn start_breaking() -> Self {
        Self::serve(|tls, seen| Box::pin(async move { drop(serve_frames(tls, &seen).await) })).await
    }

    async fn serve(
        serve: fn(TlsStream<TcpStream>, Arc<HostState>) -> BoxFuture<'static, ()>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, authority) = (listener.local_addr().unwrap(), Authority::new());
        let tls = TlsAcceptor::from(Arc::new(authority.issue().server("h2")));
        let seen = Arc::<HostState>::default();
        let (mut serving, noted) = (JoinSet::new(), Arc::clone(&seen));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, seen) = (tls.clone(), Arc::clone(&noted));
                connections.spawn(async move {
                    let tls = tls.accept(tcp).await.unwrap();
                    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                    serve(tls, seen).await;
                });
            }
        });
        Self { address, authority, seen, _serving: serving }
    }

    /// Returns the address of a tenant's Web API on this host.
    pub(crate) fn uri(&self, tenant: &str) -> String {
        format!("https://{}/{tenant}/api", self.address)
    }

    pub(crate) fn received(&self) -> Vec<ReceivedRequest> {
        self.seen.arrived.lock().unwrap().clone()
    }

    /// Adds the response to the next request, instead of `{}`.
    pub(crate) fn respond_next(&self, answer: Response<Body>) {
        self.seen.answers.lock().unwrap().push_back(answer);
    }

    /// Sets whether request bodies stay unread from now on, and broken responses begin before they break off.
    pub(crate) fn hold(&self, holds: bool) {
        self.seen.holds.send_replace(holds);
    }

    /// Breaks off the next request. On hold, its response begins before.
    pub(crate) fn break_next(&self, end: Break) {
        self.seen.breaks.lock().unwrap().push_back(end);
    }

    /// Returns the number of requests received since the last call.
    pub(crate) fn take_request_count(&self) -> usize {
        std::mem::take(&mut self.seen.heads.lock().unwrap())
    }
}

impl HostState {
    async fn released(&self) {
        let _ = self.holds.subscribe().wait_for(|holds| !holds).await;
    }
}

async fn serve_connection(tls: TlsStream<TcpStream>, seen: Arc<HostState>) {
    let service = service_fn(|request| answer(Arc::clone(&seen), request));
    let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    // Ends when the client disconnects.
    let _ = builder.serve_connection(TokioIo::new(tls), service).await;
}

async fn answer(
    seen: Arc<HostState>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let index = {
        let mut arrived = seen.arrived.lock().unwrap();
        arrived.push(ReceivedRequest {
            head,
            bodiless: body.is_end_stream(),
            body_bytes: 0,
            whole: false,
        });
        arrived.len() - 1
    };
    let told = seen.answers.lock().unwrap().pop_front();
    seen.released().await;
    let mut parts = Body::new(body).into_data_stream();
    let mut whole = true;
    while let Some(part) = parts.next().await {
        whole &= part.is_ok();
        let length = part.map_or(0, |part| part.len() as u64);
        seen.arrived.lock().unwrap()[index].body_bytes += length;
    }
    seen.arrived.lock().unwrap()[index].whole = whole;
    Ok(told.unwrap_or_else(|| Response::new("{}".into())))
}

// Hand-written frames (RFC 9113, section 6).

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200`, an entry of the static table (RFC 7541, appendix A).
const STATUS_200: [u8; 1] = [0x88];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

async fn serve_frames(mut tls: TlsStream<TcpStream>, seen: &HostState) -> io::Result<()> {
    let room = (1_u32 << 30).to_be_bytes();
    let hello = [frame(SETTINGS, 0, 0, b""), frame(WINDOW_UPDATE, 0, 0, &room)].concat();
    tls.write_all(&hello).await?;
    tls.read_exact(&mut [0; "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()]).await?;
    loop {
        let mut head = [0; 9];
        tls.read_exact(&mut head).await?;
        let [high, middle, low, kind, ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        tls.read_exact(&mut vec![0; length.try_into().unwrap()]).await?;
        if kind != HEADERS {
            continue;
        }
        *seen.heads.lock().unwrap() += 1;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        let Some(end) = seen.breaks.lock().unwrap().pop_front() else {
            let fine = frame(HEADERS, END_HEADERS | END_STREAM, stream, &STATUS_200);
            tls.write_all(&fine).await?;
            continue;
        };
        if *seen.holds.borrow() {
            tls.write_all(&frame(HEADERS, END_HEADERS, stream, &STATUS_200)).await?;
            tls.write_all(&frame(DATA, 0, stream, b"half of it")).await?;
            seen.released().await;
        }
        let goaway = |last: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
        let last_words = match end {
            Break::Reset(code) => {
                tls.write_all(&frame(RST_STREAM, 0, stream, &code.to_be_bytes())).await?;
                continue;
            }
            Break::NotProcessed => goaway(stream - 1),
            Break::MaybeProcessed => goaway(stream),
            Break::Silence => std::future::pending().await,
        };
        tls.write_all(&last_words).await?;
        tls.shutdown().await?;
        // Closing a connection with unread data resets it, and the last frames would be lost.
        tokio::io::copy(&mut tls, &mut tokio::io::sink()).await?;
        return Ok(());
    }
}

/// A body with trailers.
pub(crate) struct WithTrailers(VecDeque<Frame<Bytes>>);

impl WithTrailers {
    pub(crate) fn body(bytes: &'static str, name: &'static str) -> Body {
        let trailers = [(name.parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
        Body::new(Self([Frame::data(bytes.into()), Frame::trailers(trailers)].into()))
    }
}

impl http_body::Body for WithTrailers {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}
