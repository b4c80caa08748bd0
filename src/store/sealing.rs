//! Secrets, bound to their place (DESIGN rule 6.3).

use std::sync::Arc;

use secrecy::SecretString;

use crate::{
    domain::TenantName,
    ports::{SealError, SealedField, Sealer},
};

/// A column that holds a secret of a tenant.
#[derive(Debug, Clone, Copy)]
pub(super) struct SecretColumn {
    table: &'static str,
    field: &'static str,
}

pub(super) const SYSTEM_USER_TOKEN: SecretColumn =
    SecretColumn { table: "tenants", field: "system_user_token" };

pub(super) const TICKET: SecretColumn = SecretColumn { table: "tickets", field: "value" };

/// Seals and opens secrets of tenants.
pub(super) struct Sealing(Arc<dyn Sealer>);

impl Sealing {
    pub(super) fn new(sealer: Arc<dyn Sealer>) -> Self {
        Self(sealer)
    }

    pub(super) fn seal(
        &self,
        column: SecretColumn,
        environment: &str,
        name: &TenantName,
        secret: &SecretString,
    ) -> Result<Vec<u8>, SealError> {
        let resource = name.to_string();
        self.0.seal(&column.of(environment, &resource), secret)
    }

    pub(super) fn open(
        &self,
        column: SecretColumn,
        environment: &str,
        name: &TenantName,
        sealed: &[u8],
    ) -> Result<SecretString, SealError> {
        let resource = name.to_string();
        self.0.open(&column.of(environment, &resource), sealed)
    }
}

impl SecretColumn {
    fn of<'a>(self, environment: &'a str, resource: &'a str) -> SealedField<'a> {
        SealedField { environment, table: self.table, resource, field: self.field }
    }
}
