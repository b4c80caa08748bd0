//! The stable reasons of errors, and obstacles that people can read.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// The stable reason of an error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant),+ }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the name in the API, without the enum's prefix.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Returns the reason with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
            }
        }
    };
}

reasons! {
    /// The request is invalid.
    InvalidArgument = "INVALID_ARGUMENT",
    /// The caller's credential is missing or invalid.
    CallerUnauthenticated = "CALLER_UNAUTHENTICATED",
    /// Policy does not permit it.
    PolicyDenied = "POLICY_DENIED",
    /// The tenant, associate or grant does not exist.
    ResourceNotFound = "RESOURCE_NOT_FOUND",
    /// The resource exists already.
    AlreadyExists = "ALREADY_EXISTS",
    /// The resource was changed since it was read.
    VersionConflict = "VERSION_CONFLICT",
    /// The application is not in the gateway's configuration.
    ApplicationNotConfigured = "APPLICATION_NOT_CONFIGURED",
    /// An administrator of the gateway stopped the tenant.
    TenantDisabled = "TENANT_DISABLED",
    /// No system user token is stored.
    SystemUserNotEnrolled = "SYSTEM_USER_NOT_ENROLLED",
    /// SuperOffice rejected the system user for an unspecified reason.
    SystemUserRejected = "SYSTEM_USER_REJECTED",
    /// The person must consent (again).
    ConsentRequired = "CONSENT_REQUIRED",
    /// The consent's state is forged, used or expired.
    ConsentInvalid = "CONSENT_INVALID",
    /// The person or tenant is not the expected one.
    SubjectMismatch = "SUBJECT_MISMATCH",
    /// The customer or the vendor revoked the application's access.
    ApplicationRevoked = "APPLICATION_REVOKED",
    /// The application's authorization on the tenant expired.
    ApplicationExpired = "APPLICATION_EXPIRED",
    /// An administrator of the tenant must approve the application again.
    ApplicationNeedsReapproval = "APPLICATION_NEEDS_REAPPROVAL",
    /// SuperOffice rejected the application's client secret or private key.
    ApplicationCredentialRefused = "APPLICATION_CREDENTIAL_REFUSED",
    /// This type of associate cannot sign in.
    AssociateCannotSignIn = "ASSOCIATE_CANNOT_SIGN_IN",
    /// Several associates match.
    AssociateAmbiguous = "ASSOCIATE_AMBIGUOUS",
    /// The tenant's state does not allow calls.
    TenantNotRunning = "TENANT_NOT_RUNNING",
    /// The caller exceeds its quota.
    CallerQuotaExceeded = "CALLER_QUOTA_EXCEEDED",
    /// The platform's call budget is used up.
    UpstreamBudgetExhausted = "UPSTREAM_BUDGET_EXHAUSTED",
    /// Policy does not permit this path.
    PathNotAllowed = "PATH_NOT_ALLOWED",
    /// The tenant still has grants.
    TenantHasGrants = "TENANT_HAS_GRANTS",
    /// The gateway is stopping.
    ShuttingDown = "SHUTTING_DOWN",
    /// The client reads a watch too slowly.
    WatchTooSlow = "WATCH_TOO_SLOW",
    /// The feature is not implemented.
    Unimplemented = "UNIMPLEMENTED",
    /// The request or the response is too large.
    ResponseTooLarge = "RESPONSE_TOO_LARGE",
    /// The deadline has passed.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// SuperOffice is unreachable or reports that it is unavailable.
    UpstreamUnavailable = "UPSTREAM_UNAVAILABLE",
    /// SuperOffice returned an invalid response.
    UpstreamInvalidResponse = "UPSTREAM_INVALID_RESPONSE",
    /// The gateway's store cannot be read or written.
    StoreUnavailable = "STORE_UNAVAILABLE",
    /// The key that encrypts a record is unavailable.
    KeyUnavailable = "KEY_UNAVAILABLE",
    /// A bug or a corrupt record.
    Internal = "INTERNAL",
}

impl Reason {
    /// Returns the gRPC status code (`google.rpc.Code`). For `TenantNotRunning`, that of a temporary state.
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

    /// Returns the HTTP status.
    #[must_use]
    pub fn http_status(self) -> u16 {
        // HTTP has its own status for content that is too large.
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

/// A reason why an operation is impossible, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The stable reason.
    pub reason: Reason,
    /// The problem, for people.
    pub message: String,
    /// The remedy, for people.
    pub mend: String,
}
