//! The traits that use cases need of the outside.
//!
//! Rules of a port: small; a look-up that finds nothing is `Ok(None)`; errors are few kinds that a use case can
//! branch on, with a detail that goes to the log only; time, randomness and ids are passed in. To add one, write
//! the trait with the promises its implementations make, then (for stores) extend the contract tests in
//! `store::contract` that every implementation must pass.

mod audit;
mod body_copy;
mod clock;
mod consents;
mod digest;
mod grants;
mod jwks_source;
mod leases;
mod meter;
mod oauth;
mod people;
mod random;
mod reload;
mod sealer;
mod shown_certificate;
mod signature;
mod signer;
mod store;
mod superoffice;
mod web_api;
mod webhook;

pub use self::{
    audit::{
        AuditGroup, AuditPosition, AuditSigner, AuditStore, ChainedRow, KeptPublicKey, TimeSpan,
    },
    body_copy::{BodyCopy, BodyParts, COPIED_BYTES, CopyBudget},
    clock::{CLOCK_LEEWAY, Clock, ManualClock, Moment, SystemClock, is_ahead},
    consents::{Begun, ConsentLimits, ConsentStore, MAX_CONSENT_ATTEMPTS},
    digest::Digest,
    grants::{Consented, GrantStore, Intent, RefreshOutcome, Rotation, StoredRefreshToken},
    jwks_source::{JwksError, JwksSource},
    leases::{HeldLease, Lease, LeaseStore},
    meter::Meter,
    oauth::{
        Access, AuthorizationRequest, CodeExchange, ExchangeError, OAuth, Refreshed, SignedIn,
    },
    people::{ASSOCIATES_A_PAGE, AssociatePage, MAX_ASSOCIATES_BY_ID, PeopleCalls, ReadRows},
    random::Random,
    reload::{Reloadable, Settling, why_unreadable},
    sealer::{PageTokens, SealError, SealedField, Sealer},
    shown_certificate::ShownCertificate,
    signature::{PublicKey, SignatureVerifier},
    signer::{SignError, Signer},
    store::{
        ApplicationBinding, ApplicationStore, Deletion, StoreError, StoreWatch, StoredToken,
        TenantStore, TicketStore,
    },
    superoffice::{
        IssuedTicket, Probe, Refusal, SystemUserLogin, TenantStatusSource, TicketProbe,
        UpstreamError,
    },
    web_api::{
        ApiBody, ApiCall, ApiCredential, ApiRequest, ApiResponse, Replay, SendError, Verdict,
        WebApiHost,
    },
    webhook::{NotificationStore, NotificationVerifier, SignedNotification, WebhookVerifier},
};
