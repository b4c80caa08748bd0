//! The ports: traits through which use cases reach the outside. Adapters implement them.
//!
//! Rules for a port: it is small. A look-up that finds nothing returns `Ok(None)`. An error type has few variants that
//! a use case can branch on; their details go to the log only. Time, randomness and ids are parameters. To add a port,
//! write the trait and document what its implementations guarantee; for a store, also extend the contract tests in
//! `store::contract`, which every implementation must pass.

mod associate_queries;
mod audit;
mod body_copy;
mod clock;
mod consents;
mod digest;
mod grants;
mod json_web_key;
mod jwks_source;
mod leases;
mod meter;
mod oauth;
mod presented_certificate;
mod random;
mod reload;
mod sealer;
mod signature;
mod signer;
mod store;
mod superoffice;
mod web_api;
mod webhook;

pub use self::{
    associate_queries::{
        ASSOCIATES_PER_PAGE, AssociatePage, AssociateQueries, MAX_ASSOCIATES_BY_ID, ParsedRows,
    },
    audit::{
        AuditGroup, AuditHeadStore, AuditPosition, AuditSigner, AuditSpace, AuditStore, ChainedRow,
        EventBlock, StoredHeads, StoredSegment, TimeSpan,
    },
    body_copy::{BodyCopy, BodyParts, CopyBudget, MAX_COPY_BYTES},
    clock::{CLOCK_LEEWAY, Clock, ManualClock, Moment, SystemClock, is_ahead},
    consents::{BeginConsentResult, ConsentLimits, ConsentStore, MAX_CONSENT_ATTEMPTS},
    digest::Digest,
    grants::{
        GrantStore, RefreshIntent, RefreshOutcome, RotationOutcome, StoredConsent,
        StoredRefreshToken,
    },
    json_web_key::{JsonWebKey, JsonWebKeySet},
    jwks_source::{JwksError, JwksSource},
    leases::{HeldLease, Lease, LeaseStore},
    meter::{Counter, Meter, RequestMeter},
    oauth::{
        AuthorizationRequest, CodeExchange, CodeResponse, ExchangeError, OAuth, RefreshResponse,
        VerifiedAccess,
    },
    presented_certificate::PresentedCertificate,
    random::Random,
    reload::{ChangeDetector, Reloadable, explain_read_error},
    sealer::{PageTokens, SealError, SealedField, Sealer},
    signature::{PublicKey, SignatureVerifier},
    signer::{SignError, Signer},
    store::{
        ApplicationBinding, ApplicationStore, Deletion, StoreError, StoreHealth, StoredToken,
        TenantStore, TicketStore,
    },
    superoffice::{
        IssuedTicket, ProbeResult, Refusal, SystemUserLogin, TenantStatusSource, TicketProbe,
        UpstreamError,
    },
    web_api::{
        ApiBody, ApiCredential, ApiQuery, ApiRequest, ApiResponse, CallOutcome, Replay, SendError,
        WebApiHost,
    },
    webhook::{NotificationStore, NotificationVerifier, SignedNotification, WebhookVerifier},
};
