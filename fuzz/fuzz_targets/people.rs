//! Responses about users: an accepted one advances the listing within bounded memory; an error repeats no data.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use tenant_gateway::{
    domain::{
        Associate, AssociateId, AssociateRecord, AssociateType, Directory, GrantState, Languages,
    },
    superoffice::{
        ASSOCIATE_COLUMNS, read_associates, read_associates_by_id, read_principal, read_roles,
        read_user_groups,
    },
};
use tenant_gateway_fuzz::{assert_not_repeated, tenant};

/// The requested page.
const ASKED: usize = 3;

fuzz_target!(init: seeds_are_accepted(), |data: &[u8]| fuzz(data));

/// Valid responses are accepted; otherwise the fuzzer would reach little code.
fn seeds_are_accepted() {
    let slim = include_bytes!("../corpus_seed/people/slim");
    assert!(read_associates(slim, None, ASKED).is_ok());
    assert!(read_associates(include_bytes!("../corpus_seed/people/full"), None, ASKED).is_ok());
    assert!(read_user_groups(include_bytes!("../corpus_seed/people/groups")).is_ok());
    assert!(read_roles(include_bytes!("../corpus_seed/people/roles")).is_ok());
    let principal = include_bytes!("../corpus_seed/people/principal");
    assert!(read_principal(principal, tenant()).is_ok());
}

/// Inputs: the body of any response, or lines with the column values of one associate.
fn fuzz(data: &[u8]) {
    let groups = read_user_groups(data);
    let roles = read_roles(data);
    for error in [groups.as_ref().err(), roles.as_ref().err()].into_iter().flatten() {
        assert_not_repeated(&String::from_utf8_lossy(data), &error.to_string());
    }
    let groups = groups.map(|read| read.items).unwrap_or_default();
    let directory = Directory::new(groups, roles.map(|read| read.items).unwrap_or_default());
    if let Ok(principal) = read_principal(data, tenant()) {
        assert_eq!(principal.tenant, tenant());
        assert!(principal.function_rights.is_sorted() && principal.secondary_group_ids.is_sorted());
    }
    check(data, &directory);
    if let Ok(text) = std::str::from_utf8(data) {
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line)));
        let names = ASSOCIATE_COLUMNS.iter().map(|name| (*name).to_owned());
        let row: Map<String, Value> = names.zip(lines).collect();
        check(json!({ "value": [row] }).to_string().as_bytes(), &directory);
    }
}

fn check(body: &[u8], directory: &Directory) {
    let after = AssociateId::new(4);
    match read_associates(body, after, ASKED) {
        Ok(page) => {
            assert!(page.associates.len() <= ASKED);
            assert!(page.associates.iter().all(|one| Some(one.id) > after));
            assert!(page.associates.is_sorted_by(|a, b| a.id < b.id));
            if let Some(next) = page.next {
                assert_eq!(page.associates.last().map(|one| one.id), Some(next));
            }
            page.associates.into_iter().for_each(|record| check_one(record, directory));
        }
        Err(error) => assert_not_repeated(&String::from_utf8_lossy(body), &error.to_string()),
    }
    let asked: Vec<AssociateId> = [5, 7].into_iter().filter_map(AssociateId::new).collect();
    let found = read_associates_by_id(body, &asked).unwrap_or_default();
    assert!(found.iter().all(|one| asked.contains(&one.id)));
}

fn check_one(record: AssociateRecord, directory: &Directory) {
    let one = Associate::new(record, directory);
    let texts = [&one.login, &one.user_name, &one.full_name, &one.email, &one.credential_type];
    assert!(texts.iter().all(|text| text.len() <= 2048 && !text.contains(char::is_control)));
    assert!(one.other_groups.len() <= 250 && one.warnings.len() <= 17);
    assert_eq!(one.can_sign_in(), one.sign_in_obstacles().is_empty());
    assert!(!one.can_sign_in() || one.kind == AssociateType::Internal && one.active);
    for grant in [None, Some(GrantState::Active), Some(GrantState::Revoked)] {
        let free = one.impersonation_obstacles(grant).is_empty();
        assert_eq!(one.can_be_impersonated(grant), free);
    }
    if let Ok(owner) = one.resolve_owner() {
        assert_eq!(owner.associate, one.id);
        assert_eq!(owner.group_id > 0, one.kind.capabilities().user_group);
    }
    for group in &one.other_groups {
        let shown = Languages::parse("nb, en;q=0.5").select(&group.display_name);
        assert!(group.display_name.contains(shown));
    }
}
