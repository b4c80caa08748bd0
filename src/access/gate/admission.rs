//! Letting callers in: who is calling, and how often it may.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{Access, Callers};
use crate::{
    access::{
        Caller, CertificateProblem, CertificateRules, Identification, OverQuota, PeerCertificate,
        Presented, Unidentified, quota::Source,
    },
    domain::TenantName,
    ports::ShownCertificate,
};

/// Why a call is not let in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotAdmitted {
    /// No credential, or none that proves anything. The cause is for the log.
    #[error("{0}")]
    Unauthenticated(String),
    /// The certificate of the connection is no longer trusted.
    #[error("the client certificate is no longer trusted")]
    Distrusted,
    /// The keys of the token's issuer cannot be had, so nobody can tell. The cause is for the log.
    #[error("{cause}")]
    KeysUnavailable {
        /// For the log.
        cause: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many refusals before this one.
    #[error(transparent)]
    Slowed(#[from] OverQuota),
    /// Too many calls of a caller who is known.
    #[error("{over}")]
    OverQuota {
        /// Who it is.
        caller: Caller,
        /// Which quota is used up.
        over: OverQuota,
    },
}

impl Access {
    /// Who is calling. Counts the call, and a refusal against where it comes from.
    ///
    /// # Errors
    /// If the caller does not prove who it is, or calls too often.
    pub async fn admit(
        &self,
        presented: &Presented<'_>,
        from: IpAddr,
    ) -> Result<Caller, NotAdmitted> {
        let caller = match &self.callers {
            Callers::Everybody(caller) => caller.clone(),
            Callers::Proven(identification) => {
                match identification.remembered(presented, self.clock.now()) {
                    Some(caller) => caller,
                    None => self.prove(identification, presented, from).await?,
                }
            }
        };
        match self.quotas.call(&caller) {
            Ok(()) => Ok(caller),
            Err(over) => Err(NotAdmitted::OverQuota { caller, over }),
        }
    }

    async fn prove(
        &self,
        identification: &Identification,
        presented: &Presented<'_>,
        from: IpAddr,
    ) -> Result<Caller, NotAdmitted> {
        let attempt = match self.quotas.attempt(Source::Address(from)) {
            Ok(attempt) => attempt,
            Err(over) => {
                let claim = identification.claimed(presented);
                let reserved = claim.and_then(|claim| self.quotas.attempt_of_claimed(from, &claim));
                reserved.ok_or(over)?
            }
        };
        let identified = identification.identify(presented, from, self.clock.now()).await;
        if let (Ok(_), Some(claim)) = (&identified, identification.claimed(presented)) {
            self.quotas.verified(from, &claim);
        }
        match identified {
            // While an issuer is out, nobody is to blame.
            Ok(_) | Err(Unidentified::KeysUnavailable { others_known: false, .. }) => {
                attempt.excuse();
            }
            Err(_) => {}
        }
        identified.map_err(|unidentified| match unidentified {
            Unidentified::Refused(cause) => NotAdmitted::Unauthenticated(cause),
            Unidentified::Distrusted => NotAdmitted::Distrusted,
            Unidentified::KeysUnavailable { cause, retry_after, .. } => {
                NotAdmitted::KeysUnavailable { cause, retry_after }
            }
        })
    }

    /// Counts a call in a tenant.
    ///
    /// # Errors
    /// If the caller calls too often there.
    pub fn admit_to(&self, caller: &Caller, tenant: &TenantName) -> Result<(), OverQuota> {
        self.quotas.call_in(caller, tenant)
    }

    /// Reads the certificate of a connection.
    ///
    /// # Errors
    /// If it does not name exactly one caller.
    pub fn read_certificate(
        &self,
        shown: Arc<dyn ShownCertificate>,
    ) -> Result<PeerCertificate, CertificateProblem> {
        match &self.callers {
            Callers::Everybody(_) => PeerCertificate::shown(shown, &CertificateRules::default()),
            Callers::Proven(proven) => proven.read_certificate(shown),
        }
    }

    /// Reads what a proxy tells of the certificate of its peer.
    ///
    /// # Errors
    /// As [`PeerCertificate::reported`].
    pub fn reported_certificate(
        &self,
        name: &str,
        pem: &str,
    ) -> Result<Option<PeerCertificate>, CertificateProblem> {
        match &self.callers {
            Callers::Everybody(_) => {
                PeerCertificate::reported(name, pem, &CertificateRules::default())
            }
            Callers::Proven(proven) => proven.reported_certificate(name, pem),
        }
    }
}
