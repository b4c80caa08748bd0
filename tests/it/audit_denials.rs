//! Tests of aggregated denials: a refused caller costs the disk little, and the resources that it probed are visible.

use futures_util::future::join_all;
use prost::Message as _;
use tenant_gateway::{
    app::ShutdownOutcome,
    domain::{Aggregate, AuditRecord, Decision},
    grpc::pb,
};
use tonic::{Code, Status};

use crate::support::{
    APPLICATION, Options, assert_status, audit::SegmentFile, callers::AuthenticatedGateway, name,
    trail::StoredTrail,
};

const POLICY: &str =
    r#"permit (principal == Caller::"auditor", action == Action::"readAudit", resource);"#;

/// A gateway that permits nothing but reading the trail, and does not limit refused calls.
async fn gateway() -> AuthenticatedGateway {
    let extra_config =
        "[quotas]\nrefused_per_source = { per_second = 100000, burst = 100000 }".to_owned();
    AuthenticatedGateway::with(POLICY, Options { extra_config, ..Default::default() }).await
}

async fn get_tenant(guarded: &AuthenticatedGateway, caller: &str, tenant: &str) -> Status {
    let get = pb::GetTenantRequest { name: tenant.to_owned() }.encode_to_vec();
    guarded.call(caller, "TenantService/GetTenant", get).await.unwrap_err()
}

/// Returns the events of a caller.
async fn events_of(guarded: &AuthenticatedGateway, caller: &str) -> Vec<AuditRecord> {
    let written = StoredTrail::read(&guarded.world.config_file()).await;
    let records = written.of_calls().map(|event| event.record.clone());
    records.filter(|record| &*record.caller == caller).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_probes_300_tenants_leaves_two_events() {
    let mut guarded = gateway().await;
    for number in 0..300 {
        let denied = get_tenant(&guarded, "mallory", &name(&format!("Cust{number}"))).await;
        assert_status(&denied, Code::PermissionDenied, "POLICY_DENIED");
        if number == 0 {
            // The first denial is written before its answer.
            let [first] = &events_of(&guarded, "mallory").await[..] else { panic!("one event") };
            assert_eq!((&*first.action, &*first.resource), ("readTenants", &*name("Cust0")));
            assert_eq!((first.decision, first.aggregate.as_ref()), (Decision::Denied, None));
        }
    }
    assert_eq!(events_of(&guarded, "mallory").await.len(), 1);
    assert_eq!(guarded.world.metric("audit_aggregated_denials_total").await, 299);

    // The others are written at the end of the minute, or at the stop.
    assert_eq!(guarded.world.stop().await, ShutdownOutcome::Clean);
    let events = events_of(&guarded, "mallory").await;
    let [_, others] = &events[..] else { panic!("{events:?}") };
    assert_eq!(
        (&*others.action, others.decision, others.code),
        ("readTenants", Decision::Denied, 7)
    );
    assert_eq!(others.error_reason_name(), "POLICY_DENIED");
    assert_eq!(&*others.resource, format!("applications/{APPLICATION}"));
    assert_eq!((&*others.client_address, &*others.request_id), ("127.0.0.1", ""));
    let Aggregate { count, resources, resource_count, .. } = others.aggregate.as_deref().unwrap();
    assert_eq!((*count, *resource_count), (299, 299));
    let names: Vec<_> = resources.iter().map(ToString::to_string).collect();
    assert_eq!(names, (1..33).map(|number| name(&format!("Cust{number}"))).collect::<Vec<_>>());
}

/// The calls of the load, and how many of them are in flight.
const CALLS: usize = 5000;
const IN_FLIGHT: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_caller_at_full_speed_costs_the_disk_little() {
    let mut guarded = gateway().await;
    for round in 0..CALLS / IN_FLIGHT {
        let calls = (0..IN_FLIGHT).map(|number| {
            // Also applications that do not exist.
            let made_up = format!("made-up-{round}");
            let application = if number % 2 == 0 { APPLICATION } else { &*made_up };
            let id = round * IN_FLIGHT + number;
            let tenant = format!("applications/{application}/tenants/Cust{id}");
            let guarded = &guarded;
            async move { get_tenant(guarded, "mallory", &tenant).await.code() }
        });
        assert_eq!(join_all(calls).await, [Code::PermissionDenied; IN_FLIGHT]);
    }
    assert_eq!(guarded.world.stop().await, ShutdownOutcome::Clean);
    let events = events_of(&guarded, "mallory").await;
    let counted = |event: &AuditRecord| event.aggregate.as_ref().map_or(1, |all| all.count);
    assert_eq!(events.iter().map(counted).sum::<u64>(), CALLS as u64, "a denial was lost");
    // Two for each of the applications that are counted apart, and two for all others. More if the calls take longer
    // than a minute.
    assert!(events.len() <= 2 * (2 * 65), "{} events", events.len());
    let written = StoredTrail::read(&guarded.world.config_file()).await;
    written.assert_intact();
    let [chain] = &written.chains()[..] else { panic!("one chain") };
    let groups = SegmentFile::read(guarded.world.folder.path(), chain).groups();
    let bytes: usize = groups.iter().map(ExactSizeIterator::len).sum();
    assert!(bytes < 256 << 10, "{bytes} bytes for {} events", events.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_one_application_sees_the_denials_for_it_and_no_others() {
    let mut guarded = gateway().await;
    for number in 0..5 {
        for application in [APPLICATION, "other"] {
            let tenant = format!("applications/{application}/tenants/Cust{number}");
            get_tenant(&guarded, "eve", &tenant).await;
        }
    }
    guarded.world.restart().await;
    guarded.channel = guarded.world.channel().await;
    let parent = format!("applications/{APPLICATION}");
    let filter = "caller = eve".to_owned();
    let list = pb::ListAuditEventsRequest { parent: parent.clone(), filter, ..Default::default() };
    let answer = guarded.call("auditor", "AuditService/ListAuditEvents", list.encode_to_vec());
    let answer = pb::ListAuditEventsResponse::decode(&*answer.await.unwrap()).unwrap();
    let resources: Vec<_> = answer.audit_events.iter().map(|event| &*event.resource).collect();
    assert_eq!(resources, [&*parent, &*name("Cust0")]);
    let text = format!("{answer:?}");
    assert!(text.contains(&name("Cust4")) && !text.contains("applications/other"), "{text}");
}
