//! Rows of `GET /api/v1/Role`, the archive of roles.

use super::{
    RequestLimits,
    archive::{Columns, Row, Rows, read_rows},
    deduplicate,
    groups::read_name,
    invalid, read_repaired,
};
use crate::{
    domain::{DataWarning, Role, RoleType},
    ports::{ParsedRows, UpstreamError},
    superoffice::client::RetryPolicy,
};

pub(super) const ROLES: RequestLimits =
    RequestLimits { name: "Role", max_body_bytes: 8 * 1024 * 1024, retry: RetryPolicy::Idempotent };

/// The maximum number of roles.
const MAX_ROLES: usize = 10_000;

/// The columns that a request selects.
pub const ROLE_COLUMNS: &[&str] =
    &["roleId", "name", "description", "roleTypeId", "roleTypeName", "isDeleted"];

#[derive(Debug)]
struct RoleColumns;

impl Columns for RoleColumns {
    const NAMES: &'static [&'static str] = ROLE_COLUMNS;
}

/// Reads the roles, by ascending id. Names may contain translations.
///
/// # Errors
/// If the response does not have all roles.
pub fn read_roles(body: &[u8]) -> Result<ParsedRows<Role>, UpstreamError> {
    read_repaired(body, |body| {
        let Some(Rows { rows, has_more: more }) = read_rows::<RoleColumns, MAX_ROLES>(ROLES, body)?
        else {
            return Err(invalid(ROLES, "null in place of rows"));
        };
        if more {
            return Err(invalid(ROLES, "only some of the roles"));
        }
        let roles: Vec<_> = rows.iter().filter_map(role).collect();
        let left_out = rows.len() - roles.len();
        let roles = roles.into_iter().map(|role| (role.id, role));
        let items = deduplicate(roles, |role| role.warnings.push(DataWarning::ConflictingRows));
        Ok(ParsedRows { items, left_out })
    })
}

fn role(row: &Row<'_, RoleColumns>) -> Option<Role> {
    let id = row.id("roleId")?;
    let mut warnings = Vec::new();
    let (code, deleted) = (row.cell("roleTypeId").int(), row.cell("isDeleted").flag());
    for (column, unreadable) in [("roleTypeId", code.is_err()), ("isDeleted", deleted.is_err())] {
        warnings.extend(unreadable.then_some(DataWarning::Unreadable(column)));
    }
    let told = row.cell("roleId");
    if !told.is_null() && told.int() != Ok(Some(id)) {
        warnings.push(DataWarning::Unreadable("roleId"));
    }
    // The name may be in any language, so it is used only if there is no number.
    let name = || row.cell("roleTypeName").text().ok();
    Some(Role {
        id,
        display_name: read_name(row.cell("name"), "name", &mut warnings),
        description: read_name(row.cell("description"), "description", &mut warnings),
        role_type: match code.ok().flatten() {
            Some(code) => RoleType::from_code(code),
            None => name().and_then(|name| RoleType::from_api_name(&name.text)),
        },
        deleted: deleted.ok().flatten().unwrap_or(false),
        warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_roles_from_slim_and_full_rows() {
        let body = br#"{"odata.metadata":"https://sod2.superoffice.com:443/Cust12345/api/v1/Archive//$metadata",
            "odata.nextLink":null,"value":[
            {"PrimaryKey":"2","EntityName":"role","roleId":2,"name":"User level 1","description":"NO:\"a\";US:\"b\"",
             "roleTypeId":0,"roleTypeName":"Ansatt","isDeleted":false,"rank":3,"updatedDate":"0001-01-01T00:00:00"},
            {"PrimaryKey":1,"EntityName":"role","StyleHint":"","Column":{
             "name":{"RawValue":"System","DisplayValue":"System"},
             "roleTypeName":{"RawValue":"System"},"isDeleted":{"RawValue":true,"DisplayValue":"[B:1]"}}},
            {"PrimaryKey":"3","name":"Odd","roleTypeId":"77"}]}"#;
        let roles = read_roles(body).unwrap().items;
        let seen: Vec<_> = roles.iter().map(|r| (r.id, r.role_type, r.deleted)).collect();
        assert_eq!(
            seen,
            [
                (1, Some(RoleType::System), true),
                (2, Some(RoleType::Employee), false),
                (3, None, false)
            ]
        );
        assert_eq!(roles[1].user_level(), Some(1));
    }

    #[test]
    fn rejects_anything_but_all_roles() {
        for body in [
            "null",
            "[]",
            r#"{"value":null}"#,
            r#"{"value":[{"roleId":1}],"odata.nextLink":"https://sod.superoffice.com/x"}"#,
        ] {
            let refused = read_roles(body.as_bytes());
            assert!(matches!(refused, Err(UpstreamError::InvalidResponse(_))), "{body}");
        }
    }

    #[test]
    fn leaves_out_roles_without_an_id_and_warns_about_other_problems() {
        use DataWarning::{ConflictingRows, Replaced, Truncated, Unreadable};
        for odd in [
            "null",
            "[]",
            r#"{"name":"no id"}"#,
            r#"{"roleId":0,"PrimaryKey":"0"}"#,
            r#"{"roleId":-3}"#,
            r#"{"roleId":1,"roleId":2}"#,
            r#"{"PrimaryKey":{"x":1},"Column":null}"#,
        ] {
            let body = format!(r#"{{"value":[{odd},{{"roleId":5,"name":"a"}}]}}"#);
            let read = read_roles(body.as_bytes()).unwrap();
            assert_eq!((read.items.len(), read.left_out), (1, 1), "{odd}");
        }
        let long = format!(r#""description":"{}""#, "a".repeat(5000));
        for (columns, role_type, warnings) in [
            (r#""name":5,"roleTypeId":0"#, Some(RoleType::Employee), vec![Unreadable("name")]),
            (r#""name":"\udead""#, None, vec![Replaced("name")]),
            (&long, None, vec![Truncated("description")]),
            (
                r#""roleTypeId":[],"roleTypeName":"System""#,
                Some(RoleType::System),
                vec![Unreadable("roleTypeId")],
            ),
            (r#""roleTypeId":0,"roleTypeId":1"#, None, vec![Unreadable("roleTypeId")]),
            (r#""isDeleted":5"#, None, vec![Unreadable("isDeleted")]),
            (r#""PrimaryKey":"5","roleId":"x""#, None, vec![Unreadable("roleId")]),
            (r#""name":"a"},{"roleId":5,"name":"b""#, None, vec![ConflictingRows]),
        ] {
            let id = if columns.contains("PrimaryKey") { "" } else { r#""roleId":5,"# };
            let read =
                read_roles(format!(r#"{{"value":[{{{id}{columns}}}]}}"#).as_bytes()).unwrap();
            let [role] = &read.items[..] else { panic!("{columns}: {read:?}") };
            assert_eq!(
                (role.id, role.role_type, &role.warnings),
                (5, role_type, &warnings),
                "{columns}"
            );
        }
    }
}
