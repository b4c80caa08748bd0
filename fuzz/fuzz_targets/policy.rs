//! Policies and entities: an accepted set decides every call, and an empty set permits nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenant_gateway::access::{
    ActionName, Caller, CallerMethod, Policies, PolicySet, PolicyText, Resource,
};

/// The separator between policies and entities.
const DIVIDER: &str = "\n---\n";

fuzz_target!(init: seed_is_accepted(), |text: &str| { read(text); });

/// A valid policy set is accepted; otherwise the fuzzer would reach little code.
fn seed_is_accepted() {
    assert!(read(include_str!("../corpus_seed/policy/groups")));
}

fn read(text: &str) -> bool {
    let (policy, entities) = match text.split_once(DIVIDER) {
        Some((policy, entities)) => (policy, Some(entities)),
        None => (text, None),
    };
    let text = PolicyText {
        policy_name: "policy.cedar".to_owned(),
        policy: policy.to_owned(),
        entities_name: entities.map(|_| "entities.json".to_owned()),
        entities: entities.map(str::to_owned),
    };
    let set = match PolicySet::parse(&text, &["a".parse().expect("an id")]) {
        Ok((set, _)) => set,
        Err(error) => {
            assert!(!error.0.is_empty());
            assert!(error.0.iter().all(|problem| !problem.message.is_empty()));
            return false;
        }
    };
    let empty = set.policies() == 0;
    let policies = Policies::new(set);
    let callers = [
        Caller::unverified("x", CallerMethod::Jwt, Some("https://issuer.example")),
        Caller::unverified("spiffe://example.org/y", CallerMethod::Mtls, None),
    ];
    for name in [
        "",
        "applications/a",
        "applications/a/tenants/Cust1",
        "applications/a/tenants/Cust1/grants/-",
    ] {
        let resource: Resource = name.parse().expect("a resource");
        for (caller, action) in
            callers.iter().flat_map(|c| ActionName::ALL.iter().map(move |a| (c, *a)))
        {
            let ruling = policies.decide(caller, action, &resource);
            let call =
                policies.decide_with_context(caller, action, &resource, "GET", "/api/v1/contact");
            let some = policies.may_for_some_context(caller, action, &resource);
            let allowed = ruling.allowed || call.allowed || some.allowed;
            // Every permitted call is permitted by a policy, and only on a resource type of the action.
            assert!(!allowed || !empty && action.resource_kinds().contains(&resource.kind()));
            assert!(!ruling.allowed || !ruling.policy_ids.is_empty());
            assert!(!action.has_context() || !ruling.allowed);
            assert_eq!(policies.decide(caller, action, &resource), ruling);
        }
    }
    true
}
