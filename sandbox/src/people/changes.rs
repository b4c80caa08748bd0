//! The database columns that a change affects.

use super::model::Associate;

/// Returns the columns in which two versions of an associate differ.
pub(crate) fn changed_columns(old: &Associate, new: &Associate) -> Vec<&'static str> {
    let columns = [
        ("name", old.name != new.name),
        ("type", old.kind != new.kind),
        ("tooltip", old.tooltip != new.tooltip),
        ("rank", old.rank != new.rank),
        ("userName", old.user_name != new.user_name),
        ("person_id", old.person_id != new.person_id),
        ("group_idx", old.group_id != new.group_id),
        ("deleted", old.deleted != new.deleted),
        ("ejuserId", old.ej_user_id != new.ej_user_id),
        ("waiting_for_approval", old.waiting_for_approval != new.waiting_for_approval),
    ];
    columns.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
