//! Resource names of associates. A name is accepted only if it formats back to itself.

use std::{fmt, str::FromStr};

use crate::domain::{
    TenantName, TenantSelector,
    name::{NameError, bounded},
};

/// The part of the name between tenant and associate id.
const COLLECTION: &str = "/associates/";

/// The id of an associate in its tenant: a positive int32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssociateId(i32);

impl AssociateId {
    /// Creates an id from a positive number.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }
}

impl FromStr for AssociateId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // Rust would also parse `+5` and `05`, which are other spellings of `5`.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let number = if digits { text.parse().ok() } else { None };
        number.and_then(Self::new).ok_or(NameError::Associate)
    }
}

impl fmt::Display for AssociateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// `applications/{application}/tenants/{tenant}/associates/{associate}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssociateName {
    /// The tenant.
    pub tenant: TenantName,
    /// The associate's id.
    pub associate: AssociateId,
}

impl FromStr for AssociateName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let AssociateSelector { tenant, associate } = text.parse()?;
        let application = tenant.application.ok_or(NameError::Wildcard)?;
        Ok(Self { tenant: TenantName { application, tenant: tenant.tenant }, associate })
    }
}

impl fmt::Display for AssociateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{COLLECTION}{}", self.tenant, self.associate)
    }
}

impl fmt::Debug for AssociateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of an associate whose application may be a wildcard (`applications/-/tenants/Cust12345/associates/5`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociateSelector {
    /// The tenant, with or without application.
    pub tenant: TenantSelector,
    /// The associate's id.
    pub associate: AssociateId,
}

impl FromStr for AssociateSelector {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (tenant, associate) = bounded(text)
            .and_then(|text| text.split_once(COLLECTION))
            .ok_or(NameError::AssociateName)?;
        let tenant = tenant.parse().map_err(|error| match error {
            NameError::TenantName => NameError::AssociateName,
            other => other,
        })?;
        Ok(Self { tenant, associate: associate.parse()? })
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
            (String::new(), NameError::AssociateName),
            (tenant.to_owned(), NameError::AssociateName),
            ("tenants/Cust1/associates/5".to_owned(), NameError::AssociateName),
            ("applications/A/tenants/Cust1/associates/5".to_owned(), NameError::Application),
            ("applications/a/tenants/Cust/associates/5".to_owned(), NameError::Tenant),
            (format!("{tenant}/associates/"), NameError::Associate),
            (format!("{tenant}/associates/0"), NameError::Associate),
            (format!("{tenant}/associates/-5"), NameError::Associate),
            (format!("{tenant}/associates/+5"), NameError::Associate),
            (format!("{tenant}/associates/05"), NameError::Associate),
            (format!("{tenant}/associates/5/"), NameError::Associate),
            (format!("{tenant}/associates/5 "), NameError::Associate),
            (format!("{tenant}/associates/５"), NameError::Associate),
            (format!("{tenant}/associates/2147483648"), NameError::Associate),
            (format!("{tenant}/associates/5/associates/5"), NameError::Associate),
            (format!("{tenant}/associates/{}", "9".repeat(1 << 20)), NameError::AssociateName),
        ] {
            assert_eq!(text.parse::<AssociateSelector>(), Err(error), "{text:.80}");
            assert_eq!(text.parse::<AssociateName>(), Err(error), "{text:.80}");
        }
        let open = "applications/-/tenants/Cust1/associates/5";
        assert!(open.parse::<AssociateSelector>().is_ok());
        assert_eq!(open.parse::<AssociateName>(), Err(NameError::Wildcard));
        assert_eq!("2147483647".parse(), Ok(AssociateId(i32::MAX)));
        assert_eq!(AssociateId::new(0), None);
    }

    proptest! {
        #[test]
        fn every_accepted_name_renders_back(text in "(applications/a/tenants/Cust1/associates/)?\\PC{0,40}") {
            if let Ok(name) = text.parse::<AssociateName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn every_legal_name_is_accepted(
            parent in "applications/[a-z][a-z0-9-]{0,62}/tenants/Cust[0-9]{1,10}",
            id in 1..=i32::MAX,
        ) {
            let text = format!("{parent}/associates/{id}");
            prop_assert_eq!(text.parse::<AssociateName>().unwrap().to_string(), text);
        }
    }
}
