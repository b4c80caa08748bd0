//! Lists of tenants by a filter.

use std::sync::Arc;

use super::{
    BrokerError, Page, Statuses, Tenants,
    looking::{BATCH, Looking},
};
use crate::{
    access::{Authorized, Gateway, ReadTenants},
    domain::{ApplicationId, Filter, ListedTenant, Tenant, TenantName, TenantStatus},
    ports::Clock,
};

/// A page of tenants.
#[derive(Debug, Clone)]
pub struct TenantPage {
    /// The tenants, each with its last known status: maybe none, though there is a next page.
    pub tenants: Vec<(Tenant, Option<Arc<TenantStatus>>)>,
    /// Behind which the next page begins, if there is one.
    pub next: Option<TenantName>,
}

/// Of what a list may be.
#[derive(Clone, Copy)]
enum Permitted<'a> {
    All(&'a Authorized<ReadTenants, Gateway>),
    Application(&'a Authorized<ReadTenants, ApplicationId>),
}

/// Finds tenants that match a filter.
pub struct TenantSearch {
    tenants: Arc<Tenants>,
    statuses: Arc<Statuses>,
    clock: Arc<dyn Clock>,
}

impl TenantSearch {
    /// Over the tenants and what is known of their status.
    #[must_use]
    pub fn new(tenants: Arc<Tenants>, statuses: Arc<Statuses>, clock: Arc<dyn Clock>) -> Self {
        Self { tenants, statuses, clock }
    }

    /// A page of the tenants of one application, in order of their ids.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`; or the store does not answer.
    pub async fn list_of_application(
        &self,
        authorized: &Authorized<ReadTenants, ApplicationId>,
        page: Page,
        filter: &Filter,
    ) -> Result<TenantPage, BrokerError> {
        self.list(Permitted::Application(authorized), page, filter).await
    }

    /// A page of the tenants of all applications.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn list_all(
        &self,
        authorized: &Authorized<ReadTenants, Gateway>,
        page: Page,
        filter: &Filter,
    ) -> Result<TenantPage, BrokerError> {
        self.list(Permitted::All(authorized), page, filter).await
    }

    async fn list(
        &self,
        permitted: Permitted<'_>,
        page: Page,
        filter: &Filter,
    ) -> Result<TenantPage, BrokerError> {
        let mut looking = Looking::begin(&*self.clock);
        let Page { after: mut looked_at, limit: most } = page;
        let most = most as usize;
        let mut tenants = Vec::new();
        // One more than asked for tells whether there is a next page.
        let mut step = most.saturating_add(1);
        loop {
            let limit = looking.batch(step);
            if limit == 0 {
                return Ok(TenantPage { tenants, next: looked_at });
            }
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            let page = Page { after: looked_at.clone(), limit };
            let found = match permitted {
                Permitted::All(authorized) => self.tenants.list_all(authorized, page).await?,
                Permitted::Application(authorized) => {
                    self.tenants.list_of_application(authorized, page).await?
                }
            };
            let end = found.len() < limit as usize;
            looking.looked_at(found.len());
            for tenant in found {
                let place = tenant.name.clone();
                let status = self.statuses.last_known(&tenant);
                let listed = ListedTenant::new(&tenant, status.as_deref());
                if filter.matches(&listed) {
                    if tenants.len() == most {
                        return Ok(TenantPage { tenants, next: looked_at });
                    }
                    tenants.push((tenant, status));
                }
                looked_at = Some(place);
            }
            if end {
                return Ok(TenantPage { tenants, next: None });
            }
            step = BATCH;
        }
    }
}
