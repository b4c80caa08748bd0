//! Converts errors that tonic creates outside of our handlers to the error model.

use http::Response;
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    context::CallContext,
    failure::{DOMAIN, Failure},
};
use crate::domain::Reason;

/// The header with the details of an error.
const DETAILS: &str = "grpc-status-details-bin";

/// The header that tonic sets when it refuses a message encoding, and on no other error.
pub(super) const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Replaces an error without details by one of the error model. Checks only errors in the response headers; errors in
/// trailers come from our own streams.
pub(super) fn normalize(response: Response<Body>, context: &CallContext) -> (Response<Body>, Code) {
    let Some(status) = Status::from_header_map(response.headers()) else {
        return (response, Code::Ok);
    };
    if status.code() == Code::Ok || response.headers().contains_key(DETAILS) {
        return (response, status.code());
    }
    let status = with_error_model(&status, context);
    let code = status.code();
    (status.into_http(), code)
}

fn with_error_model(status: &Status, context: &CallContext) -> Status {
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
    context.fail(&failure)
}

/// Returns the failure of a request message above the limit of its method.
pub(super) fn message_too_large() -> Failure {
    let problem = "the message is larger than 4 MiB (4 MiB and 128 KiB for a Web API call, 16 KiB for a health check \
        or for reflection), also after decompression; use the egress proxy for larger bodies";
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
