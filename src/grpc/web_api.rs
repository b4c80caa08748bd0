//! `WebApiService`: calls of a tenant's Web API for callers without a SuperOffice credential.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{TryStream, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tonic::{Request, Response, Status};

use super::{
    answer::answer_within,
    context::CallContext,
    failure::Failure,
    handler_dependencies::HandlerDependencies,
    limits::MAX_CALL_BYTES,
    pb::{self, web_api_service_server::WebApiService},
    request::{Checks, parse_method, split_request},
};
use crate::{
    access::RequestedCall,
    broker::{
        BrokerError, Egress, EgressRequest, LinkRewriter, SendProgress, WebApiResponse, is_act_as,
        method_override,
    },
    domain::{ActorSelector, ApiPath, TenantName},
    ports::{ApiBody, ApiResponse, SendError},
};

/// The full name of the service.
pub(super) const NAME: &str = pb::web_api_service_server::SERVICE_NAME;

/// The maximum size of a body, for requests and answers.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// The failure of an answer above [`MAX_CALL_BYTES`].
const ANSWER_TOO_LARGE: &str =
    "the answer is larger than 4 MiB and 128 KiB; request less, or use the egress proxy";

/// The request field that names the user to call as.
const CREDENTIAL: &str = "credential";

/// The maximum number of headers, so that many tiny headers cannot use much memory.
const MAX_HEADERS: usize = 128;

/// The handler of the service.
pub struct WebApiHandler {
    /// The dependencies that all handlers share.
    pub common: Arc<HandlerDependencies>,
    /// Makes Web API calls for callers.
    pub egress: Arc<Egress>,
}

/// The valid fields of a request.
struct CallFields {
    call: RequestedCall<TenantName>,
    actor: Option<ActorSelector>,
    headers: HeaderMap,
    body: ApiBody,
    reason: String,
}

impl CallFields {
    fn read(request: pb::CallRequest) -> Result<Self, Failure> {
        let pb::CallRequest { tenant, credential, method, path, headers, body, reason } = request;
        if body.len() > MAX_BODY_BYTES {
            let problem = "the body is larger than 4 MiB; use the egress proxy for larger bodies";
            return Err(Failure::TooLarge(problem.to_owned()));
        }
        let mut checks = Checks::default();
        let tenant = checks.tenant_name("tenant", &tenant);
        let actor = checks.note(CREDENTIAL, ActorSelector::requested([credential.as_bytes()]));
        let method = checks.method("method", &method);
        let path = checks.note("path", ApiPath::parse(&path));
        let headers = checks.headers("headers", &headers);
        let headers = headers.and_then(|headers| {
            let overrides = method.as_ref().and_then(|method| method_override(method, &headers));
            let checked = overrides.map_or(Ok(headers), |name| {
                Err(format!(
                    "{name}: method overrides are not supported: set that method in `method`"
                ))
            });
            checks.note("headers", checked)
        });
        let reason = checks.reason("reason", reason);
        let (Some(target), Some(actor), Some(method), Some(path), Some(headers), Some(reason)) =
            (tenant, actor, method, path, headers, reason)
        else {
            return Err(checks.into_failure());
        };
        let call = RequestedCall { target, method, path };
        Ok(Self { call, actor, headers, body: ApiBody::Whole(body.into()), reason })
    }
}

impl WebApiHandler {
    async fn call(
        &self,
        context: &CallContext,
        request: pb::CallRequest,
    ) -> Result<pb::CallResponse, Failure> {
        let CallFields { call, actor, headers, body, reason } = CallFields::read(request)?;
        context.notes.set_reason(reason);
        // Audited before it runs, because a crash would lose the event at the end.
        let changes = !matches!(call.method, Method::GET | Method::HEAD);
        let authorized = self
            .common
            .authorize_web_api_call(&self.egress, context, call, actor, CREDENTIAL)
            .await?;
        if changes {
            self.common.audit.write_before_change(context).await?;
        }
        let request = EgressRequest { headers, body, max_wait: context.max_wait };
        let on_progress = &mut |progress: SendProgress<'_>| match progress {
            SendProgress::Sending(id) => {
                context.notes.set_credential(id);
                context.note_unknown_outcome(changes);
            }
            SendProgress::DidNotRun => context.note_unknown_outcome(false),
        };
        let WebApiResponse { response, uri } =
            self.egress.send(&authorized, request, on_progress).await?;
        let ApiResponse { status, mut headers, body, .. } = response;
        if LinkRewriter::has_links(&headers) {
            LinkRewriter::for_calls(authorized.tenant(), &uri).rewrite_headers(&mut headers);
        }
        let headers = headers.iter().map(to_pb).collect();
        let body = read_whole(body).await?.into();
        Ok(pb::CallResponse { status: status.as_u16().into(), headers, body })
    }
}

/// Reads the whole body of the answer. The call has already run; a failure here is still an error.
async fn read_whole(
    mut parts: impl TryStream<Ok = Bytes, Error = SendError> + Unpin,
) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    loop {
        match parts.try_next().await {
            Ok(Some(part)) if body.len() + part.len() > MAX_BODY_BYTES => {
                let problem =
                    "the answer is larger than 4 MiB; request less, or use the egress proxy";
                return Err(Failure::TooLarge(problem.to_owned()));
            }
            Ok(Some(part)) => body.extend_from_slice(&part),
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err(BrokerError::truncated_answer(&error).into()),
        }
    }
}

fn to_pb((name, value): (&HeaderName, &HeaderValue)) -> pb::Header {
    pb::Header { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() }
}

impl Checks {
    fn method(&mut self, field: &str, text: &str) -> Option<Method> {
        self.note(field, parse_method(text).ok_or("must be an HTTP method, such as GET"))
    }

    fn headers(&mut self, field: &str, headers: &[pb::Header]) -> Option<HeaderMap> {
        if headers.len() > MAX_HEADERS {
            return self.note(field, Err(format!("at most {MAX_HEADERS} headers")));
        }
        let mut map = HeaderMap::with_capacity(headers.len());
        let mut all_valid = true;
        for (index, header) in headers.iter().enumerate() {
            let name = header.name.parse::<HeaderName>();
            let value = HeaderValue::from_bytes(&header.value);
            let name = self.note(
                &format!("{field}[{index}].name"),
                name.map_err(|_| "not a valid header name (RFC 9110 section 5.1)").and_then(
                    |name| {
                        // The header would have no effect here, but its sender expects one.
                        let problem =
                            "set the user to call as in the field `credential`, not in a header";
                        if is_act_as(&name) { Err(problem) } else { Ok(name) }
                    },
                ),
            );
            let value = self.note(
                &format!("{field}[{index}].value"),
                value.map_err(|_| "must not contain control characters"),
            );
            match name.zip(value) {
                Some((name, value)) => drop(map.append(name, value)),
                None => all_valid = false,
            }
        }
        all_valid.then_some(map)
    }
}

#[tonic::async_trait]
impl WebApiService for WebApiHandler {
    async fn call(
        &self,
        request: Request<pb::CallRequest>,
    ) -> Result<Response<pb::CallResponse>, Status> {
        let (context, _, request) = split_request(request)?;
        let result = Self::call(self, &context, request).await;
        answer_within(&context, result, MAX_CALL_BYTES, ANSWER_TOO_LARGE)
    }
}
