use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::{
    domain::{Associate, Directory},
    superoffice::people::{read_principal, read_roles, read_user_groups},
};

fn id(number: i32) -> AssociateId {
    AssociateId::new(number).unwrap()
}

fn answer(rows: &str, next_link: &str) -> String {
    let metadata = "https://sod2.superoffice.com:443/Cust12345/api/v1/Archive//$metadata";
    format!(r#"{{"odata.metadata":"{metadata}","odata.nextLink":{next_link},"value":[{rows}]}}"#)
}

/// Reads a response with one row.
fn one(row: &str) -> Result<AssociateRecord, UpstreamError> {
    let page = read_associates(answer(row, "null").as_bytes(), None, 1000)?;
    assert_eq!((page.associates.len(), page.next), (1, None), "{row}");
    Ok(page.associates.into_iter().next().unwrap())
}

fn rows(ids: impl IntoIterator<Item = i32>) -> String {
    let rows = ids.into_iter().map(|id| {
        format!(r#"{{"PrimaryKey":"{id}","associateDbId":{id},"assocName":"U{id}","assocType":0}}"#)
    });
    rows.collect::<Vec<_>>().join(",")
}

#[test]
fn reads_a_slim_row() {
    let record = one(
        r#"{"PrimaryKey":"5","EntityName":"associate","associateDbId":5,"assocName":"AA","assocTooltip":"x",
            "assocType":"0","userName":"anna.admin@example.com","fullName":"Anna Admin","personId":9,
            "personEmail":"anna@example.com","contactId":"2","usergroup":"NO:\"Salg\";US:\"Sales\"",
            "usergroupId":3,"otherGroups":"4, 7","role":1,"isActive":true,"canLogin":"True","userplan":null,
            "credentialType":"SuperId","lastLogin":"0001-01-01T00:00:00","superoffice_ten-sales":"[B:1]"}"#,
    );
    assert_eq!(
        record,
        Ok(AssociateRecord {
            id: id(5),
            kind: AssociateType::Internal,
            login: "AA".to_owned(),
            user_name: "anna.admin@example.com".to_owned(),
            full_name: "Anna Admin".to_owned(),
            email: "anna@example.com".to_owned(),
            person_id: 9,
            contact_id: 2,
            primary_group: Reference { id: 3, name: r#"NO:"Salg";US:"Sales""#.to_owned() },
            other_groups: [4, 7].map(|id| Reference { id, name: String::new() }).to_vec(),
            role: Reference { id: 1, name: String::new() },
            active: Some(true),
            can_login: Some(true),
            credential_type: "SuperId".to_owned(),
            warnings: Vec::new(),
        })
    );
}

#[test]
fn reads_a_full_row() {
    let record = one(
        r#"{"PrimaryKey":13,"EntityName":"associate","StyleHint":"","LinkHint":"","TableRight":null,"Column":{
            "assocName":{"RawValue":"SYS","DisplayValue":"SYS","LinkHint":"","TooltipHint":""},
            "assocType":{"RawValue":13,"DisplayValue":"Systembruker"},
            "usergroupId":{"RawValue":0,"DisplayValue":"[I:0]"},
            "role":{"RawValue":6,"DisplayValue":"System"},
            "isActive":{"RawValue":true,"DisplayValue":"[B:1]"}}}"#,
    )
    .unwrap();
    assert_eq!((record.id, record.kind), (id(13), AssociateType::System));
    assert_eq!(record.role, Reference { id: 6, name: "System".to_owned() });
    assert!(record.primary_group.is_empty() && record.warnings.is_empty());
    assert_eq!((record.login.as_str(), record.active), ("SYS", Some(true)));
}

#[test]
fn warns_about_invalid_columns_and_reads_the_rest() {
    use DataWarning::{Missing, Truncated, Unreadable};
    let row =
        |fields: &str| one(&format!(r#"{{"associateDbId":5,"assocName":"A",{fields}}}"#)).unwrap();
    for (fields, kind, warnings) in [
        (r#""assocType":1"#, AssociateType::Resource, vec![]),
        (r#""assocType":"[I:4]""#, AssociateType::External, vec![]),
        (r#""assocType":"System""#, AssociateType::System, vec![]),
        (r#""assocType":"AnonymousAssociate""#, AssociateType::Anonymous, vec![]),
        (r#""assocType":99"#, AssociateType::Unrecognized(99), vec![]),
        (r#""assocType":"""#, AssociateType::UNSPECIFIED, vec![Unreadable("assocType")]),
        (r#""assocType":"Ansatt""#, AssociateType::UNSPECIFIED, vec![Unreadable("assocType")]),
        (r#""assocType":false"#, AssociateType::UNSPECIFIED, vec![Unreadable("assocType")]),
        (r#""assocType":null"#, AssociateType::UNSPECIFIED, vec![Missing("assocType")]),
    ] {
        let record = row(fields);
        assert_eq!((record.kind, record.warnings), (kind, warnings), "{fields}");
    }
    for field in ["fullName", "personId", "usergroupId", "otherGroups", "role", "isActive"] {
        let record = row(&format!(r#""assocType":0,"{field}":[true]"#));
        assert_eq!(record.warnings, [Unreadable(field)], "{field}");
        assert_eq!(record.login, "A");
    }
    let long = format!(r#""assocType":0,"fullName":"{}""#, "å".repeat(5000));
    assert_eq!(row(&long).warnings, [Truncated("fullName")]);
    let many = format!(r#""assocType":0,"otherGroups":"{}""#, "7,".repeat(5000));
    let record = row(&many);
    assert_eq!((record.other_groups.len(), record.warnings), (250, vec![Truncated("otherGroups")]));
    let nameless = one(r#"{"PrimaryKey":"5","assocType":0}"#).unwrap();
    assert_eq!(nameless.warnings, [Missing("assocName")]);
}

#[test]
fn pages_continue_by_key() {
    for (ids, after, asked, next_link, wanted) in [
        (vec![], None, 3, "null", None),
        (vec![1, 5], None, 3, "null", None),
        (vec![1, 5], None, 3, r#""""#, None),
        (vec![1, 5], None, 3, r#""https://sod2.superoffice.com/Cust12345/api/v1/User?x""#, Some(5)),
        (vec![6, 7, 9], Some(5), 3, "null", Some(9)),
        (vec![i32::MAX], Some(i32::MAX - 1), 1, "null", Some(i32::MAX)),
    ] {
        let body = answer(&rows(ids.clone()), next_link);
        let page = read_associates(body.as_bytes(), after.map(id), asked).unwrap();
        assert_eq!(page.associates.iter().map(|one| one.id.get()).collect::<Vec<_>>(), ids);
        assert_eq!(page.next.map(AssociateId::get), wanted, "{ids:?}");
    }
    let body = answer(&rows([7, 5, 7]), "null");
    let page = read_associates(body.as_bytes(), None, 1000).unwrap();
    let ids: Vec<_> = page.associates.iter().map(|one| one.id.get()).collect();
    assert_eq!(ids, [5, 7], "a single page is sorted and has no duplicates");
}

#[test]
fn rejects_a_page_that_would_break_a_listing() {
    let link = r#""https://sod2.superoffice.com/next""#;
    for (name, body, after) in [
        ("the same page again", answer(&rows([4, 5]), link), Some(5)),
        ("one that goes back", answer(&rows([6, 2]), "null"), Some(5)),
        ("out of order, more follow", answer(&rows([7, 6]), link), None),
        ("out of order and full", answer(&rows([9, 8, 7]), "null"), None),
        ("empty, more follow", answer("", link), None),
        ("more than asked", answer(&rows(1..=4), "null"), None),
        ("no id, more follow", answer(r#"{"assocName":"A"}"#, link), None),
        ("no id on a full page", answer(&format!("null,{}", rows([5, 6])), "null"), None),
        ("a link that is none", answer("", "7"), None),
        ("null", "null".to_owned(), None),
        ("rows alone", "[]".to_owned(), None),
        ("no rows", "{}".to_owned(), None),
        ("null rows", r#"{"value":null}"#.to_owned(), None),
        (
            "an error with HTTP 200",
            r#"{"Message":"The request is invalid.","MessageDetail":"canary"}"#.to_owned(),
            None,
        ),
        (
            "an error object",
            r#"{"Error":true,"ErrorType":"canary","ErrorMessage":"canary","value":[]}"#.to_owned(),
            None,
        ),
        ("HTML", "<!DOCTYPE html><title>canary</title>".to_owned(), None),
        ("cut off", answer(&rows([5]), "null").replace("]}", ""), None),
    ] {
        let refused = read_associates(body.as_bytes(), after.map(id), 3);
        let Err(UpstreamError::InvalidResponse(why)) = refused else {
            panic!("{name}: {refused:?}")
        };
        assert!(!why.contains("canary"), "{name}: {why}");
    }
    let large = " ".repeat(USERS.max_body_bytes) + "null";
    assert!(read_associates(large.as_bytes(), None, 1000).is_err());
    let many = answer(&rows(1..=1001), "null");
    assert!(
        read_associates(many.as_bytes(), None, usize::MAX).is_err(),
        "the number of rows is limited while reading"
    );
}

#[test]
fn reading_by_id_accepts_only_requested_associates() {
    let asked = [id(5), id(7), id(9)];
    let read = |body: &str| read_associates_by_id(body.as_bytes(), &asked);
    assert_eq!(read("null"), Ok(Vec::new()), "nothing found");
    let found = read(&answer(&rows([9, 5, 9]), "null")).unwrap();
    assert_eq!(found.iter().map(|one| one.id.get()).collect::<Vec<_>>(), [5, 9]);
    assert!(read(&answer(&rows([5, 6]), "null")).is_err());
    assert!(read(&answer(&rows([5]), r#""https://sod2.superoffice.com/next""#)).is_err());
    assert!(read(r#"{"Message":"The request is invalid."}"#).is_err());
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        (-3..20i64).prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| serde_json::json!(number).to_string()),
        "(\\[I:)?-?[0-9]{0,11}\\]?".prop_map(|text| serde_json::json!(text).to_string()),
        "(NO:\"|\";US:|[,;]|\\PC){0,6}".prop_map(|text| serde_json::json!(text).to_string()),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|all| format!("[{}]", all.join(","))),
            (inner.clone(), inner)
                .prop_map(|(raw, shown)| format!(r#"{{"RawValue":{raw},"DisplayValue":{shown}}}"#)),
        ]
    })
}

proptest! {
    #[test]
    fn any_values_in_a_row_give_an_associate(values in prop::collection::vec(value(), 14), number in 1..=i32::MAX) {
        let mut row = format!(r#""associateDbId":{number}"#);
        for (name, value) in ASSOCIATE_COLUMNS.iter().skip(1).zip(&values) {
            write!(row, r#","{name}":{value}"#).unwrap();
        }
        for row in [format!("{{{row}}}"), format!(r#"{{"PrimaryKey":1,"Column":{{{row}}}}}"#)] {
            let record = one(&row).unwrap();
            prop_assert_eq!(record.id.get(), number);
            let associate = Associate::new(record, &Directory::default());
            prop_assert!(associate.warnings.len() <= 17);
            for warning in &associate.warnings {
                prop_assert!(!warning.to_string().is_empty());
            }
            let unknown = associate.kind == AssociateType::UNSPECIFIED;
            prop_assert!(!unknown || !associate.can_sign_in());
        }
    }

    #[test]
    fn reading_any_bytes_does_not_panic(body in prop::collection::vec(any::<u8>(), 0..200), json in value()) {
        let whole = answer(&json, "null");
        for body in [body.as_slice(), json.as_bytes(), whole.as_bytes()] {
            let _ = read_associates(body, None, 10);
            let _ = read_associates_by_id(body, &[id(5)]);
            let _ = read_roles(body);
            let _ = read_user_groups(body);
            let _ = read_principal(body, "Cust12345".parse().unwrap());
        }
    }
}
