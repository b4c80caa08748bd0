use super::*;
use crate::config::{document::Document, error::Problem};

const GOOD: &str = r#"id = "crm-sync"
environment = "sod"
client_id = "abc"
client_secret_file = "client-secret"
private_key_env = "PRIVATE_KEY"
"#;

#[derive(serde::Deserialize)]
struct Applications {
    applications: Vec<ApplicationEntry>,
}

fn checked(entries: &[String]) -> (Checked, Vec<Problem>) {
    let text = format!("[[applications]]\n{}", entries.join("\n[[applications]]\n"));
    let mut problems = Problems::default();
    let document = Document::parse(&text, &mut problems).unwrap();
    let read: Applications = document.read(&mut problems).unwrap();
    let checked = check(read.applications, Path::new("/etc/gateway"), &mut problems);
    (checked, problems.errors)
}

/// Returns the valid entry with some lines replaced or added.
fn with(lines: &str) -> String {
    let replaced: Vec<_> = lines.lines().filter_map(|line| line.split(" = ").next()).collect();
    let kept = GOOD
        .lines()
        .filter(|line| !replaced.iter().any(|key| line.split(" = ").next() == Some(key)));
    kept.chain(lines.lines()).collect::<Vec<_>>().join("\n")
}

#[test]
fn rejects_invalid_values_of_an_entry() {
    for (lines, wanted) in [
        ("id = \"\"", "applications[0].id: is missing: an application id is"),
        ("id = \"CRM\"", "applications[0].id: an application id is"),
        ("environment = \"\"", "applications[0].environment: is missing: an environment is one of"),
        ("environment = \"stage\"", "applications[0].environment: did you mean qaonline? "),
        ("environment = \"production\"", "applications[0].environment: did you mean online? "),
        ("environment = \"Sod\"", "applications[0].environment: did you mean sod? "),
        ("environment = \"zz\"", "applications[0].environment: an environment is one of"),
        ("client_id = \"\"", "applications[0].client_id: must be the client id"),
        ("client_id = \"a b\"", "applications[0].client_id: must be the client id"),
        (
            "login_uri = \"http://sod.superoffice.com\"",
            "applications[0].login_uri: must be https://host",
        ),
        (
            "login_uri = \"https://sod.superoffice.com/login\"",
            "applications[0].login_uri: must be https://host",
        ),
        ("issuer = \"sod\"", "applications[0].issuer: must be https://host"),
        ("allowed_api_hosts = []", "applications[0].allowed_api_hosts: must name at least one"),
        (
            "allowed_api_hosts = [\"https://superoffice.com\"]",
            "applications[0].allowed_api_hosts: must be host names",
        ),
        ("calls_per_second = 0", "applications[0].calls_per_second: must be at least 1"),
        ("burst = 0", "applications[0].burst: must be at least 1"),
        (
            "redirect_uri = \"http://gateway.example.com/x\"",
            "applications[0].redirect_uri: must be an https",
        ),
        (
            "redirect_uris = [\"https://a.example/\", \"x\"]",
            "applications[0].redirect_uris[1]: must be an https",
        ),
        (
            "return_uri_prefixes = [\"https://a.example\"]",
            "applications[0].return_uri_prefixes[0]: must have a slash",
        ),
        (
            "return_uri_prefixes = [\"https://a.example/\", \"https://a.example/b/../c\"]",
            "applications[0].return_uri_prefixes[1]: must have a slash",
        ),
        (
            "return_uri_prefixes = [\"https://a@a.example/\"]",
            "applications[0].return_uri_prefixes[0]: must be an https",
        ),
        (
            "return_uri_prefixes = [\"http://a.example/\"]",
            "applications[0].return_uri_prefixes[0]: must be an https",
        ),
        (
            "redirect_uri = \"https://a.example/#x\"",
            "applications[0].redirect_uri: must be an https",
        ),
        (
            "return_uri_prefixes = [\"a.example\"]",
            "applications[0].return_uri_prefixes[0]: must be an https",
        ),
        (
            "client_secret_env = \"X\"",
            "applications[0].client_secret_file: client_secret_env is also set",
        ),
        (
            "next_private_key_env = \"x y\"",
            "applications[0].next_private_key_env: must be the name",
        ),
    ] {
        let (_, problems) = checked(&[with(lines)]);
        let found: Vec<_> = problems.iter().map(|p| format!("{}: {}", p.key, p.message)).collect();
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{found:#?} is not {wanted}");
    }
}

#[test]
fn reports_all_missing_keys_of_an_empty_entry() {
    let (checked, problems) = checked(&[String::new()]);
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "applications[0].client_secret_file",
            "applications[0].private_key_file",
            "applications[0].id",
            "applications[0].environment",
            "applications[0].client_id",
        ]
    );
    assert!(checked.applications.is_empty());
}

#[test]
fn requires_an_application() {
    let mut problems = Problems::default();
    check(Vec::new(), Path::new(""), &mut problems);
    assert_eq!(problems.errors[0].key, "applications");
    assert!(problems.errors[0].message.contains("[[applications]] id = \"crm-sync\""));
}

#[test]
fn rejects_duplicate_ids_and_client_ids() {
    let (_, problems) = checked(&[with(""), with("client_id = \"other\"")]);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].key, "applications[1].id");

    let (_, problems) = checked(&[with(""), with("id = \"other\"")]);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].key, "applications[1].client_id");

    // The same client id in another environment is a different application.
    let (checked, problems) =
        checked(&[with(""), with("id = \"other\"\nenvironment = \"online\"")]);
    assert_eq!(problems, []);
    assert_eq!(checked.applications.len(), 2);
}

#[test]
fn missing_keys_have_their_defaults() {
    let (mut checked, problems) = checked(&[with("")]);
    assert_eq!(problems, []);
    let application = checked.applications.remove(0);
    assert_eq!(application.login_uri, "https://sod.superoffice.com");
    assert_eq!(application.issuer, "https://sod.superoffice.com");
    assert_eq!((application.calls_per_second.get(), application.burst.get()), (10, 10));
    assert!(!application.allow_reveal_application_token);
    assert!(!application.allowed_api_hosts.allow_loopback());
}

#[test]
fn issuer_defaults_to_the_login_host() {
    let (checked, _) = checked(&[with("login_uri = \"http://127.0.0.1:4711/\"")]);
    assert_eq!(checked.applications[0].login_uri, "http://127.0.0.1:4711");
    assert_eq!(checked.applications[0].issuer, "http://127.0.0.1:4711");
}

#[test]
fn reads_the_redirect_uris_and_return_prefixes() {
    let lines = "redirect_uri = \"https://gateway.example.com/oauth/callback\"\n\
        redirect_uris = [\"http://127.0.0.1:8000/\"]\nreturn_uri_prefixes = [\"https://portal.example.com/\"]";
    let (mut checked, problems) = checked(&[with(lines)]);
    assert_eq!(problems, []);
    let redirects = checked.applications.remove(0).redirects;
    assert!(redirects.is_registered("https://gateway.example.com/oauth/callback"));
    assert!(redirects.is_registered("http://127.0.0.1:8000/"));
    assert_eq!(redirects.check_return_uri("https://portal.example.com/done"), Ok(()));
    assert!(redirects.check_return_uri("https://portal.example.com.evil.example/").is_err());
}
