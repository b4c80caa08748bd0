//! The body of a webhook.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest as _, Request},
    http::StatusCode,
};
use tokio::time::timeout;

use super::problem::Problem;
use crate::domain::Reason;

/// The maximum size of a body. SuperOffice sends one or two thousand bytes.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;

/// The time for a body to arrive. Without it, a client that sends half a body would delay shutdown.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the body of a webhook to its end.
///
/// # Errors
/// If it is too large, is incomplete, or does not arrive in time.
pub(super) async fn read_body(request: Request) -> Result<Bytes, Problem> {
    match timeout(READ_TIMEOUT, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Problem::new(Reason::ResponseTooLarge, "the body is larger than 64 KiB"))
        }
        Ok(Err(_)) => Err(Problem::new(Reason::InvalidArgument, "the body is incomplete")),
        Err(_) => {
            let detail = "the body did not arrive in time; send the request again, faster";
            Err(Problem::new(Reason::DeadlineExceeded, detail))
        }
    }
}

/// Returns the body without a byte order mark, which some writers of JSON put before it (RFC 8259 section 8.1).
pub(super) fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}
