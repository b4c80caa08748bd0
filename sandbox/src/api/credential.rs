//! Who is calling: a ticket, and the secret of the application it was issued to.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};

use crate::lock::read;
use crate::platform::Platform;
use crate::world::{Authorization, Tenant};

/// Whether the call carries a live ticket of this tenant. If so, the ticket has been used: its
/// lifetime begins anew.
pub(super) fn admit(platform: &Platform, tenant: &Tenant, headers: &HeaderMap) -> bool {
    let Some(ticket) = ticket(headers) else {
        return false;
    };
    let now = platform.clock.now();
    let Some(holder) = platform.tickets.holder(ticket, now) else {
        return false;
    };
    let admitted = holder.tenant == tenant.id
        && knows_secret(platform, &holder.client_id, headers)
        && is_authorized(platform, tenant, &holder.client_id);
    if admitted {
        platform.tickets.used(ticket, now);
    }
    admitted
}

/// The scheme's case does not matter, the ticket's does.
fn ticket(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, ticket) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("SOTicket").then_some(ticket)
}

fn knows_secret(platform: &Platform, client_id: &str, headers: &HeaderMap) -> bool {
    let sent = headers.get("SO-AppToken").map(HeaderValue::as_bytes);
    let world = read(&platform.world);
    world.application(client_id).is_some_and(|application| {
        application.secrets.iter().any(|secret| sent == Some(secret.as_bytes()))
    })
}

fn is_authorized(platform: &Platform, tenant: &Tenant, client_id: &str) -> bool {
    let active =
        tenant.record(client_id).is_some_and(|record| record.state == Authorization::Active);
    active || !platform.rules().revocation_ends_tickets
}
