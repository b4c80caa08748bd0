//! A call: its properties and options, and the result of one attempt.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;

use super::retry::Safety;
use crate::{
    access::GrantResource,
    domain::{Actor, TenantName, WebApiUri},
    ports::{ApiResponse, SendError},
};

/// The properties of a call: its tenant, its credential, and the limits for it.
#[derive(Debug, Clone)]
pub struct WebApiCallContext {
    /// The tenant to call.
    pub tenant: TenantName,
    /// The user for whom SuperOffice runs the call.
    pub actor: Actor,
    /// The key of the call's queue in the tenant's rate limit: the caller's id, or a shared key for associate reads.
    pub queue_key: Arc<str>,
    /// The deadline, from [`WebApi::deadline_in`](super::WebApi::deadline_in). A call that cannot be made by then is
    /// rejected at once.
    pub deadline: Option<Duration>,
    /// The person for whom policy permitted the call. If their name has changed since, the call is not made.
    pub person: Option<GrantResource>,
}

impl WebApiCallContext {
    /// Returns the time from `now` until the deadline; `None` if the call has no deadline.
    pub(super) fn time_left(&self, now: Duration) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_sub(now))
    }
}

/// The response to a call, and the address that answered.
#[derive(Debug)]
pub struct WebApiResponse {
    /// SuperOffice's response.
    pub response: ApiResponse,
    /// The Web API that answered.
    pub uri: WebApiUri,
}

/// The way in which a call is made.
#[derive(Clone, Copy)]
pub(super) struct CallOptions {
    pub(super) safety: Safety,
    /// If set, reads the whole body, up to this number of bytes.
    pub(super) max_body_bytes: Option<usize>,
}

/// The result of one attempt.
pub(super) type CallResult = Result<Answer, SendError>;

pub(super) struct Answer {
    pub(super) response: ApiResponse,
    pub(super) body: Body,
}

/// The body of an answer.
pub(super) enum Body {
    /// The body is not read yet.
    Streaming,
    Complete(Bytes),
    TooLarge,
}

impl Answer {
    /// Reads the body of a response to its end, up to a maximum size.
    pub(super) async fn read(mut response: ApiResponse, max_bytes: usize) -> CallResult {
        let mut body = BytesMut::new();
        while let Some(part) = response.body.try_next().await? {
            if body.len() + part.len() > max_bytes {
                return Ok(Self { response, body: Body::TooLarge });
            }
            body.extend_from_slice(&part);
        }
        Ok(Self { response, body: Body::Complete(body.freeze()) })
    }
}
