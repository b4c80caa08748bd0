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

/// Bytes of a body: what SuperOffice sends has one or two thousand.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;

/// The time for a body to arrive. Anybody can send half of one, and the end of the process waits for it.
const ARRIVAL_TIME: Duration = Duration::from_secs(5);

/// Reads the body of a webhook to its end.
///
/// # Errors
/// If it is too large, breaks off or does not arrive in time.
pub(super) async fn read_body(request: Request) -> Result<Bytes, Problem> {
    match timeout(ARRIVAL_TIME, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Problem::new(Reason::ResponseTooLarge, "the body has more than 64 KiB"))
        }
        Ok(Err(_)) => {
            Err(Problem::new(Reason::InvalidArgument, "the body ended before it was whole"))
        }
        Err(_) => {
            let detail = "the body did not arrive in time; send the request again, and faster";
            Err(Problem::new(Reason::DeadlineExceeded, detail))
        }
    }
}
