//! `WebApiService`: calls of a tenant's Web API, for callers that hold no SuperOffice credential.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{TryStream, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tonic::{Request, Response, Status};

use super::{
    Services,
    failure::Failure,
    layer::Context,
    pb::{self, web_api_service_server::WebApiService},
    request::{Checks, answer_within, calling_method, open},
    server::MAX_MESSAGE_BYTES,
};
use crate::{
    access::Calling,
    broker::{BrokerError, Links, SendProgress, Sending, Sent, is_act_as, method_override},
    domain::{ApiPath, EyesSelector},
    ports::{ApiBody, ApiResponse, SendError},
};

/// Its full name.
pub(super) const NAME: &str = pb::web_api_service_server::SERVICE_NAME;

/// The path of its only method.
pub(super) const CALL: &str = "/tenantgateway.v1.WebApiService/Call";

/// The largest body either way (CONTRACT section 3).
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// The largest message either way: a whole body, and its headers around it.
pub(super) const MAX_CALL_BYTES: usize = MAX_MESSAGE_BYTES + 128 * 1024;

/// The field that says as whom to call.
const CREDENTIAL: &str = "credential";

/// More headers than any client sends, so that a call does not cost more than its bytes.
const MAX_HEADERS: usize = 128;

/// The service.
pub(super) struct WebApis(pub(super) Arc<Services>);

impl WebApis {
    async fn call(
        &self,
        context: &Context,
        request: pb::CallRequest,
    ) -> Result<pb::CallResponse, Failure> {
        let pb::CallRequest { tenant, credential, method, path, headers, body, reason } = request;
        if body.len() > MAX_BODY_BYTES {
            let problem = "the body is larger than 4 MiB; the egress proxy carries more";
            return Err(Failure::TooLarge(problem.to_owned()));
        }
        let mut checks = Checks::default();
        let tenant = checks.tenant_name("tenant", &tenant);
        let eyes = checks.note(CREDENTIAL, EyesSelector::requested([credential.as_bytes()]));
        let method = checks.method("method", &method);
        let path = checks.note("path", ApiPath::parse(&path));
        let headers = checks.headers("headers", &headers);
        let headers = headers.and_then(|headers| {
            let overrides = method.as_ref().and_then(|method| method_override(method, &headers));
            let checked = overrides.map_or(Ok(headers), |name| {
                Err(format!("{name}: the call is not sent on as another method: put that method into `method`"))
            });
            checks.note("headers", checked)
        });
        let reason = checks.reason("reason", reason);
        let (Some(on), Some(eyes), Some(method), Some(path), Some(headers), Some(reason)) =
            (tenant, eyes, method, path, headers, reason)
        else {
            return Err(checks.failed());
        };
        context.notes.reason(reason);
        // What changes something is written down before it is done: a crash leaves no trace of its end.
        let changes = !matches!(method, Method::GET | Method::HEAD);
        let acting = self.0.act(context, Calling { on, method, path }, eyes, CREDENTIAL).await?;
        if changes {
            self.0.audit.announce(context).await?;
        }
        let body = ApiBody::Whole(body.into());
        let sending = Sending { headers, body, patience: context.patience };
        let used = &mut |progress: SendProgress<'_>| match progress {
            SendProgress::Sends(id) => {
                context.notes.credential(id);
                context.note_unknown_outcome(changes);
            }
            SendProgress::DidNotRun => context.note_unknown_outcome(false),
        };
        let Sent { response, uri } = self.0.egress.send(&acting, sending, used).await?;
        let ApiResponse { status, mut headers, body, .. } = response;
        if Links::are_in(&headers) {
            Links::for_calls(acting.tenant(), &uri).rewrite_headers(&mut headers);
        }
        let headers = headers.iter().map(to_pb).collect();
        let body = whole(body).await?.into();
        Ok(pb::CallResponse { status: status.as_u16().into(), headers, body })
    }
}

/// The rest of the answer. SuperOffice has done by now what was asked; what cannot be told of it is an error.
async fn whole(
    mut parts: impl TryStream<Ok = Bytes, Error = SendError> + Unpin,
) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    loop {
        match parts.try_next().await {
            Ok(Some(part)) if body.len() + part.len() > MAX_BODY_BYTES => {
                let problem =
                    "the answer is larger than 4 MiB; ask for less, or use the egress proxy";
                return Err(Failure::TooLarge(problem.to_owned()));
            }
            Ok(Some(part)) => body.extend_from_slice(&part),
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err(BrokerError::broken_off(&error).into()),
        }
    }
}

fn to_pb((name, value): (&HeaderName, &HeaderValue)) -> pb::Header {
    pb::Header { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() }
}

impl Checks {
    fn method(&mut self, field: &str, text: &str) -> Option<Method> {
        self.note(field, calling_method(text).ok_or("wanted a method of HTTP, such as GET"))
    }

    fn headers(&mut self, field: &str, headers: &[pb::Header]) -> Option<HeaderMap> {
        if headers.len() > MAX_HEADERS {
            return self.note(field, Err(format!("at most {MAX_HEADERS} headers")));
        }
        let mut map = HeaderMap::with_capacity(headers.len());
        let mut all = true;
        for (index, header) in headers.iter().enumerate() {
            let name = header.name.parse::<HeaderName>();
            let value = HeaderValue::from_bytes(&header.value);
            let name = self.note(
                &format!("{field}[{index}].name"),
                name.map_err(|_| "not the name of a header (RFC 9110 section 5.1)").and_then(
                    |name| {
                        // It would have no effect, and its sender counts on one.
                        let problem =
                            "say as whom to call in the field `credential`, not in a header";
                        if is_act_as(&name) { Err(problem) } else { Ok(name) }
                    },
                ),
            );
            let value = self.note(
                &format!("{field}[{index}].value"),
                value.map_err(|_| "control characters cannot stand in a header"),
            );
            match name.zip(value) {
                Some((name, value)) => drop(map.append(name, value)),
                None => all = false,
            }
        }
        all.then_some(map)
    }
}

#[tonic::async_trait]
impl WebApiService for WebApis {
    async fn call(
        &self,
        request: Request<pb::CallRequest>,
    ) -> Result<Response<pb::CallResponse>, Status> {
        let (context, _, request) = open(request)?;
        answer_within(&context, Self::call(self, &context, request).await, MAX_CALL_BYTES)
    }
}
