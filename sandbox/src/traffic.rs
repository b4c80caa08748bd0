//! How fast the Web API of each tenant is called, and a limit to it.
//!
//! The documented rule is ten calls a second and application, and it is not enforced; 429 and
//! `Retry-After` are not documented (SUPEROFFICE.md 7.1). So nothing is limited unless a test says.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::clock::http_date;
use crate::lock::hold;

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A limit to the calls of each tenant's Web API, which is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// How many calls are answered within any second. The others get 429.
    pub calls_per_second: usize,
    /// What the 429 says of when to come again.
    #[serde(default)]
    pub retry_after: RetryAfter,
}

/// The `Retry-After` of a 429.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// There is none.
    #[default]
    Absent,
    /// So many seconds.
    Seconds(u32),
    /// The HTTP date so many seconds from now, by the sandbox's clock.
    Date(u32),
}

/// How fast the Web API of a tenant was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallRate {
    /// The most calls that arrived within any second, refused ones included.
    pub max_per_second: usize,
    /// The most calls that were let in within any second: all that arrived, without a limit.
    pub max_admitted_per_second: usize,
    /// Calls that were answered 429 because of a [`RateLimit`].
    pub limited: u64,
}

/// The last second, sliding.
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
            self.calls.clear(); // the clock was set back: they are not of this second
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
    pub(crate) fn limit(&self, limit: Option<RateLimit>) {
        hold(&self.state).limit = limit;
    }

    /// Counts a call; the answer is for one above the limit.
    pub(crate) fn arrived(&self, tenant: &str, now: Timestamp) -> Option<Answer> {
        let mut state = hold(&self.state);
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
        let state = hold(&self.state);
        let rate = |calls: &Calls| CallRate {
            max_per_second: calls.arrived.max,
            max_admitted_per_second: calls.admitted.max,
            limited: calls.limited,
        };
        state.by_tenant.get(tenant).map(rate).unwrap_or_default()
    }

    /// Forgets the greatest rates, not the last second.
    pub(crate) fn reset(&self) {
        for calls in hold(&self.state).by_tenant.values_mut() {
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
    fn the_window_slides_and_the_greatest_number_stays() {
        let traffic = Traffic::default();
        for milliseconds in [0, 500, 900, 1000, 1400, 5000, 4999] {
            assert!(traffic.arrived("Cust1", at(milliseconds)).is_none());
        }
        // 500, 900, 1000 and 1400 are within one second; 0 and 1000 are not.
        assert_eq!(traffic.rate("Cust1").max_per_second, 4);
        assert_eq!(traffic.rate("Cust2"), CallRate::default());
        traffic.reset();
        assert_eq!(traffic.rate("Cust1"), CallRate::default());
    }

    #[test]
    fn a_limit_lets_in_so_many_within_any_second() {
        let traffic = Traffic::default();
        traffic.limit(Some(RateLimit { calls_per_second: 2, ..RateLimit::default() }));
        let admitted = [0, 1, 2, 999, 1000, 1001, 1002];
        let admitted = admitted.map(|milli| traffic.arrived("Cust1", at(milli)).is_none());
        assert_eq!(admitted, [true, true, false, false, true, true, false]);
        let rate = traffic.rate("Cust1");
        assert_eq!((rate.max_admitted_per_second, rate.limited), (2, 3));
    }
}
