//! Tests of the commands: the real program, alone and beside a running server.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use tenant_gateway::grpc::pb::{
    self, access_service_client::AccessServiceClient,
    associate_service_client::AssociateServiceClient, audit_service_client::AuditServiceClient,
    impersonation_service_client::ImpersonationServiceClient, issue_access_token_request::Subject,
    tenant_service_client::TenantServiceClient, token_service_client::TokenServiceClient,
};
use tokio::time::Instant;
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;

use crate::consent::give_consent;
use crate::support::{
    APPLICATION, assert_status,
    binary::{Process, Served, Site, program},
    callers::with_bearer_token,
    issue, issue_with, name,
};

/// The time in which a server must notice a command: one second, and some more for a busy machine.
const NOTICED: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn a_new_keyring_is_readable_to_its_owner_only_and_never_overwritten() {
    let site = Site::new().await;
    fs::remove_file(site.file("keyring.toml")).unwrap();
    let said = site.run(&["keys", "generate"]).await.succeeded();
    assert!(said.contains("keyring.toml") && said.contains("back up this file"), "{said}");
    let mode = fs::metadata(site.file("keyring.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let before = site.read("keyring.toml");
    let message = site.run(&["keys", "generate"]).await.failed(2);
    assert!(message.contains("keyring.toml") && message.contains("--add"), "{message}");
    assert_eq!(site.read("keyring.toml"), before);
}

#[tokio::test]
async fn a_key_is_added_beside_the_old_one_and_not_yet_used() {
    let site = Site::new().await;
    let before = site.read("keyring.toml");
    let added = site.run(&["keys", "generate", "--add", "--output", "json"]).await.json();
    assert!(site.read("keyring.toml").starts_with(&before), "the old key was changed");
    let mode = fs::metadata(site.file("keyring.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    // The first use of the store makes the first key the active one.
    site.run(&["tenant", "list"]).await.succeeded();
    let keys = site.run(&["keys", "list", "--output", "json"]).await.json();
    let keys = keys.as_array().unwrap();
    let active: Vec<_> = keys.iter().map(|key| key["active"].as_bool().unwrap()).collect();
    assert_eq!(active, [true, false]);
    assert_eq!(keys[1]["id"], added["id"]);

    // Now the audit trail exists and records a further key.
    site.run(&["keys", "generate", "--add"]).await.succeeded();
    let events = site.run(&["audit", "export", "--filter", "action = \"cli.keys.generate\""]).await;
    assert_eq!(events.succeeded().lines().count(), 1);
}

#[tokio::test]
async fn a_key_that_could_not_be_added_is_recorded_as_a_failure() {
    let site = Site::new().await;
    site.run(&["tenant", "list"]).await.succeeded();
    fs::write(site.file(".keyring.toml.new"), "").unwrap();
    let message = site.run(&["keys", "generate", "--add"]).await.failed(1);
    assert!(message.contains(".keyring.toml.new"), "{message}");
    let events = site.run(&["audit", "export", "--filter", "action = \"cli.keys.generate\""]).await;
    let events = events.succeeded();
    let reason = |line| serde_json::from_str::<Value>(line).unwrap()["errorReason"].clone();
    assert_eq!(events.lines().map(reason).collect::<Vec<_>>(), ["", "INTERNAL"]);
}

#[tokio::test]
async fn keys_are_listed_by_id_and_never_shown() {
    let site = Site::new().await;
    site.run(&["keys", "generate", "--add"]).await.succeeded();
    let unused = site.run(&["keys", "list"]).await.succeeded();
    assert!(!unused.contains("active"), "without a store there is no active key: {unused}");
    assert!(!site.file("gateway.db").exists(), "listing keys created a store");
    site.run(&["tenant", "list"]).await.succeeded();

    let text = site.run(&["keys", "list"]).await.succeeded();
    let json = site.run(&["keys", "list", "--output", "json"]).await.succeeded();
    let keyring: toml::Table = toml::from_str(&site.read("keyring.toml")).unwrap();
    let keys = keyring["keys"].as_array().unwrap();
    assert_eq!((keys.len(), text.lines().count()), (2, 3));
    for key in keys {
        let (id, bytes) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
        assert!(text.contains(id) && json.contains(id));
        assert!(!text.contains(bytes) && !json.contains(bytes));
    }
    let of_first = text.lines().nth(1).unwrap();
    assert!(of_first.starts_with(keys[0]["id"].as_str().unwrap()) && of_first.ends_with("active"));
}

#[tokio::test]
async fn every_tenant_command_reports_its_result_as_text() {
    let site = Site::new().await;
    let (name, token) = (name("Cust12345"), site.make_tenant("Cust12345"));
    fs::write(site.file("token.txt"), format!("{token}\n")).unwrap();
    let file = site.file("token.txt").display().to_string();
    for (arguments, told) in [
        (&["tenant", "add", &name, "--label", "region=nordic"][..], "added"),
        (&["tenant", "set-token", &name, "--token-file", &file], "has a new system user token"),
        (&["tenant", "disable", &name], "is disabled"),
        (&["tenant", "enable", &name], "is enabled"),
    ] {
        let said = site.run(arguments).await.succeeded();
        assert!(said.starts_with(&format!("{name} {told}")), "{said}");
        assert!(!said.contains(&token));
    }
    let listed = site.run(&["tenant", "list"]).await.succeeded();
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[0].starts_with("TENANT") && lines.len() == 2, "{listed}");
    let row: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(row, [&name, "not", "asked", "stored", "yes"]);
    assert!(!listed.contains(&token));
    let said = site.run(&["tenant", "remove", &name]).await.succeeded();
    assert!(said.starts_with(&format!("{name} is removed")), "{said}");
    assert_eq!(site.run(&["tenant", "list"]).await.succeeded().lines().count(), 1);
}

#[tokio::test]
async fn every_tenant_command_reports_its_result_as_json() {
    let site = Site::new().await;
    let (name, token) = (name("Cust12345"), site.make_tenant("Cust12345"));
    let by_id = ["Cust12345", "--application", APPLICATION, "--output", "json"];
    let with = |command: &'static str| [&["tenant", command][..], &by_id].concat();
    let added = site.run(&[&with("add")[..], &["--label", "a=b"]].concat()).await.json();
    assert_eq!((&added["name"], &added["labels"]), (&json!(name), &json!({ "a": "b" })));
    assert_eq!(added["has_system_user_token"], false);
    let set = site.run_with_input(&with("set-token"), &format!("{token}\r\n")).await.json();
    assert_eq!(set["has_system_user_token"], true);
    assert_ne!(set["etag"], added["etag"]);
    assert_eq!(site.run(&with("disable")).await.json()["disabled"], true);
    let listed = ["tenant", "list", "--application", APPLICATION, "--output", "json"];
    let listed = site.run(&listed).await.json();
    let [tenant] = listed.as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!((&tenant["name"], &tenant["disabled"]), (&json!(name), &json!(true)));
    assert!(tenant["create_time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert!(!listed.to_string().contains(&token) && !set.to_string().contains(&token));
    assert_eq!(site.run(&with("enable")).await.json()["disabled"], false);
    assert_eq!(site.run(&with("remove")).await.json(), json!({ "name": name, "removed": true }));
    assert_eq!(site.run(&["tenant", "list", "--output", "json"]).await.json(), json!([]));
}

#[tokio::test]
async fn a_token_is_read_from_a_file_or_from_standard_input() {
    let site = Site::new().await;
    for (id, from_file) in [("Cust1", true), ("Cust2", false)] {
        let token = site.make_tenant(id);
        site.run(&["tenant", "add", id]).await.succeeded();
        // White space that editors and shells add is ignored.
        let text = format!("  {token}\r\n");
        if from_file {
            fs::write(site.file("token.txt"), text).unwrap();
            let file = site.file("token.txt").display().to_string();
            site.run(&["tenant", "set-token", id, "--token-file", &file]).await.succeeded();
        } else {
            site.run_with_input(&["tenant", "set-token", id], &text).await.succeeded();
        }
    }
    let served = site.serve().await;
    let mut tokens = served.tokens().await;
    for id in ["Cust1", "Cust2"] {
        issue_with(&mut tokens, issue(id)).await.unwrap();
    }
}

#[tokio::test]
async fn unknown_tenants_and_applications_fail_with_a_remedy() {
    let site = Site::new().await;
    for command in ["disable", "enable", "remove"] {
        let message = site.run(&["tenant", command, "Cust9"]).await.failed(1);
        assert!(message.contains(&name("Cust9")) && message.contains("tenant add"), "{message}");
    }
    let message = site.run_with_input(&["tenant", "set-token", "Cust9"], "Some-token").await;
    let message = message.failed(1);
    assert!(message.contains("tenant add") && !message.contains("Some-token"), "{message}");
    for arguments in [
        &["tenant", "add", "Cust9", "--application", "other"][..],
        &["tenant", "add", "applications/other/tenants/Cust9"],
        &["tenant", "disable", "applications/other/tenants/Cust9"],
        &["tenant", "list", "--application", "other"],
    ] {
        let message = site.run(arguments).await.failed(1);
        assert!(message.contains("other") && message.contains("[[applications]]"), "{message}");
    }
    site.run(&["tenant", "add", "Cust9"]).await.succeeded();
    let message = site.run(&["tenant", "add", "Cust9"]).await.failed(1);
    assert!(message.contains("exists already"), "{message}");
}

#[tokio::test]
async fn wrong_usage_has_its_own_exit_code() {
    let site = Site::new().await;
    let long = "x".repeat(5000);
    for (arguments, hint) in [
        (&["tenant", "add", "cust1"][..], "Cust followed by"),
        (&["tenant", "add", "Cust12345678901"], "Cust followed by"),
        (&["tenant", "add", "Cust1\u{1b}[2J"], "Cust followed by"),
        (&["tenant", "add", ""], "Cust followed by"),
        (&["tenant", "add", &long], "Cust followed by"),
        (&["tenant", "remove", "applications/-/tenants/Cust1"], "one application"),
        (&["tenant", "remove", "applications/crm-sync/tenants/"], "Cust followed by"),
        (&["tenant", "remove", "applications/crm-sync/tenants/Cust1/"], "applications/"),
        (&["tenant", "list", "--application", "Bad!"], "lower-case letter"),
        (&["tenant", "add", "Cust1", "--label", "novalue"], "KEY=VALUE"),
        (&["tenant", "add", "Cust1", "--label", "=x"], "--label"),
        (&["tenant", "set-token", "Cust1", "--token-file", "/nowhere/token"], "/nowhere/token"),
        (&["tenant", "set-token", "Cust1"], "must not be empty"),
        (&["keys", "list", "--output", "yaml"], "json"),
    ] {
        let message = site.run(arguments).await.failed(2);
        assert!(message.contains(hint), "{arguments:?}: {message}");
        assert!(!message.contains('\u{1b}'), "control characters reach the terminal: {message:?}");
    }
    assert_eq!(site.run(&["tenant", "list"]).await.succeeded().lines().count(), 1);
}

#[tokio::test]
async fn a_name_and_an_application_that_contradict_each_other_are_refused() {
    let site = Site::new().await;
    site.run(&["tenant", "add", "Cust1"]).await.succeeded();
    let contradiction = ["tenant", "remove", &name("Cust1"), "--application", "other"];
    let message = site.run(&contradiction).await.failed(2);
    assert!(message.contains("other") && message.contains(APPLICATION), "{message}");
    let agreement = ["tenant", "remove", &name("Cust1"), "--application", APPLICATION];
    site.run(&agreement).await.succeeded();
}

#[tokio::test]
async fn the_help_of_every_command_has_an_example() {
    for command in [
        &["serve"][..],
        &["dev"],
        &["config"],
        &["keys", "generate"],
        &["keys", "list"],
        &["tenant", "add"],
        &["tenant", "list"],
        &["tenant", "set-token"],
        &["tenant", "disable"],
        &["tenant", "enable"],
        &["tenant", "remove"],
        &["grant", "list"],
        &["grant", "revoke"],
    ] {
        let help = Process::start(program(&[command, &["--help"]].concat())).finished().await;
        let help = help.succeeded();
        let example = format!("tenant-gateway {}", command.join(" "));
        let (_, examples) = help.split_once("Example").unwrap_or_else(|| panic!("{help}"));
        assert!(examples.contains(&example), "{command:?}: {help}");
    }
    for group in [&["--help"][..], &["tenant", "--help"], &["keys", "--help"], &["grant", "--help"]]
    {
        Process::start(program(group)).finished().await.succeeded();
    }
}

#[tokio::test]
async fn the_printed_configuration_is_valid() {
    let printed = Process::start(program(&["config"])).finished().await.succeeded();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    fs::write(&file, printed).unwrap();
    let file = file.display().to_string();
    let command = program(&["keys", "generate", "--config", &file]);
    let finished = Process::start(command).finished().await;
    // The only error is the missing application; every other line is valid.
    let message = finished.failed(2);
    assert!(message.contains("applications: "), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

/// Repeats a call until `done`, within the time limit of the server.
async fn noticed(served: &Served, what: &str, done: impl Fn(&Result<(), Status>) -> bool) {
    let (mut tokens, begin) = (served.tokens().await, Instant::now());
    loop {
        let answer = issue_with(&mut tokens, issue("Cust1")).await.map(drop);
        if done(&answer) {
            assert!(begin.elapsed() <= NOTICED, "{what}: {:?}", begin.elapsed());
            return;
        }
        assert!(begin.elapsed() <= NOTICED, "{what}: not noticed: {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn fails_as(code: Code, reason: &str) -> impl Fn(&Result<(), Status>) -> bool {
    move |answer| {
        let Err(status) = answer else { return false };
        let details = status.get_error_details();
        status.code() == code && details.error_info().is_some_and(|info| info.reason == reason)
    }
}

#[tokio::test]
async fn a_running_server_notices_every_command_within_a_second() {
    let site = Site::new().await;
    let served = site.serve().await;
    let token = site.make_tenant("Cust1");
    let unknown = fails_as(Code::NotFound, "RESOURCE_NOT_FOUND");
    noticed(&served, "nothing yet", &unknown).await;
    site.run(&["tenant", "add", "Cust1"]).await.succeeded();
    let not_enrolled = fails_as(Code::FailedPrecondition, "SYSTEM_USER_NOT_ENROLLED");
    noticed(&served, "add", not_enrolled).await;
    site.run_with_input(&["tenant", "set-token", "Cust1"], "Wrong App-0123456789")
        .await
        .succeeded();
    let rejected = fails_as(Code::FailedPrecondition, "SYSTEM_USER_REJECTED");
    noticed(&served, "set-token with a wrong one", rejected).await;
    site.run_with_input(&["tenant", "set-token", "Cust1"], &token).await.succeeded();
    noticed(&served, "set-token", Result::is_ok).await;
    site.run(&["tenant", "disable", "Cust1"]).await.succeeded();
    let disabled = fails_as(Code::FailedPrecondition, "TENANT_DISABLED");
    noticed(&served, "disable", disabled).await;
    site.run(&["tenant", "enable", "Cust1"]).await.succeeded();
    noticed(&served, "enable", Result::is_ok).await;
    site.run(&["tenant", "remove", "Cust1"]).await.succeeded();
    noticed(&served, "remove", unknown).await;
    let log = served.stop().await.stderr;
    assert!(!log.contains(&token), "{log}");
}

/// Returns the words of a line that `dev` prints, without the token.
fn words(line: &str) -> Vec<String> {
    let words = match line.split_once("-H \"") {
        None => line.to_owned(),
        Some((before, header)) => format!("{before}{}", header.split_once('"').unwrap().1),
    };
    let words = words.split_whitespace().map(|word| word.trim_matches('\'').to_owned());
    words.collect()
}

/// Returns the token that a printed line reads from a file.
fn token(line: &str) -> Option<String> {
    let (_, file) = line.split_once("authorization: Bearer $(cat ")?;
    Some(fs::read_to_string(file.split_once(')').unwrap().0).unwrap())
}

/// Executes a printed line with tonic.
async fn perform(channel: &Channel, line: &str) -> Result<Vec<String>, Status> {
    fn with<T>(token: Option<&String>, message: T) -> tonic::Request<T> {
        match token {
            Some(token) => with_bearer_token(token, message),
            None => tonic::Request::new(message),
        }
    }
    let (token, words) = (token(line), words(line));
    let data = words.iter().position(|word| word == "-d").map(|at| words[at + 1].as_str());
    let data: Value = data.map_or(Value::Null, |data| serde_json::from_str(data).unwrap());
    let text = |field: &str| data[field].as_str().unwrap().to_owned();
    let what = words.last().unwrap().as_str();
    match what {
        "tenantgateway.v1.TokenService/IssueSystemTicket" => {
            let request =
                pb::IssueSystemTicketRequest { tenant: text("tenant"), ..Default::default() };
            let mut client = TokenServiceClient::new(channel.clone());
            let issued = client.issue_system_ticket(with(token.as_ref(), request)).await?;
            Ok(vec![issued.into_inner().ticket.unwrap().tenant])
        }
        "tenantgateway.v1.TenantService/DisableTenant" => {
            let request = pb::DisableTenantRequest { name: text("name"), ..Default::default() };
            let mut client = TenantServiceClient::new(channel.clone());
            let answer = client.disable_tenant(with(token.as_ref(), request)).await?;
            let tenant = answer.into_inner().tenant.unwrap();
            assert!(tenant.disabled);
            Ok(vec![tenant.name])
        }
        "tenantgateway.v1.AccessService/ExplainAccess" => {
            let request = pb::ExplainAccessRequest { tenant: text("tenant") };
            let mut client = AccessServiceClient::new(channel.clone());
            let answer = client.explain_access(with(token.as_ref(), request)).await?;
            let contexts = answer.into_inner().user_contexts;
            let obstacles = contexts.into_iter().flat_map(|context| context.obstacles);
            Ok(obstacles.map(|obstacle| obstacle.reason().as_str_name().to_owned()).collect())
        }
        "tenantgateway.v1.AssociateService/ListAssociates" => {
            let request =
                pb::ListAssociatesRequest { parent: text("parent"), ..Default::default() };
            let mut client = AssociateServiceClient::new(channel.clone());
            let page = client.list_associates(with(token.as_ref(), request)).await?.into_inner();
            Ok(page.associates.into_iter().map(|associate| associate.login).collect())
        }
        "tenantgateway.v1.ImpersonationService/IssueAccessToken" => {
            let subject = Some(Subject::UserPrincipalName(text("user_principal_name")));
            let tenant = text("tenant");
            let request = pb::IssueAccessTokenRequest { tenant, subject, ..Default::default() };
            let mut client = ImpersonationServiceClient::new(channel.clone());
            let answer = client.issue_access_token(with(token.as_ref(), request)).await?;
            Ok(vec![answer.into_inner().token.unwrap().associate_id.to_string()])
        }
        "tenantgateway.v1.ImpersonationService/BeginConsent" => {
            let application = text("application");
            let request = pb::BeginConsentRequest { application, ..Default::default() };
            let mut client = ImpersonationServiceClient::new(channel.clone());
            let answer = client.begin_consent(with(token.as_ref(), request)).await?;
            Ok(vec![answer.into_inner().consent_uri])
        }
        "tenantgateway.v1.AssociateService/GetCurrentPrincipal" => {
            let (tenant, credential) = (text("tenant"), text("credential"));
            let request = pb::GetCurrentPrincipalRequest { tenant, credential };
            let mut client = AssociateServiceClient::new(channel.clone());
            let answer = client.get_current_principal(with(token.as_ref(), request)).await?;
            Ok(vec![answer.into_inner().principal.unwrap().user_name])
        }
        "tenantgateway.v1.AuditService/ListAuditEvents" => {
            let request =
                pb::ListAuditEventsRequest { filter: text("filter"), ..Default::default() };
            let mut client = AuditServiceClient::new(channel.clone());
            let page = client.list_audit_events(with(token.as_ref(), request)).await?.into_inner();
            Ok(page.audit_events.into_iter().map(|event| event.action).collect())
        }
        "grpc.health.v1.Health/Check" => {
            let mut client = HealthClient::new(channel.clone());
            let answer = client.check(HealthCheckRequest::default()).await?.into_inner();
            Ok(vec![answer.status().as_str_name().to_owned()])
        }
        "list" => reflect(channel, MessageRequest::ListServices(String::new())).await,
        symbol => {
            assert_eq!(words[words.len() - 2], "describe", "{words:?}");
            reflect(channel, MessageRequest::FileContainingSymbol(symbol.to_owned())).await
        }
    }
}

/// Returns the names of services, or the number of files that describe a symbol.
async fn reflect(channel: &Channel, request: MessageRequest) -> Result<Vec<String>, Status> {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let mut client = ServerReflectionClient::new(channel.clone());
    let asked = client.server_reflection_info(tokio_stream::once(request)).await?;
    let answer = asked.into_inner().message().await?.unwrap();
    match answer.message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        MessageResponse::FileDescriptorResponse(files) => {
            Ok(vec![files.file_descriptor_proto.len().to_string()])
        }
        other => panic!("{other:?}"),
    }
}

/// Runs the printed lines as a user would, if grpcurl is installed.
async fn paste(lines: &[&str]) {
    if Command::new("grpcurl").arg("-version").output().is_err() {
        return;
    }
    let expected = [
        ("\"value\": \"7T:", true),
        ("Code: FailedPrecondition", false),
        ("Code: PermissionDenied", false),
        ("Code: Unauthenticated", false),
        ("TENANT_NOT_RUNNING", true),
        ("\"userName\": \"Emp3@", true),
        ("\"value\": \"8A:", true),
        ("\"userName\": \"erik@demo.example\"", true),
        ("/consent/", true),
        ("DECISION_DENIED", true),
        ("grpc.health.v1.Health", true),
        ("rpc IssueSystemTicket", true),
        ("SERVING", true),
        ("\"disabled\": true", true),
    ];
    assert_eq!(lines.len(), expected.len());
    for (line, (said, succeeds)) in lines.iter().zip(expected) {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        let ended = Process::start(shell).finished().await;
        let all = format!("{}{}", ended.stdout, ended.stderr);
        assert!((ended.code == Some(0)) == succeeds && all.contains(said), "{line}: {ended:?}");
    }
}

#[tokio::test]
async fn dev_prints_all_addresses_and_working_commands() {
    let temporary = tempfile::tempdir().unwrap();
    let ports = ["--grpc-port", "0", "--http-port", "0", "--admin-port", "0", "--egress-port", "0"];
    let mut command = program(&[&["dev"][..], &ports].concat());
    command.env("TMPDIR", temporary.path());
    let mut dev = Process::start(command);
    let banner = dev.until("prints the last line", |process| {
        let said = process.stdout();
        said.ends_with("DisableTenant\n").then_some(said)
    });
    let banner = banner.await;
    assert!(banner.lines().count() <= 40, "{banner}");
    let lines: Vec<_> =
        banner.lines().map(str::trim).filter(|line| line.starts_with("grpcurl ")).collect();
    assert_eq!(lines.len(), 14, "{banner}");
    let address = words(lines[10])[2].clone();
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let does = async |index: usize| perform(&channel, lines[index]).await;
    assert_eq!(does(0).await.unwrap(), ["applications/demo/tenants/Cust10001"]);
    let status = does(1).await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "TENANT_NOT_RUNNING");
    assert_status(&does(2).await.unwrap_err(), Code::PermissionDenied, "POLICY_DENIED");
    assert_status(&does(3).await.unwrap_err(), Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    assert_eq!(does(4).await.unwrap(), ["ERROR_REASON_TENANT_NOT_RUNNING"]);
    let logins = does(5).await.unwrap();
    assert!(logins.contains(&"EMP3".to_owned()), "{logins:?}");
    for index in [6, 7] {
        assert_status(
            &does(index).await.unwrap_err(),
            Code::FailedPrecondition,
            "CONSENT_REQUIRED",
        );
    }
    let (_, link) = banner.split_once("consent  ").unwrap();
    let link = link.split_whitespace().next().unwrap();
    let granted = give_consent(link, "erik@demo.example", "Cust10001").await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert_eq!(does(6).await.unwrap(), ["102"]);
    assert_eq!(does(7).await.unwrap(), ["erik@demo.example"]);
    let other = does(8).await.unwrap();
    let granted = give_consent(&other[0], "carla@demo.example", "Cust10003").await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert_eq!(does(9).await.unwrap(), ["issueSystemTicket"]);
    let services = does(10).await.unwrap();
    assert!(services.contains(&"tenantgateway.v1.TokenService".to_owned()), "{services:?}");
    assert_ne!(does(11).await.unwrap(), ["0"], "no file describes the service");
    assert_eq!(does(12).await.unwrap(), ["SERVING"]);
    paste(&lines).await;
    let curls: Vec<_> =
        banner.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    let said = ["\"DatabaseContextIdentifier\":\"Cust10001\"", "\"PATH_NOT_ALLOWED\""];
    assert_eq!(curls.len(), said.len(), "{banner}");
    for (line, said) in curls.into_iter().zip(said) {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        let answer = Process::start(shell).finished().await.succeeded();
        assert!(answer.contains(said), "{line}: {answer}");
    }
    assert_eq!(does(13).await.unwrap(), ["applications/demo/tenants/Cust10001"]);
    let status = does(0).await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "TENANT_DISABLED");

    drop(channel);
    assert_ne!(fs::read_dir(temporary.path()).unwrap().count(), 0, "dev created no files");
    dev.signal(Signal::INT);
    let ended = dev.finished().await;
    assert_eq!(ended.succeeded(), banner);
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "a folder is left behind");
}

#[tokio::test]
async fn dev_removes_its_files_after_an_early_stop_a_closed_terminal_or_a_failed_start() {
    let left = |folder: &tempfile::TempDir| fs::read_dir(folder.path()).unwrap().count();
    let dev = |folder: &tempfile::TempDir, port: &str| {
        let ports =
            ["--grpc-port", port, "--http-port", "0", "--admin-port", "0", "--egress-port", "0"];
        let mut command = program(&[&["dev"][..], &ports].concat());
        command.env("TMPDIR", folder.path());
        Process::start(command)
    };
    let temporary = tempfile::tempdir().unwrap();
    let mut stopped = dev(&temporary, "0");
    let begun = |_: &Process| (left(&temporary) > 0).then_some(());
    stopped.until("makes its folder", begun).await;
    stopped.signal(Signal::INT);
    stopped.finished().await.succeeded();
    assert_eq!(left(&temporary), 0);

    // A closed terminal sends SIGHUP twice, from the kernel and from the shell.
    let mut closed = dev(&temporary, "0");
    let serves = |process: &Process| process.stdout().ends_with("DisableTenant\n").then_some(());
    closed.until("serves", serves).await;
    closed.signal(Signal::HUP);
    closed.signal(Signal::HUP);
    closed.finished().await.succeeded();
    assert_eq!(left(&temporary), 0);

    // A killed process leaves its files. The next one removes them, but not those of a running one.
    let mut killed = dev(&temporary, "0");
    killed.until("serves", serves).await;
    let mut running = dev(&temporary, "0");
    running.until("serves", serves).await;
    killed.signal(Signal::KILL);
    killed.finished().await;
    assert_eq!(left(&temporary), 2);
    let mut next = dev(&temporary, "0");
    next.until("serves", serves).await;
    assert_eq!(left(&temporary), 2);
    for last in [running, next] {
        last.signal(Signal::INT);
        last.finished().await.succeeded();
    }
    assert_eq!(left(&temporary), 0);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let message = dev(&temporary, &port).finished().await.failed(1);
    assert!(message.contains("grpc.listen") && message.contains(&port), "{message}");
    assert_eq!(left(&temporary), 0);
}
