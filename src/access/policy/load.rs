//! Loading of policies. Reports all mistakes at once, with line and correction, before a policy is used, including
//! policies that do not mean what they seem to mean.

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
    MAX_POLICIES, MAX_POLICY_FILE_BYTES, PolicyError, PolicyProblem, PolicySet, PolicyText, depth,
    entities::{self, Groups, caller_id_problem},
    normal_form::{self, find_non_normal_literals},
    problem::ProblemCollector,
    rule::Rule,
    schema_names::{SchemaNames, schema},
};
use crate::{
    access::Resource,
    domain::{ApplicationId, NameError, TenantName, application_name},
};

/// Maximum length of an `@id`, in bytes.
const MAX_ID_BYTES: usize = 64;

impl PolicySet {
    /// Reads policies and entities, and also returns warnings about harmless but probably unintended entries. With
    /// empty `applications`, does not check whether the named applications are configured.
    ///
    /// # Errors
    /// Returns all problems of both files.
    pub fn parse(
        text: &PolicyText,
        applications: &[ApplicationId],
    ) -> Result<(Self, Vec<PolicyProblem>), PolicyError> {
        let internal = |message: String| {
            let file = text.policy_name.clone();
            PolicyError(vec![PolicyProblem { file, line: None, message }])
        };
        let schema_names = SchemaNames::new().map_err(internal)?;
        let validator = Validator::new(schema().map_err(internal)?);
        let of_entities = text.entities.as_deref().unwrap_or_default();
        let mut finder =
            ProblemCollector::new(text.entities_name.as_deref().unwrap_or("entities"), of_entities);
        let groups = match text.entities {
            Some(_) => entities::read(of_entities, applications, &schema_names, &mut finder),
            None => Groups::default(),
        };
        let (mut problems, mut warnings) = finder.finish();
        let mut reader = Reader {
            text: &text.policy,
            finder: ProblemCollector::new(&text.policy_name, &text.policy),
            schema_names: &schema_names,
            // Group names are checked only if the entities file has no problems.
            groups: problems.is_empty().then_some(&groups),
            applications,
        };
        let rules = reader.policies(&validator);
        let (more_problems, more_warnings) = reader.finder.finish();
        problems.extend(more_problems);
        warnings.extend(more_warnings);
        if problems.is_empty() {
            Ok((Self::new(rules, groups, schema_names, text), warnings))
        } else {
            Err(PolicyError(problems))
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    finder: ProblemCollector<'a>,
    schema_names: &'a SchemaNames,
    groups: Option<&'a Groups>,
    applications: &'a [ApplicationId],
}

/// A policy and its position in the file.
struct PolicyWithSpan {
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

    fn parsed(&mut self) -> Option<Vec<PolicyWithSpan>> {
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
            self.finder.problem(at, "templates are not supported, because nothing fills in ?principal and ?resource: write a policy for each, or one for a group");
        }
        if set.num_of_policies() > MAX_POLICIES {
            let message =
                format!("more than {MAX_POLICIES} policies: write policies for groups instead");
            self.finder.problem(None, message);
            return None;
        }
        if set.num_of_policies() == 0 {
            self.finder.warning(None, "no policies: every call is denied");
        }
        let place = |policy: &Policy| {
            let span = policy.as_ref().loc().map_or(0..0, |loc| loc.start()..loc.end());
            PolicyWithSpan { policy: policy.clone(), line: self.finder.line(span.start), span }
        };
        let mut policies: Vec<_> = set.policies().map(place).collect();
        policies.sort_by_key(|placed| placed.span.start);
        Some(policies)
    }

    /// Sets each policy's id from its `@id`, and reports duplicate ids.
    fn named(&mut self, policies: Vec<PolicyWithSpan>) -> Vec<PolicyWithSpan> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut named = Vec::with_capacity(policies.len());
        for placed in policies {
            let line = placed.line;
            let policy = match placed.policy.annotation("id") {
                None => placed.policy,
                Some(id) if is_id(id) => placed.policy.new_id(PolicyId::new(id)),
                Some(_) => {
                    let message = format!(
                        "@id: expected 1 to {MAX_ID_BYTES} of A-Z, a-z, 0-9, . _ and -, such as @id(\"invoices-read\")"
                    );
                    self.finder.problem(Some(line), message);
                    continue;
                }
            };
            let id = policy.id().to_string();
            if let Some(first) = seen.get(&id) {
                let message = format!(
                    "a second policy with the id {id} (the first is in line {first}): give it another @id"
                );
                self.finder.problem(Some(line), message);
                continue;
            }
            seen.insert(id, line);
            named.push(PolicyWithSpan { policy, ..placed });
        }
        named
    }

    fn validate(&mut self, policies: &[PolicyWithSpan], validator: &Validator) {
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
                // One message instead of one for each action without a context.
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
                // Text that looks like something else, such as mixed scripts.
                _ => self.finder.cedar_problem(warning, line),
            }
        }
    }

    /// Rejects literals that are compared with a normalized value and are not in normal form.
    fn check_literals(&mut self, policies: &[PolicyWithSpan]) {
        let checked: Vec<_> = policies.iter().map(|placed| &placed.policy).collect();
        let found = match find_non_normal_literals(&checked) {
            Ok(found) => found,
            Err(error) => {
                let message = format!(
                    "the literals of the policies cannot be checked: {error}; load the file again, or split it"
                );
                return self.finder.problem(None, message);
            }
        };
        for (placed, found) in policies.iter().zip(found) {
            for wrong in found {
                let text = self.text.get(placed.span.clone()).unwrap_or_default();
                let at = normal_form::find_literal(text, &wrong.literal);
                let line = at.map_or(placed.line, |at| self.finder.line(placed.span.start + at));
                self.finder.problem(Some(line), wrong.message);
            }
        }
    }

    fn rule(&mut self, placed: PolicyWithSpan) -> Rule {
        let PolicyWithSpan { policy, span, line } = placed;
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
        Rule::new(policy, line, span, named, self.schema_names)
    }

    /// Returns an entity that a condition names, with its ancestors.
    fn entity(&self, literal: &EntityUid, resource: Option<Resource>) -> Option<Entity> {
        let groups = self.groups?;
        let id = literal.id().unescaped();
        let parents = if *literal.type_name() == self.schema_names.caller {
            groups.of_caller(id)
        } else if *literal.type_name() == self.schema_names.caller_group {
            groups.of_caller_group(id)
        } else {
            groups.ancestors_of(&resource?, self.schema_names)
        };
        let wanted = !parents.is_empty();
        wanted.then(|| Entity::new_no_attrs(literal.clone(), parents.into_iter().collect()))
    }

    /// Reports a literal that can name no entity, and returns the resource that it names.
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
            // The validator checks actions and unknown types.
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
            "the entities file has no such group: add its members there, or correct the name{near}"
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

    /// Returns the line of an entity within its policy.
    fn place(&self, literal: &EntityUid, span: &Range<usize>, line: usize) -> usize {
        let id = format!("\"{}\"", literal.id().escaped());
        let found = self.text.get(span.clone()).and_then(|policy| policy.find(&id));
        found.map_or(line, |offset| self.finder.line(span.start + offset))
    }
}

fn resource(kind: &str, id: &str) -> Result<Resource, String> {
    let message = |error: NameError| error.to_string();
    match kind {
        "Application" => application_name(id).map(Resource::Application).map_err(message),
        "Tenant" => id.parse::<TenantName>().map(Resource::Tenant).map_err(message),
        "Grant" if id.contains("/grants/") => {
            id.parse::<Resource>().map_err(|error| error.to_string())
        }
        "Grant" => {
            let form = "applications/{application}/tenants/{tenant}/grants/{grant}";
            Err(format!("expected the form {form}"))
        }
        _ => Ok(Resource::Gateway),
    }
}

fn is_id(id: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(legal)
}
