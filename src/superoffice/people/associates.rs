//! Rows of `GET /api/v1/User`, the archive of all associates (SUPEROFFICE.md 6.6).

use super::{
    archive::{Columns, Row, Rows, read_rows},
    cell::{Cell, Kept, Unreadable},
    each_once, refused,
};
use crate::{
    domain::{AssociateId, AssociateRecord, AssociateType, DataWarning, Reference},
    ports::{ASSOCIATES_A_PAGE, AssociatePage, UpstreamError},
    superoffice::client::{Profile, Repeat},
};

pub(super) const USERS: Profile =
    Profile { what: "User", max_body_bytes: 8 * 1024 * 1024, repeat: Repeat::Reads };

/// How many other groups of an associate are kept.
const MAX_OTHER_GROUPS: usize = 250;

/// The columns that are read, to be selected.
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
/// If the answer is not such rows. A page that does not go on from the one before, or is out of order while more
/// follow, would make a listing endless or lose people: it is refused, not put right.
pub fn read_associates(
    body: &[u8],
    after: Option<AssociateId>,
    asked: usize,
) -> Result<AssociatePage, UpstreamError> {
    let Some(Rows { rows, more }) = read_rows::<UserColumns, ASSOCIATES_A_PAGE>(USERS, body)?
    else {
        // Read as "nobody", it would end a listing early and the rest would seem to have left.
        return Err(refused(USERS, "null in place of rows"));
    };
    let full = rows.len() >= asked;
    if rows.len() > asked {
        return Err(refused(USERS, "more rows than were asked for"));
    }
    let records: Vec<_> = rows.iter().map(record).collect::<Result<_, _>>()?;
    if records.iter().any(|record| Some(record.id) <= after) {
        return Err(refused(USERS, "a page that does not go on from the one before"));
    }
    let more = more || full;
    let ordered = records.is_sorted_by(|before, next| before.id <= next.id);
    if more && (records.is_empty() || !ordered) {
        return Err(refused(USERS, "a page that is empty or out of order while more follow"));
    }
    let associates = each_once(USERS, records.into_iter().map(|record| (record.id.get(), record)))?;
    let last = associates.last().map(|record| record.id);
    Ok(AssociatePage { associates, next: last.filter(|_| more) })
}

/// Reads those of the associates asked for that there are, by ascending id.
///
/// # Errors
/// If the answer is not rows of these.
pub fn read_associates_by_id(
    body: &[u8],
    asked: &[AssociateId],
) -> Result<Vec<AssociateRecord>, UpstreamError> {
    let Some(Rows { rows, more }) = read_rows::<UserColumns, ASSOCIATES_A_PAGE>(USERS, body)?
    else {
        return Ok(Vec::new());
    };
    let records: Vec<_> = rows.iter().map(record).collect::<Result<_, _>>()?;
    if records.iter().any(|record| !asked.contains(&record.id)) {
        return Err(refused(USERS, "an associate that was not asked for"));
    }
    if more {
        return Err(refused(USERS, "only some of those asked for"));
    }
    each_once(USERS, records.into_iter().map(|record| (record.id.get(), record)))
}

/// One associate. Without an id it is not known whose row it is; everything else can be odd.
fn record(row: &Row<'_, UserColumns>) -> Result<AssociateRecord, UpstreamError> {
    let id = row.id("associateDbId").and_then(AssociateId::new);
    let id = id.ok_or_else(|| refused(USERS, "a row without an associate id"))?;
    let mut reading = Reading { row, warnings: Vec::new() };
    let kind = reading.kind();
    if row.cell("assocName").is_null() {
        reading.warnings.push(DataWarning::Missing("assocName"));
    }
    let group = reading.or_default("usergroupId", Cell::int).unwrap_or(0);
    let group = Reference { id: group, ..reading.or_default("usergroup", Cell::reference) };
    Ok(AssociateRecord {
        id,
        kind,
        login: reading.text("assocName"),
        user_name: reading.text("userName"),
        full_name: reading.text("fullName"),
        email: reading.text("personEmail"),
        person_id: reading.or_default("personId", Cell::int).unwrap_or(0),
        contact_id: reading.or_default("contactId", Cell::int).unwrap_or(0),
        primary_group: group,
        other_groups: reading.other_groups(),
        role: reading.or_default("role", Cell::reference),
        active: reading.or_default("isActive", Cell::flag),
        can_login: reading.or_default("canLogin", Cell::flag),
        credential_type: reading.text("credentialType"),
        warnings: reading.warnings,
    })
}

/// Reading one row, and what is odd in it.
struct Reading<'r, 'a> {
    row: &'r Row<'a, UserColumns>,
    warnings: Vec<DataWarning>,
}

impl<'a> Reading<'_, 'a> {
    fn or_default<T: Default>(
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
        let Kept { text, cut } = self.or_default(column, Cell::text);
        if cut {
            self.warnings.push(DataWarning::Cut(column));
        }
        text
    }

    /// The number of the database, or the name of the list of types. A kind that cannot be read is none that we know.
    fn kind(&mut self) -> AssociateType {
        const COLUMN: &str = "assocType";
        let cell = self.row.cell(COLUMN);
        if cell.is_null() {
            self.warnings.push(DataWarning::Missing(COLUMN));
            return AssociateType::UNTOLD;
        }
        let kind = match (cell.int(), cell.text()) {
            (Ok(Some(code)), _) => Some(AssociateType::from_code(code)),
            (_, Ok(name)) => AssociateType::from_archive_text(&name.text),
            _ => None,
        };
        kind.unwrap_or_else(|| {
            self.warnings.push(DataWarning::Unreadable(COLUMN));
            AssociateType::UNTOLD
        })
    }

    fn other_groups(&mut self) -> Vec<Reference> {
        const COLUMN: &str = "otherGroups";
        let mut groups = self.or_default(COLUMN, Cell::references);
        if groups.len() > MAX_OTHER_GROUPS {
            groups.truncate(MAX_OTHER_GROUPS);
            self.warnings.push(DataWarning::Cut(COLUMN));
        }
        groups
    }
}

#[cfg(test)]
mod tests;
