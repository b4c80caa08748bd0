//! Who is calling, and what it may do.
//!
//! The only way into a use case is a witness that this room makes: [`Authorized`], or [`Rights`] for what is only
//! explained. A call walks through [`Access`]: its credential is verified ([`Identification`]) and counted, then each
//! thing that it wants is decided by [`Policies`]. The command line, whose user can read the store and the keys
//! anyway, and loopback without caller identity are the exceptions that [`Access`] names.

mod action;
mod caller;
mod calling;
mod gate;
mod identity;
mod policy;
mod quota;
mod resource;
mod witness;

#[cfg(fuzzing)]
pub(crate) use self::identity::{IssuerKeySet, caller_id};
pub use self::{
    action::{
        Action, ActionName, CallWebApiAsSystemUser, CallWebApiAsUser, CheckExternally,
        IssueAccessToken, IssueSystemTicket, ManageGrants, ManageTenants, On, ReadAssociates,
        ReadAudit, ReadGrants, ReadTenants, RevealApplicationToken,
    },
    caller::{Caller, CallerMethod},
    calling::{Acting, Calling, Chosen, NotActing, is_calling_method},
    gate::{Access, NotAdmitted, Rules},
    identity::{
        Bearer, CertificateProblem, CertificateRules, Identification, InspectedKeys, IssuerKeys,
        IssuerRules, NameKind, NamePattern, NoKeys, PeerCertificate, Presented, Unidentified,
    },
    policy::{
        Excerpt, Explanation, MAX_DECISIONS, MAX_ENTITIES, MAX_POLICIES, MAX_POLICY_FILE_BYTES,
        NearMiss, POLICY_SCHEMA, Policies, PolicyError, PolicyProblem, PolicySet, PolicyText,
        Ruling, WebApiCall,
    },
    quota::{OverQuota, QuotaKind, QuotaRules, Rate},
    resource::{Gateway, GrantResource, Resource, ResourceError, ResourceKind},
    witness::{Authorized, PolicyIds, Refused, Rights},
};
