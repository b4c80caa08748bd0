//! Callers: internal workloads that call the gateway, and people at the command line.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;

use crate::{
    domain::{ANONYMOUS, AuditText, AuditedCaller, COMMAND_LINE_PREFIX, CallerRecord},
    ports::PresentedCertificate,
};

/// The method by which a caller was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallerMethod {
    /// No authentication: `callers.insecure_anonymous`, on loopback only.
    Anonymous,
    /// The command line, whose user can read the store and the keyring.
    CommandLine,
    /// A signed token (RFC 7519).
    Jwt,
    /// The client certificate of the TLS connection (RFC 8446, section 4.4.2).
    Mtls,
}

impl CallerMethod {
    const ALL: [Self; 4] = [Self::Anonymous, Self::CommandLine, Self::Jwt, Self::Mtls];

    /// Returns the name in policies and in the audit trail.
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

/// A caller: authenticated, or named without a credential (see [`Self::unverified`]). Cheap to clone.
#[derive(Clone)]
pub struct Caller(Arc<HashedIdentity>);

/// An identity and the hash of the parts that quotas and decisions depend on. A call needs the hash several times.
struct HashedIdentity {
    identity: Identity,
    hash: u64,
}

/// The identity of a caller. Only authentication sets the fields of a credential.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// The id in policies and in the audit trail.
    pub(super) id: Arc<str>,
    pub(super) method: CallerMethod,
    /// The `iss` claim of the token, if a token was used.
    pub(super) issuer: Option<Arc<str>>,
    /// The id in the client certificate that was presented together with a token.
    pub(super) certificate: Option<Arc<str>>,
    /// The time from which the credential is no longer valid.
    pub(super) valid_until: Option<Timestamp>,
    /// The number of the key that signed the token, if a token was used. A replaced key gets another number.
    pub(super) key: Option<u64>,
    /// The certificate of the connection, if the identity depends on it.
    pub(super) connection_certificate: Option<Arc<dyn PresentedCertificate>>,
}

impl Identity {
    /// Creates an identity that no credential proves.
    fn unverified(id: impl Into<Arc<str>>, method: CallerMethod) -> Self {
        Self {
            id: id.into(),
            method,
            issuer: None,
            certificate: None,
            valid_until: None,
            key: None,
            connection_certificate: None,
        }
    }
}

impl Caller {
    /// Returns the caller of `callers.insecure_anonymous`.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::from_identity(Identity::unverified(ANONYMOUS, CallerMethod::Anonymous))
    }

    /// Returns the caller that stands for a failed or missing authentication. It may do nothing.
    #[must_use]
    pub fn unauthenticated() -> Self {
        static UNAUTHENTICATED: LazyLock<Caller> = LazyLock::new(|| {
            Caller::from_identity(Identity::unverified("", CallerMethod::Anonymous))
        });
        UNAUTHENTICATED.clone()
    }

    /// Returns whether this is [`Self::unauthenticated`].
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        self.identity().id.is_empty()
    }

    /// Returns a person at the command line, named by the operating system user.
    #[must_use]
    pub fn command_line(os_user: &str) -> Self {
        let id = format!("{COMMAND_LINE_PREFIX}{os_user}");
        Self::from_identity(Identity::unverified(id, CallerMethod::CommandLine))
    }

    /// Returns a caller without a credential, for decisions of the policy that authenticate nobody: explanations, and
    /// operations that an authenticated caller began. A call is never admitted with it.
    #[must_use]
    pub fn unverified(id: &str, method: CallerMethod, issuer: Option<&str>) -> Self {
        let mut identity = Identity::unverified(id, method);
        identity.issuer = issuer.map(Arc::from);
        Self::from_identity(identity)
    }

    /// Returns a record of the caller that can be stored.
    #[must_use]
    pub fn to_record(&self) -> CallerRecord {
        CallerRecord {
            id: self.id().to_owned(),
            method: self.method().as_str().to_owned(),
            issuer: self.issuer().map(str::to_owned),
        }
    }

    /// Returns the caller as audit events name it.
    #[must_use]
    pub fn audited(&self) -> AuditedCaller {
        AuditedCaller {
            id: self.shared_id().into(),
            method: self.method().as_str().into(),
            issuer: self.identity().issuer.clone().map(AuditText::from).unwrap_or_default(),
        }
    }

    /// Restores a recorded caller, to evaluate the policies again. Returns `None` if the recorded method is unknown.
    pub(super) fn from_record(record: &CallerRecord) -> Option<Self> {
        let mut methods = CallerMethod::ALL.into_iter();
        let method = methods.find(|method| method.as_str() == record.method)?;
        Some(Self::unverified(&record.id, method, record.issuer.as_deref()))
    }

    pub(super) fn from_identity(identity: Identity) -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let hash = KEY.hash_one((&identity.id, identity.method, &identity.issuer));
        Self(Arc::new(HashedIdentity { identity, hash }))
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Returns a hash of id, method and issuer, under a key of this process.
    pub(super) fn identity_hash(&self) -> u64 {
        self.0.hash
    }

    /// Returns the id in policies and in the audit trail.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.identity().id
    }

    /// Returns the same value as a shared string.
    #[must_use]
    pub fn shared_id(&self) -> Arc<str> {
        Arc::clone(&self.identity().id)
    }

    /// Returns the method by which the caller was authenticated.
    #[must_use]
    pub fn method(&self) -> CallerMethod {
        self.identity().method
    }

    /// Returns the `iss` claim of the caller's token, if a token was used.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.identity().issuer.as_deref()
    }

    /// Returns the id in the client certificate that was presented together with a token.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        self.identity().certificate.as_deref()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restores_a_recorded_caller_with_id_method_and_issuer() {
        for method in CallerMethod::ALL {
            for issuer in [None, Some("https://login.example.com")] {
                let record = Caller::unverified("sync", method, issuer).to_record();
                let caller = Caller::from_record(&record).unwrap();
                assert_eq!(
                    (caller.id(), caller.method(), caller.issuer()),
                    ("sync", method, issuer)
                );
            }
        }
        let unknown = CallerRecord { method: String::new(), ..Caller::anonymous().to_record() };
        assert!(Caller::from_record(&unknown).is_none());
    }
}
