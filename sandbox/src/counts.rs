//! Call counts. They hold numbers and tenant names only, nothing else that a caller sent.

use std::collections::HashMap;
use std::sync::Mutex;

use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::lock::lock;

/// Counts of system user exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exchanges {
    /// Exchanges that were answered with a token, faulty tokens included.
    pub issued: u64,
    /// Exchanges that were answered with `"IsSuccessful": false`.
    pub refused: u64,
}

/// Counts of the sign-in of people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SignIns {
    /// Pages shown to people, error pages included.
    pub pages: u64,
    /// Applications approved by an administrator.
    pub approvals: u64,
    /// Sign-ins refused by a person.
    pub refusals: u64,
    /// Authorization codes issued.
    pub codes_issued: u64,
    /// Authorization codes exchanged for tokens.
    pub codes_exchanged: u64,
    /// Authorization codes presented a second time.
    pub codes_repeated: u64,
    /// Refreshes granted.
    pub refreshes: u64,
    /// Refresh tokens presented after they were replaced and rejected for that reason.
    pub reuses: u64,
    /// Token requests refused for any reason.
    pub refused: u64,
    /// Tokens revoked by the application.
    pub revocations: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct EndpointCounts {
    pub(crate) calls: u64,
    pub(crate) max_concurrent: u64,
    pub(crate) by_tenant: HashMap<String, u64>,
    #[serde(skip)]
    running: u64,
}

#[derive(Debug, Default)]
struct CountsState {
    endpoints: HashMap<Endpoint, EndpointCounts>,
    exchanges: Exchanges,
    sign_ins: SignIns,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    state: Mutex<CountsState>,
}

impl Counts {
    /// Counts a call as in progress until the returned guard is dropped.
    pub(crate) fn begin_call(&self, endpoint: Endpoint) -> RunningCall<'_> {
        let mut tally = lock(&self.state);
        let counts = tally.endpoints.entry(endpoint).or_default();
        counts.calls += 1;
        counts.running += 1;
        counts.max_concurrent = counts.max_concurrent.max(counts.running);
        RunningCall { counts: self, endpoint }
    }

    pub(crate) fn count_tenant_call(&self, endpoint: Endpoint, tenant: &str) {
        let mut tally = lock(&self.state);
        let by_tenant = &mut tally.endpoints.entry(endpoint).or_default().by_tenant;
        *by_tenant.entry(tenant.to_owned()).or_default() += 1;
    }

    pub(crate) fn count_issued(&self) {
        lock(&self.state).exchanges.issued += 1;
    }

    pub(crate) fn count_refused(&self) {
        lock(&self.state).exchanges.refused += 1;
    }

    pub(crate) fn update_sign_ins(&self, count: impl FnOnce(&mut SignIns)) {
        count(&mut lock(&self.state).sign_ins);
    }

    pub(crate) fn sign_ins(&self) -> SignIns {
        lock(&self.state).sign_ins
    }

    pub(crate) fn for_endpoint(&self, endpoint: Endpoint) -> EndpointCounts {
        lock(&self.state).endpoints.get(&endpoint).cloned().unwrap_or_default()
    }

    pub(crate) fn exchanges(&self) -> Exchanges {
        lock(&self.state).exchanges
    }

    /// Resets all counts except that of calls in progress.
    pub(crate) fn reset(&self) {
        let mut tally = lock(&self.state);
        tally.exchanges = Exchanges::default();
        tally.sign_ins = SignIns::default();
        for counts in tally.endpoints.values_mut() {
            let running = counts.running;
            *counts = EndpointCounts { running, max_concurrent: running, ..Default::default() };
        }
    }
}

/// A call in progress. Dropping it ends the count.
#[derive(Debug)]
pub(crate) struct RunningCall<'a> {
    counts: &'a Counts,
    endpoint: Endpoint,
}

impl Drop for RunningCall<'_> {
    fn drop(&mut self) {
        let mut tally = lock(&self.counts.state);
        if let Some(counts) = tally.endpoints.get_mut(&self.endpoint) {
            counts.running = counts.running.saturating_sub(1);
        }
    }
}
