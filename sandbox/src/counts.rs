//! What arrived: numbers only, nothing that a caller sent except the tenant's name.

use std::collections::HashMap;
use std::sync::Mutex;

use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::lock::hold;

/// How the system user exchange went, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exchanges {
    /// Exchanges that were answered with a token, faulty tokens included.
    pub issued: u64,
    /// Exchanges that were answered with `"IsSuccessful": false`.
    pub refused: u64,
}

/// How the sign-in of people went, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SignIns {
    /// Pages that were shown to people, error pages included.
    pub pages: u64,
    /// Applications that an administrator approved.
    pub approvals: u64,
    /// Sign-ins that a person refused.
    pub refusals: u64,
    /// Codes that were issued.
    pub codes_issued: u64,
    /// Codes that were exchanged.
    pub codes_exchanged: u64,
    /// Codes that came again after they had been presented.
    pub codes_repeated: u64,
    /// Refreshes that were granted.
    pub refreshes: u64,
    /// Refresh tokens that came after they had been replaced and were not accepted any more.
    pub reuses: u64,
    /// Requests for tokens that were refused, whatever for.
    pub refused: u64,
    /// Tokens that were revoked by the application.
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
struct Tally {
    endpoints: HashMap<Endpoint, EndpointCounts>,
    exchanges: Exchanges,
    sign_ins: SignIns,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    tally: Mutex<Tally>,
}

impl Counts {
    /// Counts a call as running until the returned guard is dropped.
    pub(crate) fn enter(&self, endpoint: Endpoint) -> Running<'_> {
        let mut tally = hold(&self.tally);
        let counts = tally.endpoints.entry(endpoint).or_default();
        counts.calls += 1;
        counts.running += 1;
        counts.max_concurrent = counts.max_concurrent.max(counts.running);
        Running { counts: self, endpoint }
    }

    pub(crate) fn tenant_called(&self, endpoint: Endpoint, tenant: &str) {
        let mut tally = hold(&self.tally);
        let by_tenant = &mut tally.endpoints.entry(endpoint).or_default().by_tenant;
        *by_tenant.entry(tenant.to_owned()).or_default() += 1;
    }

    pub(crate) fn issued(&self) {
        hold(&self.tally).exchanges.issued += 1;
    }

    pub(crate) fn refused(&self) {
        hold(&self.tally).exchanges.refused += 1;
    }

    pub(crate) fn sign_in(&self, count: impl FnOnce(&mut SignIns)) {
        count(&mut hold(&self.tally).sign_ins);
    }

    pub(crate) fn sign_ins(&self) -> SignIns {
        hold(&self.tally).sign_ins
    }

    pub(crate) fn of(&self, endpoint: Endpoint) -> EndpointCounts {
        hold(&self.tally).endpoints.get(&endpoint).cloned().unwrap_or_default()
    }

    pub(crate) fn exchanges(&self) -> Exchanges {
        hold(&self.tally).exchanges
    }

    /// Forgets everything except which calls are running now.
    pub(crate) fn reset(&self) {
        let mut tally = hold(&self.tally);
        tally.exchanges = Exchanges::default();
        tally.sign_ins = SignIns::default();
        for counts in tally.endpoints.values_mut() {
            let running = counts.running;
            *counts = EndpointCounts { running, max_concurrent: running, ..Default::default() };
        }
    }
}

/// A call that is being answered.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    counts: &'a Counts,
    endpoint: Endpoint,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut tally = hold(&self.counts.tally);
        if let Some(counts) = tally.endpoints.get_mut(&self.endpoint) {
            counts.running = counts.running.saturating_sub(1);
        }
    }
}
