//! Tests of `tenant-gateway check` with the real program: it reports what is wrong, where, and how to fix it, and
//! changes nothing.

use std::{
    collections::BTreeMap, fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path,
    sync::Arc,
};

use serde_json::Value;
use superoffice_sandbox::{Endpoint, Fault, FaultBody, FaultScope, TenantState};
use tenant_gateway::{
    app::ShutdownOutcome,
    crypto::{EnvelopeSealer, Keyring},
    ports::StoreHealth as _,
    store::{KnownApplications, SqliteFile, SqliteStore},
};

use crate::support::{
    Authority, CLIENT_SECRET, Options, PUBLIC_KEY, World,
    binary::{Finished, Process, program},
    callers::{CALLERS, ISSUER, TestIssuer},
    name,
};

/// Text in place of secrets, which must not be printed.
const CANARY: &str = "canary-4b1f7";

/// The prefix of the sandbox's system user tokens.
const TOKEN: &str = "Søndag Sync v1.2-";

/// The output of the program, and its exit code.
struct Checked {
    code: i32,
    text: String,
    json: Value,
}

impl Checked {
    /// Returns the checks of one id and state: where, found and mend of each, as text.
    fn of(&self, id: &str, state: &str) -> Vec<String> {
        let checks = self.json["checks"].as_array().unwrap().iter();
        let wanted = checks.filter(|check| check["id"] == id && check["state"] == state);
        let text = |check: &Value| {
            let part = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
            format!("{} | {} | {}", part("where"), part("found"), part("mend"))
        };
        wanted.map(text).collect()
    }

    /// Asserts that one check of this id has this state, place and finding, and a remedy.
    #[track_caller]
    fn assert_reported(&self, state: &str, id: &str, place: &str, found: &str) {
        let told = self.of(id, state);
        let right = told.iter().any(|line| {
            let parts: Vec<_> = line.splitn(3, " | ").collect();
            parts[0].contains(place) && parts[1].contains(found) && !parts[2].is_empty()
        });
        assert!(right, "no {state} {id} at {place} with {found}: {told:#?}\n{}", self.text);
    }

    /// Returns the number of checks of each state.
    fn states(&self) -> BTreeMap<&str, usize> {
        let mut states = BTreeMap::new();
        for check in self.json["checks"].as_array().unwrap() {
            *states.entry(check["state"].as_str().unwrap()).or_default() += 1;
        }
        states
    }
}

async fn run(arguments: &[&str]) -> Finished {
    Process::start(program(arguments)).finished().await
}

/// Runs `check` twice, with text and JSON output, which must agree.
async fn check_with(config: &Path, options: &[&str]) -> Checked {
    let config = config.to_str().unwrap();
    let arguments = |output| [&["check", "--config", config, "--output", output], options].concat();
    let (text, json) = (run(&arguments("text")).await, run(&arguments("json")).await);
    assert_eq!(text.code, json.code);
    for secret in [CANARY, CLIENT_SECRET, "PRIVATE KEY", TOKEN, "7T:"] {
        assert!(!format!("{text:?}{json:?}").contains(secret), "{secret} in {text:?}{json:?}");
    }
    assert_eq!((text.stderr.as_str(), json.stderr.as_str()), ("", ""));
    let code = text.code.unwrap();
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["ok"], code == 0, "{json:#}");
    Checked { code, text: text.stdout, json }
}

async fn check(world: &World) -> Checked {
    check_with(&world.config_file(), &[]).await
}

fn edit(world: &World, change: impl FnOnce(String) -> String) {
    let file = world.config_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, change(text)).unwrap();
}

fn write(world: &World, file: &str, text: &str) {
    fs::write(world.folder.path().join(file), text).unwrap();
}

/// An environment with two tenants whose gateway is stopped.
async fn stopped() -> World {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    assert_eq!(world.stop().await, ShutdownOutcome::Clean);
    world
}

/// The same with authenticated callers and a policy.
async fn guarded() -> World {
    let world = stopped().await;
    write(&world, "policy.cedar", "permit (principal == Caller::\"sync\", action, resource);");
    write(&world, "jwks.json", &TestIssuer::new(ISSUER, "one").jwks());
    let callers = format!("[policy]\nfile = \"policy.cedar\"\n{CALLERS}");
    edit(&world, |text| text.replace("[callers]\ninsecure_anonymous = true", &callers));
    world
}

#[tokio::test]
async fn a_correct_setup_passes_every_check() {
    let world = guarded().await;
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert_eq!(checked.states(), [("ok", 19), ("skipped", 1)].into(), "{}", checked.text);
    assert_eq!(checked.text.lines().count(), 20 + 2, "{}", checked.text);
    assert!(checked.text.ends_with("\n19 ok, 1 skipped\n"), "{}", checked.text);
    assert_eq!(checked.of("exchange", "skipped").len(), 1);
    assert_eq!(checked.of("tenant_status", "ok").len(), 2);
    let key = &checked.of("private_key", "ok")[0];
    assert!(key.contains("private_key_file | RSA, 2048 bits, key id "), "{key}");
}

#[tokio::test]
async fn before_the_first_start_the_store_is_not_created() {
    let mut world = World::new().await;
    world.stop().await;
    for file in ["gateway.db", "gateway.db.lock"] {
        fs::remove_file(world.folder.path().join(file)).unwrap();
    }
    fs::remove_dir_all(world.folder.path().join("audit")).unwrap();
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert!(checked.of("store", "ok")[0].contains("will be created at the first start"));
    let mut left: Vec<_> = fs::read_dir(world.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["client_secret", "gateway.toml", "keyring.toml", "private_key.pem"]);
    write(&world, "audit", "a file");
    let checked = check(&world).await;
    checked.assert_reported("failed", "store_writable", "audit.directory", "is not a directory");
    fs::remove_file(world.folder.path().join("audit")).unwrap();
    edit(&world, |text| format!("[store]\nurl = \"sqlite:nowhere/gateway.db\"\n{text}"));
    let checked = check(&world).await;
    assert_eq!(checked.code, 2);
    checked.assert_reported("failed", "configuration", "store.url", "its directory does not exist");
}

#[tokio::test]
async fn beside_a_running_server_nothing_is_changed_and_no_ticket_issued() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world.ticket("Cust1").await.unwrap();
    world.sandbox.reset_counts();
    let file = world.folder.path().join("gateway.db");
    let keyring = Keyring::load(&world.folder.path().join("keyring.toml")).unwrap();
    let sealer = EnvelopeSealer::new(&keyring, keyring.first_id()).unwrap();
    let watching = SqliteFile::open(&file).await.unwrap();
    let watching = SqliteStore::new(watching, Arc::new(sealer), KnownApplications::new());
    let seen = watching.external_version().await.unwrap();
    let bytes =
        || ["gateway.db", "gateway.db-wal"].map(|f| fs::read(world.folder.path().join(f)).unwrap());
    let before = bytes();
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert!(checked.of("listener", "skipped")[0].contains("is running"), "{}", checked.text);
    assert_eq!(bytes(), before);
    assert_eq!(watching.external_version().await.unwrap(), seen);
    assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 0);
    assert_eq!(world.exchanges(), 0);
    watching.close().await;
    world.ticket("Cust1").await.unwrap();
    assert_eq!(world.exchanges(), 0, "the server lost its cache");
}

#[tokio::test]
async fn every_error_in_the_configuration_is_reported_at_once() {
    let world = stopped().await;
    edit(&world, |text| {
        let text =
            text.replace("client_secret_file = \"client_secret\"", "client_secret_file = \"gone\"");
        format!("{}\ncolour = \"{CANARY}\"\n", text.replace("reflection", "lisen"))
    });
    let checked = check(&world).await;
    assert_eq!(checked.code, 2);
    checked.assert_reported("failed", "configuration", "gateway.toml:4 grpc.lisen", "unknown key");
    checked.assert_reported("failed", "configuration", "applications[0].colour", "unknown key");
    checked.assert_reported("failed", "configuration", "client_secret_file", "no such file");
    let checked = check_with(&world.folder.path().join("no.toml"), &[]).await;
    assert_eq!(checked.code, 2);
    checked.assert_reported("failed", "configuration", "no.toml", "there is no such file");
    edit(&world, |_| format!("x = {CANARY}"));
    assert_eq!(check(&world).await.code, 2);
}

#[tokio::test]
async fn configurations_that_serve_would_refuse_are_reported() {
    let world = stopped().await;
    edit(&world, |text| text.replace("insecure_anonymous = true", "insecure_anonymous = false"));
    let checked = check(&world).await;
    assert_eq!(checked.code, 2);
    checked.assert_reported(
        "failed",
        "configuration",
        "gateway.toml callers",
        "no caller can authenticate",
    );
    assert_eq!(checked.of("tenant_status", "ok").len(), 2, "the other checks did not run");

    let world = guarded().await;
    edit(&world, |text| text.replace("file = \"policy.cedar\"", ""));
    let checked = check(&world).await;
    assert_eq!(checked.code, 2);
    checked.assert_reported("failed", "configuration", "gateway.toml policy.file", "is missing");
}

#[tokio::test]
async fn access_for_everyone_is_a_warning() {
    let world = stopped().await;
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    let place = "callers.insecure_anonymous";
    checked.assert_reported("warning", "callers", place, "may do everything");
    write(&world, "policy.cedar", "permit (principal, action, resource);");
    edit(&world, |text| format!("policy.file = \"policy.cedar\"\n{text}"));
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    checked.assert_reported("warning", "callers", place, "what the policy permits");
}

#[tokio::test]
async fn invalid_policies_are_reported_with_file_and_line() {
    let world = guarded().await;
    let checked = check(&world).await;
    assert_eq!(checked.of("policy", "ok"), ["policy.file | 1 policy, 0 groups | "]);
    let unused =
        "permit (principal, action, resource == Tenant::\"applications/other/tenants/Cust1\");";
    write(&world, "policy.cedar", unused);
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    checked.assert_reported("warning", "policy", "policy.cedar:1", "other");
    let wrong = "\npermit (principal, action == Action::\"fly\", resource);\n\
                 permit (principal == Caller::\"a b\", action, resource);";
    write(&world, "policy.cedar", wrong);
    edit(&world, |text| text.replace("[policy]", "[policy]\nentities_file = \"entities.json\""));
    write(&world, "entities.json", "[\n{");
    let checked = check(&world).await;
    assert_eq!(checked.code, 2);
    checked.assert_reported("failed", "policy", "policy.cedar:2", "fly");
    checked.assert_reported("failed", "policy", "policy.cedar:3", "a b");
    checked.assert_reported("failed", "policy", "entities.json:2", "");
    fs::remove_file(world.folder.path().join("entities.json")).unwrap();
    let checked = check(&world).await;
    assert_eq!(checked.code, 2);
    checked.assert_reported("failed", "policy", "entities.json", "there is no such file");
}

#[tokio::test]
async fn an_issuer_whose_keys_cannot_be_fetched_is_reported() {
    let world = guarded().await;
    let checked = check(&world).await;
    let told = checked.of("callers", "ok");
    assert_eq!(told, ["callers.jwt[0] | https://issuer.test: 1 key can be used | "]);
    for (keys, found) in [
        (CANARY, "not a JSON object"),
        ("{\"keys\": []}", "no usable key"),
        ("{\"keys\": [{\"kty\": \"oct\", \"k\": \"canary-4b1f7\"}]}", "no usable key"),
    ] {
        write(&world, "jwks.json", keys);
        let checked = check(&world).await;
        assert_eq!(checked.code, 1, "{}", checked.text);
        checked.assert_reported("failed", "callers", "callers.jwt[0]", found);
    }
    let unsupported = "{\"kty\": \"OKP\", \"crv\": \"Ed448\", \"x\": \"AAAA\"}";
    write(&world, "jwks.json", &format!("{{\"keys\": [{unsupported}]}}"));
    let checked = check(&world).await;
    assert_eq!(checked.code, 1, "{}", checked.text);
    let found = "publishes only: a key on curve \"Ed448\"";
    checked.assert_reported("failed", "callers", "callers.jwt[0]", found);
    let good = TestIssuer::new(ISSUER, "one").jwk();
    write(&world, "jwks.json", &format!("{{\"keys\": [{good}, {unsupported}]}}"));
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    let found = "1 key can be used; it also publishes: a key on curve \"Ed448\"";
    checked.assert_reported("warning", "callers", "callers.jwt[0]", found);
    fs::remove_file(world.folder.path().join("jwks.json")).unwrap();
    let checked = check_with(&world.config_file(), &["--offline"]).await;
    assert_eq!(checked.code, 1, "{}", checked.text);
    checked.assert_reported("failed", "callers", "callers.jwt[0]", "jwks.json");
    let line = "jwks_file = \"jwks.json\"";
    edit(&world, |text| text.replace(line, "jwks_uri = \"http://127.0.0.1:1/keys\""));
    let checked = check(&world).await;
    assert_eq!(checked.code, 1, "{}", checked.text);
    checked.assert_reported("failed", "callers", "callers.jwt[0]", "cannot connect");
    let checked = check_with(&world.config_file(), &["--offline"]).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert_eq!(checked.of("callers", "skipped").len(), 1);
}

#[tokio::test]
async fn a_tls_failure_of_an_issuer_is_reported_with_the_cause() {
    let world = guarded().await;
    let (own, other) = (Authority::new(), Authority::new());
    write(&world, "ca.crt", &own.pem());
    let line = "jwks_file = \"jwks.json\"";
    for (identity, found) in [
        (own.issue_until(2001), "its certificate has expired"),
        (other.issue(), "ca_file must contain the certificate of the CA"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("https://{}/keys", listener.local_addr().unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(identity.server("http/1.1")));
        let mut host = tokio::task::JoinSet::new();
        host.spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                // The client disconnects, because it does not trust the certificate.
                let _ = acceptor.accept(tcp).await;
            }
        });
        let there = format!("jwks_uri = \"{uri}\"\nca_file = \"ca.crt\"");
        edit(&world, |text| text.replace(line, &there));
        let checked = check(&world).await;
        assert_eq!(checked.code, 1, "{}", checked.text);
        checked.assert_reported("failed", "callers", "callers.jwt[0]", found);
        edit(&world, |text| text.replace(&there, line));
        host.shutdown().await;
    }
}

#[tokio::test]
async fn client_certificates_that_name_no_caller_are_a_warning() {
    let world = guarded().await;
    let authority = Authority::new();
    authority.issue().write(world.folder.path());
    write(&world, "ca.crt", &authority.pem());
    let tls = "[grpc.tls]\ncertificate_file = \"tls.crt\"\nprivate_key_file = \"tls.key\"\n\
               client_ca_file = \"ca.crt\"\n";
    edit(&world, |text| text.replace("[policy]", &format!("{tls}[policy]")));
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    checked.assert_reported("warning", "callers", "callers.mtls", "do not name callers");
    let mtls = "[callers.mtls]\nenabled = true\n[policy]";
    edit(&world, |text| text.replace("[policy]", mtls));
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert!(checked.of("callers", "ok")[1].contains("name callers"), "{}", checked.text);
    write(&world, "ca.crt", "x");
    let checked = check(&world).await;
    assert_eq!(checked.code, 2);
    checked.assert_reported("failed", "tls", "grpc.tls.client_ca_file", "ca.crt");
    edit(&world, |text| text.replace("client_ca_file = \"ca.crt\"\n", ""));
    let checked = check(&world).await;
    assert_eq!(checked.code, 2);
    checked.assert_reported("failed", "configuration", "callers.mtls.enabled", "needs grpc.tls");
}

#[tokio::test]
async fn wrong_secrets_keys_and_keyring_are_all_reported() {
    let options = Options {
        extra_application: "next_client_secret_env = \"NOT_SET_ANYWHERE\"\n\
                            next_private_key_file = \"next.pem\""
            .to_owned(),
        files: vec![("next.pem", "x")],
        ..Default::default()
    };
    let world = World::with_files(options).await;
    write(&world, "client_secret", &format!("{CANARY}\n{CANARY}"));
    write(&world, "private_key.pem", &format!("{PUBLIC_KEY}{CANARY}"));
    write(&world, "next.pem", CANARY);
    let keyring = world.folder.path().join("keyring.toml");
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o644)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    edit(&world, |text| text.replacen("127.0.0.1:0", &address.to_string(), 1));
    let checked = check(&world).await;
    assert_eq!(checked.code, 2);
    let secret = |key: &str, found: &str| {
        checked.assert_reported("failed", "secret", &format!("applications[0].{key}"), found);
    };
    secret("client_secret_file", "more than one line");
    secret("next_client_secret_env", "is not set");
    let key = "applications[0].private_key_file";
    checked.assert_reported("failed", "private_key", key, "found a public key");
    let key = "applications[0].next_private_key_file";
    checked.assert_reported("failed", "private_key", key, "found neither XML nor PEM");
    checked.assert_reported(
        "failed",
        "keyring",
        "crypto.keyring_file",
        "users other than its owner",
    );
    checked.assert_reported("failed", "listener", "grpc.listen", &address.to_string());
    assert_eq!(checked.of("login_host", "ok").len(), 1, "{}", checked.text);
    world.sandbox.shift_clock(3600);
    let checked = check(&world).await;
    checked.assert_reported(
        "failed",
        "clock",
        "applications[0].login_uri",
        "ahead of this machine",
    );
    fs::write(&keyring, CANARY).unwrap();
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o600)).unwrap();
    let checked = check(&world).await;
    checked.assert_reported("failed", "keyring", "crypto.keyring_file", "is not valid TOML");
    fs::remove_file(&keyring).unwrap();
    let checked = check(&world).await;
    checked.assert_reported(
        "failed",
        "keyring",
        "crypto.keyring_file",
        "the keyring does not exist",
    );
}

#[tokio::test]
async fn a_certificate_that_clients_would_reject_is_reported() {
    for section in ["grpc", "http"] {
        let extra_config = format!(
            "[{section}.tls]\ncertificate_file = \"tls.crt\"\nprivate_key_file = \"tls.key\"\n[http]\n\
             listen = \"127.0.0.1:0\""
        );
        let world = World::with_files(Options { extra_config, ..Default::default() }).await;
        let key = format!("{section}.tls.certificate_file");
        let checked = check(&world).await;
        assert_eq!(checked.code, 2);
        checked.assert_reported("failed", "tls", &key, "tls.crt");
        let authority = Authority::new();
        authority.issue().write(world.folder.path());
        let checked = check(&world).await;
        assert_eq!(checked.code, 0, "{}", checked.text);
        assert!(checked.of("tls", "ok")[0].contains("until 4000-01-01"), "{}", checked.text);
        authority.issue_until(2010).write(world.folder.path());
        let checked = check(&world).await;
        assert_eq!(checked.code, 2);
        checked.assert_reported("failed", "tls", &key, "until 2010-01-01");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        edit(&world, |text| {
            text.replace(
                "[http]\nlisten = \"127.0.0.1:0\"",
                &format!("[http]\nlisten = \"{address}\""),
            )
        });
        check(&world).await.assert_reported("failed", "listener", "http.listen", &address);
    }
}

#[tokio::test]
async fn a_keyring_of_another_store_is_reported_with_each_unreadable_token() {
    let world = stopped().await;
    let keyring = world.folder.path().join("keyring.toml");
    fs::rename(&keyring, world.folder.path().join("right.toml")).unwrap();
    let config = world.config_file();
    run(&["keys", "generate", "--config", config.to_str().unwrap()]).await.succeeded();
    let checked = check(&world).await;
    assert_eq!(checked.code, 2);
    checked.assert_reported(
        "failed",
        "keyring",
        "crypto.keyring_file",
        "the active key of the store",
    );
    for tenant in ["Cust1", "Cust2"] {
        let place = name(tenant);
        checked.assert_reported("failed", "system_user_token", &place, "is not in the keyring");
    }
}

#[tokio::test]
async fn an_invalid_store_or_one_of_another_application_is_reported() {
    let world = stopped().await;
    edit(&world, |text| text.replace("environment = \"sod\"", "environment = \"online\""));
    let checked = check(&world).await;
    assert_eq!(checked.code, 2);
    let place = "applications[0].environment";
    checked.assert_reported("failed", "application", place, "had environment sod");
    checked.assert_reported("failed", "system_user_token", &name("Cust1"), "cannot be decrypted");
    edit(&world, |text| {
        text.replace("environment = \"online\"", "environment = \"sod\"")
            .replace("client_id = \"0", "client_id = \"9")
    });
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    checked.assert_reported("warning", "application", "[0].client_id", "another client id");
    edit(&world, |text| text.replace("id = \"crm-sync\"", "id = \"crm-other\""));
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    checked.assert_reported("warning", "tenant_status", &name("Cust1"), "is not configured");
    write(&world, "gateway.db", &"no database at all, that is plain text. ".repeat(20));
    let checked = check(&world).await;
    assert_eq!(checked.code, 1);
    checked.assert_reported("failed", "store", "store.url", "is not a SQLite database");
}

#[tokio::test]
async fn an_unreachable_login_host_is_reported_and_no_tenant_is_checked() {
    let world = stopped().await;
    let login = world.sandbox.login_uri();
    for (uri, found) in [
        ("http://127.0.0.1:1".to_owned(), "cannot connect"),
        (login.replace("http:", "https:"), "TLS"),
        ("https://no-such-host.invalid".to_owned(), "cannot be resolved"),
    ] {
        edit(&world, |text| {
            let line = text.lines().find(|line| line.starts_with("login_uri")).unwrap().to_owned();
            text.replace(&line, &format!("login_uri = \"{uri}\""))
        });
        let checked = check(&world).await;
        assert_eq!(checked.code, 1, "{}", checked.text);
        checked.assert_reported("failed", "login_host", "applications[0].login_uri", &uri);
        checked.assert_reported("failed", "login_host", "applications[0].login_uri", found);
        assert_eq!(checked.of("tenant_status", "skipped").len(), 2);
    }
    let checked = check_with(&world.config_file(), &["--offline"]).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert_eq!(checked.of("login_host", "skipped").len(), 1);
}

#[tokio::test]
async fn a_wrong_or_broken_login_host_is_reported_without_its_response() {
    let world = stopped().await;
    let login = world.sandbox.login_uri();
    let discovery = |issuer: &str, jwks_uri: &str, token: &str| {
        let body = serde_json::json!({
            "issuer": issuer, "jwks_uri": jwks_uri, "token_endpoint": token,
            "authorization_endpoint": format!("{login}/{CANARY}"), "scopes_supported": [CANARY],
        });
        Fault::json(200, body)
    };
    let here = format!("{login}/login/.well-known/jwks");
    let evil = format!("https://{CANARY}.example");
    for (endpoint, fault, id, state, found) in [
        (Endpoint::Discovery, Fault::status(503), "login_host", "failed", "HTTP 503"),
        (Endpoint::Discovery, Fault::Close, "login_host", "failed", "the connection broke"),
        (Endpoint::Discovery, Fault::Html, "discovery", "failed", "not JSON"),
        (Endpoint::Discovery, Fault::status(404), "discovery", "failed", "HTTP 404"),
        (
            Endpoint::Discovery,
            discovery(&evil, &here, "x"),
            "discovery",
            "failed",
            "another issuer",
        ),
        (
            Endpoint::Discovery,
            discovery(&login, &here, ""),
            "discovery",
            "failed",
            "lacks token_endpoint",
        ),
        (Endpoint::Discovery, discovery(&login, &evil, "x"), "discovery", "warning", "jwks_uri"),
        (Endpoint::Discovery, discovery(&login, &here, "x"), "discovery", "warning", "grant_types"),
        (Endpoint::Jwks, Fault::Html, "jwks", "failed", "not JSON"),
        (
            Endpoint::Jwks,
            Fault::json(200, serde_json::json!({"keys": []})),
            "jwks",
            "failed",
            "no RSA",
        ),
    ] {
        world.sandbox.inject(endpoint, fault, FaultScope::always()).unwrap();
        let checked = check(&world).await;
        world.sandbox.clear_faults();
        assert_eq!(checked.code, i32::from(state == "failed"), "{found}: {}", checked.text);
        checked.assert_reported(state, id, "applications[0].", found);
    }
}

#[tokio::test]
async fn a_clock_difference_of_an_hour_is_reported() {
    let world = stopped().await;
    for shift in [-3600, 3600] {
        world.sandbox.shift_clock(shift);
        let checked = check(&world).await;
        assert_eq!(checked.code, 1, "{}", checked.text);
        checked.assert_reported("failed", "clock", "applications[0].login_uri", "s ");
    }
}

#[tokio::test]
async fn each_unusable_tenant_is_reported_with_the_reason() {
    let mut world = World::new().await;
    for tenant in ["Cust1", "Cust2", "Cust3", "Cust4", "Cust5", "Cust6"] {
        world.enroll(tenant).await;
    }
    world.stop().await;
    let config = world.config_file();
    let config = config.to_str().unwrap();
    run(&["tenant", "disable", "Cust3", "--config", config]).await.succeeded();
    run(&["tenant", "add", "Cust404", "--config", config]).await.succeeded();
    world.sandbox.set_state("Cust2", TenantState::Suspended).unwrap();
    let api = Some(format!("https://{CANARY}.example/Cust4/api"));
    let elsewhere = Fault::Addresses { api, endpoint: None };
    let html =
        Fault::Status { status: 200, body: FaultBody::Html(CANARY.to_owned()), retry_after: None };
    for (tenant, fault) in [
        ("Cust4", elsewhere),
        ("Cust5", html),
        ("Cust6", Fault::OtherTenant { context: CANARY.to_owned() }),
    ] {
        let scope = FaultScope::tenant(tenant);
        world.sandbox.inject(Endpoint::TenantStatus, fault, scope).unwrap();
    }
    world.sandbox.reset_counts();
    let checked = check(&world).await;
    assert_eq!(checked.code, 1, "{}", checked.text);
    let told = |state, tenant: &str, found| {
        checked.assert_reported(state, "tenant_status", &name(tenant), found);
    };
    assert_eq!(checked.of("tenant_status", "ok").len(), 1);
    told("warning", "Cust2", "Suspended");
    told("failed", "Cust4", "not under allowed_api_hosts");
    told("failed", "Cust5", "not JSON");
    told("failed", "Cust6", "of another tenant");
    told("failed", "Cust404", "does not know it");
    checked.assert_reported("warning", "system_user_token", &name("Cust404"), "none is stored");
    assert!(checked.of("tenant_status", "skipped")[0].contains("disabled"));
    assert_eq!(world.exchanges(), 0);

    let only = check_with(&world.config_file(), &["--tenant", "Cust1", &name("Cust3")]).await;
    assert_eq!(only.code, 0, "{}", only.text);
    assert_eq!(only.of("tenant_status", "ok").len(), 1);
    assert_eq!(only.of("tenant_status", "skipped").len(), 1);
    let only = check_with(&world.config_file(), &["--tenant", "Cust99"]).await;
    assert_eq!(only.code, 1);
    only.assert_reported("failed", "tenant_status", &name("Cust99"), "is not in the store");
    run(&["check", "--config", config, "--tenant", "x"]).await.failed(2);
}

#[tokio::test]
async fn many_tenants_are_checked_within_the_concurrency_limit_and_printed_in_few_lines() {
    let extra_config = "[login]\nmax_concurrent = 3".to_owned();
    let mut world = World::with(Options { extra_config, ..Default::default() }).await;
    for number in 1..=60 {
        world.enroll(&format!("Cust{number}")).await;
    }
    world.stop().await;
    world.sandbox.reset_counts();
    let checked = check(&world).await;
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert_eq!(checked.of("tenant_status", "ok").len(), 60);
    assert!(checked.text.contains("… and 40 more"), "{}", checked.text);
    let most = world.sandbox.max_concurrent(Endpoint::TenantStatus);
    assert!((1..=3).contains(&most), "{most}");
}
