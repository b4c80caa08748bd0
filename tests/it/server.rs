//! Tests of the server: health, reflection, admin pages, request ids, deadlines, shutdown.

use std::time::{Duration, Instant};

use prost::Message as _;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tenant_gateway::{app::ShutdownOutcome, grpc::pb};
use tonic::{Code, Request, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{Options, World, assert_status, eventually, issue, issue_with, name, wire};

const ISSUE: &str = "tenantgateway.v1.TokenService/IssueSystemTicket";

const SERVICES: [&str; 8] = [
    "tenantgateway.v1.AccessService",
    "tenantgateway.v1.ApplicationService",
    "tenantgateway.v1.AssociateService",
    "tenantgateway.v1.AuditService",
    "tenantgateway.v1.ImpersonationService",
    "tenantgateway.v1.TenantService",
    "tenantgateway.v1.TokenService",
    "tenantgateway.v1.WebApiService",
];

async fn health(world: &World, service: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let checked = HealthClient::new(world.channel().await).check(request).await?;
    Ok(checked.into_inner().status())
}

fn delay_exchanges(world: &World, by: Duration) {
    let always = FaultScope::always();
    world.sandbox.inject(Endpoint::Authenticate, Fault::delay(by), always).unwrap();
}

/// Returns the service names from reflection.
async fn listed_services(world: &World) -> Result<Vec<String>, Status> {
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(world.channel().await);
    let answers = client.server_reflection_info(tokio_stream::once(request)).await?;
    let answer = answers.into_inner().message().await?.unwrap();
    match answer.message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_service_reports_serving() {
    let world = World::new().await;
    for service in SERVICES.into_iter().chain([""]) {
        assert_eq!(health(&world, service).await.unwrap(), ServingStatus::Serving, "{service}");
    }
    for service in ["envoy.service.auth.v3.Authorization", "no.such.Service", "tenantgateway.v1"] {
        let status = health(&world, service).await.unwrap_err();
        assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test]
async fn reflection_lists_the_services_and_is_off_by_default() {
    let mut world = World::new().await;
    let mut listed = listed_services(&world).await.unwrap();
    listed.retain(|service| !service.starts_with("grpc.reflection."));
    listed.sort();
    let mut wanted = SERVICES.to_vec();
    wanted.insert(0, "grpc.health.v1.Health");
    assert_eq!(listed, wanted);
    world.reconfigure("reflection = true\n", "").await;
    let status = listed_services(&world).await.unwrap_err();
    assert_status(&status, Code::Unimplemented, "UNIMPLEMENTED");
}

#[tokio::test]
async fn envoys_service_has_health_and_reflection_if_enabled() {
    let extra_config = "[envoy]\nenabled = true".to_owned();
    let world = World::with(Options { extra_config, ..Default::default() }).await;
    let service = "envoy.service.auth.v3.Authorization";
    assert_eq!(health(&world, service).await.unwrap(), ServingStatus::Serving);
    assert!(listed_services(&world).await.unwrap().iter().any(|listed| listed == service));
}

#[tokio::test]
async fn the_admin_listener_reports_liveness_and_readiness() {
    let world = World::new().await;
    let admin = world.gateway().admin_address;
    assert_eq!(wire::page(admin, "/livez").await.0, 200);
    assert_eq!(wire::page(admin, "/readyz").await.0, 200);
    assert_eq!(wire::page(admin, "/").await.0, 404);
    let grpc = world.gateway().grpc_address;
    assert_ne!(grpc, admin);
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code_without_callers_or_tenants() {
    let world = World::new().await;
    world.enroll("Cust12345").await;
    world.ticket("Cust12345").await.unwrap();
    world.ticket("Cust12345").await.unwrap();
    world.ticket("Cust404").await.unwrap_err();
    world.ticket("nonsense").await.unwrap_err();
    wire::send(world.gateway().grpc_address, "made.up/Method", &[], b"").await;
    let (status, page) = wire::page(world.gateway().admin_address, "/metrics").await;
    assert_eq!(status, 200);
    let issue = |code, count| {
        format!(
            "tenantgateway_grpc_requests_total{{grpc_service=\"tenantgateway.v1.TokenService\",\
             grpc_method=\"IssueSystemTicket\",grpc_code=\"{code}\"}} {count}\n"
        )
    };
    let wanted = [
        issue("OK", 2),
        issue("NOT_FOUND", 1),
        issue("INVALID_ARGUMENT", 1),
        "tenantgateway_exchanges_total 1\n".to_owned(),
        "tenantgateway_ticket_cache_hits_total 1\n".to_owned(),
        "tenantgateway_ticket_cache_misses_total 1\n".to_owned(),
        "tenantgateway_tickets_cached 1\n".to_owned(),
        "grpc_method=\"unknown\",grpc_code=\"UNIMPLEMENTED\"} 1\n".to_owned(),
    ];
    for line in wanted {
        assert!(page.contains(&line), "{line}\n{page}");
    }
    for name in ["Cust12345", "Cust404", "made.up", "anonymous"] {
        assert!(!page.contains(name), "{name}");
    }
    assert!(page.ends_with("# EOF\n"), "{page}");
}

#[tokio::test]
async fn a_valid_request_id_is_returned_and_an_invalid_one_replaced() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let address = world.gateway().grpc_address;
    let message = issue("nonsense").encode_to_vec();
    let id = async |headers: &[(&'static str, &str)]| {
        let (_, headers) = wire::send(address, ISSUE, headers, &message).await;
        headers.get("x-request-id").unwrap().to_str().unwrap().to_owned()
    };
    for fine in ["a", "0196f1d2-5c7a-7000-8000-000000000000", "A.b_c-9", &"x".repeat(64)] {
        assert_eq!(id(&[("x-request-id", fine)]).await, fine);
    }
    let mut made = vec![id(&[]).await];
    for bad in ["", "a b", "å", "a\"b", "a;b", &"x".repeat(65)] {
        made.push(id(&[("x-request-id", bad)]).await);
    }
    let different: std::collections::BTreeSet<_> = made.iter().collect();
    assert_eq!(different.len(), made.len());
    assert!(made.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'7'), "{made:?}");

    // On success, on failure, and for an unknown method.
    let mut request = Request::new(issue("Cust1"));
    request.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    match world.tokens().await.issue_system_ticket(request).await {
        Ok(answer) => assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine"),
        Err(status) => panic!("{status:?}"),
    }
    let headers = [("x-request-id", "mine")];
    let (_, headers) = wire::send(address, "no.such.Service/Method", &headers, b"").await;
    assert_eq!(headers.get("x-request-id").unwrap(), "mine");
}

#[tokio::test]
async fn an_internal_error_contains_only_the_request_id() {
    let mut world = World::new().await;
    world.create("Cust1").await;
    let file = world.folder.path().join("gateway.db");
    let mut database = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    sqlx::query("UPDATE tenants SET labels = 'canary'").execute(&mut database).await.unwrap();
    world.advance(Duration::from_secs(1));
    let mut request = Request::new(pb::GetTenantRequest { name: name("Cust1") });
    request.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    let status = world.tenants().await.get_tenant(request).await.unwrap_err();
    let details = assert_status(&status, Code::Internal, "INTERNAL");
    assert_eq!(details.request_info().unwrap().request_id, "mine");
    assert_eq!(status.message(), "internal error");
    let everything = String::from_utf8_lossy(status.details()).into_owned();
    assert!(!everything.contains("canary") && !everything.contains("labels"), "{everything}");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_its_exchange_continues() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    delay_exchanges(&world, Duration::from_secs(2));
    let begin = Instant::now();
    let headers = [("grpc-timeout", "200m")];
    let message = issue("Cust1").encode_to_vec();
    let (status, _) = wire::send(world.gateway().grpc_address, ISSUE, &headers, &message).await;
    assert_status(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    let elapsed = begin.elapsed();
    assert!(elapsed >= Duration::from_millis(190), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    world.ticket("Cust1").await.unwrap();
    assert_eq!((world.exchanges(), world.sandbox.calls(Endpoint::Authenticate)), (1, 1));
}

#[tokio::test]
async fn the_shortest_deadlines_end_like_others() {
    let world = World::new().await;
    world.enroll("Cust2").await;
    world.ticket("Cust2").await.unwrap();
    delay_exchanges(&world, Duration::from_mins(1));
    let warm = issue("Cust2").encode_to_vec();
    let timeouts = ["0m", "1n", "1u", "900u", "1m", "2m", "3m", "5m", "10m"];
    for (number, timeout) in timeouts.into_iter().enumerate() {
        // Uses a new tenant, because a timed-out exchange fails for all its callers.
        let tenant = format!("Cust10{number}");
        world.enroll(&tenant).await;
        let cold = issue(&tenant).encode_to_vec();
        for _ in 0..3 {
            let headers = [("grpc-timeout", timeout)];
            let (status, _) =
                wire::send(world.gateway().grpc_address, ISSUE, &headers, &cold).await;
            assert_status(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
            // A cached ticket may be returned in time.
            let answered =
                wire::try_send(world.gateway().grpc_address, ISSUE, &headers, &warm).await;
            if let Some(status) = answered {
                assert_status(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
            }
        }
    }
}

#[tokio::test]
async fn a_call_without_a_deadline_has_the_configured_one() {
    let mut world = World::new().await;
    let deadline = "reflection = true\ndefault_deadline = \"200ms\"\n";
    world.reconfigure("reflection = true\n", deadline).await;
    world.enroll("Cust1").await;
    delay_exchanges(&world, Duration::from_secs(2));
    let begin = Instant::now();
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    // A call with its own deadline may take longer.
    let mut request = Request::new(issue("Cust1"));
    request.set_timeout(Duration::from_secs(20));
    assert!(world.tokens().await.issue_system_ticket(request).await.is_ok());
    assert_eq!((world.exchanges(), world.sandbox.calls(Endpoint::Authenticate)), (1, 1));
}

#[tokio::test]
async fn a_running_call_is_answered_during_a_stop() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    delay_exchanges(&world, Duration::from_millis(500));
    let mut client = world.tokens().await;
    let call =
        tokio::task::JoinSet::from_iter([
            async move { issue_with(&mut client, issue("Cust1")).await },
        ]);
    eventually("the exchange begins", || world.sandbox.calls(Endpoint::Authenticate) == 1).await;
    let address = world.gateway().grpc_address;
    assert_eq!(world.stop().await, ShutdownOutcome::Clean);
    let ticket = call.join_all().await.remove(0).unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    // The ticket was also stored.
    world.start().await.unwrap();
    assert_eq!(world.ticket("Cust1").await.unwrap(), ticket);
    assert_eq!(world.exchanges(), 1);
}

#[tokio::test]
async fn an_exchange_whose_caller_cancelled_completes_before_the_gateway_stops() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    delay_exchanges(&world, Duration::from_millis(500));
    let mut client = world.tokens().await;
    let mut call =
        tokio::task::JoinSet::from_iter([
            async move { issue_with(&mut client, issue("Cust1")).await },
        ]);
    eventually("the exchange begins", || world.sandbox.calls(Endpoint::Authenticate) == 1).await;
    call.shutdown().await;
    assert_eq!(world.stop().await, ShutdownOutcome::Clean);
    world.sandbox.clear_faults();
    world.start().await.unwrap();
    world.ticket("Cust1").await.unwrap();
    assert_eq!((world.exchanges(), world.sandbox.calls(Endpoint::Authenticate)), (1, 1));
}

#[tokio::test]
async fn the_gateway_reports_the_shutdown_and_still_serves_during_the_drain_delay() {
    let lifecycle = "drain_delay = \"1s\"\nhard_deadline = \"15s\"".to_owned();
    let mut world = World::with(Options { lifecycle: Some(lifecycle), ..Default::default() }).await;
    world.enroll("Cust1").await;
    let (grpc, admin) = (world.gateway().grpc_address, world.gateway().admin_address);
    let mut watch = HealthClient::new(world.channel().await)
        .watch(HealthCheckRequest { service: "tenantgateway.v1.TokenService".to_owned() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let begin = Instant::now();
    world.gateway().stop_token().cancel();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    for service in SERVICES.into_iter().chain([""]) {
        assert_eq!(health(&world, service).await.unwrap(), ServingStatus::NotServing);
    }
    assert_eq!(wire::page(admin, "/readyz").await.0, 503);
    assert_eq!(wire::page(admin, "/livez").await.0, 200);
    world.ticket("Cust1").await.unwrap();
    // The open watch does not delay the stop.
    assert_eq!(world.stop().await, ShutdownOutcome::Clean);
    let elapsed = begin.elapsed();
    assert!(elapsed >= Duration::from_secs(1), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    for address in [grpc, admin] {
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
    assert!(watch.message().await.unwrap().is_none());
}

#[tokio::test]
async fn one_store_is_served_by_one_gateway() {
    let mut world = World::new().await;
    let error = world.start().await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("gateway.db"), "{message}");
    // The first gateway still works.
    world.create("Cust1").await;
    assert_eq!(world.stop().await, ShutdownOutcome::Clean);
    world.start().await.unwrap();
    assert_eq!(world.tenant("Cust1").await.name, name("Cust1"));
}

#[tokio::test]
async fn an_open_reflection_stream_does_not_delay_the_shutdown() {
    let mut world = World::new().await;
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(world.channel().await);
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    requests.send(request).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = client.server_reflection_info(stream).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    let begin = Instant::now();
    assert_eq!(world.stop().await, ShutdownOutcome::Clean);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    drop(requests);
}

#[tokio::test]
async fn a_silent_connection_does_not_delay_the_shutdown() {
    let mut world = World::new().await;
    let silent = tokio::net::TcpStream::connect(world.gateway().grpc_address).await.unwrap();
    let begin = Instant::now();
    assert_eq!(world.stop().await, ShutdownOutcome::Clean);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    drop(silent);
}

#[tokio::test]
async fn an_old_connection_is_closed_gracefully() {
    let grpc = Some("max_connection_age = \"1s\"".to_owned());
    let world = World::with(Options { grpc, ..Default::default() }).await;
    world.enroll("Cust1").await;
    world.ticket("Cust1").await.unwrap();
    let mut client = world.tokens().await;
    let (begin, mut answered) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(4) {
        match issue_with(&mut client, issue("Cust1")).await {
            Ok(_) => answered += 1,
            // The client's status for a request that was not sent before the connection closed.
            Err(status) => assert_eq!(status.code(), Code::Cancelled, "{status:?}"),
        }
    }
    assert!(answered > 100, "{answered}");
}

#[tokio::test]
async fn a_second_serve_is_refused_through_a_link_too() {
    let world = World::new().await;
    let folder = world.folder.path();
    std::os::unix::fs::symlink(folder.join("gateway.db"), folder.join("link.db")).unwrap();
    let refused = tenant_gateway::store::ServeLock::acquire(&folder.join("link.db"));
    assert!(refused.is_err());
}
