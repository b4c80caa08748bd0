//! Rows of `GET /api/v1/User`, the archive of all associates.

use super::{
    archive::{Columns, Row, Rows, read_rows},
    cell::{BoundedText, Cell, Unreadable},
    invalid, read_repaired,
};
use crate::{
    domain::{AssociateId, AssociateRecord, AssociateType, DataWarning, Reference},
    ports::{ASSOCIATES_PER_PAGE, AssociatePage, UpstreamError},
    superoffice::client::{RequestLimits, RetryPolicy},
};

pub(super) const USERS: RequestLimits =
    RequestLimits { name: "User", max_body_bytes: 8 * 1024 * 1024, retry: RetryPolicy::Idempotent };

/// The maximum number of other groups of an associate.
const MAX_OTHER_GROUPS: usize = 250;

/// The columns that a request selects.
pub const ASSOCIATE_COLUMNS: &[&str] = &[
    "associateDbId",
    "assocName",
    "assocType",
    "userName",
    "fullName",
    "personId",
    "personEmail",
    "contactId",
    "usergroup",
    "usergroupId",
    "otherGroups",
    "role",
    "isActive",
    "canLogin",
    "credentialType",
];

#[derive(Debug)]
struct UserColumns;

impl Columns for UserColumns {
    const NAMES: &'static [&'static str] = ASSOCIATE_COLUMNS;
}

/// Reads a page: rows after an id, at most `asked` of them, by ascending id.
///
/// # Errors
/// If the response is not such rows. A page is rejected if it does not continue the previous one. It is also rejected
/// if more pages follow and it is unordered or has a row without an id. Otherwise a listing could be endless or lose
/// people.
pub fn read_associates(
    body: &[u8],
    after: Option<AssociateId>,
    asked: usize,
) -> Result<AssociatePage, UpstreamError> {
    read_repaired(body, |body| page(body, after, asked))
}

fn page(
    body: &[u8],
    after: Option<AssociateId>,
    asked: usize,
) -> Result<AssociatePage, UpstreamError> {
    let Some(Rows { rows, has_more: more }) =
        read_rows::<UserColumns, ASSOCIATES_PER_PAGE>(USERS, body)?
    else {
        // If null counted as no rows, a listing would end early, and the remaining people would seem to be deleted.
        return Err(invalid(USERS, "null in place of rows"));
    };
    let full = rows.len() >= asked;
    if rows.len() > asked {
        return Err(invalid(USERS, "more rows than requested"));
    }
    let records: Vec<_> = rows.iter().filter_map(record).collect();
    if records.iter().any(|(record, _)| Some(record.id) <= after) {
        return Err(invalid(USERS, "a page that does not continue the previous one"));
    }
    let more = more || full;
    let left_out = rows.len() - records.len();
    if more && left_out > 0 {
        // Such a row may be unordered, and the next page would miss or repeat it.
        return Err(invalid(USERS, "a row without an associate id while more follow"));
    }
    let ordered = records.is_sorted_by(|(before, _), (next, _)| before.id <= next.id);
    if more && (records.is_empty() || !ordered) {
        return Err(invalid(USERS, "a page that is empty or unordered while more follow"));
    }
    let associates = deduplicate_associates(records);
    let last = associates.last().map(|record| record.id);
    Ok(AssociatePage { associates, next: last.filter(|_| more), left_out })
}

/// Reads the existing ones of the requested associates, by ascending id.
///
/// # Errors
/// If the response is not rows of these associates.
pub fn read_associates_by_id(
    body: &[u8],
    asked: &[AssociateId],
) -> Result<Vec<AssociateRecord>, UpstreamError> {
    read_repaired(body, |body| by_id(body, asked))
}

fn by_id(body: &[u8], asked: &[AssociateId]) -> Result<Vec<AssociateRecord>, UpstreamError> {
    let Some(Rows { rows, has_more: more }) =
        read_rows::<UserColumns, ASSOCIATES_PER_PAGE>(USERS, body)?
    else {
        return Ok(Vec::new());
    };
    let records: Vec<_> = rows.iter().filter_map(record).collect();
    if records.iter().any(|(record, _)| !asked.contains(&record.id)) {
        return Err(invalid(USERS, "an associate that was not requested"));
    }
    if more {
        return Err(invalid(USERS, "only some of the requested associates"));
    }
    let unknown = rows.len() > records.len();
    let associates = deduplicate_associates(records);
    if unknown && asked.iter().any(|id| !associates.iter().any(|record| record.id == *id)) {
        // It may be the row of an associate that would be reported as missing.
        return Err(invalid(USERS, "a row without an associate id"));
    }
    Ok(associates)
}

/// Returns each associate once, by ascending id. If its rows differ, the row whose primary key is the id counts,
/// otherwise the first one.
fn deduplicate_associates(mut records: Vec<(AssociateRecord, bool)>) -> Vec<AssociateRecord> {
    records.sort_by_key(|(record, is_key)| (record.id, !is_key));
    let mut associates: Vec<AssociateRecord> = Vec::with_capacity(records.len());
    // The first row of the last associate in `associates`, as it was read.
    let mut first: Option<AssociateRecord> = None;
    for (record, _) in records {
        match associates.last_mut().filter(|last| last.id == record.id) {
            None => {
                associates.push(record);
                first = None;
            }
            Some(last) => {
                let read = first.get_or_insert_with(|| last.clone());
                if *read != record && !last.warnings.contains(&DataWarning::ConflictingRows) {
                    last.warnings.push(DataWarning::ConflictingRows);
                }
            }
        }
    }
    associates
}

/// Reads one associate, and whether the primary key is its id. `None` without an id; other fields may be unreadable.
fn record(row: &Row<'_, UserColumns>) -> Option<(AssociateRecord, bool)> {
    const ID: &str = "associateDbId";
    let id = AssociateId::new(row.id(ID)?)?;
    let mut reading = RowReader { row, warnings: Vec::new() };
    let told = row.cell(ID);
    if !told.is_null() && told.int() != Ok(Some(id.get())) {
        reading.warnings.push(DataWarning::Unreadable(ID));
    }
    let kind = reading.kind();
    if row.cell("assocName").is_null() {
        reading.warnings.push(DataWarning::Missing("assocName"));
    }
    let group = reading.or_warn("usergroupId", Cell::int).unwrap_or(0);
    let group = Reference { id: group, ..reading.or_warn("usergroup", Cell::reference) };
    let record = AssociateRecord {
        id,
        kind,
        login: reading.text("assocName"),
        user_name: reading.text("userName"),
        full_name: reading.text("fullName"),
        email: reading.text("personEmail"),
        person_id: reading.or_warn("personId", Cell::int).unwrap_or(0),
        contact_id: reading.or_warn("contactId", Cell::int).unwrap_or(0),
        primary_group: group,
        other_groups: reading.other_groups(),
        role: reading.or_warn("role", Cell::reference),
        active: reading.or_warn("isActive", Cell::flag),
        can_login: reading.or_warn("canLogin", Cell::flag),
        credential_type: reading.text("credentialType"),
        warnings: reading.warnings,
    };
    Some((record, row.primary_key_is(id.get())))
}

/// Reads the columns of a row and collects warnings.
struct RowReader<'r, 'a> {
    row: &'r Row<'a, UserColumns>,
    warnings: Vec<DataWarning>,
}

impl<'a> RowReader<'_, 'a> {
    fn or_warn<T: Default>(
        &mut self,
        column: &'static str,
        read: fn(&Cell<'a>) -> Result<T, Unreadable>,
    ) -> T {
        read(self.row.cell(column)).unwrap_or_else(|Unreadable| {
            self.warnings.push(DataWarning::Unreadable(column));
            T::default()
        })
    }

    fn text(&mut self, column: &'static str) -> String {
        let BoundedText { text, truncated: cut, replaced } = self.or_warn(column, Cell::text);
        if cut {
            self.warnings.push(DataWarning::Truncated(column));
        }
        if replaced {
            self.warnings.push(DataWarning::Replaced(column));
        }
        text
    }

    /// Reads the type, as a number or as a name. An unreadable type is unknown.
    fn kind(&mut self) -> AssociateType {
        const COLUMN: &str = "assocType";
        let cell = self.row.cell(COLUMN);
        if cell.is_null() {
            self.warnings.push(DataWarning::Missing(COLUMN));
            return AssociateType::UNSPECIFIED;
        }
        let kind = match (cell.int(), cell.text()) {
            (Ok(Some(code)), _) => Some(AssociateType::from_code(code)),
            (_, Ok(name)) => AssociateType::from_archive_text(&name.text),
            _ => None,
        };
        kind.unwrap_or_else(|| {
            self.warnings.push(DataWarning::Unreadable(COLUMN));
            AssociateType::UNSPECIFIED
        })
    }

    fn other_groups(&mut self) -> Vec<Reference> {
        const COLUMN: &str = "otherGroups";
        let mut groups = self.or_warn(COLUMN, Cell::references);
        if groups.len() > MAX_OTHER_GROUPS {
            groups.truncate(MAX_OTHER_GROUPS);
            self.warnings.push(DataWarning::Truncated(COLUMN));
        }
        groups
    }
}

#[cfg(test)]
mod tests;
