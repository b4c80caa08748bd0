//! `GET /api/v1/User/currentPrincipal`, in full (SUPEROFFICE.md 6.2).

use jiff::civil::Date;
use serde::Deserialize;

use super::{
    cell::{Bounded, Cell, Unreadable, Value},
    json, refused,
};
use crate::{
    domain::{AssociateId, AssociateType, ContextIdentifier, License, Principal, RoleType},
    ports::UpstreamError,
    superoffice::principal::PRINCIPAL,
};

/// How many rights, licences and groups a user may have.
const MAX_ITEMS: usize = 10_000;

/// The carrier, as far as it is read.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Wire<'a> {
    #[serde(borrow)]
    database_context_identifier: Cell<'a>,
    #[serde(borrow)]
    user_type: Cell<'a>,
    #[serde(borrow)]
    associate: Cell<'a>,
    #[serde(borrow)]
    associate_id: Cell<'a>,
    #[serde(borrow)]
    user_name: Cell<'a>,
    #[serde(borrow)]
    full_name: Cell<'a>,
    /// The platform's casing.
    #[serde(rename = "EMailAddress", borrow)]
    e_mail_address: Cell<'a>,
    #[serde(borrow)]
    person_id: Cell<'a>,
    #[serde(borrow)]
    contact_id: Cell<'a>,
    #[serde(borrow)]
    group_id: Cell<'a>,
    #[serde(borrow)]
    secondary_groups: Bounded<Cell<'a>, MAX_ITEMS>,
    #[serde(borrow)]
    role_id: Cell<'a>,
    #[serde(borrow)]
    role_name: Cell<'a>,
    #[serde(borrow)]
    role_type: Cell<'a>,
    #[serde(borrow)]
    function_rights: Bounded<Cell<'a>, MAX_ITEMS>,
    #[serde(borrow)]
    licenses: Bounded<WireLicense<'a>, MAX_ITEMS>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct WireLicense<'a> {
    #[serde(borrow)]
    name: Cell<'a>,
    #[serde(borrow)]
    expiry_date: Cell<'a>,
}

/// Reads who a credential for this tenant is.
///
/// # Errors
/// If it is of another tenant, or not such a carrier.
pub fn read_principal(body: &[u8], tenant: ContextIdentifier) -> Result<Principal, UpstreamError> {
    let wire: Option<Wire<'_>> = json(PRINCIPAL, body)?;
    let wire = wire.ok_or_else(|| refused(PRINCIPAL, "null in place of a principal"))?;
    let unreadable = |Unreadable| refused(PRINCIPAL, "a field of another form than documented");
    let proven = wire.database_context_identifier.text().map_err(unreadable)?.text;
    if proven != tenant.to_string() {
        return Err(refused(PRINCIPAL, "of another tenant"));
    }
    wire.principal(tenant).map_err(unreadable)
}

impl Wire<'_> {
    fn principal(&self, tenant: ContextIdentifier) -> Result<Principal, Unreadable> {
        let text = |cell: &Cell<'_>| cell.text().map(|kept| kept.text);
        let number = |cell: &Cell<'_>| cell.int().map(Option::unwrap_or_default);
        let id = self.associate_id.int()?.and_then(AssociateId::new).ok_or(Unreadable)?;
        let rights = self.function_rights.0.iter().map(text);
        let mut function_rights = rights.collect::<Result<Vec<_>, _>>()?;
        function_rights.sort_unstable();
        function_rights.dedup();
        let groups = self.secondary_groups.0.iter().map(number);
        let mut secondary_group_ids = groups.collect::<Result<Vec<_>, _>>()?;
        secondary_group_ids.retain(|id| *id != 0);
        secondary_group_ids.sort_unstable();
        secondary_group_ids.dedup();
        Ok(Principal {
            tenant,
            kind: kind(&self.user_type)?,
            id,
            login: text(&self.associate)?,
            user_name: text(&self.user_name)?,
            full_name: text(&self.full_name)?,
            email: text(&self.e_mail_address)?,
            person_id: number(&self.person_id)?,
            contact_id: number(&self.contact_id)?,
            primary_group_id: number(&self.group_id)?,
            secondary_group_ids,
            role_id: number(&self.role_id)?,
            role_name: text(&self.role_name)?,
            role_type: RoleType::from_api_name(&text(&self.role_type)?),
            function_rights,
            licenses: self.licenses.0.iter().map(license).collect::<Result<_, _>>()?,
        })
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

fn license(wire: &WireLicense<'_>) -> Result<License, Unreadable> {
    let date = wire.expiry_date.text()?.text;
    // The day is enough, and the zone of the hour is not told.
    let expires: Option<Date> = match date.get(..10) {
        None if date.is_empty() => None,
        day => Some(day.and_then(|day| day.parse().ok()).ok_or(Unreadable)?),
    };
    // 0001-01-01 is how SuperOffice writes that there is none (SUPEROFFICE.md 6.6).
    let expires = expires.filter(|date| date.year() > 1);
    Ok(License { name: wire.name.text()?.text, expires })
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
            r#""AssociateId":5,"DatabaseContextIdentifier":"Cust12345","FullName":7"#,
            r#""AssociateId":5,"DatabaseContextIdentifier":"Cust12345","SecondaryGroups":7"#,
            r#""AssociateId":5,"DatabaseContextIdentifier":"Cust12345","FunctionRights":[true]"#,
            r#""AssociateId":5,"DatabaseContextIdentifier":"Cust12345","UserType":[]"#,
            r#""AssociateId":5,"DatabaseContextIdentifier":"Cust12345","Licenses":[{"ExpiryDate":"soon"}]"#,
        ] {
            let refused = read_principal(format!("{{{fields}}}").as_bytes(), tenant());
            assert!(matches!(refused, Err(UpstreamError::InvalidResponse(_))), "{fields}");
        }
        for body in ["", "null", "[]", "7", "<html>"] {
            assert!(read_principal(body.as_bytes(), tenant()).is_err(), "{body}");
        }
    }
}
