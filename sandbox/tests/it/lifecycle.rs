//! Start, stop, demonstration data, and many concurrent callers.

use std::time::{Duration, Instant};

use superoffice_sandbox::{
    ApiHost, Endpoint, Fault, FaultScope, Options, Sandbox, TenantState, demo,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fixture::{Fixture, ONE};

#[tokio::test]
async fn shutdown_ends_idle_and_waiting_connections_promptly() {
    let fixture = Fixture::start().await;
    let delay = Fault::delay(Duration::from_mins(10));
    fixture.status(ONE).await;
    fixture.sandbox.inject(Endpoint::TenantStatus, delay, FaultScope::always()).unwrap();
    let uri = format!("{}/api/state/{ONE}", fixture.sandbox.login_uri());
    let waiting = tokio::spawn(fixture.http.get(&uri).send());
    while fixture.sandbox.calls(Endpoint::TenantStatus) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let start = Instant::now();
    fixture.sandbox.shutdown().await;
    assert!(start.elapsed() < Duration::from_secs(2));
    waiting.await.unwrap().unwrap_err();
    assert!(fixture.http.get(&uri).send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn dropping_the_sandbox_stops_it() {
    let fixture = Fixture::start().await;
    let address = fixture.sandbox.login_uri().replace("http://", "");
    drop(fixture.sandbox);
    let stopped = async {
        while TcpStream::connect(&address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), stopped).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let fixture = Fixture::start().await;
    let taken = fixture.sandbox.login_uri().replace("http://", "");
    let options = Options { login: taken.parse().unwrap(), ..Options::default() };
    let error = Sandbox::start(options).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {taken}"));
}

#[tokio::test]
async fn the_demonstration_data_is_one_application_on_three_tenants() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let demo = demo::populate(sandbox.control()).unwrap();
    let tenants: Vec<(&str, TenantState)> =
        demo.tenants.iter().map(|tenant| (tenant.id.as_str(), tenant.state)).collect();
    assert_eq!(
        tenants,
        [
            ("Cust10001", TenantState::Running),
            ("Cust10002", TenantState::Suspended),
            ("Cust10003", TenantState::OnlineMaintenance),
        ]
    );
    assert!(demo.tenants.iter().all(|tenant| tenant.system_user_token.starts_with("Demo Sync-")));
    assert!(demo.private_key_pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert!(demo.private_key_xml.starts_with("<RSAKeyValue><Modulus>"));
    assert_eq!(demo.client_id.len(), 32);
    assert_eq!(sandbox.tenants().len(), 3);
}

#[tokio::test]
async fn the_demonstration_data_has_people_who_can_sign_in_at_any_port() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let demo = demo::populate(sandbox.control()).unwrap();
    for user in &demo.users {
        for tenant in &user.tenants {
            let people = sandbox.people(tenant).unwrap();
            let found = people.user(&user.user_name).unwrap();
            assert_eq!(found.id, user.associate_id);
            assert_eq!(people.is_administrator(found), user.administrator);
        }
    }
    let http = reqwest::Client::new();
    for redirect in ["http://127.0.0.1:54321", "http://localhost:8080/consent/callback"] {
        let uri = format!("{}/login/common/oauth/authorize", sandbox.login_uri());
        let query = [
            ("client_id", demo.client_id.as_str()),
            ("redirect_uri", redirect),
            ("response_type", "code"),
            ("scope", "openid"),
        ];
        let page = http.get(uri).query(&query).send().await.unwrap();
        assert_eq!(page.status(), 200, "{redirect}");
        assert!(page.text().await.unwrap().contains("Anna Admin (anna@demo.example)"));
    }
}

/// The number of callers that the default limit of file descriptors allows.
const CALLERS: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once_are_all_answered() {
    let fixture = Fixture::start().await;
    let delay = Fault::delay(Duration::from_millis(700));
    fixture.sandbox.inject(Endpoint::ApiRoot, delay, FaultScope::always()).unwrap();
    let address = fixture.sandbox.api_uri(ApiHost::A).replace("http://", "");
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let address = address.clone();
        callers.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request =
                format!("GET /{ONE}/api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer.starts_with("HTTP/1.1 200")
        });
    }
    assert!(callers.join_all().await.into_iter().all(|answered| answered));
    let calls = u64::try_from(CALLERS).unwrap();
    assert_eq!(fixture.sandbox.calls_for(Endpoint::ApiRoot, ONE), calls);
    assert!(fixture.sandbox.max_concurrent(Endpoint::ApiRoot) > calls / 2);
}
