//! Tests of `WatchSystemTicket` and `WatchTenantStatus`.

use std::time::Duration;

use superoffice_sandbox::{Endpoint, Fault, FaultScope, TenantState};
use tenant_gateway::{
    app::ShutdownOutcome,
    grpc::pb::{self, tenant_service_client::TenantServiceClient},
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::support::{Options, World, assert_status, name};

/// Longer than any immediate response takes.
const SOON: Duration = Duration::from_secs(5);

async fn watch_ticket(world: &World, tenant: &str) -> Streaming<pb::WatchSystemTicketResponse> {
    let request = pb::WatchSystemTicketRequest { tenant: name(tenant), ..Default::default() };
    match world.tokens().await.watch_system_ticket(request).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => panic!("{status:?}"),
    }
}

async fn ticket(stream: &mut Streaming<pb::WatchSystemTicketResponse>) -> Result<String, Status> {
    let message = timeout(SOON, stream.message()).await.expect("no message in time")?;
    Ok(message.expect("the stream ended").ticket.unwrap().credential_id)
}

async fn nothing<T>(stream: &mut Streaming<T>) {
    assert!(timeout(Duration::from_millis(100), stream.message()).await.is_err());
}

async fn watch_status(
    world: &World,
    parent: &str,
) -> Result<Streaming<pb::WatchTenantStatusResponse>, Status> {
    let request = pb::WatchTenantStatusRequest { parent: parent.to_owned() };
    Ok(world.tenants().await.watch_tenant_status(request).await?.into_inner())
}

async fn status(
    stream: &mut Streaming<pb::WatchTenantStatusResponse>,
) -> Result<(String, pb::TenantState), Status> {
    let message = timeout(SOON, stream.message()).await.expect("no message in time")?;
    let status = message.expect("the stream ended").status.unwrap();
    let state = status.state();
    Ok((status.tenant, state))
}

#[tokio::test]
async fn a_ticket_watch_sends_the_current_ticket_and_the_next_before_expiry() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let mut stream = watch_ticket(&world, "Cust1").await;
    let first = ticket(&mut stream).await.unwrap();
    assert_eq!(world.ticket("Cust1").await.unwrap().credential_id, first);
    // The watch counts as use. The next ticket comes at least half an hour before the expiry.
    for _ in 0..4 {
        let looked = world.metric("ticket_cache_hits_total").await;
        world.advance(Duration::from_hours(1));
        while world.metric("ticket_cache_hits_total").await == looked {}
    }
    world.advance(Duration::from_mins(91));
    let second = ticket(&mut stream).await.unwrap();
    assert_ne!(second, first);
    assert_eq!(world.exchanges(), 2);
    nothing(&mut stream).await;
}

#[tokio::test]
async fn many_watchers_of_one_tenant_cost_one_exchange() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let delay = Fault::delay(Duration::from_millis(200));
    world.sandbox.inject(Endpoint::Authenticate, delay, FaultScope::always()).unwrap();
    let watchers = (0..100).map(|_| watch_ticket(&world, "Cust1"));
    let mut ids = std::collections::BTreeSet::new();
    for mut stream in futures_util::future::join_all(watchers).await {
        ids.insert(ticket(&mut stream).await.unwrap());
    }
    assert_eq!((ids.len(), world.exchanges()), (1, 1));
}

#[tokio::test]
async fn disabling_a_tenant_ends_open_watches_at_once() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    let mut stopped = watch_ticket(&world, "Cust1").await;
    let mut other = watch_ticket(&world, "Cust2").await;
    ticket(&mut stopped).await.unwrap();
    ticket(&mut other).await.unwrap();
    let disable = pb::DisableTenantRequest { name: name("Cust1"), ..Default::default() };
    world.tenants().await.disable_tenant(disable).await.unwrap();
    let status = ticket(&mut stopped).await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "TENANT_DISABLED");
    nothing(&mut other).await;
}

#[tokio::test]
async fn an_invalid_ticket_is_replaced_on_open_watches_too() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let mut stream = watch_ticket(&world, "Cust1").await;
    let first = ticket(&mut stream).await.unwrap();
    world.sandbox.expire_tickets(None);
    let report =
        pb::ReportRejectedCredentialRequest { tenant: name("Cust1"), credential_id: first.clone() };
    world.tokens().await.report_rejected_credential(report).await.unwrap();
    assert_ne!(ticket(&mut stream).await.unwrap(), first);
}

#[tokio::test]
async fn a_refused_watch_fails_at_the_call_itself() {
    let world = World::new().await;
    let request = pb::WatchSystemTicketRequest { tenant: name("Cust1"), ..Default::default() };
    let refused = world.tokens().await.watch_system_ticket(request).await;
    assert_status(&refused.err().unwrap(), Code::NotFound, "RESOURCE_NOT_FOUND");
    for (parent, code, reason) in [
        ("applications/unknown", Code::NotFound, "APPLICATION_NOT_CONFIGURED"),
        ("applications/crm-sync/tenants/Cust1", Code::NotFound, "RESOURCE_NOT_FOUND"),
        ("applications/-", Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("applications/-/tenants/Cust1", Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("tenants", Code::InvalidArgument, "INVALID_ARGUMENT"),
    ] {
        let status = watch_status(&world, parent).await.err().unwrap();
        assert_status(&status, code, reason);
    }
}

#[tokio::test]
async fn shutdown_ends_watches_at_once() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let mut tickets = watch_ticket(&world, "Cust1").await;
    let mut statuses = watch_status(&world, "").await.unwrap();
    ticket(&mut tickets).await.unwrap();
    status(&mut statuses).await.unwrap();
    let begin = std::time::Instant::now();
    assert_eq!(world.stop().await, ShutdownOutcome::Clean);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_status(&ticket(&mut tickets).await.unwrap_err(), Code::Unavailable, "SHUTTING_DOWN");
    assert_status(&status(&mut statuses).await.unwrap_err(), Code::Unavailable, "SHUTTING_DOWN");
}

#[tokio::test]
async fn a_status_watch_sends_the_known_status_and_then_changes() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    world.ticket("Cust1").await.unwrap();
    let mut all = watch_status(&world, "").await.unwrap();
    let mut application = watch_status(&world, "applications/crm-sync").await.unwrap();
    let mut one = watch_status(&world, &name("Cust2")).await.unwrap();
    let running = |tenant| (name(tenant), pb::TenantState::Running);
    assert_eq!(status(&mut all).await.unwrap(), running("Cust1"));
    assert_eq!(status(&mut all).await.unwrap(), running("Cust2"));
    assert_eq!(status(&mut application).await.unwrap(), running("Cust1"));
    assert_eq!(status(&mut one).await.unwrap(), running("Cust2"));
    world.sandbox.set_state("Cust1", TenantState::Suspended).unwrap();
    world.sandbox.set_state("Cust2", TenantState::OfflineMaintenance).unwrap();
    world.advance(Duration::from_secs(62));
    assert_eq!(
        status(&mut one).await.unwrap(),
        (name("Cust2"), pb::TenantState::OfflineMaintenance)
    );
    let mut learnt = vec![status(&mut all).await.unwrap(), status(&mut all).await.unwrap()];
    learnt.sort_by(|a, b| a.0.cmp(&b.0));
    let wanted = [
        (name("Cust1"), pb::TenantState::Suspended),
        (name("Cust2"), pb::TenantState::OfflineMaintenance),
    ];
    assert_eq!(learnt, wanted);
}

#[tokio::test]
async fn a_watch_without_tenants_opens_and_waits() {
    let world = World::new().await;
    let mut stream = watch_status(&world, "").await.unwrap();
    nothing(&mut stream).await;
    world.enroll("Cust1").await;
    world.ticket("Cust1").await.unwrap();
    assert_eq!(status(&mut stream).await.unwrap().0, name("Cust1"));
}

#[tokio::test]
async fn a_watch_outlives_the_default_deadline() {
    let grpc = Some("default_deadline = \"300ms\"".to_owned());
    let world = World::with(Options { grpc, ..Default::default() }).await;
    world.enroll("Cust1").await;
    let mut stream = watch_ticket(&world, "Cust1").await;
    ticket(&mut stream).await.unwrap();
    assert!(timeout(Duration::from_millis(500), stream.message()).await.is_err());
}

#[tokio::test]
async fn a_watch_whose_reader_is_too_slow_is_ended() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.ticket("Cust1").await.unwrap();
    let channel = world.endpoint().initial_stream_window_size(65_535).connect().await.unwrap();
    let request = pb::WatchTenantStatusRequest::default();
    let stream = TenantServiceClient::new(channel).watch_tenant_status(request).await;
    let mut stream = stream.unwrap().into_inner();
    status(&mut stream).await.unwrap();
    // More messages than the stream's window and the internal queue can hold.
    let read_again = |times: u32| {
        let client = &world;
        async move {
            let mut tenants = client.tenants().await;
            for _ in 0..times {
                let mut request =
                    tonic::Request::new(pb::GetTenantStatusRequest { name: name("Cust1") });
                request.metadata_mut().insert("gateway-max-staleness", "0s".parse().unwrap());
                client.clock.advance(Duration::from_millis(1));
                tenants.get_tenant_status(request).await.unwrap();
            }
        }
    };
    read_again(3000).await;
    let mut received = 0;
    let ended = loop {
        match status(&mut stream).await {
            Ok(_) => received += 1,
            Err(status) => break status,
        }
    };
    assert_status(&ended, Code::Aborted, "WATCH_TOO_SLOW");
    assert!(received < 3000, "{received}");
    world.advance(Duration::from_secs(1));
    world.ticket("Cust1").await.unwrap();
}
