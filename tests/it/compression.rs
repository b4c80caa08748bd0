//! Tests of compressed requests: every service accepts gzip, with limits on the decompressed size.

use std::{io::Write as _, net::SocketAddr};

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use tenant_gateway::grpc::{
    envoy_pb::{CheckRequest, authorization_client::AuthorizationClient},
    pb::{self, tenant_service_client::TenantServiceClient},
};
use tonic::{Code, Status, codec::CompressionEncoding};
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::support::{
    Options, World, assert_invalid, assert_status, callers::AuthenticatedGateway, name,
};

const ACCEPTED: &str = "identity,gzip";
const GET_TENANT: &str = "tenantgateway.v1.TenantService/GetTenant";
const HEALTH: &str = "grpc.health.v1.Health/Check";

const COMPRESSED: u8 = 1;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Sends one message with this flag. Returns headers and body of the response.
async fn send(
    address: SocketAddr,
    method: &str,
    headers: &[(&'static str, &[u8])],
    flag: u8,
    message: &[u8],
) -> (HeaderMap, Vec<u8>) {
    let mut body = vec![flag];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    let client = reqwest::ClientBuilder::new().http2_prior_knowledge().build().unwrap();
    let uri = format!("http://{address}/{method}").parse().unwrap();
    let mut request = reqwest::Request::new(reqwest::Method::POST, uri);
    *request.body_mut() = Some(body.into());
    let always = [("content-type", &b"application/grpc"[..]), ("te", &b"trailers"[..])];
    for (name, value) in always.iter().chain(headers) {
        let value = HeaderValue::from_bytes(value).unwrap();
        request.headers_mut().append(HeaderName::from_static(name), value);
    }
    let answer = client.execute(request).await.unwrap();
    assert_eq!(answer.status(), http::StatusCode::OK);
    let headers = answer.headers().clone();
    (headers, answer.bytes().await.unwrap().to_vec())
}

/// Sends a gzip message of a call that fails, and returns the status.
async fn fails(address: SocketAddr, method: &str, message: &[u8]) -> Status {
    let headers = [("grpc-encoding", &b"gzip"[..])];
    let (headers, _) = send(address, method, &headers, COMPRESSED, message).await;
    assert_eq!(headers["grpc-accept-encoding"], ACCEPTED);
    Status::from_header_map(&headers).expect("the call did not fail")
}

#[tokio::test]
async fn every_service_reads_requests_in_gzip() {
    let extra_config = "[envoy]\nenabled = true".to_owned();
    let world = World::with(Options { extra_config, ..Options::default() }).await;
    let address = world.gateway().grpc_address;
    // Field 1 is an invalid name or -1, so that the error proves that the message was decoded.
    let (bad_name, negative) =
        (gzip(b"\x0a\x03not"), gzip(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
    for (method, message, field) in [
        ("TokenService/IssueSystemTicket", &bad_name, "tenant"),
        ("ImpersonationService/GetGrant", &bad_name, "name"),
        ("TenantService/GetTenant", &bad_name, "name"),
        ("AssociateService/GetAssociate", &bad_name, "name"),
        ("ApplicationService/ListApplications", &negative, "page_size"),
        ("AccessService/ExplainAccess", &bad_name, "tenant"),
        ("AuditService/ListAuditEvents", &bad_name, "parent"),
        ("WebApiService/Call", &bad_name, "tenant"),
    ] {
        let status = fails(address, &format!("tenantgateway.v1.{method}"), message).await;
        let details = assert_status(&status, Code::InvalidArgument, "INVALID_ARGUMENT");
        let violations = &details.bad_request().unwrap().field_violations;
        assert!(violations.iter().any(|v| v.field == field), "{method}: {status:?}");
    }
    let nobody = HealthCheckRequest { service: "no.such.Service".to_owned() }.encode_to_vec();
    assert_eq!(fails(address, HEALTH, &gzip(&nobody)).await.code(), Code::NotFound);
    let client = AuthorizationClient::new(world.channel().await);
    let mut client = client.send_compressed(CompressionEncoding::Gzip);
    let checked = client.check(CheckRequest::default()).await.unwrap().into_inner();
    assert!(checked.status.is_some_and(|status| status.code != 0));
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let client = ServerReflectionClient::new(world.channel().await);
    let mut client = client.send_compressed(CompressionEncoding::Gzip);
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    assert!(answers.into_inner().message().await.unwrap().is_some());
}

#[tokio::test]
async fn a_compressed_request_gets_an_uncompressed_response() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let client = TenantServiceClient::new(world.channel().await);
    let client = client.accept_compressed(CompressionEncoding::Gzip);
    let mut client = client.send_compressed(CompressionEncoding::Gzip);
    let got = client.get_tenant(pb::GetTenantRequest { name: name("Cust1") }).await.unwrap();
    assert_eq!(got.metadata().get("grpc-accept-encoding").unwrap(), ACCEPTED);
    assert!(!got.metadata().contains_key("grpc-encoding"));
    assert_eq!(got.into_inner().tenant.unwrap().name, name("Cust1"));
    let message = pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec();
    let headers = [("grpc-encoding", &b"gzip"[..]), ("grpc-accept-encoding", &b"gzip"[..])];
    let address = world.gateway().grpc_address;
    // A message of such a call may also be uncompressed.
    for (flag, message) in [(COMPRESSED, gzip(&message)), (0, message)] {
        let (headers, body) = send(address, GET_TENANT, &headers, flag, &message).await;
        assert_eq!(headers["grpc-accept-encoding"], ACCEPTED);
        assert!(!headers.contains_key("grpc-encoding"));
        assert_eq!(body[0], 0, "the answer is compressed");
    }
}

#[tokio::test]
async fn an_unsupported_encoding_is_refused_with_the_list_of_accepted_ones() {
    let world = World::new().await;
    let address = world.gateway().grpc_address;
    for encoding in [
        &b"deflate"[..],
        b"zstd",
        b"br",
        b"snappy",
        b"GZIP",
        b"gzip, deflate",
        b"gzip;q=1",
        b"",
        b"\xe5",
    ] {
        for method in
            [GET_TENANT, HEALTH, "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]
        {
            let headers = [("grpc-encoding", encoding)];
            let (headers, _) =
                send(address, method, &headers, COMPRESSED, b"\x78\x9c\x03\0\0\0\0\x01").await;
            let status = Status::from_header_map(&headers).unwrap();
            assert_status(&status, Code::Unimplemented, "UNIMPLEMENTED");
            assert!(status.message().contains("gzip"), "{status:?}");
            assert!(!status.message().contains("not implemented"), "{status:?}");
            let told: Vec<_> = headers.get_all("grpc-accept-encoding").iter().collect();
            assert_eq!(told, [ACCEPTED], "{method}");
        }
    }
    // An unknown method keeps its own error text.
    let status = fails(address, "tenantgateway.v1.TenantService/NoSuch", &gzip(b"")).await;
    assert_status(&status, Code::Unimplemented, "UNIMPLEMENTED");
    assert!(status.message().contains("this method"), "{status:?}");
}

#[tokio::test]
async fn the_size_limit_holds_for_the_decompressed_message() {
    let world = World::new().await;
    let address = world.gateway().grpc_address;
    let large = 4 * 1024 * 1024;
    for (method, bytes) in [
        (GET_TENANT, large + 1),
        (GET_TENANT, 64 * 1024 * 1024),
        ("tenantgateway.v1.WebApiService/Call", large + 128 * 1024 + 1),
        (HEALTH, 16 * 1024 + 1),
        (HEALTH, large),
    ] {
        let status = fails(address, method, &gzip(&vec![0; bytes])).await;
        assert_status(&status, Code::ResourceExhausted, "RESPONSE_TOO_LARGE");
        assert!(status.message().contains("decompression"), "{status:?}");
    }
    // The limit also holds for a message that is not compressed.
    let (headers, _) = send(address, HEALTH, &[], 0, &vec![0; 16 * 1024 + 1]).await;
    let status = Status::from_header_map(&headers).unwrap();
    assert_status(&status, Code::ResourceExhausted, "RESPONSE_TOO_LARGE");
    // The largest body of a Web API call passes.
    let body = vec![0; large];
    let call = pb::CallRequest { tenant: "none".to_owned(), body, ..Default::default() };
    let status =
        fails(address, "tenantgateway.v1.WebApiService/Call", &gzip(&call.encode_to_vec())).await;
    assert_status(&status, Code::InvalidArgument, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn bytes_that_do_not_match_their_encoding_are_refused() {
    let world = World::new().await;
    let address = world.gateway().grpc_address;
    let good = gzip(&pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec());
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let is_refused = |status: &Status| {
        assert_invalid(status, &[""]);
        assert!(status.message().contains("grpc-encoding"), "{status:?}");
    };
    for message in [&b"\x1f\x8b"[..], b"plain", &good[..good.len() - 9], &damaged] {
        is_refused(&fails(address, GET_TENANT, message).await);
    }
    // The compressed flag without an encoding, and an undefined flag.
    let identity = [("grpc-encoding", &b"identity"[..])];
    for (headers, flag) in [(&[][..], COMPRESSED), (&identity[..], COMPRESSED), (&[][..], 2)] {
        let (headers, _) = send(address, GET_TENANT, headers, flag, &good).await;
        is_refused(&Status::from_header_map(&headers).unwrap());
    }
}

#[tokio::test]
async fn an_unauthenticated_call_is_refused_before_its_message_is_decompressed() {
    let guarded = AuthenticatedGateway::new("permit (principal, action, resource);").await;
    let address = guarded.world.gateway().grpc_address;
    let status = fails(address, GET_TENANT, &gzip(&vec![0; 8 * 1024 * 1024])).await;
    assert_status(&status, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
}
