//! Tickets: an accepted ticket is a valid header value and contains the tenant that is read from it.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use tenant_gateway::domain::{ContextIdentifier, TicketError, ticket_tenant};

fuzz_target!(|text: &str| {
    let _ = check(text);
    let _ = check(&format!("7T:{text}"));
    // The input as the content of a ticket.
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let ticket = format!("7T:{}", STANDARD.encode(bytes));
    if !text.is_empty() && ticket.len() <= 4096 {
        let last = text.rsplit(';').next().unwrap_or_default();
        assert_eq!(check(&ticket), Ok(last.parse().ok()));
    }
});

fn check(text: &str) -> Result<Option<ContextIdentifier>, TicketError> {
    let found = ticket_tenant(&text.into())?;
    assert!(text.starts_with("7T:") && text.len() <= 4096);
    assert!(text.bytes().all(|b| b.is_ascii_graphic()));
    if let Some(tenant) = found {
        let bytes = STANDARD.decode(&text[3..]).expect("base64");
        let units: Vec<u16> =
            bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        assert!(String::from_utf16(&units).expect("UTF-16").ends_with(&tenant.to_string()));
    }
    Ok(found)
}
