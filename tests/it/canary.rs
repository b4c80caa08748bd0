//! Tests that known secrets (canaries) never occur in a log, an error, a page, a list, `Debug` output or the files of
//! the store.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use superoffice_sandbox::{
    ApiHost, Authorization, Endpoint, Fault, FaultBody, FaultScope, Refusal,
};
use tenant_gateway::{
    config::Config,
    crypto::{Keyring, SigningKey},
    domain::SystemUserToken,
    grpc::{
        envoy_pb::{
            AttributeContext, CheckRequest,
            attribute_context::{HttpRequest, Peer, Request as CheckedRequest},
            authorization_client::AuthorizationClient,
            check_response::HttpResponse,
        },
        pb::{self, web_api_service_client::WebApiServiceClient},
    },
};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::support::{
    APPLICATION, CLIENT_ID, CLIENT_SECRET, Options,
    binary::{Served, Site},
    http, issue, issue_with, name,
};

/// The minimum length of a key line to search for; shorter lines could occur by chance.
const MIN_KEY_LINE: usize = 20;

/// Secrets, in every encoding that is searched for.
#[derive(Default)]
pub(crate) struct Canaries {
    needles: BTreeSet<(String, Vec<u8>)>,
}

impl Canaries {
    pub(crate) fn watch(&mut self, what: &str, secret: &str) {
        assert!(secret.len() >= 8, "{what} is too short to be distinguished from other text");
        let utf16: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let quoted = serde_json::to_string(secret).unwrap();
        let mut needle = |form: &str, bytes: Vec<u8>| {
            self.needles.insert((format!("{what}, {form}"), bytes));
        };
        needle("unchanged", secret.into());
        needle("in JSON", quoted.trim_matches('"').into());
        needle("as `Debug` prints it", format!("{secret:?}").trim_matches('"').into());
        needle(
            "in a URI",
            url::form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>().into(),
        );
        for (form, bytes) in [("UTF-8", secret.as_bytes()), ("UTF-16", &utf16)] {
            let hex = |upper: bool| -> String {
                let digits =
                    |byte: &u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
                bytes.iter().map(digits).collect()
            };
            needle(&format!("{form} in hex"), hex(false).into());
            needle(&format!("{form} in upper case hex"), hex(true).into());
            needle(
                &format!("{form} as a list of numbers"),
                format!("{bytes:?}").trim_matches(['[', ']']).into(),
            );
            for offset in 0..3 {
                let (standard, url_safe) = inside_base64(bytes, offset);
                needle(&format!("{form} in Base64 at {offset}"), standard.into());
                needle(&format!("{form} in URL-safe Base64 at {offset}"), url_safe.into());
            }
        }
        needle("UTF-16", utf16);
    }

    fn found_in(&self, haystack: &[u8]) -> Option<&str> {
        let found = self.needles.iter().find(|(_, needle)| contains(haystack, needle));
        found.map(|(what, _)| what.as_str())
    }

    /// Panics with the kind of secret and the place, without the secret itself.
    #[track_caller]
    pub(crate) fn assert_none_in(&self, place: &str, haystack: impl AsRef<[u8]>) {
        if let Some(what) = self.found_in(haystack.as_ref()) {
            panic!("{what} is in {place}");
        }
    }
}

/// Returns the bytes as they occur inside Base64 of a longer text, `offset` bytes after a boundary: only the characters
/// that do not depend on the neighbours.
fn inside_base64(bytes: &[u8], offset: usize) -> (String, String) {
    let skipped = (3 - offset) % 3;
    let inner = &bytes[skipped..];
    let whole = &inner[..inner.len() - inner.len() % 3];
    (STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let (first, rest) = needle.split_first().unwrap();
    let mut from = haystack;
    while let Some(at) = from.iter().position(|byte| byte == first) {
        from = &from[at + 1..];
        if from.starts_with(rest) {
            return true;
        }
    }
    false
}

pub(crate) const WEBHOOK_SECRET: &str = "blåbær-på-krukke-4711";

/// Returns a site with every kind of secret.
async fn site() -> Site {
    Site::with(Options {
        extra_config: "[http]\nlisten = \"127.0.0.1:0\"\n[egress]\nlisten = \"127.0.0.1:0\"\n[envoy]\nenabled = true"
            .to_owned(),
        extra_application:
            "webhook_secret_file = \"webhook_secret\"\nallow_reveal_application_token = true"
                .to_owned(),
        files: vec![("webhook_secret", WEBHOOK_SECRET)],
        ..Default::default()
    })
    .await
}

/// Returns the secrets in the files of a site.
fn secrets_of(site: &Site) -> Canaries {
    let mut canaries = Canaries::default();
    canaries.watch("the client secret", CLIENT_SECRET);
    canaries.watch("the webhook secret", WEBHOOK_SECRET);
    let key = site.read("private_key.pem");
    let body = key.lines().filter(|line| !line.starts_with('-') && line.len() >= MIN_KEY_LINE);
    for (number, line) in body.enumerate() {
        canaries.watch(&format!("line {number} of the private key"), line);
    }
    let keyring: toml::Table = toml::from_str(&site.read("keyring.toml")).unwrap();
    for key in keyring["keys"].as_array().unwrap() {
        canaries.watch("a key of the keyring", key["key"].as_str().unwrap());
    }
    canaries
}

#[test]
fn the_search_finds_canaries_in_every_encoding() {
    let mut canaries = Canaries::default();
    let secret = "Søndag Sync-\"8k8Q7\"";
    canaries.watch("a token", secret);
    let debug = format!("{:?}", Some(secret));
    let mut places = vec![
        format!("token={secret}"),
        serde_json::json!({ "token": secret }).to_string(),
        debug,
        format!("{:?}", secret.as_bytes()),
    ];
    for prefix in ["", "x", "xy", "xyz"] {
        let text = format!("{prefix}{secret}{prefix}");
        places.push(STANDARD_NO_PAD.encode(&text));
        places.push(URL_SAFE_NO_PAD.encode(&text));
        places.push(format!("{:x?}", text.as_bytes()).replace(", ", ""));
    }
    for place in places {
        // `{:x?}` prints small bytes with one digit; this text has none.
        assert!(canaries.found_in(place.as_bytes()).is_some(), "{place}");
    }
    let utf16: Vec<u8> = format!("x{secret}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(canaries.found_in(&utf16).is_some());
    assert_eq!(canaries.found_in(b"nothing of it"), None);
}

/// A gateway under test, and the errors that callers got.
pub(crate) struct TestedGateway {
    pub(crate) site: Site,
    pub(crate) served: Served,
    pub(crate) canaries: Canaries,
    pub(crate) errors: Vec<String>,
}

impl TestedGateway {
    /// Starts the gateway with the most detailed log.
    pub(crate) async fn new(site: Site) -> Self {
        let canaries = secrets_of(&site);
        let mut command = site.command(&["serve"]);
        command.env("RUST_LOG", "trace");
        let served = Served::start(command).await;
        Self { site, served, canaries, errors: Vec::new() }
    }

    pub(crate) fn note(&mut self, status: &Status) {
        let details = status.get_error_details();
        let raw = String::from_utf8_lossy(status.details()).into_owned();
        self.errors.push(format!("{status:?} {status} {details:?} {raw} {:?}", status.metadata()));
    }

    /// Adds a tenant with its token. From now on, the secrets from SuperOffice are searched for.
    pub(crate) async fn enroll(&mut self, id: &str) -> String {
        let token = self.site.make_tenant(id);
        self.canaries.watch(&format!("the token of {id}"), &token);
        let create = pb::CreateTenantRequest {
            parent: format!("applications/{APPLICATION}"),
            tenant_id: id.to_owned(),
            tenant: None,
        };
        let mut tenants = self.served.tenants().await;
        tenants.create_tenant(create).await.unwrap();
        let set =
            pb::SetSystemUserTokenRequest { name: name(id), system_user_token: token.clone() };
        tenants.set_system_user_token(set).await.unwrap();
        token
    }

    async fn ticket(&mut self, id: &str) -> crate::support::Ticket {
        let ticket = issue_with(&mut self.served.tokens().await, issue(id)).await.unwrap();
        self.canaries.watch(&format!("the ticket of {id}"), &ticket.value);
        ticket
    }

    async fn refused(&mut self, id: &str) {
        let status = issue_with(&mut self.served.tokens().await, issue(id)).await.unwrap_err();
        self.note(&status);
    }

    /// Adds a tenant for which this endpoint has a fault.
    async fn with_fault(&mut self, id: &str, endpoint: Endpoint, fault: Fault) {
        self.enroll(id).await;
        self.site.sandbox.inject(endpoint, fault, FaultScope::always()).unwrap();
        self.refused(id).await;
        self.site.sandbox.clear_faults();
    }

    pub(crate) fn files_of_the_store(&self) -> Vec<(String, Vec<u8>)> {
        let files = fs::read_dir(self.site.folder.path()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let names = names.filter(|name| name.starts_with("gateway.db"));
        let mut files: Vec<_> =
            names.map(|name| (name.clone(), fs::read(self.site.file(&name)).unwrap())).collect();
        for chain in fs::read_dir(self.site.file("audit")).unwrap() {
            let chain = chain.unwrap().path();
            for file in fs::read_dir(&chain).into_iter().flatten() {
                let path = file.unwrap().path();
                files.push((path.display().to_string(), fs::read(path).unwrap()));
            }
        }
        files
    }
}

pub(crate) fn page(served: &Served, path: &str) -> String {
    let page = answer(served.admin, &format!("GET {path}"), "");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    page
}

/// Sends a request. Returns head and body of the response.
fn answer(to: SocketAddr, line: &str, headers: &str) -> String {
    let mut connection = TcpStream::connect(to).unwrap();
    let request =
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

/// Makes successful and failing calls through the egress listener.
fn go_through_egress(driven: &mut TestedGateway, id: &str) {
    let to = driven.served.egress.unwrap();
    let principal = format!("/{APPLICATION}/{id}/api/v1/User/currentPrincipal");
    let json = "Accept: application/json\r\n";
    for (line, headers, status) in [
        (format!("GET {principal}"), json, "200"),
        (format!("POST {principal}"), json, "403"),
        (format!("GET /{APPLICATION}/{id}/api"), json, "200"),
        (format!("GET /{APPLICATION}/{id}/api/v1/nothing"), "", "404"),
        (format!("GET /{APPLICATION}/{id}/api/v1/User/currentToken"), "", "403"),
        (format!("GET /{APPLICATION}/{id}/api/v1/../x"), "", "400"),
        (format!("GET {principal}"), "Gateway-Act-As: associates/5\r\n", "412"),
        (format!("GET /{APPLICATION}/Cust999999/api/v1/Contact"), "", "404"),
    ] {
        let answer = answer(to, &line, headers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {answer}");
        driven.canaries.assert_none_in("an answer of the proxy", answer);
    }
}

/// Makes calls with every fault of SuperOffice, with secrets in its responses.
async fn go_through_faults(driven: &mut TestedGateway) {
    let echo = format!("{CLIENT_SECRET} is not the secret of Søndag Sync");
    let json = serde_json::json!({ "ErrorMessage": echo, "Token": echo, "Endpoint": echo });
    let status = |status, body| Fault::Status { status, body, retry_after: None };
    let faults = [
        Fault::Html,
        Fault::Truncate,
        Fault::Reset,
        status(500, FaultBody::Html(format!("<h1>{echo}</h1>"))),
        status(200, FaultBody::Html(format!("<h1>{echo}</h1>"))),
        status(200, FaultBody::Json(json.clone())),
        status(403, FaultBody::Json(json)),
        Fault::Redirect { location: format!("http://127.0.0.1:1/?secret={CLIENT_SECRET}") },
    ];
    for (index, fault) in faults.iter().enumerate() {
        for (endpoint, hundred) in [(Endpoint::Authenticate, 1), (Endpoint::TenantStatus, 2)] {
            driven.with_fault(&format!("Cust{hundred}{index:02}"), endpoint, fault.clone()).await;
        }
    }
    let of_tokens = [
        Fault::WrongSignature,
        Fault::ForeignKey,
        Fault::AlgNone,
        Fault::WrongIssuer,
        Fault::MalformedTicket,
        Fault::ExpiredToken,
        Fault::WrongContext { context: "Cust999".to_owned() },
        Fault::WrongTicketContext { context: "Cust999".to_owned() },
        Fault::Refuse { message: echo },
    ];
    for (index, fault) in of_tokens.into_iter().enumerate() {
        driven.with_fault(&format!("Cust3{index:02}"), Endpoint::Authenticate, fault).await;
    }
}

/// Makes calls with refusals whose text repeats the token.
async fn go_through_refusals(driven: &mut TestedGateway) {
    for (id, state, refusal) in [
        ("Cust401", Authorization::Revoked, Refusal::Revoked),
        ("Cust402", Authorization::Expired, Refusal::Expired),
        ("Cust403", Authorization::NeedsReapproval, Refusal::NeedsReapproval),
    ] {
        let token = driven.enroll(id).await;
        driven.site.sandbox.set_authorization(CLIENT_ID, id, state).unwrap();
        driven.refused(id).await;
        driven.site.sandbox.set_refusal_message(refusal, Some(format!("no entry with {token}")));
        driven.enroll_again(id, &token).await;
        driven.refused(id).await;
        driven.site.sandbox.set_refusal_message(refusal, None);
    }
    driven.enroll("Cust404").await;
    driven.site.sandbox.set_secrets(CLIENT_ID, &["another-secret"]).unwrap();
    driven.refused("Cust404").await;
    driven.site.sandbox.set_secrets(CLIENT_ID, &[CLIENT_SECRET]).unwrap();
}

impl TestedGateway {
    async fn enroll_again(&mut self, id: &str, token: &str) {
        let set =
            pb::SetSystemUserTokenRequest { name: name(id), system_user_token: token.to_owned() };
        self.served.tenants().await.set_system_user_token(set).await.unwrap();
    }
}

/// Sends secrets in wrong fields, as by a mistake of the caller.
async fn go_through_mistakes(driven: &mut TestedGateway, token: &str, ticket: &str) {
    let (mut tenants, mut tokens) = (driven.served.tenants().await, driven.served.tokens().await);
    for misplaced in [token, ticket, CLIENT_SECRET] {
        let create = pb::CreateTenantRequest {
            parent: misplaced.to_owned(),
            tenant_id: misplaced.to_owned(),
            tenant: None,
        };
        driven.note(&tenants.create_tenant(create).await.unwrap_err());
        let get = pb::GetTenantRequest { name: misplaced.to_owned() };
        driven.note(&tenants.get_tenant(get).await.unwrap_err());
        let list = pb::ListTenantsRequest {
            page_token: misplaced.to_owned(),
            filter: misplaced.to_owned(),
            ..Default::default()
        };
        driven.note(&tenants.list_tenants(list).await.unwrap_err());
        let control = format!("{misplaced}\n{misplaced}");
        let set = pb::SetSystemUserTokenRequest { name: name("Cust1"), system_user_token: control };
        driven.note(&tenants.set_system_user_token(set).await.unwrap_err());
        let mut request = tonic::Request::new(pb::IssueSystemTicketRequest {
            // An invalid name, because errors may repeat valid names.
            tenant: format!("applications/{misplaced}/tenants/cust1"),
            ..Default::default()
        });
        let bearer = format!("Bearer {misplaced}");
        if let Ok(bearer) = bearer.parse() {
            request.metadata_mut().insert("authorization", bearer);
        }
        driven.note(&tokens.issue_system_ticket(request).await.map(drop).unwrap_err());
        let report = pb::ReportRejectedCredentialRequest {
            tenant: name("Cust1"),
            credential_id: misplaced.to_owned(),
        };
        if let Err(status) = tokens.report_rejected_credential(report).await {
            driven.note(&status);
        }
    }
}

/// Makes successful and failing Web API calls, and answers a proxy with the credential.
async fn go_through_calls(driven: &mut TestedGateway, token: &str) {
    let channel = driven.served.channel().await;
    let mut web_api = WebApiServiceClient::new(channel.clone());
    let call = |path: &str, name: &str, value: &str| pb::CallRequest {
        tenant: crate::support::name("Cust1"),
        method: "GET".to_owned(),
        path: path.to_owned(),
        headers: vec![pb::Header { name: name.to_owned(), value: value.into() }],
        ..Default::default()
    };
    let principal = "/api/v1/User/currentPrincipal";
    let done = web_api.call(call(principal, "accept", "application/json")).await.unwrap();
    let done = done.into_inner();
    driven.canaries.assert_none_in("an answer", &done.body);
    for header in &done.headers {
        driven.canaries.assert_none_in(&header.name, &header.value);
    }
    for misplaced in [token, CLIENT_SECRET] {
        let wrong = [
            call(&format!("/api/../{misplaced}"), "accept", misplaced),
            call(principal, misplaced, &format!("{misplaced}\n")),
            pb::CallRequest { credential: misplaced.to_owned(), ..call(principal, "a", "b") },
            pb::CallRequest { method: misplaced.to_owned() + " ", ..call(principal, "a", "b") },
        ];
        for wrong in wrong {
            driven.note(&web_api.call(wrong).await.map(drop).unwrap_err());
        }
    }
    let mut proxy = AuthorizationClient::new(channel);
    let host = driven.site.sandbox.api_uri(ApiHost::A);
    let host = host.split_once("://").unwrap().1.to_owned();
    for (path, api_host, good) in [
        (format!("/crm-sync/Cust1{principal}"), host.clone(), true),
        (format!("/crm-sync/Cust1{principal}"), token.to_owned(), false),
        (format!("/crm-sync/Cust1/api/../{token}"), host, false),
    ] {
        let http = HttpRequest {
            method: "GET".to_owned(),
            path,
            headers: HashMap::from([
                ("so-apptoken".to_owned(), token.to_owned()),
                ("gateway-act-as".to_owned(), if good { "system" } else { token }.to_owned()),
            ]),
            ..HttpRequest::default()
        };
        let attributes = AttributeContext {
            source: Some(Peer { principal: token.to_owned(), ..Peer::default() }),
            request: Some(CheckedRequest { http: Some(http), ..CheckedRequest::default() }),
            context_extensions: HashMap::from([("api_host".to_owned(), api_host)]),
            ..AttributeContext::default()
        };
        let request = CheckRequest { attributes: Some(attributes) };
        let response = proxy.check(request).await.unwrap().into_inner();
        match response.http_response.unwrap() {
            HttpResponse::OkResponse(_) => assert!(good),
            HttpResponse::DeniedResponse(denied) => {
                assert!(!good, "{}", denied.body);
                driven.errors.push(denied.body);
            }
        }
    }
}

/// Sends secrets in every part of a webhook.
async fn go_through_webhooks(driven: &mut TestedGateway, token: &str) {
    let to = driven.served.http.unwrap();
    let path = "/webhooks/superoffice/associates/crm-sync";
    for misplaced in [WEBHOOK_SECRET, CLIENT_SECRET, token] {
        let word: String =
            url::form_urlencoded::byte_serialize(misplaced.as_bytes()).collect::<String>();
        for path in [path.to_owned(), format!("{path}?secret={word}"), format!("{path}/{word}")] {
            let headers =
                [("x-superoffice-signature", &*word), ("cookie", &*word), ("x-request-id", "r")];
            let answer = http::send(to, "POST", &path, &headers, misplaced.as_bytes()).await;
            assert!(answer.status >= 400, "{answer:?}");
            driven.errors.push(format!("{answer:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_logs_errors_pages_lists_and_files() {
    let mut driven = TestedGateway::new(site().await).await;
    let token = driven.enroll("Cust1").await;
    let ticket = driven.ticket("Cust1").await;
    go_through_egress(&mut driven, "Cust1");
    go_through_faults(&mut driven).await;
    go_through_refusals(&mut driven).await;
    go_through_mistakes(&mut driven, &token, &ticket.value).await;
    go_through_calls(&mut driven, &token).await;
    go_through_webhooks(&mut driven, &token).await;

    // A ticket that SuperOffice no longer knows is found invalid and replaced.
    driven.site.sandbox.expire_tickets(None);
    let credential_id = ticket.credential_id.clone();
    let report = pb::ReportRejectedCredentialRequest { tenant: name("Cust1"), credential_id };
    driven.served.tokens().await.report_rejected_credential(report).await.unwrap();
    let replaced = driven.ticket("Cust1").await;
    assert_ne!(replaced.credential_id, ticket.credential_id);

    let TestedGateway { canaries, served, site, .. } = &driven;
    for path in ["/metrics", "/readyz", "/livez"] {
        canaries.assert_none_in(path, page(served, path));
    }
    for arguments in [
        &["tenant", "list"][..],
        &["tenant", "list", "--output", "json"],
        &["keys", "list"],
        &["keys", "list", "--output", "json"],
        &["tenant", "disable", "Cust1", "--output", "json"],
    ] {
        let finished = site.run(arguments).await;
        canaries.assert_none_in(&format!("{arguments:?}"), finished.stderr.as_bytes());
        canaries.assert_none_in(&format!("{arguments:?}"), finished.succeeded());
    }
    let files = driven.files_of_the_store();
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    for needed in ["gateway.db", "gateway.db-wal", "gateway.db-shm", "gateway.db.lock"] {
        assert!(names.contains(&needed), "{needed} was not searched: {names:?}");
    }
    // Checks that these are the right files: they contain values that are not secret.
    let open = replaced.credential_id.as_bytes();
    assert!(files.iter().any(|(_, bytes)| contains(bytes, open)));
    for (name, bytes) in &files {
        driven.canaries.assert_none_in(name, bytes);
    }
    driven.refused("Cust1").await;

    let TestedGateway { canaries, served, errors, site } = driven;
    assert!(errors.len() > 40, "{}", errors.len());
    for error in &errors {
        canaries.assert_none_in(&format!("the error {error}"), error);
    }
    let finished = served.stop().await;
    assert!(finished.stderr.lines().count() > 100, "no log: {}", finished.stderr);
    for needed in [
        "\"serving\"",
        "\"call ended\"",
        "\"request ended\"",
        "\"a request was checked for a proxy\"",
        "UPSTREAM_INVALID_RESPONSE",
        "\"stopped\"",
    ] {
        assert!(finished.stderr.contains(needed), "{needed} is not in the log");
    }
    for line in finished.stderr.lines().chain(finished.stdout.lines()) {
        canaries.assert_none_in(&format!("the log line {line}"), line);
    }
    for name in ["gateway.db", "gateway.db.lock", "gateway.toml"] {
        canaries.assert_none_in(name, fs::read(site.file(name)).unwrap());
    }
}

#[tokio::test]
async fn no_secret_is_in_the_pretty_log_or_in_errors_of_a_failed_start() {
    let site = Site::new().await;
    let canaries = secrets_of(&site);
    let text = site.read("gateway.toml").replace("\"json\"", "\"pretty\"");
    // The second application has the same secrets, and all other values are invalid.
    let wrong = "[[applications]]\nid = \"Bad\"\nenvironment = \"x\"\nclient_id = \"\"\n\
                 client_secret_file = \"client_secret\"\nprivate_key_file = \"client_secret\"\n";
    fs::write(site.file("gateway.toml"), format!("{text}{wrong}")).unwrap();
    let mut command = site.command(&["serve"]);
    command.env("RUST_LOG", "trace");
    let finished = crate::support::binary::Process::start(command).finished().await;
    canaries.assert_none_in("the message", finished.failed(2));
    // The secrets are swapped.
    for (from, to) in [("private_key.pem", "client_secret"), ("client_secret", "private_key.pem")] {
        let site = Site::new().await;
        let canaries = secrets_of(&site);
        fs::copy(site.file(from), site.file(to)).unwrap();
        canaries.assert_none_in("the message", site.run(&["serve"]).await.failed(2));
    }
    // A secret is given instead of its path or of another value.
    for (from, to) in [
        ("\"client_secret\"", format!("\"{CLIENT_SECRET}\"")),
        (
            "client_secret_file = \"client_secret\"",
            format!("client_secret_env = \"{CLIENT_SECRET}\""),
        ),
        ("client_secret_file = \"client_secret\"", format!("client_secret = \"{CLIENT_SECRET}\"")),
        ("environment = \"sod\"", format!("environment = \"{CLIENT_SECRET}\"")),
        ("reflection = true", format!("reflection = \"{CLIENT_SECRET}\"")),
    ] {
        let site = Site::new().await;
        let text = site.read("gateway.toml").replacen(from, &to, 1);
        fs::write(site.file("gateway.toml"), text).unwrap();
        canaries.assert_none_in(&to, site.run(&["serve"]).await.failed(2));
    }
}

#[tokio::test]
async fn no_secret_is_in_debug_output() {
    let site = site().await;
    let mut canaries = secrets_of(&site);
    canaries.watch("the token", "Some App-8k8Q7DmBgo");
    let loaded = Config::load_with_secrets(&site.file("gateway.toml")).unwrap();
    let token = SystemUserToken::new(&"Some App-8k8Q7DmBgo".into()).unwrap();
    let key = SigningKey::parse(&loaded.secrets.applications[0].private_key).unwrap();
    let keyring = Keyring::load(&site.file("keyring.toml")).unwrap();
    for printed in [
        format!("{loaded:?} {loaded:#?}"),
        format!("{token:?}"),
        format!("{key:?}"),
        format!("{keyring:?} {:?}", keyring.keys()),
    ] {
        canaries.assert_none_in(&printed, &printed);
    }
    assert!(format!("{loaded:?}").contains("REDACTED"));
}
