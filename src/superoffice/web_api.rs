//! The Web API over HTTP: puts the credential on, sends once, and says what the answer means (SUPEROFFICE.md 2.8, 7).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::{
    Method, StatusCode, Uri,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, DATE, HOST, HeaderMap, HeaderName, HeaderValue,
        RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};
use http_body::{Frame, SizeHint};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::Notify, time::timeout};
use url::Url;
use zeroize::Zeroizing;

use super::{Credentials, SuperOffice, fault::Fault, skew};
use crate::{
    domain::WebApiUri,
    outbound::{Body, Request, Response},
    ports::{
        ApiBody, ApiCredential, ApiRequest, ApiResponse, SendError, UpstreamError, Verdict,
        WebApiHost,
    },
};

/// The application's half of the system user's credential.
const APPLICATION_TOKEN: HeaderName = HeaderName::from_static("so-apptoken");

/// Headers of one connection, which say nothing on another. A wrong length would begin a second request inside of this.
const OF_THE_CONNECTION: [HeaderName; 7] =
    [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// The time between two parts of an answer, if the call has less time.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// What the one client that is known to honour 429 waits where nothing is said (SUPEROFFICE.md 7.1).
const USUAL_PAUSE: Duration = Duration::from_secs(5);

/// Whatever is asked, calls go on after this: a mistake there must not stop a tenant for a day.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

#[async_trait]
impl WebApiHost for SuperOffice {
    async fn send(
        &self,
        uri: &WebApiUri,
        credential: &ApiCredential,
        request: ApiRequest,
    ) -> Result<ApiResponse, SendError> {
        let target = target(uri, &request.path_and_query)?;
        let ApiRequest { method, mut headers, body, answer_within, .. } = request;
        clear(&method, &mut headers, &body);
        put_on(credential, &self.credentials, &mut headers)?;
        let (body, sending) = match body {
            ApiBody::Whole(bytes) => (Body::Whole(bytes), None),
            ApiBody::Stream { parts, length, .. } => {
                let moved = Arc::new(Notify::new());
                let parts = Parts { stream: parts, left: length, moved: moved.clone() };
                (Body::Stream(Box::pin(parts)), Some(moved))
            }
        };
        let answering = self.client.begin(Request { method, uri: Some(target), headers, body });
        let answer = match sending {
            None => within(answer_within, answering).await,
            Some(moved) => while_moving(&moved, answer_within, answering).await,
        };
        let response = answer.map_err(|fault| not_answered(&fault))?;
        Ok(answered(response, self.clock.now(), answer_within.max(PART_TIMEOUT)))
    }

    fn headers_of(&self, credential: &ApiCredential) -> Result<HeaderMap, SendError> {
        let mut headers = HeaderMap::with_capacity(2);
        put_on(credential, &self.credentials, &mut headers)?;
        Ok(headers)
    }
}

async fn within<T>(
    limit: Duration,
    answering: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout(limit, answering).await.unwrap_or(Err(Fault::Timeout(limit)))
}

/// As long as parts of the body go out, however slowly, it is not over.
async fn while_moving<T>(
    moved: &Notify,
    limit: Duration,
    answering: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let standstill = async { while timeout(limit, moved.notified()).await.is_ok() {} };
    tokio::select! {
        biased;
        answer = answering => answer,
        () = standstill => Err(Fault::Timeout(limit)),
    }
}

/// The credential of the call and none beside it.
fn put_on(
    credential: &ApiCredential,
    credentials: &Credentials,
    headers: &mut HeaderMap,
) -> Result<(), SendError> {
    let sendable = |value: &str| {
        secret_header(value).map_err(|error| SendError::Unsendable(error.to_string()))
    };
    headers.remove(APPLICATION_TOKEN);
    let authorization = match credential {
        ApiCredential::SystemUser { ticket } => {
            let secret = credentials.secret();
            headers.insert(APPLICATION_TOKEN, sendable(secret.expose_secret())?);
            scheme("SOTicket", ticket)
        }
        ApiCredential::Person { access_token } => scheme("Bearer", access_token),
    };
    headers.insert(AUTHORIZATION, sendable(&authorization)?);
    Ok(())
}

pub(super) fn scheme(scheme: &str, credential: &SecretString) -> Zeroizing<String> {
    Zeroizing::new(format!("{scheme} {}", credential.expose_secret()))
}

pub(super) fn secret_header(value: &str) -> Result<HeaderValue, UpstreamError> {
    // Never happens for what was validated when it came in.
    let refused =
        |_| UpstreamError::InvalidResponse("a credential cannot be sent in a header".to_owned());
    let mut header = HeaderValue::from_str(value).map_err(refused)?;
    header.set_sensitive(true);
    Ok(header)
}

/// Leaves what is about the request, and nothing that is about a connection.
fn clear(method: &Method, headers: &mut HeaderMap, body: &ApiBody) {
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
    // The client says nothing of a body that is empty, but the platform's servers want to be told of an order's.
    if !matches!(*method, Method::GET | Method::HEAD)
        && matches!(body, ApiBody::Whole(bytes) if bytes.is_empty())
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// Returns the target with its bytes as they are. A path with dot segments could lead to the neighbour on the same host.
fn target(uri: &WebApiUri, path_and_query: &str) -> Result<Uri, SendError> {
    let text = format!("{uri}{path_and_query}");
    let is_below = |text: &str| {
        let rest = text.strip_prefix(uri.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    };
    // The URL parser resolves dot segments, encoded ones included.
    let resolved = Url::parse(&text).ok().filter(|url| is_below(url.as_str()));
    resolved.filter(|_| is_below(&text)).and_then(|_| text.parse().ok()).ok_or_else(|| {
        SendError::Unsendable("the path leads out of the tenant's Web API".to_owned())
    })
}

fn not_answered(fault: &Fault) -> SendError {
    let text = fault.to_string();
    match fault {
        Fault::Name(_)
        | Fault::Connect(_)
        | Fault::Tls(_)
        | Fault::Proxy { .. }
        | Fault::Unreached
        | Fault::NotProcessed => SendError::NotSent(text),
        Fault::Timeout(_) => SendError::TimedOut(text),
        Fault::Broken(_) | Fault::Status(_) | Fault::TooLarge(_) => SendError::Broken(text),
    }
}

/// The fault of an answer that had begun, so the request was processed.
fn broke_off(fault: &Fault) -> SendError {
    match not_answered(fault) {
        SendError::NotSent(text) => SendError::Broken(text),
        error => error,
    }
}

/// `part_timeout` limits the time between two parts of the answer.
fn answered(mut response: Response, now: Timestamp, part_timeout: Duration) -> ApiResponse {
    let status = response.status;
    let headers = std::mem::take(&mut response.headers);
    let verdict = verdict(status, &headers, now);
    let parts = stream::try_unfold(response, move |mut response| async move {
        let part = timeout(part_timeout, response.chunk()).await;
        let late = |_| not_answered(&Fault::Timeout(part_timeout));
        let part = part.map_err(late)?.map_err(|fault| broke_off(&fault))?;
        Ok(part.map(|part| (part, response)))
    });
    ApiResponse { verdict, status, headers, body: parts.boxed() }
}

fn verdict(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Verdict {
    match status {
        StatusCode::UNAUTHORIZED => Verdict::CredentialRefused,
        StatusCode::FORBIDDEN => Verdict::Forbidden,
        StatusCode::MISDIRECTED_REQUEST => Verdict::Misdirected,
        StatusCode::TOO_MANY_REQUESTS => Verdict::Throttled { retry_after: pause(headers, now) },
        status if status.is_server_error() => Verdict::Failed,
        status => Verdict::Done { success: status.is_success() },
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110 section 10.2.3), which is compared with the answer's own clock.
fn pause(headers: &HeaderMap, now: Timestamp) -> Duration {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = text(RETRY_AFTER).and_then(|asked| {
        if let Ok(seconds) = asked.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = skew::difference(asked, now)?;
        let theirs = text(DATE).and_then(|date| skew::difference(date, now));
        // One that has passed is no pause.
        Some((until - theirs.unwrap_or_default()).try_into().unwrap_or(Duration::ZERO))
    });
    asked.unwrap_or(USUAL_PAUSE).min(LONGEST_PAUSE)
}

/// A body that comes while it is sent.
struct Parts {
    stream: BoxStream<'static, io::Result<Bytes>>,
    /// Bytes that are still to come, if that is known.
    left: Option<u64>,
    moved: Arc<Notify>,
}

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let part = ready!(this.stream.as_mut().poll_next(context));
        this.moved.notify_one();
        if let (Some(Ok(part)), Some(left)) = (&part, &mut this.left) {
            *left = left.saturating_sub(part.len() as u64);
        }
        Poll::Ready(part.map(|part| part.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map(SizeHint::with_exact).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        domain::AllowedApiHosts,
        ports::{SignError, Signer},
    };

    fn now() -> Timestamp {
        "2026-11-22T09:00:00Z".parse().unwrap()
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_an_answer_means_is_told_by_its_status() {
        for (status, meant) in [
            (200, Verdict::Done { success: true }),
            (204, Verdict::Done { success: true }),
            (304, Verdict::Done { success: false }),
            (307, Verdict::Done { success: false }),
            (400, Verdict::Done { success: false }),
            (404, Verdict::Done { success: false }),
            (412, Verdict::Done { success: false }),
            (401, Verdict::CredentialRefused),
            (403, Verdict::Forbidden),
            (421, Verdict::Misdirected),
            (429, Verdict::Throttled { retry_after: USUAL_PAUSE }),
            (500, Verdict::Failed),
            (503, Verdict::Failed),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(verdict(status, &HeaderMap::new(), now()), meant, "{status}");
        }
    }

    #[test]
    fn a_pause_is_seconds_or_a_date_and_never_longer_than_is_sane() {
        let date = "Sun, 22 Nov 2026 09:00:07 GMT";
        for (asked, seconds) in [
            (vec![], 5),
            (vec![(RETRY_AFTER, "0")], 0),
            (vec![(RETRY_AFTER, "17")], 17),
            (vec![(RETRY_AFTER, "86400")], 300),
            (vec![(RETRY_AFTER, "-1")], 5),
            (vec![(RETRY_AFTER, "soon")], 5),
            (vec![(RETRY_AFTER, date)], 7),
            (vec![(RETRY_AFTER, date), (DATE, "Sun, 22 Nov 2026 08:59:57 GMT")], 10),
            (vec![(RETRY_AFTER, "Sun, 22 Nov 2026 08:00:00 GMT")], 0),
            (vec![(RETRY_AFTER, "Fri, 22 Nov 2126 08:00:00 GMT")], 300),
        ] {
            let got = pause(&headers(&asked), now());
            assert_eq!(got, Duration::from_secs(seconds), "{asked:?}");
        }
    }

    #[test]
    fn a_ticket_goes_with_the_secret_that_works_and_an_access_token_alone() {
        let signer: Arc<dyn Signer> = Arc::new(Unused);
        let credentials = Credentials::new("first".into(), Some("next".into()), signer, None);
        credentials.secret_works(1);
        let ticket = ApiCredential::SystemUser { ticket: "7T:own".into() };
        let person = ApiCredential::Person { access_token: "8A:own".into() };
        for (credential, authorization, application_token) in
            [(ticket, "SOTicket 7T:own", Some("next")), (person, "Bearer 8A:own", None)]
        {
            let given = [(AUTHORIZATION, "Basic x"), (APPLICATION_TOKEN, "x")];
            let mut headers = headers(&given);
            headers.append(AUTHORIZATION, HeaderValue::from_static("Basic y"));
            put_on(&credential, &credentials, &mut headers).unwrap();
            let all: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
            assert_eq!(all, [authorization]);
            let token = headers.get(APPLICATION_TOKEN).map(|token| token.to_str().unwrap());
            assert_eq!(token, application_token);
            assert!(headers.values().all(HeaderValue::is_sensitive));
        }
    }

    struct Unused;

    impl Signer for Unused {
        fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
            Err(SignError)
        }
    }

    #[test]
    fn lengths_and_what_else_is_of_a_connection_are_ours() {
        let given = [
            (CONTENT_LENGTH, "5"),
            (TRANSFER_ENCODING, "chunked"),
            (CONNECTION, "upgrade"),
            (UPGRADE, "h2c"),
            (HOST, "elsewhere.example"),
        ];
        let whole = |bytes| ApiBody::Whole(Bytes::from_static(bytes));
        let parts = stream::empty().boxed();
        let upload = ApiBody::Stream { parts, length: None, copy: None };
        for (method, body, length) in [
            (Method::GET, whole(b""), None),
            (Method::DELETE, whole(b""), Some("0")),
            (Method::POST, whole(b""), Some("0")),
            (Method::POST, whole(b"{}"), None),
            (Method::PUT, upload, None),
        ] {
            let mut headers = headers(&given);
            headers.insert("x-own", HeaderValue::from_static("stays"));
            clear(&method, &mut headers, &body);
            let left = headers.get(CONTENT_LENGTH).map(|length| length.to_str().unwrap());
            assert_eq!(left, length, "{method}");
            assert_eq!(headers.len(), 1 + usize::from(length.is_some()), "{headers:?}");
        }
    }

    #[test]
    fn a_target_keeps_its_bytes() {
        let allowed = AllowedApiHosts::new(vec!["superoffice.com".to_owned()]).unwrap();
        let uri = "https://online2.superoffice.com/Cust1/api";
        let uri = WebApiUri::check_api(uri, "Cust1".parse().unwrap(), &allowed).unwrap();
        for path in [
            "/v1/x%2By%26z'[]{}|^",
            "/v1/%c3%85/?$filter=name eq 'a'&b=|^`{}%27".replace(' ', "%20").as_str(),
        ] {
            let target = target(&uri, path).unwrap();
            assert_eq!(target.path_and_query().unwrap().as_str(), format!("/Cust1/api{path}"));
        }
    }

    #[test]
    fn a_path_that_leads_out_of_the_tenant_is_not_sent() {
        let allowed = AllowedApiHosts::new(vec!["superoffice.com".to_owned()]).unwrap();
        let uri = "https://online2.superoffice.com/Cust1/api";
        let uri = WebApiUri::check_api(uri, "Cust1".parse().unwrap(), &allowed).unwrap();
        for path in
            ["/v1/User?$top=1", "/v1/%2e%2e/User", "/v1/a/../User", "/", "", "?x", "/v1?x=/../.."]
        {
            assert!(target(&uri, path).is_ok(), "{path}");
        }
        for path in ["/../../Cust2/api/v1/User", "/%2e%2e/x", "/..", "x", ".evil/", "@e/"] {
            assert!(target(&uri, path).is_err(), "{path}");
        }
    }
}
