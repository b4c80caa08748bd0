//! `policy`: checks policies, and explains their decisions, before they are in force.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};

use super::{
    CommandError, ConfigOption,
    output::{Format, OutputOption, print, print_json},
};
use crate::{
    access::{
        ActionName, Caller, CallerMethod, Explanation, MAX_POLICY_FILE_BYTES, POLICY_SCHEMA,
        PolicyError, PolicyExcerpt, PolicyProblem, PolicySet, PolicyText, Resource, WebApiCall,
    },
    domain::{ApiPath, ApplicationId, file_text},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum PolicyCommand {
    /// Find all problems of policies and entities; does not put them in force.
    ///
    /// Prints `file:line: problem and solution`. Exit codes: 1 if the server would reject them, 2 if there is no policy
    /// file, else 0, even with warnings.
    #[command(
        after_help = "Examples:\n  tenant-gateway policy check --config gateway.toml\n  tenant-gateway policy check --policy policy.cedar --entities entities.json"
    )]
    Check {
        #[command(flatten)]
        files: PolicyFiles,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Show the decision on a call, the policies that determine it, and the permits that nearly match.
    ///
    /// Evaluates the files without a server, and returns no credential. The exit code is 0 if there is a decision,
    /// allowed or denied.
    #[command(
        after_help = "Examples:\n  tenant-gateway policy explain --caller system:serviceaccount:billing:invoices --action issueSystemTicket --resource applications/crm-sync/tenants/Cust12345\n  tenant-gateway policy explain --caller spiffe://example.org/jobs --caller-method mtls --action callWebApiAsSystemUser --resource applications/crm-sync/tenants/Cust12345 --http-method GET --path /api/v1/contact\n  tenant-gateway policy explain --caller system:serviceaccount:support:desk --action issueAccessToken --resource applications/crm-sync/tenants/Cust12345/grants/- --associate-id 102 --user-principal-name erik@customer.example"
    )]
    Explain(ExplainOptions),
    /// Print the Cedar schema of policies: entity types, actions and context.
    #[command(after_help = "Example:\n  tenant-gateway policy schema > gateway.cedarschema")]
    Schema,
}

/// The policy files to read.
#[derive(Debug, clap::Args)]
pub(super) struct PolicyFiles {
    #[command(flatten)]
    config: ConfigOption,
    /// Read this policy file instead of the configured one.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    policy: Option<PathBuf>,
    /// The entities file of that policy.
    #[arg(long, value_name = "FILE", requires = "policy")]
    entities: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExplainOptions {
    #[command(flatten)]
    files: PolicyFiles,
    /// The caller's id, with the prefix of its issuer.
    #[arg(long, value_name = "ID")]
    caller: String,
    /// The caller's authentication method.
    #[arg(long, value_enum, default_value = "jwt")]
    caller_method: Method,
    /// The issuer of the caller's token.
    #[arg(long, value_name = "ISSUER")]
    caller_issuer: Option<String>,
    /// The action, such as `issueSystemTicket`.
    #[arg(long)]
    action: String,
    /// The resource: `gateway`, or the name of an application, tenant or grant.
    #[arg(long, value_name = "NAME")]
    resource: String,
    /// The associate id of the grant's person, for policies that use it; the default is 0.
    #[arg(long, value_name = "ID")]
    associate_id: Option<i32>,
    /// The user principal name of the grant's person, for policies that use it; the default is empty.
    #[arg(long, value_name = "NAME")]
    user_principal_name: Option<String>,
    /// The HTTP method of a call to SuperOffice's Web API.
    #[arg(long, value_name = "METHOD", requires = "path")]
    http_method: Option<String>,
    /// The path of a call to SuperOffice's Web API, starting with `/api/`.
    #[arg(long, value_name = "PATH", requires = "http_method")]
    path: Option<String>,
    #[command(flatten)]
    output: OutputOption,
}

/// A caller's authentication method.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Method {
    /// A JSON Web Token.
    Jwt,
    /// A client certificate.
    Mtls,
    /// No authentication.
    Anonymous,
    /// The operating system's user at the command line.
    Cli,
}

pub(super) fn run(command: PolicyCommand) -> Result<ExitCode, CommandError> {
    match command {
        PolicyCommand::Check { files, output } => check(&files, output),
        PolicyCommand::Explain(options) => explain(&options),
        PolicyCommand::Schema => print(POLICY_SCHEMA).map(|()| ExitCode::SUCCESS),
    }
}

fn check(files: &PolicyFiles, output: OutputOption) -> Result<ExitCode, CommandError> {
    let (text, applications) = files.read()?;
    let (set, problems, warnings) = match PolicySet::parse(&text, &applications) {
        Ok((set, warnings)) => (Some(set), Vec::new(), warnings),
        Err(PolicyError(problems)) => (None, problems, Vec::new()),
    };
    let policies = set.as_ref().map(PolicySet::policies);
    let groups = set.as_ref().map(PolicySet::groups);
    match output.output {
        Format::Json => {
            let shown = |problem: &PolicyProblem| json!({ "file": problem.file, "line": problem.line, "message": problem.message });
            print_json(&json!({
                "problems": problems.iter().map(shown).collect::<Vec<_>>(),
                "warnings": warnings.iter().map(shown).collect::<Vec<_>>(),
                "policies": policies,
                "groups": groups,
            }))?;
        }
        Format::Text => {
            let mut lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
            lines.push(match (policies, groups) {
                (Some(policies), Some(groups)) => format!("{policies} policies, {groups} groups"),
                _ => "rejected: a running server keeps its current policies, and a server does not start with these".to_owned(),
            });
            print(&lines.join("\n"))?;
        }
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explain(options: &ExplainOptions) -> Result<ExitCode, CommandError> {
    let action = action(&options.action)?;
    let resource = options.resource()?;
    if options.caller.is_empty() || !options.caller.bytes().all(|b| b.is_ascii_graphic()) {
        let message = "--caller: a caller's id is printable ASCII without spaces";
        return Err(CommandError::Usage(message.to_owned()));
    }
    let method = match options.caller_method {
        Method::Jwt => CallerMethod::Jwt,
        Method::Mtls => CallerMethod::Mtls,
        Method::Anonymous => CallerMethod::Anonymous,
        Method::Cli => CallerMethod::CommandLine,
    };
    let caller = Caller::unverified(&options.caller, method, options.caller_issuer.as_deref());
    let call = call(options, action)?;
    let call = call
        .as_ref()
        .map(|(method, path)| WebApiCall { method: method.as_str(), path: path.as_str() });
    let (text, applications) = options.files.read()?;
    let (set, _) = PolicySet::parse(&text, &applications).map_err(CommandError::other)?;
    let explained = set.explain(&caller, action, &resource, call);
    let warning = options.warning(&explained);
    let warning = warning.as_deref();
    match options.output.output {
        Format::Json => {
            print_json(&as_json(&caller, action, &resource, call, &explained, warning))?;
        }
        Format::Text => print(&as_text(&caller, action, &resource, &explained, warning))?,
    }
    Ok(ExitCode::SUCCESS)
}

impl ExplainOptions {
    fn resource(&self) -> Result<Resource, CommandError> {
        let usage = |message: String| Err(CommandError::Usage(message));
        match (self.resource.parse(), self.associate_id, &self.user_principal_name) {
            (Err(error), ..) => usage(format!("--resource: {error}")),
            (Ok(Resource::Grant(mut grant)), id, name) => {
                grant.associate_id = id.unwrap_or_default();
                grant.user_principal_name = name.as_deref().unwrap_or_default().into();
                Ok(Resource::Grant(grant))
            }
            (Ok(resource), None, None) => Ok(resource),
            _ => {
                usage("--associate-id and --user-principal-name: only a grant has them".to_owned())
            }
        }
    }

    /// Returns a warning if a policy uses an attribute of the grant that was not given.
    fn warning(&self, found: &Explanation) -> Option<String> {
        let attributes = [
            ("associateId", "--associate-id", self.associate_id.is_some()),
            ("userPrincipalName", "--user-principal-name", self.user_principal_name.is_some()),
        ];
        let options: Vec<_> = attributes
            .into_iter()
            .filter(|(attribute, _, given)| !given && found.attributes.contains(attribute))
            .map(|(_, option, _)| option)
            .collect();
        let options = options.join(" and ");
        (!options.is_empty()).then(|| {
            format!(
                "a policy uses the person of the grant and may decide differently: give {options}"
            )
        })
    }
}

/// Returns the action with this name, or an error with a suggestion.
fn action(name: &str) -> Result<ActionName, CommandError> {
    if let Some(action) = ActionName::from_name(name) {
        return Ok(action);
    }
    let all = || ActionName::ALL.iter().map(|action| action.as_str());
    let near = all()
        .map(|known| (strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase()), known))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let near = near.map(|(_, known)| format!("did you mean {known}? ")).unwrap_or_default();
    let all = all().collect::<Vec<_>>().join(", ");
    Err(CommandError::Usage(format!("--action: no action {name:?}; {near}There are {all}")))
}

/// Returns method and path in the normalized form that policies see.
fn call(
    options: &ExplainOptions,
    action: ActionName,
) -> Result<Option<(String, String)>, CommandError> {
    let usage = |message: &str| Err(CommandError::Usage(message.to_owned()));
    match (&options.http_method, &options.path) {
        (Some(_), _) | (_, Some(_)) if !action.has_context() => usage(
            "--http-method and --path: only callWebApiAsSystemUser and callWebApiAsUser use them",
        ),
        (Some(method), Some(path)) => {
            let path = match ApiPath::parse(path) {
                Ok(_) if path.contains('?') => {
                    return usage("--path: policies do not see the query: remove it");
                }
                Ok(path) => path,
                Err(error) => return usage(&format!("--path: {error}")),
            };
            Ok(Some((method.to_ascii_uppercase(), path.normal_form().to_owned())))
        }
        _ if action.has_context() => usage(
            "this action depends on the call: give --http-method and --path, such as --http-method GET --path /api/v1/contact",
        ),
        _ => Ok(None),
    }
}

fn as_text(
    caller: &Caller,
    action: ActionName,
    resource: &Resource,
    found: &Explanation,
    warning: Option<&str>,
) -> String {
    let decision = if found.decision.allowed { "ALLOWED" } else { "DENIED" };
    let by = caller.issuer().map(|issuer| format!(", {issuer}")).unwrap_or_default();
    let (id, method, action) = (caller.id(), caller.method().as_str(), action.as_str());
    let mut lines = vec![format!("{decision}: {id} ({method}{by}): {action} on {resource}")];
    if let Some(note) = &found.note {
        lines.push(format!("because {note}"));
    }
    for policy in &found.determining {
        lines.push(format!("by {}", place(policy)));
        lines.extend(policy.text.lines().map(|line| format!("    {line}")));
    }
    let listed = |names: &[String]| {
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    lines.push(format!("groups of the caller: {}", listed(&found.caller_groups)));
    lines.push(format!("the resource belongs to: {}", listed(&found.resource_parents)));
    if !found.near_misses.is_empty() {
        lines.push("permits that nearly match:".to_owned());
    }
    for near in &found.near_misses {
        lines.push(format!("  {}: {}", place(&near.policy), near.mismatch));
    }
    lines.extend(warning.map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}

fn place(policy: &PolicyExcerpt) -> String {
    format!("{}:{}: {} {}", policy.file, policy.line, policy.effect, policy.policy_id)
}

fn as_json(
    caller: &Caller,
    action: ActionName,
    resource: &Resource,
    call: Option<WebApiCall<'_>>,
    found: &Explanation,
    warning: Option<&str>,
) -> Value {
    let policy = |policy: &PolicyExcerpt| json!({ "id": &*policy.policy_id, "effect": policy.effect, "file": policy.file, "line": policy.line, "text": policy.text });
    let near: Vec<_> = found
        .near_misses
        .iter()
        .map(|near| json!({ "policy": policy(&near.policy), "differs": near.mismatch }))
        .collect();
    json!({
        "decision": if found.decision.allowed { "ALLOWED" } else { "DENIED" },
        "caller": { "id": caller.id(), "method": caller.method().as_str(), "issuer": caller.issuer() },
        "action": action.as_str(),
        "resource": resource.to_string(),
        "context": call.map(|call| json!({ "method": call.method, "path": call.path })),
        "policies": found.determining.iter().map(policy).collect::<Vec<_>>(),
        "note": found.note,
        "caller_groups": found.caller_groups,
        "resource_parents": found.resource_parents,
        "near_misses": near,
        "warning": warning,
    })
}

impl PolicyFiles {
    /// Reads the files. Returns their texts and the configured applications, if there is a configuration.
    fn read(&self) -> Result<(PolicyText, Vec<ApplicationId>), CommandError> {
        let (policy, entities, applications) = if let Some(policy) = &self.policy {
            (policy.clone(), self.entities.clone(), Vec::new())
        } else {
            let config = self.config.load()?;
            let applications = config.applications.iter().map(|a| a.id.clone()).collect();
            let missing = "policy.file is not configured: give a file with --policy";
            let policy = config.policy.file.ok_or(CommandError::Usage(missing.to_owned()))?;
            (policy, config.policy.entities_file, applications)
        };
        let name = |file: &Path| file.display().to_string();
        let text = PolicyText {
            policy_name: name(&policy),
            policy: read(&policy)?,
            entities_name: entities.as_deref().map(name),
            entities: entities.as_deref().map(read).transpose()?,
        };
        Ok((text, applications))
    }
}

/// Reads a file. If it is too large, reads just enough for the parser to reject it.
fn read(file: &Path) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_POLICY_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file)
        .and_then(|open| open.take(limit).read_to_end(&mut bytes))
        .map_err(|error| CommandError::Usage(format!("{}: {error}", file.display())))?;
    if bytes.len() > MAX_POLICY_FILE_BYTES {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    file_text(&bytes)
        .map(str::to_owned)
        .map_err(|error| CommandError::Failed(format!("{}: {error}", file.display())))
}
