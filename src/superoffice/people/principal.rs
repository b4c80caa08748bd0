//! The full response of `GET /api/v1/User/currentPrincipal`.

use std::fmt;

use jiff::civil::Date;
use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor},
};

use super::{
    archive::{Columns, FieldKey, KeyLookup, Row},
    cell::{BoundedText, Cell, LenientList, Unreadable, Value},
    invalid, json, read_repaired,
};
use crate::{
    domain::{
        AssociateId, AssociateType, ContextIdentifier, DataWarning, License, Principal, RoleType,
    },
    ports::UpstreamError,
    superoffice::principal::PRINCIPAL,
};

/// The maximum number of rights, licences and groups of a user.
const MAX_ITEMS: usize = 10_000;

const RIGHTS: &str = "FunctionRights";
const GROUPS: &str = "SecondaryGroups";
const LICENSES: &str = "Licenses";

/// The fields of the response that are read.
pub(super) const PRINCIPAL_FIELDS: &[&str] = &[
    "DatabaseContextIdentifier",
    "UserType",
    "Associate",
    "AssociateId",
    "UserName",
    "FullName",
    "EMailAddress",
    "PersonId",
    "ContactId",
    "GroupId",
    "RoleId",
    "RoleName",
    "RoleType",
    GROUPS,
    RIGHTS,
    LICENSES,
];

/// The fields of a licence that are read.
pub(super) const LICENSE_FIELDS: &[&str] = &["Name", "ExpiryDate"];

#[derive(Debug)]
struct LicenseFields;

impl Columns for LicenseFields {
    const NAMES: &'static [&'static str] = LICENSE_FIELDS;
}

/// The response, with the fields that are read.
struct Wire<'a> {
    /// The cells in the order of the field names.
    cells: Vec<Option<Cell<'a>>>,
    rights: LenientList<Cell<'a>, MAX_ITEMS>,
    groups: LenientList<Cell<'a>, MAX_ITEMS>,
    licenses: LenientList<Row<'a, LicenseFields>, MAX_ITEMS>,
}

/// Reads the principal of a credential for this tenant. Tenant and id must be readable; any other field may be
/// unreadable, with a warning.
///
/// # Errors
/// If the principal belongs to another tenant, or the response has another form.
pub fn read_principal(body: &[u8], tenant: ContextIdentifier) -> Result<Principal, UpstreamError> {
    read_repaired(body, |body| {
        let wire: Option<Wire<'_>> = json(PRINCIPAL, body)?;
        let wire = wire.ok_or_else(|| invalid(PRINCIPAL, "null in place of a principal"))?;
        let proven = wire.cell("DatabaseContextIdentifier").text();
        if proven.is_ok_and(|proven| proven.text == tenant.to_string()) {
            wire.principal(tenant)
        } else {
            Err(invalid(PRINCIPAL, "the principal of another tenant"))
        }
    })
}

impl<'a> Wire<'a> {
    fn cell(&self, name: &str) -> &Cell<'a> {
        const NULL: &Cell<'_> = &Cell::NULL;
        let place = PRINCIPAL_FIELDS.iter().position(|known| *known == name);
        place.and_then(|place| self.cells.get(place)?.as_ref()).unwrap_or(NULL)
    }

    fn principal(&self, tenant: ContextIdentifier) -> Result<Principal, UpstreamError> {
        let id = self.cell("AssociateId").int().ok().flatten().and_then(AssociateId::new);
        let id = id.ok_or_else(|| invalid(PRINCIPAL, "no associate id"))?;
        let mut reading = PrincipalReader { wire: self, warnings: Vec::new() };
        Ok(Principal {
            tenant,
            kind: reading
                .or_warn("UserType", |cell| associate_type(cell).map(Some))
                .unwrap_or(AssociateType::UNSPECIFIED),
            id,
            login: reading.text("Associate"),
            user_name: reading.text("UserName"),
            full_name: reading.text("FullName"),
            email: reading.text("EMailAddress"),
            person_id: reading.number("PersonId"),
            contact_id: reading.number("ContactId"),
            primary_group_id: reading.number("GroupId"),
            secondary_group_ids: reading.groups(),
            role_id: reading.number("RoleId"),
            role_name: reading.text("RoleName"),
            role_type: RoleType::from_api_name(&reading.text("RoleType")),
            function_rights: reading.rights(),
            licenses: reading.licenses(),
            warnings: reading.warnings,
        })
    }
}

/// Reads the fields of the response and collects warnings.
struct PrincipalReader<'r, 'a> {
    wire: &'r Wire<'a>,
    warnings: Vec<DataWarning>,
}

impl<'a> PrincipalReader<'_, 'a> {
    fn or_warn<T: Default>(
        &mut self,
        field: &'static str,
        read: fn(&Cell<'a>) -> Result<T, Unreadable>,
    ) -> T {
        read(self.wire.cell(field)).unwrap_or_else(|Unreadable| {
            self.warnings.push(DataWarning::Unreadable(field));
            T::default()
        })
    }

    fn text(&mut self, field: &'static str) -> String {
        let BoundedText { text, truncated: cut, replaced } = self.or_warn(field, Cell::text);
        self.warnings.extend(cut.then_some(DataWarning::Truncated(field)));
        self.warnings.extend(replaced.then_some(DataWarning::Replaced(field)));
        text
    }

    fn number(&mut self, field: &'static str) -> i32 {
        self.or_warn(field, Cell::int).unwrap_or(0)
    }

    fn groups(&mut self) -> Vec<i32> {
        let groups = &self.wire.groups;
        let read = groups.items.iter().map(|cell| cell.int().map(Option::unwrap_or_default));
        let mut ids = self.items(GROUPS, groups.incomplete, read);
        ids.retain(|id| *id != 0);
        ids
    }

    /// Returns the readable function rights. An unreadable one does not count.
    fn rights(&mut self) -> Vec<String> {
        let rights = &self.wire.rights;
        self.items(
            RIGHTS,
            rights.incomplete,
            rights.items.iter().map(|cell| cell.text().map(|kept| kept.text)),
        )
    }

    fn licenses(&mut self) -> Vec<License> {
        let licenses = &self.wire.licenses;
        let read: Vec<_> = licenses.items.iter().filter_map(license).collect();
        if licenses.incomplete || read.len() < licenses.items.len() {
            self.warnings.push(DataWarning::Unreadable(LICENSES));
        }
        read
    }

    /// Returns the readable items, sorted and without duplicates.
    fn items<T: Ord>(
        &mut self,
        field: &'static str,
        odd: bool,
        read: impl Iterator<Item = Result<T, Unreadable>>,
    ) -> Vec<T> {
        let (mut odd, mut items) = (odd, Vec::new());
        for item in read {
            match item {
                Ok(item) => items.push(item),
                Err(Unreadable) => odd = true,
            }
        }
        if odd {
            self.warnings.push(DataWarning::Unreadable(field));
        }
        items.sort_unstable();
        items.dedup();
        items
    }
}

/// Reads a name of the API's enum, or its number.
fn associate_type(cell: &Cell<'_>) -> Result<AssociateType, Unreadable> {
    let kind = match cell.raw() {
        Value::Int(_) => cell.int()?.and_then(AssociateType::from_api_number),
        _ => AssociateType::from_api_name(&cell.text()?.text),
    };
    Ok(kind.unwrap_or(AssociateType::UNSPECIFIED))
}

/// Reads a licence. `None` if its name or its expiry date is unreadable.
fn license(wire: &Row<'_, LicenseFields>) -> Option<License> {
    let date = wire.cell("ExpiryDate").text().ok()?.text;
    // Only the day is used, because the time zone is not documented.
    let expires: Option<Date> = match date.get(..10) {
        None if date.is_empty() => None,
        day => Some(day?.parse().ok()?),
    };
    // SuperOffice writes 0001-01-01 for no expiry date.
    let expires = expires.filter(|date| date.year() > 1);
    let name = wire.cell("Name").text().ok()?.text;
    (!name.is_empty()).then_some(License { name, expires })
}

impl<'de: 'a, 'a> Deserialize<'de> for Wire<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WireVisitor)
    }
}

struct WireVisitor;

impl<'de> Visitor<'de> for WireVisitor {
    type Value = Wire<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a principal")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wire<'de>, A::Error> {
        let (rights, groups, licenses) =
            (LenientList::default(), LenientList::default(), LenientList::default());
        let cells = vec![None; PRINCIPAL_FIELDS.len()];
        let mut wire = Wire { cells, rights, groups, licenses };
        while let Some(key) = map.next_key_seed(KeyLookup(PRINCIPAL_FIELDS))? {
            let FieldKey::Column(place) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            match PRINCIPAL_FIELDS.get(place) {
                Some(&RIGHTS) => wire.rights = map.next_value()?,
                Some(&GROUPS) => wire.groups = map.next_value()?,
                Some(&LICENSES) => wire.licenses = map.next_value()?,
                _ => {
                    let cell: Cell<'de> = map.next_value()?;
                    if let Some(field) = wire.cells.get_mut(place) {
                        let was_set = field.is_some();
                        field.get_or_insert_default().set(was_set, cell);
                    }
                }
            }
        }
        Ok(wire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> ContextIdentifier {
        "Cust12345".parse().unwrap()
    }

    #[test]
    fn reads_all_fields_of_a_principal() {
        let body = br#"{"UserType":"InternalAssociate","Associate":"AA","AssociateId":5,"IsPerson":true,"PersonId":9,
            "CountryId":578,"HomeCountryId":578,"ContactId":2,"GroupId":3,"BusinessId":0,"CategoryId":0,
            "ContactOwner":5,"RoleId":1,"RoleName":"User level 0","RoleDescription":"","RoleType":"Employee",
            "Licenses":[{"OwnerName":"SUPEROFFICE","Name":"ten-sales","ExpiryDate":"0001-01-01T00:00:00"},
                        {"Name":"visible-for","ExpiryDate":"2027-01-31T00:00:00Z","IsHidden":true}],
            "FullName":"Anna Admin","EMailAddress":"anna@example.com","FunctionRights":["b","a","b"],
            "EjUserId":0,"EjUserStatus":"StatusNone","ProvidedCredentials":[{"Type":"Ticket"}],
            "SecondaryGroups":[7,4,7,0],"DatabaseContextIdentifier":"Cust12345","UserName":"anna.admin@example.com"}"#;
        let principal = read_principal(body, tenant()).unwrap();
        assert_eq!(
            principal,
            Principal {
                tenant: tenant(),
                kind: AssociateType::Internal,
                id: AssociateId::new(5).unwrap(),
                login: "AA".to_owned(),
                user_name: "anna.admin@example.com".to_owned(),
                full_name: "Anna Admin".to_owned(),
                email: "anna@example.com".to_owned(),
                person_id: 9,
                contact_id: 2,
                primary_group_id: 3,
                secondary_group_ids: vec![4, 7],
                role_id: 1,
                role_name: "User level 0".to_owned(),
                role_type: Some(RoleType::Employee),
                function_rights: vec!["a".to_owned(), "b".to_owned()],
                licenses: vec![
                    License { name: "ten-sales".to_owned(), expires: None },
                    License {
                        name: "visible-for".to_owned(),
                        expires: Some("2027-01-31".parse().unwrap())
                    },
                ],
                warnings: Vec::new(),
            }
        );
    }

    #[test]
    fn accepts_a_minimal_principal_with_unknown_types() {
        for (user_type, kind) in [
            ("\"SystemAssociate\"", AssociateType::System),
            ("5", AssociateType::System),
            ("1", AssociateType::Internal),
            ("13", AssociateType::UNSPECIFIED),
            ("\"Unknown\"", AssociateType::UNSPECIFIED),
            ("\"RobotAssociate\"", AssociateType::UNSPECIFIED),
            ("null", AssociateType::UNSPECIFIED),
        ] {
            let body = format!(
                r#"{{"AssociateId":5,"DatabaseContextIdentifier":"Cust12345","UserType":{user_type},"Licenses":null,
                     "RoleType":"Robot"}}"#
            );
            let principal = read_principal(body.as_bytes(), tenant()).unwrap();
            assert_eq!((principal.kind, principal.role_type), (kind, None), "{user_type}");
        }
    }

    #[test]
    fn rejects_another_tenant_or_another_form() {
        for fields in [
            r#""AssociateId":5"#,
            r#""AssociateId":5,"DatabaseContextIdentifier":"Cust1""#,
            r#""AssociateId":5,"DatabaseContextIdentifier":"cust12345""#,
            r#""AssociateId":5,"DatabaseContextIdentifier":12345"#,
            r#""AssociateId":0,"DatabaseContextIdentifier":"Cust12345""#,
            r#""AssociateId":5,"AssociateId":6,"DatabaseContextIdentifier":"Cust12345""#,
            r#""AssociateId":5,"DatabaseContextIdentifier":"Cust12345","DatabaseContextIdentifier":"Cust1""#,
        ] {
            let refused = read_principal(format!("{{{fields}}}").as_bytes(), tenant());
            assert!(matches!(refused, Err(UpstreamError::InvalidResponse(_))), "{fields}");
        }
        for body in ["", "null", "[]", "7", "<html>"] {
            assert!(read_principal(body.as_bytes(), tenant()).is_err(), "{body}");
        }
    }

    #[test]
    fn warns_about_invalid_fields_of_a_principal_and_reads_the_rest() {
        use DataWarning::{Replaced, Truncated, Unreadable};
        let long = format!(r#""FullName":"{}""#, "a".repeat(5000));
        for (fields, warning) in [
            (r#""FullName":7"#, Unreadable("FullName")),
            (r#""FullName":"a","FullName":"b""#, Unreadable("FullName")),
            (r#""FullName":"a\ud83d""#, Replaced("FullName")),
            (&long, Truncated("FullName")),
            (r#""UserType":[]"#, Unreadable("UserType")),
            (r#""PersonId":"x""#, Unreadable("PersonId")),
            (r#""GroupId":2147483648"#, Unreadable("GroupId")),
            (r#""SecondaryGroups":7"#, Unreadable("SecondaryGroups")),
            (r#""SecondaryGroups":{"x":1}"#, Unreadable("SecondaryGroups")),
            (r#""FunctionRights":[true]"#, Unreadable("FunctionRights")),
            (r#""Licenses":"all""#, Unreadable("Licenses")),
            (r#""Licenses":[null]"#, Unreadable("Licenses")),
            (r#""Licenses":[{"Name":"a","ExpiryDate":"soon"}]"#, Unreadable("Licenses")),
            (
                r#""Licenses":[{"Name":"a","ExpiryDate":"2027-13-31T00:00:00"}]"#,
                Unreadable("Licenses"),
            ),
        ] {
            let body = format!(
                r#"{{"AssociateId":5,"Associate":"AA","DatabaseContextIdentifier":"Cust12345",{fields}}}"#
            );
            let principal = read_principal(body.as_bytes(), tenant()).unwrap();
            assert_eq!(
                (principal.login.as_str(), principal.warnings),
                ("AA", vec![warning]),
                "{fields}"
            );
            assert_eq!(
                principal.licenses,
                [],
                "a licence with an unreadable expiry date may have expired"
            );
        }
        let body = r#"{"AssociateId":5,"DatabaseContextIdentifier":"Cust12345","FunctionRights":["b",7,"a"],
            "Licenses":[{"Name":"a"},7]}"#;
        let principal = read_principal(body.as_bytes(), tenant()).unwrap();
        assert_eq!(principal.function_rights, ["a", "b"]);
        assert_eq!(principal.licenses.len(), 1);
    }
}
