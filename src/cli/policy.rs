//! `policy`: what is wrong with policies, and what they decide, before they are in force.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};

use super::{
    ConfigOption, Failed,
    output::{Format, OutputOption, print, print_json},
};
use crate::{
    access::{
        ActionName, Caller, CallerMethod, Excerpt, Explanation, MAX_POLICY_FILE_BYTES,
        POLICY_SCHEMA, PolicyError, PolicyProblem, PolicySet, PolicyText, Resource, WebApiCall,
    },
    domain::{ApiPath, ApplicationId, file_text},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum PolicyCommand {
    /// Look for everything that is wrong with policies and entities; puts nothing in force.
    ///
    /// Prints `file:line: what is wrong and what to do`. Exit codes: 1 if the server would refuse them, 2 if there is
    /// nothing to look at, else 0, also with warnings.
    #[command(
        after_help = "Examples:\n  tenant-gateway policy check --config gateway.toml\n  tenant-gateway policy check --policy policy.cedar --entities entities.json"
    )]
    Check {
        #[command(flatten)]
        files: PolicyFiles,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Say what policies decide about a question, which of them decide it, and what would nearly permit it.
    ///
    /// Asks the files, not a server, and gives nobody anything. Exit code 0 if the question could be answered,
    /// allowed or denied.
    #[command(
        after_help = "Examples:\n  tenant-gateway policy explain --caller system:serviceaccount:billing:invoices --action issueSystemTicket --resource applications/crm-sync/tenants/Cust12345\n  tenant-gateway policy explain --caller spiffe://example.org/jobs --caller-method mtls --action callWebApiAsSystemUser --resource applications/crm-sync/tenants/Cust12345 --http-method GET --path /api/v1/contact\n  tenant-gateway policy explain --caller system:serviceaccount:support:desk --action issueAccessToken --resource applications/crm-sync/tenants/Cust12345/grants/- --associate-id 102 --user-principal-name erik@customer.example"
    )]
    Explain(ExplainOptions),
    /// Print what policies can speak of: entity types, actions and context, in Cedar's schema language.
    #[command(after_help = "Example:\n  tenant-gateway policy schema > gateway.cedarschema")]
    Schema,
}

/// The files to look at.
#[derive(Debug, clap::Args)]
pub(super) struct PolicyFiles {
    #[command(flatten)]
    config: ConfigOption,
    /// Look at this policy file, without a configuration.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    policy: Option<PathBuf>,
    /// Its entities file.
    #[arg(long, value_name = "FILE", requires = "policy")]
    entities: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExplainOptions {
    #[command(flatten)]
    files: PolicyFiles,
    /// Who asks: the caller's id, with the prefix of its issuer.
    #[arg(long, value_name = "ID")]
    caller: String,
    /// How it proves who it is.
    #[arg(long, value_enum, default_value = "jwt")]
    caller_method: Method,
    /// Who vouches for it: the issuer of its token.
    #[arg(long, value_name = "ISSUER")]
    caller_issuer: Option<String>,
    /// What it wants to do, such as `issueSystemTicket`.
    #[arg(long)]
    action: String,
    /// To what: `gateway`, or the name of an application, tenant or grant.
    #[arg(long, value_name = "NAME")]
    resource: String,
    /// Of a grant: whose it is, as policies may ask; without it 0.
    #[arg(long, value_name = "ID")]
    associate_id: Option<i32>,
    /// Of a grant: whose it is, as policies may ask; without it empty.
    #[arg(long, value_name = "NAME")]
    user_principal_name: Option<String>,
    /// Of a call to SuperOffice's Web API: the method.
    #[arg(long, value_name = "METHOD", requires = "path")]
    http_method: Option<String>,
    /// The path of a call to SuperOffice's Web API as in a request, from `/api/`.
    #[arg(long, value_name = "PATH", requires = "http_method")]
    path: Option<String>,
    #[command(flatten)]
    output: OutputOption,
}

/// How a caller proves who it is.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Method {
    /// By a token.
    Jwt,
    /// By a certificate.
    Mtls,
    /// Not at all.
    Anonymous,
    /// As a person at the command line.
    Cli,
}

pub(super) fn run(command: PolicyCommand) -> Result<ExitCode, Failed> {
    match command {
        PolicyCommand::Check { files, output } => check(&files, output),
        PolicyCommand::Explain(options) => explain(&options),
        PolicyCommand::Schema => print(POLICY_SCHEMA).map(|()| ExitCode::SUCCESS),
    }
}

fn check(files: &PolicyFiles, output: OutputOption) -> Result<ExitCode, Failed> {
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
                _ => "refused: a server that runs keeps the policies it has, and one that starts does not start".to_owned(),
            });
            print(&lines.join("\n"))?;
        }
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explain(options: &ExplainOptions) -> Result<ExitCode, Failed> {
    let action = action(&options.action)?;
    let resource = options.resource()?;
    if options.caller.is_empty() || !options.caller.bytes().all(|b| b.is_ascii_graphic()) {
        let message = "--caller: a caller's id is printable ASCII without spaces";
        return Err(Failed::Usage(message.to_owned()));
    }
    let method = match options.caller_method {
        Method::Jwt => CallerMethod::Jwt,
        Method::Mtls => CallerMethod::Mtls,
        Method::Anonymous => CallerMethod::Anonymous,
        Method::Cli => CallerMethod::CommandLine,
    };
    let caller = Caller::supposed(&options.caller, method, options.caller_issuer.as_deref());
    let call = call(options, action)?;
    let call = call
        .as_ref()
        .map(|(method, path)| WebApiCall { method: method.as_str(), path: path.as_str() });
    let (text, applications) = options.files.read()?;
    let (set, _) = PolicySet::parse(&text, &applications).map_err(Failed::other)?;
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
    fn resource(&self) -> Result<Resource, Failed> {
        let usage = |message: String| Err(Failed::Usage(message));
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

    /// If a policy asks whose grant it is, and that was not said.
    fn warning(&self, found: &Explanation) -> Option<String> {
        let attributes = [
            ("associateId", "--associate-id", self.associate_id.is_some()),
            ("userPrincipalName", "--user-principal-name", self.user_principal_name.is_some()),
        ];
        let options: Vec<_> = attributes
            .into_iter()
            .filter(|(attribute, _, said)| !said && found.attributes.contains(attribute))
            .map(|(_, option, _)| option)
            .collect();
        let options = options.join(" and ");
        (!options.is_empty()).then(|| {
            format!(
                "a policy asks whose grant it is, and may decide otherwise: say so with {options}"
            )
        })
    }
}

/// The action of this name, or help.
fn action(name: &str) -> Result<ActionName, Failed> {
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
    Err(Failed::Usage(format!("--action: no action {name:?}; {near}There are {all}")))
}

/// Method and path, in the form that policies see.
fn call(options: &ExplainOptions, action: ActionName) -> Result<Option<(String, String)>, Failed> {
    let usage = |message: &str| Err(Failed::Usage(message.to_owned()));
    match (&options.http_method, &options.path) {
        (Some(_), _) | (_, Some(_)) if !action.has_context() => usage(
            "--http-method and --path: only callWebApiAsSystemUser and callWebApiAsUser are decided by them",
        ),
        (Some(method), Some(path)) => {
            let path = match ApiPath::parse(path) {
                Ok(_) if path.contains('?') => {
                    return usage("--path: policies do not see the query: leave it out");
                }
                Ok(path) => path,
                Err(error) => return usage(&format!("--path: {error}")),
            };
            Ok(Some((method.to_ascii_uppercase(), path.decided().to_owned())))
        }
        _ if action.has_context() => usage(
            "this action is decided by the call: give --http-method and --path, such as --http-method GET --path /api/v1/contact",
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
    let decision = if found.ruling.allowed { "ALLOWED" } else { "DENIED" };
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
        lines.push(format!("  {}: {}", place(&near.policy), near.differs));
    }
    lines.extend(warning.map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}

fn place(policy: &Excerpt) -> String {
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
    let policy = |policy: &Excerpt| json!({ "id": &*policy.policy_id, "effect": policy.effect, "file": policy.file, "line": policy.line, "text": policy.text });
    let near: Vec<_> = found
        .near_misses
        .iter()
        .map(|near| json!({ "policy": policy(&near.policy), "differs": near.differs }))
        .collect();
    json!({
        "decision": if found.ruling.allowed { "ALLOWED" } else { "DENIED" },
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
    /// The texts, and the applications that are configured, if there is a configuration.
    fn read(&self) -> Result<(PolicyText, Vec<ApplicationId>), Failed> {
        let (policy, entities, applications) = if let Some(policy) = &self.policy {
            (policy.clone(), self.entities.clone(), Vec::new())
        } else {
            let config = self.config.load()?;
            let applications = config.applications.iter().map(|a| a.id.clone()).collect();
            let missing = "policy.file is not configured: name a file with --policy";
            let policy = config.policy.file.ok_or(Failed::Usage(missing.to_owned()))?;
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

/// A file, or of one that is too long so much that this shows.
fn read(file: &Path) -> Result<String, Failed> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_POLICY_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file)
        .and_then(|open| open.take(limit).read_to_end(&mut bytes))
        .map_err(|error| Failed::Usage(format!("{}: {error}", file.display())))?;
    if bytes.len() > MAX_POLICY_FILE_BYTES {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    file_text(&bytes)
        .map(str::to_owned)
        .map_err(|error| Failed::Failed(format!("{}: {error}", file.display())))
}
