//! HTTP by hand: every byte is the test's, and every byte of the answer is seen.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long an answer may take, and the end of a connection.
const PATIENCE: Duration = Duration::from_secs(45);

/// An answer over HTTP/1.1.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Reads to the end of the connection.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        tokio::time::timeout(PATIENCE, read).await.expect("the connection does not end").unwrap();
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        assert_single_values(head);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// All values of a header, by its name in lower case.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// The problem that it tells of, which has this status and reason.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, reason: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!((&problem["status"], &problem["reason"]), (&status.into(), &reason.into()));
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        problem
    }
}

/// Headers of which an answer may have several lines (RFC 9110 section 5.3, RFC 6265 section 3).
const LISTS: [&str; 7] =
    ["allow", "cache-control", "link", "set-cookie", "vary", "via", "www-authenticate"];

/// Fails if an answer has two lines of a header that has one value.
#[track_caller]
pub(crate) fn assert_single_values(head: &str) {
    let mut names = BTreeSet::new();
    for (name, _) in head.lines().skip(1).filter_map(|line| line.split_once(':')) {
        let name = name.to_lowercase();
        // Headers that the tests make up begin with x-own.
        let is_list = LISTS.contains(&&*name) || name.starts_with("x-own");
        assert!(names.insert(name.clone()) || is_list, "{name} comes twice: {head}");
    }
}

/// The bytes of a request after which the connection ends.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
    let length = format!("Content-Length: {}\r\n\r\n", body.len());
    let mut bytes = [head, lines.concat(), length].concat().into_bytes();
    bytes.extend(body);
    bytes
}

/// Sends a request on a connection of its own.
pub(crate) async fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(&request(method, path, headers, body)).await.unwrap();
    Answer::read(&mut stream).await
}
