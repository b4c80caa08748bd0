//! Test of every operation in SuperOffice's official API descriptions through the egress listener: the Web API gets
//! exactly the bytes that the caller sent.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr};

use tenant_gateway::domain::{ApiPath, credential_operation};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::{
    Options, World,
    api_host::{address, set_tenant_api},
};

/// Method and path template, one operation a line, written by `tools/list-operations`.
const OPERATIONS: &str = include_str!("../fixtures/openapi/operations.txt");

/// Names of companies and products that occur in paths such as `/Contact/Duplicates/{name}`.
const NAMES: [&str; 10] = [
    "Acme Inc.",
    "100% Norsk",
    "Stra\u{df}e",
    "O\u{2019}Brien \u{2013} S\u{f8}nner",
    "A\u{30a}s og Co",
    "\u{4e2d}\u{56fd}\u{94f6}\u{884c}",
    "AT&T + Sons, Ltd. (UK)",
    "Tom's Diner",
    "C# Consulting",
    "\u{130}stanbul I\u{15f}\u{131}k",
];

/// The number of concurrent connections.
const CONNECTIONS: usize = 16;

/// A client's encoding of a name in a path.
#[derive(Debug, Clone, Copy)]
enum Encoding {
    /// `encodeURIComponent` of JavaScript.
    UriComponent,
    /// The path of a URL in a browser, which leaves `%` unchanged (WHATWG URL, path percent-encode set).
    UrlPath,
    /// `Uri.EscapeDataString` of .NET (the unreserved characters of RFC 3986).
    EscapeDataString,
}

impl Encoding {
    const ALL: [Self; 3] = [Self::UriComponent, Self::UrlPath, Self::EscapeDataString];

    fn encode(self, name: &str) -> String {
        let is_plain = |byte: u8| match self {
            Self::UriComponent => byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte),
            Self::UrlPath => byte.is_ascii_graphic() && !b"\"#<>?`{}^".contains(&byte),
            Self::EscapeDataString => byte.is_ascii_alphanumeric() || b"-._~".contains(&byte),
        };
        name.bytes().fold(String::new(), |mut text, byte| {
            if is_plain(byte) {
                text.push(byte.into());
            } else {
                write!(text, "%{byte:02X}").unwrap();
            }
            text
        })
    }
}

/// A Web API that returns the request target in the response.
async fn echo() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut stream = BufReader::new(stream);
                while let Some((line, length)) = head(&mut stream).await {
                    let mut body = vec![0; length];
                    stream.read_exact(&mut body).await.unwrap();
                    let target = line.split(' ').nth(1).unwrap();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{target}",
                        target.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, serving)
}

/// Reads the head of a message. Returns its first line and the length of its body.
async fn head(stream: &mut BufReader<TcpStream>) -> Option<(String, usize)> {
    let (mut first, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Some((first?, length));
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.parse().unwrap();
        }
        first.get_or_insert_with(|| line.to_owned());
    }
}

/// Makes the calls on one connection, and returns statuses and bodies.
async fn call(
    to: SocketAddr,
    calls: Vec<(String, String)>,
) -> Vec<(String, String, String, String)> {
    let mut stream = BufReader::new(TcpStream::connect(to).await.unwrap());
    let mut answers = Vec::with_capacity(calls.len());
    for (method, target) in calls {
        let request = format!(
            "{method} /crm-sync/Cust1{target} HTTP/1.1\r\nHost: gateway\r\nGateway-Act-As: system\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let (line, length) = head(&mut stream).await.unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let status = line.split(' ').nth(1).unwrap().to_owned();
        answers.push((method, target, status, String::from_utf8(body).unwrap()));
    }
    answers
}

/// Replaces each parameter with a value.
fn fill(template: &str, value: &str) -> String {
    let segments = template.split('/');
    let filled = segments.map(|segment| if segment.starts_with('{') { value } else { segment });
    filled.collect::<Vec<_>>().join("/")
}

/// Returns the documented reason if a call is refused (docs/guides/egress.md, docs/guides/policy.md).
fn documented_refusal(method: &str, target: &str) -> Option<(&'static str, &'static str)> {
    match ApiPath::parse(target) {
        // `100% Norsk` as a browser writes it.
        Err(_) => target.contains("%%20").then_some(("400", "INVALID_ARGUMENT")),
        Ok(path) if credential_operation(method, path.normal_form()).is_some() => {
            Some(("403", "PATH_NOT_ALLOWED"))
        }
        Ok(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_official_operation_arrives_byte_for_byte_or_is_refused_for_a_documented_reason() {
    let (host, _serving) = echo().await;
    let world = World::with(Options {
        extra_config: "[egress]\nlisten = \"127.0.0.1:0\"\n\
                       [quotas]\nrefused_per_source = { per_second = 100000 }"
            .to_owned(),
        extra_application: "calls_per_second = 100000\nburst = 100000".to_owned(),
        ..Options::default()
    })
    .await;
    set_tenant_api(&world.sandbox, "Cust1", &format!("http://{host}/Cust1/api"));
    world.enroll("Cust1").await;
    let operations: Vec<(&str, &str)> =
        OPERATIONS.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(operations.len(), 3317);
    let mut calls = Vec::new();
    for (number, (method, template)) in operations.into_iter().enumerate() {
        calls.push((method.to_owned(), fill(template, "12")));
        if template.contains('{') {
            // Each operation with each name; each name with each encoding.
            for (other, name) in NAMES.iter().enumerate() {
                let encoding = Encoding::ALL[(number + other) % Encoding::ALL.len()];
                calls.push((method.to_owned(), fill(template, &encoding.encode(name))));
            }
        }
    }
    let to = address(world.gateway());
    let mut calling = JoinSet::new();
    for part in calls.chunks(calls.len().div_ceil(CONNECTIONS)) {
        calling.spawn(call(to, part.to_vec()));
    }
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    while let Some(answers) = calling.join_next().await {
        for (method, target, status, body) in answers.unwrap() {
            match documented_refusal(&method, &target) {
                None => {
                    assert_eq!((&*status, body), ("200", format!("/Cust1{target}")), "{target}");
                }
                Some((wanted, reason)) => {
                    assert_eq!(status, wanted, "{target}: {body}");
                    assert!(body.contains(&format!("\"reason\":\"{reason}\"")), "{target}: {body}");
                    *refused.entry(reason).or_default() += 1;
                }
            }
        }
    }
    // Operations that return credentials need a policy that names them; a lone % is invalid.
    assert!(refused["PATH_NOT_ALLOWED"] < 450, "{refused:?}");
    assert!(refused["INVALID_ARGUMENT"] < 250, "{refused:?}");
}
