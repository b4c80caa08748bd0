//! Tests of caller authentication: valid and invalid tokens and certificates over real connections.

use std::{fs, time::Duration};

use prost::Message as _;
use serde_json::{Value, json};
use tenant_gateway::grpc::pb::{self, tenant_service_client::TenantServiceClient};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};

use crate::support::{
    APPLICATION, Authority, Identity, Options, World, assert_status,
    callers::{
        AUDIENCE, AuthenticatedGateway, CALLERS, ISSUER, TestIssuer, call, with_bearer_token,
    },
    eventually_so, name,
};

const GET: &str = "TenantService/GetTenant";

/// Returns a policy that permits one caller only, so that `NOT_FOUND` identifies it.
fn only(caller: &str) -> String {
    format!("permit (principal == Caller::\"{caller}\", action, resource);")
}

fn get() -> Vec<u8> {
    pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec()
}

async fn ask(channel: &Channel, authorization: &[&str]) -> Status {
    let mut request = Request::new(get());
    for value in authorization {
        let value = MetadataValue::try_from(*value).unwrap();
        request.metadata_mut().append("authorization", value);
    }
    call(channel, GET, request).await.unwrap_err()
}

/// Asserts the fixed response for any invalid credential.
#[track_caller]
fn assert_unauthenticated(status: &Status) {
    assert_status(status, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    let wanted = "the call needs a credential that names its caller: metadata `authorization: Bearer …` with a token \
                  of a configured issuer, or a client certificate";
    assert_eq!(status.message(), wanted);
}

/// Returns the claims of a valid token with changes; `null` removes a claim.
fn with(claims: &Value, changes: &Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// Advances the gateway's clock repeatedly while a call waits for it; ends when dropped.
fn ticking(world: &World, by: Duration) -> JoinSet<()> {
    let clock = world.clock.clone();
    let mut ticking = JoinSet::new();
    ticking.spawn(async move {
        loop {
            clock.advance(by);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    ticking
}

#[tokio::test]
async fn a_valid_token_identifies_its_caller() {
    let guarded = AuthenticatedGateway::new(&only("sync")).await;
    let token = guarded.token("sync");
    for authorization in
        [format!("Bearer {token}"), format!("bearer {token}"), format!("BEARER {token}")]
    {
        let status = ask(&guarded.channel, &[&authorization]).await;
        assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let other = format!("Bearer {}", guarded.token("other"));
    assert_status(&ask(&guarded.channel, &[&other]).await, Code::PermissionDenied, "POLICY_DENIED");
}

#[tokio::test]
async fn every_invalid_token_gets_the_same_response() {
    let guarded = AuthenticatedGateway::new(&only("sync")).await;
    let now = guarded.world.clock_seconds();
    let claims = guarded.issuer.claims("sync", now);
    let stranger = TestIssuer::new(ISSUER, "one");
    let good = guarded.token("sync");
    let (signed, _) = good.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let bad_claims = [
        json!({ "exp": now - 31 }),
        json!({ "exp": null }),
        json!({ "exp": "tomorrow" }),
        json!({ "nbf": now + 31 }),
        json!({ "iat": now + 31 }),
        json!({ "aud": "someone-else" }),
        json!({ "aud": ["someone", "else"] }),
        json!({ "aud": null }),
        json!({ "iss": "https://issuer.test/" }),
        json!({ "iss": "https://other.test" }),
        json!({ "iss": null }),
        json!({ "sub": null }),
        json!({ "sub": "" }),
        json!({ "sub": "sync " }),
        json!({ "sub": "ѕync" }),
        json!({ "sub": "sy\u{200b}nc" }),
        json!({ "sub": "a".repeat(513) }),
        json!({ "sub": "anonymous" }),
        json!({ "sub": "cli:root" }),
        json!({ "sub": "spiffe://example.org/sync" }),
        json!({ "sub": "SPIFFE://example.org/sync" }),
    ];
    // The clock stands still, because some of these are valid a second later.
    for changes in &bad_claims {
        let token = guarded.issuer.sign(&with(&claims, changes));
        assert_unauthenticated(&ask(&guarded.channel, &[&format!("Bearer {token}")]).await);
    }
    let bad = [
        stranger.token("sync", now),
        TestIssuer::new(ISSUER, "unknown").token("sync", now),
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        signed.to_owned(),
        format!("{signed}."),
        format!("{good}."),
        format!("{good}A"),
        format!("{good} {good}"),
        good.chars().rev().collect(),
        format!("{header}..{}", &good[signed.len() + 1..]),
        "A".repeat(20_000),
        "A".repeat(40_000),
    ];
    // An unknown key id makes the gateway fetch the issuer's keys, which waits by its clock.
    let ticking = ticking(&guarded.world, Duration::from_millis(10));
    for token in bad {
        assert_unauthenticated(&ask(&guarded.channel, &[&format!("Bearer {token}")]).await);
    }
    for authorization in [
        &[][..],
        &[""],
        &["Bearer"],
        &["Bearer "],
        &["Basic c3luYzpzeW5j"],
        &[good.as_str()],
        &[&format!("Token {good}")],
        &[&format!("Bearer {good}"), &format!("Bearer {good}")],
    ] {
        assert_unauthenticated(&ask(&guarded.channel, authorization).await);
    }
    drop(ticking);
    let fine = ask(&guarded.channel, &[&format!("Bearer {good}")]).await;
    assert_status(&fine, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_cached_token_ends_when_it_expires() {
    let guarded = AuthenticatedGateway::new(&only("sync")).await;
    let now = guarded.world.clock_seconds();
    let claims = with(&guarded.issuer.claims("sync", now), &json!({ "exp": now + 300 }));
    let token = format!("Bearer {}", guarded.issuer.sign(&claims));
    assert_eq!(ask(&guarded.channel, &[&token]).await.code(), Code::NotFound);
    guarded.world.clock.advance(Duration::from_secs(299));
    assert_eq!(ask(&guarded.channel, &[&token]).await.code(), Code::NotFound);
    guarded.world.clock.advance(Duration::from_secs(32));
    assert_unauthenticated(&ask(&guarded.channel, &[&token]).await);
}

#[tokio::test]
async fn a_token_becomes_invalid_when_its_key_is_removed() {
    let guarded = AuthenticatedGateway::new(&only("sync")).await;
    let old = format!("Bearer {}", guarded.token("sync"));
    assert_eq!(ask(&guarded.channel, &[&old]).await.code(), Code::NotFound);
    let new = TestIssuer::new(ISSUER, "two");
    fs::write(guarded.world.folder.path().join("jwks.json"), new.jwks()).unwrap();
    let ticking = ticking(&guarded.world, Duration::from_millis(100));
    eventually_so("the withdrawn key is believed no more", async || {
        ask(&guarded.channel, &[&old]).await.code() == Code::Unauthenticated
    })
    .await;
    drop(ticking);
    let new = format!("Bearer {}", new.token("sync", guarded.world.clock_seconds()));
    assert_eq!(ask(&guarded.channel, &[&new]).await.code(), Code::NotFound);
}

#[tokio::test]
async fn a_key_that_is_replaced_under_its_id_is_accepted_soon() {
    let guarded = AuthenticatedGateway::new(&only("sync")).await;
    let replaced = TestIssuer::new(ISSUER, "one");
    let token = format!("Bearer {}", replaced.token("sync", guarded.world.clock_seconds()));
    assert_unauthenticated(&ask(&guarded.channel, &[&token]).await);
    fs::write(guarded.world.folder.path().join("jwks.json"), replaced.jwks()).unwrap();
    let _ticking = ticking(&guarded.world, Duration::from_millis(10));
    eventually_so("the new key is believed", async || {
        ask(&guarded.channel, &[&token]).await.code() == Code::NotFound
    })
    .await;
}

#[tokio::test]
async fn a_kubernetes_service_account_token_is_accepted() {
    let subject = "system:serviceaccount:crm:sync-worker";
    let guarded = AuthenticatedGateway::new(&only(subject)).await;
    let now = guarded.world.clock_seconds();
    let token = guarded.issuer.sign(&json!({
        "aud": [AUDIENCE, "https://kubernetes.default.svc.cluster.local"],
        "exp": now + 3607,
        "iat": now,
        "iss": ISSUER,
        "jti": "0f6f1b3e-8f3f-4a52-9a3c-4b8f8c1d2e3f",
        "kubernetes.io": {
            "namespace": "crm",
            "node": { "name": "node-1", "uid": "f7b1c2d3-0000-4000-8000-000000000000" },
            "pod": { "name": "sync-worker-7d4b9", "uid": "5e0c1f2a-0000-4000-8000-000000000000" },
            "serviceaccount": { "name": "sync-worker", "uid": "9a8b7c6d-0000-4000-8000-000000000000" },
            "warnafter": now + 3600,
        },
        "nbf": now,
        "sub": subject,
    }));
    let status = ask(&guarded.channel, &[&format!("Bearer {token}")]).await;
    assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn an_issuer_cannot_name_callers_of_another_issuer() {
    let callers = format!(
        "{CALLERS}\n[[callers.jwt]]\nissuer = \"https://ci.test\"\naudience = \"tenant-gateway\"\n\
         jwks_file = \"ci.json\"\ncaller_prefix = \"ci:\"\n\
         [[callers.jwt]]\nissuer = \"https://spiffe.test\"\naudience = \"tenant-gateway\"\n\
         jwks_file = \"spiffe.json\"\ncaller_prefix = \"mesh:\"\n"
    );
    let policy = only("ci:deploy");
    let options = Options { callers: Some(callers), policy: Some(policy), ..Default::default() };
    let mut world = World::with_files(options).await;
    let main = TestIssuer::new(ISSUER, "one");
    let ci = TestIssuer::new("https://ci.test", "one");
    let mesh = TestIssuer::new("https://spiffe.test", "one");
    for (file, issuer) in [("jwks.json", &main), ("ci.json", &ci), ("spiffe.json", &mesh)] {
        fs::write(world.folder.path().join(file), issuer.jwks()).unwrap();
    }
    world.start().await.unwrap();
    let (channel, now) = (world.channel().await, world.clock_seconds());
    let good = ask(&channel, &[&format!("Bearer {}", ci.token("deploy", now))]).await;
    assert_status(&good, Code::NotFound, "RESOURCE_NOT_FOUND");
    // The issuer without a prefix uses the full name of the other's caller.
    assert_unauthenticated(
        &ask(&channel, &[&format!("Bearer {}", main.token("ci:deploy", now))]).await,
    );
    // A correct name, signed with another issuer's key of the same id.
    let claims = ci.claims("deploy", now);
    let foreign = format!("Bearer {}", main.sign(&claims));
    let ticking = ticking(&world, Duration::from_millis(10));
    assert_unauthenticated(&ask(&channel, &[&foreign]).await);
    drop(ticking);
    let prefixed = ask(&channel, &[&format!("Bearer {}", mesh.token("deploy", now))]).await;
    assert_status(&prefixed, Code::PermissionDenied, "POLICY_DENIED");
    assert_unauthenticated(
        &ask(&channel, &[&format!("Bearer {}", mesh.token("spiffe://example.org/a", now))]).await,
    );
}

#[tokio::test]
async fn a_stream_ends_when_the_token_that_opened_it_has_expired() {
    let guarded = AuthenticatedGateway::new("permit (principal, action, resource);").await;
    let system_user_token = guarded.world.make_tenant("Cust1");
    let parent = format!("applications/{APPLICATION}");
    let create = pb::CreateTenantRequest { parent, tenant_id: "Cust1".to_owned(), tenant: None };
    guarded.call("sync", "TenantService/CreateTenant", create.encode_to_vec()).await.unwrap();
    let set = pb::SetSystemUserTokenRequest { name: name("Cust1"), system_user_token };
    guarded.call("sync", "TenantService/SetSystemUserToken", set.encode_to_vec()).await.unwrap();
    let now = guarded.world.clock_seconds();
    let claims = with(&guarded.issuer.claims("sync", now), &json!({ "exp": now + 300 }));
    let token = guarded.issuer.sign(&claims);
    let mut tenants = TenantServiceClient::new(guarded.channel.clone());
    let watch = with_bearer_token(&token, pb::WatchTenantStatusRequest { parent: name("Cust1") });
    let mut stream = tenants.watch_tenant_status(watch).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    guarded.world.clock.advance(Duration::from_hours(2));
    let status = pb::GetTenantStatusRequest { name: name("Cust1") };
    guarded.call("sync", "TenantService/GetTenantStatus", status.encode_to_vec()).await.unwrap();
    let end = stream.message().await.unwrap_err();
    assert_status(&end, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
}

// Certificates

/// A gateway with TLS, and the certificate authorities of both sides.
struct MtlsGateway {
    world: World,
    issuer: TestIssuer,
    authority: Authority,
    clients: Authority,
    _files: tempfile::TempDir,
}

impl MtlsGateway {
    async fn new(policy: &str, callers: &str) -> Self {
        let (authority, clients) = (Authority::new(), Authority::new());
        let files = tempfile::tempdir().unwrap();
        authority.issue().write(files.path());
        fs::write(files.path().join("ca.crt"), clients.pem()).unwrap();
        let folder = files.path().display();
        let extra_config = format!(
            "[grpc.tls]\ncertificate_file = \"{folder}/tls.crt\"\nprivate_key_file = \"{folder}/tls.key\"\n\
             client_ca_file = \"{folder}/ca.crt\""
        );
        let (callers, policy) = (Some(callers.to_owned()), Some(policy.to_owned()));
        let options = Options { extra_config, callers, policy, ..Default::default() };
        let mut world = World::with_files(options).await;
        let issuer = TestIssuer::new(ISSUER, "one");
        fs::write(world.folder.path().join("jwks.json"), issuer.jwks()).unwrap();
        world.start().await.unwrap();
        Self { world, issuer, authority, clients, _files: files }
    }

    async fn channel(&self, identity: Option<Identity>) -> Channel {
        let mut client = self.authority.client();
        client.identity = identity;
        client.connect(self.world.gateway().grpc_address).await.unwrap().channel
    }

    /// Calls with a client certificate that has these names.
    async fn ask(&self, uris: &[&str], names: &[&str], authorization: &[&str]) -> Status {
        let identity = self.clients.issue_for(uris, names);
        ask(&self.channel(Some(identity)).await, authorization).await
    }
}

const MTLS: &str = "[callers.mtls]\nenabled = true\n";

#[tokio::test]
async fn a_certificate_identifies_its_caller_by_its_only_uri_or_else_only_dns_name() {
    let policy = "permit (principal == Caller::\"spiffe://example.org/sync\", action, resource);\n\
                  permit (principal == Caller::\"sync.example.org\", action, resource) \
                  when { principal.method == \"mtls\" };";
    let mutual = MtlsGateway::new(policy, MTLS).await;
    for (uris, names) in [
        (&["spiffe://example.org/sync"][..], &[][..]),
        (&["spiffe://example.org/sync"], &["one.example.org", "two.example.org"]),
        (&[], &["sync.example.org"]),
        (&[], &["SYNC.example.org"]),
    ] {
        let status = mutual.ask(uris, names, &[]).await;
        assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let other = mutual.ask(&["spiffe://example.org/other"], &["sync.example.org"], &[]).await;
    assert_status(&other, Code::PermissionDenied, "POLICY_DENIED");
    for (uris, names) in [
        (&[][..], &[][..]),
        (&["spiffe://example.org/sync", "spiffe://example.org/other"], &[]),
        (&["spiffe://example.org/sync", "spiffe://example.org/sync"], &[]),
        (&[], &["sync.example.org", "other.example.org"]),
        (&[], &["*.example.org"]),
        (&["spiffe://EXAMPLE.org/sync"], &[]),
        (&["spiffe://example.org:443/sync"], &[]),
        (&["spiffe://user@example.org/sync"], &[]),
        (&["spiffe://example.org/sync?x"], &[]),
        (&["cli:root"], &[]),
        (&[], &["anonymous"]),
    ] {
        assert_unauthenticated(&mutual.ask(uris, names, &[]).await);
    }
}

#[tokio::test]
async fn two_credentials_must_both_be_valid_and_the_token_names_the_caller() {
    let callers = format!("{CALLERS}\n{MTLS}");
    let mutual = MtlsGateway::new(&only("sync"), &callers).await;
    let good = format!("Bearer {}", mutual.issuer.token("sync", mutual.world.clock_seconds()));
    let both = mutual.ask(&["spiffe://example.org/pod"], &[], &[&good]).await;
    assert_status(&both, Code::NotFound, "RESOURCE_NOT_FOUND");
    assert_unauthenticated(
        &mutual.ask(&["spiffe://example.org/pod"], &[], &["Bearer a.b.c"]).await,
    );
    assert_unauthenticated(&mutual.ask(&[], &["a.test", "b.test"], &[&good]).await);
    // Each credential alone is enough, because both are configured.
    let alone = ask(&mutual.channel(None).await, &[&good]).await;
    assert_status(&alone, Code::NotFound, "RESOURCE_NOT_FOUND");
    let certificate = mutual.ask(&["spiffe://example.org/pod"], &[], &[]).await;
    assert_status(&certificate, Code::PermissionDenied, "POLICY_DENIED");
    assert_unauthenticated(&ask(&mutual.channel(None).await, &[]).await);
}

#[tokio::test]
async fn a_certificate_that_expires_during_a_connection_is_no_longer_accepted() {
    let mutual = MtlsGateway::new(&only("localhost"), MTLS).await;
    let channel = mutual.channel(Some(mutual.clients.issue_until(2030))).await;
    assert_status(&ask(&channel, &[]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    mutual.world.clock.advance(Duration::from_hours(24 * 365 * 6));
    assert_unauthenticated(&ask(&channel, &[]).await);
}
