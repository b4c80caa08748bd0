//! The system user exchange.

use serde_json::{Value, json};
use superoffice_sandbox::{Authorization, Exchanges, Refusal, TenantState};

use crate::fixture::{
    APPLICATION, ApplicationKey, CLIENT, Fixture, ONE, SECRET, TWO, key, minutes, stamp,
};

#[tokio::test]
async fn a_name_with_dots_and_letters_beyond_ascii_is_split_from_the_right() {
    let fixture = Fixture::start().await;
    assert!(fixture.token.starts_with(&format!("{APPLICATION}-")));
    fixture.jwt().await;
}

#[tokio::test]
async fn a_system_user_token_is_the_name_and_ten_alphanumerics_and_permanent() {
    let fixture = Fixture::start().await;
    let (name, random) = fixture.token.rsplit_once('-').unwrap();
    assert_eq!(name, APPLICATION);
    assert_eq!(random.len(), 10);
    assert!(random.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(fixture.sandbox.authorize(CLIENT, ONE).unwrap(), fixture.token);
}

#[tokio::test]
async fn the_path_is_served_in_any_case() {
    let fixture = Fixture::start().await;
    for path in
        ["/login/API/partnersystemuser/authenticate", "/LOGIN/api/PartnerSystemUser/Authenticate"]
    {
        let uri = fixture.sandbox.login_uri() + path;
        let response = fixture.http.post(uri).json(&fixture.body()).send().await.unwrap();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["IsSuccessful"], true, "{path}");
    }
}

#[tokio::test]
async fn the_token_type_is_read_in_any_case_and_no_other_is_served() {
    let fixture = Fixture::start().await;
    for (kind, status) in [("jwt", 200), ("Jwt", 200), ("Saml", 400), ("", 400)] {
        let mut body = fixture.body();
        body["ReturnTokenType"] = json!(kind);
        assert_eq!(fixture.post(&body).await.status(), status, "{kind}");
    }
}

#[tokio::test]
async fn timestamps_pass_within_five_minutes_of_the_clock() {
    let fixture = Fixture::start().await;
    // At half a minute, because the timestamps have no seconds.
    let second = fixture.sandbox.now().as_second() % 60;
    fixture.sandbox.shift_clock(30 - second);
    let now = fixture.sandbox.now();
    for near in [-4, 5] {
        let body = fixture.body_at(&stamp(now + minutes(near)));
        assert_eq!(fixture.exchange(&body).await["IsSuccessful"], true, "{near}");
    }
    for far in [-5, 6] {
        let body = fixture.body_at(&stamp(now + minutes(far)));
        assert_eq!(fixture.refusal(&body).await, Refusal::InvalidTimestamp.message(), "{far}");
    }
}

#[tokio::test]
async fn timestamps_are_compared_with_the_clock_of_the_sandbox() {
    let fixture = Fixture::start().await;
    let body = fixture.body();
    fixture.sandbox.shift_clock(3600);
    assert_eq!(fixture.refusal(&body).await, Refusal::InvalidTimestamp.message());
    fixture.jwt().await;
    fixture.sandbox.shift_clock(-3600);
    assert_eq!(fixture.refusal(&body).await, Refusal::InvalidTimestamp.message());
    fixture.jwt().await;
}

#[tokio::test]
async fn a_timestamp_in_another_format_is_refused() {
    let fixture = Fixture::start().await;
    let second = fixture.sandbox.now().strftime("%Y%m%d%H%M%S").to_string();
    for wrong in [second.as_str(), "", "202699999999"] {
        let refusal = fixture.refusal(&fixture.body_at(wrong)).await;
        assert_eq!(refusal, Refusal::InvalidTimestamp.message(), "{wrong}");
    }
}

#[tokio::test]
async fn a_signature_that_is_absent_malformed_or_of_another_key_is_refused() {
    let fixture = Fixture::start().await;
    let now = stamp(fixture.sandbox.now());
    let genuine = key().sign(&fixture.token, &now);
    let foreign = ApplicationKey::generate().sign(&fixture.token, &now);
    let unsigned = format!("{}.{now}", fixture.token);
    let not_padded = genuine.trim_end_matches('=').to_owned();
    let of_another = format!("x{genuine}");
    for signed in [foreign, unsigned, not_padded, of_another, String::new()] {
        let mut body = fixture.body();
        body["SignedSystemToken"] = json!(signed);
        let refusal = fixture.refusal(&body).await;
        assert_eq!(refusal, "Authorization error: InvalidSignature (7)", "{signed}");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused_without_a_code() {
    let fixture = Fixture::start().await;
    let mut body = fixture.body();
    body["ApplicationToken"] = json!("wrong");
    assert_eq!(fixture.refusal(&body).await, "The application token is not valid.");
}

#[tokio::test]
async fn unknown_tenants_and_tokens_of_other_tenants_are_denied() {
    let fixture = Fixture::start().await;
    for tenant in ["Cust99999", TWO, "cust20001"] {
        let mut body = fixture.body();
        body["ContextIdentifier"] = json!(tenant);
        assert_eq!(fixture.refusal(&body).await, "Authorization error: Denied (4)", "{tenant}");
    }
    let mut body = fixture.body();
    let stamp = stamp(fixture.sandbox.now());
    body["SignedSystemToken"] = json!(key().sign("Demo-abcdefghij", &stamp));
    assert_eq!(fixture.refusal(&body).await, "Authorization error: Denied (4)");
}

#[tokio::test]
async fn each_authorization_that_is_not_active_is_refused_with_its_code() {
    let fixture = Fixture::start().await;
    for (authorization, message) in [
        (Authorization::Revoked, "Authorization error: Revoked (1)"),
        (Authorization::Expired, "Authorization error: Expired (3)"),
        (Authorization::Denied, "Authorization error: Denied (4)"),
        (Authorization::NeedsReapproval, "Authorization error: NeedsReapproval (5)"),
    ] {
        fixture.sandbox.set_authorization(CLIENT, ONE, authorization).unwrap();
        assert_eq!(fixture.refusal(&fixture.body()).await, message);
    }
    fixture.sandbox.set_authorization(CLIENT, ONE, Authorization::Active).unwrap();
    fixture.jwt().await;
}

#[tokio::test]
async fn only_tenants_in_a_usable_state_get_a_ticket() {
    let fixture = Fixture::start().await;
    for state in TenantState::ALL {
        fixture.sandbox.set_state(ONE, state).unwrap();
        let answer = fixture.exchange(&fixture.body()).await;
        assert_eq!(answer["IsSuccessful"], state.is_running(), "{state:?}");
    }
}

#[tokio::test]
async fn a_test_can_set_the_text_of_each_refusal() {
    let fixture = Fixture::start().await;
    let mut body = fixture.body();
    body["ApplicationToken"] = json!("wrong");
    for refusal in Refusal::ALL {
        fixture.sandbox.set_refusal_message(refusal, Some(format!("{refusal:?}!")));
    }
    assert_eq!(fixture.refusal(&body).await, "UnknownApplication!");
    fixture.sandbox.set_refusal_message(Refusal::UnknownApplication, None);
    assert_eq!(fixture.refusal(&body).await, Refusal::UnknownApplication.message());
}

#[tokio::test]
async fn an_invalid_exchange_is_a_bad_request() {
    let fixture = Fixture::start().await;
    let uri = fixture.authenticate_uri();
    let send = async |kind: &str, body: String| {
        let request = fixture.http.post(&uri).header("Content-Type", kind).body(body);
        request.send().await.unwrap().status().as_u16()
    };
    let json = "application/json;charset=UTF-8";
    assert_eq!(send(json, "{".into()).await, 400);
    assert_eq!(send(json, "{}".into()).await, 400);
    assert_eq!(send(json, fixture.body().to_string()).await, 200);
    assert_eq!(send(json, " ".repeat(70_000)).await, 413);
    assert_eq!(send("text/plain", fixture.body().to_string()).await, 415);
    assert_eq!(fixture.get(&uri).await.status(), 405);
}

#[tokio::test]
async fn two_secrets_and_two_keys_can_be_accepted_at_once() {
    let fixture = Fixture::start().await;
    let new = ApplicationKey::generate();
    let sandbox = &fixture.sandbox;
    sandbox.set_secrets(CLIENT, &["new", SECRET]).unwrap();
    sandbox.set_public_keys(CLIENT, &[key().public_pem(), new.public_pem()]).unwrap();
    fixture.jwt().await;
    let mut body = fixture.body();
    body["ApplicationToken"] = json!("new");
    body["SignedSystemToken"] = json!(new.sign(&fixture.token, &stamp(sandbox.now())));
    assert_eq!(fixture.exchange(&body).await["IsSuccessful"], true);

    sandbox.set_secrets(CLIENT, &["new"]).unwrap();
    assert_eq!(fixture.refusal(&fixture.body()).await, Refusal::UnknownApplication.message());
    sandbox.set_public_keys(CLIENT, &[new.public_pem()]).unwrap();
    body["SignedSystemToken"] = fixture.body()["SignedSystemToken"].clone();
    assert_eq!(fixture.refusal(&body).await, Refusal::InvalidSignature.message());
}

#[tokio::test]
async fn issued_and_refused_exchanges_are_counted() {
    let fixture = Fixture::start().await;
    fixture.jwt().await;
    fixture.jwt().await;
    fixture.refusal(&fixture.body_at("x")).await;
    assert_eq!(fixture.sandbox.exchanges(), Exchanges { issued: 2, refused: 1 });
}
