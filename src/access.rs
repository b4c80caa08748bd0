//! Who is calling, and what it may do.
//!
//! The only way into a use case is an [`Authorized`] witness, and only this room makes one. Today there are two
//! sets of rules: everything for the anonymous caller on loopback, and everything for a person at the command
//! line, who can read the store and the keys anyway. Caller credentials and Cedar policies take their place here.

mod action;
mod caller;
mod identity;
mod witness;

#[cfg(fuzzing)]
pub(crate) use self::identity::{IssuerKeySet, caller_id};
pub use self::{
    action::{
        Action, ActionName, Gateway, IssueSystemTicket, ManageTenants, On, ReadTenants, Resource,
        RevealApplicationToken,
    },
    caller::{Caller, CallerMethod},
    identity::{
        Bearer, CertificateProblem, Identification, IssuerKeys, IssuerRules, PeerCertificate,
        Presented, Unidentified,
    },
    witness::{Access, Authorized, Denied},
};
