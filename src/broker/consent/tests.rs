//! Tests of the rules of consent, one test each.

use std::{sync::Mutex, time::Duration};

use jiff::Timestamp;

use super::{
    fakes::{FakeSignIn, MemoryStore, administrator, fields, person},
    *,
};
use crate::{
    access::{Access, ManageGrants, ManageTenants},
    audit::{
        Durability, TrailPorts, TrailRules,
        fakes::{self, Failure, MemoryAudit},
    },
    broker::{
        SignInMismatch,
        fakes::{Upstream, runtime},
    },
    domain::{
        AuditEvent, ConsentId, ConsentOutcome, Decision, Reason, RedirectUris, ReturnPrefix,
        VerifiedIdentity,
    },
    ports::{ExchangeError, ManualClock, SystemClock, TenantStore, UpstreamError},
};

const OWN: &str = "https://gateway.example.com/oauth/callback";
const FRONT_END: &str = "https://portal.example.com/callback";

const PATIENCE: Duration = Duration::from_secs(8);

struct World {
    clock: Arc<ManualClock>,
    superoffice: Arc<FakeSignIn>,
    memory: Arc<MemoryStore>,
    audit: Arc<MemoryAudit>,
    consents: Arc<Consents>,
    events: Arc<Mutex<Vec<GrantEventKind>>>,
    /// The denial of the second policy decision, if any.
    denied: Arc<Mutex<Option<PermissionLost>>>,
    tasks: TaskTracker,
    writer: tokio::task::JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

fn tenant() -> TenantName {
    "applications/crm-sync/tenants/Cust1".parse().unwrap()
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "the test aborts the task itself")]
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new("2026-11-22T09:00:00Z".parse().unwrap()));
        let keys = fakes::keys();
        let superoffice = Arc::new(FakeSignIn::new(keys.clone()));
        let upstream = Upstream::new(clock.clone());
        let redirects = RedirectUris {
            own: Some(OWN.to_owned()),
            others: vec![FRONT_END.to_owned()],
            return_prefixes: vec![ReturnPrefix::new("https://portal.example.com/").unwrap()],
        };
        let application = upstream.application(redirects, superoffice.clone());
        let memory = Arc::new(MemoryStore::default());
        memory.add_tenant(&tenant());
        let store: Arc<dyn TenantStore> = memory.clone();
        let runtime = runtime(&clock, &upstream);
        let directory = Arc::new(TenantDirectory::new(store.clone(), &runtime));
        let applications = Arc::new(Applications::new([application]));
        let ids = applications.ids().cloned().collect();
        let tenants = Tenants::new(ids, directory.clone(), store, Arc::new(|_| ()), &runtime);
        let audit = Arc::new(MemoryAudit::default());
        let ports = TrailPorts {
            store: audit.clone(),
            signer: keys,
            clock: clock.clone(),
            // The audit writer really waits before a commit.
            timer: Arc::new(SystemClock),
        };
        let max_wait = Duration::from_secs(1);
        let rules = TrailRules { durability: Durability::AfterResponse, max_wait };
        let trail = Arc::new(Trail::new(ports, "serve-test".into(), rules));
        let writing = trail.clone();
        let writer = tokio::spawn(async move { writing.run().await });
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = heard.clone();
        let denied = Arc::new(Mutex::new(None));
        let policy = denied.clone();
        let ask_again: Reauthorize = Box::new(move |consent, tenant| {
            let denied = policy.lock().unwrap().clone();
            let again = access("ada");
            denied.map_or_else(
                || {
                    let enrol = consent.enroll_system_user;
                    Ok(StillPermitted {
                        grants: again
                            .authorize_recorded_caller(&consent.caller, tenant.clone())
                            .unwrap(),
                        tenants: enrol.then(|| {
                            again
                                .authorize_recorded_caller(&consent.caller, tenant.clone())
                                .unwrap()
                        }),
                    })
                },
                Err,
            )
        });
        let consents = Consents::new(
            applications,
            Arc::new(tenants),
            directory,
            ConsentStores { consents: memory.clone(), grants: memory.clone() },
            trail,
            Some("https://gateway.example.com".to_owned()),
            ask_again,
            Box::new(move |_, kind| ear.lock().unwrap().push(kind)),
            &runtime,
        );
        let consents = Arc::new(consents);
        let tasks = runtime.tasks;
        Self { clock, superoffice, memory, audit, consents, events: heard, denied, tasks, writer }
    }

    async fn begin(&self, request: ConsentRequest) -> BegunConsent {
        self.consents.begin(&may_ask("ada"), None, request).await.unwrap()
    }

    async fn begin_to_enrol(&self) -> BegunConsent {
        let (asked, enrol) = (may_ask("ada"), may_enrol("ada"));
        self.consents.begin(&asked, Some(&enrol), ConsentRequest::default()).await.unwrap()
    }

    /// Signs the person in at this URI and sends the browser back to the callback.
    async fn sign_in(&self, uri: &SecretString, person: VerifiedIdentity) -> CallbackOutcome {
        let (code, state) = self.superoffice.approve(uri, person);
        self.arrive(state, AuthorizationResponse::Code(code.into()), None).await
    }

    async fn arrive(
        &self,
        state: SecretString,
        answer: AuthorizationResponse,
        cookie: Option<SecretString>,
    ) -> CallbackOutcome {
        let (request_id, client_address) = ("r1".into(), "192.0.2.1".into());
        let patience = PATIENCE;
        let arrival = CallbackRequest {
            state,
            response: answer,
            cookie,
            request_id,
            client_address,
            max_wait: patience,
        };
        self.consents.callback(arrival).await
    }

    /// Completes the consent as the front end's caller.
    async fn complete(
        &self,
        caller: &str,
        state: &SecretString,
        code: &str,
    ) -> Result<CompletedConsent, BrokerError> {
        let shown = self.consents.find(&Caller::command_line(caller), state).await?;
        let enrol = shown.enrols().then(|| may_enrol(caller));
        let (asked, code) = (may_ask(caller), code.into());
        self.consents.complete(&asked, enrol.as_ref(), shown, code, PATIENCE, "r1".into()).await
    }

    async fn revoked(&self) -> Vec<String> {
        while !self.tasks.is_empty() {
            self.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        self.superoffice.revoked.lock().unwrap().clone()
    }

    fn stored(&self) -> Vec<String> {
        self.memory.grants.lock().unwrap().iter().map(|(_, token)| token.clone()).collect()
    }

    fn token_of_tenant(&self) -> Option<String> {
        let tenants = self.memory.tenants.lock().unwrap();
        tenants.get(&tenant()).and_then(|(_, token)| token.clone())
    }

    fn events(&self) -> Vec<AuditEvent> {
        self.audit.read("serve-test")
    }
}

fn access(caller: &str) -> Access {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    Access::command_line(Caller::command_line(caller), clock)
}

fn may_ask(caller: &str) -> AuthorizedConsentScope<ManageGrants> {
    AuthorizedConsentScope::Tenant(
        access(caller).authorize(&Caller::command_line(caller), tenant()).unwrap(),
    )
}

fn may_enrol(caller: &str) -> AuthorizedConsentScope<ManageTenants> {
    AuthorizedConsentScope::Tenant(
        access(caller).authorize(&Caller::command_line(caller), tenant()).unwrap(),
    )
}

fn may_enrol_anybody(caller: &str) -> AuthorizedConsentScope<ManageTenants> {
    let application = tenant().application;
    AuthorizedConsentScope::Application(
        access(caller).authorize(&Caller::command_line(caller), application).unwrap(),
    )
}

fn may_ask_anybody(caller: &str) -> AuthorizedConsentScope<ManageGrants> {
    let application = tenant().application;
    AuthorizedConsentScope::Application(
        access(caller).authorize(&Caller::command_line(caller), application).unwrap(),
    )
}

fn id_of(begun: &BegunConsent) -> ConsentId {
    let uri = begun.consent_uri.as_ref().unwrap().expose_secret();
    uri.strip_prefix("https://gateway.example.com/consent/").unwrap().parse().unwrap()
}

fn invalid(why: InvalidConsentCause) -> BrokerError {
    BrokerError::ConsentInvalid(why)
}

fn error_of(arrived: &CallbackOutcome) -> &BrokerError {
    arrived.result.as_ref().unwrap_err()
}

#[tokio::test]
async fn an_authorization_uri_needs_no_cookie_and_its_state_works_once() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    let (code, state) = world.superoffice.approve(&begun.authorization_uri, person("tony"));
    assert_eq!(state.expose_secret(), begun.state.expose_secret());
    let arrived =
        world.arrive(state.clone(), AuthorizationResponse::Code(code.clone().into()), None).await;
    let taken = arrived.result.unwrap();
    assert_eq!(taken.grant.user_principal_name, "tony@example.com");
    assert!(!taken.system_user_enrolled);
    assert_eq!(world.stored(), ["refresh-1"]);
    assert_eq!(*world.events.lock().unwrap(), [GrantEventKind::Created]);
    let again = world.arrive(state, AuthorizationResponse::Code(code.into()), None).await;
    assert_eq!(error_of(&again), &invalid(InvalidConsentCause::UnknownState));
    assert_eq!(
        world.complete("ada", &begun.state, "code-1").await.unwrap_err(),
        invalid(InvalidConsentCause::UnknownState)
    );
    assert!(world.revoked().await.is_empty());
}

#[tokio::test]
async fn an_attempt_expires() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    world.clock.advance(Duration::from_mins(15));
    assert_eq!(begun.expire_time, world.clock.now());
    let late = world.sign_in(&begun.authorization_uri, person("tony")).await;
    assert_eq!(error_of(&late), &invalid(InvalidConsentCause::UnknownState));
    assert!(world.stored().is_empty());
}

#[tokio::test]
async fn stores_only_digests_of_states_and_uses_new_secrets_for_each_attempt() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    let again = world.consents.redirect_to_sign_in(&id_of(&begun), None, "r1").await.unwrap();
    let kept = format!(
        "{:?} {:?}",
        world.memory.attempts.lock().unwrap(),
        world.memory.consents.lock().unwrap()
    );
    assert!(!kept.contains(begun.state.expose_secret()));
    let (first, second) = (fields(&begun.authorization_uri), fields(&again.authorization_uri));
    for field in ["state", "nonce", "code_challenge"] {
        assert_ne!(first[field], second[field], "{field}");
    }
    let attempts = world.memory.attempts.lock().unwrap();
    let digest = world.consents.shared.digest(&begun.state);
    let verifier = attempts[&digest].verifier.expose_secret();
    assert!((43..=128).contains(&verifier.len()));
    assert!(!begun.authorization_uri.expose_secret().contains(verifier));
    assert!(!kept.contains(again.cookie.expose_secret()));
}

#[tokio::test]
async fn rejects_a_redirect_uri_that_is_not_registered() {
    let world = World::new();
    for (redirect_uri, good) in [
        (None, true),
        (Some(OWN), true),
        (Some(FRONT_END), true),
        (Some("https://portal.example.com/callback/"), false),
        (Some("https://evil.example.com/callback"), false),
    ] {
        let redirect_uri = redirect_uri.map(str::to_owned);
        let request = ConsentRequest { redirect_uri, ..ConsentRequest::default() };
        let begun = world.consents.begin(&may_ask("ada"), None, request.clone()).await;
        assert_eq!(begun.is_ok(), good, "{request:?}");
        let wrong = |error| matches!(error, BrokerError::Invalid { field: "redirect_uri", .. });
        assert_eq!(begun.is_err_and(wrong), !good);
    }
}

#[tokio::test]
async fn rejects_a_return_uri_that_is_not_registered() {
    let world = World::new();
    let request = |uri: &str| ConsentRequest {
        return_uri: Some(uri.to_owned()),
        ..ConsentRequest::default()
    };
    let evil = request("https://portal.example.com.evil.example/");
    let refused = world.consents.begin(&may_ask("ada"), None, evil).await.unwrap_err();
    assert!(matches!(refused, BrokerError::Invalid { field: "return_uri", .. }));
    let begun = world.begin(request("https://portal.example.com/done?x=1")).await;
    let arrived = world.sign_in(&begun.authorization_uri, person("tony")).await;
    arrived.result.unwrap();
    let uri = "https://portal.example.com/done?x=1".to_owned();
    let state = begun.state.expose_secret().to_owned();
    assert_eq!(arrived.return_to, Some(ReturnTo { uri, state }));
}

#[tokio::test]
async fn only_the_caller_that_began_can_complete() {
    let world = World::new();
    let front_end =
        || ConsentRequest { redirect_uri: Some(FRONT_END.to_owned()), ..ConsentRequest::default() };
    let begun = world.begin(front_end()).await;
    let (code, state) = world.superoffice.approve(&begun.authorization_uri, person("tony"));
    let foreign = world.complete("eve", &state, &code).await.unwrap_err();
    assert_eq!(foreign, invalid(InvalidConsentCause::OtherCaller));
    // A browser that presents the state does not complete it either, and its owner can still use it.
    for answer in [
        AuthorizationResponse::Code(code.clone().into()),
        AuthorizationResponse::Error("access_denied".to_owned()),
    ] {
        let arrived = world.arrive(state.clone(), answer, None).await;
        assert_eq!(error_of(&arrived), &invalid(InvalidConsentCause::OtherAddress));
        assert_eq!((arrived.return_to, arrived.entry), (None, ConsentEntry::Unknown));
    }
    let taken = world.complete("ada", &state, &code).await.unwrap();
    assert_eq!(taken.grant.name.tenant, tenant());
    assert!(world.revoked().await.is_empty());
}

#[tokio::test]
async fn the_gateways_callback_rejects_a_code_for_a_front_end() {
    let world = World::new();
    let redirect_uri = Some(FRONT_END.to_owned());
    let begun = world.begin(ConsentRequest { redirect_uri, ..ConsentRequest::default() }).await;
    let arrived = world.sign_in(&begun.authorization_uri, person("tony")).await;
    assert_eq!(error_of(&arrived), &invalid(InvalidConsentCause::OtherAddress));
    assert!(world.stored().is_empty());
}

#[tokio::test]
async fn rejects_an_unexpected_person_or_tenant_and_keeps_the_link_usable() {
    let world = World::new();
    let expected_user_principal_name = Some("Tony@example.com".to_owned());
    let request = ConsentRequest { expected_user_principal_name, ..ConsentRequest::default() };
    let begun = world.begin(request).await;
    assert_eq!(fields(&begun.authorization_uri)["login_hint"], "Tony@example.com");
    let arrived = world.sign_in(&begun.authorization_uri, person("eve")).await;
    assert_eq!(error_of(&arrived), &BrokerError::WrongSignIn(SignInMismatch::Person));
    assert_eq!(world.revoked().await, ["refresh-1"]);
    let elsewhere = VerifiedIdentity { tenant: "Cust2".parse().unwrap(), ..person("tony") };
    for (identity, wanted) in [
        (elsewhere, Some(BrokerError::WrongSignIn(SignInMismatch::Tenant))),
        (person("tony"), None),
    ] {
        let departure =
            world.consents.redirect_to_sign_in(&id_of(&begun), None, "r1").await.unwrap();
        let (code, state) = world.superoffice.approve(&departure.authorization_uri, identity);
        let answer = AuthorizationResponse::Code(code.into());
        let arrived = world.arrive(state, answer, Some(departure.cookie)).await;
        assert_eq!(arrived.result.err(), wanted);
    }
    assert_eq!(world.revoked().await, ["refresh-1", "refresh-2"]);
    assert_eq!(world.stored(), ["refresh-3"]);
}

#[tokio::test]
async fn discards_a_system_user_token_without_manage_tenants() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    let arrived = world.sign_in(&begun.authorization_uri, administrator("ann")).await;
    assert!(!arrived.result.unwrap().system_user_enrolled);
    assert_eq!(world.token_of_tenant(), None);
}

#[tokio::test]
async fn an_administrator_enrols_the_tenant_with_manage_tenants() {
    let world = World::new();
    world.memory.tenants.lock().unwrap().clear();
    let asked = world.consents.begin(&may_ask("ada"), None, ConsentRequest::default()).await;
    assert!(matches!(asked.unwrap_err(), BrokerError::TenantNotFound(_)));
    for round in 1..3 {
        let begun = world.begin_to_enrol().await;
        let arrived = world.sign_in(&begun.authorization_uri, administrator("ann")).await;
        assert!(arrived.result.unwrap().system_user_enrolled);
        assert_eq!(world.token_of_tenant().as_deref(), Some("App-token"));
        let known = world.consents.shared.directory.get(&tenant()).await.unwrap();
        assert_eq!((known.token_version, known.company_name.as_str()), (round, "Example AS"));
    }
}

#[tokio::test]
async fn stores_the_grant_of_a_non_administrator_without_enrolment() {
    let world = World::new();
    let no_claim = VerifiedIdentity { system_user_token: None, ..administrator("ann") };
    let no_right = VerifiedIdentity { is_administrator: false, ..administrator("tony") };
    for person in [no_claim, no_right] {
        let begun = world.begin_to_enrol().await;
        let arrived = world.sign_in(&begun.authorization_uri, person).await;
        assert!(!arrived.result.unwrap().system_user_enrolled);
    }
    assert_eq!(world.token_of_tenant(), None);
    assert_eq!(world.stored().len(), 2);
}

#[tokio::test]
async fn a_non_administrator_cannot_add_a_tenant() {
    let world = World::new();
    let (asked, enrol) = (may_ask_anybody("ada"), may_enrol_anybody("ada"));
    let request = ConsentRequest::default();
    let begun = world.consents.begin(&asked, Some(&enrol), request).await.unwrap();
    let elsewhere = VerifiedIdentity { tenant: "Cust2".parse().unwrap(), ..person("tony") };
    let arrived = world.sign_in(&begun.authorization_uri, elsewhere).await;
    assert!(matches!(error_of(&arrived), BrokerError::TenantNotFound(_)));
    assert_eq!(world.memory.tenants.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn rejects_an_enrolment_authorized_for_another_scope() {
    let world = World::new();
    let other = may_ask_anybody("ada");
    let request = ConsentRequest::default();
    let begun = world.consents.begin(&other, Some(&may_enrol("ada")), request).await;
    assert!(matches!(begun.unwrap_err(), BrokerError::Internal(_)));
}

#[tokio::test]
async fn a_consent_uri_needs_its_cookie_at_the_callback() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    let id = id_of(&begun);
    for (cookie, taken) in
        [(None, false), (Some("0".repeat(64)), false), (Some("same".to_owned()), true)]
    {
        let departure = world.consents.redirect_to_sign_in(&id, None, "r1").await.unwrap();
        let uri = &departure.authorization_uri;
        assert_eq!(fields(uri)["redirect_uri"], OWN);
        let (code, state) = world.superoffice.approve(uri, person("tony"));
        // Only the right cookie completes it.
        let shown = cookie.map(|cookie| if taken { departure.cookie } else { cookie.into() });
        let arrived = world.arrive(state, AuthorizationResponse::Code(code.into()), shown).await;
        assert_eq!(arrived.result.is_ok(), taken);
    }
    assert_eq!(world.stored(), ["refresh-3"]);
    assert!(matches!(
        world.consents.find_by_link(&id).await.unwrap(),
        ConsentLinkState::Ended(ConsentOutcome::Granted { .. })
    ));
    let ended = world.consents.redirect_to_sign_in(&id, None, "r1").await.unwrap_err();
    assert_eq!(ended, invalid(InvalidConsentCause::LinkNotPending));
}

#[tokio::test]
async fn a_caller_cannot_complete_a_state_that_is_bound_to_a_browser() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    let departure = world.consents.redirect_to_sign_in(&id_of(&begun), None, "r1").await.unwrap();
    let (code, state) = world.superoffice.approve(&departure.authorization_uri, person("tony"));
    let refused = world.complete("ada", &state, &code).await.unwrap_err();
    assert_eq!(refused, invalid(InvalidConsentCause::NeedsBrowser));
    let cookie = Some(departure.cookie);
    let arrived = world.arrive(state, AuthorizationResponse::Code(code.into()), cookie).await;
    assert!(arrived.result.is_ok());
}

#[tokio::test]
async fn a_callback_without_the_cookie_does_not_use_up_the_state() {
    let world = World::new();
    let return_uri = Some("https://portal.example.com/done?x=1".to_owned());
    let begun = world.begin(ConsentRequest { return_uri, ..ConsentRequest::default() }).await;
    let departure = world.consents.redirect_to_sign_in(&id_of(&begun), None, "r1").await.unwrap();
    let (code, state) = world.superoffice.approve(&departure.authorization_uri, person("tony"));
    let unknown =
        world.arrive("f".repeat(64).into(), AuthorizationResponse::Code("c".into()), None).await;
    for cookie in [None, Some("0".repeat(64).into())] {
        for answer in [
            AuthorizationResponse::Code(code.clone().into()),
            AuthorizationResponse::Error("access_denied".to_owned()),
            AuthorizationResponse::Error("server_error".to_owned()),
        ] {
            let arrived = world.arrive(state.clone(), answer, cookie.clone()).await;
            assert_eq!(error_of(&arrived), &invalid(InvalidConsentCause::OtherBrowser));
            // The browser gets the same response as for a made-up state.
            assert_eq!(error_of(&arrived).reason(), error_of(&unknown).reason());
            assert_eq!((arrived.return_to, arrived.entry), (None, unknown.entry));
        }
    }
    assert!(world.events().is_empty());
    let arrived =
        world.arrive(state, AuthorizationResponse::Code(code.into()), Some(departure.cookie)).await;
    assert!(arrived.result.is_ok() && arrived.return_to.is_some());
}

#[tokio::test]
async fn a_disabled_tenant_or_a_failing_store_does_not_use_up_the_state() {
    let world = World::new();
    let redirect_uri = Some(FRONT_END.to_owned());
    let begun = world.begin(ConsentRequest { redirect_uri, ..ConsentRequest::default() }).await;
    let (code, state) = world.superoffice.approve(&begun.authorization_uri, person("tony"));
    let stop = |disabled| {
        world.memory.tenants.lock().unwrap().get_mut(&tenant()).unwrap().0.disabled = disabled;
        world.consents.shared.directory.forget_all();
    };
    stop(true);
    let refused = world.complete("ada", &state, &code).await.unwrap_err();
    assert_eq!(refused, BrokerError::TenantDisabled(tenant()));
    stop(false);
    *world.memory.redeeming_fails.lock().unwrap() = true;
    let refused = world.complete("ada", &state, &code).await.unwrap_err();
    assert!(matches!(refused, BrokerError::StoreUnavailable(_)));
    *world.memory.redeeming_fails.lock().unwrap() = false;
    world.complete("ada", &state, &code).await.unwrap();
    let spent = world.complete("ada", &state, &code).await.unwrap_err();
    assert_eq!(spent, invalid(InvalidConsentCause::UnknownState));
}

#[tokio::test]
async fn exactly_one_of_two_concurrent_completions_succeeds() {
    let world = World::new();
    let redirect_uri = Some(FRONT_END.to_owned());
    let begun = world.begin(ConsentRequest { redirect_uri, ..ConsentRequest::default() }).await;
    let (code, state) = world.superoffice.approve(&begun.authorization_uri, person("tony"));
    let (one, other) =
        tokio::join!(world.complete("ada", &state, &code), world.complete("ada", &state, &code));
    let (given, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    given.unwrap();
    assert_eq!(refused.unwrap_err(), invalid(InvalidConsentCause::UnknownState));
    assert_eq!(world.stored().len(), 1);
}

#[tokio::test]
async fn rejects_a_consent_stored_while_the_clock_was_a_day_ahead() {
    let world = World::new();
    let right = world.clock.now();
    world.clock.set_wall(right + Duration::from_hours(24));
    let begun = world.begin(ConsentRequest::default()).await;
    let (code, state) = world.superoffice.approve(&begun.authorization_uri, person("tony"));
    world.clock.set_wall(right);
    let arrived = world.arrive(state, AuthorizationResponse::Code(code.into()), None).await;
    assert_eq!(error_of(&arrived), &invalid(InvalidConsentCause::UnknownState));
    assert_eq!(
        world.consents.find_by_link(&id_of(&begun)).await.unwrap(),
        ConsentLinkState::Expired
    );
}

#[tokio::test]
async fn a_second_tab_keeps_the_cookie_of_the_first() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    let id = id_of(&begun);
    let first = world.consents.redirect_to_sign_in(&id, None, "r1").await.unwrap();
    let second =
        world.consents.redirect_to_sign_in(&id, Some(first.cookie.clone()), "r1").await.unwrap();
    assert_eq!(first.cookie.expose_secret(), second.cookie.expose_secret());
    let odd = world.consents.redirect_to_sign_in(&id, Some("odd".into()), "r1").await.unwrap();
    assert_ne!(odd.cookie.expose_secret(), "odd");
}

#[tokio::test]
async fn a_consent_uri_works_for_seven_days() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    let id = id_of(&begun);
    world.clock.advance(Duration::from_hours(7 * 24) - Duration::from_secs(1));
    assert!(matches!(world.consents.find_by_link(&id).await.unwrap(), ConsentLinkState::Open(_)));
    let departure = world.consents.redirect_to_sign_in(&id, None, "r1").await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.consents.find_by_link(&id).await.unwrap(), ConsentLinkState::Expired);
    assert!(world.consents.redirect_to_sign_in(&id, None, "r1").await.is_err());
    let (code, state) = world.superoffice.approve(&departure.authorization_uri, person("tony"));
    let arrived =
        world.arrive(state, AuthorizationResponse::Code(code.into()), Some(departure.cookie)).await;
    assert_eq!(error_of(&arrived), &invalid(InvalidConsentCause::UnknownState));
    let unknown = ConsentId::new([9; 16]);
    assert_eq!(world.consents.find_by_link(&unknown).await.unwrap(), ConsentLinkState::Unknown);
}

#[tokio::test]
async fn two_concurrent_consents_of_one_person_succeed_and_lose_no_refresh_token() {
    let world = World::new();
    let (one, other) = tokio::join!(
        world.begin(ConsentRequest::default()),
        world.begin(ConsentRequest::default())
    );
    let (one, other) = tokio::join!(
        world.sign_in(&one.authorization_uri, person("tony")),
        world.sign_in(&other.authorization_uri, person("tony")),
    );
    let (one, other) = (one.result.unwrap(), other.result.unwrap());
    assert_eq!(one.grant.name, other.grant.name);
    let mut all = world.stored();
    assert_eq!(all.len(), 1);
    all.extend(world.revoked().await);
    all.sort();
    assert_eq!(all, ["refresh-1", "refresh-2"]);
    let heard = [GrantEventKind::Created, GrantEventKind::Reconsented];
    assert_eq!(*world.events.lock().unwrap(), heard);
}

#[tokio::test]
async fn does_not_revoke_a_refresh_token_that_is_issued_again() {
    let world = World::new();
    *world.superoffice.same_token.lock().unwrap() = true;
    for _ in 0..2 {
        let begun = world.begin(ConsentRequest::default()).await;
        world.sign_in(&begun.authorization_uri, person("tony")).await.result.unwrap();
    }
    assert!(world.revoked().await.is_empty());
    // It is not revoked after a failed consent either: the grant uses it.
    let request = ConsentRequest {
        expected_user_principal_name: Some("ann@example.com".to_owned()),
        ..ConsentRequest::default()
    };
    let begun = world.begin(request).await;
    let arrived = world.sign_in(&begun.authorization_uri, person("tony")).await;
    assert_eq!(error_of(&arrived), &BrokerError::WrongSignIn(SignInMismatch::Person));
    *world.memory.down.lock().unwrap() = true;
    let begun = world.begin(ConsentRequest::default()).await;
    let arrived = world.sign_in(&begun.authorization_uri, person("tony")).await;
    assert!(matches!(error_of(&arrived), BrokerError::StoreUnavailable(_)));
    assert!(world.revoked().await.is_empty());
}

#[tokio::test]
async fn the_first_of_two_people_on_one_link_ends_it() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    let id = id_of(&begun);
    let away = world.consents.redirect_to_sign_in(&id, None, "r1").await.unwrap();
    let first = world.superoffice.approve(&begun.authorization_uri, person("tony"));
    let second = world.superoffice.approve(&away.authorization_uri, person("ann"));
    let shown = world.consents.find(&Caller::command_line("ada"), &first.1).await.unwrap();
    let cookie = Some(away.cookie);
    let arrived =
        world.arrive(second.1, AuthorizationResponse::Code(second.0.into()), cookie).await;
    assert!(arrived.result.is_ok());
    let (asked, code) = (may_ask("ada"), first.0.into());
    let late = world.consents.complete(&asked, None, shown, code, PATIENCE, "r1".into()).await;
    let late = late.unwrap_err();
    assert!(matches!(late, BrokerError::ConsentInvalid(_)), "{late:?}");
    assert_eq!(world.stored().len(), 1);
}

#[tokio::test]
async fn only_one_of_two_concurrent_callbacks_of_one_link_succeeds() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    let id = id_of(&begun);
    let mut ways = Vec::new();
    for who in ["tony", "ann"] {
        let away = world.consents.redirect_to_sign_in(&id, None, "r1").await.unwrap();
        let (code, state) = world.superoffice.approve(&away.authorization_uri, person(who));
        ways.push(world.arrive(state, AuthorizationResponse::Code(code.into()), Some(away.cookie)));
    }
    let arrived = futures_util::future::join_all(ways).await;
    let (heard, late): (Vec<_>, Vec<_>) =
        arrived.into_iter().partition(|arrived| arrived.result.is_ok());
    assert_eq!((heard.len(), late.len()), (1, 1));
    let late = error_of(&late[0]);
    assert!(matches!(late, BrokerError::ConsentInvalid(_)), "{late:?}");
    assert_eq!((world.stored().len(), world.revoked().await.len()), (1, 1));
}

#[tokio::test]
async fn rejects_a_code_of_another_flow() {
    let world = World::new();
    let (mine, other) = (
        world.begin(ConsentRequest::default()).await,
        world.begin(ConsentRequest::default()).await,
    );
    let (injected, _) = world.superoffice.approve(&other.authorization_uri, person("eve"));
    let arrived =
        world.arrive(mine.state.clone(), AuthorizationResponse::Code(injected.into()), None).await;
    assert_eq!(error_of(&arrived), &invalid(InvalidConsentCause::CodeRefused));
    // The nonce detects the other flow where PKCE does not.
    let begun = world.begin(ConsentRequest::default()).await;
    let foreign = begun.authorization_uri.expose_secret().replace("nonce=0", "nonce=f").into();
    let arrived = world.sign_in(&foreign, person("eve")).await;
    assert!(matches!(error_of(&arrived), BrokerError::UpstreamInvalid { .. }));
    // The owner of the token is unknown, so it is not revoked: a grant may use it.
    assert!(world.revoked().await.is_empty());
    assert!(world.stored().is_empty());
}

#[tokio::test]
async fn revokes_the_refresh_token_if_the_grant_cannot_be_stored() {
    let world = World::new();
    *world.memory.down.lock().unwrap() = true;
    let lost = || ExchangeError::Transient("requested failure".to_owned());
    world.superoffice.revoke_failures.lock().unwrap().extend([lost(), lost()]);
    let begun = world.begin(ConsentRequest::default()).await;
    let arrived = world.sign_in(&begun.authorization_uri, person("tony")).await;
    assert!(matches!(error_of(&arrived), BrokerError::StoreUnavailable(_)));
    assert_eq!(world.revoked().await, ["refresh-1"]);
}

#[tokio::test]
async fn rejects_a_grant_for_an_unknown_or_disabled_tenant() {
    let world = World::new();
    let ask_anybody = async || {
        let request = ConsentRequest::default();
        world.consents.begin(&may_ask_anybody("ada"), None, request).await.unwrap()
    };
    let begun = ask_anybody().await;
    let elsewhere = VerifiedIdentity { tenant: "Cust2".parse().unwrap(), ..person("tony") };
    let arrived = world.sign_in(&begun.authorization_uri, elsewhere).await;
    assert!(matches!(error_of(&arrived), BrokerError::TenantNotFound(_)));
    let begun = ask_anybody().await;
    world.memory.tenants.lock().unwrap().get_mut(&tenant()).unwrap().0.disabled = true;
    world.consents.shared.directory.forget_all();
    let arrived = world.sign_in(&begun.authorization_uri, person("tony")).await;
    assert_eq!(error_of(&arrived), &BrokerError::TenantDisabled(tenant()));
    assert_eq!(world.revoked().await, ["refresh-1", "refresh-2"]);
}

#[tokio::test]
async fn maps_errors_of_superoffice_to_outcomes() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    let id = id_of(&begun);
    let error = |name: &str| AuthorizationResponse::Error(name.to_owned());
    let departure = world.consents.redirect_to_sign_in(&id, None, "r1").await.unwrap();
    let state = fields(&departure.authorization_uri)["state"].clone().into();
    let arrived = world.arrive(state, error("<script>"), Some(departure.cookie)).await;
    let BrokerError::UpstreamUnavailable { cause, .. } = error_of(&arrived) else { panic!() };
    assert!(!cause.contains("script"), "{cause}");
    assert!(matches!(world.consents.find_by_link(&id).await.unwrap(), ConsentLinkState::Open(_)));
    let arrived = world.arrive(begun.state, error("access_denied"), None).await;
    assert_eq!(error_of(&arrived), &BrokerError::ConsentRefused);
    assert_eq!(
        world.consents.find_by_link(&id).await.unwrap(),
        ConsentLinkState::Ended(ConsentOutcome::Refused)
    );
    for (failure, wanted) in [
        (ExchangeError::InvalidClient, BrokerError::ClientSecretRefused(tenant().application)),
        (ExchangeError::InvalidGrant, invalid(InvalidConsentCause::CodeRefused)),
    ] {
        let begun = world.begin(ConsentRequest::default()).await;
        world.superoffice.failures.lock().unwrap().push_back(failure);
        let arrived = world.sign_in(&begun.authorization_uri, person("tony")).await;
        assert_eq!(error_of(&arrived), &wanted);
    }
}

#[tokio::test]
async fn audits_a_callback_in_the_name_of_the_caller_that_began() {
    let world = World::new();
    let (asked, enrol) = (may_ask("ada"), may_enrol("ada"));
    let request = ConsentRequest { reason: "moving in".to_owned(), ..ConsentRequest::default() };
    let begun = world.consents.begin(&asked, Some(&enrol), request).await.unwrap();
    let arrived = world.sign_in(&begun.authorization_uri, administrator("ann")).await;
    let grant = arrived.result.unwrap().grant.name.to_string();
    let told: Vec<_> = world
        .events()
        .into_iter()
        .map(|event| {
            let record = event.record;
            assert_eq!(&*record.caller, "cli:ada");
            assert_eq!(&*record.caller_method, "consent");
            assert_eq!((&*record.reason, &*record.request_id), ("moving in", "r1"));
            assert_eq!((record.code, &*record.client_address), (0, "192.0.2.1"));
            (record.action.to_string(), record.resource.to_string())
        })
        .collect();
    // First the decisions, before anything is stored, then the outcome.
    let tenant_name = || tenant().to_string();
    let decided = [("manageGrants", tenant_name()), ("manageTenants", tenant_name())];
    let done = [("manageGrants", grant), ("manageTenants", tenant_name())];
    let wanted = decided.into_iter().chain(done);
    let wanted: Vec<_> = wanted.map(|(action, resource)| (action.to_owned(), resource)).collect();
    assert_eq!(told, wanted);
    let begun = world.begin(ConsentRequest::default()).await;
    world.arrive(begun.state, AuthorizationResponse::Error("access_denied".to_owned()), None).await;
    let last = world.events().pop().unwrap().record;
    assert_eq!((last.code, &*last.resource), (9, &*tenant().to_string()));
    assert_eq!(last.error_reason_name(), "CONSENT_REQUIRED");
}

#[tokio::test]
async fn decides_again_for_the_tenant_that_was_given() {
    let world = World::new();
    let policy_ids: crate::access::PolicyIds = Arc::new(["protected".into()]);
    let action = crate::access::ActionName::ManageTenants;
    let denied = PermissionLost { action, resource: "the tenant".into(), policy_ids };
    *world.denied.lock().unwrap() = Some(denied.clone());
    let begun = world.begin_to_enrol().await;
    let arrived = world.sign_in(&begun.authorization_uri, administrator("ann")).await;
    assert_eq!(error_of(&arrived), &BrokerError::NoLongerPermitted(denied.clone()));
    assert_eq!(world.token_of_tenant(), None);
    let [event] = &world.events()[..] else { panic!() };
    let record = &event.record;
    assert_eq!((record.decision, record.code), (Decision::Denied, 7));
    assert_eq!(record.error_reason_name(), "POLICY_DENIED");
    assert_eq!((&*record.action, &*record.resource), ("manageTenants", "the tenant"));
    assert_eq!(record.policy_ids, denied.policy_ids);
    // A caller that brings the code gets the same error.
    let redirect_uri = Some(FRONT_END.to_owned());
    let other = world.begin(ConsentRequest { redirect_uri, ..ConsentRequest::default() }).await;
    let (code, state) = world.superoffice.approve(&other.authorization_uri, person("tony"));
    let refused = world.complete("ada", &state, &code).await.unwrap_err();
    assert_eq!(refused, BrokerError::NoLongerPermitted(denied));
    assert!(world.stored().is_empty());
    assert_eq!(world.revoked().await, ["refresh-1", "refresh-2"]);
    // The consent stays pending, for another tenant or a changed policy.
    *world.denied.lock().unwrap() = None;
    let departure = world.consents.redirect_to_sign_in(&id_of(&begun), None, "r1").await.unwrap();
    let (code, state) = world.superoffice.approve(&departure.authorization_uri, person("tony"));
    let arrived =
        world.arrive(state, AuthorizationResponse::Code(code.into()), Some(departure.cookie)).await;
    assert!(arrived.result.is_ok());
}

#[tokio::test]
async fn a_code_that_was_not_sent_can_be_retried() {
    let world = World::new();
    let closed =
        || ExchangeError::NotSent(UpstreamError::Unavailable("requested failure".to_owned()));
    let fail = |failure| world.superoffice.failures.lock().unwrap().push_back(failure);
    let begun = world.begin(ConsentRequest::default()).await;
    let (code, state) = world.superoffice.approve(&begun.authorization_uri, person("tony"));
    let arrive =
        || world.arrive(state.clone(), AuthorizationResponse::Code(code.clone().into()), None);
    for failure in [closed(), ExchangeError::InvalidClient] {
        fail(failure);
        assert!(arrive().await.result.is_err());
    }
    assert!(arrive().await.result.is_ok());
    assert_eq!(*world.superoffice.max_wait.lock().unwrap(), Some(PATIENCE));
    let redirect_uri = Some(FRONT_END.to_owned());
    let begun = world.begin(ConsentRequest { redirect_uri, ..ConsentRequest::default() }).await;
    let (code, state) = world.superoffice.approve(&begun.authorization_uri, person("ann"));
    fail(closed());
    let refused = world.complete("ada", &state, &code).await.unwrap_err();
    assert!(matches!(refused, BrokerError::UpstreamUnavailable { .. }));
    world.complete("ada", &state, &code).await.unwrap();
    // A code that may have been sent counts as used.
    let begun = world.begin(ConsentRequest::default()).await;
    let (code, state) = world.superoffice.approve(&begun.authorization_uri, person("eve"));
    fail(ExchangeError::Transient("requested failure".to_owned()));
    for wanted in [Reason::UpstreamUnavailable, Reason::ConsentInvalid] {
        let arrived = world
            .arrive(state.clone(), AuthorizationResponse::Code(code.clone().into()), None)
            .await;
        assert_eq!(error_of(&arrived).reason(), wanted);
    }
}

#[tokio::test]
async fn does_not_store_a_consent_that_cannot_be_audited() {
    let world = World::new();
    let begun = world.begin(ConsentRequest::default()).await;
    world.audit.fail([Failure::Hang]);
    let (code, state) = world.superoffice.approve(&begun.authorization_uri, person("tony"));
    let arriving = world.arrive(state, AuthorizationResponse::Code(code.into()), None);
    let mut arriving = std::pin::pin!(arriving);
    for _ in 0..50 {
        assert!(futures_util::poll!(arriving.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(world.stored().is_empty());
}

#[tokio::test]
async fn limits_pending_consents_and_deletes_expired_ones() {
    let world = World::new();
    *world.memory.full.lock().unwrap() = true;
    let request = ConsentRequest::default();
    let refused = world.consents.begin(&may_ask("ada"), None, request).await.unwrap_err();
    assert_eq!(refused, BrokerError::TooManyConsents);
    let mut forgetting = std::pin::pin!(world.consents.delete_expired());
    assert!(futures_util::poll!(forgetting.as_mut()).is_pending());
    world.clock.advance(CLEANUP_INTERVAL);
    assert!(futures_util::poll!(forgetting.as_mut()).is_pending());
    let before = world.clock.now() - EXPIRED_RETENTION;
    assert_eq!(*world.memory.forgotten_before.lock().unwrap(), [before]);
}
