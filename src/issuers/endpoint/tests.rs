//! A host of the test's own, and what it is told.

use std::{fs, sync::Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::issuers::KeyFile;

/// Answers each request by its path, and keeps what it was sent.
struct Host {
    origin: String,
    listener: TcpListener,
    seen: Mutex<Vec<String>>,
}

impl Host {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        Self { origin, listener, seen: Mutex::default() }
    }

    async fn serve(&self, answers: &[(&str, String)]) -> std::convert::Infallible {
        loop {
            let (mut tcp, _) = self.listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(tcp.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap().to_owned();
            self.seen.lock().unwrap().push(request);
            let answer = answers.iter().find(|(known, _)| *known == path);
            let answer =
                answer.map_or_else(|| status("404 Not Found", ""), |(_, text)| text.clone());
            // Who has heard enough leaves.
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
    }

    async fn fetch(
        &self,
        endpoint: IssuerEndpoint,
        answers: &[(&str, String)],
    ) -> Result<Vec<u8>, JwksError> {
        let source = KeyEndpoint::new(endpoint);
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
async fn what_does_not_answer_with_keys_is_told_with_the_mend() {
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
        (host.endpoint(), vec![host.document("http://10.0.0.1/jwks")], "jwks_uri is no https"),
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
async fn keys_are_found_by_discovery_and_the_token_goes_to_the_issuer_alone() {
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

#[tokio::test]
async fn a_token_file_that_holds_no_token_is_told_and_not_repeated() {
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
async fn a_file_of_keys_is_read_whole_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let source = KeyFile::new(file.clone());
    assert!(source.fetch().await.unwrap_err().0.contains("there is no such file"));
    fs::write(&file, "keys").unwrap();
    assert_eq!(source.fetch().await.unwrap(), b"keys");
    fs::write(&file, vec![b'x'; 1024 * 1024 + 1]).unwrap();
    assert!(source.fetch().await.unwrap_err().0.contains("larger than 1 MiB"));
}
