//! Converts errors that tonic creates outside of our handlers to the error model.

use http::Response;
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    failure::{DOMAIN, Failure},
    layer::Context,
};
use crate::domain::Reason;

/// The header with the details of an error.
const DETAILS: &str = "grpc-status-details-bin";

/// The header that tonic sets when it refuses a message encoding, and on no other error.
pub(super) const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Replaces an error without details by one of the error model. Checks only errors in the response headers; errors in
/// trailers come from our own streams.
pub(super) fn normalize(response: Response<Body>, context: &Context) -> (Response<Body>, Code) {
    let Some(status) = Status::from_header_map(response.headers()) else {
        return (response, Code::Ok);
    };
    if status.code() == Code::Ok || response.headers().contains_key(DETAILS) {
        return (response, status.code());
    }
    let ours = with_error_model(&status, context);
    let code = ours.code();
    (ours.into_http(), code)
}

fn with_error_model(status: &Status, context: &Context) -> Status {
    let failure = match status.code() {
        Code::Unimplemented if status.metadata().contains_key(ACCEPT_ENCODING) => {
            Failure::EncodingNotAccepted
        }
        Code::Unimplemented => Failure::Unimplemented("this method".to_owned()),
        // tonic's codes for a message above the limit.
        Code::OutOfRange | Code::ResourceExhausted => message_too_large(),
        // tonic's codes for bytes that are not a valid message.
        Code::Internal | Code::InvalidArgument => {
            let problem = "the body is not a message of this method in the call's grpc-encoding";
            Failure::invalid("", problem)
        }
        Code::DeadlineExceeded | Code::Cancelled => Failure::DeadlineExceeded,
        other => return with_reason(status, other),
    };
    context.note_failure(&failure);
    context.status(&failure)
}

/// Returns the failure of a message above the limit.
pub(super) fn message_too_large() -> Failure {
    let problem = "the message is larger than 4 MiB (16 KiB for a health check or for \
                   reflection), which is also the limit after decompression";
    Failure::TooLarge(problem.to_owned())
}

/// Keeps code and message and adds a reason that fits the code.
fn with_reason(status: &Status, code: Code) -> Status {
    let reason = match code {
        Code::NotFound => Reason::ResourceNotFound,
        Code::Unauthenticated => Reason::CallerUnauthenticated,
        Code::PermissionDenied => Reason::PolicyDenied,
        _ => Reason::Internal,
    };
    let mut details = ErrorDetails::new();
    details.set_error_info(reason.as_str(), DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(code, status.message(), details)
}
