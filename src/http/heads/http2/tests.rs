use proptest::prelude::*;

use super::*;
use crate::{
    http::heads::{
        MAX_HEAD_BYTES,
        hpack::write_literal,
        problem::HeadProblem,
        test_server::{Seen, SeenRequest, serve},
    },
    listen::HttpVersion,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;

const GET: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "http"), (":path", "/a")];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = FrameHead { length: payload.len(), kind, flags, stream };
    [&head.write()[..], payload].concat()
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        write_literal(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

/// Returns the frame of a request without a body.
fn get(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
}

fn with(changed: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let kept = GET.into_iter().filter(|(name, _)| changed.iter().all(|(other, _)| other != name));
    let (mut pseudo, rest): (Vec<_>, Vec<_>) =
        kept.chain(changed.iter().copied()).partition(|(name, _)| name.starts_with(':'));
    pseudo.extend(rest);
    pseudo
}

fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, b""), &frames.concat()].concat()
}

fn serve_all(frames: &[Vec<u8>]) -> Seen {
    let bytes = connection(frames);
    let seen = serve(&bytes, 100_000, HttpVersion::Http2, true);
    assert_eq!(serve(&bytes, 11, HttpVersion::Http2, true).requests, seen.requests);
    seen
}

/// Returns the streams of the frames of this kind that the client received.
fn sent(seen: &Seen, kind: u8) -> Vec<u32> {
    let (mut rest, mut streams) = (&seen.answers[..], Vec::new());
    while let Some(head) = FrameHead::read(rest) {
        if head.kind == kind {
            streams.push(head.stream);
        }
        rest = rest.get(FRAME_HEAD_BYTES + head.length..).unwrap_or_default();
    }
    streams
}

fn targets(seen: &Seen) -> Vec<&str> {
    seen.requests.iter().map(|request| request.target.as_str()).collect()
}

fn passed(bytes: &[u8], at_once: usize) -> Vec<u8> {
    let mut heads = Http2::new();
    let mut passed = Vec::new();
    for mut part in bytes.chunks(at_once) {
        while !part.is_empty() {
            let mut ready = Vec::new();
            let mut output = Output { kept: 0, in_place: true, ready: &mut ready };
            let used = heads.pass(part, &mut output);
            let kept = output.kept;
            passed.extend_from_slice(&part[..kept]);
            passed.extend_from_slice(&ready);
            part = &part[used..];
        }
    }
    passed
}

#[test]
fn characters_that_clients_send_raw_arrive_encoded_also_from_the_table() {
    let mut indexed = block(&GET[..2]);
    // `:path` and a header field are added to the table, as entries 63 (0xbf refers to it) and 62.
    for (name, value) in [(":path", "/a?f=<\">"), ("x-own", "1")] {
        let mut literal = block(&[(name, value)]);
        literal[0] = 0x40;
        indexed.extend(literal);
    }
    let again = [block(&GET[..2]), vec![0xbf, 0xbe]].concat();
    let ends = END_HEADERS | END_STREAM;
    let seen = serve_all(&[
        get(1, &GET),
        frame(HEADERS, ends, 3, &indexed),
        frame(HEADERS, ends, 5, &again),
        get(7, &with(&[(":path", "/`?\u{e5}{}|\\^")])),
    ]);
    assert_eq!(targets(&seen), ["/a", "/a?f=%3C%22%3E", "/a?f=%3C%22%3E", "/%60?\u{e5}{}|\\^"]);
    assert!(seen.requests[1..3].iter().all(|request| request.head.contains("\"x-own\": \"1\"")));
    assert_eq!(sent(&seen, HEADERS), [1, 3, 5, 7]);
}

#[test]
fn a_path_that_is_not_utf8_arrives_encoded() {
    let mut latin = block(&GET[..2]);
    write_literal(b":path", b"/Stra\xdfe", &mut latin);
    let seen = serve_all(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &latin)]);
    assert_eq!(targets(&seen), ["/Stra%DFe"]);
}

#[test]
fn a_request_that_h2_would_refuse_reaches_the_service_with_its_credential() {
    let authorization = ("authorization", "Bearer t");
    let cases = [
        (HeadProblem::Fragment, with(&[(":path", "/a?b=#c")])),
        (HeadProblem::Target, with(&[(":path", "/a b")])),
        (HeadProblem::Target, with(&[(":path", "/a\u{7f}")])),
        (HeadProblem::Target, with(&[(":path", "")])),
        (HeadProblem::Target, with(&[(":path", "a")])),
        (HeadProblem::Malformed, GET[1..].to_vec()),
        (HeadProblem::Malformed, GET[..2].to_vec()),
        (HeadProblem::Malformed, vec![GET[0], GET[2]]),
        (HeadProblem::Malformed, with(&[(":method", "G T")])),
        (HeadProblem::Malformed, with(&[(":method", "CONNECT")])),
        (HeadProblem::Malformed, with(&[(":scheme", "a b")])),
        (HeadProblem::Malformed, with(&[(":authority", "a b")])),
        (HeadProblem::Malformed, with(&[(":authority", "")])),
        (HeadProblem::Malformed, with(&[(":status", "200")])),
        (HeadProblem::Malformed, with(&[(":protocol", "websocket")])),
        (HeadProblem::Malformed, with(&[(":unknown", "x")])),
        (HeadProblem::Malformed, [&GET[..], &GET[..1]].concat()),
        (HeadProblem::Malformed, [&[("x-early", "1")], &GET[..]].concat()),
        (HeadProblem::Malformed, with(&[("X-Upper", "1")])),
        (HeadProblem::Malformed, with(&[("x blank", "1")])),
        (HeadProblem::Malformed, with(&[("x-value", "a\nb")])),
        (HeadProblem::Malformed, with(&[("connection", "close")])),
        (HeadProblem::Malformed, with(&[("transfer-encoding", "chunked")])),
        (HeadProblem::Malformed, with(&[("te", "gzip")])),
        (HeadProblem::Framing, with(&[("content-length", "1x")])),
        (HeadProblem::Framing, with(&[("content-length", "1")])),
        (HeadProblem::Framing, with(&[("content-length", "0"), ("content-length", "1")])),
    ];
    let mut frames = Vec::new();
    let mut stream = 1;
    for (_, fields) in &cases {
        frames.push(get(stream, &[&fields[..], &[authorization]].concat()));
        frames.push(get(stream + 2, &GET));
        stream += 4;
    }
    let seen = serve_all(&frames);
    assert_eq!(seen.requests.len(), 2 * cases.len(), "{:?}", targets(&seen));
    assert_eq!((sent(&seen, RST_STREAM), sent(&seen, GO_AWAY)), (vec![], vec![]));
    for (pair, (problem, fields)) in seen.requests.chunks(2).zip(&cases) {
        assert_eq!(pair[0].problem, Some(problem.target()), "{fields:?}");
        assert!(pair[0].head.contains("Bearer t"), "{fields:?}");
        assert_eq!((pair[1].problem, pair[1].target.as_str()), (None, "/a"));
    }
}

#[test]
fn a_head_that_is_too_large_is_refused_alone() {
    let value = |length: usize| "x".repeat(length);
    let large = value(40_000);
    let many: Vec<_> = (0..1200).map(|_| ("a", "b")).collect();
    for fields in [vec![("x-large", large.as_str())], many] {
        let all = block(&[&GET[..], &fields[..]].concat());
        let mut parts: Vec<_> = all.chunks(15_000).collect();
        let last = parts.pop().unwrap();
        let mut frames = Vec::new();
        for (nth, part) in parts.iter().enumerate() {
            let (kind, flags) = if nth == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
            frames.push(frame(kind, flags, 1, part));
        }
        let kind = if parts.is_empty() { HEADERS } else { CONTINUATION };
        frames.push(frame(kind, END_HEADERS | END_STREAM, 1, last));
        frames.push(get(3, &GET));
        let seen = serve_all(&frames);
        let problems: Vec<_> = seen.requests.iter().map(|request| request.problem).collect();
        assert_eq!(problems, [Some(HeadProblem::TooLarge.target()), None]);
        assert_eq!((sent(&seen, HEADERS), sent(&seen, GO_AWAY)), (vec![1, 3], vec![]));
    }
    // The largest head that passes is one byte below the limit, as in h2.
    let overhead: usize = GET.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    for (more, problem) in [(0, None), (1, Some(HeadProblem::TooLarge.target()))] {
        let value = value(MAX_HEAD_BYTES - overhead - 32 - 1 - "x".len() + more);
        let all = block(&[&GET[..], &[("x", value.as_str())]].concat());
        let (first, rest) = all.split_at(16_000);
        let (second, third) = rest.split_at(16_000);
        let seen = serve_all(&[
            frame(HEADERS, END_STREAM, 1, first),
            frame(CONTINUATION, 0, 1, second),
            frame(CONTINUATION, END_HEADERS, 1, third),
        ]);
        assert_eq!(seen.requests[0].problem, problem);
    }
}

#[test]
fn rewritten_blocks_keep_bodies_and_trailers_with_their_requests() {
    let post = block(&[&with(&[(":method", "POST")])[..], &[("content-length", "2")]].concat());
    let upload = |stream, trailers: &[(&str, &str)]| {
        let head = frame(HEADERS, END_HEADERS, stream, &post);
        let padded = [&[3], &block(trailers)[..], &[0; 3]].concat();
        let flags = END_HEADERS | END_STREAM | PADDED;
        [head, frame(DATA, 0, stream, b"ab"), frame(HEADERS, flags, stream, &padded)].concat()
    };
    let odd = get(1, &with(&[(":path", "/<")]));
    let seen = serve_all(&[
        odd,
        upload(3, &[("x-trailer", "1")]),
        upload(5, &[("X-Upper", "1")]),
        upload(7, &[(":path", "/")]),
        get(9, &GET),
    ]);
    let bodies: Vec<_> = seen.requests.iter().map(|request| request.body.as_deref()).collect();
    let whole = |body: &'static str| Some(body.as_bytes());
    assert_eq!(bodies.iter().filter(|body| **body == whole("ab")).count(), 1, "{bodies:?}");
    assert_eq!(bodies.iter().filter(|body| **body == whole("")).count(), 2, "{bodies:?}");
    assert!(sent(&seen, GO_AWAY).is_empty());
}

#[test]
fn a_connection_that_breaks_the_protocol_is_ended_by_h2() {
    let open = frame(HEADERS, 0, 3, &block(&GET));
    for frames in [
        vec![frame(HEADERS, END_HEADERS, 1, &[0x80])],
        vec![frame(HEADERS, END_HEADERS, 1, &[0x00, 0x01])],
        vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0x82])],
        vec![frame(CONTINUATION, END_HEADERS, 1, &block(&GET))],
        vec![open.clone(), frame(PING, 0, 0, &[0; 8])],
        vec![open.clone(), frame(CONTINUATION, END_HEADERS, 5, b"")],
        vec![open.clone(), get(5, &GET)],
        vec![frame(DATA, 0, 1, &vec![0; MAX_FRAME_BYTES + 1])],
        vec![frame(HEADERS, END_HEADERS, 1, &vec![0; MAX_FRAME_BYTES + 1])],
        vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])],
        [vec![open.clone()], vec![frame(CONTINUATION, 0, 3, b""); 100]].concat(),
        vec![get(0, &GET)],
    ] {
        let odd = get(1, &with(&[(":path", "/<")]));
        let behind = get(21, &with(&[(":path", "/behind")]));
        for all in [frames.clone(), [vec![odd], frames].concat()] {
            let seen = serve_all(&[all, vec![behind.clone()]].concat());
            assert_eq!(sent(&seen, GO_AWAY).len(), 1);
            assert!(!targets(&seen).contains(&"/behind"));
        }
    }
}

#[test]
fn a_connect_with_a_length_is_refused_with_an_answer() {
    let fields = [(":method", "CONNECT"), (":authority", "a:1"), ("content-length", "5")];
    let seen = serve_all(&[
        frame(HEADERS, END_HEADERS, 1, &block(&fields)),
        frame(DATA, END_STREAM, 1, b"hello"),
    ]);
    assert_eq!(seen.requests[0].problem, Some(HeadProblem::Framing.target()));
    assert!(sent(&seen, RST_STREAM).is_empty());
}

#[test]
fn rewritten_blocks_wait_until_the_output_has_room() {
    const REQUESTS: u32 = 40;
    let large = "x".repeat(3000);
    let mut first = block(&with(&[(":path", "/<")]));
    let mut literal = block(&[("x-large", large.as_str())]);
    literal[0] = 0x40;
    first.extend(literal);
    // Each block refers to the table entry nine times, with one byte each.
    let again = [block(&GET), vec![0xbe; 9]].concat();
    let ends = END_HEADERS | END_STREAM;
    let mut frames = vec![frame(HEADERS, ends, 1, &first)];
    frames.extend((1..REQUESTS).map(|nth| frame(HEADERS, ends, 2 * nth + 1, &again)));
    let bytes = connection(&frames);
    let mut heads = Http2::new();
    let (mut rest, mut all) = (&bytes[..], 0);
    while !rest.is_empty() {
        let mut ready = Vec::new();
        let used = heads.pass(rest, &mut Output { kept: 0, in_place: false, ready: &mut ready });
        assert!(used > 0 && ready.len() <= MAX_READY_BYTES + MAX_HEAD_BYTES, "{}", ready.len());
        all += ready.len();
        rest = &rest[used..];
    }
    assert!(all > 10 * MAX_READY_BYTES);
    let seen = serve_all(&frames);
    assert_eq!(seen.requests.len(), usize::try_from(REQUESTS).unwrap());
    assert!(seen.requests[1..].iter().all(|request| request.problem.is_none()));
    assert!(sent(&seen, GO_AWAY).is_empty());
}

#[test]
fn a_request_that_depends_on_itself_is_refused_alone() {
    let payload = [&[0, 0, 0, 1, 0][..], &block(&GET)].concat();
    let flags = END_HEADERS | END_STREAM | PRIORITY;
    let seen = serve_all(&[frame(HEADERS, flags, 1, &payload), get(3, &GET)]);
    let problems: Vec<_> = seen.requests.iter().map(|request| request.problem).collect();
    assert_eq!(problems, [Some(HeadProblem::Malformed.target()), None]);
}

/// A valid or invalid field.
fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let names = prop::sample::select(vec![
        ":method",
        ":scheme",
        ":authority",
        ":path",
        ":status",
        ":protocol",
        ":x",
        "",
        "te",
        "content-length",
        "connection",
        "host",
        "cookie",
        "X-Upper",
        "x-own",
        "expect",
    ]);
    let values = prop::sample::select(vec![
        "",
        "GET",
        "CONNECT",
        "OPTIONS",
        "http",
        "https",
        "/",
        "/a?<",
        "*",
        "trailers",
        "0",
        "5",
        "100-continue",
        "gateway:443",
        "user@gateway",
        "[::1]",
        "\u{e5}",
        "200",
        "websocket",
    ]);
    let bytes = || prop::collection::vec(any::<u8>(), 0..4);
    (
        prop_oneof![4 => names.prop_map(|name| name.as_bytes().to_vec()), 1 => bytes()],
        prop_oneof![4 => values.prop_map(|value| value.as_bytes().to_vec()), 1 => bytes()],
    )
}

/// Frames of valid requests on increasing streams.
fn acceptable() -> impl Strategy<Value = Vec<u8>> {
    let fields = prop::collection::vec(("x-[a-z]{1,9}", "[ -~]{0,30}", any::<bool>()), 0..6);
    let request =
        ("/[a-z?%{}|^]{0,12}", fields, prop::collection::vec(any::<u8>(), 0..40), any::<bool>());
    let requests = prop::collection::vec(request, 0..6);
    requests.prop_map(|requests| {
        let mut frames = Vec::new();
        for (stream, (path, fields, body, pings)) in (1..).step_by(2).zip(requests) {
            let mut all = block(&GET[..2]);
            all.extend(block(&[(":path", &path)]));
            for (name, value, indexed) in fields {
                let mut literal = block(&[(&name, &value)]);
                literal[0] = if indexed { 0x40 } else { 0x10 };
                all.extend(literal);
            }
            frames.push(frame(HEADERS, END_HEADERS, stream, &all));
            if pings {
                frames.push(frame(PING, 0, 0, &[7; 8]));
            }
            frames.push(frame(DATA, END_STREAM, stream, &body));
        }
        connection(&frames)
    })
}

proptest! {
    #[test]
    fn frames_that_h2_accepts_pass_byte_by_byte_however_they_arrive(
        bytes in acceptable(),
        at_once in 1..200_usize,
    ) {
        prop_assert_eq!(passed(&bytes, at_once), bytes);
    }

    #[test]
    fn rewritten_blocks_decode_to_the_original_fields(bytes in acceptable()) {
        let odd = get(1, &with(&[(":path", "/first?<")]));
        // Streams of the rest begin at 3.
        let start = PREFACE.len() + FRAME_HEAD_BYTES;
        let mut rest = bytes[start..].to_vec();
        let mut at = 0;
        while let Some(mut head) = FrameHead::read(&rest[at..]) {
            if head.stream > 0 {
                head.stream += 2;
                rest[at..at + FRAME_HEAD_BYTES].copy_from_slice(&head.write());
            }
            at += FRAME_HEAD_BYTES + head.length;
        }
        let anew = serve(&[&bytes[..start], &odd, &rest].concat(), 50, HttpVersion::Http2, true);
        let plain = serve(&bytes, 50, HttpVersion::Http2, false);
        prop_assert_eq!(&anew.requests[0].target, "/first?%3C");
        let heads = |seen: &[SeenRequest]| {
            let parts = |seen: &SeenRequest| {
                (seen.head.clone(), seen.target.clone(), seen.body.clone())
            };
            let mut heads: Vec<_> = seen.iter().map(parts).collect();
            heads.sort();
            heads
        };
        prop_assert_eq!(heads(&anew.requests[1..]), heads(&plain.requests));
    }

    #[test]
    fn every_request_reaches_the_service_whatever_fields_it_has(
        requests in prop::collection::vec((any::<bool>(), prop::collection::vec(field(), 0..6), any::<bool>()), 1..6),
    ) {
        let mut frames = Vec::new();
        for (stream, (is_whole, fields, indexed)) in (1..).step_by(2).zip(&requests) {
            let mut all = if *is_whole { block(&GET) } else { Vec::new() };
            for (name, value) in fields {
                let mut literal = Vec::new();
                write_literal(name, value, &mut literal);
                literal[0] = if *indexed { 0x40 } else { 0 };
                all.extend(literal);
            }
            frames.push(frame(HEADERS, END_HEADERS | END_STREAM, stream, &all));
        }
        let seen = serve(&connection(&frames), 1000, HttpVersion::Http2, true);
        prop_assert_eq!(seen.requests.len(), requests.len());
        prop_assert_eq!((sent(&seen, RST_STREAM), sent(&seen, GO_AWAY)), (vec![], vec![]));
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), at_once in 1..50_usize) {
        passed(&[PREFACE, &bytes].concat(), at_once);
    }
}
