//! Tests that secrets of acting as people never occur in a log, an error, a page, a list or the files of the store:
//! refresh tokens, access tokens, codes, states, verifiers and cookies.

use std::{fs, net::TcpListener};

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::ExposeSecret as _;
use superoffice_sandbox::{Endpoint, Fault, FaultBody, FaultScope, SignIn, SignInRules};
use tenant_gateway::{
    app::Storage,
    config::Config,
    domain::{GrantScope, TenantName},
    grpc::pb::{
        self, impersonation_service_client::ImpersonationServiceClient,
        issue_access_token_request::Subject,
    },
    ports::{Clock as _, ConsentStore as _, GrantStore as _, StoreHealth as _, SystemClock},
};
use tonic::{Status, transport::Channel};
use url::Url;

use crate::{
    canary::{TestedGateway, WEBHOOK_SECRET, page},
    consent::Page,
    support::{APPLICATION, CLIENT_ID, CLIENT_SECRET, Options, binary::Site, http, name},
};

/// Returns a site with consent pages.
async fn site() -> (Site, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let public_uri = format!("http://127.0.0.1:{port}");
    let callback = format!("{public_uri}/oauth/callback");
    let options = Options {
        extra_config: format!(
            "[http]\nlisten = \"127.0.0.1:{port}\"\npublic_uri = \"{public_uri}\""
        ),
        extra_application: format!(
            "redirect_uri = \"{callback}\"\nwebhook_secret_file = \"webhook_secret\""
        ),
        files: vec![("webhook_secret", WEBHOOK_SECRET)],
        ..Options::default()
    };
    let site = Site::with(options).await;
    site.sandbox.set_sign_in(CLIENT_ID, &SignIn::web(&[&callback])).unwrap();
    (site, public_uri)
}

/// A gateway, and people with their secrets.
struct People {
    driven: TestedGateway,
    public_uri: String,
    /// The users who can sign in, and their refresh tokens.
    signed_in: Vec<(u32, String)>,
    /// The pages that browsers got.
    pages: Vec<String>,
}

impl People {
    async fn new() -> Self {
        let (site, public_uri) = site().await;
        let mut driven = TestedGateway::new(site).await;
        driven.enroll("Cust1").await;
        let sandbox = &driven.site.sandbox;
        sandbox.generate_people("Cust1", 60, 7).unwrap();
        let begin = |id| Some((id, sandbox.begin_grant(CLIENT_ID, "Cust1", id).ok()?));
        let signed_in: Vec<_> = (1..200).filter_map(begin).take(12).collect();
        for (id, token) in &signed_in {
            driven.canaries.watch(&format!("the refresh token of {id}"), token);
        }
        Self { driven, public_uri, signed_in, pages: Vec::new() }
    }

    async fn client(&self) -> ImpersonationServiceClient<Channel> {
        ImpersonationServiceClient::new(self.driven.served.channel().await)
    }

    fn note<T>(&mut self, answer: Result<T, Status>) -> Option<T> {
        answer.map_err(|status| self.driven.note(&status)).ok()
    }

    async fn import(&mut self, refresh_token: String) -> Option<pb::Grant> {
        let import =
            pb::ImportGrantRequest { tenant: name("Cust1"), refresh_token, ..Default::default() };
        let imported = self.client().await.import_grant(import).await;
        self.note(imported).map(|imported| imported.into_inner().grant.unwrap())
    }

    async fn issue(&mut self, subject: Subject) {
        let tenant = name("Cust1");
        let subject = Some(subject);
        let request = pb::IssueAccessTokenRequest { tenant, subject, ..Default::default() };
        let issued = self.client().await.issue_access_token(request).await;
        if let Some(issued) = self.note(issued) {
            let token = issued.into_inner().token.unwrap();
            self.driven.canaries.watch("an access token", &token.value);
        }
    }

    async fn begin(&mut self) -> pb::BeginConsentResponse {
        let request = pb::BeginConsentRequest {
            application: format!("applications/{APPLICATION}"),
            tenant: name("Cust1"),
            ..Default::default()
        };
        let begun = self.client().await.begin_consent(request).await.unwrap().into_inner();
        self.driven.canaries.watch("a state", &begun.state);
        begun
    }

    /// Opens a link, signs in as this user, and returns to the gateway.
    async fn consent(&mut self, link: &str, user: &str) -> (String, Option<String>) {
        let gone = Page::click(link).await;
        let cookie = gone.cookie_back().map(str::to_owned);
        let back = Page::sign_in(gone.location(), user, "Cust1", "approve").await;
        let cookie_value = cookie.as_deref().and_then(|cookie| cookie.split_once('='));
        self.driven.canaries.watch("a cookie", cookie_value.unwrap().1);
        for (what, secret) in Url::parse(&back).unwrap().query_pairs() {
            if what == "code" || what == "state" {
                self.driven.canaries.watch(&what, &secret);
            }
        }
        (back, cookie)
    }

    async fn open(&mut self, uri: &str, cookie: Option<&str>) {
        let page = Page::get(uri, cookie).await;
        self.pages.push(page.text);
    }

    /// Adds the refresh tokens that only the store has.
    async fn watch_stored(&mut self) {
        let storage = self.storage().await;
        let tenant: TenantName = name("Cust1").parse().unwrap();
        let grants = storage.store.list(&GrantScope::Tenant(tenant), None, 100).await.unwrap();
        for grant in grants {
            if let Some(stored) = storage.store.refresh_token(&grant.name).await.unwrap() {
                let canaries = &mut self.driven.canaries;
                canaries.watch("a stored refresh token", stored.token.expose_secret());
            }
        }
        storage.store.close().await;
    }

    /// Adds the verifier of an unfinished sign-in.
    async fn watch_verifier(&mut self) {
        let begun = self.begin().await;
        let state = digest(&SHA256, begun.state.as_bytes()).as_ref().try_into().unwrap();
        let storage = self.storage().await;
        let redeemed = storage.store.take_attempt(&state, SystemClock.now()).await.unwrap();
        let (_, attempt) = redeemed.unwrap();
        self.driven.canaries.watch("a verifier", attempt.verifier.expose_secret());
        storage.store.close().await;
    }

    async fn storage(&self) -> Storage {
        let config = Config::load(&self.driven.site.file("gateway.toml")).unwrap().config;
        Storage::open(&config).await.unwrap()
    }

    fn user(&self, index: usize) -> String {
        let id = self.signed_in[index].0;
        self.driven.site.sandbox.people("Cust1").unwrap().associates[&id].user_name.clone()
    }
}

/// Returns responses of the token endpoint that contain secrets instead of tokens.
fn faults(refresh_token: &str) -> Vec<Fault> {
    let echo = format!("{CLIENT_SECRET} does not open {refresh_token}");
    let json =
        serde_json::json!({ "error": echo, "error_description": echo, "refresh_token": echo });
    let status = |status, body| Fault::Status { status, body, retry_after: None };
    vec![
        Fault::Html,
        Fault::Truncate,
        status(500, FaultBody::Html(format!("<h1>{echo}</h1>"))),
        status(200, FaultBody::Json(json.clone())),
        status(400, FaultBody::Json(json)),
        Fault::Redirect { location: "http://127.0.0.1:1/".to_owned() },
        Fault::WrongSignature,
        Fault::AlgNone,
        Fault::WrongNonce,
        Fault::WrongContext { context: "Cust999".to_owned() },
        Fault::MissingClaims { claims: vec!["ctx".to_owned()] },
    ]
}

async fn go_through_faults(people: &mut People) {
    let mut tokens: Vec<_> = people.signed_in.iter().map(|(_, token)| token.clone()).collect();
    // This token is never stored: each of its imports fails.
    let lent = tokens.pop().unwrap();
    let mut grants = Vec::new();
    for token in tokens {
        grants.push(people.import(format!("  {token}\n")).await.unwrap());
    }
    let rules = SignInRules { rotation: true, ..Default::default() };
    people.driven.site.sandbox.set_sign_in_rules(rules);
    for (fault, grant) in faults(&lent).into_iter().zip(&grants) {
        let inject = |people: &People| {
            let sandbox = &people.driven.site.sandbox;
            sandbox.inject(Endpoint::Tokens, fault.clone(), FaultScope::always()).unwrap();
        };
        inject(people);
        people.issue(Subject::Grant(grant.name.clone())).await;
        people.import(lent.clone()).await;
        people.driven.site.sandbox.clear_faults();
        let link = people.begin().await.consent_uri;
        let user = people.user(0);
        let (back, cookie) = people.consent(&link, &user).await;
        inject(people);
        people.open(&back, cookie.as_deref()).await;
        people.driven.site.sandbox.clear_faults();
    }
}

/// Sends secrets in wrong fields, and secrets of other people.
async fn go_through_mistakes(people: &mut People, back: &str) {
    let (_, token) = people.signed_in[11].clone();
    let code = Url::parse(back).unwrap();
    let code = code.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    for misplaced in [token, code, CLIENT_SECRET.to_owned()] {
        people.import(format!("{misplaced} {misplaced}")).await;
        people.import(misplaced.clone()).await;
        people.issue(Subject::UserPrincipalName(misplaced.clone())).await;
        people.issue(Subject::Grant(misplaced.clone())).await;
        let (state, code) = (misplaced.clone(), misplaced.clone());
        let complete = pb::CompleteConsentRequest { state, code };
        let answer = people.client().await.complete_consent(complete).await;
        assert!(people.note(answer).is_none());
        let asked = pb::BeginConsentRequest {
            application: misplaced.clone(),
            tenant: misplaced.clone(),
            return_uri: format!("https://portal.example.com/?{misplaced}"),
            redirect_uri: misplaced.clone(),
            ..Default::default()
        };
        let begun = people.client().await.begin_consent(asked).await;
        assert!(people.note(begun).is_none());
        let to = people.driven.served.http.unwrap();
        for path in [
            format!("/consent/{misplaced}"),
            format!("/oauth/callback?state={misplaced}&code={misplaced}"),
            format!("/oauth/callback?state={misplaced}&error={misplaced}"),
            format!("/oauth/callback?{misplaced}"),
            format!("/{misplaced}"),
        ] {
            let form = [("content-type", "application/x-www-form-urlencoded")];
            let headers = [form[0], ("cookie", &*format!("__Host-consent={misplaced}"))];
            for method in ["GET", "POST"] {
                let body = format!("state={misplaced}&code={misplaced}");
                let answer = http::send(to, method, &path, &headers, body.as_bytes()).await;
                assert!(answer.status >= 400, "{answer:?}");
                people.pages.push(format!("{answer:?}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_a_person_is_in_logs_errors_pages_lists_and_files() {
    let mut people = People::new().await;
    go_through_faults(&mut people).await;
    people.watch_verifier().await;
    // Creates and revokes a grant, by a link and by a caller.
    let link = people.begin().await.consent_uri;
    people.open(&link, None).await;
    let user = people.user(0);
    let (back, cookie) = people.consent(&link, &user).await;
    for _ in 0..2 {
        people.open(&back, cookie.as_deref()).await;
        people.watch_stored().await;
    }
    let id = i32::try_from(people.signed_in[0].0).unwrap();
    people.issue(Subject::AssociateId(id)).await;
    people.watch_stored().await;
    people.open(&link, None).await;
    go_through_mistakes(&mut people, &back).await;

    let People { driven, public_uri, pages, .. } = people;
    let TestedGateway { canaries, served, site, errors } = &driven;
    assert!(errors.len() > 20 && pages.len() > 30, "{} {}", errors.len(), pages.len());
    assert!(pages.iter().any(|page| page.contains("Access was given")));
    for text in errors.iter().chain(&pages) {
        canaries.assert_none_in(&format!("an error: {text}"), text);
    }
    canaries.assert_none_in("/metrics", page(served, "/metrics"));
    let list = site.run(&["grant", "list", "--output", "json"]).await.json();
    let first = list[0]["name"].as_str().unwrap().to_owned();
    for arguments in [
        &["grant", "list"][..],
        &["grant", "list", "--output", "json"],
        &["grant", "revoke", &first],
        &["audit", "export"],
    ] {
        let finished = site.run(arguments).await;
        canaries.assert_none_in(&format!("{arguments:?}"), finished.stderr.as_bytes());
        canaries.assert_none_in(&format!("{arguments:?}"), finished.succeeded());
    }
    for (name, bytes) in driven.files_of_the_store() {
        canaries.assert_none_in(&name, bytes);
    }
    let TestedGateway { canaries, served, site, .. } = driven;
    let log = served.stop().await.stderr;
    for needed in ["\"request ended\"", "/oauth/callback", "/consent/{id}", "CONSENT_INVALID"] {
        assert!(log.contains(needed), "{needed} is not in the log");
    }
    assert!(!log.contains(&format!("{public_uri}/consent/")), "links are in the log");
    for line in log.lines() {
        canaries.assert_none_in(&format!("the log line {line}"), line);
    }
    canaries.assert_none_in("gateway.db", fs::read(site.file("gateway.db")).unwrap());
}
