//! Tickets: credentials that expire six hours after their last use.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use crate::lock::lock;

/// The owner of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) tenant: String,
    pub(crate) client_id: String,
}

#[derive(Debug)]
struct Ticket {
    holder: Holder,
    last_used: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Tickets {
    lifetime: Duration,
    by_text: Mutex<HashMap<String, Ticket>>,
}

impl Tickets {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self { lifetime, by_text: Mutex::default() }
    }

    pub(crate) fn issue(&self, holder: Holder, now: Timestamp) -> Result<String, Unspecified> {
        let text = generate_ticket(&holder.tenant)?;
        lock(&self.by_text).insert(text.clone(), Ticket { holder, last_used: now });
        Ok(text)
    }

    /// Finds the owner of a ticket that has not expired. Does not extend its lifetime.
    pub(crate) fn holder(&self, text: &str, now: Timestamp) -> Option<Holder> {
        let tickets = lock(&self.by_text);
        let ticket = tickets.get(text)?;
        let idle = now.duration_since(ticket.last_used);
        // A clock that was set back makes `idle` negative: not expired.
        let expired = idle.is_positive() && idle.unsigned_abs() >= self.lifetime;
        (!expired).then(|| ticket.holder.clone())
    }

    /// Starts the lifetime of a ticket again after a successful use.
    pub(crate) fn renew(&self, text: &str, now: Timestamp) {
        if let Some(ticket) = lock(&self.by_text).get_mut(text) {
            ticket.last_used = now;
        }
    }

    pub(crate) fn expire(&self, tenant: Option<&str>) {
        lock(&self.by_text)
            .retain(|_, ticket| tenant.is_some_and(|tenant| ticket.holder.tenant != tenant));
    }
}

/// Generates a ticket: `7T:` and the base64 of the UTF-16LE text `{32 hex};{decimal};{tenant}`.
pub(crate) fn generate_ticket(tenant: &str) -> Result<String, Unspecified> {
    let mut id = [0; 16];
    let mut number = [0; 4];
    rand::fill(&mut id)?;
    rand::fill(&mut number)?;
    let mut plain = hex(&id);
    // Writing to a string cannot fail.
    let _ = write!(plain, ";{};{tenant}", u32::from_le_bytes(number) >> 1);
    let utf16: Vec<u8> = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
    Ok(format!("7T:{}", STANDARD.encode(utf16)))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
