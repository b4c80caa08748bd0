//! A sandbox with one application and two tenants, and an HTTP client.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use superoffice_sandbox::{ApiHost, NewApplication, NewTenant, Options, Sandbox, TenantState};

/// A name with dots and non-ASCII letters, to test splitting and encoding.
pub(crate) const APPLICATION: &str = "Blåbær & Øl v1.2.Sync";
pub(crate) const CLIENT: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const SECRET: &str = "fedcba9876543210fedcba9876543210";
/// A running tenant on host A.
pub(crate) const ONE: &str = "Cust20001";
/// A running tenant on host B.
pub(crate) const TWO: &str = "Cust20002";

pub(crate) const IDENTITY: &str = "http://schemes.superoffice.net/identity/";

/// A key pair that an application registers.
pub(crate) struct ApplicationKey(KeyPair);

impl ApplicationKey {
    pub(crate) fn generate() -> Self {
        Self(KeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(crate) fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        let body = STANDARD.encode(der.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }

    /// Returns the signed system user token for a timestamp in text form.
    pub(crate) fn sign(&self, token: &str, stamp: &str) -> String {
        let payload = format!("{token}.{stamp}");
        let mut signature = vec![0; self.0.public_modulus_len()];
        let random = SystemRandom::new();
        self.0.sign(&RSA_PKCS1_SHA256, &random, payload.as_bytes(), &mut signature).unwrap();
        format!("{payload}.{}", STANDARD.encode(signature))
    }
}

/// Generated once, because that is slow.
pub(crate) fn key() -> &'static ApplicationKey {
    static KEY: OnceLock<ApplicationKey> = OnceLock::new();
    KEY.get_or_init(ApplicationKey::generate)
}

pub(crate) fn stamp(moment: Timestamp) -> String {
    moment.strftime("%Y%m%d%H%M").to_string()
}

pub(crate) fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

pub(crate) struct Fixture {
    pub(crate) sandbox: Sandbox,
    pub(crate) http: Client,
    /// The system user token on [`ONE`].
    pub(crate) token: String,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let sandbox = Sandbox::start(options).await.unwrap();
        sandbox
            .add_application(NewApplication {
                name: APPLICATION.into(),
                client_id: CLIENT.into(),
                client_secret: SECRET.into(),
                public_key: key().public_pem(),
            })
            .unwrap();
        for (id, host) in [(ONE, ApiHost::A), (TWO, ApiHost::B)] {
            let company_name = format!("Company {id}");
            let state = TenantState::Running;
            sandbox.add_tenant(NewTenant { id: id.into(), company_name, state, host }).unwrap();
        }
        let token = sandbox.authorize(CLIENT, ONE).unwrap();
        sandbox.authorize(CLIENT, TWO).unwrap();
        let redirects = reqwest::redirect::Policy::none();
        let http = Client::builder().no_proxy().redirect(redirects).build().unwrap();
        Self { sandbox, http, token }
    }

    /// Returns the body of an exchange for [`ONE`], signed now.
    pub(crate) fn body(&self) -> Value {
        self.body_at(&stamp(self.sandbox.now()))
    }

    pub(crate) fn body_at(&self, stamp: &str) -> Value {
        json!({
            "SignedSystemToken": key().sign(&self.token, stamp),
            "ApplicationToken": SECRET,
            "ContextIdentifier": ONE,
            "ReturnTokenType": "JWT",
        })
    }

    pub(crate) fn authenticate_uri(&self) -> String {
        format!("{}/Login/api/PartnerSystemUser/Authenticate", self.sandbox.login_uri())
    }

    pub(crate) async fn post(&self, body: &Value) -> Response {
        self.http.post(self.authenticate_uri()).json(body).send().await.unwrap()
    }

    pub(crate) async fn exchange(&self, body: &Value) -> Value {
        let response = self.post(body).await;
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    /// Returns the `ErrorMessage` of an exchange that is refused.
    pub(crate) async fn refusal(&self, body: &Value) -> String {
        let answer = self.exchange(body).await;
        assert_eq!(answer["IsSuccessful"], false, "{answer}");
        assert_eq!(answer["Token"], Value::Null);
        answer["ErrorMessage"].as_str().unwrap().into()
    }

    /// Returns the token of an exchange for [`ONE`] that succeeds.
    pub(crate) async fn jwt(&self) -> String {
        let answer = self.exchange(&self.body()).await;
        assert_eq!(answer["IsSuccessful"], true, "{answer}");
        assert_eq!(answer["ErrorMessage"], Value::Null);
        answer["Token"].as_str().unwrap().into()
    }

    pub(crate) async fn ticket(&self) -> String {
        let (_, claims) = decode(&self.jwt().await);
        claims[format!("{IDENTITY}ticket")].as_str().unwrap().into()
    }

    pub(crate) async fn get(&self, uri: &str) -> Response {
        let request = self.http.get(uri).header("Accept", "application/json");
        request.send().await.unwrap()
    }

    pub(crate) async fn status(&self, tenant: &str) -> Response {
        self.get(&format!("{}/api/state/{tenant}", self.sandbox.login_uri())).await
    }

    pub(crate) fn principal_uri(&self, host: ApiHost, tenant: &str) -> String {
        format!("{}/{tenant}/api/v1/User/currentPrincipal", self.sandbox.api_uri(host))
    }

    /// Requests the current principal of a ticket, at the address of [`ONE`].
    pub(crate) async fn principal(&self, ticket: &str) -> Response {
        self.http
            .get(self.principal_uri(ApiHost::A, ONE))
            .header("Accept", "application/json")
            .header("Authorization", format!("SOTicket {ticket}"))
            .header("SO-AppToken", SECRET)
            .send()
            .await
            .unwrap()
    }
}

/// Returns header and claims of a JWT without verification.
pub(crate) fn decode(jwt: &str) -> (Value, Value) {
    let mut parts = jwt.split('.');
    let mut next = || {
        let part = URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
        serde_json::from_slice(&part).unwrap()
    };
    (next(), next())
}
