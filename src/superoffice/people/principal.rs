//! `GET /api/v1/User/currentPrincipal`, in full (SUPEROFFICE.md 6.2).

use std::fmt;

use jiff::civil::Date;
use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor},
};

use super::{
    archive::{Columns, Key, Place, Row},
    cell::{Cell, Kept, Many, Unreadable, Value},
    json, read_repaired, refused,
};
use crate::{
    domain::{
        AssociateId, AssociateType, ContextIdentifier, DataWarning, License, Principal, RoleType,
    },
    ports::UpstreamError,
    superoffice::principal::PRINCIPAL,
};

/// How many rights, licences and groups a user may have.
const MAX_ITEMS: usize = 10_000;

const RIGHTS: &str = "FunctionRights";
const GROUPS: &str = "SecondaryGroups";
const LICENSES: &str = "Licenses";

/// The fields of the carrier that are read.
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

/// The carrier, as far as it is read.
struct Wire<'a> {
    /// By the place of the field's name.
    cells: Vec<Option<Cell<'a>>>,
    rights: Many<Cell<'a>, MAX_ITEMS>,
    groups: Many<Cell<'a>, MAX_ITEMS>,
    licenses: Many<Row<'a, LicenseFields>, MAX_ITEMS>,
}

/// Reads who a credential for this tenant is. Tenant and id must be readable; any other field may be empty, with a warning.
///
/// # Errors
/// If it is of another tenant, or not such a carrier.
pub fn read_principal(body: &[u8], tenant: ContextIdentifier) -> Result<Principal, UpstreamError> {
    read_repaired(body, |body| {
        let wire: Option<Wire<'_>> = json(PRINCIPAL, body)?;
        let wire = wire.ok_or_else(|| refused(PRINCIPAL, "null in place of a principal"))?;
        let proven = wire.cell("DatabaseContextIdentifier").text();
        if proven.is_ok_and(|proven| proven.text == tenant.to_string()) {
            wire.principal(tenant)
        } else {
            Err(refused(PRINCIPAL, "of another tenant"))
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
        let id = id.ok_or_else(|| refused(PRINCIPAL, "no associate id"))?;
        let mut reading = Reading { wire: self, warnings: Vec::new() };
        Ok(Principal {
            tenant,
            kind: reading
                .or_default("UserType", |cell| kind(cell).map(Some))
                .unwrap_or(AssociateType::UNTOLD),
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

/// Reading the carrier, and the oddities in it.
struct Reading<'r, 'a> {
    wire: &'r Wire<'a>,
    warnings: Vec<DataWarning>,
}

impl<'a> Reading<'_, 'a> {
    fn or_default<T: Default>(
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
        let Kept { text, cut, replaced } = self.or_default(field, Cell::text);
        self.warnings.extend(cut.then_some(DataWarning::Cut(field)));
        self.warnings.extend(replaced.then_some(DataWarning::Replaced(field)));
        text
    }

    fn number(&mut self, field: &'static str) -> i32 {
        self.or_default(field, Cell::int).unwrap_or(0)
    }

    fn groups(&mut self) -> Vec<i32> {
        let groups = &self.wire.groups;
        let read = groups.items.iter().map(|cell| cell.int().map(Option::unwrap_or_default));
        let mut ids = self.items(GROUPS, groups.odd, read);
        ids.retain(|id| *id != 0);
        ids
    }

    /// A right that cannot be read is none that is held.
    fn rights(&mut self) -> Vec<String> {
        let rights = &self.wire.rights;
        self.items(
            RIGHTS,
            rights.odd,
            rights.items.iter().map(|cell| cell.text().map(|kept| kept.text)),
        )
    }

    fn licenses(&mut self) -> Vec<License> {
        let licenses = &self.wire.licenses;
        let read: Vec<_> = licenses.items.iter().filter_map(license).collect();
        if licenses.odd || read.len() < licenses.items.len() {
            self.warnings.push(DataWarning::Unreadable(LICENSES));
        }
        read
    }

    /// In order, each once.
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

/// A word of the API's enum, or the number that stands for it.
fn kind(cell: &Cell<'_>) -> Result<AssociateType, Unreadable> {
    let kind = match cell.raw() {
        Value::Int(_) => cell.int()?.and_then(AssociateType::from_api_number),
        _ => AssociateType::from_api_name(&cell.text()?.text),
    };
    Ok(kind.unwrap_or(AssociateType::UNTOLD))
}

/// Reads a licence; `None` if its name or its end cannot be read.
fn license(wire: &Row<'_, LicenseFields>) -> Option<License> {
    let date = wire.cell("ExpiryDate").text().ok()?.text;
    // The day is enough, and the zone of the hour is not told.
    let expires: Option<Date> = match date.get(..10) {
        None if date.is_empty() => None,
        day => Some(day?.parse().ok()?),
    };
    // SuperOffice writes 0001-01-01 where there is none.
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
        let (rights, groups, licenses) = (Many::default(), Many::default(), Many::default());
        let cells = vec![None; PRINCIPAL_FIELDS.len()];
        let mut wire = Wire { cells, rights, groups, licenses };
        while let Some(key) = map.next_key_seed(Key(PRINCIPAL_FIELDS))? {
            let Place::At(place) = key else {
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
                        let stands = field.is_some();
                        field.get_or_insert_default().put(stands, cell);
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
    fn the_whole_carrier_is_read() {
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
    fn little_is_enough_and_what_is_unknown_stays_so() {
        for (user_type, kind) in [
            ("\"SystemAssociate\"", AssociateType::System),
            ("5", AssociateType::System),
            ("1", AssociateType::Internal),
            ("13", AssociateType::UNTOLD),
            ("\"Unknown\"", AssociateType::UNTOLD),
            ("\"RobotAssociate\"", AssociateType::UNTOLD),
            ("null", AssociateType::UNTOLD),
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
    fn another_tenant_or_another_form_is_refused() {
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
    fn what_is_odd_in_a_principal_is_told_and_the_rest_is_read() {
        use DataWarning::{Cut, Replaced, Unreadable};
        let long = format!(r#""FullName":"{}""#, "a".repeat(5000));
        for (fields, warning) in [
            (r#""FullName":7"#, Unreadable("FullName")),
            (r#""FullName":"a","FullName":"b""#, Unreadable("FullName")),
            (r#""FullName":"a\ud83d""#, Replaced("FullName")),
            (&long, Cut("FullName")),
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
            assert_eq!(principal.licenses, [], "a licence without an end may have ended");
        }
        let body = r#"{"AssociateId":5,"DatabaseContextIdentifier":"Cust12345","FunctionRights":["b",7,"a"],
            "Licenses":[{"Name":"a"},7]}"#;
        let principal = read_principal(body.as_bytes(), tenant()).unwrap();
        assert_eq!(principal.function_rights, ["a", "b"]);
        assert_eq!(principal.licenses.len(), 1);
    }
}
