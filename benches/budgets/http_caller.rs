//! A cheap HTTP/1.1 client: one connection, requests without a body, responses with a `Content-Length`.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::load::Caller;

/// The most headers of a response.
const MAX_HEADERS: usize = 64;

pub(crate) struct HttpCaller {
    stream: TcpStream,
    request: Arc<str>,
    buffer: Vec<u8>,
}

/// Opens a connection for each of so many callers, which all send the same request.
pub(crate) async fn http_callers(
    address: SocketAddr,
    request: &Arc<str>,
    callers: usize,
) -> Vec<HttpCaller> {
    let mut connected = Vec::new();
    for _ in 0..callers {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (request, buffer) = (Arc::clone(request), Vec::with_capacity(4096));
        connected.push(HttpCaller { stream, request, buffer });
    }
    connected
}

impl Caller for HttpCaller {
    async fn call(&mut self) {
        self.stream.write_all(self.request.as_bytes()).await.unwrap();
        self.buffer.clear();
        loop {
            let count = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(count > 0, "the connection was closed");
            if response_length(&self.buffer).is_some_and(|length| self.buffer.len() >= length) {
                return;
            }
        }
    }
}

/// Returns the length of a successful response; `None` if its head is not complete.
fn response_length(bytes: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).unwrap() else { return None };
    assert_eq!(response.code, Some(200), "{}", String::from_utf8_lossy(bytes));
    let mut headers = response.headers.iter();
    let length = headers.find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = str::from_utf8(length.unwrap().value).unwrap();
    Some(head + length.parse::<usize>().unwrap())
}
