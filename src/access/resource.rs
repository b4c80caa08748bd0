//! The resources that policies decide on, identified by their names.

use std::{fmt, str::FromStr, sync::Arc};

use crate::domain::{
    ApplicationId, AssociateId, Grant, GrantName, NameError, PersonSelector, TenantName,
    application_name,
};

/// The gateway as a whole: the resource above all applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway;

/// Maximum length of a grant id, in bytes.
const MAX_GRANT_BYTES: usize = 64;

/// The grant id in a decision if the person has no grant yet.
const NO_GRANT: &str = "-";

/// The grant id in a question about any person's grant. No resource name has it.
const ANY_GRANT: &str = "*";

/// A resource that policies decide on. Its text form is its name and its entity id in policies; the gateway's is
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

/// A person's grant, with the attributes that policies can read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GrantResource {
    /// The tenant.
    pub tenant: TenantName,
    /// The grant id, or `-` if there is no grant yet.
    pub grant: Arc<str>,
    /// The person's associate id; 0 if the request does not name it.
    pub associate_id: i32,
    /// The person's user principal name; empty if the request does not name it.
    pub user_principal_name: Arc<str>,
}

impl GrantResource {
    /// Returns the resource of an existing grant, with its attributes.
    #[must_use]
    pub fn from_grant(grant: &Grant) -> Self {
        Self {
            tenant: grant.name.tenant.clone(),
            grant: grant.name.grant.as_str().into(),
            associate_id: grant.associate_id.get(),
            user_principal_name: grant.user_principal_name.as_str().into(),
        }
    }

    /// Returns a resource that stands for any person's grant in the tenant. It has no attributes. It answers whether
    /// the caller could use any grant, including future ones.
    #[must_use]
    pub fn any_grant(tenant: &TenantName) -> Self {
        let (tenant, grant) = (tenant.clone(), ANY_GRANT.into());
        Self { tenant, grant, associate_id: 0, user_principal_name: "".into() }
    }

    /// Returns whether this is [`Self::any_grant`].
    pub(super) fn is_any_grant(&self) -> bool {
        &*self.grant == ANY_GRANT
    }

    /// Returns the resource for a request without a stored grant, with the attributes that the request names.
    #[must_use]
    pub fn requested(tenant: &TenantName, person: &PersonSelector) -> Self {
        let (mut grant, mut associate_id, mut user_principal_name) = (NO_GRANT, 0, "");
        match person {
            PersonSelector::Associate(id) => associate_id = id.get(),
            PersonSelector::UserPrincipalName(name) => user_principal_name = name,
            PersonSelector::Grant(id) => grant = id.as_str(),
        }
        let (tenant, grant) = (tenant.clone(), grant.into());
        Self { tenant, grant, associate_id, user_principal_name: user_principal_name.into() }
    }

    /// Returns the name of the grant, if the id names one.
    #[must_use]
    pub fn name(&self) -> Option<GrantName> {
        let grant = self.grant.parse().ok()?;
        Some(GrantName { tenant: self.tenant.clone(), grant })
    }

    /// Returns whether this is the resource of `grant` with unchanged attributes.
    #[must_use]
    pub fn matches_grant(&self, grant: &Grant) -> bool {
        *self == Self::from_grant(grant)
    }

    /// Returns whether the grant has this name.
    #[must_use]
    pub fn has_name(&self, name: &GrantName) -> bool {
        self.tenant == name.tenant && *self.grant == *name.grant.as_str()
    }

    /// Returns the person that the request named.
    #[must_use]
    pub fn person(&self) -> Option<PersonSelector> {
        if let Some(name) = self.name() {
            return Some(PersonSelector::Grant(name.grant));
        }
        if let Some(id) = AssociateId::new(self.associate_id) {
            return Some(PersonSelector::Associate(id));
        }
        let name = &*self.user_principal_name;
        (!name.is_empty()).then(|| PersonSelector::UserPrincipalName(name.to_owned()))
    }
}

/// A kind of resource. Each kind is an entity type of the policy schema.
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
    /// Returns the entity type in policies.
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

/// The reason why a text does not name a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// The text is not the name of an application or a tenant.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The text does not end with a valid grant id.
    #[error("a grant id is 1 to 64 of A-Z, a-z, 0-9, _ and -")]
    Grant,
}

impl Resource {
    /// Returns the kind of the resource.
    #[must_use]
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Gateway => ResourceKind::Gateway,
            Self::Application(_) => ResourceKind::Application,
            Self::Tenant(_) => ResourceKind::Tenant,
            Self::Grant(_) => ResourceKind::Grant,
        }
    }

    /// Returns the tenant that the resource is or belongs to.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::Tenant(name) => Some(name),
            Self::Grant(grant) => Some(&grant.tenant),
            Self::Gateway | Self::Application(_) => None,
        }
    }
}

/// Parses a resource name. The empty name is also the gateway. A parsed grant has a name and no attributes.
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
    fn every_kind_of_name_formats_back_to_itself() {
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
    fn a_requested_resource_has_only_the_attributes_of_the_request() {
        let tenant: TenantName = "applications/a/tenants/Cust1".parse().unwrap();
        let name: GrantName = format!("{tenant}/grants/g1").parse().unwrap();
        for (person, id, associate, user) in [
            (PersonSelector::Associate(AssociateId::new(5).unwrap()), "-", 5, ""),
            (PersonSelector::UserPrincipalName("a@b.example".to_owned()), "-", 0, "a@b.example"),
            (PersonSelector::Grant(name.grant), "g1", 0, ""),
        ] {
            let resource = GrantResource::requested(&tenant, &person);
            let told = (&*resource.grant, resource.associate_id, &*resource.user_principal_name);
            assert_eq!(told, (id, associate, user));
            assert_eq!(resource.person(), Some(person));
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_formats_back_to_itself(text in "(applications/[a-z-]{0,3})?(/tenants/(Cust)?[0-9]{0,3})?(/grants/[a-z_-]{0,3})?") {
            if let Ok(resource) = text.parse::<Resource>() {
                prop_assert!(resource.to_string() == text || text.is_empty());
            }
        }
    }
}
