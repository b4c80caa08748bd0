//! Reading the people of a tenant from SuperOffice.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    oddities::OddRows,
    snapshot::{MAX_ASSOCIATES, Snapshot},
};
use crate::{
    broker::{Applications, Asking, BrokerError, WebApi},
    domain::{Associate, AssociateId, AssociateRecord, Directory, Principal, Role, UserGroup},
    ports::{ApiCall, AssociatePage, Clock, PeopleCalls, ReadRows},
};

/// Asks who the users of a tenant are.
#[async_trait]
pub(super) trait People: Send + Sync + 'static {
    /// So long from now, as deadlines of calls are told.
    fn moment_in(&self, wait: Duration) -> Duration;

    /// The first of those with a greater id, by ascending id.
    async fn associates(
        &self,
        asking: &Asking,
        after: Option<AssociateId>,
    ) -> Result<AssociatePage, BrokerError>;

    /// Those of up to 500 that there are.
    async fn associates_by_id(
        &self,
        asking: &Asking,
        ids: &[AssociateId],
    ) -> Result<Vec<AssociateRecord>, BrokerError>;

    /// All groups.
    async fn user_groups(&self, asking: &Asking) -> Result<ReadRows<UserGroup>, BrokerError>;

    /// All roles.
    async fn roles(&self, asking: &Asking) -> Result<ReadRows<Role>, BrokerError>;

    /// Who the credential is.
    async fn principal(&self, asking: &Asking) -> Result<Principal, BrokerError>;
}

/// Asks SuperOffice.
pub(super) struct Upstream {
    pub(super) applications: Arc<Applications>,
    pub(super) web_api: Arc<WebApi>,
}

impl Upstream {
    async fn read<T>(
        &self,
        asking: &Asking,
        call: impl FnOnce(&dyn PeopleCalls) -> ApiCall<T> + Send,
    ) -> Result<T, BrokerError>
    where
        T: Send,
    {
        let call = call(&*self.applications.get(&asking.tenant.application)?.people);
        self.web_api.read(asking, &call).await
    }
}

#[async_trait]
impl People for Upstream {
    fn moment_in(&self, wait: Duration) -> Duration {
        self.web_api.moment_in(wait)
    }

    async fn associates(
        &self,
        asking: &Asking,
        after: Option<AssociateId>,
    ) -> Result<AssociatePage, BrokerError> {
        self.read(asking, |people| people.associates(after)).await
    }

    async fn associates_by_id(
        &self,
        asking: &Asking,
        ids: &[AssociateId],
    ) -> Result<Vec<AssociateRecord>, BrokerError> {
        self.read(asking, |people| people.associates_by_id(ids)).await
    }

    async fn user_groups(&self, asking: &Asking) -> Result<ReadRows<UserGroup>, BrokerError> {
        self.read(asking, PeopleCalls::user_groups).await
    }

    async fn roles(&self, asking: &Asking) -> Result<ReadRows<Role>, BrokerError> {
        self.read(asking, PeopleCalls::roles).await
    }

    async fn principal(&self, asking: &Asking) -> Result<Principal, BrokerError> {
        self.read(asking, |people| people.current_principal(asking.tenant.tenant)).await
    }
}

/// A tenant's people, and the rows of each kind that could not be read.
pub(super) struct ReadPeople {
    pub(super) snapshot: Snapshot,
    pub(super) odd: [(&'static str, OddRows); 3],
}

/// Reads everybody. Nothing of a reading that fails half way is kept: who is missing in it would seem to have left.
pub(super) async fn read_all(
    people: &dyn People,
    asking: &Asking,
    clock: &dyn Clock,
    id: u128,
) -> Result<ReadPeople, BrokerError> {
    let began = (clock.monotonic(), clock.now());
    let (groups, roles) = tokio::try_join!(people.user_groups(asking), people.roles(asking))?;
    let mut odd_groups = OddRows { left_out: groups.left_out, in_part: 0 };
    for group in &groups.items {
        odd_groups.see(&group.warnings);
    }
    let mut odd_roles = OddRows { left_out: roles.left_out, in_part: 0 };
    for role in &roles.items {
        odd_roles.see(&role.warnings);
    }
    let directory = Directory::new(groups.items, roles.items);
    let mut associates = Vec::new();
    let mut odd = OddRows::default();
    let mut understand = |records: Vec<AssociateRecord>| {
        for record in &records {
            odd.see(&record.warnings);
        }
        associates.extend(records.into_iter().map(|one| Arc::new(Associate::new(one, &directory))));
        associates.len()
    };
    let mut records = Vec::new();
    let mut after = None;
    let mut left_out = 0;
    loop {
        // While SuperOffice makes up its page, the one before is understood.
        let (page, count) = tokio::join!(people.associates(asking, after), async {
            understand(std::mem::take(&mut records))
        });
        let AssociatePage { associates: read, next, left_out: without_id } = page?;
        records = read;
        left_out += without_id;
        let Some(next) = next else { break };
        if Some(next) <= after || count > MAX_ASSOCIATES {
            let cause = "a list of associates without end".into();
            return Err(BrokerError::UpstreamInvalid(cause));
        }
        after = Some(next);
    }
    if understand(records) == 0 {
        // There is a system user at least, through whose eyes we look.
        return Err(BrokerError::UpstreamInvalid("a tenant without associates".into()));
    }
    odd.left_out = left_out;
    let odd = [("associates", odd), ("user groups", odd_groups), ("roles", odd_roles)];
    Ok(ReadPeople { snapshot: Snapshot::new(id, began, directory, associates), odd })
}
