//! Reading what SuperOffice tells of the people of a tenant (SUPEROFFICE.md 6): from the bytes of an answer to types
//! of the domain, without a connection. What cannot be read of one associate is a warning on it; what makes the answer
//! as a whole doubtful refuses it. Nothing that was received is repeated in an error.

mod archive;
mod associates;
mod calls;
mod cell;
mod groups;
mod principal;
mod roles;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use self::{
    associates::{ASSOCIATE_COLUMNS, read_associates, read_associates_by_id},
    calls::PeopleQuestions,
    groups::read_user_groups,
    principal::read_principal,
    roles::{ROLE_COLUMNS, read_roles},
};
use super::client::{self, Profile};
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

/// By ascending id, each once: archives repeat a row where they join, but do not contradict themselves.
fn each_once<T: PartialEq>(
    profile: Profile,
    items: impl IntoIterator<Item = (i32, T)>,
) -> Result<Vec<T>, UpstreamError> {
    let mut by_id = BTreeMap::new();
    for (id, item) in items {
        if let Some(other) = by_id.get(&id)
            && *other != item
        {
            return Err(refused(profile, "two rows with one id that differ"));
        }
        by_id.insert(id, item);
    }
    Ok(by_id.into_values().collect())
}
