//! Promises of `WebApiService.Call`: calls of the Web API for callers that hold no credential of SuperOffice.

use prost::Message as _;
use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tenant_gateway::{
    domain::Decision,
    grpc::pb::{self, web_api_service_client::WebApiServiceClient},
};
use tonic::{Code, Status, transport::Channel};

use crate::support::{
    CLIENT_SECRET, Options, World,
    api_host::{ApiHostByHand, Arrived, Told as Answer},
    assert_invalid, assert_status,
    callers::{Guarded, bearing},
    name,
    trail::Written,
    wire,
};

const CALL: &str = "tenantgateway.v1.WebApiService/Call";

const MIB: usize = 1024 * 1024;

/// `sync` may read contacts as anybody, and everything as nobody else.
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

/// The last call that has arrived.
#[track_caller]
fn last(host: &ApiHostByHand) -> Arrived {
    host.arrived().pop().expect("no call has arrived")
}

/// The only one.
#[track_caller]
fn only(host: &ApiHostByHand) -> Arrived {
    assert_eq!(host.arrived().len(), 1);
    last(host)
}

/// Everybody may do everything; the tenant is on a host of the test's own.
struct Open {
    world: World,
    client: WebApiServiceClient<Channel>,
    host: ApiHostByHand,
}

impl Open {
    async fn new() -> Self {
        let (world, host) = (World::new().await, ApiHostByHand::start().await);
        host.take_in(&world.sandbox, "Cust1");
        world.enroll("Cust1").await;
        let client = client(world.channel().await);
        Self { world, client, host }
    }

    async fn call(&mut self, request: pb::CallRequest) -> Result<pb::CallResponse, Status> {
        Ok(self.client.call(request).await?.into_inner())
    }
}

/// The same with callers that are told apart.
struct Told {
    guarded: Guarded,
    host: ApiHostByHand,
}

impl Told {
    async fn new() -> Self {
        let guarded = Guarded::new(POLICY).await;
        let host = ApiHostByHand::start().await;
        host.take_in(&guarded.world.sandbox, "Cust1");
        guarded.enroll("all", "Cust1").await;
        Self { guarded, host }
    }

    async fn call(
        &self,
        caller: &str,
        request: pb::CallRequest,
    ) -> Result<pb::CallResponse, Status> {
        let request = bearing(&self.guarded.token(caller), request);
        Ok(client(self.guarded.channel.clone()).call(request).await?.into_inner())
    }
}

#[tokio::test]
async fn a_call_arrives_as_it_was_made_with_the_credential_and_nothing_of_the_callers() {
    let mut open = Open::new().await;
    let head =
        "HTTP/1.1 412 No\r\nETag: \"5\"\r\nSet-Cookie: session=theirs\r\nSO-AppToken: theirs\r\n";
    open.host.tell(Answer::Body(head, b"\x00not text\xff".to_vec()));
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
async fn a_person_is_called_as_by_associate_or_grant_with_a_token_and_without_the_secret() {
    let told = Told::new().await;
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
async fn an_empty_credential_is_the_only_context_that_policy_allows_and_never_a_choice() {
    let told = Told::new().await;
    let empty = |credential: &str| pb::CallRequest {
        credential: credential.to_owned(),
        ..get("/api/v1/contact")
    };
    // Nobody has consented, so that the system user is the only context there is.
    told.call("sync", empty("")).await.unwrap();
    assert!(last(&told.host).header("authorization")[0].starts_with("SOTicket 7T:"));
    told.guarded.person("all", "Cust1").await;
    let before = told.host.arrived().len();
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
    assert_eq!(told.host.arrived().len(), before);
}

#[tokio::test]
async fn a_credential_that_is_not_there_is_told_to_those_who_may_use_it() {
    let told = Told::new().await;
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
    assert!(told.host.arrived().is_empty());
}

#[tokio::test]
async fn a_path_or_method_that_policy_does_not_permit_is_refused_however_it_is_spelt() {
    let told = Told::new().await;
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
    // Who may do everything has not been given what hands out credentials.
    for path in
        ["/api/v1/User/currentToken", "/api/v1/User/12", "/api/v1/Webhook", "/api/v1/CRMScript/1"]
    {
        let denied = told.call("all", get(path)).await.err().unwrap();
        assert_status(&denied, Code::PermissionDenied, "PATH_NOT_ALLOWED");
    }
    assert!(told.host.arrived().is_empty());
    told.call("sync", get("/Api/v1/%43ontact/12")).await.unwrap();
    assert_eq!(only(&told.host).line(), "GET /Cust1/api/v1/%43ontact/12 HTTP/1.1");
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once_and_nothing_of_it_is_sent() {
    let mut open = Open::new().await;
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
    assert!(open.host.arrived().is_empty());
    for endpoint in [Endpoint::Authenticate, Endpoint::TenantStatus] {
        assert_eq!(open.world.sandbox.calls(endpoint), 0, "{endpoint:?}");
    }
}

#[tokio::test]
async fn four_mebibytes_pass_each_way_and_not_a_byte_more() {
    let mut open = Open::new().await;
    let post = |bytes| pb::CallRequest {
        method: "POST".to_owned(),
        body: vec![b'x'; bytes],
        ..get("/api/v1/Document")
    };
    open.host.tell(Answer::Bytes(4 * MIB as u64));
    let answer = open.call(post(4 * MIB)).await.unwrap();
    assert_eq!((answer.body.len(), only(&open.host).body_bytes), (4 * MIB, 4 * MIB as u64));
    for bytes in [4 * MIB + 1, 5 * MIB] {
        let refused = open.call(post(bytes)).await.err().unwrap();
        assert_status(&refused, Code::ResourceExhausted, "RESPONSE_TOO_LARGE");
    }
    assert_eq!(open.host.arrived().len(), 1);
    open.host.tell(Answer::Bytes(4 * MIB as u64 + 1));
    let larger = get("/api/v1/Document");
    let refused = open.call(larger).await.err().unwrap();
    assert_status(&refused, Code::ResourceExhausted, "RESPONSE_TOO_LARGE");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let mut open = Open::new().await;
    open.call(get("/api/v1/Contact")).await.unwrap();
    open.world.sandbox.clear_faults();
    let hang = FaultScope::always();
    open.world.sandbox.inject(Endpoint::CurrentPrincipal, Fault::Hang, hang).unwrap();
    let world = &open.world;
    // A tenant that nobody has called yet is where SuperOffice says.
    world.enroll("Cust2").await;
    let request = pb::CallRequest { tenant: name("Cust2"), ..get("/api/v1/User/currentPrincipal") };
    // By hand: a client would end it by its own timer.
    let (to, headers) = (world.gateway().grpc_address, [("grpc-timeout", "700m")]);
    let (late, _) = wire::send(to, CALL, &headers, &request.encode_to_vec()).await;
    assert_status(&late, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn what_superoffice_answers_passes_unchanged_and_that_it_does_not_answer_is_ours_to_tell() {
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
async fn headers_that_lead_into_the_web_api_can_be_called_again_and_others_are_taken_out() {
    let mut open = Open::new().await;
    let inside = open.host.uri("Cust1");
    for (location, wanted) in [
        (format!("{inside}/v1/Contact/6?x=1"), Some("/api/v1/Contact/6?x=1")),
        ("/Cust1/api/v1/Contact/6".to_owned(), Some("/api/v1/Contact/6")),
        ("6".to_owned(), Some("6")),
        ("/Cust2/api/v1/Contact/6".to_owned(), None),
        ("https://evil.example/api/v1/Contact/6".to_owned(), None),
    ] {
        let head = format!("HTTP/1.1 201 Created\r\nLocation: {location}\r\n");
        open.host.tell(Answer::Body(head.leak(), inside.clone().into_bytes()));
        let answer = open.call(get("/api/v1/Contact")).await.unwrap();
        let header = answer.headers.iter().find(|header| header.name == "location");
        assert_eq!(header.map(|header| &header.value[..]), wanted.map(str::as_bytes), "{location}");
        assert_eq!(answer.body, inside.as_bytes());
    }
    open.host.tell(Answer::Body(
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
async fn a_call_that_has_no_answer_is_in_the_trail_with_the_credential_that_was_sent() {
    let mut open = Open::new().await;
    open.host.tell(Answer::Raw(b"nonsense\r\n\r\n".to_vec()));
    let post = pb::CallRequest { method: "POST".to_owned(), ..get("/api/v1/Contact") };
    let status = open.call(post).await.err().unwrap();
    assert_status(&status, Code::Aborted, "UPSTREAM_UNAVAILABLE");
    let credential = open.world.ticket("Cust1").await.unwrap().credential_id.clone();
    open.world.stop().await;
    let written = Written::read(&open.world.config_file()).await;
    let mut ends = written.of_calls().map(|event| &event.record).filter(|record| record.code != 0);
    let end = ends.next().unwrap();
    assert_eq!((end.code, &*end.credential_id), (Code::Aborted.into(), &*credential));
}

#[tokio::test]
async fn every_call_is_in_the_trail_with_who_as_whom_and_why() {
    let mut told = Told::new().await;
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
    let written = Written::read(&told.guarded.world.config_file()).await;
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
async fn a_call_that_cannot_have_its_turn_before_its_deadline_is_refused_at_once() {
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
