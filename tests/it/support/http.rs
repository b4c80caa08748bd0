//! A raw HTTP client: the test writes every byte, and sees every byte of the response.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The time limit for a response and the end of its connection.
const TIMEOUT: Duration = Duration::from_secs(45);

/// An HTTP/1.1 response.
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
        tokio::time::timeout(TIMEOUT, read).await.expect("the connection does not end").unwrap();
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        assert_single_values(head);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Returns a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// Returns all values of a header, by its name in lower case.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// Asserts status and reason of a problem response, and returns the problem.
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

/// Headers that may occur several times in a response (RFC 9110 section 5.3, RFC 6265 section 3).
const LISTS: [&str; 7] =
    ["allow", "cache-control", "link", "set-cookie", "vary", "via", "www-authenticate"];

/// Asserts that no single-valued header occurs twice.
#[track_caller]
pub(crate) fn assert_single_values(head: &str) {
    let mut names = BTreeSet::new();
    for (name, _) in head.lines().skip(1).filter_map(|line| line.split_once(':')) {
        let name = name.to_lowercase();
        // Headers with the prefix x-own are made up by tests.
        let is_list = LISTS.contains(&&*name) || name.starts_with("x-own");
        assert!(names.insert(name.clone()) || is_list, "{name} occurs twice: {head}");
    }
}

/// Returns the bytes of a request with `Connection: close`.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
    let length = format!("Content-Length: {}\r\n\r\n", body.len());
    let mut bytes = [head, lines.concat(), length].concat().into_bytes();
    bytes.extend(body);
    bytes
}

/// Sends a request on a new connection.
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
