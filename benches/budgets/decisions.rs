//! The cost of policy decisions: the first time, and from the cache.

use std::{hint::black_box, time::Instant};

use tenant_gateway::access::{
    ActionName, Caller, CallerMethod, Policies, PolicySet, PolicyText, Resource,
};

use super::{
    first_tickets::tenant,
    installation::{CALLER, ISSUER, tenant_name},
    tickets::policies,
};

const QUESTIONS: u32 = 2_000;

/// Prints a table of decisions.
pub(crate) fn compare() {
    println!("policies  decision                          first µs   again µs");
    for count in [5, 50, 500] {
        let read = |text: String| {
            let text = PolicyText { policy: text, ..Default::default() };
            PolicySet::parse(&text, &["demo".parse().unwrap()]).unwrap().0
        };
        let caller = Caller::unverified(CALLER, CallerMethod::Jwt, Some(ISSUER));
        let ask = |policies: &Policies, tenant: &Resource| {
            policies.decide(&caller, ActionName::IssueSystemTicket, tenant).allowed
        };
        row(count, "on a ticket", read(policies(count)), ask);
        let call = |policies: &Policies, tenant: &Resource| {
            let (action, path) = (ActionName::CallWebApiAsSystemUser, "/api/v1/contact/5");
            policies.decide_with_context(&caller, action, tenant, "GET", path).allowed
        };
        let permit = format!(
            "permit (principal == Caller::\"{CALLER}\", action in Action::\"callWebApi\", resource)"
        );
        let forbid = "forbid (principal, action in Action::\"callWebApi\", resource) \
             when { context.path like \"/api/v1/user*\" };";
        let with = |own: &str| read(policies(count) + own);
        row(count, "on a call, without conditions", with(&format!("{permit};")), call);
        let conditional = format!("{permit} when {{ context.path like \"/api/v1/*\" }};");
        row(count, "on a call, by its path", with(&conditional), call);
        row(count, "on a call, with a forbid as well", with(&(conditional + forbid)), call);
        let on_any_grant = |policies: &Policies, tenant: &Resource| {
            let tenant = tenant.tenant().unwrap();
            !policies.may_on_some_grant(&caller, ActionName::CallWebApiAsUser, tenant)
        };
        row(count, "on any grant of the tenant", read(policies(count)), on_any_grant);
    }
}

/// Measures decisions about many tenants: first uncached, then cached.
fn row(count: usize, name: &str, set: PolicySet, ask: impl Fn(&Policies, &Resource) -> bool) {
    let policies = Policies::new(set);
    let tenants: Vec<Resource> =
        (0..QUESTIONS).map(|number| tenant_name(&tenant(number)).into()).collect();
    let ask_all = || {
        let begin = Instant::now();
        for tenant in &tenants {
            assert!(black_box(ask(&policies, tenant)));
        }
        begin.elapsed().as_secs_f64() * 1e6 / f64::from(QUESTIONS)
    };
    let first = ask_all();
    let again = (0..20).map(|_| ask_all()).fold(f64::MAX, f64::min);
    println!("{count:>8}  {name:<32}  {first:>8.1}  {again:>9.2}");
}
