//! Tests of `grant list` and `grant revoke`: the real program, alone and beside a running server.

use std::{fs, time::Duration};

use serde_json::json;
use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tenant_gateway::grpc::pb::{
    self, impersonation_service_client::ImpersonationServiceClient,
    issue_access_token_request::Subject,
};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

use crate::support::{
    APPLICATION, CLIENT_ID, assert_status,
    binary::{Served, Site},
    eventually, name,
    trail::StoredTrail,
};

/// The time in which a server must notice a command: one second, and some more for a busy machine.
const NOTICED: Duration = Duration::from_millis(1500);

/// Imports a refresh token of a user of this tenant. Returns the grant and the token.
async fn import(site: &Site, served: &Served, tenant: &str) -> (pb::Grant, String) {
    site.sandbox.generate_people(tenant, 20, 7).unwrap();
    let begin = |id| site.sandbox.begin_grant(CLIENT_ID, tenant, id).ok();
    let refresh_token = (1..100).find_map(begin).expect("no user can sign in");
    let import = pb::ImportGrantRequest {
        tenant: name(tenant),
        refresh_token: refresh_token.clone(),
        ..Default::default()
    };
    let mut client = ImpersonationServiceClient::new(served.channel().await);
    let imported = client.import_grant(import).await.unwrap().into_inner();
    (imported.grant.unwrap(), refresh_token)
}

async fn act(served: &Served, grant: &pb::Grant) -> Result<(), Status> {
    let request = pb::IssueAccessTokenRequest {
        tenant: name("Cust1"),
        subject: Some(Subject::Grant(grant.name.clone())),
        ..Default::default()
    };
    let mut client = ImpersonationServiceClient::new(served.channel().await);
    client.issue_access_token(request).await.map(drop)
}

/// Returns the number of refresh tokens that are valid at SuperOffice.
fn living(site: &Site) -> usize {
    site.sandbox.grants().iter().filter(|grant| !grant.revoked).count()
}

#[tokio::test]
async fn grants_are_listed_as_text_and_as_json_without_any_token() {
    let site = Site::new().await;
    let served = site.serve().await;
    let (mut grants, mut tokens) = (Vec::new(), Vec::new());
    for tenant in ["Cust1", "Cust2"] {
        site.enroll(tenant).await;
        let (grant, token) = import(&site, &served, tenant).await;
        grants.push(grant);
        tokens.push(token);
    }
    act(&served, &grants[0]).await.unwrap();

    let text = site.run(&["grant", "list"]).await.succeeded();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("GRANT") && lines.len() == 3, "{text}");
    let row: Vec<_> = lines[2].split_whitespace().collect();
    let associate = grants[1].associate_id.to_string();
    let user = &grants[1].user_principal_name;
    assert_eq!(row, [&grants[1].name, &associate, user, "ACTIVE", "never"]);

    let all = site.run(&["grant", "list", "--output", "json"]).await.json();
    let [first, second] = all.as_array().unwrap().as_slice() else { panic!("{all}") };
    assert_eq!(first["name"], json!(grants[0].name));
    assert_eq!(first["state"], "ACTIVE");
    assert!(first["last_refresh_time"].is_string() && second["last_refresh_time"].is_null());
    assert_eq!(
        (&second["associate_id"], &second["etag"], &second["revocation_pending"]),
        (&json!(grants[1].associate_id), &json!(grants[1].etag), &json!(false))
    );
    for token in tokens {
        assert!(!text.contains(&token) && !all.to_string().contains(&token));
    }

    let of_second = format!("associate_id = {associate} AND name = \"*/Cust2/*\"");
    for (arguments, wanted) in [
        (&["--tenant", "Cust2"][..], 1),
        (&["--tenant", &name("Cust2"), "--application", APPLICATION], 1),
        (&["--tenant", "Cust9"], 0),
        (&["--application", APPLICATION], 2),
        (&["--filter", "state = REVOKED"], 0),
        (&["--filter", &of_second], 1),
    ] {
        let list = [&["grant", "list", "--output", "json"][..], arguments].concat();
        let listed = site.run(&list).await.json();
        assert_eq!(listed.as_array().unwrap().len(), wanted, "{arguments:?}");
    }
}

#[tokio::test]
async fn a_revoked_grant_ends_at_superoffice_and_soon_at_a_running_server() {
    let site = Site::new().await;
    let served = site.serve().await;
    site.enroll("Cust1").await;
    let (grant, _) = import(&site, &served, "Cust1").await;
    act(&served, &grant).await.unwrap();
    let mut client = ImpersonationServiceClient::new(served.channel().await);
    let watch = pb::WatchGrantsRequest { parent: name("Cust1") };
    let mut events = client.watch_grants(watch).await.unwrap().into_inner();
    let said = site.run(&["grant", "revoke", &grant.name]).await.succeeded();
    assert!(said.contains(&grant.name) && said.contains("at SuperOffice"), "{said}");
    assert_eq!(living(&site), 0);
    let begin = Instant::now();
    let refused = loop {
        if let Err(refused) = act(&served, &grant).await {
            break refused;
        }
        assert!(begin.elapsed() <= NOTICED, "not noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_status(&refused, Code::FailedPrecondition, "CONSENT_REQUIRED");
    // Watches report it, too.
    loop {
        let event =
            timeout(NOTICED, events.message()).await.expect("no event in time").unwrap().unwrap();
        let heard = event.event.unwrap().grant;
        if heard.is_some_and(|grant| grant.state() == pb::GrantState::Revoked) {
            break;
        }
    }
    drop(events);
    // A second revocation changes nothing and succeeds.
    let again = site.run(&["grant", "revoke", &grant.name, "--output", "json"]).await.json();
    assert_eq!((&again["state"], &again["revocation_pending"]), (&json!("REVOKED"), &json!(false)));
    served.stop().await;

    let written = StoredTrail::read(&site.file("gateway.toml")).await;
    let of_command = |event: &&tenant_gateway::domain::AuditEvent| {
        event.record.action.starts_with("cli.grant") && event.record.code == 0
    };
    let events: Vec<_> = written.events.iter().filter(of_command).collect();
    assert_eq!(events.len(), 2);
    for event in events {
        assert!(event.record.caller.starts_with("cli:"), "{event:?}");
        assert_eq!(&*event.record.resource, grant.name);
    }
    written.assert_intact();
}

#[tokio::test]
async fn a_failed_revocation_at_superoffice_is_repeated_by_a_server() {
    let site = Site::new().await;
    let served = site.serve().await;
    site.enroll("Cust1").await;
    let (grant, _) = import(&site, &served, "Cust1").await;
    served.stop().await;
    site.sandbox.inject(Endpoint::Revoke, Fault::status(503), FaultScope::always()).unwrap();
    let finished = site.run(&["grant", "revoke", &grant.name]).await;
    assert!(finished.stderr.contains("could not be revoked"), "{finished:?}");
    let said = finished.succeeded();
    assert!(said.contains("still has to revoke its token"), "{said}");
    let listed = site.run(&["grant", "list"]).await.succeeded();
    assert!(listed.contains("REVOKED, pending at SuperOffice"), "{listed}");
    assert_eq!(living(&site), 1);

    site.sandbox.clear_faults();
    let served = site.serve().await;
    eventually("SuperOffice is told", || living(&site) == 0).await;
    served.stop().await;
}

#[tokio::test]
async fn a_grant_is_revoked_locally_without_a_readable_client_secret() {
    let site = Site::new().await;
    let served = site.serve().await;
    site.enroll("Cust1").await;
    let (grant, _) = import(&site, &served, "Cust1").await;
    fs::remove_file(site.file("client_secret")).unwrap();
    let finished = site.run(&["grant", "revoke", &grant.name, "--output", "json"]).await;
    assert!(finished.stderr.contains("client_secret"), "{finished:?}");
    let revoked = finished.json();
    assert_eq!(
        (&revoked["state"], &revoked["revocation_pending"]),
        (&json!("REVOKED"), &json!(true))
    );
}

#[tokio::test]
async fn invalid_and_unknown_arguments_are_reported_with_a_remedy() {
    let site = Site::new().await;
    let nobody = format!("{}/grants/nobody", name("Cust1"));
    for (arguments, code, hint) in [
        (&["grant", "revoke", &nobody][..], 1, "ListGrants"),
        (&["grant", "list", "--application", "other"], 1, "[[applications]]"),
        (&["grant", "list", "--tenant", "applications/other/tenants/Cust1"], 1, "[[applications]]"),
        (&["grant", "revoke", "Cust1"], 2, "grants/"),
        (&["grant", "revoke", "applications/-/tenants/Cust1/grants/g"], 2, "one application"),
        (&["grant", "revoke"], 2, "NAME"),
        (&["grant", "list", "--tenant", "cust1"], 2, "Cust followed by"),
        (&["grant", "list", "--filter", "colour = RED"], 2, "--filter"),
    ] {
        let message = site.run(arguments).await.failed(code);
        assert!(message.contains(hint), "{arguments:?}: {message}");
    }
}
