//! The answer to a proxy: forward the changed request, or reject it with a problem document.

use std::time::Duration;

use http::HeaderMap;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::broker::{BrokerError, not_forwarded, strip_request};
use crate::grpc::{
    envoy_pb::{
        CheckResponse, DeniedHttpResponse, OkHttpResponse,
        check_response::HttpResponse,
        core::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
        google_rpc, http as envoy_http,
    },
    failure::Failure,
};

/// Permits the request in its authorized form: with this path and our headers, and without headers that the gateway
/// never sends to SuperOffice. Our headers replace all existing ones of the same name.
pub(super) fn allowed(
    credential: &HeaderMap,
    path_and_query: &str,
    given: &HeaderMap,
) -> Result<CheckResponse, Failure> {
    let mut headers = vec![set_header(":path", path_and_query)];
    for (name, value) in credential {
        // Does not happen: credentials are validated when the gateway receives them.
        let no_text = |_| BrokerError::Internal("a credential is not a valid text".into());
        let text = value.to_str().map_err(no_text)?;
        headers.push(set_header(name.as_str(), text));
    }
    let mut left = given.clone();
    strip_request(&mut left);
    let gone = given.keys().filter(|name| !left.contains_key(*name));
    // Includes headers that the proxy may not have reported.
    let gone = gone.map(ToString::to_string).chain(not_forwarded().map(str::to_owned));
    // A request needs a host, which the proxy's configuration sets. Envoy rejects an answer that removes its own
    // headers; the documented route removes them.
    let is_of_proxy = |name: &str| name == "host" || name.starts_with("x-envoy-");
    let mut headers_to_remove: Vec<String> =
        gone.filter(|name| !is_of_proxy(name) && !credential.contains_key(name.as_str())).collect();
    headers_to_remove.sort_unstable();
    headers_to_remove.dedup();
    let ok = OkHttpResponse { headers, headers_to_remove };
    Ok(CheckResponse {
        status: Some(google_rpc::Status::default()),
        http_response: Some(HttpResponse::OkResponse(ok)),
    })
}

/// Rejects the request with the answer that the egress listener would give.
pub(super) fn denied(failure: &Failure, request_id: &str) -> CheckResponse {
    let (reason, status) = (failure.reason(), failure.status(request_id));
    let code = reason.http_status();
    let title = http::StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason());
    let body = json!({
        "type": "about:blank",
        "title": title.unwrap_or_default(),
        "status": code,
        // In HTTP, the header Retry-After takes the place of `RetryInfo`.
        "detail": status.message().replace("RetryInfo", "Retry-After"),
        "reason": reason.as_str(),
        "request_id": request_id,
    });
    let mut headers = vec![set_header("content-type", "application/problem+json")];
    if let Some(delay) = retry_after(failure, &status) {
        // Rounded up to whole seconds.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.push(set_header("retry-after", &seconds.to_string()));
    }
    if status.code() == Code::Unauthenticated {
        headers.push(set_header("www-authenticate", "Bearer"));
    }
    let denied = DeniedHttpResponse {
        status: Some(envoy_http::HttpStatus { code: code.into() }),
        headers,
        body: body.to_string(),
    };
    let status = google_rpc::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    };
    CheckResponse {
        status: Some(status),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    }
}

fn retry_after(failure: &Failure, status: &Status) -> Option<Duration> {
    match failure {
        Failure::Broker(error) => error.retry_after(),
        _ => status.get_details_retry_info().and_then(|info| info.retry_delay),
    }
}

fn set_header(name: &str, value: &str) -> HeaderValueOption {
    let header =
        HeaderValue { key: name.to_owned(), value: value.to_owned(), raw_value: Vec::new() };
    HeaderValueOption {
        header: Some(header),
        append: None,
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: false,
    }
}
