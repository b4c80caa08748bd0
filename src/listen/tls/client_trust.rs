//! Checks whether the client certificates of open connections are still trusted.
//!
//! A chain is verified during the handshake. Later, a CA may be removed from `client_ca_file`, or a certificate of the
//! chain may expire. Then the chain is verified again, once for each connection.

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
use crate::ports::PresentedCertificate;

/// The current client CAs, for open connections.
pub(in crate::listen) struct ClientTrust(ArcSwap<Authorities>);

struct Authorities {
    /// Incremented with each change.
    generation: u64,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientTrust {
    pub(super) fn new(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self(ArcSwap::from_pointee(Authorities { generation: 1, verifier }))
    }

    /// Replaces the CAs.
    pub(super) fn replace(&self, verifier: Arc<dyn ClientCertVerifier>) {
        let generation = self.0.load().generation + 1;
        self.0.store(Arc::new(Authorities { generation, verifier }));
    }
}

/// The certificate chain of a client.
pub(in crate::listen) struct ClientChain {
    own: CertificateDer<'static>,
    others: Vec<CertificateDer<'static>>,
    trust: Arc<ClientTrust>,
    verification: Mutex<Verification>,
}

/// The cached result of verifying the chain.
#[derive(Clone, Copy)]
struct Verification {
    /// The generation of the CAs used; 0 before the first verification.
    generation: u64,
    trusted: bool,
    /// The first moment at which the result is valid.
    from: Timestamp,
    /// The end of the result's validity: the next moment at which a certificate of the chain expires or becomes valid.
    until: Timestamp,
}

impl ClientChain {
    /// Returns `None` for an empty chain. `chain` has the client's own certificate first.
    pub(in crate::listen) fn new(
        chain: &[CertificateDer<'_>],
        trust: Arc<ClientTrust>,
    ) -> Option<Self> {
        let (own, others) = chain.split_first()?;
        let outcome = Verification {
            generation: 0,
            trusted: false,
            from: Timestamp::MAX,
            until: Timestamp::MIN,
        };
        Some(Self {
            own: own.clone().into_owned(),
            others: others.iter().map(|der| der.clone().into_owned()).collect(),
            trust,
            verification: Mutex::new(outcome),
        })
    }

    fn verify(&self, authorities: &Authorities, now: Timestamp) -> Verification {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let verified = authorities.verifier.verify_client_cert(&self.own, &self.others, time);
        if let Err(error) = &verified {
            tracing::debug!(%error, "the client certificate chain of an open connection is not trusted");
        }
        // The start of a certificate's validity counts too: it may open another path.
        let all = std::iter::once(&self.own).chain(&self.others);
        let moments = all
            .filter_map(|der| Validity::from_der(der))
            .flat_map(|validity| [validity.not_before, end_of_validity(validity.not_after)]);
        Verification {
            generation: authorities.generation,
            trusted: verified.is_ok(),
            from: now,
            until: moments.filter(|moment| *moment > now).min().unwrap_or(Timestamp::MAX),
        }
    }
}

/// Returns the first moment after the validity, which includes its last second.
fn end_of_validity(last: Timestamp) -> Timestamp {
    last.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX)
}

impl PresentedCertificate for ClientChain {
    fn der(&self) -> &[u8] {
        &self.own
    }

    fn is_trusted(&self, now: Timestamp) -> bool {
        let authorities = self.trust.0.load();
        let mut outcome = self.verification.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = outcome.generation == authorities.generation
            && outcome.from <= now
            && now < outcome.until;
        if !holds {
            *outcome = self.verify(&authorities, now);
        }
        outcome.trusted
    }
}

impl fmt::Debug for ClientChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientChain")
            .field("certificates", &(1 + self.others.len()))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
