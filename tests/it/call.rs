//! Tests of `WebApiService.Call`: Web API calls for callers without a SuperOffice credential.

use prost::Message as _;
use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tenant_gateway::{
    domain::Decision,
    grpc::pb::{self, web_api_service_client::WebApiServiceClient},
};
use tonic::{Code, Status, transport::Channel};

use crate::support::{
    CLIENT_SECRET, Options, World,
    api_host::{HostResponse as Answer, ReceivedRequest, ScriptedApiHost},
    assert_invalid, assert_status,
    callers::{AuthenticatedGateway, with_bearer_token},
    name,
    trail::StoredTrail,
    wire,
};

const CALL: &str = "tenantgateway.v1.WebApiService/Call";

const MIB: usize = 1024 * 1024;

/// `sync` may read contacts as any user, and `all` may do everything.
const POLICY: &str = r#"
permit (principal == Caller::"all", action, resource);
permit (principal == Caller::"sync", action in Action::"callWebApi", resource)
when { context.method == "GET" && context.path like "/api/v1/contact*" };
"#;

fn get(path: &str) -> pb::CallRequest {
    pb::CallRequest {
        tenant: name("Cust1"),
        method: "GET".to_owned(),
        path: path.to_owned(),
        ..Default::default()
    }
}

fn header(name: &str, value: &str) -> pb::Header {
    pb::Header { name: name.to_owned(), value: value.into() }
}

fn client(channel: Channel) -> WebApiServiceClient<Channel> {
    WebApiServiceClient::new(channel)
        .max_decoding_message_size(64 * MIB)
        .max_encoding_message_size(64 * MIB)
}

/// Returns the last call that arrived.
#[track_caller]
fn last(host: &ScriptedApiHost) -> ReceivedRequest {
    host.received().pop().expect("no call arrived")
}

/// Returns the only call that arrived.
#[track_caller]
fn only(host: &ScriptedApiHost) -> ReceivedRequest {
    assert_eq!(host.received().len(), 1);
    last(host)
}

/// A gateway where every call is permitted, and a tenant on a scripted host.
struct OpenGateway {
    world: World,
    client: WebApiServiceClient<Channel>,
    host: ScriptedApiHost,
}

impl OpenGateway {
    async fn new() -> Self {
        let (world, host) = (World::new().await, ScriptedApiHost::start().await);
        host.move_tenant_here(&world.sandbox, "Cust1");
        world.enroll("Cust1").await;
        let client = client(world.channel().await);
        Self { world, client, host }
    }

    async fn call(&mut self, request: pb::CallRequest) -> Result<pb::CallResponse, Status> {
        Ok(self.client.call(request).await?.into_inner())
    }
}

/// The same with authenticated callers.
struct CallerGateway {
    guarded: AuthenticatedGateway,
    host: ScriptedApiHost,
}

impl CallerGateway {
    async fn new() -> Self {
        let guarded = AuthenticatedGateway::new(POLICY).await;
        let host = ScriptedApiHost::start().await;
        host.move_tenant_here(&guarded.world.sandbox, "Cust1");
        guarded.enroll("all", "Cust1").await;
        Self { guarded, host }
    }

    async fn call(
        &self,
        caller: &str,
        request: pb::CallRequest,
    ) -> Result<pb::CallResponse, Status> {
        let request = with_bearer_token(&self.guarded.token(caller), request);
        Ok(client(self.guarded.channel.clone()).call(request).await?.into_inner())
    }
}

#[tokio::test]
async fn a_call_arrives_unchanged_with_our_credential_and_without_the_callers() {
    let mut open = OpenGateway::new().await;
    let head =
        "HTTP/1.1 412 No\r\nETag: \"5\"\r\nSet-Cookie: session=theirs\r\nSO-AppToken: theirs\r\n";
    open.host.respond_next(Answer::Body(head, b"\x00not text\xff".to_vec()));
    let refused = [
        "Authorization",
        "SO-AppToken",
        "Cookie",
        "Gateway-Reason",
        "X-HTTP-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Host",
        "Transfer-Encoding",
        "Connection",
        "Host",
        "Proxy-Authorization",
    ];
    let passed = [("accept", "application/json"), ("if-match", "\"4\""), ("x-own", "a, b")];
    let mut headers: Vec<_> = refused.iter().map(|name| header(name, "mine")).collect();
    headers.extend(passed.iter().map(|(name, value)| header(name, value)));
    let request = pb::CallRequest {
        method: "PUT".to_owned(),
        headers,
        body: b"\x00\xff{}".to_vec(),
        ..get("/API/v1/Contact/12?$select=a%2Fb&x=(y)")
    };
    let answer = open.call(request).await.unwrap();
    let arrived = only(&open.host);
    assert_eq!(arrived.line(), "PUT /Cust1/api/v1/Contact/12?$select=a%2Fb&x=(y) HTTP/1.1");
    assert_eq!(arrived.body, b"\x00\xff{}");
    let arrived = |name: &str| arrived.header(name);
    let authorization = arrived("authorization");
    assert_eq!(authorization.len(), 1);
    assert!(authorization[0].starts_with("SOTicket 7T:"));
    assert_eq!(arrived("so-apptoken"), [CLIENT_SECRET]);
    for name in refused {
        assert!(!arrived(name).contains(&"mine"), "{name}");
    }
    for (name, value) in passed {
        assert_eq!(arrived(name), [value], "{name}");
    }
    assert_eq!((answer.status, &answer.body[..]), (412, &b"\x00not text\xff"[..]));
    let told = |name: &str| answer.headers.iter().find(|header| header.name == name);
    assert_eq!(told("etag").map(|header| &header.value[..]), Some(&b"\"5\""[..]));
    assert!(told("set-cookie").is_none() && told("so-apptoken").is_none());
}

#[tokio::test]
async fn a_call_as_a_person_has_a_token_and_no_client_secret() {
    let told = CallerGateway::new().await;
    let (associate, grant) = told.guarded.person("all", "Cust1").await;
    let grant = grant.split_once("/grants/").unwrap().1;
    for credential in [format!("associates/{associate}"), format!("grants/{grant}")] {
        let request = pb::CallRequest { credential, ..get("/api/v1/Contact/12") };
        told.call("sync", request).await.unwrap();
        let arrived = last(&told.host);
        let authorization = arrived.header("authorization");
        assert!(authorization.len() == 1 && authorization[0].starts_with("Bearer 8A:Cust1."));
        assert!(arrived.header("so-apptoken").is_empty());
    }
    let credential = "system".to_owned();
    let request = pb::CallRequest { credential, ..get("/api/v1/contact") };
    told.call("sync", request).await.unwrap();
    assert!(last(&told.host).header("authorization")[0].starts_with("SOTicket 7T:"));
}

#[tokio::test]
async fn an_empty_credential_works_only_if_policy_allows_exactly_one_context() {
    let told = CallerGateway::new().await;
    let empty = |credential: &str| pb::CallRequest {
        credential: credential.to_owned(),
        ..get("/api/v1/contact")
    };
    // Without any grant, the system user is the only context.
    told.call("sync", empty("")).await.unwrap();
    assert!(last(&told.host).header("authorization")[0].starts_with("SOTicket 7T:"));
    told.guarded.person("all", "Cust1").await;
    let before = told.host.received().len();
    for credential in ["", " ", "\t"] {
        let refused = told.call("sync", empty(credential)).await.map(drop).unwrap_err();
        assert_invalid(&refused, &["credential"]);
    }
    for credential in ["system\r\nx: y", "\"system\"", "${USER}", "system,system", "syst\u{e9}m"] {
        let refused = told.call("sync", empty(credential)).await.map(drop).unwrap_err();
        assert_status(&refused, Code::InvalidArgument, "INVALID_ARGUMENT");
    }
    for name in ["Gateway-Act-As", "gateway_act_as"] {
        let headers = vec![header(name, "associates/5")];
        let request = pb::CallRequest { headers, ..empty("system") };
        let refused = told.call("sync", request).await.map(drop).unwrap_err();
        assert_status(&refused, Code::InvalidArgument, "INVALID_ARGUMENT");
    }
    assert_eq!(told.host.received().len(), before);
}

#[tokio::test]
async fn a_missing_credential_is_reported_to_permitted_callers_only() {
    let told = CallerGateway::new().await;
    let nobody = |credential: &str| pb::CallRequest {
        credential: credential.to_owned(),
        ..get("/api/v1/Contact/12")
    };
    let missing = told.call("sync", nobody("associates/77")).await.err().unwrap();
    assert_status(&missing, Code::FailedPrecondition, "CONSENT_REQUIRED");
    let missing = told.call("sync", nobody("grants/none")).await.err().unwrap();
    assert_status(&missing, Code::NotFound, "RESOURCE_NOT_FOUND");
    for credential in ["associates/77", "grants/none", "system"] {
        let denied = told.call("stranger", nobody(credential)).await.err().unwrap();
        assert_status(&denied, Code::PermissionDenied, "POLICY_DENIED");
    }
    assert!(told.host.received().is_empty());
}

#[tokio::test]
async fn a_path_or_method_without_permission_is_refused_in_any_spelling() {
    let told = CallerGateway::new().await;
    for path in [
        "/api/v1/User/currentToken",
        "/API/V1/USER/CURRENTTOKEN",
        "/api/v1/%55ser",
        "/%61pi/v1/Agents/User/GetAccessToken",
        "/api/v1/Project",
        "/api",
    ] {
        let denied = told.call("sync", get(path)).await.err().unwrap();
        assert_status(&denied, Code::PermissionDenied, "PATH_NOT_ALLOWED");
    }
    let delete = pb::CallRequest { method: "DELETE".to_owned(), ..get("/api/v1/Contact/12") };
    let denied = told.call("sync", delete).await.err().unwrap();
    assert_status(&denied, Code::PermissionDenied, "PATH_NOT_ALLOWED");
    // A permit for everything does not include operations that return credentials.
    for path in
        ["/api/v1/User/currentToken", "/api/v1/User/12", "/api/v1/Webhook", "/api/v1/CRMScript/1"]
    {
        let denied = told.call("all", get(path)).await.err().unwrap();
        assert_status(&denied, Code::PermissionDenied, "PATH_NOT_ALLOWED");
    }
    assert!(told.host.received().is_empty());
    told.call("sync", get("/Api/v1/%43ontact/12")).await.unwrap();
    assert_eq!(only(&told.host).line(), "GET /Cust1/api/v1/%43ontact/12 HTTP/1.1");
}

#[tokio::test]
async fn all_violations_are_reported_at_once_and_nothing_is_sent() {
    let mut open = OpenGateway::new().await;
    for path in [
        "",
        "api/v1",
        "/v1/Contact",
        "/apix",
        "//api/v1",
        "/api/../../Cust2/api/v1",
        "/api/v1/%2e%2e/x",
        "/api/v1/..%2f..%2fCust2",
        "/api/v1//User",
        "/api/v1/User;x",
        "/api/v1/User%3bx",
        "/api/v1\\User",
        "/api/v1/a%00",
        "/api/v1/a%0d%0aSO-AppToken:%20x",
        "/api/v1/a\r\nX: y",
        "/api/v1?a\r\nX: y",
        "/api/v1#x",
        "http://evil.example/api/v1",
    ] {
        let refused = open.call(get(path)).await.err().unwrap();
        assert_invalid(&refused, &["path"]);
    }
    let tunnelled = pb::CallRequest {
        method: "POST".to_owned(),
        headers: vec![header("X-HTTP-Method-Override", "DELETE")],
        ..get("/api/v1")
    };
    assert_invalid(&open.call(tunnelled).await.err().unwrap(), &["headers"]);
    for method in ["", "GET ", "G\r\nET", "TRACE", "CONNECT"] {
        let request = pb::CallRequest { method: method.to_owned(), ..get("/api/v1") };
        assert_invalid(&open.call(request).await.err().unwrap(), &["method"]);
    }
    let headers = vec![
        header("x-own", "fine"),
        header("x own", "name"),
        header("", "empty"),
        header("x-a\r\nSO-AppToken", "name"),
        header("x-b", "value\r\nSO-AppToken: mine"),
        header("x-c", "value\0"),
        header(":path", "/elsewhere"),
    ];
    let request = pb::CallRequest {
        tenant: "applications/-/tenants/Cust1".to_owned(),
        credential: "associates/me".to_owned(),
        method: "NOT A METHOD".to_owned(),
        path: "/".to_owned(),
        headers,
        body: Vec::new(),
        reason: "x".repeat(257),
    };
    let wrong = [
        "tenant",
        "credential",
        "method",
        "path",
        "headers[1].name",
        "headers[2].name",
        "headers[3].name",
        "headers[4].value",
        "headers[5].value",
        "headers[6].name",
        "reason",
    ];
    assert_invalid(&open.call(request).await.err().unwrap(), &wrong);
    let many = vec![header("x-own", "1"); 129];
    let request = pb::CallRequest { headers: many, ..get("/api/v1") };
    assert_invalid(&open.call(request).await.err().unwrap(), &["headers"]);
    assert!(open.host.received().is_empty());
    for endpoint in [Endpoint::Authenticate, Endpoint::TenantStatus] {
        assert_eq!(open.world.sandbox.calls(endpoint), 0, "{endpoint:?}");
    }
}

#[tokio::test]
async fn bodies_up_to_four_mebibytes_pass_in_each_direction() {
    let mut open = OpenGateway::new().await;
    let post = |bytes| pb::CallRequest {
        method: "POST".to_owned(),
        body: vec![b'x'; bytes],
        ..get("/api/v1/Document")
    };
    open.host.respond_next(Answer::Bytes(4 * MIB as u64));
    let answer = open.call(post(4 * MIB)).await.unwrap();
    assert_eq!((answer.body.len(), only(&open.host).body_bytes), (4 * MIB, 4 * MIB as u64));
    for bytes in [4 * MIB + 1, 5 * MIB] {
        let refused = open.call(post(bytes)).await.err().unwrap();
        assert_status(&refused, Code::ResourceExhausted, "RESPONSE_TOO_LARGE");
    }
    assert_eq!(open.host.received().len(), 1);
    open.host.respond_next(Answer::Bytes(4 * MIB as u64 + 1));
    let larger = get("/api/v1/Document");
    let refused = open.call(larger).await.err().unwrap();
    assert_status(&refused, Code::ResourceExhausted, "RESPONSE_TOO_LARGE");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let mut open = OpenGateway::new().await;
    open.call(get("/api/v1/Contact")).await.unwrap();
    open.world.sandbox.clear_faults();
    let hang = FaultScope::always();
    open.world.sandbox.inject(Endpoint::CurrentPrincipal, Fault::Hang, hang).unwrap();
    let world = &open.world;
    // The second tenant is on the host that SuperOffice reports.
    world.enroll("Cust2").await;
    let request = pb::CallRequest { tenant: name("Cust2"), ..get("/api/v1/User/currentPrincipal") };
    // A raw call, because a client would end it by its own timer.
    let (to, headers) = (world.gateway().grpc_address, [("grpc-timeout", "700m")]);
    let (late, _) = wire::send(to, CALL, &headers, &request.encode_to_vec()).await;
    assert_status(&late, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn responses_pass_unchanged_and_a_missing_response_is_an_error_of_the_gateway() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let mut client = client(world.channel().await);
    let mut call = async |path: &str| {
        let headers = vec![header("accept", "application/json")];
        let request = pb::CallRequest { headers, ..get(path) };
        client.call(request).await.map(tonic::Response::into_inner)
    };
    let principal = call("/api/v1/User/currentPrincipal").await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&principal.body).unwrap();
    assert_eq!((principal.status, &body["DatabaseContextIdentifier"]), (200, &"Cust1".into()));
    let missing = call("/api/v1/Nothing/here").await.unwrap();
    assert_eq!(missing.status, 404);
    assert!(String::from_utf8_lossy(&missing.body).contains("SoNotFoundException"));
    let fault = |fault| {
        world.sandbox.clear_faults();
        let scope = FaultScope::always();
        world.sandbox.inject(Endpoint::CurrentPrincipal, fault, scope).unwrap();
    };
    fault(Fault::status(503));
    let down = call("/api/v1/User/currentPrincipal").await.unwrap();
    assert_eq!(
        (down.status, &down.body[..]),
        (503, &b"<html><body><h1>503</h1></body></html>"[..])
    );
    for broken in [Fault::Close, Fault::Truncate] {
        fault(broken);
        let status = call("/api/v1/User/currentPrincipal").await.err().unwrap();
        assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    }
}

#[tokio::test]
async fn links_in_headers_to_the_web_api_are_rewritten_and_others_removed() {
    let mut open = OpenGateway::new().await;
    let inside = open.host.uri("Cust1");
    for (location, wanted) in [
        (format!("{inside}/v1/Contact/6?x=1"), Some("/api/v1/Contact/6?x=1")),
        ("/Cust1/api/v1/Contact/6".to_owned(), Some("/api/v1/Contact/6")),
        ("6".to_owned(), Some("6")),
        ("/Cust2/api/v1/Contact/6".to_owned(), None),
        ("https://evil.example/api/v1/Contact/6".to_owned(), None),
    ] {
        let head = format!("HTTP/1.1 201 Created\r\nLocation: {location}\r\n");
        open.host.respond_next(Answer::Body(head.leak(), inside.clone().into_bytes()));
        let answer = open.call(get("/api/v1/Contact")).await.unwrap();
        let header = answer.headers.iter().find(|header| header.name == "location");
        assert_eq!(header.map(|header| &header.value[..]), wanted.map(str::as_bytes), "{location}");
        assert_eq!(answer.body, inside.as_bytes());
    }
    open.host.respond_next(Answer::Body(
        format!("HTTP/1.1 200 OK\r\nLink: <{inside}/v1/Contact?$skip=10>; rel=next\r\n").leak(),
        Vec::new(),
    ));
    let answer = open.call(get("/api/v1/Contact")).await.unwrap();
    let link = answer.headers.iter().find(|header| header.name == "link").unwrap();
    let link = str::from_utf8(&link.value).unwrap();
    assert_eq!(link, "</api/v1/Contact?$skip=10>; rel=next");
    let next = link.split(['<', '>']).nth(1).unwrap();
    open.call(get(next)).await.unwrap();
    assert_eq!(last(&open.host).line(), "GET /Cust1/api/v1/Contact?$skip=10 HTTP/1.1");
}

#[tokio::test]
async fn a_call_without_response_is_in_the_trail_with_its_credential() {
    let mut open = OpenGateway::new().await;
    open.host.respond_next(Answer::Raw(b"nonsense\r\n\r\n".to_vec()));
    let post = pb::CallRequest { method: "POST".to_owned(), ..get("/api/v1/Contact") };
    let status = open.call(post).await.err().unwrap();
    assert_status(&status, Code::Aborted, "UPSTREAM_UNAVAILABLE");
    let credential = open.world.ticket("Cust1").await.unwrap().credential_id.clone();
    open.world.stop().await;
    let written = StoredTrail::read(&open.world.config_file()).await;
    let mut ends = written.of_calls().map(|event| &event.record).filter(|record| record.code != 0);
    let end = ends.next().unwrap();
    assert_eq!((end.code, &*end.credential_id), (Code::Aborted.into(), &*credential));
}

#[tokio::test]
async fn every_call_is_in_the_trail_with_caller_context_and_reason() {
    let mut told = CallerGateway::new().await;
    let (associate, grant) = told.guarded.person("all", "Cust1").await;
    let request = |credential: String, path: &str| pb::CallRequest {
        credential,
        reason: "nightly sync".to_owned(),
        ..get(path)
    };
    told.call("sync", request("system".to_owned(), "/api/v1/contact")).await.unwrap();
    let person = format!("associates/{associate}");
    told.call("sync", request(person, "/api/v1/contact")).await.unwrap();
    told.call("sync", request("system".to_owned(), "/api/v1/project")).await.err().unwrap();
    told.guarded.world.stop().await;
    let written = StoredTrail::read(&told.guarded.world.config_file()).await;
    written.assert_intact();
    let of_sync: Vec<_> = written
        .of_calls()
        .map(|event| &event.record)
        .filter(|record| &*record.caller == "sync")
        .collect();
    let [system, person, denied] = of_sync.as_slice() else { panic!("{of_sync:?}") };
    assert_eq!(&*system.action, "callWebApiAsSystemUser");
    assert_eq!((&*system.resource, &*system.acting_as), (&*name("Cust1"), "system"));
    assert!(system.credential_id.starts_with("t-"));
    assert_eq!(&*person.action, "callWebApiAsUser");
    assert_eq!(&*person.resource, grant);
    assert!(person.acting_as.starts_with("grants/") && person.credential_id.starts_with("a-"));
    for done in [system, person] {
        assert_eq!(
            (done.decision, done.code, &*done.reason),
            (Decision::Allowed, 0, "nightly sync")
        );
    }
    assert_eq!((denied.decision, denied.code), (Decision::Denied, Code::PermissionDenied.into()));
}

#[tokio::test]
async fn a_call_that_cannot_meet_its_deadline_is_refused_at_once() {
    let extra_application = "calls_per_second = 1\nburst = 1".to_owned();
    let world = World::with(Options { extra_application, ..Default::default() }).await;
    world.enroll("Cust1").await;
    let mut client = client(world.channel().await);
    client.call(get("/api/v1/User/currentPrincipal")).await.unwrap();
    let next = get("/api/v1/User/currentPrincipal").encode_to_vec();
    let (to, headers) = (world.gateway().grpc_address, [("grpc-timeout", "300m")]);
    let (refused, _) = wire::send(to, CALL, &headers, &next).await;
    let details = assert_status(&refused, Code::ResourceExhausted, "UPSTREAM_BUDGET_EXHAUSTED");
    assert!(details.retry_info().is_some());
}
