//! Tests of the egress listener: the request that arrives at SuperOffice, its credential, and the
//! response.

use std::{fs, net::SocketAddr};

use serde_json::Value;
use superoffice_sandbox::TenantState;
use tenant_gateway::{app::ShutdownOutcome, grpc::pb};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    APPLICATION, Authority, CLIENT_ID, CLIENT_SECRET, Client, Options, World,
    api_host::{HostResponse, OK_JSON, ScriptedApiHost, address, gateway_with_host},
    binary::Process,
    callers::AuthenticatedGateway,
    eventually, eventually_so,
    http::{Answer, request, send},
    name,
};

const CONTACT: &str = "/crm-sync/Cust1/api/v1/Contact/5";
const LISTENS: &str = "[egress]\nlisten = \"127.0.0.1:0\"\n";

async fn get(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(to, "GET", path, headers, b"").await
}

/// Returns the newest events of the audit trail, oldest first.
async fn events(world: &World, filter: &str) -> Vec<pb::AuditEvent> {
    let list = pb::ListAuditEventsRequest {
        filter: format!("action=\"callWebApiAs*\"{filter}"),
        ..Default::default()
    };
    let answer = world.audits().await.list_audit_events(list).await.unwrap().into_inner();
    answer.audit_events.into_iter().rev().collect()
}

// Requests

#[tokio::test]
async fn without_its_section_there_is_no_listener() {
    assert_eq!(World::new().await.gateway().egress_address, None);
}

#[tokio::test]
async fn a_call_arrives_with_the_tenants_credential_and_without_the_callers() {
    let (world, host) = gateway_with_host("").await;
    let secret = [
        ("Authorization", "Bearer workload-token"),
        ("Proxy-Authorization", "Basic x"),
        ("SO-AppToken", "theirs"),
        ("Cookie", "a=b"),
        ("Gateway-Act-As", "system"),
        ("Gateway-Reason", "nightly sync"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=x"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("Keep-Alive", "5"),
        ("TE", "trailers"),
    ];
    let passes = [
        ("Accept", "application/json"),
        ("Accept-Encoding", "gzip, br"),
        ("Accept-Language", "nb"),
        ("If-None-Match", "\"1\""),
        ("Range", "bytes=0-9"),
        ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("User-Agent", "their client"),
        ("X-Request-Id", "r-17"),
    ];
    let answer = get(address(world.gateway()), CONTACT, &[&secret[..], &passes].concat()).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    assert_eq!(answer.header("x-request-id"), Some("r-17"));
    let [arrived] = &host.received()[..] else { panic!("{:?}", host.received()) };
    assert_eq!(arrived.line(), "GET /Cust1/api/v1/Contact/5 HTTP/1.1");
    let ours = ["authorization", "host", "so-apptoken"];
    let mut names: Vec<_> = passes.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.extend(ours.map(str::to_owned));
    names.sort();
    assert_eq!(arrived.names(), names);
    for (name, value) in passes {
        assert_eq!(arrived.header(name), [value]);
    }
    let ticket = world.ticket("Cust1").await.unwrap();
    assert_eq!(arrived.header("authorization"), [format!("SOTicket {}", ticket.value)]);
    assert_eq!(arrived.header("so-apptoken"), [CLIENT_SECRET]);
    assert_eq!(arrived.header("host"), [host.address.to_string()]);
}

#[tokio::test]
async fn headers_named_by_connection_are_not_forwarded() {
    let (world, host) = gateway_with_host("").await;
    let headers = [("Connection", "X-Own, keep-alive"), ("X-Own", "1"), ("X-Other", "2")];
    get(address(world.gateway()), CONTACT, &headers).await;
    assert!(host.received()[0].header("x-own").is_empty());
    assert_eq!(host.received()[0].header("x-other"), ["2"]);
}

#[tokio::test]
async fn every_method_body_and_query_arrives_unchanged() {
    let (world, host) = gateway_with_host("").await;
    let path = "/crm-sync/Cust1/api/v1/Contact?$filter=name%20eq%20'a'&x=%2F..";
    for (method, body) in [("POST", "{\"a\":1}"), ("PUT", ""), ("PATCH", "[]"), ("DELETE", "")] {
        let answer = send(address(world.gateway()), method, path, &[], body.as_bytes()).await;
        assert_eq!(answer.status, 200);
        let arrived = host.received().pop().unwrap();
        let target = path.strip_prefix("/crm-sync").unwrap();
        assert_eq!(arrived.line(), format!("{method} {target} HTTP/1.1"));
        assert_eq!(arrived.header("content-length"), [body.len().to_string()]);
        assert_eq!(arrived.body, body.as_bytes());
    }
    send(address(world.gateway()), "HEAD", path, &[], b"").await;
    assert!(host.received().pop().unwrap().line().starts_with("HEAD /Cust1/api/v1/Contact?"));
}

#[tokio::test]
async fn http2_is_supported() {
    let (world, host) = gateway_with_host("").await;
    let client = reqwest::ClientBuilder::new().http2_prior_knowledge().build().unwrap();
    let uri = format!("http://{}{CONTACT}", address(world.gateway()));
    let request = client.put(uri).body("{}").build().unwrap();
    let answer = client.execute(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    assert_eq!(answer.text().await.unwrap(), "{}");
    assert_eq!(host.received()[0].body, b"{}");
}

#[tokio::test]
async fn curl_reaches_the_sandbox_as_the_system_user() {
    let world =
        World::with(Options { extra_config: LISTENS.to_owned(), ..Options::default() }).await;
    world.enroll("Cust1").await;
    let to = address(world.gateway());
    let uri = format!("http://{to}/crm-sync/Cust1/api/v1/User/currentPrincipal");
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "-H", "Accept: application/json", &uri]);
    let answer = Process::start(curl).finished().await.succeeded();
    let principal: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(principal["DatabaseContextIdentifier"], "Cust1");
    assert_eq!(principal["UserType"], "SystemAssociate");
}

// Contexts

const SYSTEM: &str = "@id(\"jobs\") permit (principal == Caller::\"jobs\", action == Action::\"callWebApiAsSystemUser\",
    resource in Application::\"applications/crm-sync\")
    when { context.method == \"GET\" && context.path like \"/api/v1/*\" };";
const AS_PEOPLE: &str = "@id(\"portal\") permit (principal == Caller::\"portal\", action == Action::\"callWebApiAsUser\",
    resource in Application::\"applications/crm-sync\");
    permit (principal == Caller::\"both\", action in Action::\"callWebApi\", resource);
    permit (principal == Caller::\"admin\", action, resource);";

/// A gateway with authenticated callers, and a tenant with a person who has consented.
async fn guarded() -> (AuthenticatedGateway, ScriptedApiHost, i32) {
    let policy = format!("{SYSTEM}{AS_PEOPLE}");
    let options = Options { extra_config: LISTENS.to_owned(), ..Options::default() };
    let guarded = AuthenticatedGateway::with(&policy, options).await;
    let world = &guarded.world;
    let (host, token) = (ScriptedApiHost::start().await, world.make_tenant("Cust1"));
    host.move_tenant_here(&world.sandbox, "Cust1");
    let set = pb::CreateTenantRequest {
        parent: format!("applications/{APPLICATION}"),
        tenant_id: "Cust1".to_owned(),
        tenant: None,
    };
    let admin = |method: &'static str, message: Vec<u8>| guarded.call("admin", method, message);
    admin("TenantService/CreateTenant", encode(&set)).await.unwrap();
    let set = pb::SetSystemUserTokenRequest { name: name("Cust1"), system_user_token: token };
    admin("TenantService/SetSystemUserToken", encode(&set)).await.unwrap();
    world.sandbox.generate_people("Cust1", 20, 7).unwrap();
    let signed_in = |id| Some((id, world.sandbox.begin_grant(CLIENT_ID, "Cust1", id).ok()?));
    let (id, refresh_token) = (1..100).find_map(signed_in).unwrap();
    let import =
        pb::ImportGrantRequest { tenant: name("Cust1"), refresh_token, ..Default::default() };
    admin("ImpersonationService/ImportGrant", encode(&import)).await.unwrap();
    (guarded, host, i32::try_from(id).unwrap())
}

fn encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

impl AuthenticatedGateway {
    async fn get(&self, caller: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let token = format!("Bearer {}", self.token(caller));
        let all = [&[("Authorization", token.as_str())], headers].concat();
        get(address(self.world.gateway()), path, &all).await
    }
}

#[tokio::test]
async fn the_context_header_is_needed_only_if_policy_allows_several() {
    let (guarded, host, id) = guarded().await;
    let person = format!("associates/{id}");
    let acted = |answer: &Answer| {
        assert_eq!(answer.status, 200, "{answer:?}");
        let arrived = host.received().pop().unwrap();
        let scheme = arrived.header("authorization")[0].split_once(' ').unwrap().0.to_owned();
        assert_eq!(arrived.header("so-apptoken").is_empty(), scheme == "Bearer");
        scheme
    };
    assert_eq!(acted(&guarded.get("jobs", CONTACT, &[]).await), "SOTicket");
    assert_eq!(acted(&guarded.get("portal", CONTACT, &[]).await), "Bearer");
    let several = guarded.get("both", CONTACT, &[]).await;
    let problem = several.assert_problem(400, "INVALID_ARGUMENT");
    assert!(problem["detail"].as_str().unwrap().contains("Gateway-Act-As"));
    for (eyes, scheme) in [("system", "SOTicket"), (&*person, "Bearer")] {
        let answer = guarded.get("both", CONTACT, &[("Gateway-Act-As", eyes)]).await;
        assert_eq!(acted(&answer), scheme, "{eyes}");
    }
    assert_eq!(host.received().len(), 4);
}

#[tokio::test]
async fn an_empty_header_counts_as_absent_and_never_chooses_the_system_user() {
    let (guarded, host, _) = guarded().await;
    for empty in ["", " ", "\t "] {
        let as_nobody = [("Gateway-Act-As", empty), ("Gateway-Reason", empty)];
        let answer = guarded.get("both", CONTACT, &as_nobody).await;
        let problem = answer.assert_problem(400, "INVALID_ARGUMENT");
        assert!(problem["detail"].as_str().unwrap().contains("Gateway-Act-As"));
        assert!(host.received().is_empty());
    }
    let as_nobody = [("Gateway-Act-As", ""), ("Gateway-Rewrite-Links", "")];
    for (caller, scheme) in [("jobs", "SOTicket"), ("portal", "Bearer")] {
        assert_eq!(guarded.get(caller, CONTACT, &as_nobody).await.status, 200);
        assert!(host.received().pop().unwrap().header("authorization")[0].starts_with(scheme));
    }
}

#[tokio::test]
async fn policy_decides_on_caller_user_method_and_path_before_anything_is_sent() {
    let (guarded, host, id) = guarded().await;
    let (denied, path) = ("POLICY_DENIED", "PATH_NOT_ALLOWED");
    let person = format!("associates/{id}");
    for (caller, target, eyes, reason) in [
        ("nobody", CONTACT, "system", denied),
        ("nobody", "/crm-sync/Cust77/api/v1/Contact", "system", denied),
        ("jobs", CONTACT, person.as_str(), denied),
        ("jobs", CONTACT, "associates/999", denied),
        ("portal", CONTACT, "system", denied),
        ("jobs", "/crm-sync/Cust1/api/v2/Contact", "system", path),
        ("jobs", "/crm-sync/Cust1/API/%562/Contact", "system", path),
        ("jobs", "/crm-sync/Cust1/api/v1/User/currentToken", "system", path),
        ("jobs", "/crm-sync/Cust1/api/v1/user/CURRENT%54oken/", "system", path),
        ("both", "/crm-sync/Cust1/api/v1/Agents/Associate/GetEncryptionKey", "system", path),
        ("jobs", "/crm-sync/Cust1/api/v1/Webhook/12?$select=Name", "system", path),
        ("both", "/crm-sync/Cust1/api/v1/Agents/EMail/GetEMailAccount", "system", path),
    ] {
        let answer = guarded.get(caller, target, &[("Gateway-Act-As", eyes)]).await;
        answer.assert_problem(403, reason);
    }
    let token = format!("Bearer {}", guarded.token("jobs"));
    let headers = [("Authorization", token.as_str())];
    let answer = send(address(guarded.world.gateway()), "POST", CONTACT, &headers, b"{}").await;
    answer.assert_problem(403, path);
    assert!(host.received().is_empty());
}

#[tokio::test]
async fn a_forbid_on_a_path_overrides_every_cached_permit() {
    let (guarded, host, _) = guarded().await;
    let call = |path| guarded.get("jobs", path, &[("Gateway-Act-As", "system")]);
    let (forbidden, other) = (CONTACT, "/crm-sync/Cust1/api/v1/Person/1");
    for path in [forbidden, other, forbidden] {
        assert_eq!(call(path).await.status, 200);
    }
    let forbid = "forbid (principal, action in Action::\"callWebApi\", resource)
        when { context.path like \"/api/v1/contact*\" };";
    let policy = format!("{SYSTEM}{AS_PEOPLE}{forbid}");
    fs::write(guarded.world.folder.path().join("policy.cedar"), policy).unwrap();
    for reloadable in guarded.world.gateway().reloadables() {
        reloadable.reload().await;
    }
    let arrived = host.received().len();
    call(forbidden).await.assert_problem(403, "PATH_NOT_ALLOWED");
    assert_eq!(host.received().len(), arrived);
    assert_eq!(call(other).await.status, 200);
}

#[tokio::test]
async fn a_workload_token_is_accepted_in_either_header_and_not_forwarded() {
    let (guarded, host, _) = guarded().await;
    let token = guarded.token("jobs");
    let bearer = format!("Bearer {token}");
    let to = address(guarded.world.gateway());
    for headers in [
        vec![("Authorization", &*bearer)],
        vec![("Proxy-Authorization", &*bearer)],
        // Some client libraries always send their own credential.
        vec![("Proxy-Authorization", &*bearer), ("Authorization", "Bearer of-the-library")],
    ] {
        assert_eq!(get(to, CONTACT, &headers).await.status, 200);
    }
    for arrived in host.received() {
        assert!(!arrived.head.contains(&token) && !arrived.head.contains("of-the-library"));
    }
    for headers in [
        vec![],
        vec![("Authorization", "Bearer made-up")],
        vec![("Authorization", &*bearer), ("Authorization", "Bearer second")],
        vec![("Proxy-Authorization", "Basic x"), ("Authorization", &*bearer)],
        vec![("Cookie", &*bearer)],
    ] {
        let answer = get(to, CONTACT, &headers).await;
        answer.assert_problem(401, "CALLER_UNAUTHENTICATED");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(host.received().len(), 3);
}

#[tokio::test]
async fn a_client_certificate_identifies_the_caller() {
    let (files, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.issue().write(files.path());
    fs::write(files.path().join("ca.crt"), authority.pem()).unwrap();
    let folder = files.path().display();
    let tls = |section: &str| {
        format!(
            "[{section}.tls]\ncertificate_file = \"{folder}/tls.crt\"\nprivate_key_file = \"{folder}/tls.key\"\n\
             client_ca_file = \"{folder}/ca.crt\"\n"
        )
    };
    let policy = "permit (principal == Caller::\"spiffe://test/jobs\", action, resource);";
    let options = Options {
        extra_config: format!("{LISTENS}{}{}", tls("egress"), tls("grpc")),
        callers: Some("[callers.mtls]\nenabled = true".to_owned()),
        policy: Some(policy.to_owned()),
        ..Options::default()
    };
    let world = World::with(options).await;
    let to = address(world.gateway());
    let asked = async |client: Client| {
        let client = Client { alpn: Some("http/1.1"), ..client };
        let mut stream = client.handshake(to).await.ok()?;
        stream.write_all(&request("GET", CONTACT, &[], b"")).await.ok()?;
        Some(Answer::read(&mut stream).await)
    };
    let named = |uri| authority.client().showing(authority.issue_for(&[uri], &[]));
    // A permitted caller gets NOT_FOUND, because the tenant does not exist.
    let answer = asked(named("spiffe://test/jobs")).await.unwrap();
    answer.assert_problem(404, "RESOURCE_NOT_FOUND");
    let answer = asked(named("spiffe://test/other")).await.unwrap();
    answer.assert_problem(403, "POLICY_DENIED");
}

// Responses

#[tokio::test]
async fn responses_pass_unchanged_without_cookies() {
    let (world, host) = gateway_with_host("").await;
    let head = |status: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nETag: \"7\"\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\
             X-Own: 1\r\nX-Own: 2\r\nContent-Encoding: gzip\r\nAlt-Svc: h3=\":443\"\r\nKeep-Alive: timeout=5\r\n\
             WWW-Authenticate: SOTicket\r\n"
        )
    };
    for status in [
        "200 OK",
        "206 Partial Content",
        "304 Not Modified",
        "400 Bad Request",
        "404 Not Found",
        "409 Conflict",
        "412 Precondition Failed",
        "403 Forbidden",
        "418 Teapot",
    ] {
        let head: &'static str = head(status).leak();
        host.respond_next(HostResponse::Body(
            head,
            if status.starts_with("304") { vec![] } else { b"body".to_vec() },
        ));
        let answer = get(address(world.gateway()), CONTACT, &[]).await;
        assert_eq!(answer.status.to_string(), status[..3]);
        assert_eq!(answer.header("etag"), Some("\"7\""));
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert_eq!(answer.header("www-authenticate"), Some("SOTicket"));
        assert!(
            ["set-cookie", "alt-svc", "keep-alive"]
                .iter()
                .all(|name| answer.header(name).is_none())
        );
        assert_eq!(answer.body, if status.starts_with("304") { "" } else { "body" });
    }
}

#[tokio::test]
async fn redirects_are_not_followed_and_rewritten_or_removed() {
    let (world, host) = gateway_with_host("public_uri = \"https://egress.example.com\"").await;
    let trap = ScriptedApiHost::start().await;
    let inside = host.uri("Cust1");
    let ours = "https://egress.example.com/crm-sync/Cust1/api";
    for (location, wanted) in [
        (format!("{inside}/v1/Contact/6?x=1"), Some(format!("{ours}/v1/Contact/6?x=1"))),
        ("/Cust1/api/v1/Contact/6".to_owned(), Some(format!("{ours}/v1/Contact/6"))),
        ("6".to_owned(), Some("6".to_owned())),
        (format!("http://{}/Cust1/api/v1", trap.address), None),
        ("https://evil.example/".to_owned(), None),
        ("//evil.example/".to_owned(), None),
        ("/Cust2/api/v1/Contact".to_owned(), None),
    ] {
        let head = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\n");
        host.respond_next(HostResponse::Body(head.leak(), vec![]));
        let answer = get(address(world.gateway()), CONTACT, &[]).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (307, wanted.as_deref()),
            "{location}"
        );
    }
    let head = format!(
        "{OK_JSON}Link: <{inside}/v1?p=2>; rel=next\r\nLink: <https://evil.example>; rel=prev\r\n"
    );
    host.respond_next(HostResponse::Body(head.leak(), b"{}".to_vec()));
    let answer = get(address(world.gateway()), CONTACT, &[]).await;
    assert_eq!(answer.header("link"), Some(&*format!("<{ours}/v1?p=2>; rel=next")));
    assert!(trap.received().is_empty());
}

#[tokio::test]
async fn links_in_json_are_rewritten_on_request() {
    let (world, host) = gateway_with_host("public_uri = \"https://egress.example.com\"").await;
    let next = |base: &str| format!("{{\"odata.nextLink\":\"{base}/v1/Contact?$skip=10\"}}");
    let (inside, ours) = (host.uri("Cust1"), "https://egress.example.com/crm-sync/Cust1/api");
    let to = address(world.gateway());
    host.respond_next(HostResponse::Body(OK_JSON, next(&inside).into_bytes()));
    assert_eq!(get(to, CONTACT, &[]).await.body, next(&inside));
    let asks = [("Gateway-Rewrite-Links", "true"), ("Accept-Encoding", "gzip")];
    host.respond_next(HostResponse::Body(OK_JSON, next(&inside).into_bytes()));
    let answer = get(to, CONTACT, &asks).await;
    assert_eq!(answer.body, next(ours));
    assert_eq!(host.received()[1].header("accept-encoding"), ["identity"]);
    // A body that is not JSON is unchanged.
    let text = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
    host.respond_next(HostResponse::Body(text, next(&inside).into_bytes()));
    assert_eq!(get(to, CONTACT, &asks).await.body, next(&inside));
    // Other JSON content types are rewritten, too.
    let text = "HTTP/1.1 200 OK\r\nContent-Type: text/json; charset=utf-8\r\n";
    host.respond_next(HostResponse::Body(text, next(&inside).into_bytes()));
    let answer = get(to, CONTACT, &asks).await;
    let length = next(ours).len().to_string();
    assert_eq!(answer.header("content-length"), Some(&*length));
    assert_eq!(answer.body, next(ours));
    let large = format!("{OK_JSON}Content-Length: {}\r\n\r\n{{", 17 << 20);
    host.respond_next(HostResponse::Raw(large.into_bytes()));
    get(to, CONTACT, &asks).await.assert_problem(413, "RESPONSE_TOO_LARGE");
    let (world, _host) = gateway_with_host("").await;
    let to = address(world.gateway());
    get(to, CONTACT, &asks).await.assert_problem(400, "INVALID_ARGUMENT");
    let wrong = [("Gateway-Rewrite-Links", "yes")];
    get(to, CONTACT, &wrong).await.assert_problem(400, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn links_that_cannot_be_rewritten_are_an_error() {
    let (world, host) = gateway_with_host("public_uri = \"https://egress.example.com\"").await;
    let to = address(world.gateway());
    let asks = [("Gateway-Rewrite-Links", "true")];
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n",
        "HTTP/1.1 206 Partial Content\r\nContent-Type: application/json\r\nContent-Range: bytes 0-1/2\r\n",
    ] {
        host.respond_next(HostResponse::Body(head, b"{}".to_vec()));
        let answer = get(to, CONTACT, &asks).await;
        assert!(answer.header("retry-after").is_some());
        answer.assert_problem(503, "UPSTREAM_INVALID_RESPONSE");
        // Without the request header, the response is unchanged.
        host.respond_next(HostResponse::Body(head, b"{}".to_vec()));
        assert_eq!(get(to, CONTACT, &[]).await.body, "{}");
    }
}

// Failures

#[tokio::test]
async fn an_invalid_ticket_is_replaced_and_a_small_call_repeated() {
    let (world, host) = gateway_with_host("").await;
    host.respond_next(HostResponse::Body("HTTP/1.1 401 Unauthorized\r\n", vec![]));
    // The probe finds the ticket invalid.
    host.respond_next(HostResponse::Body("HTTP/1.1 401 Unauthorized\r\n", vec![]));
    let answer = send(address(world.gateway()), "POST", CONTACT, &[], b"{\"a\":1}").await;
    assert_eq!(answer.status, 200);
    let arrived = host.received();
    let lines: Vec<_> =
        arrived.iter().map(|request| request.line().split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["POST", "GET", "POST"]);
    assert_eq!(arrived[2].body, b"{\"a\":1}");
    assert_ne!(arrived[0].header("authorization"), arrived[2].header("authorization"));
    assert_eq!(world.exchanges(), 2);
}

#[tokio::test]
async fn an_unusable_tenant_is_reported_with_its_reason() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    let unknown = get(to, "/crm-sync/Cust404/api/v1/Contact", &[]).await;
    unknown.assert_problem(404, "RESOURCE_NOT_FOUND");
    let application = get(to, "/other/Cust1/api/v1/Contact", &[]).await;
    application.assert_problem(404, "APPLICATION_NOT_CONFIGURED");
    world.make_tenant("Cust2");
    world.create("Cust2").await;
    let enrolled = get(to, "/crm-sync/Cust2/api/v1/Contact", &[]).await;
    enrolled.assert_problem(412, "SYSTEM_USER_NOT_ENROLLED");
    let nobody = get(to, CONTACT, &[("Gateway-Act-As", "associates/5")]).await;
    nobody.assert_problem(412, "CONSENT_REQUIRED");
    let disable = pb::DisableTenantRequest { name: name("Cust1"), ..Default::default() };
    world.tenants().await.disable_tenant(disable).await.unwrap();
    get(to, CONTACT, &[]).await.assert_problem(412, "TENANT_DISABLED");
    for (tenant, state) in
        [("Cust3", TenantState::OfflineMaintenance), ("Cust4", TenantState::Suspended)]
    {
        world.enroll(tenant).await;
        world.sandbox.set_state(tenant, state).unwrap();
        let answer = get(to, &format!("/crm-sync/{tenant}/api/v1/Contact"), &[]).await;
        answer.assert_problem(503, "TENANT_NOT_RUNNING");
        let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=3600).contains(&after), "{after}");
    }
    assert!(host.received().is_empty());
}

#[tokio::test]
async fn a_safe_call_without_response_is_unavailable_with_retry_after() {
    let (world, host) = gateway_with_host("").await;
    get(address(world.gateway()), CONTACT, &[]).await;
    for _ in 0..3 {
        host.respond_next(HostResponse::Raw(b"nonsense\r\n\r\n".to_vec()));
    }
    let answer = get(address(world.gateway()), CONTACT, &[]).await;
    answer.assert_problem(503, "UPSTREAM_UNAVAILABLE");
    assert!(answer.header("retry-after").is_some());
    assert!(!answer.body.contains("nonsense"));
}

// Audit events

#[tokio::test]
async fn a_call_without_response_is_in_the_trail_with_its_credential() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    host.respond_next(HostResponse::Raw(b"nonsense\r\n\r\n".to_vec()));
    send(to, "POST", CONTACT, &[], b"{}").await.assert_problem(504, "UPSTREAM_UNAVAILABLE");
    host.respond_next(HostResponse::Hang);
    let mut leaves = TcpStream::connect(to).await.unwrap();
    leaves.write_all(&request("GET", CONTACT, &[], b"")).await.unwrap();
    eventually("the second call is there", || host.received().len() == 2).await;
    drop(leaves);
    eventually_so("both have ended", async || events(&world, "").await.len() == 4).await;
    let ends: Vec<_> =
        events(&world, "").await.into_iter().filter(|event| event.code != 0).collect();
    let credential = world.ticket("Cust1").await.unwrap().credential_id.clone();
    let written: Vec<_> = ends.iter().map(|end| (end.code, end.credential_id.as_str())).collect();
    assert_eq!(written, [(10, credential.as_str()), (1, credential.as_str())]);
}

#[tokio::test]
async fn each_call_leaves_its_decision_and_its_result_in_the_trail() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    host.respond_next(HostResponse::Body("HTTP/1.1 404 Not Found\r\n", b"x".to_vec()));
    let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let own = [("x-request-id", "r-1"), ("Gateway-Reason", "nightly"), trace];
    assert_eq!(get(to, CONTACT, &own).await.status, 404);
    eventually_so("both events are there", async || events(&world, "").await.len() == 2).await;
    let events = events(&world, "").await;
    for event in &events {
        assert_eq!(event.action, "callWebApiAsSystemUser");
        assert_eq!(event.resource, name("Cust1"));
        assert_eq!(event.acting_as, "system");
        assert_eq!(event.decision(), pb::Decision::Allowed);
        assert_eq!((event.request_id.as_str(), event.reason.as_str()), ("r-1", "nightly"));
        assert_eq!(event.trace_id, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(event.client_address, "127.0.0.1");
        assert_eq!((event.method.as_str(), event.path.as_str()), ("GET", "/api/v1/contact/5"));
    }
    assert_eq!((events[0].code, events[1].code), (0, 5));
    assert_eq!(events[0].credential_id, "");
    assert_eq!(events[1].credential_id, world.ticket("Cust1").await.unwrap().credential_id);
}

#[tokio::test]
async fn the_result_of_a_rewritten_response_is_recorded_when_it_was_read() {
    let (world, host) = gateway_with_host("public_uri = \"https://egress.example.com\"").await;
    // More than all buffers on the way.
    host.respond_next(HostResponse::Body(OK_JSON, vec![b' '; 15 << 20]));
    let mut stream = TcpStream::connect(address(world.gateway())).await.unwrap();
    let head = format!("GET {CONTACT} HTTP/1.1\r\nHost: x\r\nGateway-Rewrite-Links: true\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 1000]).await.unwrap();
    assert_eq!(events(&world, "").await.len(), 1);
    drop(stream);
    eventually_so("both events are there", async || events(&world, "").await.len() == 2).await;
    assert_eq!(events(&world, "").await[1].code, 1);
}

#[tokio::test]
async fn a_denied_call_leaves_one_event_with_its_reason() {
    let (guarded, _host, _) = guarded().await;
    guarded.get("jobs", "/crm-sync/Cust1/api/v1/User/currentToken", &[]).await;
    let list =
        pb::ListAuditEventsRequest { filter: "decision=DENIED".to_owned(), ..Default::default() };
    let answer =
        guarded.call("admin", "AuditService/ListAuditEvents", encode(&list)).await.unwrap();
    let answer: pb::ListAuditEventsResponse = prost::Message::decode(&answer[..]).unwrap();
    let [event] = &answer.audit_events[..] else { panic!("{answer:?}") };
    assert_eq!((event.caller.as_str(), event.code), ("jobs", 7));
    assert_eq!(event.error_reason(), pb::ErrorReason::PathNotAllowed);
    assert_eq!((event.method.as_str(), event.path.as_str()), ("GET", "/api/v1/user/currenttoken"));
}

#[tokio::test]
async fn requests_are_counted_by_status() {
    let (world, _host) = gateway_with_host("").await;
    get(address(world.gateway()), CONTACT, &[]).await;
    get(address(world.gateway()), "/nowhere", &[]).await;
    for status in [200, 404] {
        let route = "/{application}/{tenant}/api/{path}";
        let name =
            format!("http_requests_total{{http_route=\"{route}\",http_status=\"{status}\"}}");
        eventually_so("it is counted", async || world.metric(&name).await == 1).await;
    }
}

// Shutdown

#[tokio::test]
async fn a_stop_waits_for_running_calls_and_closes_idle_connections() {
    let (mut world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    let mut idle = TcpStream::connect(to).await.unwrap();
    idle.write_all(format!("GET {CONTACT} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    eventually_so("the first call is there", async || host.received().len() == 1).await;
    let (mut slow, half) = (TcpStream::connect(to).await.unwrap(), vec![b'x'; 50_000]);
    let head = format!("PUT {CONTACT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&half).await.unwrap();
    eventually_so("the second call is there", async || host.received().len() == 2).await;
    let stopped = world.stop();
    let finish = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        slow.write_all(&half).await.unwrap();
        Answer::read(&mut slow).await
    };
    let (ended, answer) = tokio::join!(stopped, finish);
    assert_eq!((ended, answer.status), (ShutdownOutcome::Clean, 200));
    assert!(TcpStream::connect(to).await.is_err());
    let text = Answer::read(&mut idle).await;
    assert_eq!(text.status, 200);
}

#[tokio::test]
async fn calls_ended_by_the_hard_deadline_are_in_the_trail_with_their_result() {
    let host = ScriptedApiHost::start().await;
    let options = Options {
        extra_config: format!("{LISTENS}[login]\ntimeout = \"1s\"\n"),
        lifecycle: Some("drain_delay = \"0s\"\nhard_deadline = \"4s\"".to_owned()),
        ..Options::default()
    };
    let mut world = World::with(options).await;
    host.move_tenant_here(&world.sandbox, "Cust1");
    world.enroll("Cust1").await;
    let to = address(world.gateway());
    let mut under_way = Vec::new();
    for (id, told) in
        [("unanswered", HostResponse::Hang), ("answered", HostResponse::Bytes(64 << 20))]
    {
        let arrived = host.received().len();
        host.respond_next(told);
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request = request("GET", CONTACT, &[("X-Request-Id", id)], b"");
        stream.write_all(&request).await.unwrap();
        eventually("the call is there", || host.received().len() > arrived).await;
        under_way.push(stream);
    }
    under_way[1].read_exact(&mut [0; 1000]).await.unwrap();
    assert_eq!(world.stop().await, ShutdownOutcome::CutOff);
    world.start().await.unwrap();
    let credential = world.ticket("Cust1").await.unwrap().credential_id.clone();
    // The first caller gets UNAVAILABLE; the response of the second has begun.
    for (id, code) in [("unanswered", 14), ("answered", 1)] {
        let events = events(&world, &format!(" AND request_id=\"{id}\"")).await;
        let [decided, ended] = &events[..] else { panic!("{events:?}") };
        assert_eq!((decided.code, decided.credential_id.as_str()), (0, ""));
        assert_eq!((ended.code, ended.credential_id == credential), (code, true), "{ended:?}");
    }
}
