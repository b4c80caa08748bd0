//! The token that carries a ticket to the application: a JWT that lives five minutes.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::faults::Fault;
use crate::keys::SigningKey;
use crate::lock::read;
use crate::platform::Platform;
use crate::world::Tenant;

/// The issuer of system user tokens, the same in all environments.
const ISSUER: &str = "SuperOffice AS";

/// The prefix of the claims that are SuperOffice's own.
const PREFIX: &str = "http://schemes.superoffice.net/identity/";

/// How long before its issue a token is valid, in seconds.
const EARLY: i64 = 60;

/// How long a token is valid, in seconds.
const LIFETIME: i64 = 300;

/// How long ago a token on purpose expired, in seconds.
const LONG_AGO: i64 = 3600;

pub(super) fn write(
    platform: &Platform,
    tenant: &Tenant,
    ticket: &str,
    fault: Option<&Fault>,
) -> Result<String, Unspecified> {
    let payload = Value::Object(claims(platform, tenant, ticket, fault)?);
    let current = read(&platform.keys).current();
    match fault {
        Some(Fault::ForeignKey) => sign(platform.foreign_key()?, &payload),
        Some(Fault::AlgNone) => {
            let header = json!({ "alg": "none", "typ": "JWT" });
            Ok(format!("{}.", signing_input(&header, &payload)))
        }
        Some(Fault::Hs256PublicKey) => {
            let input = signing_input(&header("HS256", &current), &payload);
            let secret = hmac::Key::new(hmac::HMAC_SHA256, current.public_pem.as_bytes());
            let tag = hmac::sign(&secret, input.as_bytes());
            Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag)))
        }
        Some(Fault::WrongSignature) => {
            // A genuine signature, over something else.
            let input = signing_input(&header("RS256", &current), &payload);
            let signature = current.sign(b"something else")?;
            Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
        }
        _ => sign(&current, &payload),
    }
}

fn sign(key: &SigningKey, payload: &Value) -> Result<String, Unspecified> {
    let input = signing_input(&header("RS256", key), payload);
    let signature = key.sign(input.as_bytes())?;
    Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn header(algorithm: &str, key: &SigningKey) -> Value {
    json!({ "alg": algorithm, "kid": key.kid, "x5t": key.x5t, "typ": "JWT" })
}

fn signing_input(header: &Value, payload: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(payload))
}

fn claims(
    platform: &Platform,
    tenant: &Tenant,
    ticket: &str,
    fault: Option<&Fault>,
) -> Result<Map<String, Value>, Unspecified> {
    let mut issued_at = platform.clock.now().as_second();
    if fault == Some(&Fault::ExpiredToken) {
        issued_at -= LONG_AGO + LIFETIME;
    }
    let issuer = match fault {
        Some(Fault::WrongIssuer) => platform.addresses.login.as_str(),
        _ => ISSUER,
    };
    let audience = match fault {
        Some(Fault::WrongAudience) => format!("spn:{}0", tenant.serial),
        _ => format!("spn:{}", tenant.serial),
    };
    let context = match fault {
        Some(Fault::WrongContext { context }) => context,
        _ => &tenant.id,
    };
    let ticket = match fault {
        Some(Fault::MissingTicket) => None,
        Some(Fault::MalformedTicket) => Some("7T:this is no ticket".to_owned()),
        Some(Fault::WrongTicketContext { context }) => Some(crate::tickets::write_ticket(context)?),
        _ => Some(ticket.to_owned()),
    };
    let base = format!("{}/{}", platform.addresses.api(tenant.host), tenant.id);
    let user = format!("{}-system@superoffice.invalid", tenant.id);
    let identity = [
        ("ticket", ticket),
        ("ctx", Some(context.clone())),
        ("serial", Some(tenant.serial.clone())),
        ("webapi_url", Some(format!("{base}/api/"))),
        ("netserver_url", Some(format!("{base}/Remote/Services88/"))),
        ("associateid", Some(crate::api::SYSTEM_ASSOCIATE_ID.to_string())),
        ("upn", Some(user.clone())),
        ("email", Some(user)),
        ("identityprovider", Some("central-superid".to_owned())),
        ("company_name", Some(tenant.company_name.clone())),
        ("is_administrator", Some("False".to_owned())),
    ];
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), json!(issuer));
    claims.insert("aud".to_owned(), json!(audience));
    claims.insert("iat".to_owned(), json!(issued_at));
    claims.insert("nbf".to_owned(), json!(issued_at - EARLY));
    claims.insert("exp".to_owned(), json!(issued_at + LIFETIME));
    for (name, value) in identity {
        if let Some(value) = value {
            claims.insert(format!("{PREFIX}{name}"), json!(value));
        }
    }
    Ok(claims)
}
