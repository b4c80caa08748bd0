//! Tests of authentication with tokens and certificates.

use std::{net::Ipv4Addr, pin::pin, task::Poll};

use futures_util::poll;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::{Value, json};

use self::forge::{NoJitter, RSA_PEM, TestKey, TestKeySource, set};
use super::*;
use crate::{
    crypto::{KeyedDigest, TokenSignatures},
    domain::TokenAlgorithm,
    ports::{Clock as _, ManualClock},
};

pub(super) mod forge;

const ISSUER: &str = "https://issuer.example";
const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn now() -> Timestamp {
    "2026-02-23T09:00:00Z".parse().unwrap()
}

fn rules(issuer: &str, prefix: &str) -> IssuerRules {
    let caller_prefix = prefix.to_owned();
    IssuerRules { caller_prefix, ..IssuerRules::new(issuer, "tenant-gateway") }
}

/// Returns valid claims, issued five minutes ago, which expire in five minutes.
fn claims() -> Value {
    let seconds = now().as_second();
    json!({ "iss": ISSUER, "aud": "tenant-gateway", "sub": "sync", "iat": seconds - 300, "nbf": seconds - 300, "exp": seconds + 300 })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// An issuer whose keys are fetched.
struct World {
    clock: Arc<ManualClock>,
    source: Arc<TestKeySource>,
    keys: Arc<IssuerKeys>,
}

impl World {
    async fn new(keys: &[&TestKey]) -> Self {
        let clock = Arc::new(ManualClock::new(now()));
        let source = Arc::new(TestKeySource::new(&set(keys), false));
        let age = Duration::from_hours(24);
        let keys = IssuerKeys::new(
            ISSUER.to_owned(),
            source.clone(),
            age,
            TokenAlgorithm::ALL.to_vec(),
            clock.clone(),
            Arc::new(NoJitter),
        );
        let world = Self { clock, source, keys: Arc::new(keys) };
        world.run(async {}).await;
        world
    }

    /// Runs `work` while the refresh loop runs. The loop starts anew each time and fetches the keys first.
    async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut fresh = pin!(self.keys.run_refresh());
        assert!(poll!(&mut fresh).is_pending());
        tokio::select! {
            biased;
            done = work => done,
            never = fresh => match never {},
        }
    }

    fn authenticator(&self, rules: IssuerRules) -> Authenticator {
        self::authenticator(vec![(rules, self.keys.clone())], Some(CertificateRules::default()))
    }

    /// Authenticates a token. If that waits for keys, runs the refresh loop once.
    async fn identify(&self, authenticator: &Authenticator, token: &str) -> Result<Caller, String> {
        let presented = bearer(token);
        let mut identified =
            pin!(authenticator.authenticate(&presented, SOMEWHERE, self.clock.now()));
        let first = poll!(&mut identified);
        let identified = match first {
            Poll::Ready(identified) => identified,
            Poll::Pending => {
                self.run(async {}).await;
                identified.await
            }
        };
        identified.map_err(|unidentified| match unidentified {
            AuthenticationError::Refused(cause) => cause,
            AuthenticationError::CertificateNotTrusted => "no longer trusted".to_owned(),
            AuthenticationError::KeysUnavailable { cause, .. } => format!("unavailable: {cause}"),
        })
    }
}

fn authenticator(
    issuers: Vec<(IssuerRules, Arc<IssuerKeys>)>,
    mtls: Option<CertificateRules>,
) -> Authenticator {
    let digest = Arc::new(KeyedDigest::new().unwrap());
    Authenticator::new(issuers, mtls, Arc::new(TokenSignatures), digest)
}

fn bearer(token: &str) -> PresentedCredentials<'_> {
    PresentedCredentials { bearer: Bearer::Token(token), certificate: None }
}

fn certificate(names: &[&str]) -> Result<PeerCertificate, CertificateProblem> {
    let san = |name: &&str| {
        if name.contains(':') {
            SanType::URI((*name).try_into().unwrap())
        } else {
            SanType::DnsName((*name).try_into().unwrap())
        }
    };
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().map(san).collect();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 3, 1);
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    PeerCertificate::read(certificate.der(), &CertificateRules::default())
}

#[tokio::test]
async fn authenticates_tokens_of_each_key_type() {
    let (rsa, ec, ed) = (TestKey::rsa("r"), TestKey::ec("e"), TestKey::ed("d"));
    let world = World::new(&[&rsa, &ec, &ed]).await;
    let authenticator = world.authenticator(rules(ISSUER, "ci:"));
    for key in [&rsa, &ec, &ed] {
        let token = key.sign(&claims());
        assert!(authenticator.cached(&bearer(&token), now()).is_none());
        let caller = world.identify(&authenticator, &token).await.unwrap();
        assert_eq!(
            (caller.id(), caller.method(), caller.issuer()),
            ("ci:sync", CallerMethod::Jwt, Some(ISSUER))
        );
        assert_eq!(authenticator.cached(&bearer(&token), now()).unwrap().id(), "ci:sync");
        assert!(authenticator.check_still_valid(&caller, now()).is_ok());
    }
}

#[tokio::test]
async fn rejects_malformed_tokens() {
    let key = TestKey::ec("e");
    let world = World::new(&[&key]).await;
    let authenticator = world.authenticator(rules(ISSUER, ""));
    let good = key.sign(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let big = key.sign(&with("more", "x".repeat(6200)));
    for (token, why) in [
        (String::new(), "three parts"),
        ("..".to_owned(), "three parts"),
        ("a.b".to_owned(), "three parts"),
        (format!("{good}."), "three parts"),
        (format!("{good}.a"), "three parts"),
        (format!("{}.{}.", parts[0], parts[1]), "three parts"),
        (format!(".{}.{}", parts[1], parts[2]), "three parts"),
        (format!("{good}="), "not base64url"),
        (format!("{}.{}.+/+/", parts[0], parts[1]), "not base64url"),
        (format!("{}.{}.{}", parts[1], parts[1], parts[2]), "header"),
        (format!("!.{}.{}", parts[1], parts[2]), "header"),
        (format!("{}.{}.{}", parts[0], parts[0], parts[2]), "claims"),
        (
            key.sign_text(&key.header().to_string(), "[\"https://issuer.example\",\"sync\"]"),
            "claims",
        ),
        (key.sign_text("[\"ES256\",\"e\"]", &claims().to_string()), "header"),
        (key.sign_text("{\"alg\":\"ES256\",\"alg\":\"ES256\"}", &claims().to_string()), "header"),
        (big, "oversized"),
        ("x".repeat(100_000), "oversized"),
    ] {
        let cause = world.identify(&authenticator, &token).await.unwrap_err();
        assert!(cause.contains(why), "{cause} is not {why}");
        assert!(token.len() < 9 || !cause.contains(&token), "{cause}");
    }
    for end in 0..good.len() {
        let cut = &good[..end];
        assert!(world.identify(&authenticator, cut).await.is_err(), "{end}");
    }
}

#[tokio::test]
async fn accepts_only_listed_algorithms_that_match_the_key() {
    let (rsa, ec) = (TestKey::rsa("r"), TestKey::ec("e"));
    let world = World::new(&[&rsa, &ec]).await;
    let authenticator = world.authenticator(rules(ISSUER, ""));
    let text = claims().to_string();
    let hmac = |secret: &[u8], alg| {
        let key = jsonwebtoken::EncodingKey::from_secret(secret);
        let mut header = jsonwebtoken::Header::new(alg);
        header.kid = Some("r".to_owned());
        jsonwebtoken::encode(&header, &claims(), &key).unwrap()
    };
    let public = include_bytes!("../../../tests/fixtures/keys/public.pem");
    for (token, why) in [
        (rsa.sign_text("{\"alg\":\"none\"}", &text), "not signed with"),
        (rsa.sign_text("{\"alg\":\"None\",\"kid\":\"r\"}", &text), "not signed with"),
        (rsa.sign_text("{\"alg\":\"RS512\",\"kid\":\"r\"}", &text), "another algorithm"),
        (rsa.sign_text("{\"alg\":\"PS256\",\"kid\":\"r\"}", &text), "another algorithm"),
        (rsa.sign_text("{\"alg\":\"ES256K\",\"kid\":\"r\"}", &text), "not signed with"),
        (rsa.sign_text("{\"alg\":\"Ed448\",\"kid\":\"r\"}", &text), "not signed with"),
        (rsa.sign_text("{\"alg\":\"rs256\",\"kid\":\"r\"}", &text), "not signed with"),
        (rsa.sign_text("{\"alg\":\"\",\"kid\":\"r\"}", &text), "not signed with"),
        (rsa.sign_text("{\"kid\":\"r\"}", &text), "header"),
        (hmac(public, jsonwebtoken::Algorithm::HS256), "shared secret"),
        (hmac(RSA_PEM.as_bytes(), jsonwebtoken::Algorithm::HS512), "shared secret"),
        (rsa.sign_text("{\"alg\":\"RS256\",\"kid\":\"e\"}", &text), "another algorithm"),
        (ec.sign_text("{\"alg\":\"ES256\",\"kid\":\"r\"}", &text), "another algorithm"),
        (rsa.sign_text("{\"alg\":\"ES256\",\"kid\":\"e\"}", &text), "signature is wrong"),
        (TestKey::ec("e").sign(&claims()), "signature is wrong"),
        (
            rsa.sign_text(
                "{\"alg\":\"RS256\",\"kid\":\"r\",\"crit\":[\"b64\"],\"b64\":false}",
                &text,
            ),
            "crit",
        ),
        (rsa.sign_text("{\"alg\":\"RS256\",\"kid\":\"r\",\"crit\":null}", &text), "crit"),
    ] {
        let cause = world.identify(&authenticator, &token).await.unwrap_err();
        assert!(cause.contains(why), "{cause} is not {why}");
    }
}

#[tokio::test]
async fn a_token_without_a_key_name_is_tried_with_every_key_for_its_algorithm() {
    let (rsa, ec, other) = (TestKey::rsa("r"), TestKey::ec("e"), TestKey::ec("o"));
    let sign = |key: &TestKey| key.sign_text("{\"alg\":\"ES256\"}", &claims().to_string());
    let world = World::new(&[&rsa, &ec]).await;
    assert!(world.identify(&world.authenticator(rules(ISSUER, "")), &sign(&ec)).await.is_ok());
    let world = World::new(&[&rsa, &other, &ec]).await;
    let authenticator = world.authenticator(rules(ISSUER, ""));
    for key in [&ec, &other] {
        assert!(world.identify(&authenticator, &sign(key)).await.is_ok());
    }
    let cause = world.identify(&authenticator, &sign(&TestKey::ec("x"))).await.unwrap_err();
    assert!(cause.contains("signature is wrong"), "{cause}");
    let world = World::new(&[&rsa]).await;
    let cause =
        world.identify(&world.authenticator(rules(ISSUER, "")), &sign(&ec)).await.unwrap_err();
    assert!(cause.contains("no key of its issuer is for its algorithm"), "{cause}");
    // Each tried key costs time before the caller is authenticated.
    let many: Vec<_> = (0..9).map(|n| TestKey::ec(&n.to_string())).collect();
    let world = World::new(&many.iter().collect::<Vec<_>>()).await;
    let cause =
        world.identify(&world.authenticator(rules(ISSUER, "")), &sign(&many[8])).await.unwrap_err();
    assert!(cause.contains("more than 8 keys"), "{cause}");
}

#[tokio::test]
async fn accepts_each_algorithm_only_if_it_is_allowed() {
    for algorithm in TokenAlgorithm::ALL {
        let key = TestKey::of(algorithm, "k");
        let world = World::new(&[&key]).await;
        let only =
            |algorithms| world.authenticator(IssuerRules { algorithms, ..rules(ISSUER, "") });
        let token = key.sign(&claims());
        let others: Vec<_> =
            TokenAlgorithm::ALL.into_iter().filter(|other| *other != algorithm).collect();
        let cause = world.identify(&only(others), &token).await.unwrap_err();
        assert!(cause.contains(&format!("signed with {algorithm}")), "{cause}");
        let caller = world.identify(&only(vec![algorithm]), &token).await.unwrap();
        assert_eq!(caller.id(), "sync", "{algorithm}");
    }
    // RFC 9864 gives `EdDSA` with Ed25519 its own algorithm name.
    let key = TestKey::ed("k");
    let world = World::new(&[&key]).await;
    let token = key.sign_text("{\"alg\":\"Ed25519\",\"kid\":\"k\"}", &claims().to_string());
    assert!(world.identify(&world.authenticator(rules(ISSUER, "")), &token).await.is_ok());
}

#[tokio::test]
async fn a_key_without_an_algorithm_verifies_all_of_its_kind() {
    for algorithm in [TokenAlgorithm::Rs256, TokenAlgorithm::Ps256, TokenAlgorithm::Ps512] {
        let mut key = TestKey::of(algorithm, "r");
        key.jwk.as_object_mut().unwrap().remove("alg");
        let world = World::new(&[&key]).await;
        let authenticator = world.authenticator(rules(ISSUER, ""));
        assert!(world.identify(&authenticator, &key.sign(&claims())).await.is_ok(), "{algorithm}");
    }
}

#[tokio::test]
async fn rejects_tokens_of_an_issuer_with_only_unsupported_keys() {
    let mut key = TestKey::ed("1");
    key.jwk["crv"] = json!("Ed448");
    let world = World::new(&[&key]).await;
    let authenticator = world.authenticator(rules(ISSUER, ""));
    let cause = world.identify(&authenticator, &key.sign(&claims())).await.unwrap_err();
    assert!(cause.contains("publishes only keys that cannot be used"), "{cause}");
    assert!(cause.contains("Ed448"), "{cause}");
    // A usable key that is published later is found.
    let good = TestKey::ed("1");
    world.source.publish(&set(&[&key, &good]));
    world.run(async {}).await;
    assert!(world.identify(&authenticator, &good.sign(&claims())).await.is_ok());
}

#[tokio::test]
async fn the_configured_claim_names_the_caller() {
    let key = TestKey::ec("1");
    let world = World::new(&[&key]).await;
    let of = |claim: &str| IssuerRules { caller_claim: claim.to_owned(), ..rules(ISSUER, "app:") };
    let authenticator = world.authenticator(of("azp"));
    let twice = claims().to_string().replacen('{', "{\"azp\":\"a\",\"azp\":\"b\",", 1);
    for (token, why) in [
        (key.sign(&claims()), "no claim \"azp\""),
        (key.sign(&with("azp", 5)), "not a string"),
        (key.sign(&with("azp", Value::Null)), "not a string"),
        (key.sign(&with("azp", json!(["a"]))), "not a string"),
        (key.sign(&with("azp", "")), "claim \"azp\" (caller_claim) is empty"),
        (key.sign(&with("azp", "x".repeat(513))), "too long"),
        (key.sign(&with("azp", "a b")), "not visible ASCII"),
        (key.sign(&with("azp", "syn\u{441}")), "not visible ASCII"),
        (key.sign(&with("azp", "spiffe://example.org/a")), "SPIFFE"),
        (key.sign_text(&key.header().to_string(), &twice), "twice"),
    ] {
        let cause = world.identify(&authenticator, &token).await.unwrap_err();
        assert!(cause.contains(why), "{cause} is not {why}");
    }
    let reserved =
        world.authenticator(IssuerRules { caller_claim: "azp".to_owned(), ..rules(ISSUER, "") });
    let cause = world.identify(&reserved, &key.sign(&with("azp", "cli:root"))).await.unwrap_err();
    assert!(cause.contains("reserved"), "{cause}");
    let mut shown = with("azp", "billing");
    shown.as_object_mut().unwrap().remove("sub");
    assert_eq!(
        world.identify(&authenticator, &key.sign(&shown)).await.unwrap().id(),
        "app:billing"
    );
}

#[tokio::test]
async fn accepts_any_configured_audience_and_the_configured_leeway() {
    let key = TestKey::ec("1");
    let world = World::new(&[&key]).await;
    let authenticator = world.authenticator(IssuerRules {
        audiences: vec!["old".to_owned(), "new".to_owned()],
        leeway: SignedDuration::from_secs(90),
        ..rules(ISSUER, "")
    });
    for audience in [json!("tenant-gateway"), json!(["other"]), json!([])] {
        let cause =
            world.identify(&authenticator, &key.sign(&with("aud", audience))).await.unwrap_err();
        assert!(cause.contains("another audience"), "{cause}");
    }
    let seconds = now().as_second();
    let aged = |exp: i64| {
        let mut claims = with("aud", json!(["x", "new"]));
        claims["exp"] = (seconds + exp).into();
        key.sign(&claims)
    };
    assert!(world.identify(&authenticator, &key.sign(&with("aud", "old"))).await.is_ok());
    assert!(world.identify(&authenticator, &aged(-90)).await.is_err());
    let caller = world.identify(&authenticator, &aged(-89)).await.unwrap();
    let at = |after| later(now(), SignedDuration::from_secs(after));
    assert!(authenticator.check_still_valid(&caller, at(0)).is_ok());
    assert_eq!(
        authenticator.check_still_valid(&caller, at(1)),
        Err(AccessError::CredentialExpired)
    );
}

#[tokio::test]
async fn one_issuer_may_have_two_entries_with_different_audiences_or_keys() {
    let (one, two) = (TestKey::ec("1"), TestKey::ec("2"));
    let (first, second) = (World::new(&[&one]).await, World::new(&[&two, &one]).await);
    let entry = |prefix: &str, audience: &str| IssuerRules {
        audiences: vec![audience.to_owned()],
        ..rules(ISSUER, prefix)
    };
    let by_audience = authenticator(
        vec![
            (entry("a:", "for-a"), second.keys.clone()),
            (entry("b:", "for-b"), second.keys.clone()),
        ],
        None,
    );
    for (audience, id) in [("for-a", "a:sync"), ("for-b", "b:sync")] {
        let token = two.sign(&with("aud", audience));
        let caller = second.identify(&by_audience, &token).await.unwrap();
        assert_eq!(caller.id(), id);
        assert!(by_audience.check_still_valid(&caller, now()).is_ok());
    }
    for (audience, why) in
        [(json!(["for-a", "for-b"]), "two entries"), (json!("c"), "another audience")]
    {
        let token = two.sign(&with("aud", audience));
        let cause = second.identify(&by_audience, &token).await.unwrap_err();
        assert!(cause.contains(why), "{cause}");
    }
    let by_key = authenticator(
        vec![(rules(ISSUER, "a:"), first.keys.clone()), (rules(ISSUER, "b:"), second.keys.clone())],
        None,
    );
    assert_eq!(second.identify(&by_key, &two.sign(&claims())).await.unwrap().id(), "b:sync");
    // Both entries publish this key.
    let cause = second.identify(&by_key, &one.sign(&claims())).await.unwrap_err();
    assert!(cause.contains("two entries"), "{cause}");
}

#[derive(Debug)]
struct Shown {
    der: Vec<u8>,
    trusted: std::sync::atomic::AtomicBool,
}

impl PresentedCertificate for Shown {
    fn der(&self) -> &[u8] {
        &self.der
    }

    fn is_trusted(&self, _: Timestamp) -> bool {
        self.trusted.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[tokio::test]
async fn rejects_a_certificate_whose_authority_was_removed() {
    let key = TestKey::ec("1");
    let world = World::new(&[&key]).await;
    let authenticator = world.authenticator(rules(ISSUER, "ci:"));
    let mut params = CertificateParams::new(["web.example.org".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let shown = Arc::new(Shown { der, trusted: true.into() });
    let certificate = authenticator.read_certificate(shown.clone());
    let token = key.sign(&claims());
    let alone = PresentedCredentials { bearer: Bearer::Absent, certificate: Some(&certificate) };
    let beside =
        PresentedCredentials { bearer: Bearer::Token(&token), certificate: Some(&certificate) };
    let callers = [
        authenticator.authenticate(&alone, SOMEWHERE, now()).await.unwrap(),
        authenticator.authenticate(&beside, SOMEWHERE, now()).await.unwrap(),
    ];
    for caller in &callers {
        assert_eq!(authenticator.check_still_valid(caller, now()), Ok(()));
    }
    shown.trusted.store(false, std::sync::atomic::Ordering::Relaxed);
    for presented in [&alone, &beside] {
        assert!(authenticator.cached(presented, now()).is_none());
        let refused = authenticator.authenticate(presented, SOMEWHERE, now()).await;
        assert_eq!(refused.unwrap_err(), AuthenticationError::CertificateNotTrusted);
    }
    for caller in &callers {
        assert_eq!(
            authenticator.check_still_valid(caller, now()),
            Err(AccessError::CertificateNotTrusted)
        );
    }
}

#[tokio::test]
async fn rejects_missing_wrong_and_duplicate_claims() {
    let key = TestKey::ed("d");
    let world = World::new(&[&key]).await;
    let authenticator = world.authenticator(rules(ISSUER, ""));
    let seconds = now().as_second();
    let twice = |name: &str| {
        let text = claims().to_string();
        let value = &claims()[name];
        key.sign_text(
            &key.header().to_string(),
            &text.replacen('{', &format!("{{\"{name}\":{value},"), 1),
        )
    };
    let sign = |claims: Value| key.sign(&claims);
    for (token, why) in [
        (sign(without("iss")), "lack the issuer"),
        (sign(with("iss", 5)), "claims"),
        (sign(with("iss", "https://issuer.example/")), "issuer is not one"),
        (sign(with("iss", "https://ISSUER.example")), "issuer is not one"),
        (sign(with("iss", "")), "issuer is not one"),
        (sign(without("aud")), "another audience"),
        (sign(with("aud", "tenant-gateway2")), "another audience"),
        (sign(with("aud", "Tenant-Gateway")), "another audience"),
        (sign(with("aud", json!([]))), "another audience"),
        (sign(with("aud", json!(["a", "b"]))), "another audience"),
        (sign(with("aud", json!({ "tenant-gateway": true }))), "claims"),
        (sign(without("exp")), "no expiry"),
        (sign(with("exp", seconds - 30)), "expired"),
        (sign(with("exp", i64::MIN)), "claims"),
        (sign(with("exp", 1e300)), "claims"),
        (sign(with("exp", "2099-01-01")), "claims"),
        (sign(with("nbf", seconds + 31)), "not yet valid"),
        (sign(with("iat", seconds + 31)), "in the future"),
        (sign(without("sub")), "no subject"),
        (sign(with("sub", "")), "its subject is empty"),
        (sign(with("sub", "a b")), "subject"),
        (sign(with("sub", "\u{430}dmin")), "subject"),
        (sign(with("sub", "x".repeat(513))), "subject"),
        (sign(with("sub", "anonymous")), "reserved"),
        (sign(with("sub", "cli:root")), "reserved"),
        (sign(with("sub", "spiffe://example.org/a")), "SPIFFE"),
        (twice("iss"), "twice"),
        (twice("sub"), "twice"),
        (twice("aud"), "twice"),
        (twice("exp"), "twice"),
    ] {
        let cause = world.identify(&authenticator, &token).await.unwrap_err();
        assert!(cause.contains(why), "{cause} is not {why}");
    }
    for good in [
        with("exp", seconds - 29),
        with("nbf", seconds + 30),
        with("iat", seconds + 30),
        with("exp", f64::from(u32::try_from(seconds).unwrap()) + 0.5),
        with("aud", json!(["other", "tenant-gateway"])),
        without("nbf"),
        without("iat"),
    ] {
        assert!(world.identify(&authenticator, &sign(good.clone())).await.is_ok(), "{good}");
    }
}

#[tokio::test]
async fn rejects_a_token_that_exceeds_max_lifetime_or_lacks_iat() {
    let key = TestKey::ed("d");
    let world = World::new(&[&key]).await;
    let authenticator = |seconds| {
        world.authenticator(IssuerRules {
            max_lifetime: Some(Duration::from_secs(seconds)),
            ..rules(ISSUER, "")
        })
    };
    assert!(world.identify(&authenticator(600), &key.sign(&claims())).await.is_ok());
    let cause = world.identify(&authenticator(599), &key.sign(&claims())).await.unwrap_err();
    assert!(cause.contains("max_lifetime"), "{cause}");
    let cause = world.identify(&authenticator(600), &key.sign(&without("iat"))).await.unwrap_err();
    assert!(cause.contains("max_lifetime"), "{cause}");
}

#[tokio::test]
async fn accepts_a_projected_kubernetes_service_account_token() {
    let key = TestKey::rsa("4yS1cBpPRSUVPpIvhSSbGPSpJvtMpq2fIE8PX4wZxJ4");
    let world = World::new(&[&key]).await;
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let authenticator = world.authenticator(rules(issuer, ""));
    let seconds = now().as_second();
    // The API server writes no `typ` and no other members into the header.
    let header = json!({ "alg": "RS256", "kid": key.jwk["kid"] });
    let claims = json!({
        "aud": ["tenant-gateway"],
        "exp": seconds + 3607,
        "iat": seconds,
        "iss": issuer,
        "jti": "0f2b5f5d-9d5c-4f5e-8a0e-9a4b6f0f8c11",
        "kubernetes.io": {
            "namespace": "shop",
            "node": { "name": "worker-1", "uid": "7a9dd6b6-1c5e-4a5f-a6ad-9f1ad2bd6f3a" },
            "pod": { "name": "sync-5d6f9c7b9-x2x7z", "uid": "c8b8a7a4-6b0f-4d65-a8a0-b87a3c3b1f60" },
            "serviceaccount": { "name": "sync", "uid": "1f7f2c0e-3b1a-4a49-9d10-63b1f2a6f2b2" },
            "warnafter": seconds + 3607,
        },
        "nbf": seconds,
        "sub": "system:serviceaccount:shop:sync",
    });
    let token = key.sign_text(&header.to_string(), &claims.to_string());
    let caller = world.identify(&authenticator, &token).await.unwrap();
    assert_eq!(caller.id(), "system:serviceaccount:shop:sync");
    assert_eq!(caller.issuer(), Some(issuer));
}

#[tokio::test]
async fn a_cached_token_ends_at_its_expiry_after_ten_minutes_or_with_its_key() {
    let (key, other) = (TestKey::ed("d"), TestKey::ed("o"));
    let world = World::new(&[&key, &other]).await;
    let authenticator = world.authenticator(rules(ISSUER, ""));
    let at = |seconds| later(now(), SignedDuration::from_secs(seconds));
    let short = key.sign(&claims());
    let long = key.sign(&with("exp", now().as_second() + 3600));
    let callers = [
        world.identify(&authenticator, &short).await.unwrap(),
        world.identify(&authenticator, &long).await.unwrap(),
    ];
    assert!(authenticator.cached(&bearer(&short), at(299)).is_some());
    assert!(authenticator.cached(&bearer(&short), at(300)).is_none());
    assert!(authenticator.cached(&bearer(&long), at(599)).is_some());
    assert!(authenticator.cached(&bearer(&long), at(600)).is_none());
    assert!(
        authenticator.check_still_valid(&callers[0], at(329)).is_ok()
            && authenticator.check_still_valid(&callers[0], at(330)).is_err()
    );

    // The next fetch has the same key and a new one.
    world.source.publish(&set(&[&TestKey::ec("n"), &key]));
    world.run(async {}).await;
    assert!(authenticator.cached(&bearer(&long), now()).is_some());
    assert!(authenticator.check_still_valid(&callers[1], now()).is_ok());
    // Another key under the same key id is not accepted for old tokens.
    world.source.publish(&set(&[&TestKey::ed("d")]));
    world.run(async {}).await;
    assert!(authenticator.cached(&bearer(&long), now()).is_none());
    assert!(authenticator.check_still_valid(&callers[1], now()).is_err());
    assert!(
        world.identify(&authenticator, &long).await.unwrap_err().contains("signature is wrong")
    );
    // After the key is published again, the token is verified again.
    world.source.publish(&set(&[&key]));
    world.run(async {}).await;
    assert!(authenticator.cached(&bearer(&long), now()).is_none());
    assert!(world.identify(&authenticator, &long).await.is_ok());
}

#[tokio::test]
async fn a_key_rotation_fails_no_valid_call() {
    let (old, new) = (TestKey::ec("1"), TestKey::ec("2"));
    let world = World::new(&[&old]).await;
    let authenticator = world.authenticator(rules(ISSUER, ""));
    world.source.publish(&set(&[&old, &new]));
    let (rotated, made_up) = (new.sign(&claims()), TestKey::ec("3").sign(&claims()));
    let mut fresh = pin!(world.keys.run_refresh());
    world.source.publish(&set(&[&old]));
    assert!(poll!(&mut fresh).is_pending());
    world.source.publish(&set(&[&old, &new]));
    let (one, two) = (bearer(&rotated), bearer(&made_up));
    let mut good = pin!(authenticator.authenticate(&one, SOMEWHERE, now()));
    let mut bad = pin!(authenticator.authenticate(&two, SOMEWHERE, now()));
    assert!(poll!(&mut good).is_pending() && poll!(&mut bad).is_pending());
    assert!(poll!(&mut fresh).is_pending());
    world.clock.advance(Duration::from_secs(5));
    assert!(poll!(&mut fresh).is_pending());
    assert_eq!(good.await.unwrap().id(), "sync");
    assert_eq!(
        bad.await.unwrap_err(),
        AuthenticationError::Refused(format!(
            "the token of {ISSUER}: it is signed by an unknown key"
        ))
    );
}

#[tokio::test]
async fn rejects_a_wrong_signature_at_once_and_then_fetches_a_replaced_key() {
    let old = TestKey::ec("1");
    for new in [TestKey::ec("1"), TestKey::ed("1")] {
        let world = World::new(&[&old]).await;
        let authenticator = world.authenticator(rules(ISSUER, ""));
        let mut fresh = pin!(world.keys.run_refresh());
        assert!(poll!(&mut fresh).is_pending());
        world.source.publish(&set(&[&new]));
        let (of_new, of_old) = (new.sign(&claims()), old.sign(&claims()));
        let (of_new, of_old) = (bearer(&of_new), bearer(&of_old));
        for _ in 0..3 {
            let Poll::Ready(refused) =
                poll!(pin!(authenticator.authenticate(&of_new, SOMEWHERE, now())))
            else {
                panic!("it waits");
            };
            refused.unwrap_err();
        }
        assert!(poll!(&mut fresh).is_pending());
        world.clock.advance(Duration::from_secs(5));
        assert!(poll!(&mut fresh).is_pending());
        assert_eq!(
            authenticator.authenticate(&of_new, SOMEWHERE, now()).await.unwrap().id(),
            "sync"
        );
        assert!(poll!(pin!(authenticator.authenticate(&of_old, SOMEWHERE, now()))).is_ready());
    }
}

#[tokio::test]
async fn tries_all_keys_that_share_a_key_id() {
    let (one, two, other) = (TestKey::ec("1"), TestKey::ec("1"), TestKey::rsa("1"));
    let world = World::new(&[&one, &other, &two]).await;
    let authenticator = world.authenticator(rules(ISSUER, ""));
    for key in [&one, &two, &other] {
        assert!(world.identify(&authenticator, &key.sign(&claims())).await.is_ok());
    }
    assert!(world.identify(&authenticator, &TestKey::ec("1").sign(&claims())).await.is_err());
}

#[tokio::test]
async fn during_an_outage_known_keys_verify_and_unknown_keys_are_unavailable() {
    let (key, other) = (TestKey::ec("1"), TestKey::ec("2"));
    let world = World::new(&[&key]).await;
    let authenticator = world.authenticator(rules(ISSUER, ""));
    world.source.fail();
    world.run(async {}).await;
    assert!(world.identify(&authenticator, &key.sign(&claims())).await.is_ok());
    let token = other.sign(&claims());
    let presented = bearer(&token);
    let mut fresh = pin!(world.keys.run_refresh());
    assert!(poll!(&mut fresh).is_pending());
    let mut waits = pin!(authenticator.authenticate(&presented, SOMEWHERE, now()));
    assert!(poll!(&mut waits).is_pending());
    world.clock.advance(Duration::from_secs(6));
    for _ in 0..3 {
        assert!(poll!(&mut fresh).is_pending());
    }
    let Err(AuthenticationError::KeysUnavailable { cause, .. }) = waits.await else { panic!() };
    assert!(cause.contains("out of order"), "{cause}");

    // The keys are no longer accepted once they are too old.
    world.clock.advance(Duration::from_hours(25));
    let cause = world
        .identify(&authenticator, &key.sign(&with("exp", now().as_second() + 1_000_000)))
        .await;
    assert!(cause.unwrap_err().starts_with("unavailable: "));
}

#[tokio::test]
async fn certificates_count_only_if_configured_and_valid() {
    let world = World::new(&[&TestKey::ec("1")]).await;
    let authenticator = world.authenticator(rules(ISSUER, "ci:"));
    let show = |certificate| PresentedCredentials { bearer: Bearer::Absent, certificate };
    let good = certificate(&["web.example.org"]);
    let caller = authenticator.authenticate(&show(Some(&good)), SOMEWHERE, now()).await.unwrap();
    assert_eq!((caller.id(), caller.method()), ("web.example.org", CallerMethod::Mtls));
    assert!(authenticator.cached(&show(Some(&good)), now()).is_some());

    let end: Timestamp = "2026-03-01T00:00:01Z".parse().unwrap();
    for time in [end, "2025-12-31T23:59:59Z".parse().unwrap()] {
        assert!(authenticator.cached(&show(Some(&good)), time).is_none());
        assert!(authenticator.authenticate(&show(Some(&good)), SOMEWHERE, time).await.is_err());
    }
    assert!(
        authenticator.check_still_valid(&caller, now()).is_ok()
            && authenticator.check_still_valid(&caller, end).is_err()
    );
    assert!(authenticator.authenticate(&show(None), SOMEWHERE, now()).await.is_err());
    for names in [&["a", "b"][..], &["ci:deploy"], &["CI:deploy"], &["cli:root"], &[]] {
        let certificate = certificate(names);
        let shown =
            PresentedCredentials { bearer: Bearer::Absent, certificate: Some(&certificate) };
        assert!(authenticator.authenticate(&shown, SOMEWHERE, now()).await.is_err(), "{names:?}");
    }

    let blind = self::authenticator(vec![(rules(ISSUER, ""), world.keys.clone())], None);
    assert!(blind.authenticate(&show(Some(&good)), SOMEWHERE, now()).await.is_err());
}

#[tokio::test]
async fn with_two_credentials_both_must_be_valid_and_the_token_names_the_caller() {
    let key = TestKey::ec("1");
    let world = World::new(&[&key]).await;
    let authenticator = world.authenticator(rules(ISSUER, ""));
    let (token, bad) = (
        key.sign(&with("exp", now().as_second() + 99_999_999)),
        key.sign(&with("aud", "somebody-else")),
    );
    let show = |token, certificate| PresentedCredentials {
        bearer: Bearer::Token(token),
        certificate: Some(certificate),
    };
    let (good, other) = (certificate(&["a.example"]), certificate(&["b.example"]));
    let nobody = certificate(&["a.example", "b.example"]);
    let expired: Timestamp = "2026-03-01T00:00:01Z".parse().unwrap();
    // Runs twice, so that the second round uses the token cache: a cached token does not excuse an invalid certificate.
    for _ in 0..2 {
        assert!(authenticator.authenticate(&show(&bad, &good), SOMEWHERE, now()).await.is_err());
        assert!(
            authenticator.authenticate(&show(&token, &nobody), SOMEWHERE, now()).await.is_err()
        );
        assert!(
            authenticator.authenticate(&show(&token, &good), SOMEWHERE, expired).await.is_err()
        );
        for certificate in [&good, &other] {
            let caller = authenticator
                .authenticate(&show(&token, certificate), SOMEWHERE, now())
                .await
                .unwrap();
            assert_eq!((caller.id(), caller.method()), ("sync", CallerMethod::Jwt));
            assert_eq!(caller.certificate(), Some(certificate.as_ref().unwrap().id()));
            assert!(
                authenticator.check_still_valid(&caller, now()).is_ok()
                    && authenticator.check_still_valid(&caller, expired).is_err()
            );
        }
        assert_eq!(
            authenticator
                .authenticate(&bearer(&token), SOMEWHERE, now())
                .await
                .unwrap()
                .certificate(),
            None
        );
    }
    let unusable =
        PresentedCredentials { bearer: Bearer::Unusable("two"), certificate: Some(&good) };
    assert!(authenticator.cached(&unusable, now()).is_none());
    assert!(authenticator.authenticate(&unusable, SOMEWHERE, now()).await.is_err());
}

#[tokio::test]
async fn verifies_a_token_only_with_the_keys_of_its_issuer() {
    let (one, two) = (TestKey::ec("1"), TestKey::ec("1"));
    let (first, second) = (World::new(&[&one]).await, World::new(&[&two]).await);
    let other = "https://other.example";
    let issuers =
        vec![(rules(ISSUER, ""), first.keys.clone()), (rules(other, "ci:"), second.keys.clone())];
    let authenticator = self::authenticator(issuers, None);
    let sync = first.identify(&authenticator, &one.sign(&claims())).await.unwrap();
    let deploy = first.identify(&authenticator, &two.sign(&with("iss", other))).await.unwrap();
    assert_eq!((sync.id(), deploy.id()), ("sync", "ci:sync"));
    for (world, token) in [
        (&first, two.sign(&claims())),
        (&second, one.sign(&with("iss", other))),
        (&first, one.sign(&with("sub", "ci:sync"))),
    ] {
        assert!(world.identify(&authenticator, &token).await.is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn reading_a_malformed_token_never_panics(token in "[ -~]{0,60}|([A-Za-z0-9_-]{0,30}\\.){0,4}[A-Za-z0-9_=-]{0,30}") {
        let _ = UnverifiedToken::read(&token);
    }

    #[test]
    fn reading_malformed_claims_and_headers_never_panics(
        header in "\\{\"(alg|kid|crit)\":(\"(ES256|none)\"|1|null|\\[\\])\\}|\\PC{0,20}",
        claims in "\\{\"(iss|sub|aud|exp|nbf|iat)\":(\"\\PC{0,9}\"|-?[0-9]{1,25}|1e[0-9]{1,4}|null|\\[\"a\"\\])\\}|\\PC{0,20}",
    ) {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
        let token = format!("{}.{}.AA", B64.encode(header), B64.encode(claims));
        if let Ok(token) = UnverifiedToken::read(&token) {
            let _ = token.claims.check(&rules(ISSUER, ""), now());
        }
    }

    #[test]
    fn an_altered_token_never_verifies(at in any::<prop::sample::Index>(), byte in 0x21_u8..0x7f, which in 0..3_usize) {
        static MADE: std::sync::LazyLock<(key_set::KeySet, [String; 3])> = std::sync::LazyLock::new(|| {
            let forges = [TestKey::rsa("r"), TestKey::ec("e"), TestKey::ed("d")];
            let keys = key_set::KeySet::read(set(&[&forges[0], &forges[1], &forges[2]]).as_bytes(), None, &TokenAlgorithm::ALL);
            (keys.unwrap(), forges.map(|forge| forge.sign(&claims())))
        });
        let (keys, tokens) = &*MADE;
        let signed = |text: &str| match UnverifiedToken::read(text) {
            Ok(token) => keys.signed_by(&token, &TokenSignatures).is_ok(),
            Err(_) => false,
        };
        let good = &tokens[which];
        prop_assert!(signed(good));
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        prop_assert!(!signed(std::str::from_utf8(&bytes).unwrap()));
    }
}
