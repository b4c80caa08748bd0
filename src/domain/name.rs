//! Resource names (google.aip.dev/122): ASCII. A name is accepted only if it formats back to itself.

use std::{fmt, str::FromStr, sync::Arc};

/// Maximum length of a name that is parsed, in bytes. The longest tenant name is `applications/{63}/tenants/Cust{10}`.
const MAX_NAME_BYTES: usize = 256;

/// The wildcard for any application in reads and requests for credentials (google.aip.dev/159).
pub(super) const WILDCARD: &str = "-";

/// The reason why a resource name is rejected. The message describes the expected form and does not contain the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is not an application id.
    #[error("an application id is a lower-case letter followed by at most 62 of a-z, 0-9 and -")]
    Application,
    /// It is not a tenant id.
    #[error("a tenant id is Cust followed by 1 to 10 digits, such as Cust12345")]
    Tenant,
    /// It is not the name of an application.
    #[error("expected the form applications/{{application}}, such as applications/crm-sync")]
    ApplicationName,
    /// It is not the id of an associate.
    #[error("an associate id is a number from 1 to 2147483647, without leading zeros")]
    Associate,
    /// It is not the name of an associate.
    #[error(
        "expected the form applications/{{application}}/tenants/{{tenant}}/associates/{{associate}}, such as applications/crm-sync/tenants/Cust12345/associates/5"
    )]
    AssociateName,
    /// It is not the id of a grant.
    #[error("a grant id is 1 to 64 of A-Z, a-z, 0-9, _ and -")]
    Grant,
    /// It is not the name of a grant.
    #[error(
        "expected the form applications/{{application}}/tenants/{{tenant}}/grants/{{grant}}, as returned by ListGrants"
    )]
    GrantName,
    /// It is not the name of a tenant.
    #[error(
        "expected the form applications/{{application}}/tenants/{{tenant}}, such as applications/crm-sync/tenants/Cust12345"
    )]
    TenantName,
    /// It has `applications/-` although the call needs one application.
    #[error(
        "this call needs one application: applications/- is allowed only for reads and for issuing credentials"
    )]
    Wildcard,
}

/// The gateway's id for a SuperOffice application (one client id in one environment): `[a-z][a-z0-9-]{0,62}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplicationId(Arc<str>);

impl ApplicationId {
    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ApplicationId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if first && rest && text.len() <= 63 {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Application)
        }
    }
}

impl fmt::Display for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tenant id of SuperOffice: `Cust` and 1 to 10 digits.
///
/// Leading zeros are significant (`Cust00000` is not `Cust0`), so the number of digits is stored. Small and `Copy`,
/// because it is hashed on the hot path and is in the keys of all caches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextIdentifier(
    /// The number of digits in the highest byte, and the number, which is below 10^10, in the others.
    u64,
);

/// The position of the number of digits in a [`ContextIdentifier`].
const DIGITS_SHIFT: u32 = 56;

impl FromStr for ContextIdentifier {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = text.strip_prefix("Cust").ok_or(NameError::Tenant)?;
        let count = u8::try_from(digits.len()).map_err(|_| NameError::Tenant)?;
        if !(1..=10).contains(&count) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError::Tenant);
        }
        let number: u64 = digits.parse().map_err(|_| NameError::Tenant)?;
        Ok(Self((u64::from(count) << DIGITS_SHIFT) | number))
    }
}

impl fmt::Display for ContextIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [digits, ..] = self.0.to_be_bytes();
        let number = self.0 & ((1 << DIGITS_SHIFT) - 1);
        write!(f, "Cust{number:0width$}", width = usize::from(digits))
    }
}

impl fmt::Debug for ContextIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `applications/{application}/tenants/{tenant}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantName {
    /// The application.
    pub application: ApplicationId,
    /// The tenant id.
    pub tenant: ContextIdentifier,
}

impl FromStr for TenantName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse()? {
            TenantSelector { application: Some(application), tenant } => {
                Ok(Self { application, tenant })
            }
            TenantSelector { application: None, .. } => Err(NameError::Wildcard),
        }
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "applications/{}/tenants/{}", self.application, self.tenant)
    }
}

impl fmt::Debug for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a tenant whose application may be a wildcard (`applications/-/tenants/Cust12345`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSelector {
    /// The application; `None` for `-`, which selects among the applications that the caller is permitted to use.
    pub application: Option<ApplicationId>,
    /// The tenant id.
    pub tenant: ContextIdentifier,
}

impl FromStr for TenantSelector {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (application, tenant) = bounded(text)
            .and_then(|text| text.strip_prefix("applications/"))
            .and_then(|rest| rest.split_once("/tenants/"))
            .ok_or(NameError::TenantName)?;
        let application = if application == WILDCARD { None } else { Some(application.parse()?) };
        Ok(Self { application, tenant: tenant.parse()? })
    }
}

/// The scope of a list: the whole gateway (the empty name) or one application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListScope {
    /// The whole gateway.
    Gateway,
    /// One application.
    Application(ApplicationId),
}

impl FromStr for ListScope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            Ok(Self::Gateway)
        } else {
            application_name(text).map(Self::Application)
        }
    }
}

/// Parses `applications/{application}`.
///
/// # Errors
/// Returns an error if the name does not have this form.
pub fn application_name(text: &str) -> Result<ApplicationId, NameError> {
    let id = bounded(text)
        .and_then(|text| text.strip_prefix("applications/"))
        .ok_or(NameError::ApplicationName)?;
    if id == WILDCARD { Err(NameError::Wildcard) } else { id.parse() }
}

pub(super) fn bounded(text: &str) -> Option<&str> {
    (text.len() <= MAX_NAME_BYTES).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tenant_name_formats_back_to_itself() {
        for name in ["applications/crm-sync/tenants/Cust12345", "applications/a/tenants/Cust00000"]
        {
            assert_eq!(name.parse::<TenantName>().unwrap().to_string(), name);
        }
    }

    /// The name is a key of several caches that have an entry for each tenant: see the budget of memory in
    /// docs/development/performance.md.
    #[test]
    fn a_tenant_name_takes_24_bytes() {
        assert_eq!(size_of::<TenantName>(), 24);
    }

    #[test]
    fn tenant_ids_are_ordered_by_length_and_then_by_number() {
        let id = |text: &str| text.parse::<ContextIdentifier>().unwrap();
        let ordered = ["Cust0", "Cust9", "Cust00", "Cust01", "Cust99", "Cust9999999999"];
        assert!(ordered.map(id).is_sorted());
        assert_ne!(id("Cust0"), id("Cust00"));
    }

    #[test]
    fn what_is_not_exactly_a_name_is_refused() {
        for name in [
            "",
            "applications",
            "applications/",
            "applications//tenants/Cust1",
            "applications/A/tenants/Cust1",
            "applications/1a/tenants/Cust1",
            "applications/a/tenants/",
            "applications/a/tenants/Cust",
            "applications/a/tenants/cust1",
            "applications/a/tenants/Cust1/",
            "applications/a/tenants/Cust12345678901",
            "applications/a/tenants/Cust+1",
            "applications/a/tenants/Cust１",
            "applications/a/tenants/Cust1\n",
            " applications/a/tenants/Cust1",
            "applications/å/tenants/Cust1",
            "/applications/a/tenants/Cust1",
        ] {
            assert!(name.parse::<TenantSelector>().is_err(), "{name:?}");
        }
        assert!("applications/-/tenants/Cust1".parse::<TenantSelector>().is_ok());
        assert_eq!("applications/-/tenants/Cust1".parse::<TenantName>(), Err(NameError::Wildcard));
        let huge = format!("applications/{}/tenants/Cust1", "a".repeat(1 << 20));
        assert_eq!(huge.parse::<TenantName>(), Err(NameError::TenantName));
    }

    proptest! {
        #[test]
        fn every_accepted_name_renders_back(text in "\\PC{0,80}") {
            if let Ok(name) = text.parse::<TenantName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn every_legal_name_is_accepted(text in "applications/[a-z][a-z0-9-]{0,62}/tenants/Cust[0-9]{1,10}") {
            prop_assert_eq!(text.parse::<TenantName>().unwrap().to_string(), text);
        }
    }
}
