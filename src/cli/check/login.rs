//! Each application's login host: whether it answers, as what, and at what time.

use super::report::{Check, Report, State, Topic};
use crate::{
    config::Application,
    outbound::{Fault, Unresolved},
    ports::UpstreamError,
    superoffice::{CLOCK_ALARM, Diagnosis, Discovery, Reached},
};

/// Whether the login host can be asked for more.
pub(super) async fn check(
    key: &str,
    application: &Application,
    diagnosis: &Diagnosis,
    report: &mut Report,
) -> bool {
    let uri = &application.login_uri;
    let place = format!("{key}.login_uri");
    let Reached { clock_skew, discovery } = match diagnosis.reach().await {
        Ok(reached) => reached,
        Err(fault) => {
            let found = format!("{uri}: {fault}");
            report.add(Check::failed(Topic::LoginHost, found, mend(&fault)).at(place));
            return false;
        }
    };
    report.add(Check::ok(Topic::LoginHost, format!("{uri} answers")).at(&place));
    report.add(clock(uri, clock_skew).at(&place));
    match discovery {
        Ok(document) => discovered(key, application, &document, report),
        Err(error) => report.add(invalid(Topic::Discovery, uri, &error).at(&place)),
    }
    let keys = match diagnosis.usable_keys().await {
        Ok(number) => Check::ok(Topic::Jwks, format!("{uri}: usable RSA keys: {number}")),
        Err(error) => invalid(Topic::Jwks, uri, &error),
    };
    report.add(keys.at(place));
    true
}

fn mend(fault: &Fault) -> &'static str {
    match fault {
        Fault::Name(Unresolved::Unknown) => {
            "correct login_uri, or let this machine ask a name server that knows SuperOffice"
        }
        Fault::Name(Unresolved::NotPublic) => {
            "correct login_uri or the name server: the gateway connects to public addresses only"
        }
        Fault::Connect(_) => {
            "let this machine connect to it through firewall and network policy, or set [proxy] https to the proxy that leads there"
        }
        Fault::Tls(_) => {
            "correct login_uri, or set outbound.ca_file to the authority of what breaks TLS open on the way; compare the \
             clock of this machine too"
        }
        Fault::Proxy { .. } => "correct [proxy], or the environment variable that names the proxy",
        Fault::Unreached | Fault::Timeout(_) | Fault::NotProcessed | Fault::Broken(_) => {
            "see whether a firewall drops the connection, and https://status.superoffice.com"
        }
        Fault::Status(_) | Fault::TooLarge(_) => {
            "see https://status.superoffice.com, or what answers in SuperOffice's place"
        }
    }
}

fn invalid(topic: Topic, uri: &str, error: &UpstreamError) -> Check {
    let mend = "see whether login_uri is SuperOffice's login host, or what answers in its place";
    Check::failed(topic, format!("{uri}: {error}"), mend)
}

fn clock(uri: &str, skew: Option<jiff::SignedDuration>) -> Check {
    let Some(skew) = skew else {
        return Check::skipped(Topic::Clock, format!("{uri} does not tell the time"));
    };
    let seconds = skew.abs().as_secs();
    if skew.abs() < CLOCK_ALARM {
        Check::ok(Topic::Clock, format!("{uri} and this machine are {seconds} s apart"))
    } else {
        let direction = if skew.is_negative() { "behind" } else { "ahead of" };
        let found = format!("{uri} is {seconds} s {direction} this machine");
        let mend = "correct the clock of this machine (NTP): tokens are signed with the time";
        Check::failed(Topic::Clock, found, mend)
    }
}

fn discovered(key: &str, application: &Application, document: &Discovery, report: &mut Report) {
    let uri = &application.login_uri;
    let mut all_is_well = true;
    let mut add = |state, found: String, mend: &str, place: String| {
        all_is_well = false;
        let check = match state {
            State::Failed => Check::failed(Topic::Discovery, found, mend),
            _ => Check::warning(Topic::Discovery, found, mend),
        };
        report.add(check.at(place));
    };
    let login = || format!("{key}.login_uri");
    let documented = "see whether login_uri is SuperOffice's login host";
    let missing = document.missing();
    if !missing.is_empty() {
        let found = format!("{uri} lacks {}", missing.join(", "));
        add(State::Failed, found, documented, login());
    }
    let missing = document.also_missing();
    if !missing.is_empty() {
        let found = format!("{uri} lacks what is documented: {}", missing.join(", "));
        add(State::Warning, found, documented, login());
    }
    let issuer = &application.issuer;
    if !document.missing().contains(&"issuer") && !document.is_of(issuer) {
        let found = format!("{uri} is of another issuer than {issuer}");
        let mend = "correct environment, login_uri or issuer";
        add(State::Failed, found, mend, format!("{key}.issuer"));
    }
    if !document.missing().contains(&"jwks_uri") && !document.has_documented_keys(uri) {
        let found = format!("{uri} names another jwks_uri than the documented one");
        let mend = "tell the maintainers: the gateway reads the keys at the documented path";
        add(State::Warning, found, mend, login());
    }
    if all_is_well {
        let found = format!("{uri} is of {issuer}, with the documented fields");
        report.add(Check::ok(Topic::Discovery, found).at(login()));
    }
}
