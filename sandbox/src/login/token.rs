//! The JWT that carries a ticket to the application; valid for five minutes.

use aws_lc_rs::error::Unspecified;
use serde_json::{Map, Value, json};

use crate::faults::Fault;
use crate::jwt::{self, CLAIM_PREFIX};
use crate::people::SYSTEM_ASSOCIATE_ID;
use crate::platform::Platform;
use crate::world::Tenant;

/// The issuer of these tokens, the same in all environments.
const ISSUER: &str = "SuperOffice AS";

pub(super) fn write(
    platform: &Platform,
    tenant: &Tenant,
    ticket: &str,
    fault: Option<&Fault>,
) -> Result<String, Unspecified> {
    jwt::encode_token(platform, claims(platform, tenant, ticket, fault)?, fault)
}

fn claims(
    platform: &Platform,
    tenant: &Tenant,
    ticket: &str,
    fault: Option<&Fault>,
) -> Result<Map<String, Value>, Unspecified> {
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
        Some(Fault::WrongTicketContext { context }) => {
            Some(crate::tickets::generate_ticket(context)?)
        }
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
        ("associateid", Some(SYSTEM_ASSOCIATE_ID.to_string())),
        ("upn", Some(user.clone())),
        ("email", Some(user)),
        ("identityprovider", Some("central-superid".to_owned())),
        ("company_name", Some(tenant.company_name.clone())),
        ("is_administrator", Some("False".to_owned())),
    ];
    let mut claims = jwt::time_claims(platform, fault);
    claims.insert("iss".to_owned(), json!(issuer));
    claims.insert("aud".to_owned(), json!(audience));
    for (name, value) in identity {
        if let Some(value) = value {
            claims.insert(format!("{CLAIM_PREFIX}{name}"), json!(value));
        }
    }
    Ok(claims)
}
