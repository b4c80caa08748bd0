//! Use cases: what the gateway does, in the order in which it does it.
//!
//! Knows no HTTP, no SQL and no protobuf: it asks [`ports`](crate::ports), and is asked by the inbound adapters
//! with an [`Authorized`](crate::access::Authorized) witness in hand.

mod applications;
mod associate_hints;
mod associates;
mod audit;
mod changes;
mod counters;
mod directory;
mod error;
mod explain;
mod flights;
mod looking;
mod status;
mod tenant_search;
mod tenants;
mod tickets;
mod web_api;

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
        Verification, Weight, certify_public_keys, serve_chain,
    },
    changes::TenantChanges,
    counters::{Counter, Counters},
    directory::Directory,
    error::BrokerError,
    explain::Explanations,
    status::{StatusEvent, StatusFeed, Statuses, TooSlow},
    tenant_search::{TenantPage, TenantSearch},
    tenants::{Page, Tenants, choose_enrolled},
    tickets::{HandedOutTicket, TicketRules, TicketStores, Tickets},
    web_api::{Asking, CallRate, WebApi},
};
