//! Validates requests. Refuses ambiguous requests before authentication and forwarding.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::http::{Method, Version, header, request::Parts};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use hyper::body::Body as HttpBody;
use tokio::time::timeout;

use crate::{
    access::is_web_api_method,
    broker::{GatewayHeaders, method_override},
    domain::{ActorSelector, ApiPath, AuditText, Reason, TenantName},
    http::{http_server::RequestBody, problem::Problem},
    ports::{ApiBody, BodyCopy, CopyBudget, MAX_COPY_BYTES},
};

/// The length up to which a body is buffered, so that the call can be repeated after a rejected ticket. It is also the
/// limit of the copy of a body of unknown length.
const BUFFERED_BYTES: u64 = MAX_COPY_BYTES as u64;

/// The time for such a body to arrive.
const BUFFER_TIMEOUT: Duration = Duration::from_mins(1);

/// The maximum time between two parts of a body.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// The validated content of a request.
pub(super) struct ProxyRequest {
    pub(super) tenant: TenantName,
    pub(super) path: ApiPath,
    /// The user to act as, if the caller names one.
    pub(super) actor: Option<ActorSelector>,
    /// The caller's reason for the audit trail.
    pub(super) reason: AuditText,
    pub(super) rewrite_links: bool,
}

/// The reason why a body ended early. It is set only while the body is being forwarded.
pub(super) type BodyError = Arc<OnceLock<Problem>>;

/// Refuses requests that are not plain requests to this server.
pub(super) fn check_shape(head: &Parts) -> Result<(), Problem> {
    let bad = |detail: &'static str| Err(Problem::new(Reason::InvalidArgument, detail));
    let Parts { method, uri, version, headers, .. } = head;
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        let detail = "CONNECT and TRACE are not supported: this is not an open proxy";
        return Err(Problem::new(Reason::Unimplemented, detail));
    }
    if !is_web_api_method(method) {
        return bad(
            "the method must be GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, in upper case",
        );
    }
    if *version < Version::HTTP_2 {
        if uri.scheme().is_some() || uri.authority().is_some() {
            return bad(
                "the request line must contain a path, not an absolute URI: set the base address of your client \
                 to the gateway's instead of using it as a proxy",
            );
        }
        let hosts = headers.get_all(header::HOST).iter().count();
        if hosts > 1 || hosts == 0 && *version == Version::HTTP_11 {
            return bad("the request must have exactly one Host header");
        }
    }
    // `Upgrade: h2c` is ignored, as RFC 9110 section 7.8 permits: HTTP/2 clients send it and continue in HTTP/1.1.
    let upgrades = headers.get_all(header::UPGRADE).iter();
    if upgrades.into_iter().any(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c")) {
        let detail = "connection upgrades are not supported: Web API calls are plain requests";
        return Err(Problem::new(Reason::Unimplemented, detail));
    }
    Ok(())
}

impl ProxyRequest {
    /// Reads the target and the gateway's own headers.
    pub(super) fn read(head: &Parts) -> Result<Self, Problem> {
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let (tenant, rest) = split_target(target).ok_or_else(|| invalid_path(target))?;
        let path = ApiPath::parse(rest).map_err(|error| invalid("path", &error))?;
        if let Some(name) = method_override(&head.method, &head.headers) {
            let problem = "method overrides are not supported: send the request with that method instead of POST";
            return Err(invalid(name, &problem));
        }
        let GatewayHeaders { actor, reason, rewrite_links } =
            GatewayHeaders::read(&head.headers)
                .map_err(|problem| invalid(problem.name(), &problem))?;
        Ok(Self { tenant, path, actor, reason: reason.into(), rewrite_links })
    }
}

/// Splits `/{application}/{tenant}` from the rest. The names are not decoded, because they need no encoding.
fn split_target(target: &str) -> Option<(TenantName, &str)> {
    let (application, rest) = target.strip_prefix('/')?.split_once('/')?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (tenant, rest) = rest.split_at_checked(end)?;
    let (application, tenant) = (application.parse().ok()?, tenant.parse().ok()?);
    Some((TenantName { application, tenant }, rest))
}

fn invalid_path(target: &str) -> Problem {
    let detail = if target.starts_with("//") {
        "the path begins with two slashes: remove the slash at the end of your client's base address"
    } else {
        "the path must be /{application}/{tenant}/api/…, such as /crm-sync/Cust12345/api/v1/Contact/5"
    };
    Problem::new(Reason::ResourceNotFound, detail)
}

fn invalid(field: &str, problem: &dyn std::fmt::Display) -> Problem {
    Problem::new(Reason::InvalidArgument, format!("{field}: {problem}"))
}

/// Returns the body for forwarding. A small body is buffered. Others are streamed, with a copy if the length is
/// unknown. `body_error` later contains the reason if the body ended early.
pub(super) async fn prepare_body(
    body: RequestBody,
    max_bytes: Option<u64>,
    body_error: &BodyError,
    copies: &CopyBudget,
) -> Result<ApiBody, Problem> {
    let length = body.size_hint().exact();
    if let (Some(length), Some(max_bytes)) = (length, max_bytes)
        && length > max_bytes
    {
        return Err(too_large());
    }
    if body.is_end_stream() {
        return Ok(ApiBody::Whole(Bytes::new()));
    }
    let parts = body_stream(body, max_bytes.unwrap_or(u64::MAX), Arc::clone(body_error));
    match length {
        Some(length) if length <= BUFFERED_BYTES => {
            let whole = parts.try_fold(BytesMut::new(), async |mut whole, part| {
                whole.extend_from_slice(&part);
                Ok(whole)
            });
            let whole = timeout(BUFFER_TIMEOUT, whole).await.map_err(|_| too_slow())?;
            let whole = whole.map_err(|_| body_error.get().cloned().unwrap_or_else(ended_early))?;
            Ok(ApiBody::Whole(whole.freeze()))
        }
        Some(_) => Ok(ApiBody::Stream { parts, length, copy: None }),
        None => {
            let (parts, copy) = BodyCopy::new(parts, copies);
            Ok(ApiBody::Stream { parts, length, copy: Some(copy) })
        }
    }
}

fn body_stream<B>(
    body: B,
    max_bytes: u64,
    body_error: BodyError,
) -> BoxStream<'static, io::Result<Bytes>>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    let parts =
        stream::try_unfold((body, max_bytes, body_error), async |(mut body, left, body_error)| {
            let end = |problem: Problem| {
                let _ = body_error.set(problem);
                Err(io::ErrorKind::UnexpectedEof.into())
            };
            loop {
                let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
                let part = match timeout(PART_TIMEOUT, frame).await {
                    Err(_) => return end(too_slow()),
                    Ok(Some(Err(_))) => return end(ended_early()),
                    Ok(None) => return Ok(None),
                    Ok(Some(Ok(frame))) => frame.into_data(),
                };
                // Web API calls have no trailers.
                let Ok(part) = part else { continue };
                let Some(left) = left.checked_sub(part.len() as u64) else {
                    return end(too_large());
                };
                return Ok(Some((part, (body, left, body_error))));
            }
        });
    parts.boxed()
}

fn too_large() -> Problem {
    let detail = "the body is larger than egress.max_body_bytes of the gateway's configuration";
    Problem::new(Reason::ResponseTooLarge, detail)
}

fn too_slow() -> Problem {
    let detail = "the body arrives too slowly; send it again, faster";
    Problem::new(Reason::DeadlineExceeded, detail)
}

fn ended_early() -> Problem {
    Problem::new(Reason::InvalidArgument, "the body is incomplete")
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        task::{Context, Poll},
    };

    use hyper::body::Frame;

    use super::*;

    /// A body that sends these bytes and then stalls.
    struct Silent(Option<Bytes>);

    impl HttpBody for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |part| Poll::Ready(Some(Ok(Frame::data(part)))))
        }
    }

    fn silent() -> Silent {
        Silent(Some(Bytes::from_static(b"12345")))
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_without_progress_times_out() {
        let body_error = BodyError::default();
        let mut parts = body_stream(silent(), 5, Arc::clone(&body_error));
        let begin = tokio::time::Instant::now();
        assert_eq!(parts.try_next().await.unwrap().unwrap(), "12345");
        parts.try_next().await.unwrap_err();
        assert!((PART_TIMEOUT..2 * PART_TIMEOUT).contains(&begin.elapsed()));
        assert_eq!(body_error.get().unwrap().reason(), Reason::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_cut_off_at_the_limit() {
        let body_error = BodyError::default();
        let mut parts = body_stream(silent(), 4, Arc::clone(&body_error));
        parts.try_next().await.unwrap_err();
        assert_eq!(body_error.get().unwrap().reason(), Reason::ResponseTooLarge);
    }

    #[test]
    fn splits_a_target_into_tenant_and_path_without_decoding() {
        let (tenant, rest) = split_target("/crm-sync/Cust12345/api/v1/x?y=/z").unwrap();
        assert_eq!(tenant.to_string(), "applications/crm-sync/tenants/Cust12345");
        assert_eq!(rest, "/api/v1/x?y=/z");
        for (target, rest) in [("/a/Cust1", ""), ("/a/Cust1?x", "?x"), ("/a/Cust1/", "/")] {
            assert_eq!(split_target(target).map(|(_, rest)| rest), Some(rest), "{target}");
        }
        for target in [
            "",
            "*",
            "/",
            "/a",
            "/a/",
            "/a/cust1/api",
            "/a/Cust/api",
            "/a/Cust01x/api",
            "/A/Cust1/api",
            "//Cust1/api",
            "/-/Cust1/api",
            "/%61/Cust1/api",
            "/a/%43ust1/api",
            "/a/../Cust1/api",
            "/applications/a/tenants/Cust1/api",
        ] {
            assert!(split_target(target).is_none(), "{target}");
        }
    }
}
