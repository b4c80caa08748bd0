//! Web API calls that callers request, and the proof that such a call is authorized.

use http::Method;

use super::{
    AccessError, ActionName, Authorized, CallWebApiAsSystemUser, CallWebApiAsUser, Caller,
    GrantResource, PolicyIds, Resource,
};
use crate::domain::{ApiPath, TenantName};

/// Returns whether a method is allowed for Web API calls (RFC 9110 section 9.3, RFC 5789). Only the upper-case spelling
/// is allowed, because policies compare methods exactly while some servers ignore case. `CONNECT` asks for a tunnel,
/// and `TRACE` would return the credential in the response.
#[must_use]
pub fn is_web_api_method(method: &Method) -> bool {
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    methods.contains(method)
}

/// A Web API call that a caller requests. Exactly the call that was authorized is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedCall<R> {
    /// The tenant, or a person's grant in it.
    pub target: R,
    /// The HTTP method.
    pub method: Method,
    /// The path.
    pub path: ApiPath,
}

/// The user that the caller chose to act as.
#[derive(Debug, Clone)]
pub enum ActorChoice {
    /// The system user.
    SystemUser,
    /// The person who gave this grant.
    Person(GrantResource),
    /// The caller chose no user. The call acts as the only user that policy permits.
    Unspecified {
        /// The tenant's grants. Grants that no policy covers may be missing.
        candidates: Vec<GrantResource>,
    },
}

/// Proof that a call is authorized, and the user that it acts as.
#[derive(Debug, Clone)]
pub enum AuthorizedCall {
    /// The call acts as the system user.
    SystemUser(Authorized<CallWebApiAsSystemUser, RequestedCall<TenantName>>),
    /// The call acts as a person.
    Person(Authorized<CallWebApiAsUser, RequestedCall<GrantResource>>),
}

/// The reason why a call is not authorized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The caller chose no user, and policy permits several.
    #[error("policy lets the caller act as several users")]
    AmbiguousActor,
    /// Policy denies the call, or a quota is exceeded.
    #[error("{refused}")]
    Refused {
        /// The action that was decided on.
        action: ActionName,
        /// The resource that was decided on.
        resource: Resource,
        /// The reason for the refusal.
        refused: AccessError,
    },
}

impl AuthorizedCall {
    /// Returns the caller.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        match self {
            Self::SystemUser(authorized) => authorized.caller(),
            Self::Person(authorized) => authorized.caller(),
        }
    }

    /// Returns the action that was decided on.
    #[must_use]
    pub fn action(&self) -> ActionName {
        match self {
            Self::SystemUser(_) => ActionName::CallWebApiAsSystemUser,
            Self::Person(_) => ActionName::CallWebApiAsUser,
        }
    }

    /// Returns the policies that permit the call.
    #[must_use]
    pub fn policy_ids(&self) -> &PolicyIds {
        match self {
            Self::SystemUser(authorized) => authorized.policy_ids(),
            Self::Person(authorized) => authorized.policy_ids(),
        }
    }

    /// Returns the resource that was decided on: the tenant or the grant.
    #[must_use]
    pub fn resource(&self) -> Resource {
        match self {
            Self::SystemUser(authorized) => authorized.resource().target.clone().into(),
            Self::Person(authorized) => authorized.resource().target.clone().into(),
        }
    }

    /// Returns the tenant whose data is accessed.
    #[must_use]
    pub fn tenant(&self) -> &TenantName {
        match self {
            Self::SystemUser(authorized) => &authorized.resource().target,
            Self::Person(authorized) => &authorized.resource().target.tenant,
        }
    }

    /// Returns the HTTP method.
    #[must_use]
    pub fn method(&self) -> &Method {
        match self {
            Self::SystemUser(authorized) => &authorized.resource().method,
            Self::Person(authorized) => &authorized.resource().method,
        }
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &ApiPath {
        match self {
            Self::SystemUser(authorized) => &authorized.resource().path,
            Self::Person(authorized) => &authorized.resource().path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_upper_case_web_api_methods() {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            assert!(is_web_api_method(&method.parse().unwrap()), "{method}");
        }
        for method in ["get", "Delete", "TRACE", "trace", "CONNECT", "MERGE", "X-Y"] {
            assert!(!is_web_api_method(&method.parse().unwrap()), "{method}");
        }
    }
}
