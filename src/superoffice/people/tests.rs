//! Invalid data: an invalid cell, row or wrapper affects nothing else in the response.

use proptest::prelude::*;

use super::*;
use crate::{
    domain::{AssociateId, AssociateRecord, DataWarning, Principal, Role, UserGroup},
    ports::AssociatePage,
};

const MORE: &str = r#""https://sod2.superoffice.com/Cust12345/api/v1/User?x""#;

/// A name and the text of its value, which need not be valid JSON.
type Cells = Vec<(&'static str, Vec<u8>)>;

/// Values that replace a valid one.
fn odd_values() -> Vec<Vec<u8>> {
    let texts = [
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "5",
        "1.5",
        "-0.0",
        "2147483648",
        "-2147483649",
        "18446744073709551616",
        "1e999",
        "NaN",
        "{}",
        "[]",
        "[[3]]",
        r#"{"x":1}"#,
        r#"{"x":{"RawValue":5}}"#,
        r#"{"RawValue":{"x":1}}"#,
        r#"{"RawValue":5,"RawValue":6}"#,
        r#"{"RawValue":null,"DisplayValue":[true]}"#,
        r#""""#,
        r#"" ""#,
        r#""true""#,
        r#""5""#,
        r#""five""#,
        r#""[I:5]""#,
        r#""[I:""#,
        r#""-""#,
        r#""0001-01-01T00:00:00""#,
        r#""9999-99-99""#,
        r#""Nonsense""#,
        r#""\u0000\u001f""#,
        r#""cut \ud83d""#,
        r#""\udc00 cut""#,
        r#""\ud83d\ud83d""#,
        r#""\x""#,
        r#"["\ud83d"]"#,
        r#"{"RawValue":"\ud83d","DisplayValue":"\ud83d"}"#,
        r#"{"\ud83d":1}"#,
    ];
    let mut values: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    values.push(b"\"\xff\xfe\"".to_vec());
    values.push(b"\"\xed\xa0\xbd\"".to_vec());
    values.push(b"\"tab\there, and nul\0\"".to_vec());
    values.push(format!("\"{}\"", "å".repeat(100_000)).into_bytes());
    values.push(format!("{}{}", "[".repeat(500), "]".repeat(500)).into_bytes());
    values.push(format!("[{}1]", "1,".repeat(5000)).into_bytes());
    values
}

/// Values that replace a row.
fn odd_rows() -> Vec<Vec<u8>> {
    let texts = [
        "null",
        "true",
        "7",
        "1.5",
        "\"row\"",
        "\"\\ud83d\"",
        "[]",
        "[{}]",
        "{}",
        r#"{"\ud83d":5}"#,
        r#"{"PrimaryKey":null}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A change of one cell.
#[derive(Debug, Clone)]
enum Change {
    Becomes(Vec<u8>),
    Vanishes,
    /// The field is repeated, first with this value.
    StandsTwice(Vec<u8>),
    /// An unknown field precedes it.
    GetsNeighbour(Vec<u8>),
}

fn changes() -> Vec<Change> {
    let values = odd_values();
    let becomes = values.iter().cloned().map(Change::Becomes);
    let twice = values.iter().cloned().map(Change::StandsTwice);
    let neighbour = values.iter().cloned().map(Change::GetsNeighbour);
    becomes.chain(twice).chain(neighbour).chain([Change::Vanishes]).collect()
}

fn change() -> impl Strategy<Value = Change> {
    let text = prop::collection::vec(any::<u16>(), 0..6).prop_map(|units| {
        let escapes = units.iter().map(|unit| format!("\\u{unit:04x}"));
        escapes.collect::<Vec<_>>().concat()
    });
    let leaf = prop_oneof![
        prop::sample::select(odd_values()),
        text.prop_map(|text| format!("\"{text}\"").into_bytes()),
        any::<f64>().prop_map(|number| format!("{number}").into_bytes()),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
    ];
    let value = leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|all| [
                &b"["[..],
                &all.join(&b","[..]),
                b"]"
            ]
            .concat()),
            (prop::sample::select(vec!["RawValue", "DisplayValue", "Id", "\\ud83d"]), inner)
                .prop_map(
                    |(name, value)| [format!("{{\"{name}\":").as_bytes(), &value, b"}"].concat()
                ),
        ]
    });
    prop_oneof![
        value.clone().prop_map(Change::Becomes),
        value.clone().prop_map(Change::StandsTwice),
        value.prop_map(Change::GetsNeighbour),
        Just(Change::Vanishes),
    ]
}

fn object(cells: &Cells) -> Vec<u8> {
    let cells =
        cells.iter().map(|(name, value)| [format!("\"{name}\":").as_bytes(), value].concat());
    [&b"{"[..], &cells.collect::<Vec<_>>().join(&b","[..]), b"}"].concat()
}

fn changed(cells: &Cells, column: usize, change: &Change) -> Vec<u8> {
    let mut cells = cells.clone();
    let name = cells[column].0;
    match change {
        Change::Becomes(value) => cells[column].1.clone_from(value),
        Change::Vanishes => drop(cells.remove(column)),
        Change::StandsTwice(value) => cells.insert(column, (name, value.clone())),
        Change::GetsNeighbour(value) => cells.insert(column, ("odd\\ud83d", value.clone())),
    }
    object(&cells)
}

fn list(rows: &[Vec<u8>]) -> Vec<u8> {
    [&b"["[..], &rows.join(&b","[..]), b"]"].concat()
}

fn archive(rows: &[Vec<u8>], next_link: &str) -> Vec<u8> {
    let head = format!(r#"{{"odata.metadata":"x","odata.nextLink":{next_link},"value":"#);
    [head.as_bytes(), &list(rows), b"}"].concat()
}

fn cells<const N: usize>(pairs: [(&'static str, &str); N]) -> Cells {
    pairs.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect()
}

fn user(id: i32) -> Cells {
    let (key, number) = (format!("\"{id}\""), id.to_string());
    cells([
        ("PrimaryKey", &key),
        ("EntityName", r#""associate""#),
        ("associateDbId", &number),
        ("assocName", r#""AA""#),
        ("assocType", "0"),
        ("userName", r#""anna@example.com""#),
        ("fullName", r#""Anna \ud83d\ude00""#),
        ("personId", "9"),
        ("personEmail", r#""anna@example.com""#),
        ("contactId", r#""2""#),
        ("usergroup", r#""NO:\"Salg\";US:\"Sales\"""#),
        ("usergroupId", "3"),
        ("otherGroups", r#""4, 7""#),
        ("role", r#"{"RawValue":1,"DisplayValue":"User level 0"}"#),
        ("isActive", "true"),
        ("canLogin", r#""[B:1]""#),
        ("credentialType", r#""SuperId""#),
    ])
}

fn users() -> Vec<Cells> {
    [5, 6, 9, 12].map(user).to_vec()
}

fn page(body: &[u8]) -> Result<AssociatePage, UpstreamError> {
    read_associates(body, None, 1000)
}

/// Returns the fields of an associate by the column that they are read from.
fn fields(record: &AssociateRecord) -> Vec<(&'static str, String)> {
    let AssociateRecord { id: _, kind, login, user_name, full_name, email, .. } = record;
    let AssociateRecord { person_id, contact_id, primary_group, other_groups, role, .. } = record;
    let AssociateRecord { active, can_login, credential_type, warnings: _, .. } = record;
    vec![
        ("assocType", format!("{kind:?}")),
        ("assocName", login.clone()),
        ("userName", user_name.clone()),
        ("fullName", full_name.clone()),
        ("personEmail", email.clone()),
        ("personId", person_id.to_string()),
        ("contactId", contact_id.to_string()),
        ("usergroupId", primary_group.id.to_string()),
        ("usergroup", primary_group.name.clone()),
        ("otherGroups", format!("{other_groups:?}")),
        ("role", format!("{role:?}")),
        ("isActive", format!("{active:?}")),
        ("canLogin", format!("{can_login:?}")),
        ("credentialType", credential_type.clone()),
    ]
}

/// Asserts that all other rows are unchanged, and in the changed row all other columns.
fn only_this_is_odd(row: usize, column: &str, body: &[u8], shown: &dyn std::fmt::Debug) {
    let whole = page(&archive(&users().iter().map(object).collect::<Vec<_>>(), "null")).unwrap();
    assert!(whole.associates.iter().all(|record| record.warnings.is_empty()));
    let read = page(body).unwrap_or_else(|error| panic!("{column} {shown:?}: {error}"));
    let is_id = ["associateDbId", "PrimaryKey"].contains(&column);
    for (index, before) in whole.associates.iter().enumerate() {
        let after = read.associates.iter().find(|record| record.id == before.id);
        if index != row {
            let mut after = after
                .unwrap_or_else(|| panic!("{column} {shown:?}: another row is missing"))
                .clone();
            // The changed row may have the id of this one.
            after.warnings.retain(|warning| !is_id || *warning != DataWarning::ConflictingRows);
            assert_eq!(after, *before, "{column} {shown:?}");
        } else if let Some(after) = after {
            for (before, after) in fields(before).iter().zip(fields(after)) {
                assert!(
                    before.0 == column || *before == after,
                    "{column} {shown:?}: {before:?}, {after:?}"
                );
            }
            for warning in &after.warnings {
                let text = warning.to_string();
                assert!(text.contains(column) || is_id, "{column} {shown:?}: {text}");
            }
        } else {
            assert!(is_id || read.left_out == 1, "{column} {shown:?}: left out");
        }
    }
    assert!(is_id || read.associates.len() + read.left_out == whole.associates.len());
}

#[test]
fn one_invalid_cell_of_an_associate_changes_no_other() {
    for row in [0, 2] {
        for (column, (name, _)) in users()[row].iter().enumerate() {
            for change in &changes() {
                let mut rows: Vec<_> = users().iter().map(object).collect();
                rows[row] = changed(&users()[row], column, change);
                only_this_is_odd(row, name, &archive(&rows, "null"), change);
                // Other ids would be unordered: see below.
                if !["PrimaryKey", "associateDbId"].contains(name) {
                    let more = page(&archive(&rows, MORE)).unwrap();
                    assert_eq!(more.associates, page(&archive(&rows, "null")).unwrap().associates);
                }
            }
        }
    }
}

#[test]
fn leaves_out_an_invalid_row_unless_more_pages_follow() {
    for row in 0..4 {
        for odd in odd_rows() {
            let mut rows: Vec<_> = users().iter().map(object).collect();
            rows[row].clone_from(&odd);
            let read = page(&archive(&rows, "null")).unwrap();
            assert_eq!((read.associates.len(), read.left_out), (3, 1));
            assert!(page(&archive(&rows, MORE)).is_err(), "the next page would miss an associate");
            let known = [5, 6, 9, 12].map(|id| AssociateId::new(id).unwrap());
            let by_id = read_associates_by_id(&archive(&rows, "null"), &known);
            assert!(by_id.is_err(), "it may be the one that is missing");
            let others: Vec<_> = read.associates.iter().map(|record| record.id).collect();
            let by_id = read_associates_by_id(&archive(&rows, "null"), &others).unwrap();
            assert_eq!(by_id, read.associates);
        }
    }
}

#[test]
fn warns_if_two_rows_of_an_associate_differ() {
    for (column, value) in [("fullName", r#""Other""#), ("PrimaryKey", "7")] {
        let place = user(6).iter().position(|(name, _)| *name == column).unwrap();
        let other = changed(&user(6), place, &Change::Becomes(value.as_bytes().to_vec()));
        for order in [vec![object(&user(6)), other.clone()], vec![other, object(&user(6))]] {
            let rows = [vec![object(&user(5))], order].concat();
            let read = page(&archive(&rows, "null")).unwrap().associates;
            assert_eq!(read.len(), 2);
            let told = read[1].warnings.contains(&DataWarning::ConflictingRows);
            assert_eq!(told, column == "fullName", "the primary key is not part of an associate");
            assert_eq!(read[0].warnings, []);
        }
    }
}

#[test]
fn rejects_an_invalid_wrapper_and_accepts_a_byte_order_mark() {
    let rows: Vec<_> = users().iter().map(object).collect();
    let whole = archive(&rows, "null");
    let text = String::from_utf8(whole.clone()).unwrap();
    let marked = [&b"\xef\xbb\xbf"[..], &whole].concat();
    assert_eq!(page(&marked), page(&whole));
    let odd_metadata =
        text.replace(r#""odata.metadata":"x""#, r#""odata.metadata":"\ud83d","\ud83d":NaN"#);
    assert_eq!(page(odd_metadata.as_bytes()), page(&whole));
    for (what, body) in [
        ("cut off", text[..text.len() - 1].to_owned()),
        ("cut off in a row", text[..text.len() / 2].to_owned()),
        ("a link that is none", archive_text(&rows, "[]")),
        ("a link that is a number", archive_text(&rows, "7")),
        ("no rows", text.replace("\"value\"", "\"values\"")),
        ("null in place of rows", r#"{"value":null}"#.to_owned()),
        ("an object in place of rows", r#"{"value":{}}"#.to_owned()),
        ("a number in place of rows", r#"{"value":7}"#.to_owned()),
        ("rows twice", text.replace("\"value\":", "\"value\":[],\"value\":")),
        ("an error", text.replace("\"value\"", "\"Message\":\"\\ud83d\",\"value\"")),
        ("two answers", format!("{text}{text}")),
        ("HTML", "<html>".to_owned()),
        ("nothing", String::new()),
    ] {
        assert!(matches!(page(body.as_bytes()), Err(UpstreamError::InvalidResponse(_))), "{what}");
    }
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(page(&utf16).is_err());
}

fn archive_text(rows: &[Vec<u8>], next_link: &str) -> String {
    String::from_utf8(archive(rows, next_link)).unwrap()
}

fn group(id: i32) -> Cells {
    cells([
        ("Id", &id.to_string()),
        ("Name", r#""NO:\"Salg\";US:\"Sales\"""#),
        ("ToolTip", r#""""#),
        ("Deleted", "false"),
        ("Rank", "2"),
        ("ChildItems", "[]"),
    ])
}

fn role(id: i32) -> Cells {
    cells([
        ("PrimaryKey", &format!("\"{id}\"")),
        ("roleId", &id.to_string()),
        ("name", r#""User level 0""#),
        ("description", r#""All""#),
        ("roleTypeId", "0"),
        ("roleTypeName", r#""Employee""#),
        ("isDeleted", "false"),
    ])
}

fn of_group(group: &UserGroup) -> Vec<(&'static str, String)> {
    let UserGroup { id: _, display_name, rank, deleted, warnings: _ } = group;
    vec![
        ("Name", display_name.clone()),
        ("Rank", rank.to_string()),
        ("Deleted", deleted.to_string()),
    ]
}

fn of_role(role: &Role) -> Vec<(&'static str, String)> {
    let Role { id: _, display_name, description, role_type, deleted, warnings: _ } = role;
    vec![
        ("name", display_name.clone()),
        ("description", description.clone()),
        ("roleType", format!("{role_type:?}")),
        ("isDeleted", deleted.to_string()),
    ]
}

#[test]
fn one_invalid_cell_of_a_group_or_role_changes_no_other() {
    let ids = [3, 4, 8];
    for row in 0..ids.len() {
        for change in &changes() {
            for (column, (name, _)) in group(1).iter().enumerate() {
                let mut rows: Vec<_> = ids.iter().map(|id| object(&group(*id))).collect();
                let whole = read_user_groups(&list(&rows)).unwrap().items;
                rows[row] = changed(&group(ids[row]), column, change);
                let read = read_user_groups(&list(&rows)).unwrap();
                let of = |all: &[UserGroup]| {
                    all.iter().map(|one| (one.id, of_group(one), one.warnings.clone())).collect()
                };
                only_one_is_odd(
                    of(&whole),
                    &of(&read.items),
                    ids[row],
                    *name == "Id",
                    name,
                    change,
                );
            }
            for (column, (name, _)) in role(1).iter().enumerate() {
                let mut rows: Vec<_> = ids.iter().map(|id| object(&role(*id))).collect();
                let whole = read_roles(&archive(&rows, "null")).unwrap().items;
                rows[row] = changed(&role(ids[row]), column, change);
                let read = read_roles(&archive(&rows, "null")).unwrap();
                let of = |all: &[Role]| {
                    all.iter().map(|one| (one.id, of_role(one), one.warnings.clone())).collect()
                };
                let is_id = ["roleId", "PrimaryKey"].contains(name);
                only_one_is_odd(of(&whole), &of(&read.items), ids[row], is_id, name, change);
            }
        }
    }
}

type Item = (i32, Vec<(&'static str, String)>, Vec<DataWarning>);

fn only_one_is_odd(
    whole: Vec<Item>,
    read: &[Item],
    id: i32,
    is_id: bool,
    column: &str,
    change: &Change,
) {
    for before in whole {
        let after = read.iter().find(|item| item.0 == before.0);
        if before.0 != id {
            let mut after = after
                .unwrap_or_else(|| panic!("{column} {change:?}: another row is missing"))
                .clone();
            after.2.retain(|warning| !is_id || *warning != DataWarning::ConflictingRows);
            assert_eq!(after, before, "{column} {change:?}");
        } else if let Some(after) = after {
            for (before, after) in before.1.iter().zip(&after.1) {
                assert!(
                    column.starts_with(before.0) || before == after,
                    "{column} {change:?}: {before:?}, {after:?}"
                );
            }
        } else {
            assert!(is_id, "{column} {change:?}: left out");
        }
    }
}

fn carrier() -> Cells {
    cells([
        ("UserType", r#""InternalAssociate""#),
        ("Associate", r#""AA""#),
        ("AssociateId", "5"),
        ("PersonId", "9"),
        ("ContactId", "2"),
        ("GroupId", "3"),
        ("RoleId", "1"),
        ("RoleName", r#""User level 0""#),
        ("RoleType", r#""Employee""#),
        ("FullName", r#""Anna""#),
        ("EMailAddress", r#""anna@example.com""#),
        ("FunctionRights", r#"["a","b"]"#),
        ("SecondaryGroups", "[4,7]"),
        ("Licenses", r#"[{"Name":"ten-sales","ExpiryDate":"0001-01-01T00:00:00"}]"#),
        ("EjUserId", "0"),
        ("DatabaseContextIdentifier", r#""Cust12345""#),
        ("UserName", r#""anna@example.com""#),
    ])
}

/// Returns the fields of a principal by the response field that they are read from.
fn of_principal(principal: &Principal) -> Vec<(&'static str, String)> {
    let Principal { tenant: _, kind, id: _, login, user_name, full_name, email, .. } = principal;
    let Principal { person_id, contact_id, primary_group_id, secondary_group_ids, role_id, .. } =
        principal;
    let Principal { role_name, role_type, function_rights, licenses, .. } = principal;
    vec![
        ("UserType", format!("{kind:?}")),
        ("Associate", login.clone()),
        ("UserName", user_name.clone()),
        ("FullName", full_name.clone()),
        ("EMailAddress", email.clone()),
        ("PersonId", person_id.to_string()),
        ("ContactId", contact_id.to_string()),
        ("GroupId", primary_group_id.to_string()),
        ("SecondaryGroups", format!("{secondary_group_ids:?}")),
        ("RoleId", role_id.to_string()),
        ("RoleName", role_name.clone()),
        ("RoleType", format!("{role_type:?}")),
        ("FunctionRights", format!("{function_rights:?}")),
        ("Licenses", format!("{licenses:?}")),
    ]
}

#[test]
fn one_invalid_field_of_a_principal_changes_no_other() {
    let tenant = "Cust12345".parse().unwrap();
    let whole = read_principal(&object(&carrier()), tenant).unwrap();
    for (column, (name, _)) in carrier().iter().enumerate() {
        for change in &changes() {
            let read = read_principal(&changed(&carrier(), column, change), tenant);
            if ["AssociateId", "DatabaseContextIdentifier"].contains(name) {
                let same = read.is_err()
                    || read.is_ok_and(|read| {
                        read.tenant == tenant && read.id == whole.id
                    // Any valid id is readable.
                    || matches!(change, Change::Becomes(_))
                    });
                assert!(same, "{name} {change:?}");
                continue;
            }
            let read = read.unwrap_or_else(|error| panic!("{name} {change:?}: {error}"));
            assert_eq!((read.id, read.tenant), (whole.id, whole.tenant));
            for (before, after) in of_principal(&whole).iter().zip(of_principal(&read)) {
                assert!(
                    before.0 == *name || *before == after,
                    "{name} {change:?}: {before:?}, {after:?}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn any_value_of_one_cell_leaves_the_rest_of_the_page_unchanged(
        row in 0..4_usize,
        column in 0..17_usize,
        change in change(),
    ) {
        let mut rows: Vec<_> = users().iter().map(object).collect();
        rows[row] = changed(&users()[row], column, &change);
        only_this_is_odd(row, users()[row][column].0, &archive(&rows, "null"), &change);
    }

    #[test]
    fn any_value_of_one_cell_of_a_full_row_leaves_the_rest_unchanged(
        row in 0..4_usize,
        column in 2..17_usize,
        change in change(),
    ) {
        let full = |cells: &Cells, columns: Vec<u8>| {
            [&b"{\"PrimaryKey\":"[..], &cells[0].1, b",\"StyleHint\":\"\",\"Column\":", &columns, b"}"].concat()
        };
        let mut rows: Vec<_> = users().iter().map(|cells| full(cells, object(&cells[2..].to_vec()))).collect();
        let cells = &users()[row];
        rows[row] = full(cells, changed(&cells[2..].to_vec(), column - 2, &change));
        only_this_is_odd(row, cells[column].0, &archive(&rows, "null"), &change);
    }
}
