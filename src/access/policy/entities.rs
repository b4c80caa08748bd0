//! The entities file: who belongs to which group.
//!
//! Cedar's JSON format, of which only membership is taken: what callers are, their credential says, and what
//! resources are, their names say.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry as Slot},
};

use cedar_policy::EntityUid;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    MAX_ENTITIES, MAX_POLICY_FILE_BYTES,
    problem::Finder,
    words::{Words, uid},
};
use crate::domain::{ApplicationId, TenantName};

/// Longest id of a caller; also longest id of a group.
const MAX_ID_BYTES: usize = 2_560;

/// Who belongs to which group.
#[derive(Default)]
pub(super) struct Groups {
    /// Groups of callers, and the groups in which they are.
    of_callers: BTreeMap<String, Vec<EntityUid>>,
    of_tenants: HashSet<String>,
    /// The groups in which a caller is by name.
    callers: HashMap<String, Vec<EntityUid>>,
    /// The groups in which a tenant is by name.
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

    /// The names of all groups of callers, or of tenants.
    pub(super) fn names(&self, of_callers: bool) -> Vec<&str> {
        if of_callers {
            self.of_callers.keys().map(String::as_str).collect()
        } else {
            self.of_tenants.iter().map(String::as_str).collect()
        }
    }

    /// Every group in which the caller is, directly or by way of another.
    pub(super) fn of_caller(&self, id: &str) -> Vec<EntityUid> {
        self.closure(self.callers.get(id))
    }

    /// Every group in which the group is.
    pub(super) fn of_caller_group(&self, id: &str) -> Vec<EntityUid> {
        self.closure(self.of_callers.get(id))
    }

    pub(super) fn of_tenant(&self, name: &str) -> &[EntityUid] {
        self.tenants.get(name).map_or(&[], Vec::as_slice)
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

/// Whether a caller can have this id: what a token or a certificate may say.
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

/// Borrowed where it can be, so that its place in the file is known.
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

    /// Some text of it, to find its place by.
    fn place(&self) -> &str {
        let explicit = self.explicit.as_ref().map(|named| &named.id);
        self.id.as_ref().or(self.kind.as_ref()).or(explicit).map_or("", |text| &text.0)
    }
}

/// Reads the entities file; everything that is wrong goes to `finder`.
pub(super) fn read(
    text: &str,
    applications: &[ApplicationId],
    words: &Words,
    finder: &mut Finder<'_>,
) -> Groups {
    let mut reader = Reader { groups: Groups::default(), seen: HashSet::new(), words, finder };
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
            let wanted = "wanted a JSON array of {\"uid\": {\"type\": \"Caller\", \"id\": \"…\"}, \"attrs\": {}, \"parents\": [{\"type\": \"CallerGroup\", \"id\": \"…\"}]}";
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
    reader.refuse_cycles(&entries);
    reader.groups
}

struct Reader<'r, 'f> {
    groups: Groups,
    seen: HashSet<(String, String)>,
    words: &'r Words,
    finder: &'r mut Finder<'f>,
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
            return self.problem(entry.uid.place(), "a uid has a type and an id, nothing else");
        };
        if !self.seen.insert((kind.to_owned(), id.to_owned())) {
            return self.problem(id, format!("{kind}::{id:?} stands here twice: keep one"));
        }
        if !entry.tags.is_empty() {
            self.problem(id, "the gateway's entities have no tags: remove them");
        }
        match kind {
            "Caller" => self.caller(id, entry),
            "CallerGroup" => {
                self.no_attributes(id, entry);
                if let Some(problem) = group_id_problem(id) {
                    self.problem(id, problem);
                }
                let parents = self.parents(entry, "CallerGroup", |_, _| false);
                self.know_caller_groups(&parents);
                self.groups.of_callers.insert(id.to_owned(), parents);
            }
            "TenantGroup" => {
                self.no_attributes(id, entry);
                if let Some(problem) = group_id_problem(id) {
                    self.problem(id, problem);
                }
                if !entry.parents.is_empty() {
                    self.problem(id, "a TenantGroup belongs to nothing: remove its parents");
                }
                self.groups.of_tenants.insert(id.to_owned());
            }
            "Tenant" => self.tenant(id, entry, applications),
            "Gateway" | "Application" | "Grant" => {
                let why = "the gateway knows these itself: remove the entry (groups of tenants have Tenant entries)";
                self.problem(id, format!("{kind}::{id:?}: {why}"));
            }
            "Action" => self.problem(id, "actions come with the gateway: remove the entry"),
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
                let why = "comes from the credential of each call: what stands here is ignored";
                self.warning(id, format!("{name} of Caller::{id:?} {why}"));
            } else {
                self.problem(id, format!("a Caller has no attribute {name:?}: remove it"));
            }
        }
        let parents = self.parents(entry, "CallerGroup", |_, _| false);
        self.know_caller_groups(&parents);
        self.groups.callers.insert(id.to_owned(), parents);
    }

    fn tenant(&mut self, id: &str, entry: &Entry<'_>, applications: &[ApplicationId]) {
        self.no_attributes(id, entry);
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

    /// The parents of type `wanted`; of the others those may stand there that are `tolerated`.
    fn parents(
        &mut self,
        entry: &Entry<'_>,
        wanted: &str,
        tolerated: impl Fn(&str, &str) -> bool,
    ) -> Vec<EntityUid> {
        let mut parents = Vec::new();
        let words = self.words;
        for parent in &entry.parents {
            let Some((kind, id)) = parent.named() else {
                self.problem(parent.place(), "a parent has a type and an id, nothing else");
                continue;
            };
            if kind != wanted {
                if !tolerated(kind, id) {
                    self.problem(id, format!("{kind}::{id:?} cannot be a parent here: only a {wanted} can, and of a tenant its own application"));
                }
            } else if let Some(problem) = group_id_problem(id) {
                self.problem(id, problem);
            } else {
                let kind =
                    if kind == "TenantGroup" { &words.tenant_group } else { &words.caller_group };
                let group = uid(kind, id);
                if !parents.contains(&group) {
                    parents.push(group);
                }
            }
        }
        parents
    }

    /// A group that somebody belongs to is known, also without an entry of its own.
    fn know_caller_groups(&mut self, groups: &[EntityUid]) {
        for group in groups {
            self.groups.of_callers.entry(group.id().unescaped().to_owned()).or_default();
        }
    }

    fn no_attributes(&mut self, id: &str, entry: &Entry<'_>) {
        if let Some((name, _)) = entry.attrs.iter().next() {
            self.problem(id, format!("{id:?} has no attribute {name:?}: remove it"));
        }
    }

    /// A group that is in itself makes no sense, and its author meant something else.
    fn refuse_cycles(&mut self, entries: &[Entry<'_>]) {
        // What is left when groups without remaining parents are taken away again and again.
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
            self.problem(id, format!("CallerGroup::{id:?} is in itself, or in a group that is: remove a parent, so that groups form no circle"));
        }
    }
}
