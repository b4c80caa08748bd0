//! Tests of invalid configurations: one message with key, file and remedy, the right exit code, and nothing started.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use crate::support::binary::{Process, Served, Site};

const EC_KEY: &str = include_str!("../fixtures/keys/ec.pkcs8.pem");
const SMALL_KEY: &str = include_str!("../fixtures/keys/rsa-1024.pkcs8.pem");

impl Site {
    /// Replaces text in gateway.toml.
    fn edit(&self, from: &str, to: &str) {
        let text = self.read("gateway.toml");
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(self.file("gateway.toml"), text.replacen(from, to, 1)).unwrap();
    }

    /// Asserts that `serve` ends with this code and one message that contains all `hints`.
    async fn refuses(&self, code: i32, hints: &[&str]) -> String {
        let message = self.run(&["serve"]).await.failed(code);
        for hint in hints {
            assert!(message.contains(hint), "no {hint:?} in {message}");
        }
        assert!(!message.contains("\"serving\""), "{message}");
        let own = message.lines().filter(|line| !line.starts_with('{'));
        assert_eq!(own.count(), 1, "more than one line: {message}");
        message
    }
}

async fn refused_after(from: &str, to: &str, hints: &[&str]) {
    let site = Site::new().await;
    site.edit(from, to);
    let hints = [&["gateway.toml:"], hints].concat();
    site.refuses(2, &hints).await;
    assert!(!site.file("gateway.db").exists(), "a store was created");
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_the_nearest_valid_one() {
    refused_after(
        "reflection = true",
        "reflektion = true",
        &[":4: grpc.reflektion: unknown key", "did you mean `reflection`?"],
    )
    .await;
}

#[tokio::test]
async fn an_unknown_section_is_refused_with_the_nearest_valid_one() {
    refused_after("[grpc]", "[gprc]", &[":2: gprc: unknown key", "did you mean `grpc`?"]).await;
}

#[tokio::test]
async fn invalid_toml_is_refused_with_its_line() {
    refused_after("[admin]", "[admin", &[":6: not TOML"]).await;
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_refused_with_the_expected_form() {
    let to = "listen = \"localhost:1\"\nreflection";
    refused_after(
        "listen = \"127.0.0.1:0\"\nreflection",
        to,
        &["grpc.listen: must be an IP address and a port"],
    )
    .await;
    refused_after("\"0s\"", "0", &["lifecycle.drain_delay: must be a duration in quotes"]).await;
}

#[tokio::test]
async fn an_unknown_environment_is_refused_with_the_valid_ones() {
    refused_after("\"sod\"", "\"stage\"", &["applications[0].environment:", "mean qaonline?"])
        .await;
}

#[tokio::test]
async fn a_secret_from_two_places_is_refused() {
    let both = "client_secret_env = \"CLIENT_SECRET\"\nclient_secret_file";
    let hints =
        ["applications[0].client_secret_file:", "client_secret_env is also set", "remove one"];
    refused_after("client_secret_file", both, &hints).await;
}

#[tokio::test]
async fn a_secret_in_the_configuration_itself_is_refused_and_not_repeated() {
    let site = Site::new().await;
    site.edit("client_secret_file = \"client_secret\"", "client_secret = \"hunter2-hunter2\"");
    let hints = ["applications[0].client_secret:", "client_secret_file"];
    let message = site.refuses(2, &hints).await;
    assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn all_errors_are_reported_at_once() {
    let site = Site::new().await;
    site.edit("reflection = true", "reflektion = true");
    site.edit("\"sod\"", "\"stage\"");
    fs::remove_file(site.file("client_secret")).unwrap();
    let message = site.run(&["serve"]).await.failed(2);
    for key in
        ["grpc.reflektion", "applications[0].environment", "applications[0].client_secret_file"]
    {
        assert!(message.contains(key), "no {key} in {message}");
    }
}

#[tokio::test]
async fn a_missing_configuration_file_is_named() {
    let site = Site::new().await;
    fs::remove_file(site.file("gateway.toml")).unwrap();
    site.refuses(2, &["gateway.toml: there is no such file", "--config"]).await;
}

#[tokio::test]
async fn a_missing_secret_file_is_named_with_its_key() {
    for (file, key) in
        [("client_secret", "client_secret_file"), ("private_key.pem", "private_key_file")]
    {
        let site = Site::new().await;
        fs::remove_file(site.file(file)).unwrap();
        let path = site.file(file).display().to_string();
        let key = format!("applications[0].{key}:");
        site.refuses(2, &["gateway.toml:", &key, &path, "there is no such file"]).await;
    }
}

#[tokio::test]
async fn an_empty_secret_and_an_unset_variable_are_named() {
    let site = Site::new().await;
    fs::write(site.file("client_secret"), "\n").unwrap();
    site.refuses(2, &["applications[0].client_secret_file:", "is empty", "write"]).await;
    site.edit("client_secret_file = \"client_secret\"", "client_secret_env = \"NOT_SET_HERE\"");
    let hints = ["applications[0].client_secret_env:", "NOT_SET_HERE is not set", "set it"];
    site.refuses(2, &hints).await;
}

#[tokio::test]
async fn an_unusable_key_is_refused_with_what_was_found() {
    for (text, found, mend) in [
        ("hunter2 is no key", "found neither XML nor PEM", "use the whole private key"),
        (EC_KEY, "found a private key of another algorithm", "accepts only RSA keys"),
        (SMALL_KEY, "found an RSA key below 2048 bits", "create a new one"),
        (
            "<RSAKeyValue><Modulus>hunter2",
            "found XML that is not well-formed",
            "copy the whole key again",
        ),
    ] {
        let site = Site::new().await;
        fs::write(site.file("private_key.pem"), text).unwrap();
        let path = site.file("private_key.pem").display().to_string();
        let hints = ["gateway.toml", "applications[0].private_key_file:", &path, found, mend];
        let message = site.refuses(2, &hints).await;
        assert!(!message.contains("hunter2"), "{message}");
        let body = text.lines().nth(1).unwrap_or("hunter2");
        assert!(!message.contains(body), "{message}");
    }
}

#[tokio::test]
async fn a_missing_keyring_is_reported_with_the_command_that_creates_one() {
    let site = Site::new().await;
    fs::remove_file(site.file("keyring.toml")).unwrap();
    let path = site.file("keyring.toml").display().to_string();
    let hints = ["gateway.toml", "crypto.keyring_file:", &path, "keys generate"];
    site.refuses(2, &hints).await;
}

#[tokio::test]
async fn a_keyring_that_others_can_read_is_refused_with_a_remedy() {
    let site = Site::new().await;
    let file = site.file("keyring.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let mend = format!("chmod 600 {}", file.display());
    site.refuses(2, &["crypto.keyring_file:", "0644", &mend]).await;
}

#[tokio::test]
async fn a_damaged_keyring_is_refused_and_not_repeated() {
    let site = Site::new().await;
    fs::write(site.file("keyring.toml"), "[[keys]]\nid = \"k-1\"\nkey = hunter2\n").unwrap();
    let path = site.file("keyring.toml").display().to_string();
    let message = site.refuses(2, &["crypto.keyring_file:", &path, "line 3"]).await;
    assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn a_keyring_of_another_store_is_refused() {
    let site = Site::new().await;
    site.enroll("Cust1").await;
    fs::remove_file(site.file("keyring.toml")).unwrap();
    site.run(&["keys", "generate"]).await.succeeded();
    site.refuses(2, &["crypto.keyring_file:", "not in the keyring", "belongs to this store"]).await;
}

#[tokio::test]
async fn a_changed_environment_of_an_existing_store_is_refused() {
    let site = Site::new().await;
    site.run(&["tenant", "list"]).await.succeeded();
    site.edit("\"sod\"", "\"online\"");
    let hints = [
        "gateway.toml",
        "applications[0].environment:",
        "crm-sync had environment sod",
        "another id",
    ];
    site.refuses(2, &hints).await;
    // The refusal changed nothing.
    site.edit("\"online\"", "\"sod\"");
    site.serve().await.stop().await;
}

#[tokio::test]
async fn a_changed_client_id_of_an_existing_store_is_a_warning() {
    let site = Site::new().await;
    site.serve().await.stop().await;
    site.edit("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let log = site.serve().await.stop().await.stderr;
    let warning = log.lines().find(|line| line.contains("the client id of an application changed"));
    let warning = warning.unwrap_or_else(|| panic!("no warning in {log}"));
    for part in ["\"WARN\"", "crm-sync", "0123456789abcdef", "fedcba9876543210"] {
        assert!(warning.contains(part), "{warning}");
    }
}

#[tokio::test]
async fn a_command_does_not_suppress_the_warning_about_a_changed_client_id() {
    let site = Site::new().await;
    site.run(&["tenant", "list"]).await.succeeded();
    site.edit("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    site.run(&["tenant", "list"]).await.succeeded();
    let log = site.serve().await.stop().await.stderr;
    assert!(log.contains("client id of an application changed"), "{log}");
}

#[tokio::test]
async fn anonymous_callers_need_an_explicit_setting() {
    let site = Site::new().await;
    site.edit("insecure_anonymous = true", "");
    let hints = ["callers:", "[[callers.jwt]]", "insecure_anonymous = true", "on this machine"];
    site.refuses(2, &hints).await;
}

#[tokio::test]
async fn anonymous_callers_are_allowed_only_on_loopback() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let site = Site::new().await;
        let listen = format!("listen = \"{listen}\"\nallow_plaintext = true\nreflection");
        site.edit("listen = \"127.0.0.1:0\"\nreflection", &listen);
        site.refuses(2, &["grpc.listen:", "must be a loopback address", "127.0.0.1"]).await;
        let site = Site::new().await;
        site.edit("[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"0.0.0.0:0\"");
        site.refuses(2, &["admin.listen:", "must be a loopback address"]).await;
    }
}

#[tokio::test]
async fn a_store_of_a_newer_release_is_refused_unchanged() {
    let site = Site::new().await;
    site.run(&["tenant", "list"]).await.succeeded();
    let options = SqliteConnectOptions::new().filename(site.file("gateway.db"));
    let mut connection = options.connect().await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9000, 'from the future', 1, x'00', 0)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = fs::read(site.file("gateway.db")).unwrap();
    let path = site.file("gateway.db").display().to_string();
    let hints = [&path, "written by a newer release", "9000", "run that release", "restore"];
    site.refuses(1, &hints).await;
    assert_eq!(fs::read(site.file("gateway.db")).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_not_a_store_is_refused_unchanged() {
    let site = Site::new().await;
    fs::write(site.file("gateway.db"), "not a database\n".repeat(100)).unwrap();
    let path = site.file("gateway.db").display().to_string();
    site.refuses(1, &[&path, "not a SQLite database", "store.url"]).await;
    assert_eq!(site.read("gateway.db"), "not a database\n".repeat(100));
}

#[tokio::test]
async fn a_missing_folder_of_the_store_is_reported_and_not_created() {
    let site = Site::new().await;
    site.edit("[admin]", "[store]\nurl = \"sqlite:nowhere/gateway.db\"\n[admin]");
    let path = site.file("nowhere/gateway.db").display().to_string();
    let hints = ["gateway.toml", "store.url:", &path, "create the folder"];
    site.refuses(2, &hints).await;
    site.run(&["tenant", "list"]).await.failed(2);
    assert!(!site.file("nowhere").exists());
}

#[tokio::test]
async fn a_second_serve_on_one_file_is_refused_and_the_first_continues() {
    let site = Site::new().await;
    let first = site.serve().await;
    let path = site.file("gateway.db").display().to_string();
    site.refuses(1, &["another `serve` uses", &path, "stop the other"]).await;
    site.enroll("Cust1").await;
    first.stop().await;
    // The lock ends with its process, even after a kill.
    site.serve().await.kill().await;
    site.serve().await.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = format!("listen = \"{address}\"");
    for (section, key) in [("[grpc]", "grpc.listen"), ("[admin]", "admin.listen")] {
        let site = Site::new().await;
        let former = format!("{section}\nlisten = \"127.0.0.1:0\"");
        site.edit(&former, &format!("{section}\n{listen}"));
        site.refuses(1, &[key, &address, "choose another address"]).await;
        assert!(!site.file("gateway.db").exists());
    }
}

#[tokio::test]
async fn an_invalid_log_filter_is_reported() {
    let site = Site::new().await;
    let mut command = site.command(&["serve"]);
    command.env("RUST_LOG", "tenant_gateway=loud");
    let message = Process::start(command).finished().await.failed(2);
    assert!(message.contains("RUST_LOG"), "{message}");
}

#[tokio::test]
async fn settings_without_effect_are_reported_in_one_warning() {
    let site = Site::new().await;
    site.edit(
        "[admin]",
        "[telemetry]\notlp_endpoint = \"http://127.0.0.1:4317\"\n[envoy]\nenabled = true\n[admin]",
    );
    let served: Served = site.serve().await;
    let log = served.stop().await.stderr;
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("\"WARN\"")).collect();
    let [warning] = warnings.as_slice() else { panic!("not one warning: {log}") };
    assert!(warning.contains("not implemented yet") && warning.contains("telemetry"), "{warning}");
}
