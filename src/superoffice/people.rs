//! Reading the people of a tenant: from the bytes of an answer to types of the domain, without a connection.
//!
//! A value that cannot be read is a warning on its row, and a row without an id is left out. An answer is refused as a
//! whole only where it would be wrong. No error repeats what was received.

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
    calls::PeopleQuestions,
    groups::read_user_groups,
    principal::read_principal,
    roles::{ROLE_COLUMNS, read_roles},
};
use super::{
    client::{self, Profile},
    lenient::read_repaired,
};
use crate::ports::UpstreamError;

/// Reads JSON of at most the profile's size.
fn json<'b, T: Deserialize<'b>>(profile: Profile, body: &'b [u8]) -> Result<T, UpstreamError> {
    if body.len() > profile.max_body_bytes {
        return Err(refused(profile, "larger than any answer"));
    }
    client::json(profile, body)
}

/// An answer that is not believed, in our own words.
fn refused(profile: Profile, why: &str) -> UpstreamError {
    UpstreamError::InvalidResponse(format!("{}: {why}", profile.what))
}

/// Returns items by ascending id, each once: archives repeat a row where they join. If rows of one id differ, the first
/// counts, with a warning.
fn each_once<T: PartialEq>(
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
