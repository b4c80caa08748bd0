//! What policy decides on: the resources, by their names.

use std::{fmt, str::FromStr, sync::Arc};

use super::ActionName;
use crate::domain::{
    ApplicationId, AssociateId, Grant, GrantName, NameError, Subject, TenantName, application_name,
};

/// The gateway as a whole: the resource above all applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway;

/// Longest id of a grant.
const MAX_GRANT_BYTES: usize = 64;

/// The id of a grant where there is none yet (CONTRACT section 5).
const NO_GRANT: &str = "-";

/// The id of a grant of which is not known whose it is. No name has it.
const ANY_GRANT: &str = "*";

/// What policy decides on. Its text is the resource name, and the id of its entity in policies; the gateway's is
/// `gateway`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// The one gateway.
    Gateway,
    /// `applications/{application}`.
    Application(ApplicationId),
    /// `applications/{application}/tenants/{tenant}`.
    Tenant(TenantName),
    /// `applications/{application}/tenants/{tenant}/grants/{grant}`.
    Grant(GrantResource),
}

/// One person's consent, with what policies may ask about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GrantResource {
    /// Where it belongs.
    pub tenant: TenantName,
    /// Its id, or `-` where there is none yet.
    pub grant: Arc<str>,
    /// Whose it is; 0 if that was not asked for.
    pub associate_id: i32,
    /// Whose it is; empty if that was not asked for.
    pub user_principal_name: Arc<str>,
}

impl GrantResource {
    /// A grant that there is, with its own attributes.
    #[must_use]
    pub fn of(grant: &Grant) -> Self {
        Self {
            tenant: grant.name.tenant.clone(),
            grant: grant.name.grant.as_str().into(),
            associate_id: grant.associate_id.get(),
            user_principal_name: grant.user_principal_name.as_str().into(),
        }
    }

    /// Whoever's it is: for the question whether there is anybody at all whose grant, once there is one, a caller may
    /// use. It has no attributes.
    #[must_use]
    pub fn anybodys(tenant: &TenantName) -> Self {
        let (tenant, grant) = (tenant.clone(), ANY_GRANT.into());
        Self { tenant, grant, associate_id: 0, user_principal_name: "".into() }
    }

    /// Whether it is that of [`Self::anybodys`].
    pub(super) fn is_anybodys(&self) -> bool {
        &*self.grant == ANY_GRANT
    }

    /// Where there is no one grant, with what was asked for.
    #[must_use]
    pub fn absent(tenant: &TenantName, subject: &Subject) -> Self {
        let (mut grant, mut associate_id, mut user_principal_name) = (NO_GRANT, 0, "");
        match subject {
            Subject::Associate(id) => associate_id = id.get(),
            Subject::UserPrincipalName(name) => user_principal_name = name,
            Subject::Grant(name) => grant = name.grant.as_str(),
        }
        let (tenant, grant) = (tenant.clone(), grant.into());
        Self { tenant, grant, associate_id, user_principal_name: user_principal_name.into() }
    }

    /// The name of the grant, if it names one.
    #[must_use]
    pub fn name(&self) -> Option<GrantName> {
        let grant = self.grant.parse().ok()?;
        Some(GrantName { tenant: self.tenant.clone(), grant })
    }

    /// Whether it is this grant, and what policies may ask about it is still so.
    #[must_use]
    pub fn is_of(&self, grant: &Grant) -> bool {
        *self == Self::of(grant)
    }

    /// Whether it is this one.
    #[must_use]
    pub fn is(&self, name: &GrantName) -> bool {
        self.tenant == name.tenant && *self.grant == *name.grant.as_str()
    }

    /// What was asked for, in the same words again.
    #[must_use]
    pub fn subject(&self) -> Option<Subject> {
        if let Some(name) = self.name() {
            return Some(Subject::Grant(name));
        }
        if let Some(id) = AssociateId::new(self.associate_id) {
            return Some(Subject::Associate(id));
        }
        let name = &*self.user_principal_name;
        (!name.is_empty()).then(|| Subject::UserPrincipalName(name.to_owned()))
    }
}

/// The kinds of resource; each is an entity type of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResourceKind {
    /// The gateway.
    Gateway,
    /// An application.
    Application,
    /// A tenant of an application.
    Tenant,
    /// A person's consent on a tenant.
    Grant,
}

impl ResourceKind {
    /// Its entity type in policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::Application => "Application",
            Self::Tenant => "Tenant",
            Self::Grant => "Grant",
        }
    }
}

/// Why a text names no resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// Not the name of an application or a tenant.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not the id of a grant.
    #[error("a grant id is 1 to 64 of A-Z, a-z, 0-9, _ and -")]
    Grant,
}

impl Resource {
    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Gateway => ResourceKind::Gateway,
            Self::Application(_) => ResourceKind::Application,
            Self::Tenant(_) => ResourceKind::Tenant,
            Self::Grant(_) => ResourceKind::Grant,
        }
    }

    /// Whether a question about it leaves something open that policies may ask for: of a call method and path, or whose
    /// the grant is.
    pub(super) fn leaves_open(&self, action: ActionName) -> bool {
        action.has_context() || matches!(self, Self::Grant(grant) if grant.is_anybodys())
    }

    /// The tenant that it is or belongs to.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::Tenant(name) => Some(name),
            Self::Grant(grant) => Some(&grant.tenant),
            Self::Gateway | Self::Application(_) => None,
        }
    }
}

/// Reads a name as questions about policy give it. The empty name is the gateway too; of a grant nothing but its
/// name is known.
impl FromStr for Resource {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        if text.is_empty() || text == "gateway" {
            Ok(Self::Gateway)
        } else if let Some((tenant, grant)) = text.split_once("/grants/") {
            let tenant = tenant.parse()?;
            let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if grant.is_empty() || grant.len() > MAX_GRANT_BYTES || !grant.bytes().all(legal) {
                return Err(ResourceError::Grant);
            }
            let (grant, user_principal_name) = (grant.into(), "".into());
            Ok(Self::Grant(GrantResource { tenant, grant, associate_id: 0, user_principal_name }))
        } else if text.contains("/tenants/") {
            Ok(Self::Tenant(text.parse()?))
        } else {
            Ok(Self::Application(application_name(text)?))
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("gateway"),
            Self::Application(id) => write!(f, "applications/{id}"),
            Self::Tenant(name) => name.fmt(f),
            Self::Grant(grant) => write!(f, "{}/grants/{}", grant.tenant, grant.grant),
        }
    }
}

impl From<Gateway> for Resource {
    fn from(_: Gateway) -> Self {
        Self::Gateway
    }
}

impl From<ApplicationId> for Resource {
    fn from(id: ApplicationId) -> Self {
        Self::Application(id)
    }
}

impl From<TenantName> for Resource {
    fn from(name: TenantName) -> Self {
        Self::Tenant(name)
    }
}

impl From<GrantResource> for Resource {
    fn from(grant: GrantResource) -> Self {
        Self::Grant(grant)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_exactly_a_name_is_refused() {
        for name in [
            "Gateway",
            "gateway/",
            "applications/",
            "applications/-",
            "applications/-/tenants/Cust1",
            "applications/a/tenants/Cust1/",
            "applications/a/tenants/Cust1/grants",
            "applications/a/tenants/Cust1/grants/",
            "applications/a/tenants/Cust1/grants/x/y",
            "applications/a/tenants/Cust1/grants/x/grants/y",
            "applications/a/tenants/Cust1/grants/å",
            "applications/-/tenants/Cust1/grants/x",
            "applications/a/grants/x",
            " gateway",
        ] {
            assert!(name.parse::<Resource>().is_err(), "{name:?}");
        }
        let long = format!("applications/a/tenants/Cust1/grants/{}", "g".repeat(65));
        assert_eq!(long.parse::<Resource>(), Err(ResourceError::Grant));
    }

    #[test]
    fn every_kind_renders_back_to_itself() {
        for (name, kind) in [
            ("gateway", ResourceKind::Gateway),
            ("applications/a", ResourceKind::Application),
            ("applications/a/tenants/Cust1", ResourceKind::Tenant),
            ("applications/a/tenants/Cust1/grants/G_-9", ResourceKind::Grant),
            ("applications/a/tenants/Cust1/grants/-", ResourceKind::Grant),
        ] {
            let resource: Resource = name.parse().unwrap();
            assert_eq!((resource.to_string(), resource.kind()), (name.to_owned(), kind));
        }
        assert_eq!("".parse(), Ok(Resource::Gateway));
    }

    #[test]
    fn where_there_is_no_grant_what_was_asked_for_is_all_that_is_known() {
        let tenant: TenantName = "applications/a/tenants/Cust1".parse().unwrap();
        let name: GrantName = format!("{tenant}/grants/g1").parse().unwrap();
        for (subject, id, associate, user) in [
            (Subject::Associate(AssociateId::new(5).unwrap()), "-", 5, ""),
            (Subject::UserPrincipalName("a@b.example".to_owned()), "-", 0, "a@b.example"),
            (Subject::Grant(name), "g1", 0, ""),
        ] {
            let resource = GrantResource::absent(&tenant, &subject);
            let told = (&*resource.grant, resource.associate_id, &*resource.user_principal_name);
            assert_eq!(told, (id, associate, user));
            assert_eq!(resource.subject(), Some(subject));
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_renders_back(text in "(applications/[a-z-]{0,3})?(/tenants/(Cust)?[0-9]{0,3})?(/grants/[a-z_-]{0,3})?") {
            if let Ok(resource) = text.parse::<Resource>() {
                prop_assert!(resource.to_string() == text || text.is_empty());
            }
        }
    }
}
