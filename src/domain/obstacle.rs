//! The stable reasons of errors (CONTRACT section 4) and what they look like to people.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// Why something cannot be done: the stable part of every error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant),+ }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name on the wire, without the enum's prefix.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The reason of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
            }
        }
    };
}

reasons! {
    /// The request itself is wrong.
    InvalidArgument = "INVALID_ARGUMENT",
    /// No or bad caller credential.
    CallerUnauthenticated = "CALLER_UNAUTHENTICATED",
    /// Policy does not permit it.
    PolicyDenied = "POLICY_DENIED",
    /// The tenant, associate or grant does not exist.
    ResourceNotFound = "RESOURCE_NOT_FOUND",
    /// It exists already.
    AlreadyExists = "ALREADY_EXISTS",
    /// It changed since it was read.
    VersionConflict = "VERSION_CONFLICT",
    /// The application is not in the gateway's configuration.
    ApplicationNotConfigured = "APPLICATION_NOT_CONFIGURED",
    /// An administrator of the gateway stopped the tenant.
    TenantDisabled = "TENANT_DISABLED",
    /// No system user token is stored.
    SystemUserNotEnrolled = "SYSTEM_USER_NOT_ENROLLED",
    /// SuperOffice refused the system user for a reason of its own.
    SystemUserRejected = "SYSTEM_USER_REJECTED",
    /// The person must consent (again).
    ConsentRequired = "CONSENT_REQUIRED",
    /// The consent's state is forged, used or expired.
    ConsentInvalid = "CONSENT_INVALID",
    /// Another person or tenant than the one expected.
    SubjectMismatch = "SUBJECT_MISMATCH",
    /// The customer or the vendor revoked the application's access.
    ApplicationRevoked = "APPLICATION_REVOKED",
    /// The application's authorization on the tenant expired.
    ApplicationExpired = "APPLICATION_EXPIRED",
    /// An administrator of the tenant must approve the application again.
    ApplicationNeedsReapproval = "APPLICATION_NEEDS_REAPPROVAL",
    /// Our own client secret or private key was refused.
    ApplicationCredentialRefused = "APPLICATION_CREDENTIAL_REFUSED",
    /// This kind of associate cannot sign in.
    AssociateCannotSignIn = "ASSOCIATE_CANNOT_SIGN_IN",
    /// Several associates match.
    AssociateAmbiguous = "ASSOCIATE_AMBIGUOUS",
    /// The tenant's state does not allow calls.
    TenantNotRunning = "TENANT_NOT_RUNNING",
    /// The caller is over its rate.
    CallerQuotaExceeded = "CALLER_QUOTA_EXCEEDED",
    /// The platform's call budget is used up.
    UpstreamBudgetExhausted = "UPSTREAM_BUDGET_EXHAUSTED",
    /// Policy does not permit this path.
    PathNotAllowed = "PATH_NOT_ALLOWED",
    /// The tenant still has grants.
    TenantHasGrants = "TENANT_HAS_GRANTS",
    /// The gateway is stopping.
    ShuttingDown = "SHUTTING_DOWN",
    /// The reader of a watch did not keep up.
    WatchTooSlow = "WATCH_TOO_SLOW",
    /// Not built yet.
    Unimplemented = "UNIMPLEMENTED",
    /// Request or answer too large.
    ResponseTooLarge = "RESPONSE_TOO_LARGE",
    /// The deadline passed.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// SuperOffice cannot be reached or says it cannot serve.
    UpstreamUnavailable = "UPSTREAM_UNAVAILABLE",
    /// SuperOffice answered something that cannot be believed.
    UpstreamInvalidResponse = "UPSTREAM_INVALID_RESPONSE",
    /// Our own store cannot be read or written.
    StoreUnavailable = "STORE_UNAVAILABLE",
    /// The key that seals a record is not at hand.
    KeyUnavailable = "KEY_UNAVAILABLE",
    /// A bug or a corrupt record.
    Internal = "INTERNAL",
}

impl Reason {
    /// The number of the gRPC code that goes with it (`google.rpc.Code`), as CONTRACT section 4 has it; of a tenant
    /// that is not running, while that may end by itself.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::ResourceNotFound | Self::ApplicationNotConfigured => 5,
            Self::AlreadyExists => 6,
            Self::PolicyDenied | Self::PathNotAllowed => 7,
            Self::CallerQuotaExceeded | Self::UpstreamBudgetExhausted | Self::ResponseTooLarge => 8,
            Self::TenantDisabled
            | Self::SystemUserNotEnrolled
            | Self::SystemUserRejected
            | Self::ConsentRequired
            | Self::ConsentInvalid
            | Self::SubjectMismatch
            | Self::ApplicationRevoked
            | Self::ApplicationExpired
            | Self::ApplicationNeedsReapproval
            | Self::ApplicationCredentialRefused
            | Self::AssociateCannotSignIn
            | Self::AssociateAmbiguous
            | Self::TenantHasGrants => 9,
            Self::VersionConflict | Self::WatchTooSlow => 10,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::TenantNotRunning
            | Self::ShuttingDown
            | Self::UpstreamUnavailable
            | Self::UpstreamInvalidResponse
            | Self::StoreUnavailable
            | Self::KeyUnavailable => 14,
            Self::CallerUnauthenticated => 16,
        }
    }

    /// The HTTP status that goes with it (CONTRACT section 4, last line).
    #[must_use]
    pub fn http_status(self) -> u16 {
        // What is too large has a status of its own in HTTP.
        if self == Self::ResponseTooLarge {
            return 413;
        }
        match self.code() {
            3 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            9 => 412,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        }
    }
}

/// Why something cannot be done, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The stable part.
    pub reason: Reason,
    /// What is in the way, for people.
    pub message: String,
    /// What to do about it, for people.
    pub mend: String,
}
