//! Lists tenants that match a filter.

use std::sync::Arc;

use super::{
    BrokerError, Page, Runtime, Statuses, Tenants,
    scan_budget::{BATCH_SIZE, ScanBudget},
};
use crate::{
    access::{Authorized, Gateway, ReadTenants},
    domain::{ApplicationId, Filter, ListedTenant, Tenant, TenantName, TenantStatus},
    ports::Clock,
};

/// A page of tenants.
#[derive(Debug, Clone)]
pub struct TenantPage {
    /// The tenants, each with its last known status. May be empty although there is a next page.
    pub tenants: Vec<(Tenant, Option<Arc<TenantStatus>>)>,
    /// The last scanned tenant, after which the next page starts; `None` on the last page.
    pub next: Option<TenantName>,
}

/// The scope of a list that the caller is permitted to read.
#[derive(Clone, Copy)]
enum ListScope<'a> {
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
    /// Creates the use case.
    #[must_use]
    pub fn new(tenants: Arc<Tenants>, statuses: Arc<Statuses>, runtime: &Runtime) -> Self {
        Self { tenants, statuses, clock: Arc::clone(&runtime.clock) }
    }

    /// Returns a page of the tenants of one application, ordered by id.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`, or if the store does not answer.
    pub async fn list_of_application(
        &self,
        authorized: &Authorized<ReadTenants, ApplicationId>,
        page: Page,
        filter: &Filter,
    ) -> Result<TenantPage, BrokerError> {
        self.list(ListScope::Application(authorized), page, filter).await
    }

    /// Returns a page of the tenants of all applications.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn list_all(
        &self,
        authorized: &Authorized<ReadTenants, Gateway>,
        page: Page,
        filter: &Filter,
    ) -> Result<TenantPage, BrokerError> {
        self.list(ListScope::All(authorized), page, filter).await
    }

    async fn list(
        &self,
        scope: ListScope<'_>,
        page: Page,
        filter: &Filter,
    ) -> Result<TenantPage, BrokerError> {
        let mut budget = ScanBudget::start(&*self.clock);
        let Page { after: mut last_scanned, limit: page_size } = page;
        let page_size = page_size as usize;
        let mut tenants = Vec::new();
        // One more than requested shows whether there is a next page.
        let mut step = page_size.saturating_add(1);
        loop {
            let limit = budget.next_batch_size(step);
            if limit == 0 {
                return Ok(TenantPage { tenants, next: last_scanned });
            }
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            let page = Page { after: last_scanned.clone(), limit };
            let found = match scope {
                ListScope::All(authorized) => self.tenants.list_all(authorized, page).await?,
                ListScope::Application(authorized) => {
                    self.tenants.list_of_application(authorized, page).await?
                }
            };
            let end = found.len() < limit as usize;
            budget.record_rows(found.len());
            for tenant in found {
                let name = tenant.name.clone();
                let status = self.statuses.last_known(&tenant);
                let listed = ListedTenant::new(&tenant, status.as_deref());
                if filter.matches(&listed) {
                    if tenants.len() == page_size {
                        return Ok(TenantPage { tenants, next: last_scanned });
                    }
                    tenants.push((tenant, status));
                }
                last_scanned = Some(name);
            }
            if end {
                return Ok(TenantPage { tenants, next: None });
            }
            step = BATCH_SIZE;
        }
    }
}
