//! The id token (claims as observed in a log of 2022).

use aws_lc_rs::error::Unspecified;
use serde_json::{Map, Value, json};

use crate::faults::Fault;
use crate::grants::SignInRules;
use crate::jwt::{self, CLAIM_PREFIX};
use crate::people::Associate;
use crate::platform::Platform;
use crate::world::Tenant;

/// The issuer of system user exchange tokens.
const OTHER_ISSUER: &str = "SuperOffice AS";

/// The tenant, associate and application of the token.
pub(super) struct Subject {
    pub(super) tenant: Tenant,
    pub(super) associate: Associate,
    pub(super) client_id: String,
}

pub(super) fn write(
    platform: &Platform,
    mut subject: Subject,
    nonce: Option<&str>,
    rules: &SignInRules,
    fault: Option<&Fault>,
) -> Result<String, Unspecified> {
    if let Some(Fault::WrongPerson { associate_id }) = fault
        && let Some(other) = subject.tenant.people.associates.get(associate_id)
    {
        subject.associate = other.clone();
    }
    let mut claims = jwt::time_claims(platform, fault);
    if rules.iat_is_text {
        let text = claims.get("iat").map(Value::to_string);
        claims.insert("iat".to_owned(), json!(text));
    }
    let issuer = match fault {
        Some(Fault::WrongIssuer) => OTHER_ISSUER.to_owned(),
        _ => platform.rules().issuer,
    };
    let audience = match fault {
        Some(Fault::WrongAudience) => format!("{}0", subject.client_id),
        _ => subject.client_id.clone(),
    };
    let nonce = match fault {
        Some(Fault::WrongNonce) => Some(format!("{}0", nonce.unwrap_or_default())),
        _ => nonce.map(ToOwned::to_owned),
    };
    claims.insert("iss".to_owned(), json!(issuer));
    claims.insert("aud".to_owned(), json!(audience));
    claims.insert("sub".to_owned(), json!(subject.associate.user_name));
    if let Some(nonce) = nonce {
        claims.insert("nonce".to_owned(), json!(nonce));
    }
    for (name, value) in identity(platform, &subject, fault) {
        if !rules.omitted_claims.iter().any(|omitted| omitted == name) {
            claims.insert(format!("{CLAIM_PREFIX}{name}"), json!(value));
        }
    }
    if let Some(Fault::MissingClaims { claims: missing }) = fault {
        remove(&mut claims, missing);
    }
    jwt::encode_token(platform, claims, fault)
}

/// Returns SuperOffice's own claims. All values are strings.
fn identity(
    platform: &Platform,
    subject: &Subject,
    fault: Option<&Fault>,
) -> Vec<(&'static str, String)> {
    let Subject { tenant, associate, client_id } = subject;
    let context = match fault {
        Some(Fault::WrongContext { context }) => context,
        _ => &tenant.id,
    };
    let administrator = tenant.people.is_administrator(associate);
    let base = format!("{}/{}", platform.addresses.api(tenant.host), tenant.id);
    let person = tenant.people.person_of(associate);
    let email = person.map(|person| &person.email).filter(|email| !email.is_empty());
    let email = email.unwrap_or(&associate.user_name);
    let mut claims = vec![
        ("associateid", associate.id.to_string()),
        ("identityprovider", "central-superid".to_owned()),
        ("email", associate.user_name.clone()),
        ("upn", associate.user_name.clone()),
        ("so_primary_email_address", email.clone()),
        ("initials", associate.name.clone()),
        ("is_administrator", if administrator { "True" } else { "False" }.to_owned()),
        ("ctx", context.clone()),
        ("company_name", tenant.company_name.clone()),
        ("serial", tenant.serial.clone()),
        ("netserver_url", format!("{base}/Remote/Services88/")),
        ("webapi_url", format!("{base}/api/")),
    ];
    let application = crate::lock::read(&platform.world).application(client_id).cloned();
    let has_token = application.is_some_and(|application| application.registration.system_token);
    if let Some(record) = tenant.record(client_id).filter(|_| has_token && administrator) {
        claims.push(("system_token", record.system_user_token.clone()));
    }
    claims
}

fn remove(claims: &mut Map<String, Value>, missing: &[String]) {
    claims.retain(|name, _| {
        let short = name.strip_prefix(CLAIM_PREFIX).unwrap_or(name);
        !missing.iter().any(|missing| missing == name || missing == short)
    });
}
