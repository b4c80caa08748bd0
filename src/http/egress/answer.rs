//! Passing back what SuperOffice answers.

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
    failure::Failure,
    standstill::{Parts, Standstill},
    trail::Record,
};
use crate::{
    broker::{BrokerError, Links, Sent},
    domain::Reason,
    http::problem::Problem,
    ports::SendError,
};

/// Bodies of JSON in which links are rewritten are held up to this, …
const MAX_REWRITTEN_BYTES: usize = 16 * 1024 * 1024;

/// … and all of them together up to this, each from its first part until its caller has taken the last. While links
/// are looked for, which one does without a pause, the new body is there besides the old one.
const ROOM_BYTES: usize = 128 * 1024 * 1024;
static ROOM: Semaphore = Semaphore::const_new(ROOM_BYTES);

/// For all of such a body to come.
const WHOLE_TIME: Duration = Duration::from_mins(2);

/// Such a body is passed on in parts of this, so that it goes out as fast as it is taken.
const PART_BYTES: usize = 64 * 1024;

/// When another may be done with what it holds.
const ROOM_SOON: Duration = Duration::from_secs(5);

/// After an answer that could not be rewritten.
const AFTER_DISBELIEF: Duration = Duration::from_secs(5);

type Stream = BoxStream<'static, Result<Bytes, SendError>>;

/// What connections hold anyway: nobody is held back by it.
const SMALL: u64 = 64 * 1024;

/// The answer, whose body comes as it is read. `rewrite` are the links to look for in a body of JSON,
/// `watched` looks whether the client takes it.
pub(super) async fn pass_back(
    sent: Sent,
    method: &Method,
    rewrite: Option<&Links>,
    watched: Option<&Standstill>,
    mut record: Record,
) -> Result<Response<Body>, (Failure, Record)> {
    let Sent { response, .. } = sent;
    let (status, mut headers, mut parts) = (response.status, response.headers, response.body);
    let mut length = length(&headers);
    let bodiless = *method == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let Some(links) = rewrite.filter(|_| !bodiless && status.is_success() && is_json(&headers)) {
        if status == StatusCode::PARTIAL_CONTENT || is_encoded(&headers) {
            return Err((not_plain(), record));
        }
        let body = match rewritten(parts, length, links, &mut headers).await {
            Ok(body) => body,
            Err(failure) => return Err((failure, record)),
        };
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        length = Some(body.len() as u64);
        parts = in_parts(body);
    }
    record.answered(status);
    if bodiless || length == Some(0) {
        record.whole();
    }
    let parts = Parts::new(parts);
    if let Some(watched) = watched.filter(|_| length.is_none_or(|length| length > SMALL)) {
        watched.watch(&parts);
    }
    let mut answer = Response::new(Body::new(PassedBack { parts, left: length, record }));
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

/// Passed on as it is, its links would lead past the gateway after all.
fn not_plain() -> Failure {
    let detail = "links could not be rewritten: SuperOffice answered with JSON that is compressed, or with a part of \
        it; ask without Range, or without Gateway-Rewrite-Links";
    Problem::new(Reason::UpstreamInvalidResponse, detail).after(Some(AFTER_DISBELIEF)).into()
}

fn no_room() -> Failure {
    let detail = "links are being rewritten in too many large answers at once; ask again later, for fewer items at a \
        time, or without Gateway-Rewrite-Links";
    Problem::new(Reason::UpstreamUnavailable, detail).after(Some(ROOM_SOON)).into()
}

fn too_large() -> Failure {
    let detail = "links are rewritten in answers of up to 16 MiB; ask for fewer items at a time, or without \
        Gateway-Rewrite-Links";
    Problem::new(Reason::ResponseTooLarge, detail).into()
}

/// The whole body, with its links rewritten.
async fn rewritten(
    parts: Stream,
    length: Option<u64>,
    links: &Links,
    headers: &mut HeaderMap,
) -> Result<Bytes, Failure> {
    let whole = timeout(WHOLE_TIME, whole(parts, length, &ROOM)).await;
    let late = |_| BrokerError::broken_off(&SendError::TimedOut("a body to rewrite".to_owned()));
    let mut held = whole.map_err(late)??;
    if let Some(bytes) = links.rewrite_json(&held.bytes) {
        held.bytes = bytes;
        held.bytes.shrink_to_fit();
        held.take(held.bytes.capacity())?;
        // They were about the body as it was.
        for name in ["content-md5", "digest", "content-digest"] {
            headers.remove(name);
        }
    }
    // The last part of it that is gone gives its room back.
    Ok(Bytes::from_owner(held))
}

/// A body in memory, and its share of the room that there is for such.
struct Held {
    bytes: Vec<u8>,
    room: &'static Semaphore,
    share: SemaphorePermit<'static>,
}

impl Held {
    /// Nothing yet.
    fn nothing(room: &'static Semaphore) -> Result<Self, Failure> {
        let share = room.try_acquire_many(0).map_err(|_| no_room())?;
        Ok(Self { bytes: Vec::new(), room, share })
    }

    /// Makes its share so large.
    fn take(&mut self, bytes: usize) -> Result<(), Failure> {
        let has = self.share.num_permits();
        if let Some(more) = bytes.checked_sub(has) {
            let more = u32::try_from(more).map_err(|_| no_room())?;
            self.share.merge(self.room.try_acquire_many(more).map_err(|_| no_room())?);
        } else {
            drop(self.share.split(has - bytes));
        }
        Ok(())
    }

    /// Makes place for bytes that are to come.
    fn reserve(&mut self, more: usize) -> Result<(), Failure> {
        let wanted = self.bytes.len().saturating_add(more);
        if wanted > MAX_REWRITTEN_BYTES {
            return Err(too_large());
        }
        if wanted > self.bytes.capacity() {
            let capacity = wanted.max(2 * self.bytes.capacity()).min(MAX_REWRITTEN_BYTES);
            self.take(capacity)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        Ok(())
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body in which links are to be rewritten.
async fn whole(
    mut parts: Stream,
    length: Option<u64>,
    room: &'static Semaphore,
) -> Result<Held, Failure> {
    let mut held = Held::nothing(room)?;
    held.reserve(length.map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX)))?;
    loop {
        match parts.try_next().await {
            Ok(None) => return Ok(held),
            Ok(Some(part)) => {
                held.reserve(part.len())?;
                held.bytes.extend_from_slice(&part);
            }
            Err(error) => return Err(BrokerError::broken_off(&error).into()),
        }
    }
}

fn in_parts(body: Bytes) -> Stream {
    let starts = (0..body.len()).step_by(PART_BYTES);
    let parts = starts.map(move |at| Ok(body.slice(at..body.len().min(at + PART_BYTES))));
    stream::iter(parts).boxed()
}

/// A body on its way back. What is written down of its call is written when it ends.
struct PassedBack {
    parts: Arc<Parts>,
    /// Bytes that are still to come, if that was said.
    left: Option<u64>,
    record: Record,
}

impl hyper::body::Body for PassedBack {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        match ready!(this.parts.poll_next(context)) {
            Some(Ok(part)) => {
                let length = part.len() as u64;
                this.record.passed_back += length;
                if let Some(left) = &mut this.left {
                    *left = left.saturating_sub(length);
                    // Nobody asks for more when everything was sent.
                    if *left == 0 {
                        this.record.whole();
                    }
                }
                Poll::Ready(Some(Ok(Frame::data(part))))
            }
            Some(Err(error)) => {
                this.record.broke_off(error.to_string());
                Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
            }
            None => {
                this.record.whole();
                Poll::Ready(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    fn room(bytes: usize) -> &'static Semaphore {
        Box::leak(Box::new(Semaphore::new(bytes)))
    }

    fn coming(parts: &[&'static [u8]]) -> Stream {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part))).collect();
        stream::iter(parts).boxed()
    }

    #[tokio::test]
    async fn bodies_whose_links_are_rewritten_share_one_room_until_they_are_gone() {
        let room = room(10);
        let first = whole(coming(&[b"123", b"45", b"6"]), None, room).await.ok().unwrap();
        assert_eq!((&*first.bytes, room.available_permits()), (&b"123456"[..], 4));
        for length in [None, Some(5)] {
            let failure = whole(coming(&[b"12345"]), length, room).await.err().unwrap();
            assert_eq!(failure.problem.reason(), Reason::UpstreamUnavailable);
            let mut answer = failure.problem.clone().into_response();
            failure.problem.write("", &mut answer);
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.headers()[header::RETRY_AFTER], "5");
        }
        assert_eq!(room.available_permits(), 4);
        let mut parts = in_parts(Bytes::from_owner(first));
        let part = parts.try_next().await.unwrap().unwrap();
        drop(parts);
        assert_eq!(room.available_permits(), 4);
        drop(part);
        assert_eq!(room.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_body_takes_as_much_of_the_room_as_it_holds() {
        let room = room(10);
        let mut held = Held::nothing(room).ok().unwrap();
        for bytes in [0, 4, 10, 3, 0] {
            assert!(held.take(bytes).is_ok());
            assert_eq!(room.available_permits(), 10 - bytes);
        }
        assert!(held.take(11).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_not_waited_for() {
        let slow = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(20)).await;
            Some((Ok(Bytes::from_static(b" ")), ()))
        });
        let begin = tokio::time::Instant::now();
        let allowed = crate::domain::AllowedApiHosts::new(vec!["superoffice.com".to_owned()]);
        let tenant: crate::domain::TenantName = "applications/crm/tenants/Cust1".parse().unwrap();
        let uri = "https://online2.superoffice.com/Cust1/api";
        let uri = crate::domain::WebApiUri::check_api(uri, tenant.tenant, &allowed.unwrap());
        let links = Links::new("https://gw.example.com", &tenant, &uri.unwrap());
        let failed = rewritten(slow.boxed(), None, &links, &mut HeaderMap::new()).await;
        assert_eq!(failed.err().unwrap().problem.reason(), Reason::UpstreamUnavailable);
        assert_eq!(begin.elapsed(), WHOLE_TIME);
    }

    #[test]
    fn what_says_in_any_way_that_it_is_json_is_json() {
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
