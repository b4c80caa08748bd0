//! Tests of `ImpersonationService`, and of reads as a person.

use std::time::Duration;

use superoffice_sandbox::{Endpoint, Fault, FaultScope, SignInRules};
use tenant_gateway::grpc::pb::{
    self, associate_service_client::AssociateServiceClient,
    impersonation_service_client::ImpersonationServiceClient, issue_access_token_request::Subject,
    watch_access_token_request, web_api_service_client::WebApiServiceClient,
};
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::support::{CLIENT_ID, World, assert_status, eventually, name};

const HOUR: Duration = Duration::from_hours(1);

/// Longer than any immediate response takes.
const SOON: Duration = Duration::from_secs(5);

type Client = ImpersonationServiceClient<Channel>;

/// A person of a tenant with an imported refresh token.
struct Person {
    world: World,
    associate_id: i32,
    grant: pb::Grant,
}

impl Person {
    async fn new() -> Self {
        let world = World::new().await;
        world.enroll("Cust1").await;
        world.sandbox.generate_people("Cust1", 20, 7).unwrap();
        let signed_in = |id| Some((id, world.sandbox.begin_grant(CLIENT_ID, "Cust1", id).ok()?));
        let (id, refresh_token) = (1..100).find_map(signed_in).expect("no user can sign in");
        let tenant = name("Cust1");
        let import = pb::ImportGrantRequest { tenant, refresh_token, ..Default::default() };
        let mut client = ImpersonationServiceClient::new(world.channel().await);
        let grant = client.import_grant(import).await.unwrap().into_inner().grant.unwrap();
        let associate_id = i32::try_from(id).unwrap();
        assert_eq!((grant.associate_id, grant.state()), (associate_id, pb::GrantState::Active));
        Self { world, associate_id, grant }
    }

    async fn client(&self) -> Client {
        ImpersonationServiceClient::new(self.world.channel().await)
    }

    fn request(&self) -> pb::IssueAccessTokenRequest {
        let subject = Some(Subject::AssociateId(self.associate_id));
        pb::IssueAccessTokenRequest { tenant: name("Cust1"), subject, ..Default::default() }
    }

    async fn issue(&self) -> Result<String, Status> {
        id_of(&mut self.client().await, self.request()).await
    }

    /// Returns the number of refreshes.
    fn refreshes(&self) -> u64 {
        self.world.sandbox.grants().iter().map(superoffice_sandbox::GrantRecord::refreshes).sum()
    }

    async fn state(&self) -> pb::GrantState {
        let get = pb::GetGrantRequest { name: self.grant.name.clone() };
        self.client().await.get_grant(get).await.unwrap().into_inner().grant.unwrap().state()
    }

    fn slow_refreshes(&self) {
        let slow = Fault::delay(Duration::from_millis(400));
        self.world.sandbox.inject(Endpoint::Tokens, slow, FaultScope::always()).unwrap();
    }
}

/// Returns the id of the token, because tests must not print the token.
async fn id_of(
    client: &mut Client,
    request: pb::IssueAccessTokenRequest,
) -> Result<String, Status> {
    let token = client.issue_access_token(request).await?.into_inner().token.unwrap();
    assert!(token.value.starts_with("8A:Cust1."));
    Ok(token.credential_id)
}

async fn next<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let message = timeout(SOON, stream.message()).await.expect("no message in time")?;
    Ok(message.expect("the stream ended"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_concurrent_calls_for_one_grant_cost_one_refresh() {
    let person = Person::new().await;
    person.slow_refreshes();
    let before = person.refreshes();
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let client = person.client().await;
        for _ in 0..500 {
            let (mut client, request) = (client.clone(), person.request());
            calls.spawn(async move { id_of(&mut client, request).await });
        }
    }
    let mut ids = std::collections::BTreeSet::new();
    while let Some(call) = calls.join_next().await {
        ids.insert(call.unwrap().unwrap());
    }
    assert_eq!((ids.len(), person.refreshes() - before), (1, 1));
}

#[tokio::test]
async fn a_first_caller_that_cancels_does_not_affect_others() {
    let person = Person::new().await;
    person.slow_refreshes();
    let before = person.world.sandbox.calls(Endpoint::Tokens);
    let (mut first, request) = (person.client().await, person.request());
    let mut callers = JoinSet::new();
    callers.spawn(async move { id_of(&mut first, request).await });
    let begun = || person.world.sandbox.calls(Endpoint::Tokens) > before;
    eventually("the refresh begins", begun).await;
    callers.shutdown().await;
    person.issue().await.unwrap();
    assert_eq!(person.world.sandbox.calls(Endpoint::Tokens), before + 1);
}

#[tokio::test]
async fn refresh_tokens_that_rotate_are_never_spent_twice() {
    let mut person = Person::new().await;
    let rules = SignInRules { rotation: true, reuse_revokes_grant: true, ..Default::default() };
    person.world.sandbox.set_sign_in_rules(rules);
    for _ in 0..10 {
        person.issue().await.unwrap();
        person.world.advance(HOUR);
    }
    let grants = person.world.sandbox.grants();
    assert!(grants.iter().all(|grant| grant.reuses == 0 && !grant.revoked), "{grants:?}");
    assert!(grants[0].refresh_tokens.len() >= 10);
}

#[tokio::test]
async fn a_withdrawn_consent_is_detected_once_and_announced() {
    let mut person = Person::new().await;
    person.issue().await.unwrap();
    let watch = pb::WatchGrantsRequest { parent: name("Cust1") };
    let mut events = person.client().await.watch_grants(watch).await.unwrap().into_inner();
    let first = next(&mut events).await.unwrap().event.unwrap();
    assert_eq!(first.kind(), pb::GrantEventKind::Resync);
    assert_eq!(first.grant.unwrap().name, person.grant.name);
    let end = next(&mut events).await.unwrap().event.unwrap();
    assert_eq!((end.kind(), end.grant), (pb::GrantEventKind::Resync, None));
    person.world.sandbox.revoke_grants(CLIENT_ID, "Cust1", None).unwrap();
    person.world.advance(HOUR);
    let calls = person.world.sandbox.calls(Endpoint::Tokens);
    for _ in 0..5 {
        let refused = person.issue().await.unwrap_err();
        assert_status(&refused, Code::FailedPrecondition, "CONSENT_REQUIRED");
    }
    assert_eq!(person.world.sandbox.calls(Endpoint::Tokens), calls + 1);
    assert_eq!(person.state().await, pb::GrantState::ConsentRequired);
    let broken = next(&mut events).await.unwrap().event.unwrap();
    assert_eq!(broken.kind(), pb::GrantEventKind::Broken);
}

#[tokio::test]
async fn a_restart_uses_the_stored_token() {
    let mut person = Person::new().await;
    let id = person.issue().await.unwrap();
    let before = person.refreshes();
    person.world.restart().await;
    assert_eq!(person.issue().await.unwrap(), id);
    assert_eq!(person.refreshes(), before);
}

#[tokio::test]
async fn a_revoked_grant_ends_locally_at_once_and_at_superoffice_soon() {
    let person = Person::new().await;
    person.issue().await.unwrap();
    let revoke = pb::RevokeGrantRequest { name: person.grant.name.clone(), ..Default::default() };
    person.client().await.revoke_grant(revoke).await.unwrap();
    let refused = person.issue().await.unwrap_err();
    assert_status(&refused, Code::FailedPrecondition, "CONSENT_REQUIRED");
    let revoked = || person.world.sandbox.grants().iter().all(|grant| grant.revoked);
    eventually("SuperOffice is told", revoked).await;
}

/// SuperOffice documents lifetimes of an hour and of twenty minutes, and both 401 and 403 for an expired token.
#[tokio::test]
async fn an_access_token_that_expires_after_twenty_minutes_is_replaced_after_401_or_403() {
    for expired_access_is_403 in [false, true] {
        let mut person = Person::new().await;
        let rules = SignInRules { expired_access_is_403, ..Default::default() };
        person.world.sandbox.set_sign_in_rules(rules);
        let first = person.issue().await.unwrap();
        let refreshes = person.refreshes();
        person.world.advance(Duration::from_secs(20 * 60 + 1));
        person.world.sandbox.expire_access_tokens(Some("Cust1"));
        let call = pb::CallRequest {
            tenant: name("Cust1"),
            credential: format!("associates/{}", person.associate_id),
            method: "GET".to_owned(),
            path: "/api/v1/User/currentPrincipal".to_owned(),
            ..Default::default()
        };
        let mut web_api = WebApiServiceClient::new(person.world.channel().await);
        let answer = web_api.call(call).await.unwrap().into_inner();
        assert_eq!(answer.status, 200, "403: {expired_access_is_403}");
        assert_ne!(person.issue().await.unwrap(), first);
        assert_eq!(person.refreshes(), refreshes + 1);
    }
}

#[tokio::test]
async fn a_rejected_token_is_replaced_and_a_watch_sends_the_next() {
    let person = Person::new().await;
    let subject = Some(watch_access_token_request::Subject::Grant(person.grant.name.clone()));
    let tenant = name("Cust1");
    let watch = pb::WatchAccessTokenRequest { tenant, subject, ..Default::default() };
    let mut tokens = person.client().await.watch_access_token(watch).await.unwrap().into_inner();
    let first = next(&mut tokens).await.unwrap().token.unwrap().credential_id;
    person.world.sandbox.expire_access_tokens(Some("Cust1"));
    let report =
        pb::ReportRejectedCredentialRequest { tenant: name("Cust1"), credential_id: first.clone() };
    person.world.tokens().await.report_rejected_credential(report).await.unwrap();
    let second = next(&mut tokens).await.unwrap().token.unwrap().credential_id;
    assert_ne!(first, second);
    assert_eq!(person.issue().await.unwrap(), second);
}

#[tokio::test]
async fn a_tenant_is_read_as_the_person_and_invalid_tokens_are_replaced() {
    let person = Person::new().await;
    let mut associates = AssociateServiceClient::new(person.world.channel().await);
    let (_, grant) = person.grant.name.rsplit_once('/').unwrap();
    for credential in [format!("grants/{grant}"), format!("associates/{}", person.associate_id)] {
        let tenant = name("Cust1");
        let request = pb::GetCurrentPrincipalRequest { tenant, credential };
        let principal = associates.get_current_principal(request).await.unwrap().into_inner();
        assert_eq!(principal.principal.unwrap().associate_id, person.associate_id);
    }
    person.world.sandbox.expire_access_tokens(Some("Cust1"));
    let get = pb::GetAssociateRequest {
        name: format!("{}/associates/{}", name("Cust1"), person.associate_id),
        credential: format!("grants/{grant}"),
    };
    let associate = associates.get_associate(get).await.unwrap().into_inner().associate.unwrap();
    assert!(associate.can_be_impersonated);
    assert_eq!(associate.grant, person.grant.name);
    assert_eq!(associate.grant_state(), pb::GrantState::Active);
}
