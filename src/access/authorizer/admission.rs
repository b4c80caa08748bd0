//! Admission of calls: authentication and the caller quota.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{Access, Callers};
use crate::{
    access::{
        AuthenticationError, Authenticator, Caller, CertificateProblem, CertificateRules,
        OverQuota, PeerCertificate, PresentedCredentials, quota::Source,
    },
    domain::TenantName,
    ports::PresentedCertificate,
};

/// The reason why a call is not admitted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdmissionError {
    /// The call has no valid credential. The cause is for the log.
    #[error("{0}")]
    Unauthenticated(String),
    /// The certificate of the connection is no longer trusted.
    #[error("the client certificate is no longer trusted")]
    CertificateNotTrusted,
    /// The issuer's keys are unavailable, so the token cannot be verified. The cause is for the log.
    #[error("{cause}")]
    KeysUnavailable {
        /// The cause, for the log.
        cause: String,
        /// The time to wait before the next attempt.
        retry_after: Duration,
    },
    /// Too many calls from this source were refused before.
    #[error(transparent)]
    TooManyRefusals(#[from] OverQuota),
    /// An authenticated caller exceeds its quota.
    #[error("{over}")]
    OverQuota {
        /// The caller.
        caller: Caller,
        /// The exceeded quota.
        over: OverQuota,
    },
}

impl AdmissionError {
    /// Returns the caller, if its credential was valid.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        if let Self::OverQuota { caller, .. } = self { Some(caller) } else { None }
    }

    /// Returns whether the call is a failed attempt of its client. Without the issuer's keys, the credential may be
    /// valid.
    #[must_use]
    pub fn is_failed_attempt(&self) -> bool {
        !matches!(self, Self::KeysUnavailable { .. } | Self::OverQuota { .. })
    }
}

impl Access {
    /// Authenticates the caller and counts the call. A refusal is counted against the client's address.
    ///
    /// # Errors
    /// Returns an error if authentication fails or a quota is exceeded.
    pub async fn admit(
        &self,
        presented: &PresentedCredentials<'_>,
        from: IpAddr,
    ) -> Result<Caller, AdmissionError> {
        let caller = match &self.callers {
            Callers::Fixed(caller) => caller.clone(),
            Callers::Authenticated(authenticator) => {
                match authenticator.cached(presented, self.clock.now()) {
                    Some(caller) => caller,
                    // Boxed, so that the future of a call with a known token is small.
                    None => {
                        Box::pin(self.verify_credentials(authenticator, presented, from)).await?
                    }
                }
            }
        };
        match self.quotas.count_call(&caller) {
            Ok(()) => Ok(caller),
            Err(over) => Err(AdmissionError::OverQuota { caller, over }),
        }
    }

    async fn verify_credentials(
        &self,
        authenticator: &Authenticator,
        presented: &PresentedCredentials<'_>,
        from: IpAddr,
    ) -> Result<Caller, AdmissionError> {
        let attempt = match self.quotas.attempt(Source::Address(from)) {
            Ok(attempt) => attempt,
            Err(over) => {
                let claim = authenticator.claimed_caller(presented);
                let reserved =
                    claim.and_then(|claim| self.quotas.attempt_from_reserve(from, &claim));
                reserved.ok_or(over)?
            }
        };
        let identified = authenticator.authenticate(presented, from, self.clock.now()).await;
        if let (Ok(_), Some(claim)) = (&identified, authenticator.claimed_caller(presented)) {
            self.quotas.record_verified(from, &claim);
        }
        match identified {
            // An outage of the issuer is not the client's fault, so it is not counted as a refusal.
            Ok(_) | Err(AuthenticationError::KeysUnavailable { has_other_keys: false, .. }) => {
                attempt.refund();
            }
            Err(_) => {}
        }
        identified.map_err(|unidentified| match unidentified {
            AuthenticationError::Refused(cause) => AdmissionError::Unauthenticated(cause),
            AuthenticationError::CertificateNotTrusted => AdmissionError::CertificateNotTrusted,
            AuthenticationError::KeysUnavailable { cause, retry_after, .. } => {
                AdmissionError::KeysUnavailable { cause, retry_after }
            }
        })
    }

    /// Counts a call against the quota of caller and tenant.
    ///
    /// # Errors
    /// Returns an error if the caller exceeds that quota.
    pub fn count_tenant_call(&self, caller: &Caller, tenant: &TenantName) -> Result<(), OverQuota> {
        self.quotas.count_tenant_call(caller, tenant)
    }

    /// Reads the certificate of a connection.
    ///
    /// # Errors
    /// Returns an error if the certificate does not name exactly one caller.
    pub fn read_certificate(
        &self,
        shown: Arc<dyn PresentedCertificate>,
    ) -> Result<PeerCertificate, CertificateProblem> {
        match &self.callers {
            Callers::Fixed(_) => {
                PeerCertificate::from_connection(shown, &CertificateRules::default())
            }
            Callers::Authenticated(authenticator) => authenticator.read_certificate(shown),
        }
    }

    /// Reads the client certificate that a proxy reports for its peer.
    ///
    /// # Errors
    /// See [`PeerCertificate::forwarded`].
    pub fn forwarded_certificate(
        &self,
        name: &str,
        pem: &str,
    ) -> Result<Option<PeerCertificate>, CertificateProblem> {
        match &self.callers {
            Callers::Fixed(_) => {
                PeerCertificate::forwarded(name, pem, &CertificateRules::default())
            }
            Callers::Authenticated(authenticator) => authenticator.forwarded_certificate(name, pem),
        }
    }
}
