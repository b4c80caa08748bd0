//! The list of user groups, `GET /api/v1/MDOList/usergroup`.

use super::{
    RequestLimits,
    archive::{Columns, Row},
    cell::{BoundedList, Cell},
    deduplicate, invalid, json, read_repaired,
};
use crate::{
    domain::{DataWarning, UserGroup},
    ports::{ParsedRows, UpstreamError},
    superoffice::client::RetryPolicy,
};

pub(super) const GROUPS: RequestLimits = RequestLimits {
    name: "MDOList/usergroup",
    max_body_bytes: 8 * 1024 * 1024,
    retry: RetryPolicy::Idempotent,
};

/// The maximum number of groups.
const MAX_GROUPS: usize = 20_000;

/// The fields of an item that are read. The others belong to other kinds of lists.
pub(super) const GROUP_FIELDS: &[&str] = &["Id", "Name", "Rank", "Deleted"];

#[derive(Debug)]
struct GroupFields;

impl Columns for GroupFields {
    const NAMES: &'static [&'static str] = GROUP_FIELDS;
}

/// Reads the groups, by ascending id. Names may contain translations.
///
/// # Errors
/// If the response is not such a list.
pub fn read_user_groups(body: &[u8]) -> Result<ParsedRows<UserGroup>, UpstreamError> {
    read_repaired(body, |body| {
        let items: Option<BoundedList<Row<'_, GroupFields>, MAX_GROUPS>> = json(GROUPS, body)?;
        let items = items.ok_or_else(|| invalid(GROUPS, "null in place of a list"))?.0;
        // Lists may contain "no selection" and "all", with an id of 0 or less.
        let count = items.iter().filter(|item| !matches!(item.cell("Id").int(), Ok(Some(..=0))));
        let count = count.count();
        let groups: Vec<_> = items.iter().filter_map(group).collect();
        let left_out = count - groups.len();
        let groups = groups.into_iter().map(|group| (group.id, group));
        let items = deduplicate(groups, |group| group.warnings.push(DataWarning::ConflictingRows));
        Ok(ParsedRows { items, left_out })
    })
}

fn group(item: &Row<'_, GroupFields>) -> Option<UserGroup> {
    let id = item.cell("Id").int().ok().flatten().filter(|id| *id > 0)?;
    let mut warnings = Vec::new();
    let (rank, deleted) = (item.cell("Rank").int(), item.cell("Deleted").flag());
    for (field, unreadable) in [("Rank", rank.is_err()), ("Deleted", deleted.is_err())] {
        warnings.extend(unreadable.then_some(DataWarning::Unreadable(field)));
    }
    Some(UserGroup {
        id,
        display_name: read_name(item.cell("Name"), "Name", &mut warnings),
        rank: rank.ok().flatten().unwrap_or(0),
        deleted: deleted.ok().flatten().unwrap_or(false),
        warnings,
    })
}

/// Reads the name of a group or role. A number is read as text, with a warning.
pub(super) fn read_name(
    cell: &Cell<'_>,
    field: &'static str,
    warnings: &mut Vec<DataWarning>,
) -> String {
    if let Ok(kept) = cell.text() {
        warnings.extend(kept.truncated.then_some(DataWarning::Truncated(field)));
        warnings.extend(kept.replaced.then_some(DataWarning::Replaced(field)));
        kept.text
    } else {
        warnings.push(DataWarning::Unreadable(field));
        cell.name().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_groups_in_all_their_forms() {
        let body = br#"[
            {"Id":4,"Name":"NO:\"Salg\";US:\"Sales\"","ToolTip":"","Deleted":false,"Rank":2,"Type":"",
             "ChildItems":[],"IconHint":"","ColorBlock":0,"ExtraInfo":"","StyleHint":"","FullName":null,
             "TableRight":null,"FieldProperties":null},
            {"Id":"3","Name":"Support","Deleted":1},
            {"Id":4,"Name":"NO:\"Salg\";US:\"Sales\"","Rank":2},
            {"Id":0,"Name":"(all)"}
        ]"#;
        let groups = read_user_groups(body).unwrap().items;
        let seen: Vec<_> = groups.iter().map(|g| (g.id, g.rank, g.deleted)).collect();
        assert_eq!(seen, [(3, 0, true), (4, 2, false)]);
        assert_eq!(groups[1].display_name, "NO:\"Salg\";US:\"Sales\"");
        assert_eq!(read_user_groups(b"[]").unwrap().items, []);
    }

    #[test]
    fn rejects_anything_but_a_list() {
        for body in [
            "",
            "null",
            "{}",
            r#"{"Message":"The request is invalid.","MessageDetail":"x"}"#,
            "<html></html>",
            r#"[{"Id":5}"#,
        ] {
            let refused = read_user_groups(body.as_bytes());
            assert!(matches!(refused, Err(UpstreamError::InvalidResponse(_))), "{body}");
        }
        let many = format!("[{}{{}}]", "{},".repeat(MAX_GROUPS));
        assert!(read_user_groups(many.as_bytes()).is_err());
    }

    #[test]
    fn leaves_out_groups_without_an_id_and_warns_about_other_problems() {
        use DataWarning::{ConflictingRows, Replaced, Unreadable};
        for (odd, left_out) in [
            ("null", 1),
            ("7", 1),
            (r#"{"Name":"no id"}"#, 1),
            (r#"{"Id":"x"}"#, 1),
            (r#"{"Id":2147483648}"#, 1),
            (r#"{"Id":6,"Id":7}"#, 1),
            (r#"{"Id":0,"Name":"(all)"}"#, 0),
            (r#"{"Id":-1,"Name":"(none)"}"#, 0),
        ] {
            let read = read_user_groups(format!(r#"[{odd},{{"Id":5,"Name":"a"}}]"#).as_bytes());
            let read = read.unwrap();
            assert_eq!((read.items.len(), read.left_out), (1, left_out), "{odd}");
        }
        for (fields, name, warnings) in [
            (r#""Name":42"#, "42", vec![Unreadable("Name")]),
            (r#""Name":["a"]"#, "", vec![Unreadable("Name")]),
            (r#""Name":"a\ud83d""#, "a\u{fffd}", vec![Replaced("Name")]),
            (r#""Name":"a","Deleted":"perhaps""#, "a", vec![Unreadable("Deleted")]),
            (r#""Name":"a","Rank":[]"#, "a", vec![Unreadable("Rank")]),
            (r#""Name":"a"},{"Id":5,"Name":"b""#, "a", vec![ConflictingRows]),
        ] {
            let read = read_user_groups(format!(r#"[{{"Id":5,{fields}}}]"#).as_bytes()).unwrap();
            let [group] = &read.items[..] else { panic!("{fields}: {read:?}") };
            assert_eq!(
                (group.display_name.as_str(), &group.warnings),
                (name, &warnings),
                "{fields}"
            );
        }
    }
}
