//! Who is calling, and what it may do.
//!
//! The only way into a use case is an [`Authorized`] witness, and only this room makes one. Today there are two
//! sets of rules: everything for the anonymous caller on loopback, and everything for a person at the command
//! line, who can read the store and the keys anyway. Caller credentials and Cedar policies take their place here.

mod action;
mod caller;
mod policy;
mod resource;
mod witness;

pub use self::{
    action::{
        Action, ActionName, IssueSystemTicket, ManageTenants, On, ReadTenants,
        RevealApplicationToken,
    },
    caller::{Caller, CallerMethod},
    policy::{
        Excerpt, Explanation, MAX_DECISIONS, MAX_ENTITIES, MAX_POLICIES, MAX_POLICY_FILE_BYTES,
        NearMiss, POLICY_SCHEMA, Policies, PolicyError, PolicyProblem, PolicySet, PolicyText,
        Ruling, WebApiCall,
    },
    resource::{Gateway, GrantResource, Resource, ResourceError, ResourceKind},
    witness::{Access, Authorized, Denied},
};
