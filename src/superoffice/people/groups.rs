//! The list of user groups, `GET /api/v1/MDOList/usergroup` (SUPEROFFICE.md 6.5).

use serde::Deserialize;

use super::{
    Profile,
    cell::{Bounded, Cell, Unreadable},
    each_once, json, refused,
};
use crate::{domain::UserGroup, ports::UpstreamError, superoffice::client::Repeat};

pub(super) const GROUPS: Profile =
    Profile { what: "MDOList/usergroup", max_body_bytes: 8 * 1024 * 1024, repeat: Repeat::Reads };

/// More than this are not the groups of a company.
const MAX_GROUPS: usize = 20_000;

/// An item of the list. Everything else in it is for lists of other things.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
pub(super) struct Item<'a> {
    #[serde(borrow)]
    id: Cell<'a>,
    #[serde(borrow)]
    name: Cell<'a>,
    #[serde(borrow)]
    rank: Cell<'a>,
    #[serde(borrow)]
    deleted: Cell<'a>,
}

/// Reads the groups, by ascending id. Names may hold translations.
///
/// # Errors
/// If the answer is not such a list.
pub fn read_user_groups(body: &[u8]) -> Result<Vec<UserGroup>, UpstreamError> {
    let items: Option<Bounded<Item<'_>, MAX_GROUPS>> = json(GROUPS, body)?;
    let items = items.ok_or_else(|| refused(GROUPS, "null in place of a list"))?.0;
    let mut groups = Vec::with_capacity(items.len());
    for item in items {
        let group = item.group();
        let group = group.map_err(|Unreadable| refused(GROUPS, "a group that cannot be read"))?;
        // Lists may hold "no selection" and "all" too.
        if group.id > 0 {
            groups.push((group.id, group));
        }
    }
    each_once(GROUPS, groups)
}

impl Item<'_> {
    fn group(&self) -> Result<UserGroup, Unreadable> {
        Ok(UserGroup {
            id: self.id.int()?.ok_or(Unreadable)?,
            display_name: self.name.text()?.text,
            rank: self.rank.int()?.unwrap_or(0),
            deleted: self.deleted.flag()?.unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_with_their_odd_casings() {
        let body = br#"[
            {"Id":4,"Name":"NO:\"Salg\";US:\"Sales\"","ToolTip":"","Deleted":false,"Rank":2,"Type":"",
             "ChildItems":[],"IconHint":"","ColorBlock":0,"ExtraInfo":"","StyleHint":"","FullName":null,
             "TableRight":null,"FieldProperties":null},
            {"Id":"3","Name":"Support","Deleted":1},
            {"Id":4,"Name":"NO:\"Salg\";US:\"Sales\"","Rank":2},
            {"Id":0,"Name":"(all)"}
        ]"#;
        let groups = read_user_groups(body).unwrap();
        let seen: Vec<_> = groups.iter().map(|g| (g.id, g.rank, g.deleted)).collect();
        assert_eq!(seen, [(3, 0, true), (4, 2, false)]);
        assert_eq!(groups[1].display_name, "NO:\"Salg\";US:\"Sales\"");
        assert_eq!(read_user_groups(b"[]"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_not_the_list_is_refused() {
        for body in [
            "",
            "null",
            "{}",
            r#"{"Message":"The request is invalid.","MessageDetail":"x"}"#,
            "<html></html>",
            "[null]",
            r#"[{"Name":"no id"}]"#,
            r#"[{"Id":"x"}]"#,
            r#"[{"Id":5,"Deleted":"perhaps"}]"#,
            r#"[{"Id":5,"Name":["a"]}]"#,
            r#"[{"Id":5,"Id":6}]"#,
            r#"[{"Id":5,"Name":"a"},{"Id":5,"Name":"b"}]"#,
        ] {
            let refused = read_user_groups(body.as_bytes());
            assert!(matches!(refused, Err(UpstreamError::InvalidResponse(_))), "{body}");
        }
        let many = format!("[{}{{}}]", "{},".repeat(MAX_GROUPS));
        assert!(read_user_groups(many.as_bytes()).is_err());
    }
}
