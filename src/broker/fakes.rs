//! Fakes for tests: a scripted SuperOffice, in-memory stores and predictable randomness.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU32,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, poll, stream};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::task::TaskTracker;

use super::{
    Application, Applications, CallRate, Counters, GrantStores, History, Impersonation, Runtime,
    Statuses, TenantDirectory, TicketRules, TicketStores, Tickets, WebApi, WebApiCallContext,
    impersonation::fakes::{FakeOAuth, GrantTable},
};
use crate::{
    domain::{
        Actor, AllowedApiHosts, ApplicationId, AssociateId, AssociateRecord, AssociateType,
        ContextIdentifier, CredentialId, Environment, Principal, RedirectUris, Role, SystemTicket,
        Tenant, TenantName, TenantState, TenantStatus, UserGroup, WebApiUri,
    },
    ports::{
        ApiBody, ApiCredential, ApiQuery, ApiRequest, ApiResponse, AssociatePage, AssociateQueries,
        CallOutcome, Clock as _, Deletion, IssuedTicket, ManualClock, NotificationVerifier, OAuth,
        ParsedRows, ProbeResult, Random, SendError, SignedNotification, StoreError, StoredToken,
        SystemUserLogin, TenantStatusSource, TenantStore, TicketProbe, TicketStore, UpstreamError,
        WebApiHost,
    },
};

/// The scripted answer to a call.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Status(u16),
    Throttle(Duration),
    Body(&'static str),
    /// A body that breaks off.
    CutBody,
    Fail(SendError),
    Hang,
}

/// A call that the fake received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReceivedCall {
    pub(super) at: Duration,
    pub(super) uri: String,
    pub(super) ticket: String,
    pub(super) method: Method,
    pub(super) path_and_query: String,
    pub(super) headers: HeaderMap,
}

/// SuperOffice and our stores, for one tenant.
pub(super) struct Upstream {
    pub(super) clock: Arc<ManualClock>,
    /// The next answers, in order; after them, calls succeed.
    pub(super) script: Mutex<VecDeque<Reply>>,
    pub(super) received: Mutex<Vec<ReceivedCall>>,
    pub(super) dead_tickets: Mutex<BTreeSet<String>>,
    pub(super) disabled: Mutex<bool>,
    pub(super) host: Mutex<&'static str>,
    /// A dead host, and the result of calls to it.
    pub(super) dead_host: Mutex<Option<(&'static str, Reply)>>,
    /// Whether reads of the tenant status fail.
    pub(super) login_down: Mutex<bool>,
    /// The stored status of the tenant.
    pub(super) last_status: Mutex<Option<TenantStatus>>,
    pub(super) state: Mutex<TenantState>,
    /// The associate id that the credentials belong to.
    pub(super) principal: Mutex<i32>,
    pub(super) issued: AtomicU64,
    pub(super) probes: AtomicU64,
    pub(super) status_reads: AtomicU64,
    pub(super) stored_ticket: Mutex<Option<SystemTicket>>,
    pub(super) extended: AtomicU64,
    random_draws: AtomicU64,
}

/// The associate id of the system user.
pub(super) const SYSTEM_USER: i32 = 9;

pub(super) struct World {
    pub(super) upstream: Arc<Upstream>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) web_api: Arc<WebApi>,
    pub(super) counters: Arc<Counters>,
    pub(super) directory: Arc<TenantDirectory>,
    pub(super) tasks: TaskTracker,
    runtime: Runtime,
    pub(super) applications: Arc<Applications>,
    pub(super) grants: Arc<GrantTable>,
    pub(super) provider: Arc<FakeOAuth>,
    pub(super) impersonation: Arc<Impersonation>,
    pub(super) statuses: Arc<Statuses>,
}

pub(super) fn tenant() -> TenantName {
    "applications/crm-sync/tenants/Cust1".parse().unwrap()
}

pub(super) fn call_context() -> WebApiCallContext {
    WebApiCallContext {
        tenant: tenant(),
        actor: Actor::SystemUser,
        queue_key: "ada".into(),
        deadline: None,
        person: None,
    }
}

impl Upstream {
    pub(super) fn new(clock: Arc<ManualClock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            script: Mutex::default(),
            received: Mutex::default(),
            dead_tickets: Mutex::default(),
            disabled: Mutex::default(),
            host: Mutex::new("one"),
            dead_host: Mutex::default(),
            login_down: Mutex::default(),
            last_status: Mutex::default(),
            state: Mutex::new(TenantState::Running),
            principal: Mutex::new(5),
            issued: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            status_reads: AtomicU64::new(0),
            stored_ticket: Mutex::default(),
            extended: AtomicU64::new(0),
            random_draws: AtomicU64::new(0),
        })
    }

    /// Returns the application `crm-sync` with this fake as its adapters and `oauth` for sign-ins.
    pub(super) fn application(
        self: &Arc<Self>,
        redirects: RedirectUris,
        oauth: Arc<dyn OAuth>,
    ) -> Application {
        let ten = NonZeroU32::new(10).unwrap();
        Application {
            id: tenant().application,
            environment: Environment::Sod,
            client_id: String::new(),
            key_ids: Vec::new(),
            allow_reveal_application_token: false,
            redirects,
            login: self.clone(),
            tenant_status: self.clone(),
            probe: self.clone(),
            oauth,
            notifications: self.clone(),
            web_api: self.clone(),
            people: Arc::new(People(self.clone())),
            call_rate: CallRate { per_second: ten, burst: ten },
            history: History::default(),
        }
    }
}

impl World {
    /// Creates a gateway with a rate of ten calls per second and a burst of ten.
    pub(super) fn new() -> Self {
        let clock = Arc::new(ManualClock::new("2026-11-22T09:00:00Z".parse().unwrap()));
        let upstream = Upstream::new(clock.clone());
        let grants = Arc::new(GrantTable::default());
        let provider = Arc::new(FakeOAuth::new(grants.log.clone()));
        let application = upstream.application(RedirectUris::default(), provider.clone());
        let runtime = runtime(&clock, &upstream);
        let applications = Arc::new(Applications::new([application]));
        let directory = Arc::new(TenantDirectory::new(upstream.clone(), &runtime));
        let statuses = Arc::new(Statuses::new(
            applications.clone(),
            directory.clone(),
            upstream.clone(),
            Duration::from_hours(24),
            &runtime,
        ));
        let rules = TicketRules {
            max_age: Duration::from_hours(12),
            renew_if_used_within: Duration::from_hours(2),
        };
        let tickets = Arc::new(Tickets::new(
            applications.clone(),
            directory.clone(),
            statuses.clone(),
            TicketStores { tenants: upstream.clone(), tickets: upstream.clone() },
            rules,
            &runtime,
        ));
        let impersonation = impersonation(&applications, &directory, &statuses, &grants, &runtime);
        let web_api = Arc::new(WebApi::new(
            applications.clone(),
            statuses.clone(),
            tickets,
            impersonation.clone(),
            &runtime,
        ));
        Self {
            upstream,
            clock,
            web_api,
            counters: runtime.counters.clone(),
            directory,
            tasks: runtime.tasks.clone(),
            runtime,
            applications,
            grants,
            provider,
            impersonation,
            statuses,
        }
    }

    /// Simulates a restart: drops everything that is only in memory.
    pub(super) fn restarted(mut self) -> Self {
        self.impersonation = impersonation(
            &self.applications,
            &self.directory,
            &self.statuses,
            &self.grants,
            &self.runtime,
        );
        self
    }

    /// Creates a gateway whose next calls get these answers.
    pub(super) fn with_script(script: impl IntoIterator<Item = Reply>) -> Self {
        let world = Self::new();
        world.upstream.script.lock().unwrap().extend(script);
        world
    }

    pub(super) fn asking_within(&self, patience: Duration) -> WebApiCallContext {
        WebApiCallContext { deadline: Some(self.web_api.deadline_in(patience)), ..call_context() }
    }

    /// Advances the clock until `work` is done.
    pub(super) async fn finish<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        for _ in 0..100_000 {
            for _ in 0..20 {
                if let Poll::Ready(done) = poll!(&mut work) {
                    return done;
                }
                tokio::task::yield_now().await;
            }
            self.clock.advance(Duration::from_millis(10));
        }
        panic!("the work did not finish in time");
    }

    /// Returns the tickets of the received calls, in order.
    pub(super) fn tickets(&self) -> Vec<String> {
        self.received().into_iter().map(|call| call.ticket).collect()
    }

    pub(super) fn received(&self) -> Vec<ReceivedCall> {
        self.upstream.received.lock().unwrap().clone()
    }

    /// Waits until all background tasks have ended.
    pub(super) async fn wait_idle(&self) {
        while !self.tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

/// Returns a runtime whose clock and timer are `clock`, and whose randomness is that of `upstream`.
pub(super) fn runtime(clock: &Arc<ManualClock>, upstream: &Arc<Upstream>) -> Runtime {
    Runtime::new(clock.clone(), clock.clone(), upstream.clone())
}

fn impersonation(
    applications: &Arc<Applications>,
    directory: &Arc<TenantDirectory>,
    statuses: &Arc<Statuses>,
    grants: &Arc<GrantTable>,
    runtime: &Runtime,
) -> Arc<Impersonation> {
    let kind_of = Box::new(|_: &TenantName, id: AssociateId| {
        (id.get() == SYSTEM_USER).then_some(AssociateType::System)
    });
    Arc::new(Impersonation::new(
        applications.clone(),
        directory.clone(),
        statuses.clone(),
        GrantStores { grants: grants.clone(), leases: grants.clone() },
        Duration::from_hours(2),
        kind_of,
        runtime,
    ))
}

/// A safe call whose result is the length of the answer's body.
pub(super) fn safe_call() -> ApiQuery<usize> {
    ApiQuery {
        what: "question",
        method: Method::GET,
        path_and_query: "/v1/question".to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        max_body_bytes: 100,
        parser: Box::new(|body| match body {
            b"nonsense" => Err(UpstreamError::InvalidResponse("nonsense".to_owned())),
            body => Ok(body.len()),
        }),
    }
}

pub(super) fn request(method: Method, body: ApiBody) -> ApiRequest {
    let path_and_query = "/v1/Contact/5".to_owned();
    ApiRequest {
        method,
        path_and_query,
        headers: HeaderMap::new(),
        body,
        response_timeout: Duration::from_secs(30),
    }
}

#[async_trait]
impl WebApiHost for Upstream {
    async fn send(
        &self,
        uri: &WebApiUri,
        credential: &ApiCredential,
        request: ApiRequest,
    ) -> Result<ApiResponse, SendError> {
        let (ApiCredential::SystemUser { ticket: secret }
        | ApiCredential::Person { access_token: secret }) = credential;
        let ticket = secret.expose_secret().to_owned();
        self.received.lock().unwrap().push(ReceivedCall {
            at: self.clock.monotonic(),
            uri: uri.to_string(),
            ticket: ticket.clone(),
            method: request.method,
            path_and_query: request.path_and_query,
            headers: request.headers,
        });
        let dead_host =
            self.dead_host.lock().unwrap().clone().filter(|(host, _)| uri.as_str().contains(host));
        let answer = if let Some((_, told)) = dead_host {
            Some(told)
        } else if !uri.as_str().contains(*self.host.lock().unwrap()) {
            Some(Reply::Status(421))
        } else if self.dead_tickets.lock().unwrap().contains(&ticket) {
            Some(Reply::Status(401))
        } else {
            self.script.lock().unwrap().pop_front()
        };
        match answer.unwrap_or(Reply::Body("fine")) {
            Reply::Status(status) => Ok(response(status, Vec::new())),
            Reply::Throttle(retry_after) => {
                let outcome = CallOutcome::Throttled { retry_after };
                Ok(ApiResponse { outcome, ..response(429, Vec::new()) })
            }
            Reply::Body(body) => Ok(response(200, vec![Ok(Bytes::from_static(body.as_bytes()))])),
            Reply::CutBody => {
                let broken = SendError::Interrupted("scripted failure".to_owned());
                Ok(response(200, vec![Ok(Bytes::from_static(b"fi")), Err(broken)]))
            }
            Reply::Fail(error) => Err(error),
            Reply::Hang => std::future::pending().await,
        }
    }

    fn credential_headers(&self, credential: &ApiCredential) -> Result<HeaderMap, SendError> {
        let (ApiCredential::SystemUser { ticket: secret }
        | ApiCredential::Person { access_token: secret }) = credential;
        let value = secret.expose_secret().parse().unwrap();
        Ok(HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]))
    }
}

fn response(status: u16, body: Vec<Result<Bytes, SendError>>) -> ApiResponse {
    let outcome = match status {
        401 => CallOutcome::CredentialRefused,
        403 => CallOutcome::Forbidden,
        421 => CallOutcome::Misdirected,
        500.. => CallOutcome::Failed,
        status => CallOutcome::Done { success: status < 300 },
    };
    let status = StatusCode::from_u16(status).unwrap();
    ApiResponse { outcome, status, headers: HeaderMap::new(), body: stream::iter(body).boxed() }
}

#[async_trait]
impl SystemUserLogin for Upstream {
    async fn authenticate(
        &self,
        _: ContextIdentifier,
        _: &SecretString,
    ) -> Result<IssuedTicket, UpstreamError> {
        let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(IssuedTicket { value: format!("7T:{number}").into(), company_name: String::new() })
    }

    fn application_token(&self) -> SecretString {
        SecretString::default()
    }

    fn credential_changes(&self) -> u64 {
        0
    }

    fn has_clock_skew(&self) -> bool {
        false
    }
}

#[async_trait]
impl TenantStatusSource for Upstream {
    async fn read(&self, tenant: ContextIdentifier) -> Result<TenantStatus, UpstreamError> {
        self.status_reads.fetch_add(1, Ordering::SeqCst);
        if *self.login_down.lock().unwrap() {
            return Err(UpstreamError::Unavailable("scripted failure".to_owned()));
        }
        let allowed = AllowedApiHosts::new(vec!["superoffice.com".to_owned()]).unwrap();
        let api = format!("https://{}.superoffice.com/{tenant}/api", self.host.lock().unwrap());
        let now = self.clock.now();
        Ok(TenantStatus {
            state: *self.state.lock().unwrap(),
            valid_until: now + Duration::from_hours(1),
            web_api_uri: Some(WebApiUri::check_api(&api, tenant, &allowed).unwrap()),
            version: String::new(),
            read_time: now,
        })
    }
}

#[async_trait]
impl TicketProbe for Upstream {
    async fn probe(
        &self,
        _: ContextIdentifier,
        uri: &WebApiUri,
        ticket: &SecretString,
    ) -> Result<ProbeResult, UpstreamError> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        if self
            .dead_host
            .lock()
            .unwrap()
            .as_ref()
            .is_some_and(|(host, _)| uri.as_str().contains(host))
        {
            return Err(UpstreamError::HostUnavailable("scripted failure".to_owned()));
        }
        let dead = self.dead_tickets.lock().unwrap().contains(ticket.expose_secret());
        Ok(if dead { ProbeResult::Dead } else { ProbeResult::Alive })
    }
}

/// Accepts a tenant id as a token signed for that tenant, and `unnamed` as a token signed without a tenant.
#[async_trait]
impl NotificationVerifier for Upstream {
    async fn verify(&self, token: &SecretString) -> Result<SignedNotification, UpstreamError> {
        let tenant = match token.expose_secret() {
            "unnamed" => None,
            "down" => return Err(UpstreamError::Unavailable("scripted failure".to_owned())),
            token => {
                let named = token.parse();
                Some(named.map_err(|_| UpstreamError::InvalidResponse("forged".to_owned()))?)
            }
        };
        Ok(SignedNotification { tenant, id: None, expire_time: Timestamp::MAX })
    }
}

impl Random for Upstream {
    fn bytes(&self) -> [u8; 16] {
        u128::from(self.random_draws.fetch_add(1, Ordering::SeqCst)).to_be_bytes()
    }
}

#[async_trait]
impl TicketStore for Upstream {
    async fn get(&self, _: &TenantName) -> Result<Option<SystemTicket>, StoreError> {
        Ok(self.stored_ticket.lock().unwrap().clone())
    }

    async fn put(&self, _: &TenantName, ticket: &SystemTicket) -> Result<bool, StoreError> {
        *self.stored_ticket.lock().unwrap() = Some(ticket.clone());
        Ok(true)
    }

    async fn extend(
        &self,
        _: &TenantName,
        _: &CredentialId,
        expire_time: Timestamp,
    ) -> Result<(), StoreError> {
        self.extended.fetch_add(1, Ordering::SeqCst);
        if let Some(ticket) = &mut *self.stored_ticket.lock().unwrap() {
            ticket.expire_time = expire_time;
        }
        Ok(())
    }

    async fn delete(&self, _: &TenantName, _: &CredentialId) -> Result<(), StoreError> {
        *self.stored_ticket.lock().unwrap() = None;
        Ok(())
    }
}

#[async_trait]
impl TenantStore for Upstream {
    async fn get(&self, name: &TenantName) -> Result<Option<Tenant>, StoreError> {
        let now = Timestamp::UNIX_EPOCH;
        Ok(Some(Tenant {
            name: name.clone(),
            disabled: *self.disabled.lock().unwrap(),
            labels: BTreeMap::new(),
            company_name: String::new(),
            token_version: 1,
            version: 1,
            create_time: now,
            update_time: now,
            last_status: self.last_status.lock().unwrap().clone().map(Arc::new),
        }))
    }

    async fn system_user_token(&self, _: &TenantName) -> Result<Option<StoredToken>, StoreError> {
        Ok(Some(StoredToken { token: "token".into(), version: 1 }))
    }

    async fn put_status(&self, _: &TenantName, status: &TenantStatus) -> Result<(), StoreError> {
        *self.last_status.lock().unwrap() = Some(status.clone());
        Ok(())
    }

    async fn put_company_name(&self, _: &TenantName, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn create(
        &self,
        _: &TenantName,
        _: &BTreeMap<String, String>,
        _: Timestamp,
    ) -> Result<Tenant, StoreError> {
        panic!("not used by these tests")
    }

    async fn list(
        &self,
        _: Option<&ApplicationId>,
        _: Option<&TenantName>,
        _: u32,
    ) -> Result<Vec<Tenant>, StoreError> {
        panic!("not used by these tests")
    }

    async fn find_stopped(&self, _: &[TenantName]) -> Result<Vec<TenantName>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn applications_of(
        &self,
        _: ContextIdentifier,
    ) -> Result<Vec<ApplicationId>, StoreError> {
        panic!("not used by these tests")
    }

    async fn set_disabled(
        &self,
        _: &TenantName,
        _: bool,
        _: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        panic!("not used by these tests")
    }

    async fn set_system_user_token(
        &self,
        _: &TenantName,
        _: &SecretString,
        _: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        panic!("not used by these tests")
    }

    async fn delete(
        &self,
        _: &TenantName,
        _: Option<i64>,
        _: bool,
    ) -> Result<Deletion, StoreError> {
        panic!("not used by these tests")
    }
}

/// Supports one call only.
struct People(Arc<Upstream>);

impl AssociateQueries for People {
    fn associates(&self, _: Option<AssociateId>) -> ApiQuery<AssociatePage> {
        panic!("not used by these tests")
    }

    fn associate(&self, _: AssociateId) -> ApiQuery<Option<AssociateRecord>> {
        panic!("not used by these tests")
    }

    fn associates_by_id(&self, _: &[AssociateId]) -> ApiQuery<Vec<AssociateRecord>> {
        panic!("not used by these tests")
    }

    fn user_groups(&self) -> ApiQuery<ParsedRows<UserGroup>> {
        panic!("not used by these tests")
    }

    fn roles(&self) -> ApiQuery<ParsedRows<Role>> {
        panic!("not used by these tests")
    }

    fn current_principal(&self, tenant: ContextIdentifier) -> ApiQuery<Principal> {
        let id = AssociateId::new(*self.0.principal.lock().unwrap()).unwrap();
        ApiQuery {
            what: "principal",
            method: Method::GET,
            path_and_query: "/v1/User/currentPrincipal".to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            max_body_bytes: 100,
            parser: Box::new(move |_| Ok(principal(tenant, id))),
        }
    }
}

fn principal(tenant: ContextIdentifier, id: AssociateId) -> Principal {
    Principal {
        tenant,
        kind: AssociateType::Internal,
        id,
        login: String::new(),
        user_name: String::new(),
        full_name: String::new(),
        email: String::new(),
        person_id: 0,
        contact_id: 0,
        primary_group_id: 0,
        secondary_group_ids: Vec::new(),
        role_id: 0,
        role_name: String::new(),
        role_type: None,
        function_rights: Vec::new(),
        licenses: Vec::new(),
        warnings: Vec::new(),
    }
}
