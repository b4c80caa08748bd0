//! The use cases of the gateway.
//!
//! This module uses no SQL, no protobuf, and no HTTP client or server, only the vocabulary types of the crate `http`
//! (methods, headers, status codes). It calls the traits in [`ports`](crate::ports). The inbound adapters call it with
//! an [`Authorized`](crate::access::Authorized) witness, which proves that policy permits the call.

mod applications;
mod associate_hints;
mod associates;
mod audit_export;
mod audit_log;
mod changes;
mod compact_time;
mod consent;
mod counters;
mod credential_cache;
mod egress;
mod error;
mod explain;
mod impersonation;
mod runtime;
mod scan_budget;
mod single_flight;
mod state_hints;
mod status;
mod stopped;
mod tenant_directory;
mod tenant_search;
mod tenants;
mod tickets;
mod web_api;

pub(crate) use self::error::{CHECK_SUPEROFFICE_FIRST, READ_BEFORE_RETRY};
pub use self::{
    applications::{Application, Applications, History},
    associate_hints::AssociateHints,
    associates::{
        AssociateListPage, AssociatePosition, AssociateQuery, AssociateReadOptions,
        AssociateReading, AssociateRules, AssociateSnapshots, Associates, InvalidAssociatePosition,
    },
    audit_export::{Export, ExportBatch, ExportCursor, ExportError, Gap, InvalidCursor},
    audit_log::{AuditLog, AuditPage, AuditQuery},
    changes::TenantChanges,
    consent::{
        AuthorizationResponse, AuthorizedConsentScope, BegunConsent, CallbackOutcome,
        CallbackRequest, CompletedConsent, ConsentEntry, ConsentLinkState, ConsentRedirect,
        ConsentRequest, ConsentStores, Consents, GrantListener, InvalidConsentCause,
        PermissionLost, PresentedState, Reauthorize, ReturnTo, StillPermitted,
    },
    counters::Counters,
    egress::{
        ACT_AS, Egress, EgressRequest, GatewayHeaders, InvalidGatewayHeader, IssuedProxyCredential,
        LinkRewriter, is_act_as, method_override, not_forwarded, strip_request, strip_response,
    },
    error::{BrokerError, ConsentReason, SignInMismatch},
    explain::Explanations,
    impersonation::{
        AssociateTypeLookup, AuthorizedGrantScope, GrantEvent, GrantEventReceiver, GrantPage,
        GrantStores, Impersonation, IssuedAccessToken,
    },
    runtime::Runtime,
    state_hints::{NotificationRejected, StateChange, StateHints, UsedNotifications},
    status::{StaleStatuses, StatusEvent, StatusFeed, Statuses, TooSlow},
    stopped::StoppedTenants,
    tenant_directory::TenantDirectory,
    tenant_search::{TenantPage, TenantSearch},
    tenants::{Page, StopListener, Tenants, resolve_application},
    tickets::{IssuedSystemTicket, TicketRules, TicketStores, Tickets},
    web_api::{
        CallRate, ProgressCallback, SendProgress, WebApi, WebApiCallContext, WebApiResponse,
    },
};

#[cfg(test)]
mod fakes;
