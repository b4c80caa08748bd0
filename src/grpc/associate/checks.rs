//! Validates the fields of requests about associates.

use tonic::metadata::MetadataMap;

use super::{CommonFields, NOT_OF_PARENT};
use crate::{
    domain::{ActorSelector, AssociateSelector, LookupKey, TenantSelector},
    grpc::{pb::lookup_associate_request::Key, request::Checks},
};

/// The maximum number of names in one `BatchGetAssociates` call.
const MAX_BATCH: usize = 500;

/// The maximum length of a lookup key in bytes, which is longer than any mail address (RFC 5321, 4.5.3.1).
const MAX_LOOKUP_BYTES: usize = 320;

impl Checks {
    pub(super) fn common_fields(
        &mut self,
        tenant: Option<TenantSelector>,
        credential: &str,
        metadata: &MetadataMap,
    ) -> Option<CommonFields> {
        let actor = self.note("credential", credential.parse::<ActorSelector>());
        let max_staleness = self.max_staleness(metadata);
        Some(CommonFields { tenant: tenant?, actor: actor?, max_staleness: max_staleness? })
    }

    /// Parses the names of associates of one tenant.
    pub(super) fn associate_names(
        &mut self,
        field: &str,
        parent: Option<&TenantSelector>,
        names: &[String],
    ) -> Option<Vec<AssociateSelector>> {
        if names.is_empty() || names.len() > MAX_BATCH {
            let problem = format!("1 to {MAX_BATCH} names of associates");
            return self.note(field, Err(problem));
        }
        let ids = names.iter().enumerate().map(|(index, name)| {
            let field = format!("{field}[{index}]");
            let selector = self.associate_selector(&field, name)?;
            let same = parent.is_none_or(|parent| {
                let (expected, own) = (&parent.application, &selector.tenant.application);
                let matches = expected.is_none() || own.is_none() || expected == own;
                matches && parent.tenant == selector.tenant.tenant
            });
            self.note(&field, if same { Ok(selector) } else { Err(NOT_OF_PARENT) })
        });
        // Checks all names first, so that the error lists every violation.
        ids.collect::<Vec<_>>().into_iter().collect()
    }

    pub(super) fn lookup_key(&mut self, key: Option<Key>) -> Option<LookupKey> {
        let is_text = |text: &str| {
            !text.is_empty()
                && text.len() <= MAX_LOOKUP_BYTES
                && !text.chars().any(char::is_control)
        };
        let problem = format!("1 to {MAX_LOOKUP_BYTES} bytes without control characters");
        match key {
            None => self.note("key", Err("set user_name, email or person_id")),
            Some(Key::UserName(name)) => {
                let name = if is_text(&name) { Ok(name) } else { Err(problem) };
                self.note("user_name", name).map(LookupKey::UserName)
            }
            Some(Key::Email(email)) => {
                let email = if is_text(&email) { Ok(email) } else { Err(problem) };
                self.note("email", email).map(LookupKey::Email)
            }
            Some(Key::PersonId(id)) => {
                let id = if id > 0 { Ok(id) } else { Err("must be a positive number") };
                self.note("person_id", id).map(LookupKey::PersonId)
            }
        }
    }
}
