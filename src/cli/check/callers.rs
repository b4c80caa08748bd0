//! Who may call, and what they may do: the policy, the issuers of tokens, client certificates.

use super::{
    report::{Check, Report, State, Topic},
    setup::count,
};
use crate::{
    access::{InspectedKeys, NoKeys, PolicyError, PolicyProblem},
    app::{inspect_keys, inspect_policy},
    config::{Config, JwtIssuer},
    domain::TokenAlgorithm,
    outbound::Network,
};

/// Reads the policy as `serve` does.
pub(super) fn policy(config: &Config, report: &mut Report) {
    let told = |state, problem: &PolicyProblem| {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        Check::told(Topic::Policy, state, &problem.message).at(format!("{}{line}", problem.file))
    };
    match inspect_policy(config) {
        // `check_servable` says so where that is a mistake.
        Ok(None) => {}
        Ok(Some((set, warnings))) => {
            let (policies, groups) = (set.policies(), set.groups());
            let many = if policies == 1 { "policy" } else { "policies" };
            let found = format!("{policies} {many}, {}", count(groups, "group"));
            report.add(Check::ok(Topic::Policy, found).at("policy.file"));
            for warning in &warnings {
                report.add(told(State::Warning, warning));
            }
        }
        Err(PolicyError(problems)) => {
            for problem in &problems {
                report.add(told(State::Failed, problem));
            }
        }
    }
}

/// How callers prove who they are, and whether that can be told now.
pub(super) async fn callers(
    config: &Config,
    offline: bool,
    network: &Network,
    report: &mut Report,
) {
    let callers = &config.callers;
    if callers.insecure_anonymous {
        report.add(anonymous(config));
    }
    for (index, issuer) in callers.jwt.iter().enumerate() {
        let check = issuer_keys(issuer, offline, network).await;
        report.add(check.at(format!("callers.jwt[{index}]")));
    }
    let authorities = config.grpc.tls.as_ref().and_then(|tls| tls.client_ca_file.as_ref());
    let Some(authorities) = authorities else { return };
    let authorities = authorities.display();
    if callers.mtls.enabled {
        let found = format!("client certificates of the authorities in {authorities} name callers");
        report.add(Check::ok(Topic::Callers, found).at("callers.mtls"));
    } else if !callers.jwt.is_empty() {
        let found = format!("certificates of the authorities in {authorities} name no caller");
        let mend = "set callers.mtls.enabled = true, or take grpc.tls.client_ca_file out";
        report.add(Check::warning(Topic::Callers, found, mend).at("callers.mtls"));
    }
}

fn anonymous(config: &Config) -> Check {
    let may = match &config.policy.file {
        Some(_) => "what the policy permits Caller::\"anonymous\"",
        None => "everything",
    };
    let found = format!("every process on this machine may do {may}");
    let mend = "for more than trying things out use [[callers.jwt]] or [callers.mtls] and a policy";
    Check::warning(Topic::Callers, found, mend).at("callers.insecure_anonymous")
}

async fn issuer_keys(issuer: &JwtIssuer, offline: bool, network: &Network) -> Check {
    let name = &issuer.issuer;
    if offline && issuer.jwks_file.is_none() {
        let found = format!("{name} was not asked for its keys: --offline");
        return Check::skipped(Topic::Callers, found);
    }
    match inspect_keys(issuer, network).await {
        Ok(InspectedKeys { usable, passed_over: None }) => {
            Check::ok(Topic::Callers, format!("{name}: {} can be used", count(usable, "key")))
        }
        Ok(InspectedKeys { usable, passed_over: Some(others) }) => {
            let keys = count(usable, "key");
            let found = format!("{name}: {keys} can be used; it also publishes: {others}");
            let mend = "tokens that these others sign are refused: have the issuer sign with a supported algorithm, \
                        and see callers.jwt.algorithms";
            Check::warning(Topic::Callers, found, mend)
        }
        Err(NoKeys::Unusable(others)) => {
            let found = format!(
                "{name}: the key set has no key that can be used; it publishes only: {others}"
            );
            let supported = TokenAlgorithm::list(&TokenAlgorithm::ALL);
            let mend = format!(
                "all tokens of this issuer are refused: have it sign with {supported}, and see callers.jwt.algorithms"
            );
            Check::failed(Topic::Callers, found, mend)
        }
        Err(NoKeys::Unreadable(cause)) => {
            let mend = "until they can be read, callers of this issuer get KEY_UNAVAILABLE: see issuer, jwks_uri, \
                        jwks_file, ca_file and bearer_token_file, and whether its host can be reached from here";
            Check::failed(Topic::Callers, format!("{name}: no keys: {cause}"), mend)
        }
    }
}
