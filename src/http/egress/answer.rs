//! Returns SuperOffice's answer to the caller.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, Method, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use hyper::body::Frame;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{
    call_record::CallRecord,
    failure::Failure,
    stalled_clients::{ResponseBody, StalledClientTimeout},
};
use crate::{
    broker::{BrokerError, LinkRewriter, WebApiResponse},
    domain::Reason,
    http::problem::Problem,
    ports::SendError,
};

/// The maximum size of a JSON body whose links are rewritten.
const MAX_REWRITTEN_BYTES: usize = 16 * 1024 * 1024;

/// The memory budget of all such bodies, from the first part that arrives to the last part that is sent. During the
/// rewriting itself, which runs without a pause, the new body exists besides the old one.
const REWRITE_BUDGET_BYTES: usize = 128 * 1024 * 1024;
static REWRITE_BUDGET: Semaphore = Semaphore::const_new(REWRITE_BUDGET_BYTES);

/// The time for such a body to arrive.
const REWRITE_TIMEOUT: Duration = Duration::from_mins(2);

/// The size of the parts in which such a body is sent, so that it is sent as fast as the client reads.
const PART_BYTES: usize = 64 * 1024;

/// The `Retry-After` of an exhausted budget.
const BUDGET_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The `Retry-After` of an answer that cannot be rewritten.
const ENCODED_RETRY_AFTER: Duration = Duration::from_secs(5);

type Stream = BoxStream<'static, Result<Bytes, SendError>>;

/// The size up to which answers need no stall detection, because they fit into the buffers of a connection.
const UNWATCHED_BYTES: u64 = 64 * 1024;

/// Returns the answer, whose body is streamed. `rewrite` contains the links to rewrite in a JSON body.
/// `stalled_clients` detects a client that does not read it.
pub(super) async fn pass_back(
    upstream: WebApiResponse,
    method: &Method,
    rewrite: Option<&LinkRewriter>,
    stalled_clients: Option<&StalledClientTimeout>,
    mut record: CallRecord,
) -> Result<Response<Body>, (Failure, CallRecord)> {
    let WebApiResponse { response, .. } = upstream;
    let (status, mut headers, mut body) = (response.status, response.headers, response.body);
    let mut length = length(&headers);
    let bodiless = *method == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let Some(links) = rewrite.filter(|_| !bodiless && status.is_success() && is_json(&headers)) {
        if status == StatusCode::PARTIAL_CONTENT || is_encoded(&headers) {
            return Err((not_rewritable(), record));
        }
        let rewritten = match rewrite_body(body, length, links, &mut headers).await {
            Ok(rewritten) => rewritten,
            Err(failure) => return Err((failure, record)),
        };
        headers.insert(header::CONTENT_LENGTH, rewritten.len().into());
        length = Some(rewritten.len() as u64);
        body = split_into_parts(rewritten);
    }
    record.set_status(status);
    if bodiless || length == Some(0) {
        record.set_complete();
    }
    let body = ResponseBody::new(body);
    if let Some(stalled_clients) =
        stalled_clients.filter(|_| length.is_none_or(|length| length > UNWATCHED_BYTES))
    {
        stalled_clients.watch(&body);
    }
    let mut answer = Response::new(Body::new(AnswerBody { body, left: length, record }));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Ok(answer)
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    let (_, kind) = kind.split_once('/').unwrap_or_default();
    let suffix = kind.rsplit('+').next().unwrap_or_default();
    suffix.eq_ignore_ascii_case("json")
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Returns the failure for an answer that cannot be rewritten. Unchanged, its links would bypass the gateway.
fn not_rewritable() -> Failure {
    let detail = "links cannot be rewritten: SuperOffice answered with compressed or partial JSON; send the request \
        without Gateway-Rewrite-Links";
    Problem::new(Reason::UpstreamInvalidResponse, detail)
        .with_retry_after(Some(ENCODED_RETRY_AFTER))
        .into()
}

fn budget_exhausted() -> Failure {
    let detail = "links are being rewritten in too many large answers; try again later, request fewer items at a time, \
        or send the request without Gateway-Rewrite-Links";
    Problem::new(Reason::UpstreamUnavailable, detail)
        .with_retry_after(Some(BUDGET_RETRY_AFTER))
        .into()
}

fn too_large() -> Failure {
    let detail = "links are rewritten only in answers of up to 16 MiB; request fewer items at a time, or send the \
        request without Gateway-Rewrite-Links";
    Problem::new(Reason::ResponseTooLarge, detail).into()
}

/// Reads the whole body and rewrites its links.
async fn rewrite_body(
    body: Stream,
    length: Option<u64>,
    links: &LinkRewriter,
    headers: &mut HeaderMap,
) -> Result<Bytes, Failure> {
    let whole = timeout(REWRITE_TIMEOUT, read_whole(body, length, &REWRITE_BUDGET)).await;
    let timed_out =
        |_| BrokerError::truncated_answer(&SendError::TimedOut("a body to rewrite".to_owned()));
    let mut buffered = whole.map_err(timed_out)??;
    if let Some(bytes) = links.rewrite_json(&buffered.bytes) {
        buffered.bytes = bytes;
        buffered.bytes.shrink_to_fit();
        buffered.resize_share(buffered.bytes.capacity())?;
        // These digests belong to the original body.
        for name in ["content-md5", "digest", "content-digest"] {
            headers.remove(name);
        }
    }
    // The budget is released when the last part is dropped.
    Ok(Bytes::from_owner(buffered))
}

/// A body in memory, with its share of the memory budget.
struct BufferedBody {
    bytes: Vec<u8>,
    budget: &'static Semaphore,
    share: SemaphorePermit<'static>,
}

impl BufferedBody {
    /// Returns an empty body.
    fn new(budget: &'static Semaphore) -> Result<Self, Failure> {
        let share = budget.try_acquire_many(0).map_err(|_| budget_exhausted())?;
        Ok(Self { bytes: Vec::new(), budget, share })
    }

    /// Changes the share of the budget to this size.
    fn resize_share(&mut self, bytes: usize) -> Result<(), Failure> {
        let has = self.share.num_permits();
        if let Some(more) = bytes.checked_sub(has) {
            let more = u32::try_from(more).map_err(|_| budget_exhausted())?;
            self.share.merge(self.budget.try_acquire_many(more).map_err(|_| budget_exhausted())?);
        } else {
            drop(self.share.split(has - bytes));
        }
        Ok(())
    }

    /// Reserves memory for more bytes.
    fn reserve(&mut self, more: usize) -> Result<(), Failure> {
        let wanted = self.bytes.len().saturating_add(more);
        if wanted > MAX_REWRITTEN_BYTES {
            return Err(too_large());
        }
        if wanted > self.bytes.capacity() {
            let capacity = wanted.max(2 * self.bytes.capacity()).min(MAX_REWRITTEN_BYTES);
            self.resize_share(capacity)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        Ok(())
    }
}

impl AsRef<[u8]> for BufferedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body whose links are to be rewritten.
async fn read_whole(
    mut body: Stream,
    length: Option<u64>,
    budget: &'static Semaphore,
) -> Result<BufferedBody, Failure> {
    let mut buffered = BufferedBody::new(budget)?;
    buffered.reserve(length.map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX)))?;
    loop {
        match body.try_next().await {
            Ok(None) => return Ok(buffered),
            Ok(Some(part)) => {
                buffered.reserve(part.len())?;
                buffered.bytes.extend_from_slice(&part);
            }
            Err(error) => return Err(BrokerError::truncated_answer(&error).into()),
        }
    }
}

fn split_into_parts(body: Bytes) -> Stream {
    let starts = (0..body.len()).step_by(PART_BYTES);
    let parts = starts.map(move |at| Ok(body.slice(at..body.len().min(at + PART_BYTES))));
    stream::iter(parts).boxed()
}

/// The body of an answer to the caller. When it is dropped, the record of its call is written.
struct AnswerBody {
    body: Arc<ResponseBody>,
    /// The number of remaining bytes, if the length is known.
    left: Option<u64>,
    record: CallRecord,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        match ready!(this.body.poll_next(context)) {
            Some(Ok(part)) => {
                let length = part.len() as u64;
                this.record.sent_bytes += length;
                if let Some(left) = &mut this.left {
                    *left = left.saturating_sub(length);
                    // hyper does not poll again after all bytes were sent.
                    if *left == 0 {
                        this.record.set_complete();
                    }
                }
                Poll::Ready(Some(Ok(Frame::data(part))))
            }
            Some(Err(error)) => {
                this.record.set_broken_off(error.to_string());
                Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
            }
            None => {
                this.record.set_complete();
                Poll::Ready(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    fn budget(bytes: usize) -> &'static Semaphore {
        Box::leak(Box::new(Semaphore::new(bytes)))
    }

    fn body_of(parts: &[&'static [u8]]) -> Stream {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part))).collect();
        stream::iter(parts).boxed()
    }

    #[tokio::test]
    async fn rewritten_bodies_hold_their_share_of_the_budget_until_they_are_dropped() {
        let budget = budget(10);
        let first = read_whole(body_of(&[b"123", b"45", b"6"]), None, budget).await.ok().unwrap();
        assert_eq!((&*first.bytes, budget.available_permits()), (&b"123456"[..], 4));
        for length in [None, Some(5)] {
            let failure = read_whole(body_of(&[b"12345"]), length, budget).await.err().unwrap();
            assert_eq!(failure.problem.reason(), Reason::UpstreamUnavailable);
            let mut answer = failure.problem.clone().into_response();
            failure.problem.write("", &mut answer);
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.headers()[header::RETRY_AFTER], "5");
        }
        assert_eq!(budget.available_permits(), 4);
        let mut parts = split_into_parts(Bytes::from_owner(first));
        let part = parts.try_next().await.unwrap().unwrap();
        drop(parts);
        assert_eq!(budget.available_permits(), 4);
        drop(part);
        assert_eq!(budget.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_body_takes_a_share_as_large_as_its_buffer() {
        let budget = budget(10);
        let mut buffered = BufferedBody::new(budget).ok().unwrap();
        for bytes in [0, 4, 10, 3, 0] {
            assert!(buffered.resize_share(bytes).is_ok());
            assert_eq!(budget.available_permits(), 10 - bytes);
        }
        assert!(buffered.resize_share(11).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn rewriting_a_slow_body_times_out() {
        let slow = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(20)).await;
            Some((Ok(Bytes::from_static(b" ")), ()))
        });
        let begin = tokio::time::Instant::now();
        let allowed = crate::domain::AllowedApiHosts::new(vec!["superoffice.com".to_owned()]);
        let tenant: crate::domain::TenantName = "applications/crm/tenants/Cust1".parse().unwrap();
        let uri = "https://online2.superoffice.com/Cust1/api";
        let uri = crate::domain::WebApiUri::check_api(uri, tenant.tenant, &allowed.unwrap());
        let links = LinkRewriter::new("https://gw.example.com", &tenant, &uri.unwrap());
        let failed = rewrite_body(slow.boxed(), None, &links, &mut HeaderMap::new()).await;
        assert_eq!(failed.err().unwrap().problem.reason(), Reason::UpstreamUnavailable);
        assert_eq!(begin.elapsed(), REWRITE_TIMEOUT);
    }

    #[test]
    fn recognizes_json_media_types() {
        let is = |kind: &'static str| {
            let kind = (header::CONTENT_TYPE, kind.parse().unwrap());
            is_json(&HeaderMap::from_iter([kind]))
        };
        for kind in [
            "application/json; odata=verbose; charset=utf-8",
            "text/json",
            "Application/JSON",
            "application/problem+json",
            "text/x+json ;a=b",
        ] {
            assert!(is(kind), "{kind}");
        }
        for kind in ["text/plain", "json", "application/json-seq", "application/xml", "text/+", ""]
        {
            assert!(!is(kind), "{kind}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
