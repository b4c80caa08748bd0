use axum::body::{Body, to_bytes};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    access::ActionName,
    broker::{CompletedConsent, ConsentEntry, InvalidConsentCause, PermissionLost, SignInMismatch},
    domain::{AssociateId, CallerRecord, Consent, ConsentOutcome, Grant, GrantState},
};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<axum::http::HeaderName>().unwrap(), value.parse().unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

fn grant() -> Grant {
    let time = Timestamp::UNIX_EPOCH;
    Grant {
        name: "applications/crm-sync/tenants/Cust1/grants/g1".parse().unwrap(),
        associate_id: AssociateId::new(5).unwrap(),
        user_principal_name: "tony@example.com".to_owned(),
        full_name: "Tony".to_owned(),
        state: GrantState::Active,
        create_time: time,
        last_refresh_time: None,
        last_failure: None,
        failing: None,
        revocation_pending: false,
        identity_unconfirmed: false,
        token_version: 1,
        version: 1,
    }
}

fn consent() -> Consent {
    Consent {
        id: ConsentId::new([7; 16]),
        application: "crm-sync".parse().unwrap(),
        tenant: None,
        caller: CallerRecord {
            id: "spiffe://internal.example/portal".to_owned(),
            method: "mtls".to_owned(),
            issuer: None,
        },
        return_uri: None,
        redirect_uri: None,
        login_hint: None,
        enroll_system_user: true,
        expected_user_principal_name: Some("tony@example.com".to_owned()),
        reason: "<b>moving in</b>".to_owned(),
        create_time: Timestamp::UNIX_EPOCH,
        expire_time: Timestamp::UNIX_EPOCH,
        outcome: None,
    }
}

async fn read(page: Page) -> (u16, String) {
    let response = page.into_response();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn every_outcome_has_its_own_page_and_only_a_stored_grant_is_a_success() {
    let mut titles = std::collections::BTreeSet::new();
    let cause = || "secret cause".into();
    let retry_after = Duration::from_secs(1);
    let errors = [
        BrokerError::ConsentRefused,
        BrokerError::ConsentInvalid(InvalidConsentCause::CodeRefused),
        BrokerError::WrongSignIn(SignInMismatch::Tenant),
        BrokerError::WrongSignIn(SignInMismatch::Person),
        BrokerError::NoLongerPermitted(PermissionLost {
            action: ActionName::ManageGrants,
            resource: "secret cause".into(),
            policy_ids: Arc::new([]),
        }),
        BrokerError::ClientSecretRefused("crm-sync".parse().unwrap()),
        BrokerError::UpstreamUnavailable { retry_after, cause: cause() },
        BrokerError::StoreUnavailable(cause()),
        BrokerError::TenantNotFound("applications/a/tenants/Cust1".to_owned()),
        BrokerError::TenantDisabled("applications/a/tenants/Cust1".parse().unwrap()),
        BrokerError::Internal(cause()),
    ];
    let pages = errors
        .into_iter()
        .map(|error| outcomes::result_page(&Err(error), ConsentEntry::Link, "r1"));
    let links = [
        ConsentLinkState::Expired,
        ConsentLinkState::Unknown,
        ConsentLinkState::Ended(ConsentOutcome::Refused),
    ];
    let links = links.iter().map(outcomes::link_page);
    let others = [
        outcomes::invalid_callback_page("r1"),
        outcomes::foreign_click_page("r1"),
        outcomes::timeout_page("r1"),
    ];
    for page in pages.chain(links).chain(others) {
        let (status, html) = read(page).await;
        assert!((400..600).contains(&status), "{status} {html}");
        assert!(!html.contains("secret cause"), "{html}");
        let title = html.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0;
        assert!(titles.insert(title.to_owned()), "{title}");
    }
    let taken = CompletedConsent { grant: grant(), system_user_enrolled: false };
    let (status, html) = read(outcomes::result_page(&Ok(taken), ConsentEntry::Link, "r1")).await;
    assert_eq!(status, 200);
    assert!(html.contains("Access was given") && html.contains("tony@example.com"));
}

#[tokio::test]
async fn a_failure_page_names_the_next_step_for_each_way_to_the_consent() {
    let (retry_after, cause) = (Duration::from_secs(1), || "secret cause".into());
    let mut errors = vec![
        BrokerError::UpstreamUnavailable { retry_after, cause: cause() },
        BrokerError::upstream_invalid(cause()),
        BrokerError::ClientSecretRefused("crm-sync".parse().unwrap()),
        BrokerError::ConsentInvalid(InvalidConsentCause::CodeRefused),
        BrokerError::WrongSignIn(SignInMismatch::Person),
        BrokerError::WrongSignIn(SignInMismatch::Tenant),
        BrokerError::StoreUnavailable(cause()),
        BrokerError::KeyUnavailable(cause()),
    ];
    errors.push(BrokerError::NoLongerPermitted(PermissionLost {
        action: ActionName::ManageGrants,
        resource: "secret cause".into(),
        policy_ids: Arc::new([]),
    }));
    for error in errors {
        for (way, helps, harms) in [
            (ConsentEntry::Link, "the link", "egin again"),
            (ConsentEntry::Address, "egin again where you came from", "pen the link"),
            (ConsentEntry::Unknown, "egin again", "secret cause"),
        ] {
            if way == ConsentEntry::Unknown
                && matches!(
                    error,
                    BrokerError::StoreUnavailable(_) | BrokerError::KeyUnavailable(_)
                )
            {
                continue;
            }
            let (_, html) = read(outcomes::error_page(&error, way, "r1")).await;
            assert!(html.contains(helps), "{error:?} {way:?}: {html}");
            assert!(!html.contains(harms), "{error:?} {way:?}: {html}");
            assert!(
                !html.contains("eload"),
                "the page must not advise a reload, because the state is used up: {html}"
            );
            assert!(html.contains("r1"), "{html}");
        }
    }
}

#[tokio::test]
async fn the_consent_page_names_application_and_person_but_not_the_caller() {
    let (status, html) =
        read(outcomes::link_page(&ConsentLinkState::Open(Box::new(consent())))).await;
    assert_eq!(status, 200);
    for part in
        ["crm-sync", "tony@example.com", "&lt;b&gt;moving in&lt;/b&gt;", "whole company", "<button"]
    {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("spiffe"), "{html}");
}

#[test]
fn only_a_click_on_our_own_page_is_accepted() {
    let own = Some("https://gateway.example.com");
    for (pairs, good) in [
        (vec![("sec-fetch-site", "same-origin")], true),
        (vec![("sec-fetch-site", "same-origin"), ("origin", "null")], true),
        (vec![("sec-fetch-site", "cross-site"), ("origin", "https://gateway.example.com")], false),
        (vec![("sec-fetch-site", "same-site")], false),
        (vec![("sec-fetch-site", "none")], false),
        (vec![("origin", "https://gateway.example.com")], true),
        (vec![("origin", "https://gateway.example.com.evil.example")], false),
        (vec![("origin", "null")], false),
        (vec![], false),
    ] {
        assert_eq!(is_click_on_our_page(&headers(&pairs), own), good, "{pairs:?}");
    }
    assert!(!is_click_on_our_page(&headers(&[("origin", "")]), None));
}

#[test]
fn the_cookie_is_read_only_if_its_name_is_unique() {
    for (lines, wanted) in [
        (vec!["__Host-consent=a"], Some("a")),
        (vec!["x=1; __Host-consent=a;y=2"], Some("a")),
        (vec!["x=1", "__Host-consent=a"], Some("a")),
        (vec!["__Host-consent=a; __Host-consent=b"], None),
        (vec!["consent=a", "x__Host-consent=a"], None),
        (vec![], None),
    ] {
        let pairs: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
        let found = consent_cookie(&headers(&pairs));
        assert_eq!(found.as_ref().map(secrecy::ExposeSecret::expose_secret), wanted, "{lines:?}");
    }
}

async fn callback_of(request: Request) -> Option<(String, String)> {
    let (state, answer) = read_callback(request).await?;
    let answer = match answer {
        AuthorizationResponse::Code(code) => format!("code {}", code.expose_secret()),
        AuthorizationResponse::Error(error) => format!("error {error}"),
    };
    Some((state.expose_secret().to_owned(), answer))
}

#[tokio::test]
async fn the_callback_needs_one_state_and_one_code_or_one_error() {
    for (query, wanted) in [
        ("state=s&code=c", Some("code c")),
        ("state=s&code=c%2B&session_state=x", Some("code c+")),
        ("error=access_denied&error_description=no&state=s", Some("error access_denied")),
        ("state=s", None),
        ("code=c", None),
        ("", None),
        ("state=s&code=c&error=e", None),
        ("state=s&state=t&code=c", None),
        ("state=s&code=c&code=d", None),
    ] {
        let get = Request::get(format!("/oauth/callback?{query}")).body(Body::empty()).unwrap();
        let post = Request::post("/oauth/callback")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(query))
            .unwrap();
        let wanted = wanted.map(|answer| ("s".to_owned(), answer.to_owned()));
        assert_eq!(callback_of(get).await, wanted, "{query}");
        assert_eq!(callback_of(post).await, wanted, "{query}");
    }
}

proptest! {
    #[test]
    fn the_return_uri_has_only_state_and_result_added(
        query in "(\\?x=[a-z0-9]{0,4})?",
        state in "\\PC{0,20}",
    ) {
        let uri = format!("https://portal.example.com/done{query}");
        let to = ReturnTo { uri: uri.clone(), state: state.clone() };
        let back = Url::parse(&return_uri(&to, "granted").unwrap()).unwrap();
        let pairs: Vec<_> = back.query_pairs().into_owned().collect();
        let added = &pairs[pairs.len() - 2..];
        prop_assert_eq!(&added[0], &("state".to_owned(), state));
        prop_assert_eq!(&added[1], &("result".to_owned(), "granted".to_owned()));
        prop_assert!(back.as_str().starts_with(&uri));
        prop_assert_eq!(pairs.len(), 2 + usize::from(!query.is_empty()));
    }
}
