//! Reading what is asked: everything that could mean two things is refused before anybody is asked.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::http::{Method, Version, header};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use hyper::{Request, body::Body as HttpBody};
use tokio::time::timeout;

use crate::{
    access::is_calling_method,
    broker::{GatewayHeaders, method_override},
    domain::{ApiPath, AuditText, EyesSelector, Reason, TenantName},
    http::{conversation::RequestBody, problem::Problem},
    ports::{ApiBody, BodyCopy, COPIED_BYTES, CopyBudget},
};

/// A body of known length up to this is held, so that a call that met a dead ticket can be made once more. The same size
/// limits the copy of a body without a length.
const HELD_BYTES: u64 = COPIED_BYTES as u64;

/// For all of such a body.
const HELD_TIME: Duration = Duration::from_mins(1);

/// Between two parts of a body. Who is slower has gone away, or means no good.
const PART_TIME: Duration = Duration::from_secs(30);

/// What a caller asks for.
pub(super) struct Asked {
    pub(super) tenant: TenantName,
    pub(super) path: ApiPath,
    /// Whose eyes, if it says so.
    pub(super) eyes: Option<EyesSelector>,
    /// Its words for the audit trail.
    pub(super) words: AuditText,
    pub(super) rewrite_links: bool,
}

/// Why a body does not come to its end. It is known only once it is being sent.
pub(super) type Cut = Arc<OnceLock<Problem>>;

/// Refuses what is no plain request for something on this server.
pub(super) fn check_shape(request: &Request<RequestBody>) -> Result<(), Problem> {
    let bad = |detail: &'static str| Err(Problem::new(Reason::InvalidArgument, detail));
    let (method, headers) = (request.method(), request.headers());
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        let detail = "CONNECT and TRACE are not passed on: this is no open proxy";
        return Err(Problem::new(Reason::Unimplemented, detail));
    }
    if !is_calling_method(method) {
        return bad("wanted one of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS, in upper case");
    }
    if request.version() < Version::HTTP_2 {
        if request.uri().scheme().is_some() || request.uri().authority().is_some() {
            return bad(
                "the request line must hold a path, not a whole address: set the base address of your client \
                 to the gateway's instead of using it as a proxy",
            );
        }
        let hosts = headers.get_all(header::HOST).iter().count();
        if hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11 {
            return bad("the request needs exactly one header Host");
        }
    }
    // Clients of HTTP/2 ask for it in passing; who is not heard goes on in HTTP/1.1 (RFC 9110 section 7.8).
    let upgrades = headers.get_all(header::UPGRADE).iter();
    if upgrades.into_iter().any(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c")) {
        let detail = "connections are not upgraded here: calls of the Web API are plain requests";
        return Err(Problem::new(Reason::Unimplemented, detail));
    }
    Ok(())
}

impl Asked {
    /// Reads the target and the headers that are meant for the gateway.
    pub(super) fn read(request: &Request<RequestBody>) -> Result<Self, Problem> {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let (tenant, rest) = split(target).ok_or_else(|| nowhere(target))?;
        let path = ApiPath::parse(rest).map_err(|error| invalid("path", &error))?;
        let headers = request.headers();
        if let Some(name) = method_override(request.method(), headers) {
            let problem = "the request is not sent on as another method: send it with that method instead of POST";
            return Err(invalid(name, &problem));
        }
        let GatewayHeaders { eyes, reason, rewrite_links } =
            GatewayHeaders::read(headers).map_err(|problem| invalid(problem.name(), &problem))?;
        Ok(Self { tenant, path, eyes, words: reason.into(), rewrite_links })
    }
}

/// `/{application}/{tenant}` and what follows. The names are taken as they stand: they need no encoding.
fn split(target: &str) -> Option<(TenantName, &str)> {
    let (application, rest) = target.strip_prefix('/')?.split_once('/')?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (tenant, rest) = rest.split_at_checked(end)?;
    let (application, tenant) = (application.parse().ok()?, tenant.parse().ok()?);
    Some((TenantName { application, tenant }, rest))
}

fn nowhere(target: &str) -> Problem {
    let detail = if target.starts_with("//") {
        "the path begins with two slashes: remove the slash at the end of your client's base address"
    } else {
        "wanted /{application}/{tenant}/api/…, such as /crm-sync/Cust12345/api/v1/Contact/5"
    };
    Problem::new(Reason::ResourceNotFound, detail)
}

fn invalid(field: &str, problem: &dyn std::fmt::Display) -> Problem {
    Problem::new(Reason::InvalidArgument, format!("{field}: {problem}"))
}

/// Returns the body: a small one is held; any other is passed on as it comes, with a copy if it may be small. `cut` says
/// later why it ended early.
pub(super) async fn body(
    body: RequestBody,
    most: Option<u64>,
    cut: &Cut,
    copies: &CopyBudget,
) -> Result<ApiBody, Problem> {
    let length = body.size_hint().exact();
    if let (Some(length), Some(most)) = (length, most)
        && length > most
    {
        return Err(too_large());
    }
    if body.is_end_stream() {
        return Ok(ApiBody::Whole(Bytes::new()));
    }
    let parts = parts(body, most.unwrap_or(u64::MAX), Arc::clone(cut));
    match length {
        Some(length) if length <= HELD_BYTES => {
            let whole = parts.try_fold(BytesMut::new(), async |mut whole, part| {
                whole.extend_from_slice(&part);
                Ok(whole)
            });
            let whole = timeout(HELD_TIME, whole).await.map_err(|_| too_slow())?;
            let whole = whole.map_err(|_| cut.get().cloned().unwrap_or_else(ended_early))?;
            Ok(ApiBody::Whole(whole.freeze()))
        }
        Some(_) => Ok(ApiBody::Stream { parts, length, copy: None }),
        None => {
            let (parts, copy) = BodyCopy::of(parts, copies);
            Ok(ApiBody::Stream { parts, length, copy: Some(copy) })
        }
    }
}

fn parts<B>(body: B, most: u64, cut: Cut) -> BoxStream<'static, io::Result<Bytes>>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    let parts = stream::try_unfold((body, most, cut), async |(mut body, left, cut)| {
        let end = |problem: Problem| {
            let _ = cut.set(problem);
            Err(io::ErrorKind::UnexpectedEof.into())
        };
        loop {
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            let part = match timeout(PART_TIME, frame).await {
                Err(_) => return end(too_slow()),
                Ok(Some(Err(_))) => return end(ended_early()),
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => frame.into_data(),
            };
            // Trailers say nothing that a call of the Web API needs.
            let Ok(part) = part else { continue };
            let Some(left) = left.checked_sub(part.len() as u64) else { return end(too_large()) };
            return Ok(Some((part, (body, left, cut))));
        }
    });
    parts.boxed()
}

fn too_large() -> Problem {
    let detail = "the body is larger than egress.max_body_bytes of the gateway's configuration";
    Problem::new(Reason::ResponseTooLarge, detail)
}

fn too_slow() -> Problem {
    let detail = "the body comes too slowly; send it again, and faster";
    Problem::new(Reason::DeadlineExceeded, detail)
}

fn ended_early() -> Problem {
    Problem::new(Reason::InvalidArgument, "the body ended before it was whole")
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        task::{Context, Poll},
    };

    use hyper::body::Frame;

    use super::*;

    /// Says this, and then nothing more.
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
    async fn a_client_that_is_too_slow_is_given_up() {
        let cut = Cut::default();
        let mut parts = parts(silent(), 5, Arc::clone(&cut));
        let begin = tokio::time::Instant::now();
        assert_eq!(parts.try_next().await.unwrap().unwrap(), "12345");
        parts.try_next().await.unwrap_err();
        assert!((PART_TIME..2 * PART_TIME).contains(&begin.elapsed()));
        assert_eq!(cut.get().unwrap().reason(), Reason::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_body_that_says_no_length_is_cut_off_at_the_limit() {
        let cut = Cut::default();
        let mut parts = parts(silent(), 4, Arc::clone(&cut));
        parts.try_next().await.unwrap_err();
        assert_eq!(cut.get().unwrap().reason(), Reason::ResponseTooLarge);
    }

    #[test]
    fn a_target_names_application_tenant_and_path_as_they_stand() {
        let (tenant, rest) = split("/crm-sync/Cust12345/api/v1/x?y=/z").unwrap();
        assert_eq!(tenant.to_string(), "applications/crm-sync/tenants/Cust12345");
        assert_eq!(rest, "/api/v1/x?y=/z");
        for (target, rest) in [("/a/Cust1", ""), ("/a/Cust1?x", "?x"), ("/a/Cust1/", "/")] {
            assert_eq!(split(target).map(|(_, rest)| rest), Some(rest), "{target}");
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
            assert!(split(target).is_none(), "{target}");
        }
    }
}
