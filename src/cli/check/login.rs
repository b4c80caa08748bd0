//! Checks of each application's login host: reachability, clock, discovery document and keys.

use super::report::{Check, Report, State, Topic};
use crate::{
    config::Application,
    outbound::{Fault, ResolveError},
    ports::UpstreamError,
    superoffice::{CLOCK_ALARM, Discovery, LoginHostCheck, LoginHostReport},
};

/// Checks a login host. Returns whether it answers.
pub(super) async fn check(
    key: &str,
    application: &Application,
    diagnosis: &LoginHostCheck,
    report: &mut Report,
) -> bool {
    let uri = &application.login_uri;
    let place = format!("{key}.login_uri");
    let LoginHostReport { clock_skew, discovery } = match diagnosis.fetch_discovery().await {
        Ok(reached) => reached,
        Err(fault) => {
            let found = format!("{uri}: {fault}");
            report.add(Check::failed(Topic::LoginHost, found, remedy(&fault)).at(place));
            return false;
        }
    };
    report.add(Check::ok(Topic::LoginHost, format!("{uri} answers")).at(&place));
    report.add(clock(uri, clock_skew).at(&place));
    match discovery {
        Ok(document) => discovered(key, application, &document, report),
        Err(error) => report.add(invalid(Topic::Discovery, uri, &error).at(&place)),
    }
    let keys = match diagnosis.count_usable_keys().await {
        Ok(number) => Check::ok(Topic::Jwks, format!("{uri}: usable RSA keys: {number}")),
        Err(error) => invalid(Topic::Jwks, uri, &error),
    };
    report.add(keys.at(place));
    true
}

fn remedy(fault: &Fault) -> &'static str {
    match fault {
        Fault::Name(ResolveError::Unknown) => {
            "correct login_uri, or configure a DNS server that resolves SuperOffice's hosts on this machine"
        }
        Fault::Name(ResolveError::NotPublic) => {
            "correct login_uri or the DNS server: the gateway connects to public addresses only"
        }
        Fault::Connect(_) => {
            "allow this connection in the firewall and the network policy, or set [proxy] https to an outbound proxy"
        }
        Fault::Tls(_) => {
            "correct login_uri, or, if a proxy inspects TLS, set outbound.ca_file to its certificate authority; also check \
             the clock of this machine"
        }
        Fault::Proxy { .. } => "correct [proxy], or the environment variable that names the proxy",
        Fault::ConnectTimeout | Fault::Timeout(_) | Fault::NotProcessed | Fault::Broken(_) => {
            "check whether a firewall drops the connection, and see https://status.superoffice.com"
        }
        Fault::Status(_) | Fault::TooLarge(_) => {
            "see https://status.superoffice.com, or check whether another host answers instead of SuperOffice"
        }
    }
}

fn invalid(topic: Topic, uri: &str, error: &UpstreamError) -> Check {
    let remedy = "check whether login_uri is SuperOffice's login host, or whether another host answers instead";
    Check::failed(topic, format!("{uri}: {error}"), remedy)
}

fn clock(uri: &str, skew: Option<jiff::SignedDuration>) -> Check {
    let Some(skew) = skew else {
        return Check::skipped(Topic::Clock, format!("{uri} sends no Date header"));
    };
    let seconds = skew.abs().as_secs();
    if skew.abs() < CLOCK_ALARM {
        Check::ok(
            Topic::Clock,
            format!("the clocks of {uri} and this machine differ by {seconds} s"),
        )
    } else {
        let direction = if skew.is_negative() { "behind" } else { "ahead of" };
        let found = format!("the clock of {uri} is {seconds} s {direction} this machine");
        let remedy = "correct the clock of this machine (NTP): signed tokens contain the time";
        Check::failed(Topic::Clock, found, remedy)
    }
}

fn discovered(key: &str, application: &Application, document: &Discovery, report: &mut Report) {
    let uri = &application.login_uri;
    let mut all_is_well = true;
    let mut add = |state, found: String, remedy: &str, place: String| {
        all_is_well = false;
        let check = match state {
            State::Failed => Check::failed(Topic::Discovery, found, remedy),
            _ => Check::warning(Topic::Discovery, found, remedy),
        };
        report.add(check.at(place));
    };
    let login = || format!("{key}.login_uri");
    let documented = "check whether login_uri is SuperOffice's login host";
    let missing = document.missing_required();
    if !missing.is_empty() {
        let found = format!("{uri} lacks {}", missing.join(", "));
        add(State::Failed, found, documented, login());
    }
    let missing = document.missing_optional();
    if !missing.is_empty() {
        let found = format!("{uri} lacks documented fields: {}", missing.join(", "));
        add(State::Warning, found, documented, login());
    }
    let issuer = &application.issuer;
    if !document.missing_required().contains(&"issuer") && !document.has_issuer(issuer) {
        let found = format!("{uri} has another issuer than {issuer}");
        let remedy = "correct environment, login_uri or issuer";
        add(State::Failed, found, remedy, format!("{key}.issuer"));
    }
    if !document.missing_required().contains(&"jwks_uri") && !document.has_documented_jwks_uri(uri)
    {
        let found = format!("{uri} names another jwks_uri than the documented one");
        let remedy =
            "report this to the maintainers: the gateway reads the keys at the documented path";
        add(State::Warning, found, remedy, login());
    }
    if all_is_well {
        let found = format!("{uri} has the issuer {issuer} and the documented fields");
        report.add(Check::ok(Topic::Discovery, found).at(login()));
    }
}
