use super::*;
use crate::domain::{
    Fields as _, Filter, FilterError, GrantState, Languages, Order, Reason, Value,
};

const KINDS: [AssociateType; 7] = [
    AssociateType::Internal,
    AssociateType::Resource,
    AssociateType::External,
    AssociateType::Anonymous,
    AssociateType::System,
    AssociateType::Unrecognized(99),
    AssociateType::UNSPECIFIED,
];

fn by_id(id: i32) -> Reference {
    Reference { id, name: String::new() }
}

fn by_name(name: &str) -> Reference {
    Reference { id: 0, name: name.to_owned() }
}

fn record(kind: AssociateType) -> AssociateRecord {
    AssociateRecord {
        id: AssociateId::new(5).unwrap(),
        kind,
        login: "AA".to_owned(),
        user_name: "anna.admin@example.com".to_owned(),
        full_name: "Anna Admin".to_owned(),
        email: "Anna.Admin@example.com".to_owned(),
        person_id: 9,
        contact_id: 2,
        primary_group: by_id(3),
        other_groups: vec![by_id(4)],
        role: by_id(1),
        active: Some(true),
        can_login: Some(true),
        credential_type: "SuperId".to_owned(),
        warnings: Vec::new(),
    }
}

fn groupless(kind: AssociateType) -> AssociateRecord {
    AssociateRecord { primary_group: by_id(0), other_groups: Vec::new(), ..record(kind) }
}

fn directory() -> Directory {
    let group = |id, name: &str| UserGroup {
        id,
        display_name: name.to_owned(),
        rank: id,
        deleted: id == 8,
        warnings: Vec::new(),
    };
    let role = |id, name: &str| Role {
        id,
        display_name: name.to_owned(),
        description: String::new(),
        role_type: Some(RoleType::Employee),
        deleted: false,
        warnings: Vec::new(),
    };
    let groups = vec![
        group(3, "NO:\"Salg\";US:\"Sales\""),
        group(4, "Support"),
        group(6, "Twin"),
        group(7, "Twin"),
        group(8, "Gone"),
        group(3, "Second of this id"),
    ];
    Directory::new(groups, vec![role(1, "User level 0"), role(2, "NO:\"Leser\";US:\"Reader\"")])
}

fn associate(record: AssociateRecord) -> Associate {
    Associate::new(record, &directory())
}

fn group_ids(associate: &Associate) -> (Option<i32>, Vec<i32>) {
    let others = associate.other_groups.iter().map(|group| group.id).collect();
    (associate.primary_group.as_ref().map(|group| group.id), others)
}

#[test]
fn only_an_active_licensed_employee_can_sign_in() {
    for kind in KINDS {
        for active in [None, Some(false), Some(true)] {
            for can_login in [None, Some(false), Some(true)] {
                let one = associate(AssociateRecord { active, can_login, ..record(kind) });
                let wanted = kind == AssociateType::Internal
                    && active == Some(true)
                    && can_login != Some(false);
                let obstacles = one.sign_in_obstacles();
                assert_eq!(one.can_sign_in(), wanted, "{kind:?} {active:?} {can_login:?}");
                assert_eq!(obstacles.is_empty(), wanted, "{obstacles:?}");
                let count = usize::from(kind != AssociateType::Internal)
                    + usize::from(active != Some(true))
                    + usize::from(can_login == Some(false));
                assert_eq!(obstacles.len(), count, "one for each reason: {obstacles:?}");
                for obstacle in obstacles {
                    assert_eq!(obstacle.reason, Reason::AssociateCannotSignIn);
                    assert!(!obstacle.message.is_empty() && !obstacle.mend.is_empty());
                }
            }
        }
    }
}

#[test]
fn impersonation_needs_an_active_grant() {
    use GrantState::{Active, ConsentRequired, Revoked};
    let (cannot, consent) = (Reason::AssociateCannotSignIn, Reason::ConsentRequired);
    for (kind, active, grant, wanted) in [
        (AssociateType::Internal, true, Some(Active), vec![]),
        (AssociateType::Internal, true, None, vec![consent]),
        (AssociateType::Internal, true, Some(ConsentRequired), vec![consent]),
        (AssociateType::Internal, true, Some(Revoked), vec![consent]),
        (AssociateType::Internal, false, Some(Active), vec![cannot]),
        (AssociateType::Internal, false, None, vec![cannot, consent]),
        (AssociateType::System, true, None, vec![cannot]),
        (AssociateType::System, true, Some(Active), vec![cannot]),
        (AssociateType::Unrecognized(99), true, Some(Active), vec![cannot]),
    ] {
        let one = associate(AssociateRecord { active: Some(active), ..record(kind) });
        let obstacles = one.impersonation_obstacles(grant);
        let reasons: Vec<_> = obstacles.iter().map(|obstacle| obstacle.reason).collect();
        assert_eq!(reasons, wanted, "{kind:?} {active} {grant:?}");
        assert_eq!(one.can_be_impersonated(grant), wanted.is_empty());
    }
}

#[test]
fn an_owner_is_an_associate_and_its_primary_group() {
    for (record, wanted) in [
        (record(AssociateType::Internal), Some(3)),
        (record(AssociateType::Resource), Some(3)),
        (groupless(AssociateType::Internal), None),
        (groupless(AssociateType::Resource), None),
        (groupless(AssociateType::External), Some(0)),
        (groupless(AssociateType::Anonymous), Some(0)),
        (groupless(AssociateType::System), Some(0)),
        (record(AssociateType::System), Some(0)),
        (record(AssociateType::Unrecognized(99)), None),
        (groupless(AssociateType::UNSPECIFIED), None),
        (
            AssociateRecord {
                primary_group: by_name("Nobody's"),
                ..record(AssociateType::Internal)
            },
            None,
        ),
        (AssociateRecord { primary_group: by_id(99), ..record(AssociateType::Internal) }, Some(99)),
    ] {
        let one = associate(record);
        let owner = one.resolve_owner();
        match wanted {
            Some(group_id) => assert_eq!(owner, Ok(Owner { associate: one.id, group_id })),
            None => {
                assert_eq!(owner.unwrap_err()[0].reason, Reason::UpstreamInvalidResponse);
            }
        }
    }
}

#[test]
fn contradicting_groups_are_kept_with_a_warning() {
    use DataWarning as W;
    let internal = AssociateType::Internal;
    for (name, record, primary, others, warnings) in [
        ("as it should be", record(internal), Some(3), vec![4], vec![]),
        ("no groups at all", groupless(internal), None, vec![], vec![W::NoPrimaryGroup]),
        ("a system user in none", groupless(AssociateType::System), None, vec![], vec![]),
        (
            "a system user in some",
            record(AssociateType::System),
            Some(3),
            vec![4],
            vec![W::UnexpectedGroup(3), W::UnexpectedGroup(4)],
        ),
        (
            "an external person in one",
            AssociateRecord { other_groups: vec![], ..record(AssociateType::External) },
            Some(3),
            vec![],
            vec![W::UnexpectedGroup(3)],
        ),
        (
            "an unknown kind",
            record(AssociateType::Unrecognized(99)),
            Some(3),
            vec![4],
            vec![W::UnknownKind(99)],
        ),
        (
            "each once, without the primary one",
            AssociateRecord {
                other_groups: vec![by_id(4), by_id(3), by_name("Support"), by_id(4)],
                ..record(internal)
            },
            Some(3),
            vec![4],
            vec![],
        ),
        (
            "by names in any language",
            AssociateRecord {
                primary_group: by_name("Support"),
                other_groups: vec![by_name("Salg")],
                ..record(internal)
            },
            Some(4),
            vec![3],
            vec![],
        ),
        (
            "names of none and of two",
            AssociateRecord {
                other_groups: vec![by_name("Twin"), by_name("None")],
                ..record(internal)
            },
            Some(3),
            vec![0, 0],
            vec![W::UnresolvedGroup],
        ),
        (
            "ids of none and of a deleted one",
            AssociateRecord { other_groups: vec![by_id(-7), by_id(8)], ..record(internal) },
            Some(3),
            vec![-7, 8],
            vec![W::UnknownGroup(-7), W::DeletedGroup(8)],
        ),
    ] {
        let one = associate(record);
        assert_eq!(group_ids(&one), (primary, others), "{name}");
        assert_eq!(one.warnings, warnings, "{name}");
    }
}

#[test]
fn limits_the_number_of_warnings() {
    let other_groups = (1000..1100).map(by_id).collect();
    let one = associate(AssociateRecord { other_groups, ..record(AssociateType::Internal) });
    assert_eq!(
        (one.warnings.len(), one.warnings.last()),
        (17, Some(&DataWarning::MoreWarnings(84)))
    );
}

#[test]
fn roles_are_found_by_id_or_by_name() {
    let id = |reference: Reference| {
        let one = associate(AssociateRecord { role: reference, ..record(AssociateType::Internal) });
        (one.role.map(|role| role.id), one.warnings)
    };
    assert_eq!(id(by_id(2)), (Some(2), vec![]));
    assert_eq!(id(by_name("Reader")), (Some(2), vec![]));
    assert_eq!(id(by_name("")), (None, vec![]));
    assert_eq!(id(by_id(9)), (Some(9), vec![DataWarning::UnknownRole(9)]));
    assert_eq!(id(by_name("Writer")), (Some(0), vec![DataWarning::UnresolvedRole]));
}

#[test]
fn an_associate_of_unknown_state_is_not_active() {
    let unknown = AssociateRecord { active: None, ..record(AssociateType::Internal) };
    let unreadable =
        AssociateRecord { warnings: vec![DataWarning::Unreadable("isActive")], ..unknown.clone() };
    for (record, warning) in [
        (unknown, DataWarning::Missing("isActive")),
        (unreadable, DataWarning::Unreadable("isActive")),
    ] {
        let one = associate(record);
        assert!(!one.active);
        assert_eq!(one.warnings, [warning]);
    }
}

#[test]
fn every_type_has_a_name_that_filters_accept() {
    for kind in AssociateType::ALL {
        let filter = format!("type = {}", kind.as_str());
        let filter = Filter::parse(&filter, ASSOCIATE_FIELDS).unwrap();
        let one = associate(record(kind));
        assert!(filter.matches(&ListedAssociate::new(&one, &Languages::default())));
    }
}

#[test]
fn filters_match_the_texts_in_the_callers_languages() {
    let one = associate(AssociateRecord { role: by_id(2), ..record(AssociateType::Internal) });
    let languages = Languages::parse("nb");
    let listed = ListedAssociate::new(&one, &languages);
    for (text, wanted) in [
        ("type = INTERNAL AND active = true", true),
        ("type = SYSTEM", false),
        ("group:Salg", true),
        ("group:Sales", false),
        ("group:Supp*", true),
        ("group:3 AND group:4", true),
        ("group:5", false),
        ("role = Leser", true),
        ("role = Reader", false),
        ("user_name = \"anna.admin@*\"", true),
        ("login = AA", true),
        ("login != AA", false),
        ("full_name:Admin", true),
        ("email = \"Anna.Admin@example.com\"", true),
        ("person_id = 9", true),
        ("person_id > 9", false),
        ("anna", true),
        ("NOT support", false),
    ] {
        let filter = Filter::parse(text, ASSOCIATE_FIELDS);
        assert_eq!(filter.map(|filter| filter.matches(&listed)), Ok(wanted), "{text}");
    }
    for text in ["contact_id = 2", "type = Internal", "active = yes", "person_id = x", "group = 3"]
    {
        let refused = Filter::parse(text, ASSOCIATE_FIELDS);
        assert!(matches!(refused, Err(FilterError { .. })), "{text}");
    }
    for field in ASSOCIATE_FIELDS.iter().map(|field| field.name).chain(ASSOCIATE_ORDERS.to_vec()) {
        assert_ne!(listed.get(field), Value::Absent, "{field}");
    }
    assert_eq!(listed.get("contact_id"), Value::Absent);
}

#[test]
fn associates_are_ordered_by_their_fields() {
    let languages = Languages::default();
    let other = AssociateRecord {
        id: AssociateId::new(40).unwrap(),
        full_name: "anders Admin".to_owned(),
        active: Some(false),
        ..record(AssociateType::Internal)
    };
    let (first, second) = (associate(record(AssociateType::Internal)), associate(other));
    for (text, wanted) in [
        ("associate_id", true),
        ("associate_id desc", false),
        ("full_name", false),
        ("active, associate_id", false),
        ("login, full_name desc", true),
    ] {
        let order = Order::parse(text, ASSOCIATE_ORDERS).unwrap();
        let [a, b] = [&first, &second].map(|one| ListedAssociate::new(one, &languages));
        assert_eq!(order.compare(&a, &b).is_lt(), wanted, "{text}");
    }
    assert!(Order::parse("group", ASSOCIATE_ORDERS).is_err(), "several groups have no order");
}

#[test]
fn checks_rights_by_name_and_system_users_have_all() {
    let principal = |kind| Principal {
        tenant: "Cust12345".parse().unwrap(),
        kind,
        id: AssociateId::new(5).unwrap(),
        login: String::new(),
        user_name: String::new(),
        full_name: String::new(),
        email: String::new(),
        person_id: 0,
        contact_id: 0,
        primary_group_id: 0,
        secondary_group_ids: Vec::new(),
        role_id: 0,
        role_name: String::new(),
        role_type: None,
        function_rights: ["admin-all", "export-data"].map(str::to_owned).to_vec(),
        licenses: Vec::new(),
        warnings: Vec::new(),
    };
    let employee = principal(AssociateType::Internal);
    assert!(employee.has_right("export-data") && !employee.has_right("export"));
    assert!(principal(AssociateType::System).has_right("export"));
}
