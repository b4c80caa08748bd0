//! Reads tenant status from SuperOffice and validates it.

use async_trait::async_trait;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::{
    SuperOffice,
    client::{RequestLimits, RetryPolicy, json_lenient, unexpected_status},
    login_host::LoginHost,
};
use crate::{
    domain::{AllowedApiHosts, ContextIdentifier, TenantState, TenantStatus, Usability, WebApiUri},
    ports::{Clock, TenantStatusSource, UpstreamError},
};

const STATUS: RequestLimits = RequestLimits {
    name: "tenant status",
    max_body_bytes: 64 * 1024,
    retry: RetryPolicy::Idempotent,
};

/// The minimum validity of a status. `ValidUntil` is only advice.
const MIN_VALIDITY: SignedDuration = SignedDuration::from_secs(15);
/// The maximum validity of a status.
const MAX_VALIDITY: SignedDuration = SignedDuration::from_hours(1);

/// The maximum length of SuperOffice's version text, which is displayed.
const MAX_VERSION_CHARS: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    context_identifier: String,
    endpoint: Option<String>,
    state: String,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    is_running: Option<bool>,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    valid_until: Option<Timestamp>,
    api: Option<String>,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    version: Option<String>,
}

/// Deserializes an optional field. Returns `None` if its type or format is not as documented.
fn deserialize_or_none<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

#[async_trait]
impl TenantStatusSource for SuperOffice {
    async fn read(&self, tenant: ContextIdentifier) -> Result<TenantStatus, UpstreamError> {
        read(&self.login, &*self.clock, &self.allowed_api_hosts, tenant).await
    }
}

/// Reads the status of a tenant. Needs no credential.
pub(super) async fn read(
    login: &LoginHost,
    clock: &dyn Clock,
    allowed: &AllowedApiHosts,
    tenant: ContextIdentifier,
) -> Result<TenantStatus, UpstreamError> {
    let path = format!("/api/state/{tenant}");
    let answer = login.send(STATUS, || login.get(&path)).await?;
    let now = clock.now();
    if answer.status == StatusCode::NOT_FOUND {
        // Not documented for unknown tenants, but likely.
        return Ok(unknown(now));
    }
    if answer.status != StatusCode::OK {
        return Err(unexpected_status(STATUS, answer.status));
    }
    read_status(&answer.body, tenant, allowed, now)
}

fn unknown(now: Timestamp) -> TenantStatus {
    TenantStatus {
        state: TenantState::Unknown,
        valid_until: now.saturating_add(MIN_VALIDITY).unwrap_or(now),
        web_api_uri: None,
        version: String::new(),
        read_time: now,
    }
}

/// Parses and validates the body of a response.
pub(crate) fn read_status(
    body: &[u8],
    tenant: ContextIdentifier,
    allowed: &AllowedApiHosts,
    now: Timestamp,
) -> Result<TenantStatus, UpstreamError> {
    let wire: Wire = json_lenient(STATUS, body)?;
    if wire.context_identifier != tenant.to_string() {
        return Err(invalid("the status of another tenant"));
    }
    let state = TenantState::from_name(&wire.state).ok_or_else(|| invalid("an unknown state"))?;
    let usable = state.usability() == Usability::Usable;
    if wire.is_running.is_some_and(|running| running != usable) {
        return Err(invalid("State and IsRunning contradict each other"));
    }
    let web_api_uri = if usable { Some(web_api_uri(&wire, tenant, allowed)?) } else { None };
    let version = wire.version.unwrap_or_default();
    let (earliest, latest) = (now.saturating_add(MIN_VALIDITY), now.saturating_add(MAX_VALIDITY));
    Ok(TenantStatus {
        state,
        // An unreadable `ValidUntil` counts as the minimum.
        valid_until: wire
            .valid_until
            .unwrap_or(now)
            .clamp(earliest.unwrap_or(now), latest.unwrap_or(Timestamp::MAX)),
        web_api_uri,
        version: version.chars().filter(|c| !c.is_control()).take(MAX_VERSION_CHARS).collect(),
        read_time: now,
    })
}

fn web_api_uri(
    wire: &Wire,
    tenant: ContextIdentifier,
    allowed: &AllowedApiHosts,
) -> Result<WebApiUri, UpstreamError> {
    if let Some(endpoint) = &wire.endpoint {
        WebApiUri::check_endpoint(endpoint, tenant, allowed)
            .map_err(|error| invalid(&format!("Endpoint: {error}")))?;
    }
    let api = wire.api.as_deref().ok_or_else(|| invalid("Api is missing"))?;
    WebApiUri::check_api(api, tenant, allowed).map_err(|error| invalid(&format!("Api: {error}")))
}

fn invalid(why: &str) -> UpstreamError {
    UpstreamError::InvalidResponse(format!("tenant status: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "2026-02-23T09:00:00Z";

    fn check(text: &str) -> Result<TenantStatus, UpstreamError> {
        let allowed = AllowedApiHosts::new(vec!["superoffice.com".to_owned()]).unwrap();
        let tenant = "Cust12345".parse().unwrap();
        read_status(text.as_bytes(), tenant, &allowed, NOW.parse().unwrap())
    }

    fn documented() -> String {
        r#"{ "ContextIdentifier": "Cust12345", "Endpoint": "https://online2.superoffice.com/Cust12345",
            "State": "Running", "IsRunning": true, "ValidUntil": "2026-02-23T09:52:01.9342965Z",
            "Api": "https://online2.superoffice.com/Cust12345/api",
            "Version": "Release_11.10_2026.02.24-02" }"#
            .to_owned()
    }

    #[test]
    fn reads_the_documented_example() {
        let status = check(&documented()).unwrap();
        assert_eq!(status.state, TenantState::Running);
        assert_eq!(status.valid_until.to_string(), "2026-02-23T09:52:01.9342965Z");
        let uri = status.web_api_uri.unwrap();
        assert_eq!(uri.as_str(), "https://online2.superoffice.com/Cust12345/api");
    }

    #[test]
    fn clamps_the_validity_between_15_seconds_and_an_hour() {
        let until = |text| {
            let text = documented().replace("2026-02-23T09:52:01.9342965Z", text);
            check(&text).unwrap().valid_until.to_string()
        };
        assert_eq!(until("2020-01-01T00:00:00Z"), "2026-02-23T09:00:15Z");
        assert_eq!(until("2099-01-01T00:00:00Z"), "2026-02-23T10:00:00Z");
        assert_eq!(until("soon"), "2026-02-23T09:00:15Z");
        assert_eq!(until("0001-01-01T00:00:00"), "2026-02-23T09:00:15Z");
    }

    #[test]
    fn ignores_an_invalid_optional_field() {
        let before = check(&documented()).unwrap();
        let odd = ["null", "7", "true", "[]", "{}", r#""\ud83d""#, "NaN", "1e999"];
        for value in odd {
            for field in [r#""IsRunning": true"#, r#""Version": "Release_11.10_2026.02.24-02""#] {
                let name = field.split(':').next().unwrap();
                let status = check(&documented().replace(field, &format!("{name}: {value}")));
                let mut status = status.unwrap_or_else(|error| panic!("{name} {value}: {error}"));
                status.version.clone_from(&before.version);
                assert_eq!(status, before, "{name} {value}");
            }
            let text = documented().replacen('{', &format!(r#"{{"\ud83d": {value},"#), 1);
            assert_eq!(check(&text).as_ref(), Ok(&before), "{value}");
        }
        assert_eq!(check(&format!("\u{feff}{}", documented())), Ok(before));
    }

    #[test]
    fn rejects_an_invalid_status() {
        for (from, to) in [
            (r#""ContextIdentifier": "Cust12345""#, r#""ContextIdentifier": "Cust12346""#),
            (r#""Running""#, r#""Sleeping""#),
            (r#""IsRunning": true"#, r#""IsRunning": false"#),
            ("https://online2.superoffice.com/Cust12345/api", "https://evil.example/Cust12345/api"),
            (
                "https://online2.superoffice.com/Cust12345/api",
                "https://online2.superoffice.com/Cust1/api",
            ),
            (
                r#""https://online2.superoffice.com/Cust12345","#,
                r#""https://127.0.0.1/Cust12345","#,
            ),
            (r#""State": "Running","#, ""),
            ("{", "<html>{"),
        ] {
            let text = documented().replacen(from, to, 1);
            assert!(matches!(check(&text), Err(UpstreamError::InvalidResponse(_))), "{to}");
        }
    }

    #[test]
    fn an_unusable_tenant_needs_no_web_api_address() {
        let text = r#"{"ContextIdentifier":"Cust12345","Endpoint":null,"State":"Suspended",
            "IsRunning":false,"ValidUntil":"2026-02-23T09:52:01Z","Api":null}"#;
        let status = check(text).unwrap();
        assert_eq!((status.state, status.web_api_uri), (TenantState::Suspended, None));
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic(text in "\\PC{0,60}|[\\[{](\"(State|Api|ValidUntil)\"[:,]|null|[0-9]|[\\]}]){0,9}") {
            let _ = check(&text);
        }

        #[test]
        fn an_accepted_status_follows_the_rules(
            tenant in "Cust12345|Cust[0-9]{1,10}|\\PC{0,9}",
            state in prop::sample::select(TenantState::ALL),
            until in "20[0-9]{2}-0[1-9]-[0-2][0-9]T0[0-9]:00:00(Z|\\+0[0-9]:00)|-?[0-9]{4,6}-12-31T23:59:59Z|\\PC{0,9}",
            host in "[a-z0-9.:@\\\\/?#-]{0,9}superoffice.com[a-z0-9.:@/]{0,9}",
            path in "/Cust12345/api|/Cust[0-9]{1,5}/api|\\PC{0,9}",
            version in ".{0,200}",
        ) {
            let body = serde_json::json!({
                "ContextIdentifier": tenant, "State": state.as_str(), "ValidUntil": until,
                "Api": format!("https://{host}{path}"), "Version": version,
            });
            let Ok(status) = check(&body.to_string()) else { return Ok(()) };
            prop_assert_eq!(tenant, "Cust12345");
            let holds = status.valid_until.duration_since(status.read_time);
            prop_assert!((MIN_VALIDITY..=MAX_VALIDITY).contains(&holds));
            prop_assert!(!status.version.contains(char::is_control));
            prop_assert!(status.version.chars().count() <= MAX_VERSION_CHARS);
            let usable = state.usability() == Usability::Usable;
            prop_assert_eq!(status.web_api_uri.is_some(), usable);
            if let Some(uri) = status.web_api_uri {
                let host = uri.as_str().strip_prefix("https://").unwrap();
                let host = host.strip_suffix("/Cust12345/api").unwrap();
                prop_assert!(host == "superoffice.com" || host.ends_with(".superoffice.com"));
                prop_assert!(!host.contains(['/', '@', ':', '\\', '?', '#']));
            }
        }
    }
}
