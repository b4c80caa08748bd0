//! Tests with a local login host whose responses the test sets.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;

use super::*;
use crate::{
    domain::AllowedApiHosts,
    outbound::{Network, NetworkOptions},
    ports::{ManualClock, Random, SignError, Signer},
    superoffice::{
        Client, ClientOptions, Credentials, LoginHost, Registration,
        id_token::tests::{EXPECTED, NOW, claims, signed},
    },
};

struct Nothing;

impl Signer for Nothing {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
        Err(SignError)
    }
}

impl Random for Nothing {
    fn bytes(&self) -> [u8; 16] {
        [0; 16]
    }
}

/// The response of the login host to a form.
#[derive(Clone)]
enum Does {
    Answer(u16, String),
    /// Responds with a redirect to a host that the test would notice.
    Redirect,
    /// Closes the connection in the middle of the response.
    Cut,
    Hang,
}

/// A request other than for keys.
#[derive(Debug, Clone)]
struct Sent {
    line: String,
    headers: String,
    body: String,
}

impl Sent {
    /// Returns a field of the form.
    fn field(&self, name: &str) -> Option<String> {
        let mut fields = form_urlencoded::parse(self.body.as_bytes());
        fields.find(|(field, _)| field == name).map(|(_, value)| value.into_owned())
    }
}

/// An application and its login host.
struct Login {
    listener: TcpListener,
    superoffice: SuperOffice,
    /// The responses in order; the last one repeats.
    script: Mutex<VecDeque<Does>>,
    sent: Mutex<Vec<Sent>>,
}

impl Login {
    async fn new(script: impl IntoIterator<Item = Does>) -> Self {
        Self::of(8, script).await
    }

    async fn of(max_concurrent: u32, script: impl IntoIterator<Item = Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let superoffice = superoffice_of(&origin, max_concurrent);
        let script = Mutex::new(script.into_iter().collect());
        Self { listener, superoffice, script, sent: Mutex::default() }
    }

    async fn during<T>(&self, call: impl Future<Output = T>) -> T {
        tokio::select! {
            never = self.serve() => match never {},
            result = call => result,
        }
    }

    async fn serve(&self) -> Infallible {
        let mut hanging = Vec::new();
        loop {
            let (mut tcp, _) = self.listener.accept().await.unwrap();
            let sent = receive(&mut tcp).await;
            if sent.line.starts_with("GET /login/.well-known/jwks ") {
                tcp.write_all(http(200, &jwks()).as_bytes()).await.unwrap();
                continue;
            }
            self.sent.lock().unwrap().push(sent);
            let does = {
                let mut script = self.script.lock().unwrap();
                if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
            };
            let text = match does.unwrap() {
                Does::Answer(status, body) => http(status, &body),
                Does::Redirect => {
                    let address = self.listener.local_addr().unwrap();
                    format!(
                        "HTTP/1.1 307 x\r\nlocation: http://{address}/elsewhere\r\ncontent-length: 0\r\n\r\n"
                    )
                }
                Does::Cut => "HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{\"refresh_token\":\"n"
                    .to_owned(),
                Does::Hang => {
                    hanging.push(tcp);
                    continue;
                }
            };
            // The client may disconnect early.
            let _ = tcp.write_all(text.as_bytes()).await;
        }
    }

    async fn refresh(&self) -> Result<RefreshResponse, ExchangeError> {
        self.during(self.superoffice.refresh(&"old".into())).await
    }

    async fn exchange(&self) -> Result<CodeResponse, ExchangeError> {
        self.during(self.exchange_within(Duration::from_secs(5))).await
    }

    async fn exchange_within(&self, patience: Duration) -> Result<CodeResponse, ExchangeError> {
        let (code, verifier) = ("the code".into(), "the-verifier".into());
        let exchange = CodeExchange {
            code: &code,
            redirect_uri: "https://gateway.example/oauth/callback?a=b&c",
            verifier: &verifier,
            nonce: EXPECTED.nonce.unwrap(),
            max_wait: patience,
        };
        self.superoffice.exchange_code(&exchange).await
    }

    fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }
}

fn superoffice(origin: &str) -> SuperOffice {
    superoffice_of(origin, 8)
}

fn superoffice_of(origin: &str, max_concurrent: u32) -> SuperOffice {
    let options = ClientOptions { timeout: Duration::from_millis(500), allow_loopback: true };
    let network = Network::new(NetworkOptions::default()).unwrap();
    let client = Client::new(&network, options);
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()));
    let random = Arc::new(Nothing);
    let (caller, origin) = (client.clone(), origin.to_owned());
    let login = LoginHost::new(caller, origin, max_concurrent, clock.clone(), random.clone());
    let credentials =
        Credentials::new("s&cret 1".into(), Some("secret 2".into()), Arc::new(Nothing), None);
    let registration = Registration {
        client_id: EXPECTED.client_id.to_owned(),
        issuer: EXPECTED.issuer.to_owned(),
    };
    let hosts = AllowedApiHosts::new(vec!["127.0.0.1".to_owned()]).unwrap();
    SuperOffice::new(client, Arc::new(login), credentials, registration, hosts, clock, random)
}

async fn receive(tcp: &mut TcpStream) -> Sent {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split_once("content-length: ").map_or("0", |(_, rest)| rest);
    let mut body = vec![0; length.split('\r').next().unwrap().parse().unwrap()];
    tcp.read_exact(&mut body).await.unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let line = line.replacen("get", "GET", 1).replacen("post", "POST", 1);
    let body = String::from_utf8(body).unwrap();
    Sent { line, headers: headers.to_owned(), body }
}

fn http(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn jwks() -> String {
    let xml = include_str!("../../../tests/fixtures/keys/rsa-2048.xml");
    let number = |name: &str| {
        let (_, after) = xml.split_once(&format!("<{name}>")).unwrap();
        URL_SAFE_NO_PAD.encode(STANDARD.decode(after.split_once('<').unwrap().0).unwrap())
    };
    let key =
        json!({ "kty": "RSA", "use": "sig", "n": number("Modulus"), "e": number("Exponent") });
    json!({ "keys": [key] }).to_string()
}

/// The documented response to a code, with the fields of `other` replaced; null removes one.
fn success(other: &[(&str, Value)]) -> Value {
    let mut answer = json!({
        "token_type": "Bearer",
        "access_token": "8A:Cust26759.AR2s3phb0g+/==",
        "expires_in": 3600,
        "refresh_token": "KSamN1Tp4sd26pZJSGK6JobrWOUWorIZ2Y5XxcAqX86K9qoZRp4d3lUH32F4fiT3",
        "id_token": signed(&claims(&[])).expose_secret(),
    });
    for (name, value) in other {
        answer[name] = value.clone();
    }
    answer.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    answer
}

fn ok(other: &[(&str, Value)]) -> Does {
    Does::Answer(200, success(other).to_string())
}

fn error(status: u16, error: &str) -> Does {
    Does::Answer(status, json!({ "error": error, "error_description": "canary" }).to_string())
}

/// Returns the refresh token to store, and the rest.
async fn parts(
    refreshed: RefreshResponse,
) -> (Option<String>, Result<VerifiedAccess, UpstreamError>) {
    let mut kept = None;
    let keep = |token: Option<crate::domain::RefreshToken>| {
        kept = token.map(|token| token.secret().expose_secret().to_owned());
        async { Ok::<_, Infallible>(()) }
    };
    let Ok(rest) = refreshed.after_storing(keep).await;
    (kept, rest)
}

#[tokio::test]
async fn exchanges_a_code_for_an_identity_and_tokens() {
    let login = Login::new([ok(&[])]).await;
    let signed_in = login.exchange().await.unwrap();
    let refresh_token = signed_in.refresh_token.secret().expose_secret();
    assert_eq!(refresh_token, success(&[])["refresh_token"].as_str().unwrap());
    let access = signed_in.access.unwrap();
    assert_eq!(access.access_token.expose_secret(), "8A:Cust26759.AR2s3phb0g+/==");
    assert_eq!(access.expires_in, Duration::from_hours(1));
    assert_eq!(access.identity.tenant.to_string(), "Cust26759");

    let [sent] = &*login.sent() else { panic!() };
    assert_eq!(sent.line, "POST /login/common/oauth/tokens http/1.1");
    assert!(sent.headers.contains("content-type: application/x-www-form-urlencoded\r\n"));
    assert!(sent.headers.contains("accept: application/json\r\n"));
    assert!(!sent.headers.contains("authorization"));
    let fields: Vec<_> = form_urlencoded::parse(sent.body.as_bytes()).collect();
    let wanted = [
        ("client_id", EXPECTED.client_id),
        ("client_secret", "s&cret 1"),
        ("grant_type", "authorization_code"),
        ("code", "the code"),
        ("redirect_uri", "https://gateway.example/oauth/callback?a=b&c"),
        ("code_verifier", "the-verifier"),
    ];
    assert_eq!(fields, wanted.map(|(name, value)| (name.into(), value.into())));
}

#[tokio::test]
async fn a_refresh_keeps_the_token_unless_the_response_has_a_new_one() {
    for (field, kept) in [
        (Value::Null, None),
        (json!(""), None),
        (json!(" "), None),
        (json!("new"), Some("new")),
        (json!("\tnew \r\n"), Some("new")),
    ] {
        let login = Login::new([ok(&[("refresh_token", field.clone())])]).await;
        let (found, access) = parts(login.refresh().await.unwrap()).await;
        assert_eq!(found.as_deref(), kept, "{field}");
        assert_eq!(access.unwrap().identity.associate_id.get(), 5);
        let [sent] = &*login.sent() else { panic!() };
        assert_eq!(sent.field("grant_type").unwrap(), "refresh_token");
        assert_eq!(sent.field("refresh_token").unwrap(), "old");
    }
    // Present and null, instead of absent.
    let null = success(&[("refresh_token", json!("x"))]).to_string().replace("\"x\"", "null");
    let login = Login::new([Does::Answer(200, null)]).await;
    assert_eq!(parts(login.refresh().await.unwrap()).await.0, None);
}

/// The new refresh token is returned before the rest is validated.
#[tokio::test]
async fn returns_a_new_refresh_token_even_if_the_rest_is_invalid() {
    for (name, value) in [
        ("id_token", Value::Null),
        ("id_token", json!("canary")),
        ("id_token", json!(signed(&claims(&[("ctx", json!("Cust1"))])).expose_secret())),
        ("id_token", json!(signed(&claims(&[("aud", json!("canary"))])).expose_secret())),
        ("access_token", Value::Null),
        ("access_token", json!("")),
        ("access_token", json!("8A:Cust1.canary")),
        ("access_token", json!("8A:Cust26759.can\r\nary: x")),
        ("access_token", json!("8A:Cust26759.canåry")),
        ("access_token", json!(["canary"])),
        ("access_token", json!("x".repeat(9000))),
        ("token_type", Value::Null),
        ("token_type", json!("mac")),
        ("expires_in", json!(0)),
        ("expires_in", json!(-1)),
        ("expires_in", json!("canary")),
        ("expires_in", json!([])),
    ] {
        let login =
            Login::new([ok(&[("refresh_token", json!("new")), (name, value.clone())])]).await;
        let (kept, rest) = parts(login.refresh().await.unwrap()).await;
        assert_eq!(kept.as_deref(), Some("new"), "{name}: {value}");
        let Err(UpstreamError::InvalidResponse(why)) = rest else { panic!("{name}: {value}") };
        assert!(!why.contains("canary"), "{why}");
    }
}

/// Fetching public keys can take long.
#[tokio::test]
async fn returns_a_new_refresh_token_before_fetching_public_keys() {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"a new one"}"#);
    let rolled = json!(format!("{header}.e30.AA"));
    let answer = ok(&[("refresh_token", json!("new")), ("id_token", rolled)]);
    let login = Login::new([answer]).await;
    let refreshed = login.refresh().await.unwrap();
    // The login host is stopped, so that fetching keys again fails.
    let (kept, rest) = parts(refreshed).await;
    assert_eq!(kept.as_deref(), Some("new"));
    assert!(matches!(rest, Err(UpstreamError::Unavailable(_))), "{rest:?}");
}

#[tokio::test]
async fn a_forged_id_token_still_returns_the_refresh_token_to_revoke() {
    let forged = signed(&claims(&[("nonce", json!("canary"))]));
    let login = Login::new([ok(&[("id_token", json!(forged.expose_secret()))])]).await;
    let signed_in = login.exchange().await.unwrap();
    assert!(matches!(signed_in.access, Err(UpstreamError::InvalidResponse(_))));
    assert!(signed_in.refresh_token.secret().expose_secret().starts_with("KSam"));
}

#[tokio::test]
async fn reads_and_limits_the_token_lifetime_in_each_form() {
    for (told, seconds) in [
        (json!(3600), 3600),
        (json!("300"), 300),
        (json!(299.9), 299),
        (Value::Null, 1200),
        (json!(1), 1),
        (json!(31_536_000), 86_400),
        (json!(u64::MAX), 86_400),
    ] {
        let login = Login::new([ok(&[("expires_in", told.clone())])]).await;
        let access = login.exchange().await.unwrap().access.unwrap();
        assert_eq!(access.expires_in, Duration::from_secs(seconds), "{told}");
    }
    let login = Login::new([ok(&[("token_type", json!("bearer"))])]).await;
    assert!(login.exchange().await.unwrap().access.is_ok());
}

/// Only `invalid_grant` means that the grant is invalid.
#[tokio::test]
async fn each_invalid_response_says_whether_the_token_was_used() {
    let cut = success(&[]).to_string();
    let cut = cut.split_at(cut.len() / 2).0.to_owned();
    for (does, wanted) in [
        (error(400, "invalid_grant"), "InvalidGrant"),
        (error(403, "invalid_grant"), "InvalidGrant"),
        (error(500, "invalid_grant"), "Transient"),
        (error(302, "invalid_grant"), "Transient"),
        (error(200, "invalid_grant"), "InvalidResponse"),
        (error(400, "invalid_request"), "Transient"),
        (error(400, "canary"), "Transient"),
        (error(400, "Invalid_Grant"), "Transient"),
        (Does::Answer(400, "<p>canary</p>".to_owned()), "Transient"),
        (Does::Answer(400, String::new()), "Transient"),
        (Does::Answer(403, "{}".to_owned()), "Transient"),
        (Does::Answer(404, "canary".to_owned()), "Transient"),
        (Does::Answer(429, "canary".to_owned()), "Transient"),
        (Does::Answer(502, "canary".to_owned()), "Transient"),
        (Does::Answer(503, "<p>canary</p>".to_owned()), "Transient"),
        (Does::Redirect, "Transient"),
        (Does::Cut, "Transient"),
        (Does::Hang, "Transient"),
        (Does::Answer(200, "<p>canary</p>".to_owned()), "InvalidResponse"),
        (Does::Answer(204, String::new()), "InvalidResponse"),
        (Does::Answer(200, cut), "InvalidResponse"),
        (Does::Answer(200, "[\"canary\"]".to_owned()), "InvalidResponse"),
        (
            Does::Answer(200, "{\"refresh_token\":\"a\",\"refresh_token\":\"b\"}".to_owned()),
            "InvalidResponse",
        ),
        (Does::Answer(200, " ".repeat(300 * 1024)), "InvalidResponse"),
        (ok(&[("refresh_token", json!("can ary"))]), "InvalidResponse"),
        (ok(&[("refresh_token", json!(5))]), "InvalidResponse"),
    ] {
        let login = Login::new([does]).await;
        let text = match login.refresh().await {
            Err(error) => format!("{error:?}"),
            Ok(refreshed) => format!("{:?}", login.during(parts(refreshed)).await),
        };
        assert!(text.starts_with(wanted) && !text.contains("canary"), "{text} is not {wanted}");
        assert_eq!(login.sent().len(), 1, "nothing is repeated: {text}");
    }
    let login = Login::new([ok(&[("refresh_token", Value::Null)])]).await;
    assert!(matches!(login.exchange().await, Err(ExchangeError::InvalidResponse(_))));
}

#[tokio::test]
async fn a_request_that_was_not_sent_did_not_use_the_token() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let superoffice = superoffice(&origin);
    let refused = superoffice.refresh(&"old".into()).await.err().unwrap();
    assert!(matches!(refused, ExchangeError::NotSent(UpstreamError::Unavailable(_))), "{refused}");
    let revoked = superoffice.revoke(&"old".into()).await.unwrap_err();
    assert!(matches!(revoked, ExchangeError::NotSent(_)), "{revoked}");
    // This holds until the circuit opens, and after that.
    let mut last = refused;
    for _ in 0..8 {
        last = superoffice.refresh(&"old".into()).await.err().unwrap();
    }
    assert!(matches!(last, ExchangeError::NotSent(UpstreamError::CircuitOpen(_))), "{last}");
}

#[tokio::test]
async fn waiting_for_a_permit_does_not_reduce_the_request_timeout() {
    let login = Login::of(1, [Does::Hang, ok(&[])]).await;
    let old = "old".into();
    let hanging = login.superoffice.refresh(&old);
    let codes = async {
        while login.sent().is_empty() {
            tokio::task::yield_now().await;
        }
        let early = login.exchange_within(Duration::from_millis(1)).await;
        let sent = login.sent().len();
        // Each request has half a second.
        (early, sent, login.exchange_within(Duration::from_secs(5)).await)
    };
    let (hung, (early, sent, late)) = login.during(async { tokio::join!(hanging, codes) }).await;
    assert!(matches!(hung.err(), Some(ExchangeError::Transient(_))));
    assert!(matches!(early.err(), Some(ExchangeError::NotSent(_))));
    assert_eq!(sent, 1);
    assert!(late.is_ok());
    assert_eq!(login.sent().len(), 2);
}

/// `invalid_client` concerns the client secret and no grant.
#[tokio::test]
async fn tries_the_next_secret_and_keeps_the_working_one() {
    let refused = || error(401, "invalid_client");
    let login = Login::new([refused(), ok(&[]), ok(&[])]).await;
    assert!(login.refresh().await.is_ok());
    assert!(login.refresh().await.is_ok());
    let secrets: Vec<_> =
        login.sent().iter().map(|sent| sent.field("client_secret").unwrap()).collect();
    assert_eq!(secrets, ["s&cret 1", "secret 2", "secret 2"]);

    let unnamed = |body: &str| Does::Answer(401, body.to_owned());
    for (does, wanted) in [
        (refused(), ExchangeError::InvalidClient),
        (error(400, "invalid_client"), ExchangeError::InvalidClient),
        // The response does not name an error.
        (unnamed("<p>"), ExchangeError::Unauthorized),
        (unnamed("{}"), ExchangeError::Unauthorized),
        (unnamed(""), ExchangeError::Unauthorized),
    ] {
        let login = Login::new([does]).await;
        assert_eq!(login.refresh().await.err(), Some(wanted));
        assert_eq!(login.sent().len(), 2);
    }
    let login = Login::new([refused(), unnamed("{}")]).await;
    assert_eq!(login.refresh().await.err(), Some(ExchangeError::InvalidClient));
    // The response to the second secret counts.
    let login = Login::new([refused(), error(400, "invalid_grant")]).await;
    assert_eq!(login.refresh().await.err(), Some(ExchangeError::InvalidGrant));
    let login = Login::new([refused(), Does::Answer(503, String::new())]).await;
    assert!(matches!(login.refresh().await.err(), Some(ExchangeError::Transient(_))));
}

#[tokio::test]
async fn treats_an_unknown_token_as_revoked() {
    for does in [
        Does::Answer(200, String::new()),
        Does::Answer(204, String::new()),
        error(400, "invalid_grant"),
    ] {
        let login = Login::new([does]).await;
        login.during(login.superoffice.revoke(&"o&d".into())).await.unwrap();
        let [sent] = &*login.sent() else { panic!() };
        assert_eq!(sent.line, "POST /login/common/oauth/revoke http/1.1");
        assert_eq!(sent.field("token").unwrap(), "o&d");
        assert_eq!(sent.field("token_type_hint").unwrap(), "refresh_token");
        assert_eq!(sent.field("client_secret").unwrap(), "s&cret 1");
    }
    for (does, wanted) in [
        (error(400, "unsupported_token_type"), "Transient"),
        (Does::Answer(404, String::new()), "Transient"),
        (error(401, "invalid_client"), "InvalidClient"),
    ] {
        let login = Login::new([does]).await;
        let error = login.during(login.superoffice.revoke(&"old".into())).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(wanted), "{error}");
    }
    // The token may already be revoked, and revoking it again is safe.
    let login = Login::new([Does::Cut, Does::Answer(200, String::new())]).await;
    login.during(login.superoffice.revoke(&"old".into())).await.unwrap();
}

fn authorization(request: &AuthorizationRequest<'_>) -> Url {
    let uri = superoffice("https://sod.superoffice.com").authorization_uri(request);
    Url::parse(uri.expose_secret()).unwrap()
}

#[test]
fn the_authorization_uri_names_the_tenant_if_given() {
    let state = "s1".into();
    let request = AuthorizationRequest {
        tenant: None,
        redirect_uri: "https://gateway.example/oauth/callback",
        state: &state,
        nonce: "n1",
        code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        login_hint: None,
    };
    let uri = superoffice("https://sod.superoffice.com").authorization_uri(&request);
    assert_eq!(
        uri.expose_secret(),
        "https://sod.superoffice.com/login/common/oauth/authorize\
         ?client_id=6cf25376616343b38d14ddcd804f2891&response_type=code&scope=openid\
         &redirect_uri=https%3A%2F%2Fgateway.example%2Foauth%2Fcallback&state=s1&nonce=n1\
         &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
    );
    let tenant = "Cust00012".parse().ok();
    let uri = authorization(&AuthorizationRequest { tenant, login_hint: Some("a@b"), ..request });
    assert_eq!(uri.path(), "/login/Cust00012/oauth/authorize");
    assert!(uri.as_str().ends_with("&acr_values=tenant%3ACust00012&login_hint=a%40b"), "{uri}");
}

proptest! {
    #[test]
    fn escapes_values_in_the_authorization_uri(
        state in "\\PC{1,20}", nonce in "\\PC{1,20}", hint in "[&=#+% ?a-zæ]{0,12}|\\PC{0,20}",
        redirect_uri in "https://a\\.example/[a-z?&=#%+ ]{0,12}",
    ) {
        let secret = state.as_str().into();
        let uri = authorization(&AuthorizationRequest {
            tenant: None,
            redirect_uri: &redirect_uri,
            state: &secret,
            nonce: &nonce,
            code_challenge: "c",
            login_hint: Some(&hint),
        });
        prop_assert_eq!(uri.fragment(), None);
        let pairs: Vec<_> = uri.query_pairs().collect();
        prop_assert_eq!(pairs.len(), 9);
        for (name, value) in
            [("state", &state), ("nonce", &nonce), ("login_hint", &hint), ("redirect_uri", &redirect_uri)]
        {
            prop_assert!(pairs.iter().any(|pair| pair.0 == name && pair.1 == **value));
        }
    }

    #[test]
    fn no_body_makes_reading_panic(
        body in "\\PC{0,60}|\\{(\"(refresh_token|access_token|id_token|expires_in|token_type|error)\":(\"x\"|null|1|1e99|-1|\\[\\]),?){0,5}\\}",
    ) {
        let _ = new_refresh_token(body.as_bytes());
        let _ = TokenResponse::read(body.as_bytes());
    }
}
