//! Lists of associates, a page at a time.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;

use super::{
    Associates, Look,
    snapshot::{Snapshot, Sorted},
};
use crate::{
    access::{Authorized, ReadAssociates},
    broker::{
        BrokerError,
        looking::{BATCH, Looking},
    },
    domain::{Associate, AssociateId, Filter, Languages, ListedAssociate, Order, TenantName},
};

/// Which associates, in which order, and where to go on.
#[derive(Debug, Clone)]
pub struct AssociateQuery {
    /// Those that match.
    pub filter: Filter,
    /// The empty one is by ascending id.
    pub order: Order,
    /// In which names of roles and groups are read.
    pub languages: Languages,
    /// At most so many.
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<AssociatePlace>,
}

/// Where a page of associates ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssociatePlace {
    /// By id: with this one. Holds in every reading, so whoever is there throughout a listing is on one page of it.
    Id(AssociateId),
    /// In another order: at a position of one reading, in which everybody has one place.
    Position {
        /// Which reading.
        snapshot: u128,
        /// Behind how many.
        position: usize,
    },
}

/// A page of associates: maybe none, though there is a next page.
#[derive(Debug, Clone)]
pub struct AssociateListPage {
    /// The associates.
    pub associates: Vec<Arc<Associate>>,
    /// When they were read.
    pub read_time: Timestamp,
    /// Where the next page begins, if there is one.
    pub next: Option<AssociatePlace>,
}

impl Associates {
    /// A page of a tenant's associates, those who left included.
    ///
    /// # Errors
    /// What [`Associates::get`] has; or the place is in a reading that is no longer kept.
    pub async fn list(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        look: &Look,
        query: &AssociateQuery,
    ) -> Result<AssociateListPage, BrokerError> {
        let key = self.permitted(authorized, look).await?;
        let AssociateQuery { order, languages, after, .. } = query;
        let snapshot = match after {
            Some(AssociatePlace::Position { snapshot, .. }) => {
                self.snapshots.kept(&key, |kept| kept.id == *snapshot).ok_or_else(read_anew)?
            }
            _ => self.snapshots.get(&key, look.max_staleness).await?,
        };
        if !order.is_empty() {
            // Before it is sorted, which takes a while.
            snapshot.will_be_paged();
        }
        let sorted = if order.is_empty() {
            None
        } else if let Some(sorted) = snapshot.sorted(order, languages) {
            Some(sorted)
        } else {
            Some(sort(&snapshot, order, languages).await?)
        };
        let mut looking = Looking::begin(&*self.clock);
        let mut position = match after {
            Some(AssociatePlace::Id(id)) => snapshot.position_after(*id),
            Some(AssociatePlace::Position { position, .. }) => *position,
            None => 0,
        };
        let mut associates: Vec<Arc<Associate>> = Vec::new();
        let at = |position: usize| match &sorted {
            Some(sorted) => snapshot.at(*sorted.get(position)? as usize),
            None => snapshot.at(position),
        };
        let place = |position: usize| match &sorted {
            Some(_) => Some(AssociatePlace::Position { snapshot: snapshot.id, position }),
            None => at(position.checked_sub(1)?).map(|last| AssociatePlace::Id(last.id)),
        };
        let read_time = snapshot.read_time;
        loop {
            let batch = looking.batch(BATCH);
            for _ in 0..batch {
                let Some(associate) = at(position) else {
                    return Ok(AssociateListPage { associates, read_time, next: None });
                };
                if query.filter.matches(&ListedAssociate::new(associate, languages)) {
                    if associates.len() == query.limit {
                        return Ok(AssociateListPage {
                            associates,
                            read_time,
                            next: place(position),
                        });
                    }
                    associates.push(Arc::clone(associate));
                }
                position += 1;
            }
            looking.looked_at(batch);
            if batch == 0 {
                return Ok(AssociateListPage { associates, read_time, next: place(position) });
            }
            // Others wait for this thread.
            tokio::task::yield_now().await;
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

fn read_anew() -> BrokerError {
    let problem = "the associates have been read anew since: begin the list again without it";
    BrokerError::Invalid { field: "page_token", problem: problem.to_owned() }
}

/// For page tokens, which are sealed.
impl fmt::Display for AssociatePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Position { snapshot, position } => write!(f, "{snapshot}/{position}"),
        }
    }
}

/// Not a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a list of associates")]
pub struct NoPlace;

impl FromStr for AssociatePlace {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let Some((snapshot, position)) = text.split_once('/') else {
            return text.parse().map(Self::Id).map_err(|_| NoPlace);
        };
        let snapshot = snapshot.parse().map_err(|_| NoPlace)?;
        Ok(Self::Position { snapshot, position: position.parse().map_err(|_| NoPlace)? })
    }
}
