//! Parses responses about the people of a tenant into domain types. Opens no connection.
//!
//! An unreadable value is a warning on its row, and a row without an id is left out. A response is rejected as a whole
//! only if the result would be wrong. No error repeats received data.

mod archive;
mod associates;
mod calls;
mod cell;
mod groups;
mod principal;
mod roles;

use std::collections::{BTreeMap, btree_map::Entry};

use serde::Deserialize;

pub use self::{
    associates::{ASSOCIATE_COLUMNS, read_associates, read_associates_by_id},
    calls::PeopleRequests,
    groups::read_user_groups,
    principal::read_principal,
    roles::{ROLE_COLUMNS, read_roles},
};
use super::{
    client::{self, RequestLimits},
    json_repair::read_repaired,
};
use crate::ports::UpstreamError;

/// Parses JSON of at most the allowed size.
fn json<'b, T: Deserialize<'b>>(limits: RequestLimits, body: &'b [u8]) -> Result<T, UpstreamError> {
    if body.len() > limits.max_body_bytes {
        return Err(invalid(limits, "the body is too large"));
    }
    client::json(limits, body)
}

/// Returns the error for an invalid response. `why` contains no received data.
fn invalid(limits: RequestLimits, why: &str) -> UpstreamError {
    UpstreamError::InvalidResponse(format!("{}: {why}", limits.name))
}

/// Returns items by ascending id, without duplicates: joins repeat rows. If rows with the same id differ, the first one
/// counts, with a warning.
fn deduplicate<T: PartialEq>(
    items: impl IntoIterator<Item = (i32, T)>,
    contradicted: impl Fn(&mut T),
) -> Vec<T> {
    let mut by_id: BTreeMap<i32, (T, bool)> = BTreeMap::new();
    for (id, item) in items {
        match by_id.entry(id) {
            Entry::Vacant(place) => drop(place.insert((item, false))),
            Entry::Occupied(mut first) => {
                let (first, differs) = first.get_mut();
                *differs |= *first != item;
            }
        }
    }
    let finished = by_id.into_values().map(|(mut item, differs)| {
        if differs {
            contradicted(&mut item);
        }
        item
    });
    finished.collect()
}

#[cfg(test)]
mod tests;
