use std::{fs, path::PathBuf, time::Duration};

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::{application::ApplicationEntry, document::Document, loading::Sections, *};

mod defaults;
mod outbound;

/// A minimal valid configuration.
const LEAST: &str = r#"
[[applications]]
id = "crm-sync"
environment = "sod"
client_id = "abc"
client_secret_file = "client-secret"
private_key_file = "key.xml"
"#;

struct Folder(TempDir);

impl Folder {
    fn new(text: &str) -> Self {
        let folder = Self(TempDir::new().unwrap());
        folder.write("gateway.toml", text);
        folder.write("client-secret", "hunter2\n");
        folder.write("key.xml", "<RSAKeyValue/>\n");
        folder
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(&self.path("gateway.toml"))
    }

    fn load_with_secrets(&self) -> Result<LoadedWithSecrets, ConfigError> {
        Config::load_with_secrets(&self.path("gateway.toml"))
    }
}

/// Returns `key: message` for each problem of this text.
fn problems(text: &str) -> Vec<String> {
    match Folder::new(text).load() {
        Ok(_) => Vec::new(),
        Err(error) => {
            let problems = error.problems.iter();
            problems.map(|p| format!("{}: {}", p.key, p.message)).collect()
        }
    }
}

/// Returns the problems of a minimal configuration with this section.
fn problems_of_section(section: &str) -> Vec<String> {
    problems(&format!("{section}\n{LEAST}"))
}

fn assert_one(found: &[String], wanted: &str) {
    assert!(found.len() == 1 && found[0].contains(wanted), "{found:#?} is not {wanted}");
}

fn loaded(text: &str) -> Loaded {
    Folder::new(text).load().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn reports_a_missing_file() {
    let error = Config::load(Path::new("/nowhere/gateway.toml")).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("/nowhere/gateway.toml: there is no such file"), "{text}");
}

#[test]
fn reports_invalid_toml_by_line_without_quoting_it() {
    let error =
        Folder::new("[grpc]\nlisten = \"127\nclient_secret = \"hunter2").load().unwrap_err();
    assert_eq!(error.problems.len(), 1);
    assert_eq!(error.problems[0].line, Some(2));
    assert!(!error.to_string().contains("127"), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn reports_an_unknown_key_with_its_line_and_a_suggestion() {
    let folder =
        Folder::new(&format!("[grpc]\nlisten = \"127.0.0.1:0\"\nreflecton = true\n{LEAST}"));
    let error = folder.load().unwrap_err();
    let file = folder.path("gateway.toml");
    assert_eq!(
        error.to_string(),
        format!("{}:3: grpc.reflecton: unknown key; did you mean `reflection`?", file.display())
    );
}

#[test]
fn reports_all_unknown_keys_and_sections_in_the_order_of_the_file() {
    let found = problems(
        "[gprc]\nlisten = \"x\"\n[grpc.tls]\ncertificate = \"x\"\nprivate_key_file = \"k\"\n[login]\nmax = 3\ntimeout = 10\n\
         [[application]]\nid = \"a\"\n[[callers.jwt]]\nisuer = \"x\"\naudience = \"a\"",
    );
    assert_eq!(
        found,
        [
            "gprc: unknown key; did you mean `grpc`?",
            "grpc.tls.certificate: unknown key; did you mean `certificate_file`?",
            "login.max: unknown key; did you mean `max_concurrent`?",
            "login.timeout: must be a duration in quotes: whole numbers with the units d, h, m, s or ms, the largest first, such as \"30s\", \"1h30m\" or \"250ms\"",
            "application: unknown key; did you mean `applications`?",
            "callers.jwt[0].isuer: unknown key; did you mean `issuer`?",
        ]
    );
}

#[test]
fn rejects_an_inline_secret_without_repeating_it() {
    for (line, place) in [
        ("client_secret = \"hunter2\"", "client_secret_file"),
        ("private_key = \"hunter2\"", "private_key_file"),
        ("webhook_secret = \"hunter2\"", "webhook_secret_file"),
    ] {
        let found = problems(&format!("{LEAST}\n{line}"));
        assert_one(&found, &format!("did you mean `{place}`? This file must not contain secrets"));
        assert!(!found[0].contains("hunter2"));
    }
}

#[test]
fn reports_the_valid_form_of_a_value() {
    for (section, wanted) in [
        ("[grpc]\nreflection = \"yes\"", "grpc.reflection: must be true or false"),
        ("[grpc]\nlisten = 50051", "grpc.listen: must be an IP address and a port"),
        ("[grpc]\nlisten = \"localhost:1\"", "grpc.listen: must be an IP address and a port"),
        ("[grpc]\nlisten = \":1\"", "grpc.listen: must be an IP address and a port"),
        ("grpc = 5", "grpc: must be a section"),
        ("grpc.listen.port = 5", "grpc.listen: must be an IP address and a port"),
        ("[grpc.listen]\nport = 5", "grpc.listen: must be an IP address and a port"),
        ("[login]\nmax_concurrent = -1", "login.max_concurrent: must be a whole number"),
        ("[login]\nmax_concurrent = \"x\"", "login.max_concurrent: must be a whole number"),
        ("[login]\ntimeout = \"-5s\"", "login.timeout: must be a duration"),
        ("[log]\nformat = \"jsn\"", "log.format: unknown value; did you mean `json`?"),
        ("[log]\nlevel = \"loud\"", "log.level: unknown value; valid here: error, warn"),
        ("[audit]\ndurability = \"after\"", "did you mean `after_response`?"),
        ("[crypto]\nkeyring_file = 5", "crypto.keyring_file: must be"),
        ("[callers]\njwt = 5", "callers.jwt: must be a list"),
        ("[store]\nurl = \"postgres://u:hunter2@db/x\"", "store.url: PostgreSQL is not built yet"),
        ("[store]\nurl = \"gateway.db\"", "store.url: must be sqlite:"),
        (
            "[http]\npublic_uri = \"http://gateway.example.com\"",
            "http.public_uri: must be https://host",
        ),
        (
            "[telemetry]\notlp_endpoint = \"collector:4317\"",
            "telemetry.otlp_endpoint: must be an http",
        ),
    ] {
        let found = problems_of_section(section);
        assert_one(&found, wanted);
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn reports_an_invalid_list_element() {
    let found = problems(&format!("{LEAST}\nallowed_api_hosts = [\"superoffice.com\", 5]"));
    assert_one(&found, "applications[0].allowed_api_hosts[1]: must be text in quotes");
    assert_one(&problems("applications = [5]"), "applications[0]: must be a section");
}

#[test]
fn rejects_a_single_section_instead_of_a_list() {
    let found = problems(&LEAST.replace("[[applications]]", "[applications]"));
    assert_one(&found, "applications: must be a list; a list of sections is written [[…]]");
    assert_one(
        &problems(""),
        "applications: there must be at least one application, such as: [[applications]]",
    );
}

#[test]
fn messages_repeat_no_value() {
    let text = defaults::everything();
    for (number, line) in text.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else {
            continue;
        };
        for value in ["\"hunter2\"", "[\"hunter2\"]", "{ x = \"hunter2\" }", "\"hunter2", "hunter2"]
        {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines[number] = format!("{key} = {value}");
            let found = problems(&lines.join("\n"));
            assert!(!found.iter().any(|line| line.contains("hunter2")), "{found:#?}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_reported(
        lines in proptest::collection::vec(
            "\\[\\[?[a-z]{1,3}(grpc|applications|callers\\.jwt)?\\]?\\]|(listen|id|jwt|tls|grpc|\"\")(\\.[a-z]{1,3})? = (1|\"x\"|\\[1, \\{a = 1\\}\\]|\\{id = \\[\\]\\})|\\PC{0,9}",
            0..9,
        )
    ) {
        let text = lines.join("\n");
        let mut problems = Problems::default();
        if let Some(document) = Document::parse(&text, &mut problems) {
            let sections: Option<Sections> = document.read(&mut problems);
            // A dropped section is always reported as a problem.
            proptest::prop_assert!(sections.is_some() || !problems.errors.is_empty());
        }
    }
}

/// Generates lines of a configuration file: valid ones, invalid ones, and some with a misplaced secret.
fn any_line() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let section: &str = "\\[(grpc|http|admin|egress|store|crypto|policy|audit|quotas|tickets|login|web_api|lifecycle|log|callers|callers\\.mtls|grpc\\.tls)\\]|\\[\\[(applications|callers\\.jwt|grpc)\\]\\]";
    let key = "(listen|tls|url|file|max_wait|retention|per_caller|max_age|timeout|max_concurrent|level|id|environment|client_id|client_secret|client_secret_file|private_key_env|redirect_uris|allowed_api_hosts|login_uri|burst|issuer|enabled|[a-z]{1,3})(\\.[a-z]{1,6})?";
    let value = "\"(hunter2|127\\.0\\.0\\.1:0|0\\.0\\.0\\.0:1|30s|1h|sod|online|crm-sync|https://[a-z./]{0,9}|sqlite:[a-z]{0,3}|[a-z]{0,4})\"|-?[0-9]{1,20}|true|1\\.5|2026-01-01|\\[\\]|\\[\"hunter2\"\\]|\\[\\{ id = \"hunter2\" \\}\\]|\\{ [a-z]{1,3} = \"hunter2\" \\}|hunter2";
    prop_oneof![
        2 => section.boxed(),
        6 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => "[^h]{0,9}",
    ]
}

proptest::proptest! {
    #[test]
    fn every_problem_has_a_place_and_repeats_no_value(
        lines in proptest::collection::vec(any_line(), 0..14),
        whole in proptest::bool::ANY,
    ) {
        let mut text = lines.join("\n");
        if whole {
            text.insert_str(0, LEAST);
        }
        let file = Path::new("gateway.toml");
        let Err(error) = loading::read(file, &text, Problems::default(), |_, _| Some(())) else {
            return Ok(());
        };
        proptest::prop_assert!(!error.problems.is_empty());
        let readable = text.parse::<toml::Table>().is_ok();
        for problem in &error.problems {
            // Invalid TOML has no keys, so its problem has a line instead.
            let placed = !problem.key.is_empty() || (!readable && problem.line.is_some());
            proptest::prop_assert!(placed, "{:?} in\n{}", problem, text);
            proptest::prop_assert!(!problem.message.contains("hunter2"), "{:?}", problem);
        }
    }
}

#[test]
fn rejects_invalid_values_in_each_section() {
    for (section, wanted) in [
        ("[associates]\nmax_age = \"59s\"", "associates.max_age: must be from"),
        ("[associates]\nmax_in_memory = 0", "associates.max_in_memory: must be at least 1"),
        ("[tenants]\nmax_stale_status = \"7d1ms\"", "tenants.max_stale_status: must be at most"),
        ("[tickets]\nmax_age = \"59m\"", "tickets.max_age: must be from"),
        ("[tickets]\nmax_age = \"7d1ms\"", "tickets.max_age: must be from"),
        (
            "[tickets]\nrenew_if_used_within = \"6h1s\"",
            "tickets.renew_if_used_within: must be at most",
        ),
        ("[lifecycle]\ndrain_delay = \"25s\"", "lifecycle.hard_deadline: must be at least"),
        ("[login]\nmax_concurrent = 0", "login.max_concurrent: must be at least 1"),
        ("[login]\ntimeout = \"0s\"", "login.timeout: must be greater"),
        ("[web_api]\ntimeout = \"0s\"", "web_api.timeout: must be greater"),
        ("[grpc]\ndefault_deadline = \"0s\"", "grpc.default_deadline: must be greater"),
        ("[grpc]\nmax_connection_age = \"0s\"", "grpc.max_connection_age: must be greater"),
        ("[grpc]\nlisten = \"0.0.0.0:1\"", "grpc.listen: credentials would cross"),
        ("[egress]\nlisten = \"[::]:1\"", "egress.listen: credentials would cross"),
        ("[grpc.tls]\ncertificate_file = \"c\"", "grpc.tls.private_key_file: is missing"),
        (
            "[http]\nlisten = \"0.0.0.0:1\"",
            "http.listen: requests of browsers and SuperOffice would",
        ),
        (
            "[http]\npublic_uri = \"http://gateway.example.com\"",
            "http.public_uri: must be https://host",
        ),
        ("[http.tls]\nprivate_key_file = \"c\"", "http.tls.certificate_file: is missing"),
        ("[egress.tls]\nprivate_key_file = \"c\"", "egress.tls.certificate_file: is missing"),
        ("[store]\nmax_connections = 0", "store.max_connections: must be at least 1"),
        ("[store]\nstatement_timeout = \"0s\"", "store.statement_timeout: must be greater"),
        (
            "[store]\npassword_file = \"x\"\npassword_env = \"X\"",
            "store.password_file: password_env is also set",
        ),
        ("[crypto]\nkeyring_file = \"\"", "crypto.keyring_file: must be a path"),
        (
            "[quotas]\nper_caller = { burst = 1 }",
            "quotas.per_caller.per_second: must be at least 1",
        ),
        (
            "[quotas]\nper_caller_and_tenant = { per_second = 1, burst = 0 }",
            "quotas.per_caller_and_tenant.burst",
        ),
        ("[audit]\nmax_wait = \"0s\"", "audit.max_wait: must be greater"),
        ("[audit]\nretention = \"0s\"", "audit.retention: must be greater"),
        ("[audit]\ndirectory = \"\"", "audit.directory: must be a path"),
        ("[audit]\nsegment_bytes = 1000", "audit.segment_bytes: must be between 1048576"),
        ("[audit]\nmax_bytes = 268435455", "audit.max_bytes: must be at least four times"),
        ("[audit]\nmax_bytes = \"70%\"", "audit.max_bytes: must be a"),
    ] {
        assert_one(&problems_of_section(section), wanted);
    }
}

#[test]
fn rejects_invalid_callers() {
    let jwt = "[[callers.jwt]]\nissuer = \"https://a\"\naudience = \"g\"\n";
    for (section, wanted) in [
        ("[[callers.jwt]]\naudience = \"g\"", "callers.jwt[0].issuer: is missing"),
        ("[[callers.jwt]]\nissuer = \"https://a\"", "callers.jwt[0].audience: is missing"),
        (
            &format!("{jwt}jwks_uri = \"http://a/jwks\""),
            "callers.jwt[0].jwks_uri: must be an https",
        ),
        (
            &format!("{jwt}jwks_uri = \"https://a/jwks\"\njwks_file = \"f\""),
            "callers.jwt[0].jwks_uri: jwks_file is also set",
        ),
        (&format!("{jwt}max_lifetime = \"0s\""), "callers.jwt[0].max_lifetime: must be greater"),
        (
            &format!("{jwt}[[callers.jwt]]\nissuer = \"https://b\"\naudience = \"g\""),
            "callers.jwt[1].caller_prefix: is equal to another",
        ),
        (
            &format!("{jwt}{jwt}caller_prefix = \"b:\""),
            "callers.jwt[1].issuer: is also used by another entry",
        ),
        (
            &format!("{jwt}{jwt}caller_prefix = \"b:\"\naudiences = [\"other\"]"),
            "callers.jwt[1].issuer: is also used by another entry with a common audience",
        ),
        (
            &format!("{jwt}audiences = [\"a\", \" \"]"),
            "callers.jwt[0].audiences: contains an empty",
        ),
        (
            "[[callers.jwt]]\nissuer = \"https://a\"\naudiences = []",
            "callers.jwt[0].audience: is missing",
        ),
        (&format!("{jwt}caller_claim = \"\""), "callers.jwt[0].caller_claim: must be the name"),
        (
            &format!("{jwt}caller_claim = \"jti\""),
            "callers.jwt[0].caller_claim: does not identify a caller",
        ),
        (&format!("{jwt}leeway = \"301s\""), "callers.jwt[0].leeway: must be at most 5m"),
        (
            &format!("{jwt}algorithms = []"),
            "callers.jwt[0].algorithms: must be a list of algorithms",
        ),
        (
            &format!("{jwt}algorithms = [\"ES256K\"]"),
            "callers.jwt[0].algorithms: must be a list of algorithms in quotes: RS256, RS384",
        ),
        (
            &format!("{jwt}algorithms = [\"RS256\", \"HS256\"]"),
            "callers.jwt[0].algorithms: must not list an algorithm that proves nothing",
        ),
        (
            &format!("{jwt}algorithms = [\"none\"]"),
            "callers.jwt[0].algorithms: must not list an algorithm that proves nothing",
        ),
        (
            &format!("{jwt}[callers.mtls]\nidentity = \"dns\""),
            "callers.mtls.identity: needs callers.mtls.enabled",
        ),
        (
            &format!("{jwt}[callers.mtls]\npattern = \"*\""),
            "callers.mtls.pattern: needs callers.mtls.enabled",
        ),
        (&format!("{jwt}caller_prefix = \"spiffe:\""), "callers.jwt[0].caller_prefix: must be"),
        (&format!("{jwt}caller_prefix = \"SPIFFE://a/\""), "callers.jwt[0].caller_prefix: must be"),
        (&format!("{jwt}caller_prefix = \"cli:\""), "callers.jwt[0].caller_prefix: must be"),
        (&format!("{jwt}caller_prefix = \"anon\""), "callers.jwt[0].caller_prefix: must be"),
        (&format!("{jwt}caller_prefix = \"a b:\""), "callers.jwt[0].caller_prefix: must be"),
        (
            &format!("{jwt}spiffe_trust_domain = \"spiffe://a\""),
            "callers.jwt[0].spiffe_trust_domain: must be only the name",
        ),
        (&format!("{jwt}max_key_age = \"9m\""), "callers.jwt[0].max_key_age: must be at least 10m"),
        (
            "[[callers.jwt]]\nissuer = \"ci\"\naudience = \"g\"",
            "callers.jwt[0].issuer: is not an https:// URI",
        ),
        (
            &format!(
                "{jwt}caller_prefix = \"b:\"\n{}caller_prefix = \"B:c:\"",
                jwt.replace("https://a", "https://b")
            ),
            "callers.jwt[1].caller_prefix: is equal to another",
        ),
        (
            &format!("[callers]\ninsecure_anonymous = true\n{jwt}"),
            "callers.insecure_anonymous: ignores all credentials",
        ),
        ("[callers.mtls]\nenabled = true", "callers.mtls.enabled: needs grpc.tls.client_ca_file"),
        (
            "[callers]\ninsecure_anonymous = true\n[admin]\nlisten = \"0.0.0.0:9090\"",
            "admin.listen: must be a loopback address",
        ),
        (
            "[callers]\ninsecure_anonymous = true\n[http]\npublic_uri = \"https://a\"\nlisten = \"0.0.0.0:8080\"",
            "http.listen: must be a loopback address",
        ),
        (
            "[callers]\ninsecure_anonymous = true\n[egress]\nallow_plaintext = true\nlisten = \"0.0.0.0:8081\"",
            "egress.listen: must be a loopback address",
        ),
        (
            "[callers]\ninsecure_anonymous = true\n[grpc]\nallow_plaintext = true\nlisten = \"[::]:1\"",
            "grpc.listen: must be a loopback address",
        ),
    ] {
        assert_one(&problems_of_section(section), wanted);
    }
    let mtls = "[callers]\ninsecure_anonymous = true\n[callers.mtls]\nenabled = true\n[grpc.tls]\ncertificate_file = \"c\"\n\
                private_key_file = \"k\"\nclient_ca_file = \"a\"";
    assert_one(&problems_of_section(mtls), "callers.insecure_anonymous: ignores all credentials");
    let (second, third) =
        (jwt.replace("https://a", "https://b"), jwt.replace("https://a", "https://c"));
    let distinct =
        format!("{jwt}{second}caller_prefix = \"b:\"\n{third}caller_prefix = \"c:\"\n{LEAST}");
    assert_eq!(loaded(&distinct).config.callers.jwt.len(), 3);
    // The same issuer with different audiences, and with different keys.
    let twice = format!(
        "{jwt}{}caller_prefix = \"b:\"\n{jwt}caller_prefix = \"c:\"\njwks_file = \"j\"\n{LEAST}",
        jwt.replace("audience = \"g\"", "audiences = [\"h\", \"i\"]")
    );
    let jwt = loaded(&twice).config.callers.jwt;
    assert_eq!(jwt[1].all_audiences().collect::<Vec<_>>(), ["h", "i"]);
}

#[test]
fn rejects_invalid_certificate_name_patterns() {
    let with = |mtls: &str| {
        format!(
            "[grpc.tls]\ncertificate_file = \"c\"\nprivate_key_file = \"k\"\nclient_ca_file = \"a\"\n\
             [callers.mtls]\nenabled = true\n{mtls}\n"
        )
    };
    for (mtls, wanted) in [
        ("pattern = \"\"", "callers.mtls.pattern: must be 1 to 256"),
        ("pattern = \"a b\"", "callers.mtls.pattern: must be 1 to 256"),
        ("pattern = \"^spiffe://a/.*$\"", "callers.mtls.pattern: is not a regular expression"),
        ("pattern = \"a\\\\.b\"", "callers.mtls.pattern: is not a regular expression"),
        ("identity = \"email\"", "callers.mtls.identity"),
    ] {
        assert_one(&problems_of_section(&with(mtls)), wanted);
    }
    for mtls in ["identity = \"uri\"\npattern = \"spiffe://a/*\"", "identity = \"common_name\""] {
        assert_eq!(problems_of_section(&with(mtls)), [""; 0], "{mtls}");
    }
}

#[test]
fn trusted_proxies_are_networks_and_the_proxy_protocol_requires_them() {
    for section in ["grpc", "http", "egress"] {
        let with = |keys: &str| problems_of_section(&format!("[{section}]\n{keys}"));
        let alone = with("proxy_protocol = true");
        assert_one(&alone, &format!("{section}.proxy_protocol: "));
        assert_one(&alone, &format!("such as {section}.trusted_proxies = [\"10.0.0.0/8\"]"));
        assert_one(&with("proxy_protocol = true\ntrusted_proxies = []"), "trusted_proxies = [");
        let key = format!("{section}.trusted_proxies: ");
        for (value, message) in [
            ("\"10.0.0.0/8\"", "must be a list of networks in quotes"),
            ("[10]", "must be a list of networks in quotes"),
            ("[\"10.0.0.0/8\", \"ingress\"]", "entry 2 of the list: expected a network"),
            ("[\"10.0.0.1/8\"]", "entry 1 of the list: the address has bits set after the prefix"),
            ("[\"0.0.0.0/0\"]", "any client could forge its address"),
        ] {
            let found = with(&format!("trusted_proxies = {value}"));
            assert_one(&found, &key);
            assert_one(&found, message);
        }
        let good = "trusted_proxies = [\"10.0.0.0/8\", \"fd00::/8\", \"192.0.2.7\"]";
        assert_eq!(with(&format!("{good}\nproxy_protocol = true")), [""; 0]);
    }
}

#[test]
fn beyond_loopback_requires_tls_or_allow_plaintext() {
    let tls = "[grpc]\nlisten = \"0.0.0.0:1\"\ntls = { certificate_file = \"c\", private_key_file = \"k\" }";
    assert_eq!(problems_of_section(tls), [""; 0]);
    let decided = "[grpc]\nlisten = \"0.0.0.0:1\"\nallow_plaintext = true";
    assert_eq!(problems_of_section(decided), [""; 0]);
    let http = "[http]\nlisten = \"0.0.0.0:1\"\n";
    let tls = format!("{http}tls = {{ certificate_file = \"c\", private_key_file = \"k\" }}");
    assert_eq!(problems_of_section(&tls), [""; 0]);
    let ended_in_front = format!("{http}public_uri = \"https://gateway.example.com\"");
    assert_eq!(problems_of_section(&ended_in_front), [""; 0]);
}

#[test]
fn serving_requires_callers_and_a_policy() {
    let refusal = |text: &str| loaded(text).config.check_servable().map_err(|e| e.to_string());
    let no_callers = refusal(LEAST).unwrap_err();
    assert!(no_callers.contains("callers: no caller can authenticate"), "{no_callers}");
    let jwt = "[[callers.jwt]]\nissuer = \"https://i.example\"\naudience = \"a\"\n";
    let no_policy = refusal(&format!("{jwt}{LEAST}")).unwrap_err();
    assert!(no_policy.contains("policy.file: is missing"), "{no_policy}");
    refusal(&format!("policy.file = \"p.cedar\"\n{jwt}{LEAST}")).unwrap();
    refusal(&format!("callers.insecure_anonymous = true\n{LEAST}")).unwrap();
}

#[test]
fn one_warning_names_all_unimplemented_options() {
    assert_eq!(loaded(LEAST).warnings, [""; 0]);
    let text = format!(
        "[telemetry]\notlp_endpoint = \"http://127.0.0.1:4317\"\n[login]\ntimeout = \"9s\"\n[crypto]\nprovider = \"transit\"\n{LEAST}"
    );
    let warnings = loaded(&text).warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].ends_with(
            "gateway.toml: not implemented yet and without effect: crypto.provider = transit, telemetry"
        ),
        "{warnings:?}"
    );
}

#[test]
fn warns_about_a_webhook_secret_without_the_http_listener() {
    let text = format!("{LEAST}\nwebhook_secret_file = \"w\"");
    let warnings = loaded(&text).warnings;
    assert!(
        matches!(&*warnings, [one] if one.contains("applications[0].webhook_secret_file: has no effect without [http]")),
        "{warnings:?}"
    );
    assert_eq!(loaded(&format!("[http]\nlisten = \"127.0.0.1:1\"\n{text}")).warnings, [""; 0]);
}

#[test]
fn resolves_paths_against_the_folder_of_the_file() {
    let text = format!(
        "[store]\nurl = \"sqlite:data/g.db\"\nca_file = \"ca\"\n[crypto]\nkeyring_file = \"/etc/keyring.toml\"\n[policy]\nfile = \"p.cedar\"\n\
         [grpc.tls]\ncertificate_file = \"c\"\nprivate_key_file = \"k\"\n[[callers.jwt]]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"j\"\n{LEAST}"
    );
    let folder = Folder::new(&text);
    let config = folder.load().unwrap().config;
    assert_eq!(config.store.location, StoreLocation::Sqlite(folder.path("data/g.db")));
    assert_eq!(config.store.ca_file, Some(folder.path("ca")));
    assert_eq!(config.crypto.keyring_file, Path::new("/etc/keyring.toml"));
    assert_eq!(config.policy.file, Some(folder.path("p.cedar")));
    assert_eq!(config.grpc.tls.unwrap().certificate_file, folder.path("c"));
    assert_eq!(config.callers.jwt[0].jwks_file, Some(folder.path("j")));
}

#[test]
fn reports_problems_of_the_file_and_of_secrets_together() {
    let text = format!("[login]\ntimeout = \"0s\"\n{LEAST}\nnext_private_key_file = \"none\"");
    let folder = Folder::new(&text);
    fs::remove_file(folder.path("client-secret")).unwrap();
    let error = folder.load_with_secrets().unwrap_err();
    let keys: Vec<_> = error.problems.iter().map(|p| (p.key.as_str(), p.line)).collect();
    assert_eq!(
        keys,
        [
            ("login.timeout", Some(2)),
            ("applications[0].client_secret_file", Some(8)),
            ("applications[0].next_private_key_file", Some(11)),
        ]
    );
    // Commands that need no secret do not read it.
    let folder = Folder::new(LEAST);
    fs::remove_file(folder.path("client-secret")).unwrap();
    folder.load().unwrap();
}

#[test]
fn loads_a_valid_file_with_its_secrets() {
    let loaded = Folder::new(LEAST).load_with_secrets().unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(loaded.config.grpc.default_deadline, Duration::from_secs(30));
    assert_eq!(loaded.config.web_api.timeout, Duration::from_mins(5));
    let secrets = &loaded.secrets.applications[0];
    assert_eq!(secrets.client_secret.expose_secret(), "hunter2");
    assert_eq!(secrets.private_key.expose_secret(), "<RSAKeyValue/>\n");
    assert!(secrets.next_client_secret.is_none());
    let shown = format!("{loaded:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("RSAKeyValue"), "{shown}");
}
