//! The answers of handlers: messages, streams and failures.

use tonic::{Response, Status};

use super::{context::CallContext, failure::Failure, limits::MAX_MESSAGE_BYTES};

/// Answers a call. Notes a failure in the context, for the log, and converts it to a status.
pub(super) fn answer<T: prost::Message>(
    context: &CallContext,
    result: Result<T, Failure>,
) -> Result<Response<T>, Status> {
    let too_large = "the answer is larger than 4 MiB; request a smaller page";
    answer_within(context, result, MAX_MESSAGE_BYTES, too_large)
}

/// Answers a call with another limit for the size of the answer. `too_large` describes the failure of a larger one.
pub(super) fn answer_within<T: prost::Message>(
    context: &CallContext,
    result: Result<T, Failure>,
    max_bytes: usize,
    too_large: &str,
) -> Result<Response<T>, Status> {
    // tonic checks the size only after it has sent the response headers, too late for an error with details.
    let fits = |message: &T| message.encoded_len() <= max_bytes;
    match result {
        Ok(message) if fits(&message) => Ok(Response::new(message)),
        Ok(_) => Err(context.fail(&Failure::TooLarge(too_large.to_owned()))),
        Err(failure) => Err(context.fail(&failure)),
    }
}

/// Answers a call with a stream or a failure.
pub(super) fn answer_stream<T>(
    context: &CallContext,
    result: Result<T, Failure>,
) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|failure| context.fail(&failure))
}

/// Splits a request without metadata, runs the method and answers.
macro_rules! rpc {
    ($handler:ident . $method:ident, $request:ident) => {{
        let (context, _, request) = $crate::grpc::request::split_request($request)?;
        $crate::grpc::answer::answer(&context, $handler.$method(&context, request).await)
    }};
}

pub(super) use rpc;
