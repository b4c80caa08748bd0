use proptest::prelude::*;

use super::{
    MAX_HEAD_BYTES,
    test_server::{compare, serve},
};
use crate::listen::HttpVersion;

#[test]
fn a_refused_head_is_answered_although_the_client_has_closed() {
    let seen = serve(b"GET / HTTP/9\r\n\r\n", 100, HttpVersion::Http1, true);
    assert_eq!(seen.requests.len(), 1);
    assert_eq!(seen.requests[0].problem, Some("/\"malformed"));
    let answer = String::from_utf8(seen.answers).unwrap();
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[test]
fn hyper_accepts_the_largest_head_that_passes() {
    let (start, end) = ("GET / HTTP/1.1\r\nX: ", "\r\n\r\n");
    let value = "x".repeat(MAX_HEAD_BYTES - start.len() - end.len());
    let head = format!("{start}{value}{end}");
    for at_once in [100, 9_000, 100_000] {
        let seen = serve(head.repeat(2).as_bytes(), at_once, HttpVersion::Http1, true);
        assert_eq!(seen.requests.iter().filter(|request| request.problem.is_none()).count(), 2);
    }
}

#[test]
fn a_fragment_is_not_cut_off() {
    let seen =
        |acceptable| serve(b"GET /a?b=#c HTTP/1.1\r\n\r\n", 100, HttpVersion::Http1, acceptable);
    let (with, without) = (seen(true), seen(false));
    assert_eq!(with.requests[0].problem, Some("/\"fragment"));
    // Without the filter, hyper cuts the target.
    assert_eq!(without.requests[0].target, "/a?b=");
}

/// Concatenated pieces of requests.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "GET / HTTP/1.1\r\n\r\n", "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            "POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "POST /c HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "PUT / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\n\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        3 => prop::sample::select(vec![
            "GET ", "POST ", "/", "/x?y", " HTTP/1.1\r\n", " HTTP/1.1\n", "Host: x\r\n", "\r\n", "\n", "\r", "<", "\"",
            "#", " ", "Content-Length: 3\r\n", "Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n", "Connection: close\r\n", "Upgrade: h2c\r\n", "X: ", "3\r\nabc\r\n",
            "0\r\n\r\n", "abc", ": ", "http://h/", "*",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn hyper_sees_the_same_requests_and_refuses_none_itself(
        bytes in pieces(),
        at_once in 1..100_usize,
    ) {
        prop_assert_eq!(compare(&bytes, at_once, HttpVersion::Http1), Ok(()));
    }
}
