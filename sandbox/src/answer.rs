//! What a handler answers, before any fault spoils it on the wire.

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

/// Long enough for what was sent to leave before the connection ends.
const CUT_AFTER: Duration = Duration::from_millis(10);

/// One mebibyte of blanks: white space that a JSON parser would read to its end.
static BLANKS: [u8; 1 << 20] = [b' '; 1 << 20];

/// A whole answer.
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

    /// The shape ASP.NET gives a request it cannot read.
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
        // 307 makes a client that follows send its secrets along: the worst case.
        Self::empty(StatusCode::TEMPORARY_REDIRECT).with(LOCATION, location)
    }

    /// Puts one text in the place of another.
    pub(crate) fn rewritten(self, from: &str, to: &str) -> Self {
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

    /// Announces the whole body, sends half of it, and ends the connection.
    pub(crate) fn into_truncated(self) -> Response<Body> {
        let length = self.body.len();
        let mut half = self.body;
        half.truncate(length / 2);
        let body = CutBody { rest: Some(Bytes::from(half)), cut: None };
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length.max(1)));
        response
    }
}

/// A 200 that says JSON and then goes on for as many mebibytes.
pub(crate) fn huge(mebibytes: u64) -> Response<Body> {
    let mut response = Response::new(Body::new(HugeBody { mebibytes }));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

#[derive(Debug, thiserror::Error)]
#[error("the body was cut off on purpose")]
struct Cut;

struct CutBody {
    rest: Option<Bytes>,
    cut: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for CutBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        let cut = self.cut.get_or_insert_with(|| Box::pin(tokio::time::sleep(CUT_AFTER)));
        cut.as_mut().poll(context).map(|()| Some(Err(Cut)))
    }
}

struct HugeBody {
    mebibytes: u64,
}

impl http_body::Body for HugeBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(left) = self.mebibytes.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.mebibytes = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&BLANKS)))))
    }
}
