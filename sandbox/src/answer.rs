//! Responses of the handlers, before a fault damages them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use hyper::body::{Bytes, Frame};
use hyper::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Sleep;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The wait before the connection ends, so that the bytes that were sent leave first.
const TRUNCATION_DELAY: Duration = Duration::from_millis(10);

/// One mebibyte of spaces, which a JSON parser would skip to the end.
static SPACES: [u8; 1 << 20] = [b' '; 1 << 20];

/// A complete response.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn typed(status: StatusCode, content_type: HeaderValue, body: Vec<u8>) -> Self {
        Self { status, headers: vec![(CONTENT_TYPE, content_type)], body }
    }

    pub(crate) fn json(status: StatusCode, value: &Value) -> Self {
        Self::typed(status, JSON, value.to_string().into_bytes())
    }

    pub(crate) fn text(status: StatusCode, text: &str) -> Self {
        Self::typed(status, TEXT, text.as_bytes().to_vec())
    }

    pub(crate) fn html(status: StatusCode, title: &str) -> Self {
        let page = format!(
            "<!DOCTYPE html>\n<html><head><title>{title}</title></head>\
             <body><h1>{title}</h1></body></html>\n"
        );
        Self::html_page(status, &page)
    }

    pub(crate) fn html_page(status: StatusCode, page: &str) -> Self {
        Self::typed(status, HTML, page.as_bytes().to_vec())
    }

    /// A 400 in the form that ASP.NET returns for a request it cannot parse.
    pub(crate) fn bad_request(detail: &str) -> Self {
        Self::json(
            StatusCode::BAD_REQUEST,
            &json!({ "Message": "The request is invalid.", "MessageDetail": detail }),
        )
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        Self::empty(StatusCode::METHOD_NOT_ALLOWED).with(ALLOW, HeaderValue::from_static(allowed))
    }

    pub(crate) fn redirect(location: HeaderValue) -> Self {
        // A client that follows 307 sends the body, with its secrets, to the other address.
        Self::empty(StatusCode::TEMPORARY_REDIRECT).with(LOCATION, location)
    }

    /// Replaces a text in the body.
    pub(crate) fn replace_text(self, from: &str, to: &str) -> Self {
        let body = String::from_utf8_lossy(&self.body).replace(from, to).into_bytes();
        Self { body, ..self }
    }

    pub(crate) fn with_retry_after(self, seconds: u64) -> Self {
        self.with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }

    /// Declares the full length, sends half of the body, and closes the connection.
    pub(crate) fn into_truncated(self) -> Response<Body> {
        let length = self.body.len();
        let mut half = self.body;
        half.truncate(length / 2);
        let body = TruncatedBody { rest: Some(Bytes::from(half)), cut: None };
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length.max(1)));
        response
    }
}

/// Returns 200 with the JSON content type and a body of this many mebibytes.
pub(crate) fn huge_json(mebibytes: u64) -> Response<Body> {
    let mut response = Response::new(Body::new(HugeBody { mebibytes }));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

#[derive(Debug, thiserror::Error)]
#[error("the body was cut off by an injected fault")]
struct TruncatedBodyError;

struct TruncatedBody {
    rest: Option<Bytes>,
    cut: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for TruncatedBody {
    type Data = Bytes;
    type Error = TruncatedBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TruncatedBodyError>>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        let cut = self.cut.get_or_insert_with(|| Box::pin(tokio::time::sleep(TRUNCATION_DELAY)));
        cut.as_mut().poll(context).map(|()| Some(Err(TruncatedBodyError)))
    }
}

struct HugeBody {
    mebibytes: u64,
}

impl http_body::Body for HugeBody {
    type Data = Bytes;
    type Error = TruncatedBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TruncatedBodyError>>> {
        let Some(left) = self.mebibytes.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.mebibytes = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&SPACES)))))
    }
}
