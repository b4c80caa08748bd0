//! Rows of `GET /api/v1/Role`, the archive of roles (SUPEROFFICE.md 6.6).

use super::{
    Profile,
    archive::{Columns, Row, Rows, read_rows},
    cell::Unreadable,
    each_once, refused,
};
use crate::{
    domain::{Role, RoleType},
    ports::UpstreamError,
    superoffice::client::Repeat,
};

pub(super) const ROLES: Profile =
    Profile { what: "Role", max_body_bytes: 8 * 1024 * 1024, repeat: Repeat::Reads };

/// More than this are not the roles of a company.
const MAX_ROLES: usize = 10_000;

/// The columns that are read, to be selected.
pub const ROLE_COLUMNS: &[&str] =
    &["roleId", "name", "description", "roleTypeId", "roleTypeName", "isDeleted"];

#[derive(Debug)]
struct RoleColumns;

impl Columns for RoleColumns {
    const NAMES: &'static [&'static str] = ROLE_COLUMNS;
}

/// Reads the roles, by ascending id. Names may hold translations.
///
/// # Errors
/// If the answer is not all of them.
pub fn read_roles(body: &[u8]) -> Result<Vec<Role>, UpstreamError> {
    let Some(Rows { rows, more }) = read_rows::<RoleColumns, MAX_ROLES>(ROLES, body)? else {
        return Err(refused(ROLES, "null in place of rows"));
    };
    if more {
        return Err(refused(ROLES, "only some of the roles"));
    }
    let mut roles = Vec::with_capacity(rows.len());
    for row in &rows {
        let role = role(row).map_err(|Unreadable| refused(ROLES, "a role that cannot be read"))?;
        roles.push((role.id, role));
    }
    each_once(ROLES, roles)
}

fn role(row: &Row<'_, RoleColumns>) -> Result<Role, Unreadable> {
    let name = || row.text("roleTypeName").ok();
    let code = row.cell("roleTypeId").int()?;
    Ok(Role {
        id: row.id("roleId").filter(|id| *id > 0).ok_or(Unreadable)?,
        display_name: row.text("name")?.text,
        description: row.text("description")?.text,
        // The name may come in any language, and only helps where there is no number.
        role_type: match code {
            Some(code) => RoleType::from_code(code),
            None => name().and_then(|name| RoleType::from_api_name(&name.text)),
        },
        deleted: row.cell("isDeleted").flag()?.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_from_slim_and_full_rows() {
        let body = br#"{"odata.metadata":"https://sod2.superoffice.com:443/Cust12345/api/v1/Archive//$metadata",
            "odata.nextLink":null,"value":[
            {"PrimaryKey":"2","EntityName":"role","roleId":2,"name":"User level 1","description":"NO:\"a\";US:\"b\"",
             "roleTypeId":0,"roleTypeName":"Ansatt","isDeleted":false,"rank":3,"updatedDate":"0001-01-01T00:00:00"},
            {"PrimaryKey":1,"EntityName":"role","StyleHint":"","Column":{
             "name":{"RawValue":"System","DisplayValue":"System"},
             "roleTypeName":{"RawValue":"System"},"isDeleted":{"RawValue":true,"DisplayValue":"[B:1]"}}},
            {"PrimaryKey":"3","name":"Odd","roleTypeId":"77"}]}"#;
        let roles = read_roles(body).unwrap();
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
    fn what_is_not_all_roles_is_refused() {
        for body in [
            "null",
            "[]",
            r#"{"value":null}"#,
            r#"{"value":[{"name":"no id"}]}"#,
            r#"{"value":[{"roleId":0}]}"#,
            r#"{"value":[{"roleId":1,"name":5}]}"#,
            r#"{"value":[{"roleId":1}],"odata.nextLink":"https://sod.superoffice.com/x"}"#,
            r#"{"value":[{"roleId":1,"name":"a"},{"roleId":1,"name":"b"}]}"#,
        ] {
            let refused = read_roles(body.as_bytes());
            assert!(matches!(refused, Err(UpstreamError::InvalidResponse(_))), "{body}");
        }
    }
}
