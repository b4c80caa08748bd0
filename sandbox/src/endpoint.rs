//! Names of the endpoints and API hosts.

use serde::{Deserialize, Serialize};

/// An endpoint of the simulated service: the unit of fault injection and of counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `GET /login/.well-known/openid-configuration`
    Discovery,
    /// `GET /login/.well-known/jwks`
    Jwks,
    /// `POST /Login/api/PartnerSystemUser/Authenticate`
    Authenticate,
    /// `GET` and `POST /login/common/oauth/authorize` and `/login/{tenant}/oauth/authorize`
    Authorize,
    /// `POST /login/common/oauth/tokens`
    Tokens,
    /// `POST /login/common/oauth/revoke`
    Revoke,
    /// `GET /login/logout`
    Logout,
    /// `GET /api/state/{tenant}`
    TenantStatus,
    /// `GET /{tenant}/api`
    ApiRoot,
    /// `GET /{tenant}/api/v1/User/currentPrincipal`
    CurrentPrincipal,
    /// `GET /{tenant}/api/v1/User/currentAssociate`
    CurrentAssociate,
    /// `GET /{tenant}/api/v1/User`
    UserList,
    /// `GET /{tenant}/api/v1/Role`
    RoleList,
    /// `GET` and `POST /{tenant}/api/v1/Archive/{provider}`
    Archive,
    /// `GET /{tenant}/api/v1/MDOList/{list}` and `POST /{tenant}/api/v1/Agents/MDO/GetList`
    MdoList,
    /// `POST /{tenant}/api/v1/Agents/Associate/{operation}`
    AssociateAgent,
    /// Operations that online partner applications may not use, such as `Agents/User/{operation}`.
    Restricted,
}

impl Endpoint {
    /// Every endpoint, in the order in which a client usually calls them.
    pub const ALL: [Self; 17] = [
        Self::Discovery,
        Self::Jwks,
        Self::Authenticate,
        Self::Authorize,
        Self::Tokens,
        Self::Revoke,
        Self::Logout,
        Self::TenantStatus,
        Self::ApiRoot,
        Self::CurrentPrincipal,
        Self::CurrentAssociate,
        Self::UserList,
        Self::RoleList,
        Self::Archive,
        Self::MdoList,
        Self::AssociateAgent,
        Self::Restricted,
    ];
}

/// One of the two API hosts a tenant can live on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ApiHost {
    /// The first API host.
    #[default]
    A,
    /// The second API host.
    B,
}
