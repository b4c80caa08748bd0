//! Callers: the internal workloads that ask, and people at the command line.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;

use crate::{
    domain::{ANONYMOUS, COMMAND_LINE_PREFIX, CallerOnRecord},
    ports::ShownCertificate,
};

/// How a caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallerMethod {
    /// It did not: `callers.insecure_anonymous`, on loopback only.
    Anonymous,
    /// By being able to read the store and the keyring.
    CommandLine,
    /// By a signed token (RFC 7519).
    Jwt,
    /// By the certificate of its connection (RFC 8446, section 4.4.2).
    Mtls,
}

impl CallerMethod {
    const ALL: [Self; 4] = [Self::Anonymous, Self::CommandLine, Self::Jwt, Self::Mtls];

    /// Its name in policies and in the audit trail.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::CommandLine => "cli",
            Self::Jwt => "jwt",
            Self::Mtls => "mtls",
        }
    }
}

/// Who is calling. Cheap to clone.
#[derive(Clone)]
pub struct Caller(Arc<Identity>);

/// What was proven of a caller.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// Names the caller in policies and in the audit trail.
    pub(super) id: Arc<str>,
    pub(super) method: CallerMethod,
    /// Of a token: the `iss` claim.
    pub(super) issuer: Option<Arc<str>>,
    /// The id in the certificate that was shown beside a token.
    pub(super) certificate: Option<Arc<str>>,
    /// The proof does not hold from then on.
    pub(super) valid_until: Option<Timestamp>,
    /// Of a token: the key that signed it, as a number that dies with the key.
    pub(super) key: Option<u64>,
    /// The certificate of the connection, if the proof needs it.
    pub(super) shown: Option<Arc<dyn ShownCertificate>>,
}

impl Identity {
    /// An identity of which nothing was proven.
    fn unproven(id: impl Into<Arc<str>>, method: CallerMethod) -> Self {
        Self {
            id: id.into(),
            method,
            issuer: None,
            certificate: None,
            valid_until: None,
            key: None,
            shown: None,
        }
    }
}

impl Caller {
    /// The caller of `callers.insecure_anonymous`.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::unproven(ANONYMOUS, CallerMethod::Anonymous)
    }

    /// Whoever calls where no credential is looked at, or none is good: nobody may do anything.
    #[must_use]
    pub fn nobody() -> Self {
        static NOBODY: LazyLock<Caller> =
            LazyLock::new(|| Caller::unproven("", CallerMethod::Anonymous));
        NOBODY.clone()
    }

    /// Whether it is [`Self::nobody`].
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.0.id.is_empty()
    }

    /// A person at the command line, by the name the operating system gives.
    #[must_use]
    pub fn command_line(os_user: &str) -> Self {
        Self::unproven(format!("{COMMAND_LINE_PREFIX}{os_user}"), CallerMethod::CommandLine)
    }

    /// Somebody of whom a person asks what policy would say. A question, not a proof: only for explaining policies,
    /// never for a call.
    #[must_use]
    pub fn supposed(id: &str, method: CallerMethod, issuer: Option<&str>) -> Self {
        let mut identity = Identity::unproven(id, method);
        identity.issuer = issuer.map(Arc::from);
        Self::proven(identity)
    }

    /// What is kept of it, for when it has gone.
    #[must_use]
    pub fn on_record(&self) -> CallerOnRecord {
        CallerOnRecord {
            id: self.id().to_owned(),
            method: self.method().as_str().to_owned(),
            issuer: self.issuer().map(str::to_owned),
        }
    }

    /// Who called once, for asking policy again; none if it is not known how it proved who it is.
    pub(super) fn from_record(record: &CallerOnRecord) -> Option<Self> {
        let mut methods = CallerMethod::ALL.into_iter();
        let method = methods.find(|method| method.as_str() == record.method)?;
        Some(Self::supposed(&record.id, method, record.issuer.as_deref()))
    }

    fn unproven(id: impl Into<Arc<str>>, method: CallerMethod) -> Self {
        Self::proven(Identity::unproven(id, method))
    }

    pub(super) fn proven(identity: Identity) -> Self {
        Self(Arc::new(identity))
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.0
    }

    /// The id that policies and the audit trail name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The same, to be kept.
    #[must_use]
    pub fn shared_id(&self) -> Arc<str> {
        Arc::clone(&self.0.id)
    }

    /// How it proved who it is.
    #[must_use]
    pub fn method(&self) -> CallerMethod {
        self.0.method
    }

    /// Who vouches for it, if a token does: the `iss` claim.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.0.issuer.as_deref()
    }

    /// The same, to be kept.
    #[must_use]
    pub fn shared_issuer(&self) -> Option<Arc<str>> {
        self.0.issuer.clone()
    }

    /// The id in the certificate that was shown beside a token.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        self.0.certificate.as_deref()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_comes_back_from_its_record_as_policies_see_it() {
        for method in CallerMethod::ALL {
            for issuer in [None, Some("https://login.example.com")] {
                let record = Caller::supposed("sync", method, issuer).on_record();
                let caller = Caller::from_record(&record).unwrap();
                assert_eq!(
                    (caller.id(), caller.method(), caller.issuer()),
                    ("sync", method, issuer)
                );
            }
        }
        let unknown = CallerOnRecord { method: String::new(), ..Caller::anonymous().on_record() };
        assert!(Caller::from_record(&unknown).is_none());
    }
}
