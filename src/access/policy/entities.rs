//! The entities file: the members of groups.
//!
//! It has Cedar's JSON format, but only membership is used: attributes of callers come from their credentials, and
//! attributes of resources from their names.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry as Slot},
};

use cedar_policy::EntityUid;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    limits::{MAX_ENTITIES, MAX_POLICY_FILE_BYTES},
    problem::ProblemCollector,
    schema_names::{SchemaNames, uid},
};
use crate::{
    access::{Resource, ResourceKind},
    domain::{ApplicationId, TenantName},
};

/// Maximum length of the id of a caller or a group, in bytes.
const MAX_ID_BYTES: usize = 2_560;

/// The groups and their members.
#[derive(Default)]
pub(super) struct Groups {
    /// The groups of callers, and the groups that each belongs to.
    of_callers: BTreeMap<String, Vec<EntityUid>>,
    of_tenants: HashSet<String>,
    /// The groups that list a caller directly.
    callers: HashMap<String, Vec<EntityUid>>,
    /// The groups that list a tenant directly.
    tenants: HashMap<String, Vec<EntityUid>>,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.of_callers.len() + self.of_tenants.len()
    }

    pub(super) fn has_caller_group(&self, id: &str) -> bool {
        self.of_callers.contains_key(id)
    }

    pub(super) fn has_tenant_group(&self, id: &str) -> bool {
        self.of_tenants.contains(id)
    }

    /// Returns the names of all groups of callers, or of tenants.
    pub(super) fn names(&self, of_callers: bool) -> Vec<&str> {
        if of_callers {
            self.of_callers.keys().map(String::as_str).collect()
        } else {
            self.of_tenants.iter().map(String::as_str).collect()
        }
    }

    /// Returns all groups of the caller, direct and indirect.
    pub(super) fn of_caller(&self, id: &str) -> Vec<EntityUid> {
        self.closure(self.callers.get(id))
    }

    /// Returns all groups that contain the group.
    pub(super) fn of_caller_group(&self, id: &str) -> Vec<EntityUid> {
        self.closure(self.of_callers.get(id))
    }

    pub(super) fn of_tenant(&self, name: &str) -> &[EntityUid] {
        self.tenants.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns all ancestors of a resource.
    pub(super) fn ancestors_of(
        &self,
        resource: &Resource,
        schema_names: &SchemaNames,
    ) -> Vec<EntityUid> {
        let mut above = Vec::new();
        if let Some(tenant) = resource.tenant() {
            let name = tenant.to_string();
            above.extend_from_slice(self.of_tenant(&name));
            above.push(schema_names.resource(&Resource::Application(tenant.application.clone())));
            if resource.kind() == ResourceKind::Grant {
                above.push(uid(schema_names.kind(ResourceKind::Tenant), &name));
            }
        }
        if resource.kind() != ResourceKind::Gateway {
            above.push(schema_names.the_gateway.clone());
        }
        above
    }

    fn closure(&self, direct: Option<&Vec<EntityUid>>) -> Vec<EntityUid> {
        let mut found = direct.cloned().unwrap_or_default();
        let mut seen: HashSet<EntityUid> = found.iter().cloned().collect();
        let mut next = 0;
        while let Some(group) = found.get(next) {
            let parents = self.of_callers.get(group.id().unescaped());
            let new: Vec<_> =
                parents.into_iter().flatten().filter(|g| seen.insert((*g).clone())).collect();
            found.extend(new.into_iter().cloned());
            next += 1;
        }
        found
    }
}

/// Returns the problem with an id that no token or certificate can give.
pub(super) fn caller_id_problem(id: &str) -> Option<&'static str> {
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        Some("a caller's id has 1 to 2560 bytes: no caller can have this one")
    } else if !id.bytes().all(|b| b.is_ascii_graphic()) {
        Some("a caller's id is printable ASCII without spaces: no caller can have this one")
    } else {
        None
    }
}

fn group_id_problem(id: &str) -> Option<&'static str> {
    let legal = |c: char| c.is_alphanumeric() || "._:/@+- ".contains(c);
    if id.is_empty() || id.len() > MAX_ID_BYTES || !id.chars().all(legal) {
        Some("a group's id is 1 to 2560 bytes of letters, digits, spaces and . _ : / @ + -")
    } else {
        None
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    #[serde(borrow)]
    uid: Uid<'a>,
    #[serde(default)]
    attrs: Map<String, Value>,
    #[serde(default, borrow)]
    parents: Vec<Uid<'a>>,
    #[serde(default)]
    tags: Map<String, Value>,
}

/// `{"type": …, "id": …}`, or the same inside `__entity`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Uid<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(rename = "__entity", borrow)]
    explicit: Option<Named<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
}

/// A text that is borrowed if possible, so that its position in the file can be found.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Uid<'_> {
    fn named(&self) -> Option<(&str, &str)> {
        match (&self.kind, &self.id, &self.explicit) {
            (Some(kind), Some(id), None) => Some((&kind.0, &id.0)),
            (None, None, Some(named)) => Some((&named.kind.0, &named.id.0)),
            _ => None,
        }
    }

    /// Returns some text of the id, to find its position in the file.
    fn place(&self) -> &str {
        let explicit = self.explicit.as_ref().map(|named| &named.id);
        self.id.as_ref().or(self.kind.as_ref()).or(explicit).map_or("", |text| &text.0)
    }
}

/// Reads the entities file and reports all problems to `finder`.
pub(super) fn read(
    text: &str,
    applications: &[ApplicationId],
    schema_names: &SchemaNames,
    finder: &mut ProblemCollector<'_>,
) -> Groups {
    let mut reader =
        Reader { groups: Groups::default(), seen: HashSet::new(), schema_names, finder };
    if text.len() > MAX_POLICY_FILE_BYTES {
        reader.finder.problem(
            None,
            format!("longer than {MAX_POLICY_FILE_BYTES} bytes: is this the entities file?"),
        );
        return reader.groups;
    }
    let entries: Vec<Entry<'_>> = match serde_json::from_str(text) {
        Ok(entries) => entries,
        Err(error) => {
            let wanted = "expected a JSON array of {\"uid\": {\"type\": \"Caller\", \"id\": \"…\"}, \"attrs\": {}, \"parents\": [{\"type\": \"CallerGroup\", \"id\": \"…\"}]}";
            let line = (error.line() > 0).then(|| error.line());
            reader.finder.problem(line, format!("{error}; {wanted}"));
            return reader.groups;
        }
    };
    if entries.len() > MAX_ENTITIES {
        reader.finder.problem(None, format!("more than {MAX_ENTITIES} entities"));
        return reader.groups;
    }
    for entry in &entries {
        reader.entry(entry, applications);
    }
    reader.reject_cycles(&entries);
    reader.groups
}

struct Reader<'r, 'f> {
    groups: Groups,
    seen: HashSet<(String, String)>,
    schema_names: &'r SchemaNames,
    finder: &'r mut ProblemCollector<'f>,
}

impl Reader<'_, '_> {
    fn problem(&mut self, place: &str, message: impl Into<String>) {
        let line = self.finder.line_of(place);
        self.finder.problem(line, message);
    }

    fn warning(&mut self, place: &str, message: impl Into<String>) {
        let line = self.finder.line_of(place);
        self.finder.warning(line, message);
    }

    fn entry(&mut self, entry: &Entry<'_>, applications: &[ApplicationId]) {
        let Some((kind, id)) = entry.uid.named() else {
            return self
                .problem(entry.uid.place(), "a uid must have a type and an id, and nothing else");
        };
        if !self.seen.insert((kind.to_owned(), id.to_owned())) {
            return self.problem(id, format!("{kind}::{id:?} occurs twice: keep one"));
        }
        if !entry.tags.is_empty() {
            self.problem(id, "the gateway's entities have no tags: remove them");
        }
        match kind {
            "Caller" => self.caller(id, entry),
            "CallerGroup" => {
                self.reject_attributes(id, entry);
                if let Some(problem) = group_id_problem(id) {
                    self.problem(id, problem);
                }
                let parents = self.parents(entry, "CallerGroup", |_, _| false);
                self.add_caller_groups(&parents);
                self.groups.of_callers.insert(id.to_owned(), parents);
            }
            "TenantGroup" => {
                self.reject_attributes(id, entry);
                if let Some(problem) = group_id_problem(id) {
                    self.problem(id, problem);
                }
                if !entry.parents.is_empty() {
                    self.problem(id, "a TenantGroup has no parents: remove them");
                }
                self.groups.of_tenants.insert(id.to_owned());
            }
            "Tenant" => self.tenant(id, entry, applications),
            "Gateway" | "Application" | "Grant" => {
                let why = "the gateway defines these itself: remove the entry (for a group of tenants, write Tenant entries)";
                self.problem(id, format!("{kind}::{id:?}: {why}"));
            }
            "Action" => self.problem(id, "the gateway defines the actions: remove the entry"),
            other => self.problem(
                id,
                format!(
                    "no entity type {other:?}: there are Caller, CallerGroup, Tenant and TenantGroup"
                ),
            ),
        }
    }

    fn caller(&mut self, id: &str, entry: &Entry<'_>) {
        if let Some(problem) = caller_id_problem(id) {
            self.problem(id, problem);
        }
        for name in entry.attrs.keys() {
            if name == "method" || name == "issuer" {
                let why =
                    "comes from the credential of each call: the value in this file is ignored";
                self.warning(id, format!("{name} of Caller::{id:?} {why}"));
            } else {
                self.problem(id, format!("a Caller has no attribute {name:?}: remove it"));
            }
        }
        let parents = self.parents(entry, "CallerGroup", |_, _| false);
        self.add_caller_groups(&parents);
        self.groups.callers.insert(id.to_owned(), parents);
    }

    fn tenant(&mut self, id: &str, entry: &Entry<'_>, applications: &[ApplicationId]) {
        self.reject_attributes(id, entry);
        let name: TenantName = match id.parse() {
            Ok(name) => name,
            Err(error) => return self.problem(id, format!("Tenant::{id:?}: {error}")),
        };
        if !applications.is_empty() && !applications.contains(&name.application) {
            let application = &name.application;
            self.warning(id, format!("application {application} is not configured"));
        }
        let own = format!("applications/{}", name.application);
        let parents =
            self.parents(entry, "TenantGroup", |kind, id| kind == "Application" && id == own);
        for group in &parents {
            self.groups.of_tenants.insert(group.id().unescaped().to_owned());
        }
        self.groups.tenants.insert(id.to_owned(), parents);
    }

    /// Returns the parents of type `wanted`. Reports other parents unless they are `tolerated`.
    fn parents(
        &mut self,
        entry: &Entry<'_>,
        wanted: &str,
        tolerated: impl Fn(&str, &str) -> bool,
    ) -> Vec<EntityUid> {
        let mut parents = Vec::new();
        let schema_names = self.schema_names;
        for parent in &entry.parents {
            let Some((kind, id)) = parent.named() else {
                self.problem(
                    parent.place(),
                    "a parent must have a type and an id, and nothing else",
                );
                continue;
            };
            if kind != wanted {
                if !tolerated(kind, id) {
                    self.problem(id, format!("{kind}::{id:?} cannot be a parent here: expected a {wanted}, or for a tenant its own application"));
                }
            } else if let Some(problem) = group_id_problem(id) {
                self.problem(id, problem);
            } else {
                let kind = if kind == "TenantGroup" {
                    &schema_names.tenant_group
                } else {
                    &schema_names.caller_group
                };
                let group = uid(kind, id);
                if !parents.contains(&group) {
                    parents.push(group);
                }
            }
        }
        parents
    }

    /// Registers groups that have members, even if they have no entry of their own.
    fn add_caller_groups(&mut self, groups: &[EntityUid]) {
        for group in groups {
            self.groups.of_callers.entry(group.id().unescaped().to_owned()).or_default();
        }
    }

    fn reject_attributes(&mut self, id: &str, entry: &Entry<'_>) {
        if let Some((name, _)) = entry.attrs.iter().next() {
            self.problem(id, format!("{id:?} has no attribute {name:?}: remove it"));
        }
    }

    /// Rejects a group that contains itself, because that is a mistake.
    fn reject_cycles(&mut self, entries: &[Entry<'_>]) {
        // Repeatedly removes groups without remaining parents; the groups that are left form cycles.
        let mut parents: HashMap<&str, usize> = HashMap::new();
        let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut free: Vec<&str> = Vec::new();
        for (group, above) in &self.groups.of_callers {
            parents.insert(group, above.len());
            if above.is_empty() {
                free.push(group);
            }
            for parent in above {
                children.entry(parent.id().unescaped()).or_default().push(group);
            }
        }
        while let Some(group) = free.pop() {
            for child in children.get(group).into_iter().flatten() {
                if let Slot::Occupied(mut left) = parents.entry(child) {
                    *left.get_mut() -= 1;
                    if *left.get() == 0 {
                        free.push(child);
                    }
                }
            }
        }
        let stuck: HashSet<String> = parents
            .into_iter()
            .filter(|(_, left)| *left > 0)
            .map(|(group, _)| group.to_owned())
            .collect();
        let groups = entries.iter().filter_map(|entry| entry.uid.named());
        for (_, id) in groups.filter(|(kind, id)| *kind == "CallerGroup" && stuck.contains(*id)) {
            self.problem(id, format!("CallerGroup::{id:?} contains itself, directly or through another group: remove a parent, so that groups form no cycle"));
        }
    }
}
