//! Tests of `policy check`, `policy explain` and `policy schema` with the real program.

use std::fs;

use serde_json::json;

use crate::support::binary::{Finished, Process, Site, program};

const POLICY: &str = "@id(\"jobs\")\npermit (\n  principal in CallerGroup::\"jobs\",\n  action == Action::\"issueSystemTicket\",\n  resource\n);\n";
const ENTITIES: &str = r#"[{"uid": {"type": "Caller", "id": "nightly"}, "parents": [{"type": "CallerGroup", "id": "jobs"}]}]"#;
const TENANT: &str = "applications/crm-sync/tenants/Cust12345";

/// Runs a command without a configuration.
async fn run(arguments: &[&str]) -> Finished {
    Process::start(program(arguments)).finished().await
}

/// A folder with policy and entity files.
async fn site(policy: &str, entities: &str) -> (Site, String, String) {
    let site = Site::new().await;
    let name = |file: &str| site.file(file).display().to_string();
    let (policy_file, entities_file) = (name("policy.cedar"), name("entities.json"));
    fs::write(&policy_file, policy).unwrap();
    fs::write(&entities_file, entities).unwrap();
    (site, policy_file, entities_file)
}

#[tokio::test]
async fn valid_policies_are_counted() {
    let (_site, policy, entities) = site(POLICY, ENTITIES).await;
    let files = ["--policy", &policy, "--entities", &entities];
    let checked = run(&[&["policy", "check"], &files[..]].concat()).await.succeeded();
    assert_eq!(checked, "1 policies, 1 groups\n");
    let arguments = [&["policy", "check", "--output", "json"], &files[..]].concat();
    let checked = run(&arguments).await.json();
    assert_eq!(checked, json!({ "problems": [], "warnings": [], "policies": 1, "groups": 1 }));
}

#[tokio::test]
async fn invalid_policies_are_reported_with_file_and_line_and_exit_code_1() {
    let wrong = "\npermit (principal, action == Action::\"fly\", resource);";
    let (_site, policy, entities) = site(wrong, "[\n{").await;
    let arguments = ["policy", "check", "--policy", &policy, "--entities", &entities];
    let finished = run(&arguments).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains(&format!("{policy}:2: ")), "{finished:?}");
    assert!(finished.stdout.contains(&format!("{entities}:2: ")), "{finished:?}");
}

#[tokio::test]
async fn missing_files_are_wrong_usage() {
    let (site, policy, _) = site("", "[]").await;
    let message = site.run(&["policy", "check"]).await.failed(2);
    assert!(message.contains("policy.file"), "{message}");
    let missing = site.file("none.cedar").display().to_string();
    let message = run(&["policy", "check", "--policy", &missing]).await.failed(2);
    assert!(message.contains("none.cedar"), "{message}");
    let question = ["policy", "explain", "--policy", &policy, "--caller", "x", "--action"];
    for (rest, wanted) in [
        (&["issueSystemTickets", "--resource", TENANT][..], "did you mean issueSystemTicket?"),
        (&["issueSystemTicket", "--resource", "Cust12345"], "--resource: "),
        (&["callWebApiAsSystemUser", "--resource", TENANT], "--http-method"),
    ] {
        let message = run(&[&question[..], rest].concat()).await.failed(2);
        assert!(message.contains(wanted), "{message}");
    }
}

#[tokio::test]
async fn a_decision_is_explained() {
    let (_site, policy, entities) = site(POLICY, ENTITIES).await;
    let ask = ["policy", "explain", "--policy", &policy, "--entities", &entities, "--action"];
    let question = ["issueSystemTicket", "--resource", TENANT, "--caller"];
    let ask = [&ask[..], &question[..]].concat();
    let said = run(&[&ask[..], &["nightly"]].concat()).await.succeeded();
    for wanted in ["ALLOWED: nightly (jwt)", "policy.cedar:1: permit jobs", "CallerGroup::\"jobs\""]
    {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let said = run(&[&ask[..], &["daily"]].concat()).await.succeeded();
    for wanted in ["DENIED: daily", "no permit matches", "jobs: it is about another caller"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let arguments = [&ask[..], &["daily", "--output", "json"]].concat();
    let said = run(&arguments).await.json();
    assert_eq!((&said["decision"], &said["policies"]), (&json!("DENIED"), &json!([])));
    assert_eq!(said["near_misses"][0]["policy"]["line"], 1);
}

#[tokio::test]
async fn a_decision_that_depends_on_the_grant_asks_for_its_person() {
    let policy =
        concat!(env!("CARGO_MANIFEST_DIR"), "/examples/policies/support-impersonation.cedar");
    let grant = "applications/support-desk/tenants/Cust1/grants/g1";
    let ask = [
        &["policy", "explain", "--policy", policy, "--resource", grant][..],
        &["--caller", "system:serviceaccount:support:desk", "--action", "issueAccessToken"],
    ]
    .concat();
    let said = run(&ask).await.succeeded();
    for wanted in ["ALLOWED: ", "warning: ", "--user-principal-name"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let said = run(&[&ask[..], &["--output", "json"]].concat()).await.json();
    let warning = said["warning"].as_str().unwrap();
    assert!(warning.contains("--user-principal-name") && !warning.contains("--associate-id"));

    let told = |user| [&ask[..], &["--user-principal-name", user, "--output", "json"]].concat();
    for (user, decision, by) in [
        ("admin@customer.example", "DENIED", "support-not-as-administrator"),
        ("erik@customer.example", "ALLOWED", "support-impersonates"),
    ] {
        let said = run(&told(user)).await.json();
        assert_eq!((&said["decision"], &said["warning"]), (&json!(decision), &json!(null)));
        assert_eq!(said["policies"][0]["id"], by);
    }
    let (_site, policy, _) = site(
        "permit (principal, action, resource is Grant) when { resource.associateId == 5 };",
        "[]",
    )
    .await;
    let ask = ["policy", "explain", "--policy", &policy, "--caller", "x", "--resource", grant];
    let ask = [&ask[..], &["--action", "issueAccessToken", "--associate-id"]].concat();
    for (id, decision) in [("5", "ALLOWED: "), ("6", "DENIED: ")] {
        let said = run(&[&ask[..], &[id]].concat()).await.succeeded();
        assert!(said.starts_with(decision) && !said.contains("warning"), "{said}");
    }
    let tenant = ["policy", "explain", "--policy", &policy, "--caller", "x", "--resource", TENANT];
    let tenant = [&tenant[..], &["--action", "readTenants", "--associate-id", "5"]].concat();
    let message = run(&tenant).await.failed(2);
    assert!(message.contains("--associate-id") && message.contains("grant"), "{message}");
}

#[tokio::test]
async fn the_schema_is_printed() {
    let schema = run(&["policy", "schema"]).await.succeeded();
    assert!(schema.contains("action issueSystemTicket"), "{schema}");
}

#[tokio::test]
async fn explaining_uses_the_normal_forms_of_paths_and_user_principal_names() {
    let policy = "permit (principal, action, resource);
        @id(\"people\") forbid (principal, action in Action::\"callWebApi\", resource)
        when { context.path like \"/api/v1/person/*\" };
        @id(\"admins\") forbid (principal, action == Action::\"issueAccessToken\", resource)
        when { resource.userPrincipalName like \"admin@*\" };";
    let (_site, policy, _) = site(policy, "[]").await;
    let ask = ["policy", "explain", "--policy", &policy, "--caller", "x", "--resource"];
    let call = ["--action", "callWebApiAsSystemUser", "--http-method", "get", "--path"];
    for path in ["/api/v1/person/5", "/API/v1/Person/%35.", "/api/v1/PERSON/Stra\u{df}e"] {
        let explained = run(&[&ask[..], &[TENANT], &call, &[path]].concat()).await;
        assert!(explained.stdout.contains("people"), "{path}: {explained:?}");
    }
    for path in ["/api/v1/../x", "/api/v1/a%2Fb", "/api/v1/x?y=1", "/v1/x"] {
        let message = run(&[&ask[..], &[TENANT], &call, &[path]].concat()).await.failed(2);
        assert!(message.contains("--path: "), "{path}: {message}");
    }
    let grant = format!("{TENANT}/grants/-");
    let issue = ["--action", "issueAccessToken", "--user-principal-name", "ADMIN@x.example"];
    let explained = run(&[&ask[..], &[grant.as_str()], &issue].concat()).await;
    assert!(explained.stdout.contains("admins"), "{explained:?}");
}
