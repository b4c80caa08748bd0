//! Rows of `GET /api/v1/User`, the archive of all associates (SUPEROFFICE.md 6.6).

use super::{
    archive::{Columns, Row, Rows, read_rows},
    cell::{Cell, Kept, Unreadable},
    read_repaired, refused,
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
/// If the answer is not such rows. A page is refused, not put right, if it does not go on from the one before, or if it is
/// out of order or has a row without an id while more follow: it would make a listing endless or lose people.
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
    let Some(Rows { rows, more }) = read_rows::<UserColumns, ASSOCIATES_A_PAGE>(USERS, body)?
    else {
        // Read as "nobody", it would end a listing early and the rest would seem to have left.
        return Err(refused(USERS, "null in place of rows"));
    };
    let full = rows.len() >= asked;
    if rows.len() > asked {
        return Err(refused(USERS, "more rows than were asked for"));
    }
    let records: Vec<_> = rows.iter().filter_map(record).collect();
    if records.iter().any(|(record, _)| Some(record.id) <= after) {
        return Err(refused(USERS, "a page that does not go on from the one before"));
    }
    let more = more || full;
    let left_out = rows.len() - records.len();
    if more && left_out > 0 {
        // Such a row may be out of order, and the page after this one would miss or repeat it.
        return Err(refused(USERS, "a row without an associate id while more follow"));
    }
    let ordered = records.is_sorted_by(|(before, _), (next, _)| before.id <= next.id);
    if more && (records.is_empty() || !ordered) {
        return Err(refused(USERS, "a page that is empty or out of order while more follow"));
    }
    let associates = each_associate(records);
    let last = associates.last().map(|record| record.id);
    Ok(AssociatePage { associates, next: last.filter(|_| more), left_out })
}

/// Reads those of the associates asked for that there are, by ascending id.
///
/// # Errors
/// If the answer is not rows of these.
pub fn read_associates_by_id(
    body: &[u8],
    asked: &[AssociateId],
) -> Result<Vec<AssociateRecord>, UpstreamError> {
    read_repaired(body, |body| by_id(body, asked))
}

fn by_id(body: &[u8], asked: &[AssociateId]) -> Result<Vec<AssociateRecord>, UpstreamError> {
    let Some(Rows { rows, more }) = read_rows::<UserColumns, ASSOCIATES_A_PAGE>(USERS, body)?
    else {
        return Ok(Vec::new());
    };
    let records: Vec<_> = rows.iter().filter_map(record).collect();
    if records.iter().any(|(record, _)| !asked.contains(&record.id)) {
        return Err(refused(USERS, "an associate that was not asked for"));
    }
    if more {
        return Err(refused(USERS, "only some of those asked for"));
    }
    let unknown = rows.len() > records.len();
    let associates = each_associate(records);
    if unknown && asked.iter().any(|id| !associates.iter().any(|record| record.id == *id)) {
        // It may be the row of one that would be reported as missing.
        return Err(refused(USERS, "a row without an associate id"));
    }
    Ok(associates)
}

/// Returns each associate once, by ascending id. If its rows differ, the row counts whose primary key is the id, else the
/// first.
fn each_associate(mut records: Vec<(AssociateRecord, bool)>) -> Vec<AssociateRecord> {
    records.sort_by_key(|(record, is_key)| (record.id, !is_key));
    let mut associates: Vec<AssociateRecord> = Vec::with_capacity(records.len());
    // The first row of the associate that is last in the list, as it was read.
    let mut first: Option<AssociateRecord> = None;
    for (record, _) in records {
        match associates.last_mut().filter(|last| last.id == record.id) {
            None => {
                associates.push(record);
                first = None;
            }
            Some(last) => {
                let read = first.get_or_insert_with(|| last.clone());
                if *read != record && !last.warnings.contains(&DataWarning::Contradicted) {
                    last.warnings.push(DataWarning::Contradicted);
                }
            }
        }
    }
    associates
}

/// Reads one associate, and whether the row's primary key is its id. Without an id it is not known whose row it is;
/// everything else can be odd.
fn record(row: &Row<'_, UserColumns>) -> Option<(AssociateRecord, bool)> {
    const ID: &str = "associateDbId";
    let id = AssociateId::new(row.id(ID)?)?;
    let mut reading = Reading { row, warnings: Vec::new() };
    let told = row.cell(ID);
    if !told.is_null() && told.int() != Ok(Some(id.get())) {
        reading.warnings.push(DataWarning::Unreadable(ID));
    }
    let kind = reading.kind();
    if row.cell("assocName").is_null() {
        reading.warnings.push(DataWarning::Missing("assocName"));
    }
    let group = reading.or_default("usergroupId", Cell::int).unwrap_or(0);
    let group = Reference { id: group, ..reading.or_default("usergroup", Cell::reference) };
    let record = AssociateRecord {
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
    };
    Some((record, row.is_key(id.get())))
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
        let Kept { text, cut, replaced } = self.or_default(column, Cell::text);
        if cut {
            self.warnings.push(DataWarning::Cut(column));
        }
        if replaced {
            self.warnings.push(DataWarning::Replaced(column));
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
