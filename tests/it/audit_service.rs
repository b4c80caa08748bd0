//! Tests of `AuditService`: permissions, paging, and verification.

use std::collections::BTreeSet;

use prost::Message as _;
use tenant_gateway::{
    domain::{AuditRecord, Decision, Reason},
    grpc::pb,
};
use tonic::{Code, Status};

use crate::support::{
    APPLICATION, Options, World, assert_invalid, assert_status,
    audit::{AuditWriter, SegmentFile, event},
    callers::AuthenticatedGateway,
    name,
};

/// Selects only the events of the tests, because the gateway records its own calls, too.
const OURS: &str = "request_id = \"r-*\"";

fn ask(parent: &str, filter: &str) -> pb::ListAuditEventsRequest {
    pb::ListAuditEventsRequest {
        parent: parent.to_owned(),
        filter: filter.to_owned(),
        ..Default::default()
    }
}

async fn list(
    world: &World,
    request: pb::ListAuditEventsRequest,
) -> Result<pb::ListAuditEventsResponse, Status> {
    Ok(world.audits().await.list_audit_events(request).await?.into_inner())
}

fn ids(response: &pb::ListAuditEventsResponse) -> Vec<&str> {
    response.audit_events.iter().map(|event| event.request_id.as_str()).collect()
}

async fn audit_writer(world: &World) -> AuditWriter {
    AuditWriter::open(&world.config_file()).await
}

/// Writes r-1 to r-4, a second apart, on two chains.
async fn write_some(world: &World) {
    let audit_writer = audit_writer(world).await;
    let denied = AuditRecord {
        caller: "spiffe://example.com/reports".into(),
        caller_method: "jwt".into(),
        caller_issuer: "https://issuer.test".into(),
        acting_as: "system".into(),
        decision: Decision::Denied,
        policy_ids: ["no-reports".into()].into(),
        code: 7,
        error_reason: Some(Reason::PolicyDenied),
        reason: "nightly".into(),
        credential_id: "t-1".into(),
        trace_id: "trace".into(),
        client_address: "192.0.2.1".into(),
        ..event("r-2", &name("Cust1"))
    };
    audit_writer.serve("serve-test", [event("r-1", &name("Cust1")), denied]).await;
    audit_writer
        .command(AuditRecord { action: "cli.tenant.add".into(), ..event("r-3", &name("Cust2")) })
        .await;
    audit_writer.serve("serve-test", [event("r-4", "applications/crm-sync2/tenants/Cust1")]).await;
    audit_writer.close().await;
}

#[tokio::test]
async fn events_of_all_chains_are_listed_newest_first_with_all_fields() {
    let world = World::new().await;
    write_some(&world).await;
    let page = list(&world, ask("", OURS)).await.unwrap();
    assert_eq!(ids(&page), ["r-4", "r-3", "r-2", "r-1"]);
    assert_eq!(page.next_page_token, "");
    let [_, command, denied, first] = &page.audit_events[..] else { unreachable!() };
    assert_eq!((&*command.chain, &*command.action), ("cli", "cli.tenant.add"));
    assert_eq!((&*first.chain, first.sequence), ("serve-test", 1));
    assert_eq!(denied.previous_hash, first.hash);
    let wanted = pb::AuditEvent {
        chain: "serve-test".to_owned(),
        sequence: 2,
        time: Some(prost_types::Timestamp { seconds: 1_800_000_001, nanos: 0 }),
        caller: "spiffe://example.com/reports".to_owned(),
        caller_method: "jwt".to_owned(),
        caller_issuer: "https://issuer.test".to_owned(),
        action: "issueSystemTicket".to_owned(),
        resource: name("Cust1"),
        acting_as: "system".to_owned(),
        decision: pb::Decision::Denied.into(),
        policy_ids: vec!["no-reports".to_owned()],
        code: 7,
        error_reason: pb::ErrorReason::PolicyDenied.into(),
        reason: "nightly".to_owned(),
        credential_id: "t-1".to_owned(),
        request_id: "r-2".to_owned(),
        trace_id: "trace".to_owned(),
        client_address: "192.0.2.1".to_owned(),
        method: String::new(),
        path: String::new(),
        count: 1,
        last_time: None,
        resources: Vec::new(),
        resource_count: 0,
        previous_hash: first.hash.clone(),
        hash: denied.hash.clone(),
    };
    assert_eq!(*denied, wanted);
}

#[tokio::test]
async fn events_are_filtered_by_each_documented_field() {
    let world = World::new().await;
    write_some(&world).await;
    for (filter, wanted) in [
        ("caller = spiffe://example.com/*", &["r-2"][..]),
        ("action = cli.tenant.add", &["r-3"]),
        ("resource = applications/crm-sync/tenants/Cust1", &["r-2", "r-1"]),
        ("decision = DENIED", &["r-2"]),
        ("code = 7", &["r-2"]),
        ("code < 7 AND action:Ticket", &["r-4", "r-1"]),
        ("time >= 2027-01-15T08:00:02Z", &["r-4", "r-3"]),
        ("time > \"2027-01-15T08:00:00Z\" AND time < \"2027-01-15T08:00:03Z\"", &["r-3", "r-2"]),
        ("time = 2027-01-15T08:00:01Z", &["r-2"]),
        ("credential_id = t-1", &["r-2"]),
        ("request_id = r-1 OR request_id = r-3", &["r-3", "r-1"]),
        ("acting_as = system", &["r-2"]),
        ("resources:tenants/Cust1 AND code = 7", &["r-2"]),
        ("method = GET OR path = \"/api/v1/contact\"", &[]),
        ("acting_as:* OR decision = ALLOWED", &["r-4", "r-3", "r-2", "r-1"]),
        ("NOT caller = test-caller", &["r-2"]),
        ("time < 2001-01-01T00:00:00Z", &[]),
    ] {
        let filter = format!("{OURS} AND ({filter})");
        assert_eq!(ids(&list(&world, ask("", &filter)).await.unwrap()), wanted, "{filter}");
    }
}

#[tokio::test]
async fn an_invalid_filter_is_refused_with_the_position() {
    let world = World::new().await;
    let long = format!("caller = {}", "a".repeat(4000));
    for (filter, position) in [
        ("caler = x", 0),
        ("caller = ", 9),
        ("code = seven", 7),
        ("decision = MAYBE", 11),
        ("time > yesterday", 7),
        ("(caller = x", 11),
        ("caller = x AND", 14),
        ("hash = x", 0),
        ("reason = x", 0),
        (&long, 2048),
    ] {
        let status = list(&world, ask("", filter)).await.unwrap_err();
        let details = assert_invalid(&status, &["filter"]);
        let description = &details.bad_request().unwrap().field_violations[0].description;
        assert!(description.ends_with(&format!("(at byte {position})")), "{filter}: {description}");
    }
    let wrong = pb::ListAuditEventsRequest {
        page_size: -1,
        page_token: "x".to_owned(),
        ..ask("applications/crm-sync/tenants/Cust1", "caler = x")
    };
    let status = list(&world, wrong).await.unwrap_err();
    assert_invalid(&status, &["parent", "filter", "page_size", "page_token"]);
}

#[tokio::test]
async fn pages_stay_the_same_while_events_are_added() {
    let world = World::new().await;
    let audit_writer = audit_writer(&world).await;
    let numbered = |chain: &str, from: usize, to: usize| {
        (from..to).map(|n| event(&format!("r-{chain}-{n}"), &name("Cust1"))).collect::<Vec<_>>()
    };
    // Events of the two chains have equal times.
    let start = audit_writer.clock.clone();
    audit_writer.serve("serve-test-a", numbered("a", 0, 7)).await;
    let other = AuditWriter::open(&world.config_file()).await;
    other.serve("serve-test-b", numbered("b", 0, 7)).await;
    drop(start);

    let mut seen = Vec::new();
    let mut times = Vec::new();
    let mut request = pb::ListAuditEventsRequest { page_size: 3, ..ask("", OURS) };
    let mut pages = 0;
    loop {
        let page = list(&world, request.clone()).await.unwrap();
        assert!(page.audit_events.len() <= 3);
        times.extend(page.audit_events.iter().map(|event| event.time.unwrap().seconds));
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        if page.next_page_token.is_empty() {
            break;
        }
        pages += 1;
        request.page_token = page.next_page_token;
        audit_writer.serve("serve-test-a", numbered("a", 7 + pages, 8 + pages)).await;
    }
    assert_eq!(pages, 4, "wrong number of pages");
    assert_eq!(seen.len(), 14);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 14);
    assert!(seen.iter().all(|id| id.len() == "r-a-0".len()), "{seen:?}");
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");

    // Without a filter, all events fit on one page.
    let all = list(&world, pb::ListAuditEventsRequest { page_size: 5000, ..ask("", "") }).await;
    let all = all.unwrap();
    assert_eq!(ids(&all).iter().filter(|id| id.starts_with("r-")).count(), 18);
    assert_eq!(all.next_page_token, "");
    audit_writer.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_page_token_is_valid_for_its_own_caller_and_query_only() {
    let guarded = AuthenticatedGateway::new("permit (principal, action, resource);").await;
    let audit_writer = audit_writer(&guarded.world).await;
    audit_writer
        .serve("serve-test", (0..4).map(|n| event(&format!("r-{n}"), &name("Cust1"))))
        .await;
    audit_writer.close().await;
    let call = async |caller: &str, request: &pb::ListAuditEventsRequest| {
        let method = "AuditService/ListAuditEvents";
        let answer = guarded.call(caller, method, request.encode_to_vec()).await?;
        Ok::<_, Status>(pb::ListAuditEventsResponse::decode(&*answer).unwrap())
    };
    let first = pb::ListAuditEventsRequest { page_size: 1, ..ask("", OURS) };
    let token = call("sync", &first).await.unwrap().next_page_token;
    let second = pb::ListAuditEventsRequest { page_token: token.clone(), ..first.clone() };
    assert_eq!(ids(&call("sync", &second).await.unwrap()), ["r-2"]);
    let larger = pb::ListAuditEventsRequest { page_size: 9, ..second.clone() };
    assert_eq!(ids(&call("sync", &larger).await.unwrap()), ["r-2", "r-1", "r-0"]);

    let mut altered = token.clone().into_bytes();
    let last = altered.len() / 2;
    altered[last] = if altered[last] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).unwrap();
    let application = format!("applications/{APPLICATION}");
    for (caller, request) in [
        ("other", second.clone()),
        ("sync", pb::ListAuditEventsRequest { page_token: altered, ..second.clone() }),
        ("sync", pb::ListAuditEventsRequest { page_token: "r-2".to_owned(), ..second.clone() }),
        ("sync", pb::ListAuditEventsRequest { filter: String::new(), ..second.clone() }),
        ("sync", pb::ListAuditEventsRequest { parent: application, ..second.clone() }),
    ] {
        assert_invalid(&call(caller, &request).await.unwrap_err(), &["page_token"]);
    }
    let tenants = pb::ListTenantsRequest { page_token: token, ..Default::default() };
    let method = "TenantService/ListTenants";
    let status = guarded.call("sync", method, tenants.encode_to_vec()).await.unwrap_err();
    assert_invalid(&status, &["page_token"]);
}

#[tokio::test]
async fn a_caller_with_audit_rights_on_one_application_sees_only_its_events() {
    let policy = format!(
        "permit (principal == Caller::\"auditor\", action == Action::\"readAudit\", \
         resource == Application::\"applications/{APPLICATION}\");"
    );
    let guarded = AuthenticatedGateway::new(&policy).await;
    write_some(&guarded.world).await;
    let audit_writer = audit_writer(&guarded.world).await;
    let application = format!("applications/{APPLICATION}");
    audit_writer.serve("serve-test", [event("r-5", &application), event("r-6", "gateway")]).await;
    audit_writer.close().await;
    let call = async |parent: &str, method: &str| {
        let message = ask(parent, OURS).encode_to_vec();
        let answer = guarded.call("auditor", method, message).await?;
        Ok::<_, Status>(pb::ListAuditEventsResponse::decode(&*answer).unwrap())
    };
    let listed = call(&application, "AuditService/ListAuditEvents").await.unwrap();
    assert_eq!(ids(&listed), ["r-5", "r-3", "r-2", "r-1"]);
    for (parent, method) in [
        ("", "AuditService/ListAuditEvents"),
        ("applications/crm-sync2", "AuditService/ListAuditEvents"),
    ] {
        let status = call(parent, method).await.unwrap_err();
        assert_status(&status, Code::PermissionDenied, "POLICY_DENIED");
    }
    let verify = guarded.call("auditor", "AuditService/VerifyAuditLog", Vec::new()).await;
    assert_status(&verify.unwrap_err(), Code::PermissionDenied, "POLICY_DENIED");
}

#[tokio::test]
async fn verification_reports_the_first_changed_event_and_lists_still_work() {
    let world = World::with(Options::default()).await;
    write_some(&world).await;
    let verify = async || {
        let request = pb::VerifyAuditLogRequest {};
        let mut chains =
            world.audits().await.verify_audit_log(request).await.unwrap().into_inner().chains;
        chains.retain(|chain| chain.chain == "serve-test" || chain.chain == "cli");
        chains
    };
    let intact = pb::AuditChainReport {
        chain: "serve-test".to_owned(),
        first_sequence: 1,
        last_sequence: 3,
        intact: true,
        ..Default::default()
    };
    let cli = pb::AuditChainReport { chain: "cli".to_owned(), last_sequence: 1, ..intact.clone() };
    assert_eq!(verify().await, [intact.clone(), cli.clone()]);

    let mut segment = SegmentFile::read(world.folder.path(), "serve-test");
    let at = segment.replace("nightly", "nightlz");
    segment.correct_checksums();
    segment.write();
    let changed = pb::AuditChainReport {
        intact: false,
        fault: pb::AuditFaultKind::Changed.into(),
        fault_sequence: 2,
        ..intact
    };
    assert_eq!(verify().await, [changed, cli]);
    // An event that cannot be parsed is left out: this text is not UTF-8.
    segment.bytes[at] = 0xff;
    segment.correct_checksums();
    segment.write();
    let page = list(&world, ask("", OURS)).await.unwrap();
    assert_eq!(ids(&page), ["r-4", "r-3", "r-1"]);
    assert!(world.metric("audit_unreadable_events_total").await > 0);
}

#[tokio::test]
async fn verification_names_damaged_places_relative_to_the_directory() {
    let world = World::with(Options::default()).await;
    write_some(&world).await;
    let mut segment = SegmentFile::read(world.folder.path(), "serve-test");
    let at = segment.replace("nightly", "nightlz");
    let group = segment.groups().into_iter().find(|group| group.contains(&at)).unwrap();
    segment.write();
    let request = pb::VerifyAuditLogRequest {};
    let answer = world.audits().await.verify_audit_log(request).await.unwrap().into_inner();
    let [damage] = &answer.damages[..] else { panic!("{answer:?}") };
    assert_eq!(damage.file, "serve-test/0000000000000000001.seg");
    assert_eq!(damage.offset, i64::try_from(group.start).unwrap());
    assert_ne!(damage.problem, "");
}

#[tokio::test]
async fn one_call_scans_a_limited_number_of_events() {
    let world = World::new().await;
    let audit_writer = audit_writer(&world).await;
    for part in 0..3 {
        let rare = |n: u32| if part + n == 0 { "r-rare" } else { "r-common" };
        let records = (0..8_000).map(|n| event(rare(n), &name("Cust1")));
        audit_writer.serve("serve-test", records).await;
    }
    audit_writer.close().await;
    let mut request = ask("", "request_id = r-rare");
    let first = list(&world, request.clone()).await.unwrap();
    assert_eq!(ids(&first), [""; 0]);
    assert_ne!(first.next_page_token, "", "the event was found too early");
    request.page_token = first.next_page_token;
    let second = list(&world, request.clone()).await.unwrap();
    assert_eq!(ids(&second), ["r-rare"]);
    assert_eq!(second.next_page_token, "");
    // A time filter finds the event at once, because it uses an index.
    request.page_token.clear();
    request.filter.push_str(" AND time < 2027-01-15T08:00:01Z");
    assert_eq!(ids(&list(&world, request).await.unwrap()), ["r-rare"]);
}
