//! Tests of `envoy.service.auth.v3.Authorization`: trusted proxies, decisions, and returned credentials.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;
use superoffice_sandbox::{Endpoint, TenantState};
use tenant_gateway::{
    domain::Decision,
    grpc::envoy_pb::{
        AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
        attribute_context::{HttpRequest, Peer, Request},
        authorization_client::AuthorizationClient,
        check_response::HttpResponse,
        core::{Address, HeaderMap, HeaderValue, SocketAddress, address},
    },
};
use tonic::{Code, Status};

use crate::support::{
    Authority, CLIENT_SECRET, Options, World, assert_status,
    callers::{AuthenticatedGateway, CALLERS, ISSUER, TestIssuer, with_bearer_token},
    eventually_so, name,
    trail::StoredTrail,
};

const PEER: &str = "spiffe://example.org/ns/shop/sa/sync";

/// `proxy` may check for others and get the client secret, `blind` may only check; `sync` and the peer may read
/// contacts.
const POLICY: &str = r#"
permit (principal == Caller::"all", action, resource);
permit (principal == Caller::"proxy", action in [Action::"checkExternally", Action::"revealApplicationToken"], resource);
permit (principal == Caller::"blind", action == Action::"checkExternally", resource);
permit (principal == Caller::"sync", action in Action::"callWebApi", resource)
when { context.method == "GET" && context.path like "/api/v1/contact*" };
permit (principal == Caller::"spiffe://example.org/ns/shop/sa/sync", action == Action::"callWebApiAsSystemUser", resource)
when { context.path like "/api/v1/contact*" };
"#;

const PATH: &str = "/crm-sync/Cust1/api/v1/Contact/12?$select=a";

/// A gateway that Envoy may call, with an enrolled tenant.
struct EnvoyGateway {
    guarded: AuthenticatedGateway,
    api_host: String,
}

fn options() -> Options {
    Options {
        extra_config: "[envoy]\nenabled = true\n[callers.mtls]\nenabled = true\n[grpc.tls]\n\
            certificate_file = \"tls.crt\"\nprivate_key_file = \"tls.key\"\nclient_ca_file = \"ca.crt\""
            .to_owned(),
        extra_application: "allow_reveal_application_token = true".to_owned(),
        ..Default::default()
    }
}

/// The request that a proxy reports.
#[derive(Default, Clone)]
struct ReportedRequest {
    caller: Option<&'static str>,
    peer: Peer,
    headers: Vec<(&'static str, String)>,
    path: Option<&'static str>,
    method: Option<&'static str>,
    api_host: Option<&'static str>,
}

impl ReportedRequest {
    /// A request with the token of this caller.
    fn of(caller: &'static str) -> Self {
        Self { caller: Some(caller), ..Self::default() }
    }

    fn by_peer(principal: &str) -> Self {
        Self {
            peer: Peer { principal: principal.to_owned(), ..Peer::default() },
            ..Self::default()
        }
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl EnvoyGateway {
    async fn new() -> Self {
        Self::with(options()).await
    }

    async fn with(options: Options) -> Self {
        let (callers, policy) = (Some(CALLERS.to_owned()), Some(POLICY.to_owned()));
        let mut world = World::with_files(Options { callers, policy, ..options }).await;
        let (issuer, authority) = (TestIssuer::new(ISSUER, "one"), Authority::new());
        let folder = world.folder.path();
        authority.issue().write(folder);
        std::fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
        std::fs::write(folder.join("jwks.json"), issuer.jwks()).unwrap();
        world.start().await.unwrap();
        let address = world.gateway().grpc_address;
        let channel = authority.client().connect(address).await.unwrap().channel;
        let guarded = AuthenticatedGateway { world, issuer, channel };
        guarded.enroll("all", "Cust1").await;
        let api_host = guarded.world.sandbox.api_uri(superoffice_sandbox::ApiHost::A);
        let api_host = api_host.split_once("://").unwrap().1.to_owned();
        Self { guarded, api_host }
    }

    fn request(&self, told: ReportedRequest) -> CheckRequest {
        let ReportedRequest { caller, mut peer, headers, path, method, api_host } = told;
        let mut map: HashMap<_, _> =
            headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Some(caller) = caller {
            let token = format!("Bearer {}", self.guarded.token(caller));
            map.insert("authorization".to_owned(), token);
        }
        map.insert(":authority".to_owned(), "proxy".to_owned());
        let socket = SocketAddress { address: "10.1.2.3".to_owned(), ..Default::default() };
        let socket = address::Address::SocketAddress(socket);
        peer.address = Some(Address { address: Some(socket) });
        let http = HttpRequest {
            method: method.unwrap_or("GET").to_owned(),
            path: path.unwrap_or(PATH).to_owned(),
            headers: map,
            ..Default::default()
        };
        let api_host = api_host.map_or_else(|| self.api_host.clone(), str::to_owned);
        let attributes = AttributeContext {
            source: Some(peer),
            request: Some(Request { http: Some(http), ..Default::default() }),
            context_extensions: HashMap::from([("api_host".to_owned(), api_host)]),
            ..Default::default()
        };
        CheckRequest { attributes: Some(attributes) }
    }

    async fn ask(&self, proxy: &str, request: CheckRequest) -> Result<CheckResponse, Status> {
        let mut client = AuthorizationClient::new(self.guarded.channel.clone());
        let request = with_bearer_token(&self.guarded.token(proxy), request);
        Ok(client.check(request).await?.into_inner())
    }

    async fn check(&self, proxy: &str, told: ReportedRequest) -> Result<CheckResponse, Status> {
        self.ask(proxy, self.request(told)).await
    }

    async fn allowed(&self, proxy: &str, told: ReportedRequest) -> OkHttpResponse {
        allowed(self.check(proxy, told).await.unwrap())
    }

    /// Asserts that the request is denied with this status and reason.
    async fn denied(
        &self,
        proxy: &str,
        told: ReportedRequest,
        status: i32,
        reason: &str,
    ) -> DeniedHttpResponse {
        denied(self.check(proxy, told).await.unwrap(), status, reason)
    }
}

#[track_caller]
fn allowed(response: CheckResponse) -> OkHttpResponse {
    assert_eq!(response.status.unwrap().code, 0);
    let Some(HttpResponse::OkResponse(ok)) = response.http_response else { panic!("not allowed") };
    ok
}

#[track_caller]
fn denied(response: CheckResponse, status: i32, reason: &str) -> DeniedHttpResponse {
    let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else {
        panic!("not denied")
    };
    assert_ne!(response.status.unwrap().code, 0);
    assert_eq!(denied.status.as_ref().unwrap().code, status, "{}", denied.body);
    let problem: Value = serde_json::from_str(&denied.body).unwrap();
    assert_eq!((&problem["status"], &problem["reason"]), (&status.into(), &reason.into()));
    assert!(!problem["detail"].as_str().unwrap().is_empty());
    let kind = header(&denied.headers, "content-type");
    assert_eq!(kind.as_deref(), Some("application/problem+json"));
    for secret in [CLIENT_SECRET, "7T:", "8A:"] {
        assert!(!denied.body.contains(secret));
    }
    denied
}

fn header(
    headers: &[tenant_gateway::grpc::envoy_pb::core::HeaderValueOption],
    name: &str,
) -> Option<String> {
    let mut all = headers.iter().filter_map(|one| {
        // OVERWRITE_IF_EXISTS_OR_ADD: replaces every value from the caller.
        assert_eq!(one.append_action, 2);
        one.header.as_ref()
    });
    all.find(|header| header.key == name).map(|header| header.value.clone())
}

#[tokio::test]
async fn a_permitted_request_continues_with_our_credential_and_without_the_callers() {
    let asked = EnvoyGateway::new().await;
    let told = ReportedRequest {
        path: Some("/crm-sync/Cust1/API/v1/%43ontact/12?$select=a%2Fb"),
        ..ReportedRequest::of("sync")
    }
    .header("so-apptoken", "mine")
    .header("cookie", "a=b")
    .header("gateway-act-as", "system")
    .header("gateway-own", "x")
    .header("x-http-method-override", "DELETE")
    .header("x-forwarded-for", "10.0.0.1")
    .header("accept", "application/json");
    let ok = asked.allowed("proxy", told).await;
    let set = |name: &str| header(&ok.headers, name);
    // The path as received, below the tenant's address.
    assert_eq!(set(":path").as_deref(), Some("/Cust1/api/v1/%43ontact/12?$select=a%2Fb"));
    assert!(set("authorization").unwrap().starts_with("SOTicket 7T:"));
    assert_eq!(set("so-apptoken").as_deref(), Some(CLIENT_SECRET));
    // The proxy's configuration defines the host.
    assert_eq!(ok.headers.len(), 3);
    let gone = &ok.headers_to_remove;
    for name in
        ["cookie", "gateway-act-as", "gateway-own", "x-http-method-override", "x-forwarded-for"]
    {
        assert!(gone.iter().any(|gone| gone == name), "{name}");
    }
    // Also headers that the proxy did not report.
    assert!(gone.iter().any(|gone| gone == "x-original-url"));
    // Headers that are set or must pass are not removed.
    for name in ["authorization", "so-apptoken", "accept", "host", ":path", ":authority"] {
        assert!(!gone.iter().any(|gone| gone == name), "{name}");
    }
}

#[tokio::test]
async fn for_a_person_the_proxy_gets_no_secret_and_needs_no_right_to_it() {
    let asked = EnvoyGateway::new().await;
    let (associate, _) = asked.guarded.person("all", "Cust1").await;
    let as_person =
        || ReportedRequest::of("sync").header("gateway-act-as", &format!("associates/{associate}"));
    for proxy in ["proxy", "blind"] {
        let ok = asked.allowed(proxy, as_person()).await;
        let authorization = header(&ok.headers, "authorization").unwrap();
        assert!(authorization.starts_with("Bearer 8A:Cust1."));
        assert_eq!(header(&ok.headers, "so-apptoken"), None);
        assert!(ok.headers_to_remove.iter().any(|gone| gone == "so-apptoken"));
    }
    // Both contexts are allowed, so the header is required.
    let several = asked.denied("proxy", ReportedRequest::of("sync"), 400, "INVALID_ARGUMENT").await;
    assert!(several.body.contains("gateway-act-as"), "{}", several.body);
    let wrong = ReportedRequest::of("sync").header("gateway-act-as", "associates/5,system");
    asked.denied("proxy", wrong, 400, "INVALID_ARGUMENT").await;
}

#[tokio::test]
async fn an_empty_or_invalid_header_never_selects_the_system_user() {
    let asked = EnvoyGateway::new().await;
    // Without any grant, the system user is the only context.
    asked.allowed("proxy", ReportedRequest::of("sync").header("gateway-act-as", "")).await;
    asked.guarded.person("all", "Cust1").await;
    for value in ["", " ", "system\r\nx: y", "system\0", "\n", "\u{e5}", "${USER}", "\"system\""] {
        for name in ["gateway-act-as", "Gateway-Act-As"] {
            let told = ReportedRequest::of("sync").header(name, value);
            let denied = asked.denied("proxy", told, 400, "INVALID_ARGUMENT").await;
            assert!(denied.body.to_ascii_lowercase().contains("gateway-act-as"), "{}", denied.body);
        }
    }
    let system = || ReportedRequest::of("sync").header("gateway-act-as", "system");
    asked.allowed("proxy", system()).await;
    for (name, value) in [
        ("Gateway-Act-As", "associates/5"),
        ("gateway_act_as", "associates/5"),
        ("gateway-act-as ", "associates/5"),
        ("gateway-reason", "a\r\nb"),
        ("x-own", "a\0"),
    ] {
        asked.denied("proxy", system().header(name, value), 400, "INVALID_ARGUMENT").await;
    }
    let broken = ReportedRequest::by_peer(PEER).header("authorization", "Bearer a\r\n");
    asked.denied("proxy", broken, 401, "CALLER_UNAUTHENTICATED").await;
    // Headers as a list keep repeated values separate.
    for values in [&[&b"system"[..], b"system"][..], &[b"syst\xffem"], &[b"system\r\nx: y"]] {
        let mut request = asked.request(ReportedRequest::of("sync"));
        let attributes = request.attributes.as_mut().unwrap();
        let http = attributes.request.as_mut().unwrap().http.as_mut().unwrap();
        let list = values.iter().map(|value| HeaderValue {
            key: "gateway-act-as".to_owned(),
            raw_value: value.to_vec(),
            ..HeaderValue::default()
        });
        http.header_map = Some(HeaderMap { headers: list.collect() });
        denied_at(asked.ask("proxy", request).await.unwrap(), 400, "INVALID_ARGUMENT");
    }
}

#[tokio::test]
async fn for_the_system_user_the_proxy_needs_the_right_to_the_secret() {
    let asked = EnvoyGateway::new().await;
    asked.denied("blind", ReportedRequest::of("sync"), 403, "POLICY_DENIED").await;
    let not_allowed = Options { extra_application: String::new(), ..options() };
    let asked = EnvoyGateway::with(not_allowed).await;
    asked.denied("proxy", ReportedRequest::of("sync"), 403, "POLICY_DENIED").await;
}

#[tokio::test]
async fn a_caller_without_the_proxy_permission_is_always_refused() {
    let asked = EnvoyGateway::new().await;
    for told in [
        ReportedRequest::of("sync"),
        ReportedRequest::by_peer(PEER),
        ReportedRequest::by_peer(""),
        ReportedRequest::of("proxy"),
    ] {
        for caller in ["sync", "stranger"] {
            let Err(refused) = asked.check(caller, told.clone()).await else {
                panic!("{caller} was accepted as a proxy")
            };
            assert_status(&refused, Code::PermissionDenied, "POLICY_DENIED");
        }
    }
    let mut client = AuthorizationClient::new(asked.guarded.channel.clone());
    let Err(nobody) = client.check(asked.request(ReportedRequest::by_peer(PEER))).await else {
        panic!("a call without credential was accepted")
    };
    assert_status(&nobody, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
}

#[tokio::test]
async fn a_verified_peer_is_the_caller_by_the_certificate_rules() {
    let asked = EnvoyGateway::new().await;
    asked.allowed("proxy", ReportedRequest::by_peer(PEER)).await;
    for principal in
        ["", "CN=sync", "spiffe://example.org", "spiffe://example.org/../sync", "cli:root"]
    {
        asked
            .denied("proxy", ReportedRequest::by_peer(principal), 401, "CALLER_UNAUTHENTICATED")
            .await;
    }
    let escaped = |pem: String| {
        pem.replace('\n', "%0A")
            .replace(' ', "%20")
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D")
    };
    let authority = Authority::new();
    let with_certificate = |principal: &str, uris: &[&str]| {
        let identity = authority.issue_for(uris, &[]);
        let certificate = escaped(identity.certificate_pem());
        let peer = Peer { principal: principal.to_owned(), certificate, ..Peer::default() };
        ReportedRequest { peer, ..ReportedRequest::default() }
    };
    asked.allowed("proxy", with_certificate(PEER, &[PEER])).await;
    let other = "spiffe://example.org/ns/shop/sa/other";
    for told in [with_certificate(PEER, &[other]), with_certificate(PEER, &[PEER, other])] {
        asked.denied("proxy", told, 401, "CALLER_UNAUTHENTICATED").await;
    }
    // Both must be valid, and the token names the caller.
    let both = ReportedRequest { caller: Some("stranger"), ..ReportedRequest::by_peer(PEER) };
    asked.denied("proxy", both, 403, "POLICY_DENIED").await;
    let bad = ReportedRequest::by_peer(PEER).header("authorization", "Bearer not.a.token");
    asked.denied("proxy", bad, 401, "CALLER_UNAUTHENTICATED").await;
    let basic = ReportedRequest::by_peer(PEER).header("authorization", "Basic YTpi");
    asked.denied("proxy", basic, 401, "CALLER_UNAUTHENTICATED").await;
}

#[track_caller]
fn denied_at(response: CheckResponse, status: i32, reason: &str) {
    drop(denied(response, status, reason));
}

#[tokio::test]
async fn a_reported_certificate_is_ignored_without_mtls_callers() {
    let mut without = options();
    without.extra_config = without.extra_config.replace("[callers.mtls]\nenabled = true\n", "");
    let asked = EnvoyGateway::with(without).await;
    asked.denied("proxy", ReportedRequest::by_peer(PEER), 401, "CALLER_UNAUTHENTICATED").await;
    asked.allowed("proxy", ReportedRequest::of("sync")).await;
}

#[tokio::test]
async fn raw_headers_are_used_if_the_proxy_reports_them() {
    let asked = EnvoyGateway::new().await;
    let token = asked.guarded.token("sync");
    let raw = |name: &str, value: &str| HeaderValue {
        key: name.to_owned(),
        raw_value: value.into(),
        ..Default::default()
    };
    let with = |headers| {
        let mut request = asked.request(ReportedRequest::default());
        let http = request.attributes.as_mut().unwrap().request.as_mut().unwrap();
        http.http.as_mut().unwrap().header_map = Some(HeaderMap { headers });
        request
    };
    let bearer = format!("Bearer {token}");
    let one = with(vec![raw("authorization", &bearer), raw("Cookie", "\u{ff}")]);
    allowed(asked.ask("proxy", one).await.unwrap());
    let twice = with(vec![raw("authorization", &bearer), raw("authorization", &bearer)]);
    denied_at(asked.ask("proxy", twice).await.unwrap(), 401, "CALLER_UNAUTHENTICATED");
    let unreadable = with(vec![raw("authorization", "Bearer a\nb")]);
    denied_at(asked.ask("proxy", unreadable).await.unwrap(), 401, "CALLER_UNAUTHENTICATED");
}

#[tokio::test]
async fn no_credential_is_returned_for_a_host_other_than_the_tenants() {
    let asked = EnvoyGateway::new().await;
    for api_host in ["", "online2.superoffice.com", "127.0.0.1", "127.0.0.1:1", "evil.example"] {
        let told = ReportedRequest { api_host: Some(api_host), ..ReportedRequest::of("sync") };
        let denied = asked.denied("proxy", told, 400, "INVALID_ARGUMENT").await;
        assert!(denied.body.contains("api_host"), "{}", denied.body);
    }
    let mut request = asked.request(ReportedRequest::of("sync"));
    request.attributes.as_mut().unwrap().context_extensions.clear();
    denied_at(asked.ask("proxy", request).await.unwrap(), 400, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn a_request_without_permission_is_denied_in_any_spelling() {
    let asked = EnvoyGateway::new().await;
    for path in [
        "/crm-sync/Cust1/api/v1/User/currentToken",
        "/crm-sync/Cust1/API/v1/user/CURRENTTOKEN",
        "/crm-sync/Cust1/api/v1/%75ser/currentPrincipal",
        "/crm-sync/Cust1/api/v1/Webhook/12",
        "/crm-sync/Cust1/api",
    ] {
        let told = ReportedRequest { path: Some(path), ..ReportedRequest::of("sync") };
        asked.denied("proxy", told, 403, "PATH_NOT_ALLOWED").await;
    }
    let delete = ReportedRequest { method: Some("DELETE"), ..ReportedRequest::of("sync") };
    asked.denied("proxy", delete, 403, "PATH_NOT_ALLOWED").await;
    let elsewhere = ReportedRequest {
        path: Some("/crm-sync/Cust9/api/v1/contact"),
        ..ReportedRequest::of("stranger")
    };
    asked.denied("proxy", elsewhere, 403, "POLICY_DENIED").await;
    for path in [
        "",
        "/",
        "*",
        "/crm-sync",
        "/crm-sync/Cust1",
        "/crm-sync/Cust1/v1/contact",
        "/crm-sync//api/v1/contact",
        "//Cust1/api/v1/contact",
        "/-/Cust1/api/v1/contact",
        "/crm-sync/cust1/api/v1/contact",
        "/crm-sync/Cust1/api/v1/contact/%2e%2e/user",
        "/crm-sync/Cust1/api/v1/contact/../user",
        "/crm-sync/Cust1/api/v1/contact%2f..%2fuser",
        "/crm-sync/Cust1/api/v1//contact",
        "/crm-sync/Cust1/api/v1/contact;x",
        "http://evil.example/crm-sync/Cust1/api/v1/contact",
    ] {
        let told = ReportedRequest { path: Some(path), ..ReportedRequest::of("sync") };
        asked.denied("proxy", told, 400, "INVALID_ARGUMENT").await;
    }
}

#[tokio::test]
async fn obstacles_are_reported_as_on_the_egress_listener() {
    let asked = EnvoyGateway::new().await;
    let sandbox = &asked.guarded.world.sandbox;
    sandbox.set_state("Cust1", TenantState::OfflineMaintenance).unwrap();
    let down = asked.denied("proxy", ReportedRequest::of("sync"), 503, "TENANT_NOT_RUNNING").await;
    assert!(header(&down.headers, "retry-after").unwrap().parse::<u64>().unwrap() > 0);
    let nobody =
        asked.denied("proxy", ReportedRequest::default(), 401, "CALLER_UNAUTHENTICATED").await;
    assert!(header(&nobody.headers, "www-authenticate").is_some());
}

#[tokio::test]
async fn returned_credentials_count_in_the_budget_of_the_tenant() {
    let extra_application =
        "allow_reveal_application_token = true\ncalls_per_second = 1\nburst = 1".to_owned();
    let asked = EnvoyGateway::with(Options { extra_application, ..options() }).await;
    asked.allowed("proxy", ReportedRequest::of("sync")).await;
    let mut client = AuthorizationClient::new(asked.guarded.channel.clone());
    let mut request = with_bearer_token(
        &asked.guarded.token("proxy"),
        asked.request(ReportedRequest::of("sync")),
    );
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let response = client.check(request).await.unwrap().into_inner();
    let denied = denied(response, 429, "UPSTREAM_BUDGET_EXHAUSTED");
    assert!(header(&denied.headers, "retry-after").is_some());
}

#[tokio::test]
async fn the_trail_names_the_caller_and_the_proxy() {
    let mut asked = EnvoyGateway::new().await;
    asked.allowed("proxy", ReportedRequest::of("sync")).await;
    let denied = ReportedRequest {
        path: Some("/crm-sync/Cust1/api/v1/user"),
        ..ReportedRequest::of("sync")
    };
    asked.denied("proxy", denied, 403, "PATH_NOT_ALLOWED").await;
    asked.denied("blind", ReportedRequest::of("sync"), 403, "POLICY_DENIED").await;
    asked.guarded.world.stop().await;
    let written = StoredTrail::read(&asked.guarded.world.config_file()).await;
    written.assert_intact();
    let of = |caller: &str| -> Vec<_> {
        let records = written.of_calls().map(|event| &event.record);
        records.filter(|record| &*record.caller == caller).collect()
    };
    let of_sync = of("sync");
    let [done, refused, unrevealed] = of_sync.as_slice() else { panic!("{of_sync:?}") };
    assert_eq!((&*done.action, done.decision), ("callWebApiAsSystemUser", Decision::Allowed));
    assert_eq!((&*done.resource, &*done.acting_as), (&*name("Cust1"), "system"));
    assert!(done.credential_id.starts_with("t-"));
    assert_eq!(&*done.client_address, "10.1.2.3");
    assert_eq!(refused.decision, Decision::Denied);
    assert_eq!(unrevealed.decision, Decision::Denied);
    let of_proxy = of("proxy");
    let actions: Vec<_> = of_proxy.iter().map(|record| &*record.action).collect();
    assert_eq!(actions, ["checkExternally", "revealApplicationToken", "checkExternally"]);
    assert!(of_proxy.iter().all(|record| record.decision == Decision::Allowed));
    // The events of the proxy and of the caller have the same request id.
    assert_eq!(done.request_id, of_proxy[0].request_id);
    let of_blind = of("blind");
    let decisions: Vec<_> = of_blind.iter().map(|record| record.decision).collect();
    assert_eq!(decisions, [Decision::Allowed, Decision::Denied]);
}

#[tokio::test]
async fn the_service_is_off_by_default() {
    let world = World::new().await;
    let mut client = AuthorizationClient::new(world.channel().await);
    let Err(off) = client.check(CheckRequest::default()).await else { panic!("it is served") };
    assert_status(&off, Code::Unimplemented, "UNIMPLEMENTED");
}

#[tokio::test]
async fn a_new_policy_applies_to_the_next_check() {
    let asked = EnvoyGateway::new().await;
    asked.allowed("proxy", ReportedRequest::of("sync")).await;
    let file = asked.guarded.world.folder.path().join("policy.cedar");
    let forbid = "forbid (principal == Caller::\"sync\", action, resource);";
    std::fs::write(file, format!("{POLICY}\n{forbid}")).unwrap();
    eventually_so("the new policy is in force", async || {
        asked.guarded.world.clock.advance(Duration::from_secs(1));
        let response = asked.check("proxy", ReportedRequest::of("sync")).await.unwrap();
        matches!(response.http_response, Some(HttpResponse::DeniedResponse(_)))
    })
    .await;
}

#[tokio::test]
async fn the_status_of_a_tenant_that_is_used_through_a_proxy_is_at_most_about_a_minute_old() {
    let mut asked = EnvoyGateway::new().await;
    let sandbox = &asked.guarded.world.sandbox;
    sandbox.set_status_validity(Duration::from_hours(1));
    asked.allowed("proxy", ReportedRequest::of("sync")).await;
    asked.guarded.world.sandbox.reset_counts();
    asked.allowed("proxy", ReportedRequest::of("sync")).await;
    assert_eq!(asked.guarded.world.sandbox.calls(Endpoint::TenantStatus), 0);
    // The proxy cannot report that the host has changed.
    let (from, to) = (superoffice_sandbox::ApiHost::A, superoffice_sandbox::ApiHost::B);
    asked.guarded.world.sandbox.move_tenant("Cust1", to).unwrap();
    asked.guarded.world.advance(Duration::from_secs(61));
    eventually_so("a request to the old host is refused", async || {
        matches!(
            asked.check("proxy", ReportedRequest::of("sync")).await.unwrap().http_response,
            Some(HttpResponse::DeniedResponse(_))
        )
    })
    .await;
    assert_eq!(asked.guarded.world.sandbox.calls(Endpoint::TenantStatus), 1);
    assert_ne!(asked.guarded.world.sandbox.api_uri(from), asked.guarded.world.sandbox.api_uri(to));
}
