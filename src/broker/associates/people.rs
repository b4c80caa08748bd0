//! Reading the associates of a tenant from SuperOffice.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    snapshot::{MAX_ASSOCIATES, Snapshot},
    unreadable_rows::UnreadableRows,
};
use crate::{
    broker::{Applications, BrokerError, WebApi, WebApiCallContext},
    domain::{Associate, AssociateId, AssociateRecord, Directory, Principal, Role, UserGroup},
    ports::{ApiQuery, AssociatePage, AssociateQueries, Clock, ParsedRows},
};

/// Reads the users of a tenant.
#[async_trait]
pub(super) trait AssociateSource: Send + Sync + 'static {
    /// Returns the deadline that is `wait` from now, by the clock of upstream calls.
    fn deadline_in(&self, wait: Duration) -> Duration;

    /// Returns the first page of associates with a greater id than `after`, by ascending id.
    async fn associates(
        &self,
        context: &WebApiCallContext,
        after: Option<AssociateId>,
    ) -> Result<AssociatePage, BrokerError>;

    /// Returns the existing ones of up to 500 associates.
    async fn associates_by_id(
        &self,
        context: &WebApiCallContext,
        ids: &[AssociateId],
    ) -> Result<Vec<AssociateRecord>, BrokerError>;

    /// Returns all groups.
    async fn user_groups(
        &self,
        context: &WebApiCallContext,
    ) -> Result<ParsedRows<UserGroup>, BrokerError>;

    /// Returns all roles.
    async fn roles(&self, context: &WebApiCallContext) -> Result<ParsedRows<Role>, BrokerError>;

    /// Returns the principal of the credential.
    async fn principal(&self, context: &WebApiCallContext) -> Result<Principal, BrokerError>;
}

/// Reads from SuperOffice.
pub(super) struct Upstream {
    pub(super) applications: Arc<Applications>,
    pub(super) web_api: Arc<WebApi>,
}

impl Upstream {
    async fn read<T>(
        &self,
        context: &WebApiCallContext,
        call: impl FnOnce(&dyn AssociateQueries) -> ApiQuery<T> + Send,
    ) -> Result<T, BrokerError>
    where
        T: Send,
    {
        let call = call(&*self.applications.get(&context.tenant.application)?.people);
        self.web_api.read(context, &call).await
    }
}

#[async_trait]
impl AssociateSource for Upstream {
    fn deadline_in(&self, wait: Duration) -> Duration {
        self.web_api.deadline_in(wait)
    }

    async fn associates(
        &self,
        context: &WebApiCallContext,
        after: Option<AssociateId>,
    ) -> Result<AssociatePage, BrokerError> {
        self.read(context, |people| people.associates(after)).await
    }

    async fn associates_by_id(
        &self,
        context: &WebApiCallContext,
        ids: &[AssociateId],
    ) -> Result<Vec<AssociateRecord>, BrokerError> {
        self.read(context, |people| people.associates_by_id(ids)).await
    }

    async fn user_groups(
        &self,
        context: &WebApiCallContext,
    ) -> Result<ParsedRows<UserGroup>, BrokerError> {
        self.read(context, AssociateQueries::user_groups).await
    }

    async fn roles(&self, context: &WebApiCallContext) -> Result<ParsedRows<Role>, BrokerError> {
        self.read(context, AssociateQueries::roles).await
    }

    async fn principal(&self, context: &WebApiCallContext) -> Result<Principal, BrokerError> {
        self.read(context, |people| people.current_principal(context.tenant.tenant)).await
    }
}

/// The associates of a tenant, and the unreadable rows of each kind.
pub(super) struct AssociateReadResult {
    pub(super) snapshot: Snapshot,
    pub(super) odd: [(&'static str, UnreadableRows); 3],
}

/// Reads all associates. A read that fails half-way returns nothing, because missing associates would seem deleted.
pub(super) async fn read_all(
    people: &dyn AssociateSource,
    context: &WebApiCallContext,
    clock: &dyn Clock,
    id: u128,
) -> Result<AssociateReadResult, BrokerError> {
    let began = (clock.monotonic(), clock.now());
    let (groups, roles) = tokio::try_join!(people.user_groups(context), people.roles(context))?;
    let mut odd_groups = UnreadableRows { left_out: groups.left_out, unreadable: 0 };
    for group in &groups.items {
        odd_groups.count(&group.warnings);
    }
    let mut odd_roles = UnreadableRows { left_out: roles.left_out, unreadable: 0 };
    for role in &roles.items {
        odd_roles.count(&role.warnings);
    }
    let directory = Directory::new(groups.items, roles.items);
    let mut associates = Vec::new();
    let mut odd = UnreadableRows::default();
    let mut understand = |records: Vec<AssociateRecord>| {
        for record in &records {
            odd.count(&record.warnings);
        }
        associates.extend(records.into_iter().map(|one| Arc::new(Associate::new(one, &directory))));
        associates.len()
    };
    let mut records = Vec::new();
    let mut after = None;
    let mut left_out = 0;
    loop {
        // Parses the previous page while SuperOffice prepares the next one.
        let (page, count) = tokio::join!(people.associates(context, after), async {
            understand(std::mem::take(&mut records))
        });
        let AssociatePage { associates: read, next, left_out: without_id } = page?;
        records = read;
        left_out += without_id;
        let Some(next) = next else { break };
        if Some(next) <= after || count > MAX_ASSOCIATES {
            return Err(BrokerError::upstream_invalid("the list of associates does not end"));
        }
        after = Some(next);
    }
    if understand(records) == 0 {
        // Every tenant has at least the system user.
        return Err(BrokerError::upstream_invalid("the tenant has no associates"));
    }
    odd.left_out = left_out;
    let odd = [("associates", odd), ("user groups", odd_groups), ("roles", odd_roles)];
    Ok(AssociateReadResult { snapshot: Snapshot::new(id, began, directory, associates), odd })
}
