//! Whether the client certificates of open connections are still trusted.
//!
//! A chain is verified when its connection begins. Afterwards an authority may be taken out of `client_ca_file`, and
//! certificates of the chain expire. So the chain is verified again whenever one of these has happened, once for each
//! connection.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use rustls::{
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};

use super::validity::Validity;
use crate::ports::ShownCertificate;

/// The authorities that are in force, for connections that are open.
pub(in crate::listen) struct ClientTrust(ArcSwap<Authorities>);

struct Authorities {
    /// Grows with each change.
    generation: u64,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientTrust {
    pub(super) fn new(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self(ArcSwap::from_pointee(Authorities { generation: 1, verifier }))
    }

    /// From now on these authorities count.
    pub(super) fn replace(&self, verifier: Arc<dyn ClientCertVerifier>) {
        let generation = self.0.load().generation + 1;
        self.0.store(Arc::new(Authorities { generation, verifier }));
    }
}

/// The chain that a client has shown.
pub(in crate::listen) struct ShownChain {
    own: CertificateDer<'static>,
    others: Vec<CertificateDer<'static>>,
    trust: Arc<ClientTrust>,
    outcome: Mutex<Outcome>,
}

/// What verifying the chain gave.
#[derive(Clone, Copy)]
struct Outcome {
    /// The authorities that it was verified with; none before the first time.
    generation: u64,
    trusted: bool,
    /// The outcome holds from this moment …
    from: Timestamp,
    /// … and until this one, at which another certificate of the chain expires.
    until: Timestamp,
}

impl ShownChain {
    /// `chain`: the client's own certificate first.
    pub(in crate::listen) fn new(
        chain: &[CertificateDer<'_>],
        trust: Arc<ClientTrust>,
    ) -> Option<Self> {
        let (own, others) = chain.split_first()?;
        let outcome =
            Outcome { generation: 0, trusted: false, from: Timestamp::MAX, until: Timestamp::MIN };
        Some(Self {
            own: own.clone().into_owned(),
            others: others.iter().map(|der| der.clone().into_owned()).collect(),
            trust,
            outcome: Mutex::new(outcome),
        })
    }

    fn verify(&self, authorities: &Authorities, now: Timestamp) -> Outcome {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let verified = authorities.verifier.verify_client_cert(&self.own, &self.others, time);
        if let Err(error) = &verified {
            tracing::debug!(%error, "the chain of an open connection is no longer trusted");
        }
        // Certificates that become valid count too: another path may begin.
        let all = std::iter::once(&self.own).chain(&self.others);
        let moments = all
            .filter_map(|der| Validity::of(der))
            .flat_map(|validity| [validity.not_before, after(validity.not_after)]);
        Outcome {
            generation: authorities.generation,
            trusted: verified.is_ok(),
            from: now,
            until: moments.filter(|moment| *moment > now).min().unwrap_or(Timestamp::MAX),
        }
    }
}

/// The last second belongs to the validity.
fn after(last: Timestamp) -> Timestamp {
    last.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX)
}

impl ShownCertificate for ShownChain {
    fn der(&self) -> &[u8] {
        &self.own
    }

    fn is_trusted(&self, now: Timestamp) -> bool {
        let authorities = self.trust.0.load();
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = outcome.generation == authorities.generation
            && outcome.from <= now
            && now < outcome.until;
        if !holds {
            *outcome = self.verify(&authorities, now);
        }
        outcome.trusted
    }
}

impl fmt::Debug for ShownChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShownChain")
            .field("certificates", &(1 + self.others.len()))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
