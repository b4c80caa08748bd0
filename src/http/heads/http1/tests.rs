use proptest::prelude::*;

use super::*;

/// Returns the bytes that reach hyper when `at_once` bytes arrive at a time.
fn passed(bytes: &[u8], at_once: usize) -> Vec<u8> {
    let mut heads = Http1::new();
    let mut passed = Vec::new();
    for part in bytes.chunks(at_once) {
        let mut ready = Vec::new();
        let mut output = Output { kept: 0, in_place: true, ready: &mut ready };
        heads.pass(part, &mut output);
        let kept = output.kept;
        passed.extend_from_slice(&part[..kept]);
        passed.extend_from_slice(&ready);
        assert!(heads.held.len() <= MAX_HEAD_BYTES + at_once);
    }
    passed
}

fn text(bytes: &str, at_once: usize) -> String {
    String::from_utf8(passed(bytes.as_bytes(), at_once)).unwrap()
}

/// Asserts that a request with this problem replaces the refused one, and that nothing after it passes.
#[track_caller]
fn assert_refused(bytes: &[u8], method: &str, problem: HeadProblem) {
    let start = format!("{method} {} HTTP/1.1\r\n", problem.target());
    let wanted = format!("{start}host: gateway\r\nconnection: close\r\n\r\n");
    let behind = [bytes, b"GET /smuggled HTTP/1.1\r\n\r\n"].concat();
    for at_once in [7, 100_000] {
        let passed = String::from_utf8(passed(&behind, at_once)).unwrap();
        assert_eq!(passed, wanted, "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn changes_only_targets_and_finds_the_request_after_each_kind_of_body() {
    let bytes = "\r\nGET /a?f=<b> HTTP/1.1\r\nHost: x\r\nX: <\">#\r\n\r\n\
        POST /b?\" HTTP/1.1\r\nContent-Length: 36\r\ncontent-length: 36\r\n\r\nGET /not-a-head?<> HTTP/1.1\r\nx: y\r\n\r\n\
        PUT /c?> HTTP/1.1\nTransfer-Encoding: CHUNKED\n\n1c;x\r\nGET /no-head?<> HTTP/1.1\r\n\r\n\r\n0\r\nT: <\r\n\r\n\
        HEAD /d` HTTP/1.0\r\n\r\n\
        GET /e HTTP/1.1\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n\r\n\
        OPTIONS * HTTP/1.1\r\n\r\n";
    let wanted = bytes
        .replace("f=<b>", "f=%3Cb%3E")
        .replace("/b?\"", "/b?%22")
        .replace("/c?>", "/c?%3E")
        .replace("/d`", "/d%60");
    for at_once in [1, 2, 3, 17, 1000] {
        assert_eq!(text(bytes, at_once), wanted);
    }
}

#[test]
fn a_refused_target_changes_no_other_bytes() {
    let (head, rest) = (
        " HTTP/1.1\r\nAuthorization: Bearer t\r\nContent-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\n\r\n",
    );
    for (target, problem) in [
        ("/a?b=#c", HeadProblem::Fragment),
        ("/#", HeadProblem::Fragment),
        ("a<b", HeadProblem::Target),
        ("http://[/", HeadProblem::Target),
    ] {
        for at_once in [1, 1000] {
            let passed = text(&format!("POST {target}{head}{rest}"), at_once);
            assert_eq!(passed, format!("POST {}{head}{rest}", problem.target()));
        }
    }
}

#[test]
fn a_target_that_is_not_utf8_is_encoded() {
    let bytes = b"GET /Stra\xdfe?\"\xe5 HTTP/1.1\r\nX: \xe5\r\n\r\nGET /2 HTTP/1.1\r\n\r\n";
    let wanted = b"GET /Stra%DFe?%22%E5 HTTP/1.1\r\nX: \xe5\r\n\r\nGET /2 HTTP/1.1\r\n\r\n";
    for at_once in [1, 5, 1000] {
        assert_eq!(passed(bytes, at_once), wanted);
    }
}

#[test]
fn heads_that_hyper_would_refuse_are_replaced_and_nothing_behind_them_passes() {
    for (bytes, method, problem) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "GET", HeadProblem::Malformed),
        (b"PRI * HTTP/2.0\r\n\r\n", "GET", HeadProblem::Malformed),
        (b"HEAD /a b HTTP/1.1\r\n\r\n", "HEAD", HeadProblem::Malformed),
        (b"DELETE  /a HTTP/1.1\r\n\r\n", "DELETE", HeadProblem::Malformed),
        (b"POST /\x07 HTTP/1.1\r\n\r\n", "POST", HeadProblem::Malformed),
        (b"GET / HTTP/3.0\r\n\r\n", "GET", HeadProblem::Malformed),
        (b"PUT / HTTP/1.1\r\nNo colon\r\n\r\n", "PUT", HeadProblem::Malformed),
        (b"PUT / HTTP/1.1\r\nSpace : a\r\n\r\n", "PUT", HeadProblem::Malformed),
        (b"PUT / HTTP/1.1\r\nX: a\r\n folded\r\n\r\n", "PUT", HeadProblem::Malformed),
        (b"PUT / HTTP/1.1\r\nX: \x00\r\n\r\n", "PUT", HeadProblem::Malformed),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "POST",
            HeadProblem::Framing,
        ),
        (b"POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", "POST", HeadProblem::Framing),
        (b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "POST", HeadProblem::Framing),
        (b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", "POST", HeadProblem::Framing),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 18446744073709551614\r\n\r\n",
            "POST",
            HeadProblem::Framing,
        ),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "POST", HeadProblem::Framing),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            "POST",
            HeadProblem::TransferCoding,
        ),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST",
            HeadProblem::TransferCoding,
        ),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST",
            HeadProblem::Framing,
        ),
    ] {
        assert_refused(bytes, method, problem);
    }
}

#[test]
fn accepts_at_most_100_lines_and_32_kib() {
    let lines = |count: usize| format!("PATCH / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(text(&lines(100), 100), lines(100));
    assert_refused(lines(101).as_bytes(), "PATCH", HeadProblem::TooLarge);
    let bytes = |length: usize| {
        let (start, end) = ("GET / HTTP/1.1\r\nX: ", "\r\n\r\n");
        format!("{start}{}{end}", "x".repeat(length - start.len() - end.len()))
    };
    assert_eq!(text(&bytes(MAX_HEAD_BYTES), 1000), bytes(MAX_HEAD_BYTES));
    for length in [MAX_HEAD_BYTES + 1, 3 * MAX_HEAD_BYTES] {
        assert_refused(bytes(length).as_bytes(), "GET", HeadProblem::TooLarge);
    }
    // After encoding, it would be larger than hyper accepts.
    let target = format!("GET /?{} HTTP/1.1\r\n\r\n", "<".repeat(MAX_HEAD_BYTES / 2));
    assert_refused(target.as_bytes(), "GET", HeadProblem::TooLarge);
    // There is never a complete head.
    assert_refused(&b"\r\n".repeat(MAX_HEAD_BYTES), "GET", HeadProblem::TooLarge);
}

#[test]
fn an_incomplete_malformed_head_is_refused() {
    let mut heads = Http1::new();
    for part in [&b"GET"[..], b" /a HTTP/9", b".9\r\nHost"] {
        let mut ready = Vec::new();
        heads.pass(part, &mut Output { kept: 0, in_place: true, ready: &mut ready });
    }
    assert!(heads.has_refused());
}

#[test]
fn everything_after_an_ambiguous_body_passes_unchanged() {
    let bytes = "POST /?< HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
        0\r\n\r\nGET /?< HTTP/1.1\r\n\r\n";
    for at_once in [1, 1000] {
        assert_eq!(text(bytes, at_once), bytes.replacen("/?<", "/?%3C", 1));
    }
    let broken =
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n\r\nGET /?< HTTP/1.1\r\n\r\n";
    assert_eq!(text(broken, 1), broken);
}

#[test]
fn an_incomplete_head_passes_when_the_client_closes() {
    let mut heads = Http1::new();
    let mut ready = Vec::new();
    let mut output = Output { kept: 0, in_place: true, ready: &mut ready };
    heads.pass(b"GET /?< HT", &mut output);
    assert_eq!(output.kept, 0);
    heads.end(&mut output);
    assert_eq!(ready, b"GET /?< HT");
}

/// A request, and the bytes that hyper must receive for it.
fn request() -> impl Strategy<Value = (String, String)> {
    let target = "/[a-z%?&\"<>{}|^~\u{e5}-]{0,30}";
    let lines = prop::collection::vec("X-[a-z]{1,8}: [ -~]{0,40}\r\n", 0..6);
    let looks_like_a_head =
        "(GET /[<>a-z]{0,5} HTTP/1.1\r\n\r\n|[0-9a-f]{1,2}\r\n|[ -~\r\n]{0,20}){0,3}";
    (target, lines, looks_like_a_head, 0..3_u8).prop_map(|(target, lines, body, kind)| {
        let lines = lines.concat();
        let rest = match kind {
            0 => format!("{lines}\r\n"),
            1 => format!("{lines}Content-Length: {}\r\n\r\n{body}", body.len()),
            _ => {
                let chunk = if body.is_empty() {
                    String::new()
                } else {
                    format!("{:X}\r\n{body}\r\n", body.len())
                };
                format!("Transfer-Encoding: chunked\r\n{lines}\r\n{chunk}0\r\n\r\n")
            }
        };
        let encoded = target.replace('"', "%22").replace('<', "%3C").replace('>', "%3E");
        let whole = |target| format!("POST {target} HTTP/1.1\r\nHost: x\r\n{rest}");
        (whole(target), whole(encoded))
    })
}

proptest! {
    #[test]
    fn only_targets_of_pipelined_requests_change_however_they_arrive(
        requests in prop::collection::vec(request(), 0..5),
        at_once in 1..200_usize,
    ) {
        let (sent, wanted): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        prop_assert_eq!(text(&sent.concat(), at_once), wanted.concat());
    }
}
