//! A SuperOffice, stores and randomness that do as they are told.

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

use super::{Asking, CallRate, WebApi};
use crate::{
    broker::{
        Application, Applications, Counters, Directory, History, Statuses, TicketRules,
        TicketStores, Tickets,
    },
    domain::{
        AllowedApiHosts, ApplicationId, AssociateId, AssociateRecord, ContextIdentifier,
        CredentialId, Environment, Eyes, Principal, Redirects, Role, SystemTicket, Tenant,
        TenantName, TenantState, TenantStatus, UserGroup, WebApiUri,
    },
    ports::{
        ApiBody, ApiCall, ApiCredential, ApiRequest, ApiResponse, AssociatePage,
        AuthorizationRequest, Clock as _, CodeExchange, Deletion, ExchangeError, IssuedTicket,
        ManualClock, OAuth, PeopleCalls, Probe, Random, Refreshed, SendError, SignedIn, StoreError,
        StoredToken, SystemUserLogin, TenantStatusSource, TenantStore, TicketProbe, TicketStore,
        UpstreamError, Verdict, WebApiHost,
    },
};

/// What is answered to a call.
#[derive(Debug, Clone)]
pub(in crate::broker) enum Told {
    Status(u16),
    Throttle(Duration),
    Body(&'static str),
    /// Begins and breaks off.
    CutBody,
    Fail(SendError),
    Hang,
}

/// A call that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct Arrived {
    pub(in crate::broker) at: Duration,
    pub(in crate::broker) uri: String,
    pub(in crate::broker) ticket: String,
    pub(in crate::broker) method: Method,
}

/// SuperOffice and our stores, for one tenant.
pub(in crate::broker) struct Upstream {
    pub(in crate::broker) clock: Arc<ManualClock>,
    /// Answers in order; then all is well.
    pub(in crate::broker) script: Mutex<VecDeque<Told>>,
    pub(in crate::broker) arrived: Mutex<Vec<Arrived>>,
    pub(in crate::broker) dead: Mutex<BTreeSet<String>>,
    pub(in crate::broker) disabled: Mutex<bool>,
    /// Where the tenant is; elsewhere calls are misdirected.
    pub(in crate::broker) host: Mutex<&'static str>,
    pub(in crate::broker) issued: AtomicU64,
    pub(in crate::broker) probes: AtomicU64,
    pub(in crate::broker) status_reads: AtomicU64,
    pub(in crate::broker) kept: Mutex<Option<SystemTicket>>,
    pub(in crate::broker) extended: AtomicU64,
    drawn: AtomicU64,
}

pub(in crate::broker) struct World {
    pub(in crate::broker) upstream: Arc<Upstream>,
    pub(in crate::broker) clock: Arc<ManualClock>,
    pub(in crate::broker) web_api: WebApi,
    pub(in crate::broker) counters: Arc<Counters>,
    pub(in crate::broker) directory: Arc<Directory>,
    pub(in crate::broker) tasks: TaskTracker,
}

pub(in crate::broker) fn tenant() -> TenantName {
    "applications/crm-sync/tenants/Cust1".parse().unwrap()
}

pub(in crate::broker) fn asking() -> Asking {
    Asking { tenant: tenant(), eyes: Eyes::SystemUser, account: "ada".into(), deadline: None }
}

impl World {
    /// Ten calls a second, and as many at once.
    pub(in crate::broker) fn new() -> Self {
        Self::with(Arc::new(Nobody))
    }

    /// The same, with these questions about people.
    pub(in crate::broker) fn with(people: Arc<dyn PeopleCalls>) -> Self {
        let clock = Arc::new(ManualClock::new("2026-11-22T09:00:00Z".parse().unwrap()));
        let upstream = Arc::new(Upstream {
            clock: clock.clone(),
            script: Mutex::default(),
            arrived: Mutex::default(),
            dead: Mutex::default(),
            disabled: Mutex::default(),
            host: Mutex::new("one"),
            issued: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            status_reads: AtomicU64::new(0),
            kept: Mutex::default(),
            extended: AtomicU64::new(0),
            drawn: AtomicU64::new(0),
        });
        let ten = NonZeroU32::new(10).unwrap();
        let application = Application {
            id: tenant().application,
            environment: Environment::Sod,
            client_id: String::new(),
            key_ids: Vec::new(),
            allow_reveal_application_token: false,
            redirects: Redirects::default(),
            login: upstream.clone(),
            tenant_status: upstream.clone(),
            probe: upstream.clone(),
            oauth: Arc::new(Nobody),
            web_api: upstream.clone(),
            people,
            call_rate: CallRate { per_second: ten, burst: ten },
            history: History::default(),
        };
        let tasks = TaskTracker::new();
        let counters = Arc::new(Counters::default());
        let applications = Arc::new(Applications::new([application]));
        let directory = Arc::new(Directory::new(upstream.clone(), tasks.clone()));
        let statuses = Arc::new(Statuses::new(
            applications.clone(),
            directory.clone(),
            upstream.clone(),
            clock.clone(),
            upstream.clone(),
            counters.clone(),
            tasks.clone(),
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
            clock.clone(),
            upstream.clone(),
            counters.clone(),
            rules,
            tasks.clone(),
        ));
        let web_api = WebApi::new(
            applications,
            statuses,
            tickets,
            clock.clone(),
            clock.clone(),
            upstream.clone(),
            counters.clone(),
        );
        Self { upstream, clock, web_api, counters, directory, tasks }
    }

    /// A world in which the next calls are answered so.
    pub(in crate::broker) fn told(script: impl IntoIterator<Item = Told>) -> Self {
        let world = Self::new();
        world.upstream.script.lock().unwrap().extend(script);
        world
    }

    pub(in crate::broker) fn asking_within(&self, patience: Duration) -> Asking {
        Asking { deadline: Some(self.web_api.moment_in(patience)), ..asking() }
    }

    /// Lets time pass until it is done.
    pub(in crate::broker) async fn in_time<T>(&self, work: impl Future<Output = T>) -> T {
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
        panic!("never done");
    }

    /// Which tickets the calls came with, in order.
    pub(in crate::broker) fn tickets(&self) -> Vec<String> {
        self.arrived().into_iter().map(|arrived| arrived.ticket).collect()
    }

    pub(in crate::broker) fn arrived(&self) -> Vec<Arrived> {
        self.upstream.arrived.lock().unwrap().clone()
    }

    /// Waits for what was left to the background.
    pub(in crate::broker) async fn settled(&self) {
        while !self.tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

/// A question whose answer is its length.
pub(in crate::broker) fn question() -> ApiCall<usize> {
    ApiCall {
        what: "question",
        method: Method::GET,
        path_and_query: "/v1/question".to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        max_body_bytes: 100,
        reader: Box::new(|body| match body {
            b"nonsense" => Err(UpstreamError::InvalidResponse("nonsense".to_owned())),
            body => Ok(body.len()),
        }),
    }
}

pub(in crate::broker) fn request(method: Method, body: ApiBody) -> ApiRequest {
    let path_and_query = "/v1/Contact/5".to_owned();
    ApiRequest { method, path_and_query, headers: HeaderMap::new(), body }
}

#[async_trait]
impl WebApiHost for Upstream {
    async fn send(
        &self,
        uri: &WebApiUri,
        credential: &ApiCredential,
        request: ApiRequest,
    ) -> Result<ApiResponse, SendError> {
        let ApiCredential::SystemUser { ticket } = credential else { panic!("no person") };
        let ticket = ticket.expose_secret().to_owned();
        self.arrived.lock().unwrap().push(Arrived {
            at: self.clock.monotonic(),
            uri: uri.to_string(),
            ticket: ticket.clone(),
            method: request.method,
        });
        let told = if !uri.as_str().contains(*self.host.lock().unwrap()) {
            Some(Told::Status(421))
        } else if self.dead.lock().unwrap().contains(&ticket) {
            Some(Told::Status(401))
        } else {
            self.script.lock().unwrap().pop_front()
        };
        match told.unwrap_or(Told::Body("fine")) {
            Told::Status(status) => Ok(response(status, Vec::new())),
            Told::Throttle(retry_after) => {
                let verdict = Verdict::Throttled { retry_after };
                Ok(ApiResponse { verdict, ..response(429, Vec::new()) })
            }
            Told::Body(body) => Ok(response(200, vec![Ok(Bytes::from_static(body.as_bytes()))])),
            Told::CutBody => {
                let broken = SendError::Broken("as told".to_owned());
                Ok(response(200, vec![Ok(Bytes::from_static(b"fi")), Err(broken)]))
            }
            Told::Fail(error) => Err(error),
            Told::Hang => std::future::pending().await,
        }
    }
}

fn response(status: u16, body: Vec<Result<Bytes, SendError>>) -> ApiResponse {
    let verdict = match status {
        401 => Verdict::CredentialRefused,
        403 => Verdict::Forbidden,
        421 => Verdict::Misdirected,
        500.. => Verdict::Failed,
        status => Verdict::Done { success: status < 300 },
    };
    let status = StatusCode::from_u16(status).unwrap();
    ApiResponse { verdict, status, headers: HeaderMap::new(), body: stream::iter(body).boxed() }
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
}

#[async_trait]
impl TenantStatusSource for Upstream {
    async fn read(&self, tenant: ContextIdentifier) -> Result<TenantStatus, UpstreamError> {
        self.status_reads.fetch_add(1, Ordering::SeqCst);
        let allowed = AllowedApiHosts::new(vec!["superoffice.com".to_owned()]).unwrap();
        let api = format!("https://{}.superoffice.com/{tenant}/api", self.host.lock().unwrap());
        let now = self.clock.now();
        Ok(TenantStatus {
            state: TenantState::Running,
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
        _: &WebApiUri,
        ticket: &SecretString,
    ) -> Result<Probe, UpstreamError> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        let dead = self.dead.lock().unwrap().contains(ticket.expose_secret());
        Ok(if dead { Probe::Dead } else { Probe::Alive })
    }
}

impl Random for Upstream {
    fn bytes(&self) -> [u8; 16] {
        u128::from(self.drawn.fetch_add(1, Ordering::SeqCst)).to_be_bytes()
    }
}

#[async_trait]
impl TicketStore for Upstream {
    async fn get(&self, _: &TenantName) -> Result<Option<SystemTicket>, StoreError> {
        Ok(self.kept.lock().unwrap().clone())
    }

    async fn put(&self, _: &TenantName, ticket: &SystemTicket) -> Result<bool, StoreError> {
        *self.kept.lock().unwrap() = Some(ticket.clone());
        Ok(true)
    }

    async fn extend(
        &self,
        _: &TenantName,
        _: &CredentialId,
        expire_time: Timestamp,
    ) -> Result<(), StoreError> {
        self.extended.fetch_add(1, Ordering::SeqCst);
        if let Some(kept) = &mut *self.kept.lock().unwrap() {
            kept.expire_time = expire_time;
        }
        Ok(())
    }

    async fn delete(&self, _: &TenantName, _: &CredentialId) -> Result<(), StoreError> {
        *self.kept.lock().unwrap() = None;
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
            last_status: None,
        }))
    }

    async fn system_user_token(&self, _: &TenantName) -> Result<Option<StoredToken>, StoreError> {
        Ok(Some(StoredToken { token: "token".into(), version: 1 }))
    }

    async fn put_status(&self, _: &TenantName, _: &TenantStatus) -> Result<(), StoreError> {
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
        panic!("not asked here")
    }

    async fn list(
        &self,
        _: Option<&ApplicationId>,
        _: Option<&TenantName>,
        _: u32,
    ) -> Result<Vec<Tenant>, StoreError> {
        panic!("not asked here")
    }

    async fn applications_of(
        &self,
        _: ContextIdentifier,
    ) -> Result<Vec<ApplicationId>, StoreError> {
        panic!("not asked here")
    }

    async fn set_disabled(
        &self,
        _: &TenantName,
        _: bool,
        _: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        panic!("not asked here")
    }

    async fn set_system_user_token(
        &self,
        _: &TenantName,
        _: &SecretString,
        _: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        panic!("not asked here")
    }

    async fn delete(
        &self,
        _: &TenantName,
        _: Option<i64>,
        _: bool,
    ) -> Result<Deletion, StoreError> {
        panic!("not asked here")
    }
}

/// Is not asked here.
struct Nobody;

impl PeopleCalls for Nobody {
    fn associates(&self, _: Option<AssociateId>) -> ApiCall<AssociatePage> {
        panic!("not asked here")
    }

    fn associate(&self, _: AssociateId) -> ApiCall<Option<AssociateRecord>> {
        panic!("not asked here")
    }

    fn associates_by_id(&self, _: &[AssociateId]) -> ApiCall<Vec<AssociateRecord>> {
        panic!("not asked here")
    }

    fn user_groups(&self) -> ApiCall<Vec<UserGroup>> {
        panic!("not asked here")
    }

    fn roles(&self) -> ApiCall<Vec<Role>> {
        panic!("not asked here")
    }

    fn current_principal(&self, _: ContextIdentifier) -> ApiCall<Principal> {
        panic!("not asked here")
    }
}

#[async_trait]
impl OAuth for Nobody {
    fn authorization_uri(&self, _: &AuthorizationRequest<'_>) -> SecretString {
        panic!("not asked here")
    }

    async fn exchange_code(&self, _: &CodeExchange<'_>) -> Result<SignedIn, ExchangeError> {
        panic!("not asked here")
    }

    async fn refresh(&self, _: &SecretString) -> Result<Refreshed, ExchangeError> {
        panic!("not asked here")
    }

    async fn revoke(&self, _: &SecretString) -> Result<(), ExchangeError> {
        panic!("not asked here")
    }
}
