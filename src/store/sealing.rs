//! Sealed secrets, each bound to its environment, table, row and column.

use std::{fmt, sync::Arc};

use secrecy::SecretString;

use crate::ports::{SealError, SealedField, Sealer};

/// A column of sealed secrets.
#[derive(Debug, Clone, Copy)]
pub(super) struct SecretColumn {
    table: &'static str,
    field: &'static str,
}

pub(super) const SYSTEM_USER_TOKEN: SecretColumn =
    SecretColumn { table: "tenants", field: "system_user_token" };

pub(super) const TICKET: SecretColumn = SecretColumn { table: "tickets", field: "value" };

pub(super) const REFRESH_TOKEN: SecretColumn =
    SecretColumn { table: "refresh_tokens", field: "value" };

pub(super) const ACCESS_TOKEN: SecretColumn =
    SecretColumn { table: "access_tokens", field: "value" };

pub(super) const VERIFIER: SecretColumn =
    SecretColumn { table: "consent_attempts", field: "verifier" };

/// Seals and opens secrets, each bound to the name of its resource.
pub(super) struct Sealing(Arc<dyn Sealer>);

impl Sealing {
    pub(super) fn new(sealer: Arc<dyn Sealer>) -> Self {
        Self(sealer)
    }

    pub(super) fn seal(
        &self,
        column: SecretColumn,
        environment: &str,
        name: &impl fmt::Display,
        secret: &SecretString,
    ) -> Result<Vec<u8>, SealError> {
        let resource = name.to_string();
        self.0.seal(&column.of(environment, &resource), secret)
    }

    pub(super) fn open(
        &self,
        column: SecretColumn,
        environment: &str,
        name: &impl fmt::Display,
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
