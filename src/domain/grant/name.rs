//! Names of grants: one spelling each, refused unless they render back to themselves.

use std::{fmt, str::FromStr, sync::Arc};

use crate::domain::{
    ApplicationId, TenantName, TenantSelector, application_name,
    name::{NameError, WILDCARD, bounded},
};

/// What stands between the name of a tenant and the id of its grant.
const COLLECTION: &str = "/grants/";

/// The longest id, in bytes.
const MAX_ID_BYTES: usize = 64;

/// The id of a grant: made here, random, says nothing of the person.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(Arc<str>);

impl GrantId {
    /// A new id, made of 16 random bytes.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(random)).into())
    }

    /// The id as it stands in names.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GrantId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let fits = !text.is_empty() && text.len() <= MAX_ID_BYTES && text != WILDCARD;
        if fits && text.bytes().all(legal) { Ok(Self(text.into())) } else { Err(NameError::Grant) }
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `applications/{application}/tenants/{tenant}/grants/{grant}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantName {
    /// The tenant whose user consented.
    pub tenant: TenantName,
    /// Which of its grants.
    pub grant: GrantId,
}

impl FromStr for GrantName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let GrantSelector { tenant, grant } = text.parse()?;
        let application = tenant.application.ok_or(NameError::Wildcard)?;
        Ok(Self { tenant: TenantName { application, tenant: tenant.tenant }, grant })
    }
}

impl fmt::Display for GrantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{COLLECTION}{}", self.tenant, self.grant)
    }
}

impl fmt::Debug for GrantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A grant's name in which the application may be left open (`applications/-/tenants/Cust12345/grants/…`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantSelector {
    /// The tenant, through whichever application.
    pub tenant: TenantSelector,
    /// Which of its grants.
    pub grant: GrantId,
}

impl FromStr for GrantSelector {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (tenant, grant) = bounded(text)
            .and_then(|text| text.split_once(COLLECTION))
            .ok_or(NameError::GrantName)?;
        let tenant = tenant.parse().map_err(|error| match error {
            NameError::TenantName => NameError::GrantName,
            other => other,
        })?;
        Ok(Self { tenant, grant: grant.parse()? })
    }
}

/// Whose grants a list or a watch is over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GrantScope {
    /// Those of all tenants of an application.
    Application(ApplicationId),
    /// Those of one tenant.
    Tenant(TenantName),
}

impl GrantScope {
    /// Whether it holds this grant.
    #[must_use]
    pub fn contains(&self, name: &GrantName) -> bool {
        match self {
            Self::Application(application) => *application == name.tenant.application,
            Self::Tenant(tenant) => *tenant == name.tenant,
        }
    }
}

impl FromStr for GrantScope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains("/tenants/") {
            text.parse().map(Self::Tenant)
        } else {
            application_name(text).map(Self::Application)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_exactly_a_name_is_refused() {
        let tenant = "applications/a/tenants/Cust1";
        for (text, error) in [
            (String::new(), NameError::GrantName),
            (tenant.to_owned(), NameError::GrantName),
            ("tenants/Cust1/grants/g".to_owned(), NameError::GrantName),
            ("applications/A/tenants/Cust1/grants/g".to_owned(), NameError::Application),
            ("applications/a/tenants/Cust/grants/g".to_owned(), NameError::Tenant),
            (format!("{tenant}/grants/"), NameError::Grant),
            (format!("{tenant}/grants/-"), NameError::Grant),
            (format!("{tenant}/grants/g "), NameError::Grant),
            (format!("{tenant}/grants/g/"), NameError::Grant),
            (format!("{tenant}/grants/å"), NameError::Grant),
            (format!("{tenant}/grants/g/grants/g"), NameError::Grant),
            (format!("{tenant}/grants/{}", "g".repeat(65)), NameError::Grant),
            (format!("{tenant}/grants/{}", "g".repeat(1 << 20)), NameError::GrantName),
        ] {
            assert_eq!(text.parse::<GrantSelector>(), Err(error), "{text:.80}");
            assert_eq!(text.parse::<GrantName>(), Err(error), "{text:.80}");
        }
        let open = "applications/-/tenants/Cust1/grants/g";
        assert!(open.parse::<GrantSelector>().is_ok());
        assert_eq!(open.parse::<GrantName>(), Err(NameError::Wildcard));
    }

    #[test]
    fn a_scope_is_an_application_or_a_tenant_and_holds_what_is_below_it() {
        let grant: GrantName = "applications/a/tenants/Cust1/grants/g".parse().unwrap();
        for (scope, holds) in [
            ("applications/a", true),
            ("applications/b", false),
            ("applications/a/tenants/Cust1", true),
            ("applications/a/tenants/Cust2", false),
        ] {
            assert_eq!(scope.parse::<GrantScope>().unwrap().contains(&grant), holds, "{scope}");
        }
        for text in ["", "applications/-", "applications/-/tenants/Cust1", "x/tenants/Cust1"] {
            assert!(text.parse::<GrantScope>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_new_id_is_a_legal_one(random: [u8; 16]) {
            let id = GrantId::new(random);
            prop_assert_eq!(id.as_str().parse(), Ok(id.clone()));
        }

        #[test]
        fn every_accepted_name_renders_back(text in "(applications/a/tenants/Cust1/grants/)?\\PC{0,70}") {
            if let Ok(name) = text.parse::<GrantName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn every_legal_name_is_accepted(
            text in "applications/[a-z][a-z0-9-]{0,62}/tenants/Cust[0-9]{1,10}/grants/[A-Za-z0-9_][A-Za-z0-9_-]{0,63}",
        ) {
            prop_assert_eq!(text.parse::<GrantName>().unwrap().to_string(), text);
        }
    }
}
