//! Raw gRPC and HTTP requests that a well-behaved client does not send.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Status;

/// Sends bytes as the message of a call that fails. Returns the status and the headers.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    headers: &[(&'static str, &str)],
    message: &[u8],
) -> (Status, HeaderMap) {
    let headers = sent(address, method, headers, message).await;
    let status = Status::from_header_map(&headers);
    (status.expect("the call does not fail from its first byte"), headers)
}

/// Returns the status of a call that fails with its first bytes, otherwise `None`.
pub(crate) async fn try_send(
    address: SocketAddr,
    method: &str,
    headers: &[(&'static str, &str)],
    message: &[u8],
) -> Option<Status> {
    Status::from_header_map(&sent(address, method, headers, message).await)
}

async fn sent(
    address: SocketAddr,
    method: &str,
    headers: &[(&'static str, &str)],
    message: &[u8],
) -> HeaderMap {
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    let client = reqwest::ClientBuilder::new().http2_prior_knowledge().build().unwrap();
    let uri = format!("http://{address}/{method}").parse().unwrap();
    let mut request = reqwest::Request::new(reqwest::Method::POST, uri);
    *request.body_mut() = Some(body.into());
    let always = [("content-type", "application/grpc"), ("te", "trailers")];
    for (name, value) in always.iter().chain(headers) {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
    let answer = client.execute(request).await.unwrap();
    assert_eq!(answer.status(), http::StatusCode::OK);
    answer.headers().clone()
}

/// Requests a page. Returns status and body.
pub(crate) async fn page(address: SocketAddr, path: &str) -> (u16, String) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = connection.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}
