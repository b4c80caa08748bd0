//! Generated people: the same for the same tenant, count and seed.

use super::People;
use super::kind::AssociateType;
use super::model::{Associate, Company, License, LicenseScope, Person, Role, UserGroup};
use super::names::{FIRST_NAMES, GROUPS, LAST_NAMES, RIGHTS, ROLES, ROOMS};

/// The number of associates with a fixed type, so that every type occurs.
const FIXED_ASSOCIATES: usize = 8;
const CLOSED_GROUP: u32 = 6;
const MEMBERLESS_GROUP: u32 = 8;
const EXTERNAL_ROLE: u32 = 7;
const ANONYMOUS_ROLE: u32 = 8;
const SYSTEM_ROLE: u32 = 9;
const OLD_ROLE: u32 = 10;
/// A type that is not documented.
const UNDOCUMENTED_TYPE: i32 = 21;

/// Generates associates of all types, with unusual data: retired users, names with quotes, members
/// of a deleted group, external persons with a group, undocumented types. The second associate is
/// the system user of applications. Ids ascend and have gaps.
#[must_use]
pub fn generate(tenant: &str, count: usize, seed: u64) -> People {
    let mut people = base_people(tenant);
    let mut random = Random::new(tenant, seed);
    let mut id = 0;
    for index in 0..count {
        id += if index > FIXED_ASSOCIATES && random.one_in(10) { 1 + random.below(40) } else { 1 };
        let associate = generate_associate(&mut people, &mut random, id, index, tenant);
        people.associates.insert(id, associate);
    }
    people
}

/// Returns a new tenant's companies, groups, roles and licences.
fn base_people(tenant: &str) -> People {
    let mut people = People::default();
    let category = "NO:\"Kunde\";US:\"Customer\"";
    let companies = [(1, "Owner company", "", ""), (2, "Customer & Søn", "Nord", category)];
    for (id, name, department, category) in companies {
        let company = Company {
            id,
            name: format!("{name} {tenant}"),
            department: department.to_owned(),
            category: category.to_owned(),
        };
        people.companies.insert(id, company);
    }
    for (id, (name, tooltip, deleted)) in (1..).zip(GROUPS) {
        let (name, tooltip) = (name.to_owned(), tooltip.to_owned());
        let rank = i32::try_from(id).unwrap_or_default() * 10;
        people.groups.insert(id, UserGroup { id, name, tooltip, rank, deleted });
    }
    for (id, (name, description, kind)) in (1..).zip(ROLES) {
        // Level 0 has all rights, each level below has one less. The system role has all rights.
        let without = if id == SYSTEM_ROLE { 0 } else { id as usize - 1 };
        let role = Role {
            id,
            name: name.to_owned(),
            description: description.to_owned(),
            kind,
            rank: i32::try_from(id).unwrap_or_default(),
            use_categories: id == 2,
            deleted: id == OLD_ROLE,
            functional_rights: RIGHTS.iter().skip(without).map(|&right| right.to_owned()).collect(),
            registered: "2019-03-04T05:06:07".to_owned(),
            updated: if id % 2 == 0 { "2024-02-29T23:59:59".to_owned() } else { String::new() },
        };
        people.roles.insert(id, role);
    }
    people.licenses = licenses();
    people
}

fn licenses() -> Vec<License> {
    let license = |name: &str, description: &str, scope, number| License {
        owner: "SUPEROFFICE".to_owned(),
        name: name.to_owned(),
        description: description.to_owned(),
        scope,
        number,
        unrestricted: number == 0,
        user_plan: name == "ten-sales",
    };
    vec![
        license("system-user-cal", "System user", LicenseScope::UserLicense, 0),
        license("ten-sales", "Sales Premium", LicenseScope::UserLicense, 100_000),
        license("development-tools", "Development Tools", LicenseScope::SiteLicense, 0),
    ]
}

fn associate_type(random: &mut Random, index: usize) -> AssociateType {
    match index {
        0 => AssociateType::Anonymous,
        1 => AssociateType::System,
        2 | 5 | 6 => AssociateType::Internal,
        3 => AssociateType::Resource,
        4 | 7 => AssociateType::External,
        _ => match random.below(100) {
            0..=78 => AssociateType::Internal,
            79..=88 => AssociateType::External,
            89..=94 => AssociateType::Resource,
            95..=97 => AssociateType::System,
            98 => AssociateType::Anonymous,
            _ => AssociateType::Other(UNDOCUMENTED_TYPE),
        },
    }
}

fn generate_associate(
    people: &mut People,
    random: &mut Random,
    id: u32,
    index: usize,
    tenant: &str,
) -> Associate {
    let kind = associate_type(random, index);
    let domain = format!("{}.example", tenant.to_lowercase());
    let mut made = Associate {
        id,
        kind,
        rank: i32::try_from(random.below(9)).unwrap_or_default(),
        registered: format!("20{:02}-0{}-1{}T08:00:00", 10 + random.below(16), id % 9 + 1, id % 9),
        registered_by: 1,
        ..Associate::default()
    };
    match kind {
        AssociateType::Internal | AssociateType::Other(_) => {
            fill_employee(&mut made, random, index);
            made.name = format!("EMP{id}");
            made.user_name = format!("Emp{id}@{domain}");
            made.person_id = add_person(people, random, id, 1, &made.user_name);
        }
        AssociateType::External => {
            made.name = format!("EXT{id}");
            made.user_name = format!("ext{id}@customer.example");
            made.person_id = add_person(people, random, id, 2, &made.user_name);
            made.role_id = EXTERNAL_ROLE;
            // Some old data contradicts the documentation.
            made.group_id = u32::from(index == 7 || random.one_in(100));
        }
        AssociateType::Resource => {
            made.name = pick(&ROOMS, random).to_owned();
            made.tooltip = format!("Resource {id}");
            made.group_id = random_group(random);
        }
        AssociateType::Anonymous => {
            made.name = format!("ANONYMOUS{id}");
            made.role_id = ANONYMOUS_ROLE;
        }
        AssociateType::System => {
            made.name = if index == 1 { "SYSTEM".to_owned() } else { format!("SYSTEM{id}") };
            made.role_id = SYSTEM_ROLE;
            made.can_login = true;
            made.licenses = vec!["system-user-cal".to_owned()];
        }
    }
    made
}

fn fill_employee(made: &mut Associate, random: &mut Random, index: usize) {
    made.deleted = index == 5 || (index > FIXED_ASSOCIATES && random.one_in(12));
    made.waiting_for_approval = index > FIXED_ASSOCIATES && random.one_in(50);
    let licensed = index == 2 || !random.one_in(15);
    made.can_login = licensed && !made.deleted && !made.waiting_for_approval;
    if licensed {
        made.licenses = vec!["ten-sales".to_owned()];
    }
    made.tooltip =
        if random.one_in(3) { "Tooltip; \"quoted\" 'too'".to_owned() } else { String::new() };
    made.group_id = if random.one_in(40) { CLOSED_GROUP } else { random_group(random) };
    for other in 1..MEMBERLESS_GROUP {
        if other != made.group_id && other != CLOSED_GROUP && random.one_in(6) {
            made.other_groups.push(other);
        }
    }
    made.role_id = if random.one_in(60) { OLD_ROLE } else { 1 + random.below(6) };
    made.ej_user_id = if random.one_in(4) { 1000 + made.id } else { 0 };
    if random.one_in(2) {
        "2025-12-31T12:00:00".clone_into(&mut made.updated);
        made.updated_by = made.id;
    }
}

/// Picks a group that is not deleted and has members.
fn random_group(random: &mut Random) -> u32 {
    1 + random.below(CLOSED_GROUP - 1)
}

fn add_person(
    people: &mut People,
    random: &mut Random,
    id: u32,
    company_id: u32,
    email: &str,
) -> u32 {
    let id = 2 * id + 7;
    let person = Person {
        id,
        first_name: pick(&FIRST_NAMES, random).to_owned(),
        middle_name: if random.one_in(5) {
            pick(&FIRST_NAMES, random).to_owned()
        } else {
            String::new()
        },
        last_name: pick(&LAST_NAMES, random).to_owned(),
        title: if random.one_in(4) { "Sjef".to_owned() } else { String::new() },
        mr_mrs: if random.one_in(6) { "Dr.".to_owned() } else { String::new() },
        email: if random.one_in(20) { String::new() } else { email.to_owned() },
        company_id,
    };
    people.persons.insert(id, person);
    id
}

fn pick(names: &[&'static str], random: &mut Random) -> &'static str {
    let bound = u32::try_from(names.len()).unwrap_or(u32::MAX);
    names.get(random.below(bound) as usize).copied().unwrap_or_default()
}

/// `SplitMix64`: small and deterministic.
struct Random(u64);

impl Random {
    fn new(tenant: &str, seed: u64) -> Self {
        let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(tenant.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, step))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound.max(1))).unwrap_or_default()
    }

    fn one_in(&mut self, number: u32) -> bool {
        self.below(number) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn equal_input_gives_equal_people_and_another_seed_others() {
        let people = generate("Cust1", 500, 1);
        assert_eq!(people, generate("Cust1", 500, 1));
        assert_ne!(people, generate("Cust1", 500, 2));
        assert_ne!(people, generate("Cust2", 500, 1));
    }

    #[test]
    fn every_size_has_all_types_and_the_requested_count() {
        for count in [10, 5_000, 50_000] {
            let people = generate("Cust1", count, 7);
            assert_eq!(people.associates.len(), count);
            let kinds: HashSet<_> = people.associates.values().map(|one| one.kind).collect();
            assert!(AssociateType::ALL.iter().all(|kind| kinds.contains(kind)), "{count}");
            assert!(people.associates.values().any(|one| one.deleted));
            assert_eq!(people.associates[&2].kind, AssociateType::System);
            let contradictory =
                |one: &Associate| one.kind == AssociateType::External && one.group_id != 0;
            assert!(people.associates.values().any(contradictory));
        }
    }

    #[test]
    fn ids_in_an_associate_exist() {
        let people = generate("Cust1", 2_000, 3);
        for one in people.associates.values() {
            assert!(one.group_id == 0 || people.groups.contains_key(&one.group_id));
            assert!(one.role_id == 0 || people.roles.contains_key(&one.role_id));
            assert!(one.person_id == 0 || people.person_of(one).is_some());
            assert!(one.other_groups.iter().all(|group| *group != one.group_id));
        }
    }
}
