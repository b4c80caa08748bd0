//! Tests of consent in a real browser, from the link to a token that acts as the person: without a proxy, and behind
//! nginx and Envoy.
//!
//! Needs Chromium, nginx, Envoy, Node.js and packages from npm, so `cargo test` leaves it out (`test = false`).
//! `tools/check-consent` installs what it needs and runs it, and `.ci/run` runs that.
#![cfg(test)]

#[expect(dead_code, unused_imports, reason = "shared with all tests of this folder")]
mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use superoffice_sandbox::{Endpoint, Fault, FaultScope, SignIn, SignInRules};
use tenant_gateway::grpc::pb::{
    self, impersonation_service_client::ImpersonationServiceClient,
    issue_access_token_request::Subject,
};

use self::support::{
    APPLICATION, CLIENT_ID, Options, World,
    binary::{Process, program},
    eventually, name,
};

const ADMIN: &str = "anna@example.com";
const EMPLOYEE: &str = "tony@example.com";
const PORTAL: &str = "https://portal.example.com/";
const WIDE: u32 = 900;
/// The smallest width that pages must support (WCAG 2.2, 1.4.10).
const NARROW: u32 = 320;

/// The browser, as a process.
struct Browser {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Browser {
    fn start() -> Self {
        let [modules, program, shots] = ["BROWSER_MODULES", "BROWSER_PROGRAM", "BROWSER_SHOTS"]
            .map(|variable| std::env::var(variable).expect("run this with tools/check-consent"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/browser.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .args([modules, program, shots])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.stdin, "{question}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["failed"], Value::Null, "{answer}");
        answer
    }

    /// Opens a new browser profile, with or without scripts.
    fn begin(&mut self, scripts: bool, width: u32) {
        self.ask(&json!({ "new": { "scripts": scripts, "width": width } }));
    }

    /// Checks a page of the gateway against the rules for all pages, and returns its text.
    #[track_caller]
    fn page(&mut self, act: Value, shot: &str, status: u64, heading: &str) -> String {
        let mut question = act;
        question["shot"] = shot.into();
        let page = self.ask(&question);
        assert_eq!(page["headings"], json!([heading]), "{page}");
        assert_eq!((&page["status"], &page["title"]), (&status.into(), &heading.into()), "{page}");
        assert_eq!((&page["language"], &page["landmarks"]), (&"en".into(), &1.into()), "{page}");
        assert_eq!((&page["complaints"], &page["barriers"]), (&json!([]), &json!([])), "{page}");
        assert_eq!(page["scrolls"], false, "{page}");
        page["text"].as_str().unwrap().to_owned()
    }

    /// Presses the button of the consent page, and signs in at SuperOffice up to the approval page.
    fn sign_in(&mut self, user: &str, tenant: Option<&str>) {
        self.ask(&json!({ "press": "button" }));
        self.choose_user(user, tenant);
    }

    fn choose_user(&mut self, user: &str, tenant: Option<&str>) {
        self.ask(&json!({ "choose": ["#user", user], "press": "#continue" }));
        if let Some(tenant) = tenant {
            self.ask(&json!({ "choose": ["#tenant", tenant], "press": "#continue" }));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The proxy between the browser and the gateway.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Front {
    Nothing,
    Nginx,
    Envoy,
}

/// A proxy, as a process that ends with the test.
struct Proxy {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Proxy {
    /// Starts the proxy, and waits until it listens.
    async fn start(front: Front, listen: u16, gateway: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = |name| std::env::var(name).expect("run this with tools/check-consent");
        let (file, text) = match front {
            Front::Nothing => unreachable!("there is no proxy"),
            Front::Nginx => ("nginx.conf", include_str!("../browser/nginx.conf")),
            Front::Envoy => ("envoy.yaml", include_str!("../browser/envoy.yaml")),
        };
        let text = text
            .replace("LISTEN_PORT", &listen.to_string())
            .replace("GATEWAY_PORT", &gateway.to_string())
            .replace("LISTEN", &format!("127.0.0.1:{listen}"))
            .replace("GATEWAY", &format!("127.0.0.1:{gateway}"));
        let file = folder.path().join(file);
        fs::write(&file, text).unwrap();
        let mut command = if front == Front::Nginx {
            let mut command = Command::new(program("NGINX"));
            command.arg("-p").arg(folder.path()).args(["-e", "stderr", "-c"]);
            command
        } else {
            let mut command = Command::new(program("ENVOY"));
            command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
            command.arg("--config-path");
            command
        };
        let mut child = command.arg(&file).stdout(Stdio::null()).spawn().unwrap();
        eventually("the proxy listens", || {
            assert!(child.try_wait().unwrap().is_none(), "{front:?} has ended");
            TcpStream::connect(("127.0.0.1", listen)).is_ok()
        })
        .await;
        Self { child, _folder: folder }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a free port.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A gateway with consent pages, two customers, and their users.
struct ConsentGateway {
    world: World,
    public_uri: String,
    _proxy: Option<Proxy>,
}

impl ConsentGateway {
    /// `return_uri_prefix` is the allowed prefix of a front end's return address.
    async fn new(return_uri_prefix: &str) -> Self {
        Self::behind(Front::Nothing, return_uri_prefix).await
    }

    async fn behind(front: Front, return_uri_prefix: &str) -> Self {
        let port = free_port();
        let public_port = if front == Front::Nothing { port } else { free_port() };
        let public_uri = format!("http://127.0.0.1:{public_port}");
        let callback = format!("{public_uri}/oauth/callback");
        let options = Options {
            extra_config: format!(
                "[http]\nlisten = \"127.0.0.1:{port}\"\npublic_uri = \"{public_uri}\""
            ),
            extra_application: format!(
                "redirect_uri = \"{callback}\"\nreturn_uri_prefixes = [\"{return_uri_prefix}\"]"
            ),
            ..Options::default()
        };
        let world = World::with(options).await;
        let sign_in = SignIn { system_token: true, ..SignIn::web(&[callback.as_str()]) };
        world.sandbox.set_sign_in(CLIENT_ID, &sign_in).unwrap();
        for tenant in ["Cust10001", "Cust10002"] {
            world.enroll(tenant).await;
        }
        for (tenant, id, user, role_id) in [
            ("Cust10001", 501, ADMIN, 1),
            ("Cust10001", 502, EMPLOYEE, 6),
            ("Cust10002", 502, EMPLOYEE, 6),
        ] {
            world.add_user(tenant, id, user, role_id);
        }
        let proxy = match front {
            Front::Nothing => None,
            front => Some(Proxy::start(front, public_port, port).await),
        };
        Self { world, public_uri, _proxy: proxy }
    }

    async fn client(&self) -> ImpersonationServiceClient<tonic::transport::Channel> {
        ImpersonationServiceClient::new(self.world.channel().await)
    }

    async fn begin(&self, request: pb::BeginConsentRequest) -> pb::BeginConsentResponse {
        let request = pb::BeginConsentRequest {
            application: format!("applications/{APPLICATION}"),
            tenant: name("Cust10001"),
            reason: "Customer portal: show your own diary <there>".to_owned(),
            ..request
        };
        self.client().await.begin_consent(request).await.unwrap().into_inner()
    }

    async fn link(&self) -> String {
        self.begin(pb::BeginConsentRequest::default()).await.consent_uri
    }

    /// Asserts that the token belongs to this associate.
    async fn acts_as(&self, browser: &mut Browser, associate_id: i32) -> String {
        let issue = pb::IssueAccessTokenRequest {
            tenant: name("Cust10001"),
            subject: Some(Subject::AssociateId(associate_id)),
            ..Default::default()
        };
        let issued = self.client().await.issue_access_token(issue).await.unwrap().into_inner();
        let token = issued.token.unwrap();
        let ask = format!("{}/v1/User/currentPrincipal", token.web_api_uri.trim_end_matches('/'));
        let principal = browser.ask(&json!({ "ask": ask, "token": token.value }));
        assert_eq!(principal["AssociateId"], associate_id, "{principal}");
        principal["UserName"].as_str().unwrap().to_owned()
    }
}

/// Runs from the link to a token, with and without scripts, at these page widths.
async fn a_link_leads_to_a_token(front: Front, browsers: &[(bool, u32, &str)]) {
    let (place, mut browser) = (ConsentGateway::behind(front, PORTAL).await, Browser::start());
    for (scripts, width, shot) in browsers.iter().copied() {
        let request = pb::BeginConsentRequest { enroll_system_user: true, ..Default::default() };
        let link = place.begin(request).await.consent_uri;
        browser.begin(scripts, width);
        let asking = "An application asks for access to SuperOffice";
        let text = browser.page(json!({ "open": link }), &format!("{shot}-1-asking"), 200, asking);
        for part in [APPLICATION, "Cust10001", "diary <there>", "whole company"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // The first tab stop is the only action of the page.
        let focus = browser.ask(&json!({ "tab": 1 }));
        assert_eq!(focus["focus"], json!(["Continue to SuperOffice"]));
        browser.sign_in(ADMIN, None);
        let granted = format!("{shot}-2-granted");
        let text = browser.page(json!({ "press": "#approve" }), &granted, 200, "Access was given");
        assert!(text.contains(ADMIN) && text.contains("whole company"), "{text}");
        assert_eq!(place.acts_as(&mut browser, 501).await, ADMIN);
        let used = format!("{shot}-3-used");
        let text = browser.page(json!({ "open": link }), &used, 410, "This link was used already");
        assert!(text.contains("Access was given with it"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_leads_to_a_token_of_the_person_with_scripts_and_without_and_on_a_telephone() {
    let browsers =
        [(true, WIDE, "wide"), (false, WIDE, "without-scripts"), (true, NARROW, "narrow")];
    a_link_leads_to_a_token(Front::Nothing, &browsers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_leads_to_a_token_behind_nginx() {
    let browsers = [(true, WIDE, "nginx"), (false, NARROW, "nginx-without-scripts")];
    a_link_leads_to_a_token(Front::Nginx, &browsers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_leads_to_a_token_behind_envoy() {
    let browsers = [(true, WIDE, "envoy"), (false, NARROW, "envoy-without-scripts")];
    a_link_leads_to_a_token(Front::Envoy, &browsers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failed_consent_shows_a_page_with_advice() {
    let (mut place, mut browser) = (ConsentGateway::new(PORTAL).await, Browser::start());
    let expected_user_principal_name = EMPLOYEE.to_owned();
    let request = pb::BeginConsentRequest { expected_user_principal_name, ..Default::default() };
    let link = place.begin(request).await.consent_uri;
    let living = |place: &ConsentGateway| {
        let grants = place.world.sandbox.grants();
        grants.iter().filter(|grant| !grant.revoked).count()
    };

    browser.begin(true, WIDE);
    browser.ask(&json!({ "open": link }));
    browser.sign_in(ADMIN, None);
    let wrong_person = "You signed in as somebody else";
    let text = browser.page(json!({ "press": "#approve" }), "wrong-person", 412, wrong_person);
    assert!(text.contains("open the link again") && !text.contains(ADMIN), "{text}");

    let rules = SignInRules { ignore_tenant_hint: true, ..SignInRules::default() };
    place.world.sandbox.set_sign_in_rules(rules);
    browser.ask(&json!({ "open": link }));
    browser.sign_in(EMPLOYEE, Some("Cust10002"));
    let wrong_tenant = "You signed in to another customer";
    let text = browser.page(json!({ "press": "#approve" }), "wrong-tenant", 412, wrong_tenant);
    assert!(text.contains("Open the link again"), "{text}");
    place.world.sandbox.set_sign_in_rules(SignInRules::default());
    eventually("what is not kept is revoked", || living(&place) == 0).await;

    let broken =
        || place.world.sandbox.inject(Endpoint::Tokens, Fault::status(503), FaultScope::always());
    broken().unwrap();
    browser.ask(&json!({ "open": link }));
    browser.sign_in(EMPLOYEE, None);
    let failed = "SuperOffice cannot be reached now";
    browser.page(json!({ "press": "#approve" }), "superoffice-error", 503, failed);
    place.world.sandbox.clear_faults();

    // The back button shows the question again, but only the first answer counts.
    browser.ask(&json!({ "open": link }));
    browser.sign_in(EMPLOYEE, None);
    let used = "This sign-in was used already, or took too long";
    let granted = browser.ask(&json!({ "press": "#approve" }));
    assert_eq!(granted["status"], 200, "{granted}");
    assert!(granted["url"].as_str().unwrap().starts_with(&place.public_uri), "{granted}");
    browser.page(json!({ "open": granted["url"] }), "sign-in-used", 412, used);

    let refused = place.link().await;
    browser.ask(&json!({ "open": refused }));
    browser.ask(&json!({ "press": "button" }));
    browser.page(json!({ "press": "#refuse" }), "refused", 412, "You gave no access");
    let text =
        browser.page(json!({ "open": refused }), "refused-link", 410, "This link was used already");
    assert!(text.contains("The answer was no"), "{text}");

    let expired = place.link().await;
    let late = place.link().await;
    browser.ask(&json!({ "open": late }));
    place.world.advance(Duration::from_hours(7 * 24));
    browser.page(json!({ "press": "button" }), "expired-while-open", 410, "This link is too old");
    browser.page(json!({ "open": expired }), "expired", 410, "This link is too old");
    let unknown = format!("{}/consent/{:032x}", place.public_uri, 7);
    browser.page(json!({ "open": unknown }), "unknown", 404, "There is nothing here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_browser_returns_to_the_front_end_and_a_refusal_offers_a_link_back() {
    let mut browser = Browser::start();
    let portal = browser.ask(&json!({ "portal": true }))["portal"].as_str().unwrap().to_owned();
    let place = ConsentGateway::new(&portal).await;
    let portal = format!("{portal}settings?tab=crm");
    let request = pb::BeginConsentRequest { return_uri: portal.clone(), ..Default::default() };
    for (decision, wanted) in [("#approve", "granted"), ("#refuse", "refused")] {
        let begun = place.begin(request.clone()).await;
        browser.begin(true, WIDE);
        // Starts without a link, so there is no cookie.
        browser.ask(&json!({ "open": begun.authorization_uri }));
        browser.choose_user(EMPLOYEE, None);
        let mut shown = browser.ask(&json!({ "press": decision }));
        if decision == "#refuse" {
            let focus = browser.ask(&json!({ "tab": 1 }));
            assert_eq!(focus["focus"], json!(["Go back to where you came from"]));
            shown = browser.ask(&json!({ "press": "a" }));
        }
        let back = format!("{portal}&state={}&result={wanted}", begun.state);
        assert_eq!((&shown["url"], &shown["title"]), (&json!(back), &json!("Portal")), "{shown}");
    }
    assert_eq!(place.acts_as(&mut browser, 502).await, EMPLOYEE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_that_dev_prints_works() {
    let ports = ["--grpc-port", "0", "--http-port", "0", "--admin-port", "0"];
    let mut dev = Process::start(program(&[&["dev"][..], &ports].concat()));
    let link = |process: &Process| {
        let said = process.stdout();
        let (_, link) = said.split_once("consent  ")?;
        Some(link.split_once(' ')?.0.to_owned())
    };
    let link = dev.until("prints a link", link).await;
    let mut browser = Browser::start();
    browser.begin(true, WIDE);
    let asking = "An application asks for access to SuperOffice";
    browser.page(json!({ "open": link }), "dev-1-asking", 200, asking);
    browser.ask(&json!({ "press": "button", "shot": "dev-2-sign-in" }));
    // The expected user is preselected.
    browser.ask(&json!({ "press": "#continue", "shot": "dev-3-approve" }));
    let given = "Access was given";
    let text = browser.page(json!({ "press": "#approve" }), "dev-4-granted", 200, given);
    assert!(text.contains("erik@demo.example"), "{text}");
    dev.signal(rustix::process::Signal::INT);
    dev.finished().await.succeeded();
}
