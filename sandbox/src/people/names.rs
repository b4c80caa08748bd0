//! Names of generated people.

use super::kind::RoleType;

pub(super) const FIRST_NAMES: [&str; 16] = [
    "Anna", "Bjørn", "Chloé", "Dag", "Eirik", "Fatima", "Gül", "Håkon", "Ingrid", "José", "Kari",
    "Łukasz", "Mái", "Núria", "Olav", "Þóra",
];

pub(super) const LAST_NAMES: [&str; 16] = [
    "Andersen",
    "Bakken",
    "O'Brien",
    "D'Angelo",
    "Eide",
    "Fjeld",
    "Groß",
    "Haugen",
    "Îles",
    "山田",
    "Kristiansen",
    "Lie-Moe",
    "van der Meer",
    "Nygård",
    "Østby",
    "\"Quote\"",
];

/// Name, tooltip and whether it is deleted.
pub(super) const GROUPS: [(&str, &str, bool); 8] = [
    ("NO:\"Salg\";US:\"Sales\";GE:\"Vertrieb\"", "NO:\"Selgere\";US:\"People who sell\"", false),
    ("US:\"Support\";NO:\"Kundestøtte\"", "", false),
    ("Management", "The management", false),
    ("[SR_USERGROUP_CONSULTING]", "", false),
    ("R&D; \"Labs\"", "Semicolons and quotes; no languages", false),
    ("Closed department", "Nobody joins it any more", true),
    ("Ünïcödé 部門", "", false),
    ("Nobody", "A group without members", false),
];

/// Name, description and type.
pub(super) const ROLES: [(&str, &str, RoleType); 10] = [
    ("User level 0", "Full access", RoleType::Employee),
    ("User level 1", "", RoleType::Employee),
    ("User level 2", "", RoleType::Employee),
    ("User level 3", "", RoleType::Employee),
    ("User level 4", "", RoleType::Employee),
    ("User level 5", "Read-only", RoleType::Employee),
    ("NO:\"Ekstern\";US:\"External user\"", "", RoleType::ExternalUser),
    ("Anonymous", "", RoleType::Anonymous),
    ("System", "Overrides all security controls", RoleType::System),
    ("Old role", "Not used any more", RoleType::Employee),
];

/// Functional rights, sorted.
pub(super) const RIGHTS: [&str; 5] =
    ["admin-all", "bulk-update", "export-contact", "hard-delete", "own-selections"];

pub(super) const ROOMS: [&str; 4] = ["Møterom 1", "Boardroom", "Projector", "Car AB 12345"];
