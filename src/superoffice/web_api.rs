//! Sends Web API calls over HTTP: adds the credential, sends once, and classifies the response.

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
        ApiBody, ApiCredential, ApiRequest, ApiResponse, CallOutcome, SendError, UpstreamError,
        WebApiHost,
    },
};

/// The header of the application token, which accompanies a system user ticket.
const APPLICATION_TOKEN: HeaderName = HeaderName::from_static("so-apptoken");

/// Hop-by-hop headers, which are not forwarded. A forged length could start a second request inside this one.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// The minimum time limit between two parts of a response.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// The wait after a 429 without `Retry-After`: that of SuperOffice's own client library.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The maximum wait: a wrong `Retry-After` must not stop a tenant for a day.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);

#[async_trait]
impl WebApiHost for SuperOffice {
    async fn send(
        &self,
        uri: &WebApiUri,
        credential: &ApiCredential,
        request: ApiRequest,
    ) -> Result<ApiResponse, SendError> {
        let target = target(uri, &request.path_and_query)?;
        let ApiRequest { method, mut headers, body, response_timeout, .. } = request;
        remove_hop_by_hop(&method, &mut headers, &body);
        insert_credential(credential, &self.credentials, &mut headers)?;
        let (body, sending) = match body {
            ApiBody::Whole(bytes) => (Body::Whole(bytes), None),
            ApiBody::Stream { parts, length, .. } => {
                let moved = Arc::new(Notify::new());
                let parts = UploadBody { stream: parts, remaining: length, moved: moved.clone() };
                (Body::Stream(Box::pin(parts)), Some(moved))
            }
        };
        let answering =
            self.client.send_streaming(Request { method, uri: Some(target), headers, body });
        let answer = match sending {
            None => with_timeout(response_timeout, answering).await,
            Some(moved) => with_idle_timeout(&moved, response_timeout, answering).await,
        };
        let response = answer.map_err(|fault| send_error(&fault))?;
        Ok(api_response(response, self.clock.now(), response_timeout.max(PART_TIMEOUT)))
    }

    fn credential_headers(&self, credential: &ApiCredential) -> Result<HeaderMap, SendError> {
        let mut headers = HeaderMap::with_capacity(2);
        insert_credential(credential, &self.credentials, &mut headers)?;
        Ok(headers)
    }
}

async fn with_timeout<T>(
    limit: Duration,
    answering: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout(limit, answering).await.unwrap_or(Err(Fault::Timeout(limit)))
}

/// Waits while parts of the body are being sent, however slowly.
async fn with_idle_timeout<T>(
    progress: &Notify,
    limit: Duration,
    answering: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let idle = async { while timeout(limit, progress.notified()).await.is_ok() {} };
    tokio::select! {
        biased;
        answer = answering => answer,
        () = idle => Err(Fault::Timeout(limit)),
    }
}

/// Sets the credential of the call and removes any other.
fn insert_credential(
    credential: &ApiCredential,
    credentials: &Credentials,
    headers: &mut HeaderMap,
) -> Result<(), SendError> {
    let sendable = |value: &str| {
        secret_header(value).map_err(|error| SendError::InvalidRequest(error.to_string()))
    };
    headers.remove(APPLICATION_TOKEN);
    let authorization = match credential {
        ApiCredential::SystemUser { ticket } => {
            let secret = credentials.secret();
            headers.insert(APPLICATION_TOKEN, sendable(secret.expose_secret())?);
            authorization("SOTicket", ticket)
        }
        ApiCredential::Person { access_token } => authorization("Bearer", access_token),
    };
    headers.insert(AUTHORIZATION, sendable(&authorization)?);
    Ok(())
}

pub(super) fn authorization(scheme: &str, credential: &SecretString) -> Zeroizing<String> {
    Zeroizing::new(format!("{scheme} {}", credential.expose_secret()))
}

pub(super) fn secret_header(value: &str) -> Result<HeaderValue, UpstreamError> {
    // Does not happen: credentials are validated when they are received.
    let refused = |_| {
        UpstreamError::InvalidResponse(
            "the credential contains characters that a header cannot carry".to_owned(),
        )
    };
    let mut header = HeaderValue::from_str(value).map_err(refused)?;
    header.set_sensitive(true);
    Ok(header)
}

/// Removes hop-by-hop headers.
fn remove_hop_by_hop(method: &Method, headers: &mut HeaderMap, body: &ApiBody) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    // The HTTP client sends no length for an empty body, but SuperOffice's servers require one for methods with a body.
    if !matches!(*method, Method::GET | Method::HEAD)
        && matches!(body, ApiBody::Whole(bytes) if bytes.is_empty())
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// Returns the target URI, byte for byte. Rejects dot segments, which could lead to another tenant on the host.
fn target(uri: &WebApiUri, path_and_query: &str) -> Result<Uri, SendError> {
    let text = format!("{uri}{path_and_query}");
    let is_below = |text: &str| {
        let rest = text.strip_prefix(uri.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    };
    // The URL parser resolves dot segments, encoded ones included.
    let stays_below = !may_have_dot_segments(path_and_query)
        || Url::parse(&text).is_ok_and(|url| is_below(url.as_str()));
    let target = if stays_below && is_below(&text) { text.parse().ok() } else { None };
    target.ok_or_else(|| {
        SendError::InvalidRequest("the path leads out of the tenant's Web API".to_owned())
    })
}

/// Returns `false` if a path has no byte from which a URL parser could make a dot segment. Most paths have none, and
/// parsing takes longer than this check.
fn may_have_dot_segments(path_and_query: &str) -> bool {
    let path = path_and_query.split('?').next().unwrap_or_default();
    path.bytes().any(|byte| !byte.is_ascii_alphanumeric() && !b"/-_~$(),:=".contains(&byte))
}

fn send_error(fault: &Fault) -> SendError {
    let text = fault.to_string();
    match fault {
        Fault::Name(_)
        | Fault::Connect(_)
        | Fault::Tls(_)
        | Fault::Proxy { .. }
        | Fault::ConnectTimeout
        | Fault::NotProcessed => SendError::NotSent(text),
        Fault::Timeout(_) => SendError::TimedOut(text),
        Fault::Broken(_) | Fault::Status(_) | Fault::TooLarge(_) => SendError::Interrupted(text),
    }
}

/// Returns the error of a response that had begun, so the request was processed.
fn response_error(fault: &Fault) -> SendError {
    match send_error(fault) {
        SendError::NotSent(text) => SendError::Interrupted(text),
        error => error,
    }
}

/// Converts a response. `part_timeout` limits the time between two parts of its body.
fn api_response(mut response: Response, now: Timestamp, part_timeout: Duration) -> ApiResponse {
    let status = response.status;
    let headers = std::mem::take(&mut response.headers);
    let outcome = call_outcome(status, &headers, now);
    let parts = stream::try_unfold(response, move |mut response| async move {
        let part = timeout(part_timeout, response.chunk()).await;
        let late = |_| send_error(&Fault::Timeout(part_timeout));
        let part = part.map_err(late)?.map_err(|fault| response_error(&fault))?;
        Ok(part.map(|part| (part, response)))
    });
    ApiResponse { outcome, status, headers, body: parts.boxed() }
}

fn call_outcome(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> CallOutcome {
    match status {
        StatusCode::UNAUTHORIZED => CallOutcome::CredentialRefused,
        StatusCode::FORBIDDEN => CallOutcome::Forbidden,
        StatusCode::MISDIRECTED_REQUEST => CallOutcome::Misdirected,
        StatusCode::TOO_MANY_REQUESTS => {
            CallOutcome::Throttled { retry_after: retry_after(headers, now) }
        }
        status if status.is_server_error() => CallOutcome::Failed,
        status => CallOutcome::Done { success: status.is_success() },
    }
}

/// Returns the wait of `Retry-After` (RFC 9110 section 10.2.3). A date is compared with the response's `Date`.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Duration {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = text(RETRY_AFTER).and_then(|asked| {
        if let Ok(seconds) = asked.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = skew::difference(asked, now)?;
        let theirs = text(DATE).and_then(|date| skew::difference(date, now));
        // A date in the past means no wait.
        Some((until - theirs.unwrap_or_default()).try_into().unwrap_or(Duration::ZERO))
    });
    asked.unwrap_or(DEFAULT_RETRY_AFTER).min(MAX_RETRY_AFTER)
}

/// A streamed request body.
struct UploadBody {
    stream: BoxStream<'static, io::Result<Bytes>>,
    /// The remaining number of bytes, if known.
    remaining: Option<u64>,
    moved: Arc<Notify>,
}

impl http_body::Body for UploadBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let part = ready!(this.stream.as_mut().poll_next(context));
        this.moved.notify_one();
        if let (Some(Ok(part)), Some(left)) = (&part, &mut this.remaining) {
            *left = left.saturating_sub(part.len() as u64);
        }
        Poll::Ready(part.map(|part| part.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map(SizeHint::with_exact).unwrap_or_default()
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
    fn classifies_responses_by_status() {
        for (status, meant) in [
            (200, CallOutcome::Done { success: true }),
            (204, CallOutcome::Done { success: true }),
            (304, CallOutcome::Done { success: false }),
            (307, CallOutcome::Done { success: false }),
            (400, CallOutcome::Done { success: false }),
            (404, CallOutcome::Done { success: false }),
            (412, CallOutcome::Done { success: false }),
            (401, CallOutcome::CredentialRefused),
            (403, CallOutcome::Forbidden),
            (421, CallOutcome::Misdirected),
            (429, CallOutcome::Throttled { retry_after: DEFAULT_RETRY_AFTER }),
            (500, CallOutcome::Failed),
            (503, CallOutcome::Failed),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(call_outcome(status, &HeaderMap::new(), now()), meant, "{status}");
        }
    }

    #[test]
    fn reads_retry_after_as_seconds_or_date_up_to_the_maximum() {
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
            let got = retry_after(&headers(&asked), now());
            assert_eq!(got, Duration::from_secs(seconds), "{asked:?}");
        }
    }

    #[test]
    fn sends_a_ticket_with_the_working_secret_and_an_access_token_alone() {
        let signer: Arc<dyn Signer> = Arc::new(Unused);
        let credentials = Credentials::new("first".into(), Some("next".into()), signer, None);
        credentials.mark_secret_working(1);
        let ticket = ApiCredential::SystemUser { ticket: "7T:own".into() };
        let person = ApiCredential::Person { access_token: "8A:own".into() };
        for (credential, authorization, application_token) in
            [(ticket, "SOTicket 7T:own", Some("next")), (person, "Bearer 8A:own", None)]
        {
            let given = [(AUTHORIZATION, "Basic x"), (APPLICATION_TOKEN, "x")];
            let mut headers = headers(&given);
            headers.append(AUTHORIZATION, HeaderValue::from_static("Basic y"));
            insert_credential(&credential, &credentials, &mut headers).unwrap();
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
    fn removes_hop_by_hop_headers_and_sets_the_length() {
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
            remove_hop_by_hop(&method, &mut headers, &body);
            let left = headers.get(CONTENT_LENGTH).map(|length| length.to_str().unwrap());
            assert_eq!(left, length, "{method}");
            assert_eq!(headers.len(), 1 + usize::from(length.is_some()), "{headers:?}");
        }
    }

    #[test]
    fn does_not_change_the_bytes_of_the_target() {
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
    fn rejects_a_path_that_leaves_the_tenant() {
        let allowed = AllowedApiHosts::new(vec!["superoffice.com".to_owned()]).unwrap();
        let uri = "https://online2.superoffice.com/Cust1/api";
        let uri = WebApiUri::check_api(uri, "Cust1".parse().unwrap(), &allowed).unwrap();
        for path in
            ["/v1/User?$top=1", "/v1/%2e%2e/User", "/v1/a/../User", "/", "", "?x", "/v1?x=/../.."]
        {
            assert!(target(&uri, path).is_ok(), "{path}");
        }
        for path in ["/v1/..", "/v1/.", "/v1/%2E%2E", "/v1/\\..", "/v1/\t", "/.\t./", "/å/"] {
            assert!(may_have_dot_segments(path), "{path}");
        }
        for path in
            ["/v1/Contact/5?$filter=name eq '..'", "", "?x=/../..", "/v1/Agents/A_b-c~d($e)"]
        {
            assert!(!may_have_dot_segments(path), "{path}");
        }
        for path in ["/../../Cust2/api/v1/User", "/%2e%2e/x", "/..", "x", ".evil/", "@e/"] {
            assert!(target(&uri, path).is_err(), "{path}");
        }
    }
}
