//! Tests of unsafe calls that may have run: no response advises the caller to repeat them.

use std::{net::SocketAddr, time::Duration};

use prost::Message as _;
use tenant_gateway::grpc::pb::{self, web_api_service_client::WebApiServiceClient};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tonic::{Code, Status};

use crate::support::{
    Options, World,
    api_host::{HostResponse, ScriptedApiHost, address, gateway_with_host},
    assert_status, eventually,
    http::{Answer, request, send},
    name, wire,
};

const CONTACT: &str = "/crm-sync/Cust1/api/v1/Contact/5";
const CALL: &str = "tenantgateway.v1.WebApiService/Call";
const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\n";

/// Sets the time-out of calls to half a second.
const SOON: &str = "[web_api]\ntimeout = \"500ms\"\n";

fn half() -> HostResponse {
    HostResponse::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it".to_vec())
}

fn nonsense() -> HostResponse {
    HostResponse::Raw(b"nonsense\r\n\r\n".to_vec())
}

/// Asserts the problem of an unsafe call with unknown outcome.
#[track_caller]
fn assert_unknown(answer: &Answer, reason: &str) {
    let problem = answer.assert_problem(504, reason);
    assert_eq!(problem["outcome"], "unknown", "{answer:?}");
    assert_eq!(answer.header("retry-after"), None, "{answer:?}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.ends_with("check in SuperOffice before you send the request again"), "{detail}");
}

/// Asserts the same over gRPC.
#[track_caller]
fn assert_unknown_status(status: &Status, code: Code, reason: &str) {
    let details = assert_status(status, code, reason);
    assert_eq!(details.error_info().unwrap().metadata["outcome"], "unknown", "{status:?}");
    assert!(details.retry_info().is_none(), "{status:?}");
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1", "{status:?}");
}

fn call(method: &str) -> pb::CallRequest {
    pb::CallRequest {
        tenant: name("Cust1"),
        method: method.to_owned(),
        path: "/api/v1/Contact".to_owned(),
        ..Default::default()
    }
}

async fn rpc(world: &World, method: &str) -> Result<pb::CallResponse, Status> {
    let client = WebApiServiceClient::new(world.channel().await);
    let mut client = client.max_decoding_message_size(64 << 20);
    Ok(client.call(call(method)).await?.into_inner())
}

#[tokio::test]
async fn over_http_an_unsafe_call_without_response_is_a_504_without_retry_after() {
    let (world, host) = gateway_with_host(SOON).await;
    let to = address(world.gateway());
    for (told, reason) in [
        (HostResponse::Hang, "DEADLINE_EXCEEDED"),
        (nonsense(), "UPSTREAM_UNAVAILABLE"),
        (HostResponse::CloseAfter(0), "UPSTREAM_UNAVAILABLE"),
    ] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let before = host.received().len();
            host.respond_next(told.clone());
            assert_unknown(&send(to, method, CONTACT, &[], b"{}").await, reason);
            assert_eq!(host.received().len() - before, 1, "{method} {told:?}");
        }
    }
}

#[tokio::test]
async fn an_upload_without_response_is_a_504_without_retry_after() {
    let (world, host) = gateway_with_host(SOON).await;
    for bytes in [100, 100_000] {
        host.respond_next(HostResponse::Hang);
        let answer = send(address(world.gateway()), "PUT", CONTACT, &[], &vec![b'x'; bytes]).await;
        assert_unknown(&answer, "DEADLINE_EXCEEDED");
    }
    assert_eq!(host.received().len(), 2);
}

#[tokio::test]
async fn an_unsafe_call_that_is_repeated_after_401_and_lost_has_an_unknown_outcome() {
    let (world, host) = gateway_with_host(SOON).await;
    host.respond_next(HostResponse::Body(UNAUTHORIZED, vec![]));
    host.respond_next(HostResponse::Body(UNAUTHORIZED, vec![]));
    host.respond_next(HostResponse::Hang);
    let answer = send(address(world.gateway()), "POST", CONTACT, &[], b"{}").await;
    assert_unknown(&answer, "DEADLINE_EXCEEDED");
    assert_eq!(host.received().len(), 3);
}

#[tokio::test]
async fn a_safe_call_without_response_is_a_503_with_retry_after() {
    let (world, host) = gateway_with_host(SOON).await;
    for method in ["GET", "HEAD"] {
        host.respond_next(HostResponse::Hang);
        let answer = send(address(world.gateway()), method, CONTACT, &[], b"").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")), "{method}");
        assert!(!answer.body.contains("outcome"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_unsafe_call_that_was_not_sent_may_be_repeated() {
    let (world, host) = gateway_with_host(SOON).await;
    drop(host);
    let answer = send(address(world.gateway()), "POST", CONTACT, &[], b"{}").await;
    let problem = answer.assert_problem(503, "UPSTREAM_UNAVAILABLE");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(problem.get("outcome"), None);
}

#[tokio::test]
async fn retry_after_of_a_failing_server_is_forwarded_for_safe_calls_only() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    for (status, method, passes) in [
        ("503 Service Unavailable", "POST", false),
        ("502 Bad Gateway", "PUT", false),
        ("504 Gateway Timeout", "DELETE", false),
        ("500 Internal Server Error", "PATCH", false),
        // These statuses say that the call was rejected or accepted.
        ("429 Too Many Requests", "POST", true),
        ("202 Accepted", "POST", true),
        ("503 Service Unavailable", "GET", true),
    ] {
        let head = format!("HTTP/1.1 {status}\r\nRetry-After: 0\r\n").leak();
        for _ in 0..if method == "GET" { 3 } else { 1 } {
            host.respond_next(HostResponse::Body(head, b"theirs".to_vec()));
        }
        let answer = send(to, method, CONTACT, &[], b"").await;
        assert_eq!(answer.status.to_string(), status[..3], "{answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), passes, "{method} {status}");
        assert_eq!(answer.body, "theirs");
    }
}

#[tokio::test]
async fn an_unsafe_call_whose_response_cannot_be_returned_has_an_unknown_outcome() {
    let (world, host) = gateway_with_host("public_uri = \"https://egress.example.com\"").await;
    let to = address(world.gateway());
    let asks = [("Gateway-Rewrite-Links", "true")];
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let compressed =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let broken = HostResponse::Raw(format!("{json}Content-Length: 100\r\n\r\n{{").into_bytes());
    let large =
        HostResponse::Raw(format!("{json}Content-Length: {}\r\n\r\n{{", 17 << 20).into_bytes());
    host.respond_next(HostResponse::Body(compressed, b"{}".to_vec()));
    assert_unknown(&send(to, "POST", CONTACT, &asks, b"{}").await, "UPSTREAM_INVALID_RESPONSE");
    host.respond_next(broken);
    assert_unknown(&send(to, "POST", CONTACT, &asks, b"{}").await, "UPSTREAM_UNAVAILABLE");
    host.respond_next(large);
    let answer = send(to, "POST", CONTACT, &asks, b"{}").await;
    let problem = answer.assert_problem(413, "RESPONSE_TOO_LARGE");
    assert_eq!((&problem["outcome"], answer.header("retry-after")), (&"unknown".into(), None));
    assert_eq!(host.received().len(), 3);
}

#[tokio::test]
async fn over_grpc_an_unsafe_call_without_response_is_never_unavailable() {
    let (world, host) = gateway_with_host(SOON).await;
    for (told, code, reason) in [
        (HostResponse::Hang, Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (nonsense(), Code::Aborted, "UPSTREAM_UNAVAILABLE"),
        (half(), Code::Aborted, "UPSTREAM_UNAVAILABLE"),
        (HostResponse::Bytes(5 << 20), Code::ResourceExhausted, "RESPONSE_TOO_LARGE"),
    ] {
        let before = host.received().len();
        host.respond_next(told.clone());
        assert_unknown_status(&rpc(&world, "POST").await.err().unwrap(), code, reason);
        assert_eq!(host.received().len() - before, 1, "{told:?}");
    }
}

#[tokio::test]
async fn the_callers_deadline_overrides_the_configured_one() {
    let (world, host) = gateway_with_host("[web_api]\ntimeout = \"5m\"\n").await;
    host.respond_next(HostResponse::Hang);
    let message = call("POST").encode_to_vec();
    // A raw call, because a client would end it by its own timer.
    let (to, headers) = (world.gateway().grpc_address, [("grpc-timeout", "700m")]);
    let (status, _) = wire::send(to, CALL, &headers, &message).await;
    assert_unknown_status(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_call_of_the_web_api_outlives_the_default_deadline_of_other_calls() {
    let host = ScriptedApiHost::start().await;
    let options = Options {
        grpc: Some("default_deadline = \"100ms\"".to_owned()),
        extra_config: SOON.to_owned(),
        ..Options::default()
    };
    let world = World::with(options).await;
    host.move_tenant_here(&world.sandbox, "Cust1");
    world.enroll("Cust1").await;
    host.respond_next(HostResponse::Hang);
    let begin = std::time::Instant::now();
    let status = rpc(&world, "POST").await.err().unwrap();
    assert_unknown_status(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert!(begin.elapsed() >= Duration::from_millis(400), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn over_grpc_a_safe_call_without_response_is_unavailable_with_retry_info() {
    let (world, host) = gateway_with_host("").await;
    for _ in 0..3 {
        host.respond_next(nonsense());
    }
    let status = rpc(&world, "GET").await.err().unwrap();
    let details = assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    assert!(details.retry_info().is_some());
    assert!(status.metadata().get("grpc-retry-pushback-ms").is_none());
    assert!(!details.error_info().unwrap().metadata.contains_key("outcome"));
}

#[tokio::test]
async fn an_unsafe_call_ended_by_the_shutdown_has_an_unknown_outcome() {
    let options = Options {
        extra_config: "[egress]\nlisten = \"127.0.0.1:0\"\n[login]\ntimeout = \"1s\"\n".to_owned(),
        lifecycle: Some("drain_delay = \"0s\"\nhard_deadline = \"2s\"".to_owned()),
        ..Options::default()
    };
    let mut world = World::with(options).await;
    let host = ScriptedApiHost::start().await;
    host.move_tenant_here(&world.sandbox, "Cust1");
    world.enroll("Cust1").await;
    let to = address(world.gateway());
    for _ in 0..3 {
        host.respond_next(HostResponse::Hang);
    }
    let (mut order, mut read) = (waiting(to, "POST").await, waiting(to, "GET").await);
    let mut client = WebApiServiceClient::new(world.channel().await);
    let ended = async {
        eventually("all have arrived", || host.received().len() == 3).await;
        world.stop().await;
    };
    let rpc = client.call(call("POST"));
    let (order, read, rpc, ()) =
        tokio::join!(Answer::read(&mut order), Answer::read(&mut read), rpc, ended);
    assert_unknown(&order, "SHUTTING_DOWN");
    read.assert_problem(503, "SHUTTING_DOWN");
    assert!(read.header("retry-after").is_some());
    assert_unknown_status(&rpc.err().unwrap(), Code::Aborted, "SHUTTING_DOWN");
}

/// Sends a request and returns its connection.
async fn waiting(to: SocketAddr, method: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(&request(method, CONTACT, &[], b"")).await.unwrap();
    stream
}
