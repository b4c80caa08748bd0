//! Call rates of each tenant's Web API, and a rate limit.
//!
//! The documented rule is ten calls a second and application. SuperOffice does not enforce it, and
//! does not document 429 and `Retry-After`, so there is no limit by default.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::clock::http_date;
use crate::lock::lock;

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// An enforced limit on the calls of each tenant's Web API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// The calls admitted within any second. Further calls get 429.
    pub calls_per_second: usize,
    /// The `Retry-After` of the 429.
    #[serde(default)]
    pub retry_after: RetryAfter,
}

/// The `Retry-After` of a 429.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// No header.
    #[default]
    Absent,
    /// A number of seconds.
    Seconds(u32),
    /// The HTTP date this many seconds from now, by the sandbox's clock.
    Date(u32),
}

/// The call rate of a tenant's Web API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallRate {
    /// The most calls that arrived within any second, including rejected ones.
    pub max_per_second: usize,
    /// The most calls admitted within any second; without a limit, all that arrived.
    pub max_admitted_per_second: usize,
    /// Calls answered 429 because of a [`RateLimit`].
    pub limited: u64,
}

/// A sliding window of one second.
#[derive(Debug, Default)]
struct Window {
    calls: VecDeque<Timestamp>,
    max: usize,
}

impl Window {
    fn slide(&mut self, now: Timestamp) {
        while self.calls.front().is_some_and(|call| now.duration_since(*call) >= SECOND) {
            self.calls.pop_front();
        }
        if self.calls.back().is_some_and(|call| call.duration_since(now) >= SECOND) {
            self.calls.clear(); // the clock was set back: these calls are not in this second
        }
    }

    fn add(&mut self, now: Timestamp) {
        self.slide(now);
        self.calls.push_back(now);
        self.max = self.max.max(self.calls.len());
    }
}

#[derive(Debug, Default)]
struct Calls {
    arrived: Window,
    admitted: Window,
    limited: u64,
}

#[derive(Debug, Default)]
struct State {
    limit: Option<RateLimit>,
    by_tenant: HashMap<String, Calls>,
}

#[derive(Debug, Default)]
pub(crate) struct Traffic {
    state: Mutex<State>,
}

impl Traffic {
    pub(crate) fn set_limit(&self, limit: Option<RateLimit>) {
        lock(&self.state).limit = limit;
    }

    /// Counts a call. Returns a response if the call is above the limit.
    pub(crate) fn record_call(&self, tenant: &str, now: Timestamp) -> Option<Answer> {
        let mut state = lock(&self.state);
        let limit = state.limit;
        let calls = state.by_tenant.entry(tenant.to_owned()).or_default();
        calls.arrived.add(now);
        calls.admitted.slide(now);
        match limit {
            Some(limit) if calls.admitted.calls.len() >= limit.calls_per_second => {
                calls.limited += 1;
                Some(too_many(limit.retry_after, now))
            }
            _ => {
                calls.admitted.add(now);
                None
            }
        }
    }

    pub(crate) fn rate(&self, tenant: &str) -> CallRate {
        let state = lock(&self.state);
        let rate = |calls: &Calls| CallRate {
            max_per_second: calls.arrived.max,
            max_admitted_per_second: calls.admitted.max,
            limited: calls.limited,
        };
        state.by_tenant.get(tenant).map(rate).unwrap_or_default()
    }

    /// Resets the maxima; keeps the calls of the last second.
    pub(crate) fn reset(&self) {
        for calls in lock(&self.state).by_tenant.values_mut() {
            calls.limited = 0;
            calls.arrived.max = 0;
            calls.admitted.max = 0;
        }
    }
}

fn too_many(retry_after: RetryAfter, now: Timestamp) -> Answer {
    let answer = Answer::empty(StatusCode::TOO_MANY_REQUESTS);
    let value = match retry_after {
        RetryAfter::Absent => None,
        RetryAfter::Seconds(seconds) => Some(HeaderValue::from(seconds)),
        RetryAfter::Date(seconds) => {
            now.saturating_add(SignedDuration::from_secs(seconds.into())).ok().and_then(http_date)
        }
    };
    match value {
        Some(value) => answer.with(RETRY_AFTER, value),
        None => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn counts_the_most_calls_in_a_sliding_second() {
        let traffic = Traffic::default();
        for milliseconds in [0, 500, 900, 1000, 1400, 5000, 4999] {
            assert!(traffic.record_call("Cust1", at(milliseconds)).is_none());
        }
        // 500, 900, 1000 and 1400 are within one second; 0 and 1000 are not.
        assert_eq!(traffic.rate("Cust1").max_per_second, 4);
        assert_eq!(traffic.rate("Cust2"), CallRate::default());
        traffic.reset();
        assert_eq!(traffic.rate("Cust1"), CallRate::default());
    }

    #[test]
    fn a_limit_applies_to_any_second() {
        let traffic = Traffic::default();
        traffic.set_limit(Some(RateLimit { calls_per_second: 2, ..RateLimit::default() }));
        let admitted = [0, 1, 2, 999, 1000, 1001, 1002];
        let admitted = admitted.map(|milli| traffic.record_call("Cust1", at(milli)).is_none());
        assert_eq!(admitted, [true, true, false, false, true, true, false]);
        let rate = traffic.rate("Cust1");
        assert_eq!((rate.max_admitted_per_second, rate.limited), (2, 3));
    }
}
