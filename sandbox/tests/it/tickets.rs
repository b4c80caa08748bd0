//! Tickets: format and sliding lifetime of six hours.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use superoffice_sandbox::{Authorization, Options};

use crate::fixture::{CLIENT, Fixture, ONE, TWO};

const HOUR: i64 = 3600;

#[tokio::test]
async fn a_ticket_contains_hex_number_and_tenant_in_utf16() {
    let fixture = Fixture::start().await;
    let ticket = fixture.ticket().await;
    let bytes = STANDARD.decode(ticket.strip_prefix("7T:").unwrap()).unwrap();
    let units: Vec<u16> =
        bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let text = String::from_utf16(&units).unwrap();
    let parts: Vec<&str> = text.split(';').collect();
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[0].len(), 32);
    assert!(parts[0].bytes().all(|byte| byte.is_ascii_hexdigit()));
    parts[1].parse::<u32>().unwrap();
    assert_eq!(parts[2], ONE);
}

#[tokio::test]
async fn each_use_extends_a_ticket_to_six_hours() {
    let fixture = Fixture::start().await;
    let ticket = fixture.ticket().await;
    for hours in [5, 10, 15] {
        fixture.sandbox.shift_clock(hours * HOUR);
        assert_eq!(fixture.principal(&ticket).await.status(), 200, "{hours}");
    }
    fixture.sandbox.shift_clock(22 * HOUR);
    assert_eq!(fixture.principal(&ticket).await.status(), 401);
}

#[tokio::test]
async fn a_refused_call_does_not_extend_a_ticket() {
    let fixture = Fixture::start().await;
    let ticket = fixture.ticket().await;
    fixture.sandbox.shift_clock(5 * HOUR);
    fixture.sandbox.set_authorization(CLIENT, ONE, Authorization::Revoked).unwrap();
    assert_eq!(fixture.principal(&ticket).await.status(), 401);
    fixture.sandbox.set_authorization(CLIENT, ONE, Authorization::Active).unwrap();
    fixture.sandbox.shift_clock(7 * HOUR);
    assert_eq!(fixture.principal(&ticket).await.status(), 401);
}

#[tokio::test]
async fn a_revocation_can_leave_tickets_valid() {
    let options = Options { revocation_ends_tickets: false, ..Options::default() };
    let fixture = Fixture::with(options).await;
    let ticket = fixture.ticket().await;
    fixture.sandbox.set_authorization(CLIENT, ONE, Authorization::Revoked).unwrap();
    assert_eq!(fixture.principal(&ticket).await.status(), 200);
}

#[tokio::test]
async fn tickets_can_be_expired_for_one_tenant_or_for_all() {
    let fixture = Fixture::start().await;
    let ticket = fixture.ticket().await;
    fixture.sandbox.expire_tickets(Some(TWO));
    assert_eq!(fixture.principal(&ticket).await.status(), 200);
    fixture.sandbox.expire_tickets(Some(ONE));
    assert_eq!(fixture.principal(&ticket).await.status(), 401);
    let ticket = fixture.ticket().await;
    fixture.sandbox.expire_tickets(None);
    assert_eq!(fixture.principal(&ticket).await.status(), 401);
}
