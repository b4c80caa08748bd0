//! Errors that the framework makes before or beside our handlers, brought into the one error model.

use http::Response;
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    failure::{DOMAIN, Failure},
    layer::Context,
};
use crate::domain::Reason;

/// The header that carries the details of an error.
const DETAILS: &str = "grpc-status-details-bin";

/// tonic sets this header when it refuses a message encoding, and on no other error.
pub(super) const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Replaces an error without details by one of ours. Looks at answers that are an error from their first byte;
/// later ones come from our own streams.
pub(super) fn normalize(response: Response<Body>, context: &Context) -> (Response<Body>, Code) {
    let Some(status) = Status::from_header_map(response.headers()) else {
        return (response, Code::Ok);
    };
    if status.code() == Code::Ok || response.headers().contains_key(DETAILS) {
        return (response, status.code());
    }
    let ours = ours(&status, context);
    let code = ours.code();
    (ours.into_http(), code)
}

fn ours(status: &Status, context: &Context) -> Status {
    let failure = match status.code() {
        Code::Unimplemented if status.metadata().contains_key(ACCEPT_ENCODING) => {
            Failure::EncodingNotAccepted
        }
        Code::Unimplemented => Failure::Unimplemented("this method".to_owned()),
        // The framework's word for a message above the limit.
        Code::OutOfRange | Code::ResourceExhausted => message_too_large(),
        // The framework's word for bytes that are not the message.
        Code::Internal | Code::InvalidArgument => {
            let problem = "the body is not a message of this method in the call's grpc-encoding";
            Failure::invalid("", problem)
        }
        Code::DeadlineExceeded | Code::Cancelled => Failure::DeadlineExceeded,
        other => return described(status, other),
    };
    context.failed(&failure);
    context.status(&failure)
}

/// The failure of a message above the limit.
pub(super) fn message_too_large() -> Failure {
    let problem = "the message is larger than 4 MiB (16 KiB for a health check or for \
                   reflection), which is also the limit after decompression";
    Failure::TooLarge(problem.to_owned())
}

/// Keeps code and message, and adds the reason that goes with the code.
fn described(status: &Status, code: Code) -> Status {
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
