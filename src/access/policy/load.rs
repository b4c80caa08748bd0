//! Reading a set. Whoever writes a policy that does not mean what it seems to mean learns it here, before it is in
//! force: everything that is wrong, at once, with its line and what to do.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    str::FromStr as _,
};

use cedar_policy::{
    Entity, EntityUid, Policy, PolicyId, ValidationError, ValidationMode, ValidationWarning,
    Validator,
};

use super::{
    MAX_POLICIES, MAX_POLICY_FILE_BYTES, PolicyError, PolicyProblem, PolicySet, PolicyText,
    ask::above,
    depth,
    entities::{self, Groups, caller_id_problem},
    normal_form::{self, misspelt},
    problem::Finder,
    rule::Rule,
    words::{Words, schema},
};
use crate::{
    access::Resource,
    domain::{ApplicationId, NameError, TenantName, application_name},
};

/// Longest `@id`.
const MAX_ID_BYTES: usize = 64;

impl PolicySet {
    /// Reads policies and entities. Also returns warnings: what does no harm and is perhaps not meant. Without
    /// `applications` it is not looked at whether those named are configured.
    ///
    /// # Errors
    /// With everything that is wrong with both files.
    pub fn parse(
        text: &PolicyText,
        applications: &[ApplicationId],
    ) -> Result<(Self, Vec<PolicyProblem>), PolicyError> {
        let internal = |message: String| {
            let file = text.policy_name.clone();
            PolicyError(vec![PolicyProblem { file, line: None, message }])
        };
        let words = Words::new().map_err(internal)?;
        let validator = Validator::new(schema().map_err(internal)?);
        let of_entities = text.entities.as_deref().unwrap_or_default();
        let mut finder =
            Finder::new(text.entities_name.as_deref().unwrap_or("entities"), of_entities);
        let groups = match text.entities {
            Some(_) => entities::read(of_entities, applications, &words, &mut finder),
            None => Groups::default(),
        };
        let (mut problems, mut warnings) = finder.finish();
        let mut reader = Reader {
            text: &text.policy,
            finder: Finder::new(&text.policy_name, &text.policy),
            words: &words,
            // Groups are compared only with a file that was read to its end.
            groups: problems.is_empty().then_some(&groups),
            applications,
        };
        let rules = reader.policies(&validator);
        let (more_problems, more_warnings) = reader.finder.finish();
        problems.extend(more_problems);
        warnings.extend(more_warnings);
        if problems.is_empty() {
            Ok((Self::new(rules, groups, words, text), warnings))
        } else {
            Err(PolicyError(problems))
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    finder: Finder<'a>,
    words: &'a Words,
    groups: Option<&'a Groups>,
    applications: &'a [ApplicationId],
}

/// A policy, and where it stands.
struct Placed {
    policy: Policy,
    span: Range<usize>,
    line: usize,
}

impl Reader<'_> {
    fn policies(&mut self, validator: &Validator) -> Vec<Rule> {
        let Some(policies) = self.parsed() else { return Vec::new() };
        let policies = self.named(policies);
        self.validate(&policies, validator);
        self.check_literals(&policies);
        policies.into_iter().map(|placed| self.rule(placed)).collect()
    }

    fn parsed(&mut self) -> Option<Vec<Placed>> {
        if self.text.len() > MAX_POLICY_FILE_BYTES {
            let message =
                format!("longer than {MAX_POLICY_FILE_BYTES} bytes: is this the policy file?");
            self.finder.problem(None, message);
            return None;
        }
        if let Some((offset, message)) = depth::exceeded(self.text) {
            let line = self.finder.line(offset);
            self.finder.problem(Some(line), message);
            return None;
        }
        let set = match cedar_policy::PolicySet::from_str(self.text) {
            Ok(set) => set,
            Err(errors) => {
                for error in errors.iter() {
                    self.finder.cedar_problem(error, None);
                }
                return None;
            }
        };
        for template in set.templates() {
            let at = template.as_ref().loc().map(|loc| self.finder.line(loc.start()));
            self.finder.problem(at, "a template: nothing fills in ?principal and ?resource here; write a policy for each, or one for a group");
        }
        if set.num_of_policies() > MAX_POLICIES {
            let message = format!("more than {MAX_POLICIES} policies: write them for groups");
            self.finder.problem(None, message);
            return None;
        }
        if set.num_of_policies() == 0 {
            self.finder.warning(None, "no policies: this denies everything to everybody");
        }
        let place = |policy: &Policy| {
            let span = policy.as_ref().loc().map_or(0..0, |loc| loc.start()..loc.end());
            Placed { policy: policy.clone(), line: self.finder.line(span.start), span }
        };
        let mut policies: Vec<_> = set.policies().map(place).collect();
        policies.sort_by_key(|placed| placed.span.start);
        Some(policies)
    }

    /// Gives policies the ids of their `@id`, and sees to it that ids are unique.
    fn named(&mut self, policies: Vec<Placed>) -> Vec<Placed> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut named = Vec::with_capacity(policies.len());
        for placed in policies {
            let line = placed.line;
            let policy = match placed.policy.annotation("id") {
                None => placed.policy,
                Some(id) if is_id(id) => placed.policy.new_id(PolicyId::new(id)),
                Some(_) => {
                    let message = format!(
                        "@id: wanted 1 to {MAX_ID_BYTES} of A-Z, a-z, 0-9, . _ and -, such as @id(\"invoices-read\")"
                    );
                    self.finder.problem(Some(line), message);
                    continue;
                }
            };
            let id = policy.id().to_string();
            if let Some(first) = seen.get(&id) {
                let message = format!(
                    "a second policy with the id {id} (the first is in line {first}): give it an @id of its own"
                );
                self.finder.problem(Some(line), message);
                continue;
            }
            seen.insert(id, line);
            named.push(Placed { policy, ..placed });
        }
        named
    }

    fn validate(&mut self, policies: &[Placed], validator: &Validator) {
        let lines: HashMap<&PolicyId, usize> =
            policies.iter().map(|placed| (placed.policy.id(), placed.line)).collect();
        let set = policies.iter().map(|placed| placed.policy.clone());
        let set = match cedar_policy::PolicySet::from_policies(set) {
            Ok(set) => set,
            Err(error) => return self.finder.problem(None, error.to_string()),
        };
        let result = validator.validate(&set, ValidationMode::Strict);
        for error in result.validation_errors() {
            let line = lines.get(error.policy_id()).copied();
            match error {
                // One for each action that has no context says less than one for all of them.
                ValidationError::UnsafeAttributeAccess(_)
                    if error.to_string().contains(" in context for ") =>
                {
                    let message = "only callWebApiAsSystemUser and callWebApiAsUser have a context: write `action in Action::\"callWebApi\"` in the head of the policy, and no attributes of context but method, path and credentialOperation";
                    self.finder.problem(line, format!("policy {}: {message}", error.policy_id()));
                }
                _ => self.finder.cedar_problem(error, line),
            }
        }
        for warning in result.validation_warnings() {
            let line = lines.get(warning.policy_id()).copied();
            match warning {
                ValidationWarning::ImpossiblePolicy(_)
                | ValidationWarning::InvalidActionApplication(_) => {
                    self.finder.cedar_warning(warning, line);
                }
                // Looks like something that it is not.
                _ => self.finder.cedar_problem(warning, line),
            }
        }
    }

    /// Refuses literals that are compared with a value in normal form and are not.
    fn check_literals(&mut self, policies: &[Placed]) {
        let checked: Vec<_> = policies.iter().map(|placed| &placed.policy).collect();
        let found = match misspelt(&checked) {
            Ok(found) => found,
            Err(error) => {
                let message = format!(
                    "the literals of the policies cannot be checked: {error}; load the file again, or divide it"
                );
                return self.finder.problem(None, message);
            }
        };
        for (placed, found) in policies.iter().zip(found) {
            for wrong in found {
                let text = self.text.get(placed.span.clone()).unwrap_or_default();
                let at = normal_form::place(text, &wrong.literal);
                let line = at.map_or(placed.line, |at| self.finder.line(placed.span.start + at));
                self.finder.problem(Some(line), wrong.message);
            }
        }
    }

    fn rule(&mut self, placed: Placed) -> Rule {
        let Placed { policy, span, line } = placed;
        let mut seen = HashSet::new();
        let mut named = Vec::new();
        for literal in policy.entity_literals() {
            if !seen.insert(literal.clone()) {
                continue;
            }
            let resource = self.literal(&literal, &span, line);
            if policy.has_non_scope_constraint() {
                named.extend(self.entity(&literal, resource));
            }
        }
        Rule::new(policy, line, span, named, self.words)
    }

    /// What a condition may ask of an entity that it names: where it belongs.
    fn entity(&self, literal: &EntityUid, resource: Option<Resource>) -> Option<Entity> {
        let groups = self.groups?;
        let id = literal.id().unescaped();
        let parents = if *literal.type_name() == self.words.caller {
            groups.of_caller(id)
        } else if *literal.type_name() == self.words.caller_group {
            groups.of_caller_group(id)
        } else {
            above(&resource?, self.words, groups)
        };
        let wanted = !parents.is_empty();
        wanted.then(|| Entity::new_no_attrs(literal.clone(), parents.into_iter().collect()))
    }

    /// Refuses what can name nothing, and returns the resource named.
    fn literal(
        &mut self,
        literal: &EntityUid,
        span: &Range<usize>,
        line: usize,
    ) -> Option<Resource> {
        let (kind, id) = (literal.type_name().to_string(), literal.id().unescaped());
        let problem = match kind.as_str() {
            "Caller" => caller_id_problem(id).map(str::to_owned),
            "CallerGroup" | "TenantGroup" => self.group_problem(&kind, id),
            "Gateway" if id != "gateway" => {
                Some("the one gateway is Gateway::\"gateway\"".to_owned())
            }
            "Gateway" | "Application" | "Tenant" | "Grant" => match resource(&kind, id) {
                Ok(resource) => {
                    self.warn_if_not_configured(&resource, literal, span, line);
                    return Some(resource);
                }
                Err(problem) => Some(problem),
            },
            // Actions and unknown types are the validator's.
            _ => None,
        };
        if let Some(problem) = problem {
            let line = self.place(literal, span, line);
            self.finder.problem(Some(line), format!("{literal}: {problem}"));
        }
        None
    }

    fn group_problem(&self, kind: &str, id: &str) -> Option<String> {
        let groups = self.groups?;
        let of_callers = kind == "CallerGroup";
        let known =
            if of_callers { groups.has_caller_group(id) } else { groups.has_tenant_group(id) };
        if known {
            return None;
        }
        let names = groups.names(of_callers);
        let near = names
            .into_iter()
            .map(|name| (strsim::jaro_winkler(name, id), name))
            .filter(|(score, _)| *score > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let near = near.map(|(_, name)| format!("; did you mean {name:?}?")).unwrap_or_default();
        Some(format!(
            "the entities file knows no such group: add its members there, or correct the name{near}"
        ))
    }

    fn warn_if_not_configured(
        &mut self,
        resource: &Resource,
        literal: &EntityUid,
        span: &Range<usize>,
        line: usize,
    ) {
        let application = match resource {
            Resource::Application(application) => Some(application),
            other => other.tenant().map(|tenant| &tenant.application),
        };
        let Some(application) = application else { return };
        if !self.applications.is_empty() && !self.applications.contains(application) {
            let line = self.place(literal, span, line);
            let message = format!("{literal}: application {application} is not configured");
            self.finder.warning(Some(line), message);
        }
    }

    /// The line of an entity within its policy.
    fn place(&self, literal: &EntityUid, span: &Range<usize>, line: usize) -> usize {
        let id = format!("\"{}\"", literal.id().escaped());
        let found = self.text.get(span.clone()).and_then(|policy| policy.find(&id));
        found.map_or(line, |offset| self.finder.line(span.start + offset))
    }
}

fn resource(kind: &str, id: &str) -> Result<Resource, String> {
    let told = |error: NameError| error.to_string();
    match kind {
        "Application" => application_name(id).map(Resource::Application).map_err(told),
        "Tenant" => id.parse::<TenantName>().map(Resource::Tenant).map_err(told),
        "Grant" if id.contains("/grants/") => {
            id.parse::<Resource>().map_err(|error| error.to_string())
        }
        "Grant" => {
            let form = "applications/{application}/tenants/{tenant}/grants/{grant}";
            Err(format!("wanted the form {form}"))
        }
        _ => Ok(Resource::Gateway),
    }
}

fn is_id(id: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(legal)
}
