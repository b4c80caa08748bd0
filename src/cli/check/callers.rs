//! Checks of the policy, the issuers of tokens and the client certificates.

use super::{
    report::{Check, Report, State, Topic},
    setup::count,
};
use crate::{
    access::{InspectedKeys, NoUsableKeys, PolicyError, PolicyProblem},
    app::{inspect_keys, inspect_policy},
    config::{Config, JwtIssuer},
    domain::TokenAlgorithm,
    outbound::Network,
};

/// Reads the policy the same way as `serve`.
pub(super) fn policy(config: &Config, report: &mut Report) {
    let to_check = |state, problem: &PolicyProblem| {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        Check::from_message(Topic::Policy, state, &problem.message)
            .at(format!("{}{line}", problem.file))
    };
    match inspect_policy(config) {
        // `check_servable` reports a missing policy.
        Ok(None) => {}
        Ok(Some((set, warnings))) => {
            let (policies, groups) = (set.policies(), set.groups());
            let many = if policies == 1 { "policy" } else { "policies" };
            let found = format!("{policies} {many}, {}", count(groups, "group"));
            report.add(Check::ok(Topic::Policy, found).at("policy.file"));
            for warning in &warnings {
                report.add(to_check(State::Warning, warning));
            }
        }
        Err(PolicyError(problems)) => {
            for problem in &problems {
                report.add(to_check(State::Failed, problem));
            }
        }
    }
}

/// Checks the authentication methods of callers, and whether the issuers' keys can be read now.
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
        let found =
            format!("client certificates from the authorities in {authorities} name callers");
        report.add(Check::ok(Topic::Callers, found).at("callers.mtls"));
    } else if !callers.jwt.is_empty() {
        let found = format!(
            "client certificates from the authorities in {authorities} do not name callers"
        );
        let remedy = "set callers.mtls.enabled = true, or remove grpc.tls.client_ca_file";
        report.add(Check::warning(Topic::Callers, found, remedy).at("callers.mtls"));
    }
}

fn anonymous(config: &Config) -> Check {
    let may = match &config.policy.file {
        Some(_) => "what the policy permits Caller::\"anonymous\"",
        None => "everything",
    };
    let found = format!("every process on this machine may do {may}");
    let remedy = "except for trials, use [[callers.jwt]] or [callers.mtls] and a policy";
    Check::warning(Topic::Callers, found, remedy).at("callers.insecure_anonymous")
}

async fn issuer_keys(issuer: &JwtIssuer, offline: bool, network: &Network) -> Check {
    let name = &issuer.issuer;
    if offline && issuer.jwks_file.is_none() {
        let found = format!("{name}: the keys were not read: --offline");
        return Check::skipped(Topic::Callers, found);
    }
    match inspect_keys(issuer, network).await {
        Ok(InspectedKeys { usable, skipped: None }) => {
            Check::ok(Topic::Callers, format!("{name}: {} can be used", count(usable, "key")))
        }
        Ok(InspectedKeys { usable, skipped: Some(others) }) => {
            let keys = count(usable, "key");
            let found = format!("{name}: {keys} can be used; it also publishes: {others}");
            let remedy = "tokens signed with these other keys are rejected: have the issuer sign with a supported algorithm, \
                        and see callers.jwt.algorithms";
            Check::warning(Topic::Callers, found, remedy)
        }
        Err(NoUsableKeys::Unusable(others)) => {
            let found =
                format!("{name}: the key set has no usable key; it publishes only: {others}");
            let supported = TokenAlgorithm::list(&TokenAlgorithm::ALL);
            let remedy = format!(
                "all tokens of this issuer are rejected: have it sign with {supported}, and see callers.jwt.algorithms"
            );
            Check::failed(Topic::Callers, found, remedy)
        }
        Err(NoUsableKeys::Unreadable(cause)) => {
            let remedy = "until they can be read, callers of this issuer get KEY_UNAVAILABLE: see issuer, jwks_uri, \
                        jwks_file, ca_file and bearer_token_file, and whether its host can be reached from here";
            Check::failed(Topic::Callers, format!("{name}: no keys: {cause}"), remedy)
        }
    }
}
