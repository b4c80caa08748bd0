//! Authentication and authorization of callers.
//!
//! A use case takes a proof of authorization that only this module creates: [`Authorized`], or [`Rights`] for calls
//! that only explain. [`Access`] handles each call: it authenticates the caller ([`Authenticator`]), counts the call
//! against the quotas, and asks [`Policies`] for each action. Two exceptions skip this: the command line, whose user
//! can read the store and the keys anyway, and loopback without caller identity.

mod action;
mod authorized;
mod authorizer;
mod caller;
mod identity;
mod policy;
mod quota;
mod requested_call;
mod resource;

#[cfg(fuzzing)]
pub(crate) use self::identity::{IssuerKeySet, caller_id};
pub use self::{
    action::{
        Action, ActionName, CallWebApiAsSystemUser, CallWebApiAsUser, CheckExternally,
        IssueAccessToken, IssueSystemTicket, ManageGrants, ManageTenants, On, ReadAssociates,
        ReadAudit, ReadGrants, ReadTenants, RevealApplicationToken,
    },
    authorized::{AccessError, Authorized, PolicyIds, Rights},
    authorizer::{Access, AdmissionError, Rules},
    caller::{Caller, CallerMethod},
    identity::{
        AuthenticationError, Authenticator, Bearer, CertificateProblem, CertificateRules,
        InspectedKeys, IssuerKeys, IssuerRules, NameKind, NamePattern, NoUsableKeys,
        PeerCertificate, PresentedCredentials,
    },
    policy::{
        Explanation, MAX_DECISIONS, MAX_ENTITIES, MAX_POLICIES, MAX_POLICY_FILE_BYTES, NearMiss,
        POLICY_SCHEMA, Policies, PolicyDecision, PolicyError, PolicyExcerpt, PolicyProblem,
        PolicySet, PolicyText, WebApiCall,
    },
    quota::{OverQuota, QuotaKind, QuotaRules, Rate},
    requested_call::{ActorChoice, AuthorizedCall, CallError, RequestedCall, is_web_api_method},
    resource::{Gateway, GrantResource, Resource, ResourceError, ResourceKind},
};
