//! Use cases: what the gateway does, in the order in which it does it.
//!
//! Knows no HTTP, no SQL and no protobuf: it asks [`ports`](crate::ports), and is asked by the inbound adapters
//! with an [`Authorized`](crate::access::Authorized) witness in hand.

mod applications;
mod associate_hints;
mod associates;
mod audit;
mod changes;
mod consent;
mod counters;
mod credentials;
mod directory;
mod egress;
mod error;
mod explain;
mod flights;
mod impersonation;
mod looking;
mod state_hints;
mod status;
mod stopped;
mod tenant_search;
mod tenants;
mod tickets;
mod web_api;

pub(crate) use self::error::{LOOK_FIRST, READ_FIRST};
pub use self::{
    applications::{Application, Applications, History},
    associate_hints::AssociateHints,
    associates::{
        AssociateListPage, AssociatePlace, AssociateQuery, AssociateRules, Associates, Look,
        NoPlace, Seen,
    },
    audit::{
        Attempts, AuditLog, AuditPage, AuditQuery, AuditUnavailable, Bell, COMMAND_CHAIN,
        CommandTrail, CursorRefused, Durability, Export, ExportBatch, ExportCursor, ExportError,
        Gap, Pending, Progress, QUEUE_CAPACITY, Retention, Trail, TrailPorts, TrailRules,
        Unwritten, Verification, Weight, certify_public_keys, serve_chain,
    },
    changes::TenantChanges,
    consent::{
        Answer, Arrival, Arrived, AskAgain, Asked, BegunConsent, ConsentRequest, ConsentStores,
        ConsentTaken, Consents, Departure, GrantListener, Link, NoLonger, ReturnTo, ShownState,
        StillPermitted, Way, WhyInvalid,
    },
    counters::{Counter, Counters},
    directory::Directory,
    egress::{
        ACT_AS, Egress, GatewayHeaders, InvalidGatewayHeader, Lent, Links, Sending, Sent,
        is_act_as, method_override, not_sent, strip_request, strip_response,
    },
    error::{BrokerError, Mismatch, WhyConsent},
    explain::Explanations,
    impersonation::{
        GrantEvent, GrantFeed, GrantPage, GrantStores, GrantsOf, HandedOutAccessToken,
        Impersonation, KindOf,
    },
    state_hints::{StateChange, StateHints, Unheard, UsedNotifications},
    status::{StaleStatuses, StatusEvent, StatusFeed, Statuses, TooSlow},
    stopped::StoppedTenants,
    tenant_search::{TenantPage, TenantSearch},
    tenants::{Page, StopListener, Tenants, choose_enrolled},
    tickets::{HandedOutTicket, TicketRules, TicketStores, Tickets},
    web_api::{Asking, CallRate, SendProgress, Used, WebApi},
};

#[cfg(test)]
mod fakes;
