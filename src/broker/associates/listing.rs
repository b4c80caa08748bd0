//! Paged lists of associates.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;

use super::{
    AssociateReadOptions, Associates,
    snapshot::{Snapshot, Sorted},
};
use crate::{
    access::{Authorized, ReadAssociates},
    broker::{
        BrokerError,
        scan_budget::{BATCH_SIZE, ScanBudget},
    },
    domain::{Associate, AssociateId, Filter, Languages, ListedAssociate, Order, TenantName},
};

/// The filter, order and start of a page of associates.
#[derive(Debug, Clone)]
pub struct AssociateQuery {
    /// The filter that associates must match.
    pub filter: Filter,
    /// The order; the empty order is by ascending id.
    pub order: Order,
    /// The languages for the names of roles and groups.
    pub languages: Languages,
    /// The most associates on the page.
    pub limit: usize,
    /// The end of the previous page.
    pub after: Option<AssociatePosition>,
}

/// The end of a page of associates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssociatePosition {
    /// Ordered by id: the last id. It is valid in every snapshot, so no listed associate is skipped or repeated.
    Id(AssociateId),
    /// In any other order: a position in one snapshot.
    Position {
        /// The id of the snapshot.
        snapshot: u128,
        /// The number of associates before this position.
        position: usize,
    },
}

/// A page of associates. It may be empty although there is a next page.
#[derive(Debug, Clone)]
pub struct AssociateListPage {
    /// The associates.
    pub associates: Vec<Arc<Associate>>,
    /// The time at which they were read.
    pub read_time: Timestamp,
    /// The start of the next page, if there is one.
    pub next: Option<AssociatePosition>,
}

impl Associates {
    /// Returns a page of a tenant's associates, including inactive ones.
    ///
    /// # Errors
    /// As [`Associates::get`]; or the snapshot of the previous page is no longer cached.
    pub async fn list(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        options: &AssociateReadOptions,
        query: &AssociateQuery,
    ) -> Result<AssociateListPage, BrokerError> {
        let key = self.check_access(authorized, options).await?;
        let snapshot = match query.after {
            Some(AssociatePosition::Position { snapshot, .. }) => self
                .snapshots
                .find(&key, |kept| kept.id == snapshot)
                .ok_or_else(snapshot_replaced)?,
            _ => self.snapshots.get(&key, options.max_staleness).await?,
        };
        let rows = OrderedRows::new(snapshot, &query.order, &query.languages).await?;
        Ok(rows.page(query, ScanBudget::start(&*self.clock)).await)
    }
}

/// The associates of a snapshot in the order of a list.
struct OrderedRows {
    snapshot: Arc<Snapshot>,
    /// `None` if the order is by ascending id.
    sorted: Option<Sorted>,
}

impl OrderedRows {
    async fn new(
        snapshot: Arc<Snapshot>,
        order: &Order,
        languages: &Languages,
    ) -> Result<Self, BrokerError> {
        if order.is_empty() {
            return Ok(Self { snapshot, sorted: None });
        }
        // Set before the sort, which takes a while.
        snapshot.mark_paged();
        let sorted = match snapshot.sorted(order, languages) {
            Some(sorted) => sorted,
            None => sort(&snapshot, order, languages).await?,
        };
        Ok(Self { snapshot, sorted: Some(sorted) })
    }

    /// Returns the next page, or what the budget allows of it.
    async fn page(&self, query: &AssociateQuery, mut budget: ScanBudget<'_>) -> AssociateListPage {
        let read_time = self.snapshot.read_time;
        let page = |associates, next| AssociateListPage { associates, read_time, next };
        let mut associates: Vec<Arc<Associate>> = Vec::new();
        let mut row = self.first_row(query.after);
        loop {
            let batch = budget.next_batch_size(BATCH_SIZE);
            for _ in 0..batch {
                let Some(associate) = self.get(row) else { return page(associates, None) };
                if query.filter.matches(&ListedAssociate::new(associate, &query.languages)) {
                    if associates.len() == query.limit {
                        return page(associates, self.position(row));
                    }
                    associates.push(Arc::clone(associate));
                }
                row += 1;
            }
            budget.record_rows(batch);
            if batch == 0 {
                return page(associates, self.position(row));
            }
            // Lets other tasks run on this thread.
            tokio::task::yield_now().await;
        }
    }

    fn first_row(&self, after: Option<AssociatePosition>) -> usize {
        match after {
            Some(AssociatePosition::Id(id)) => self.snapshot.position_after(id),
            Some(AssociatePosition::Position { position, .. }) => position,
            None => 0,
        }
    }

    fn get(&self, row: usize) -> Option<&Arc<Associate>> {
        match &self.sorted {
            Some(sorted) => self.snapshot.at(*sorted.get(row)? as usize),
            None => self.snapshot.at(row),
        }
    }

    /// Returns the position before this row.
    fn position(&self, row: usize) -> Option<AssociatePosition> {
        match &self.sorted {
            Some(_) => {
                Some(AssociatePosition::Position { snapshot: self.snapshot.id, position: row })
            }
            None => self.get(row.checked_sub(1)?).map(|last| AssociatePosition::Id(last.id)),
        }
    }
}

async fn sort(
    snapshot: &Arc<Snapshot>,
    order: &Order,
    languages: &Languages,
) -> Result<Sorted, BrokerError> {
    let (snapshot, order, languages) = (Arc::clone(snapshot), order.clone(), languages.clone());
    let sorting = tokio::task::spawn_blocking(move || snapshot.sort(&order, &languages));
    sorting.await.map_err(|error| BrokerError::Internal(error.to_string().into()))
}

fn snapshot_replaced() -> BrokerError {
    let problem =
        "the associates were read again meanwhile; begin the list again without a page token";
    BrokerError::Invalid { field: "page_token", problem: problem.to_owned() }
}

/// The text form for page tokens, which are encrypted.
impl fmt::Display for AssociatePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Position { snapshot, position } => write!(f, "{snapshot}/{position}"),
        }
    }
}

/// The error for a text that is not a position in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is not a position in a list of associates")]
pub struct InvalidAssociatePosition;

impl FromStr for AssociatePosition {
    type Err = InvalidAssociatePosition;

    fn from_str(text: &str) -> Result<Self, InvalidAssociatePosition> {
        let Some((snapshot, position)) = text.split_once('/') else {
            return text.parse().map(Self::Id).map_err(|_| InvalidAssociatePosition);
        };
        let snapshot = snapshot.parse().map_err(|_| InvalidAssociatePosition)?;
        Ok(Self::Position {
            snapshot,
            position: position.parse().map_err(|_| InvalidAssociatePosition)?,
        })
    }
}
