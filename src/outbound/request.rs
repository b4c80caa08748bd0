//! Requests and responses, with streamed bodies.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header::ACCEPT};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use zeroize::Zeroizing;

use super::Fault;

/// A request with its target as it is sent.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The absolute URI; `None` if the given text is not a URI.
    pub uri: Option<Uri>,
    /// The headers, without hop-by-hop ones.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// The body of a request.
pub enum Body {
    /// The whole body, so that it can be sent again.
    Whole(Bytes),
    /// A streamed body.
    Stream(StreamedBody),
}

/// A body that is streamed while it is sent.
pub type StreamedBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = io::Error> + Send>>;

impl Request {
    /// Creates a request without a body.
    #[must_use]
    pub fn new(method: Method, uri: &str) -> Self {
        let (headers, body) = (HeaderMap::new(), Body::Whole(Bytes::new()));
        Self { method, uri: uri.parse().ok(), headers, body }
    }

    /// Creates a `GET` that accepts these media types.
    #[must_use]
    pub fn get(uri: &str, accept: &'static str) -> Self {
        Self::new(Method::GET, uri).header(ACCEPT.as_str(), HeaderValue::from_static(accept))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the body, which may contain a secret: it is zeroed after it has been sent.
    #[must_use]
    pub fn body(mut self, media_type: &'static str, body: Zeroizing<Vec<u8>>) -> Self {
        self.body = Body::Whole(Bytes::from_owner(body));
        self.header("content-type", HeaderValue::from_static(media_type))
    }
}

/// A body for hyper's client.
pub(super) enum OutgoingBody {
    Whole(Option<Bytes>),
    Stream(StreamedBody),
}

impl From<Body> for OutgoingBody {
    fn from(body: Body) -> Self {
        match body {
            Body::Whole(bytes) => Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())),
            Body::Stream(stream) => Self::Stream(stream),
        }
    }
}

impl http_body::Body for OutgoingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// A response that has begun.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Response {
    pub(super) fn new(response: http::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, body }
    }

    /// Returns the next part of the body, and `None` at its end. There is no time limit.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| Fault::from_causes(&ReadError(error), false))?;
            // Trailers are ignored.
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }
}

/// Wraps an error of the body, because causes are searched from the source of an error.
#[derive(Debug)]
struct ReadError(hyper::Error);

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body cannot be read")
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
