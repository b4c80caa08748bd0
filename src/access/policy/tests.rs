use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{evaluate::CallDecision, *};
use crate::{
    access::{Caller, CallerMethod, GrantResource, Resource, action},
    domain::credential_operation,
};

const ISSUE: ActionName = ActionName::IssueSystemTicket;
const AS_SYSTEM: ActionName = ActionName::CallWebApiAsSystemUser;

use crate::access::ActionName;

fn text(policy: &str, entities: Option<&str>) -> PolicyText {
    PolicyText {
        policy_name: "policy.cedar".to_owned(),
        policy: policy.to_owned(),
        entities_name: entities.map(|_| "entities.json".to_owned()),
        entities: entities.map(str::to_owned),
    }
}

fn parse(policy: &str, entities: Option<&str>) -> Result<(PolicySet, Vec<String>), Vec<String>> {
    let lines = |problems: Vec<PolicyProblem>| problems.iter().map(ToString::to_string).collect();
    match PolicySet::parse(&text(policy, entities), &["crm".parse().unwrap()]) {
        Ok((set, warnings)) => Ok((set, lines(warnings))),
        Err(PolicyError(problems)) => Err(lines(problems)),
    }
}

#[track_caller]
fn set(policy: &str) -> PolicySet {
    parse(policy, None).unwrap().0
}

#[track_caller]
fn refused(policy: &str, entities: Option<&str>, wanted: &[&str]) {
    let Err(problems) = parse(policy, entities) else { panic!("accepted: {policy} {entities:?}") };
    for wanted in wanted {
        assert!(
            problems.iter().any(|problem| problem.contains(wanted)),
            "{wanted} in {problems:#?}"
        );
    }
    assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.contains('\n')));
}

fn caller(id: &str) -> Caller {
    Caller::unverified(id, CallerMethod::Jwt, Some("https://issuer.example"))
}

fn resource(name: &str) -> Resource {
    name.parse().unwrap()
}

fn tenant() -> Resource {
    resource("applications/crm/tenants/Cust1")
}

fn ids(decision: &PolicyDecision) -> Vec<&str> {
    decision.policy_ids.iter().map(|id| &**id).collect()
}

#[test]
fn reports_problems_of_policies_with_their_lines() {
    for (policy, wanted) in [
        ("permit (principal, action, resource)", "policy.cedar:1: "),
        ("// a\n\npermit (principal, action, resource) when { true ;", "policy.cedar:3: "),
        ("\n\npermit (principal, action, resource) when { \"open };", "policy.cedar:3: "),
        ("allow (principal, action, resource);", "policy.cedar:1: "),
        ("permit (principal, action == Action::\"issueTicket\", resource);", "issueTicket"),
        ("permit (principal == User::\"a\", action, resource);", "policy.cedar:1: "),
        ("permit (principal is Person, action, resource);", "Person"),
        (
            "permit (principal, action, resource)\nwhen {\n  principal.name == \"a\"\n};",
            "policy.cedar:3: ",
        ),
        ("permit (principal, action, resource) when { principal.issuer == \"a\" };", "issuer"),
        (
            "permit (principal, action, resource) when { principal.method == 1 };",
            "policy.cedar:1: ",
        ),
        ("permit (principal, action, resource) when { context.path like \"/api/*\" };", "path"),
        (
            "permit (principal, action == Action::\"issueSystemTicket\", resource) when { ip(principal.method).isLoopback() };",
            "policy.cedar:1: ",
        ),
        ("permit (principal == ?principal, action, resource);", "templates are not supported"),
        (
            "permit (principal, action, resource\n == Tenant::\"Cust1\");",
            "policy.cedar:2: Tenant::\"Cust1\": expected the form applications/",
        ),
        (
            "permit (principal, action, resource in Application::\"crm\");",
            "expected the form applications/{application}",
        ),
        (
            "permit (principal, action, resource in Application::\"applications/-\");",
            "applications/-",
        ),
        (
            "permit (principal, action, resource in Tenant::\"applications/-/tenants/Cust1\");",
            "applications/-",
        ),
        ("permit (principal, action, resource == Grant::\"g1\");", "/grants/"),
        (
            "permit (principal, action, resource == Grant::\"applications/crm/tenants/Cust1\");",
            "/grants/{grant}",
        ),
        ("permit (principal, action, resource == Gateway::\"main\");", "Gateway::\"gateway\""),
        (
            "permit (principal in CallerGroup::\"ops\", action, resource);",
            "the entities file has no such group",
        ),
        (
            "forbid (principal, action, resource) when { resource in TenantGroup::\"held\" };",
            "the entities file has no such group",
        ),
        (
            "permit (principal == Caller::\"a b\", action, resource);",
            "printable ASCII without spaces",
        ),
        ("permit (principal == Caller::\"\", action, resource);", "1 to 2560 bytes"),
        ("permit (principal == Caller::\"p\\u{430}yroll\", action, resource);", "policy.cedar:1: "),
        (
            "permit (principal, action, resource) when { principal.method == \"j\\u{202e}wt\" };",
            "BIDI",
        ),
        (
            "permit (principal, action, resource) when { principal.method == \"p\\u{430}y\" };",
            "mixed scripts",
        ),
        ("@id(\"a b\") permit (principal, action, resource);", "@id: expected"),
        ("@id permit (principal, action, resource);", "@id: expected"),
        (
            "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);",
            "policy.cedar:2: a second policy with the id a (the first is in line 1)",
        ),
        (
            "@id(\"policy1\") permit (principal, action, resource);\npermit (principal, action, resource);",
            "policy.cedar:2: a second policy with the id policy1",
        ),
    ] {
        refused(policy, None, &[wanted]);
    }
    let long = format!("permit (principal == Caller::\"{}\", action, resource);", "a".repeat(2561));
    refused(&long, None, &["1 to 2560 bytes"]);
}

#[test]
fn reports_a_missing_context_once() {
    let policy = "permit (principal, action, resource) when { context.path like \"/api/*\" };";
    let Err(problems) = parse(policy, None) else { panic!("accepted") };
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].contains("action in Action::\"callWebApi\""), "{problems:?}");
}

#[test]
fn reports_all_problems_of_both_files() {
    let policy = "permit (principal == User::\"x\", action, resource);\n\
                  permit (principal, action == Action::\"fly\", resource);\n\
                  permit (principal, action, resource == Tenant::\"Cust1\");";
    refused(
        policy,
        Some("[{\"uid\": {\"type\": \"Grant\", \"id\": \"x\"}, \"parents\": []}]"),
        &["policy.cedar:1: ", "policy.cedar:2: ", "policy.cedar:3: ", "entities.json:1: "],
    );
}

#[test]
fn reports_problems_of_entities_with_their_lines() {
    let entity = |kind: &str, id: &str, rest: &str| {
        format!("[\n{{\"uid\": {{\"type\": \"{kind}\", \"id\": \"{id}\"}}{rest}}}\n]")
    };
    let parents = |kind: &str, id: &str| {
        format!(", \"parents\": [{{\"type\": \"{kind}\", \"id\": \"{id}\"}}]")
    };
    let cust = "applications/crm/tenants/Cust1";
    for (entities, wanted) in [
        ("[\n{".to_owned(), "entities.json:2: "),
        ("{}".to_owned(), "expected a JSON array"),
        (String::new(), "expected a JSON array"),
        ("[{\"uid\": {\"type\": \"Caller\"}}]".to_owned(), "a type and an id"),
        ("[{\"uid\": \"Caller::x\"}]".to_owned(), "expected a JSON array"),
        ("[{\"id\": \"x\"}]".to_owned(), "unknown field"),
        (entity("User", "x", ""), "entities.json:2: no entity type \"User\""),
        (entity("Gateway", "gateway", ""), "defines these itself"),
        (entity("Application", "applications/crm", ""), "defines these itself"),
        (entity("Grant", "x", ""), "defines these itself"),
        (entity("Action", "issueSystemTicket", ""), "the gateway defines the actions"),
        (entity("Tenant", "Cust1", ""), "entities.json:2: Tenant::\"Cust1\": expected the form"),
        (entity("Caller", "a b", ""), "printable ASCII"),
        (entity("Caller", "x", ", \"attrs\": {\"role\": \"a\"}"), "no attribute \"role\""),
        (entity("CallerGroup", "x", ", \"attrs\": {\"role\": \"a\"}"), "no attribute \"role\""),
        (entity("Caller", "x", ", \"tags\": {\"role\": \"a\"}"), "no tags"),
        (entity("CallerGroup", "a\\u202eb", ""), "a group's id is"),
        (entity("TenantGroup", "", ""), "a group's id is"),
        (entity("TenantGroup", "x", &parents("TenantGroup", "y")), "a TenantGroup has no parents"),
        (entity("Caller", "x", &parents("TenantGroup", "y")), "cannot be a parent here"),
        (entity("Caller", "x", &parents("CallerGroup", "a\\nb")), "a group's id is"),
        (entity("Tenant", cust, &parents("CallerGroup", "y")), "cannot be a parent here"),
        (entity("Tenant", cust, &parents("Application", "applications/other")), "cannot be a parent here"),
        (entity("CallerGroup", "x", &parents("CallerGroup", "x")), "entities.json:2: CallerGroup::\"x\" contains itself"),
        ("[{\"uid\":{\"type\":\"CallerGroup\",\"id\":\"a\"},\"parents\":[{\"type\":\"CallerGroup\",\"id\":\"b\"}]},\n\
          {\"uid\":{\"type\":\"CallerGroup\",\"id\":\"b\"},\"parents\":[{\"type\":\"CallerGroup\",\"id\":\"a\"}]}]".to_owned(), "entities.json:2: CallerGroup::\"b\" contains itself"),
        ("[{\"uid\":{\"type\":\"Caller\",\"id\":\"a\"}},\n{\"uid\":{\"__entity\":{\"type\":\"Caller\",\"id\":\"a\"}}}]".to_owned(), "entities.json:2: Caller::\"a\" occurs twice"),
    ] {
        refused("permit (principal, action, resource);", Some(&entities), &[wanted]);
    }
}

#[test]
fn rejects_files_beyond_the_limits() {
    let long = " ".repeat(MAX_POLICY_FILE_BYTES + 1);
    refused(&long, None, &["policy.cedar: longer than"]);
    refused("", Some(&long), &["entities.json: longer than"]);
    let brackets =
        format!("permit (principal, action, resource) when {{ {} }};", "(".repeat(500_000));
    refused(&brackets, None, &["policy.cedar:1: more than"]);
    let sum =
        format!("permit (principal, action, resource) when {{ 1{} > 1 }};", "+1".repeat(100_000));
    refused(&sum, None, &["more than 512 operators"]);
}

#[test]
fn warns_about_harmless_but_suspicious_entries() {
    for (policy, entities, wanted) in [
        ("", None, "policy.cedar: no policies"),
        ("// nothing\n", Some("[]"), "no policies"),
        (
            "\npermit (principal, action, resource in Application::\"applications/crn\");",
            None,
            "policy.cedar:2: Application::\"applications/crn\": application crn is not configured",
        ),
        (
            "permit (principal, action == Action::\"issueAccessToken\", resource is Gateway);",
            None,
            "policy.cedar:1: ",
        ),
        (
            "permit (principal, action, resource) when { principal.method == \"a\" && false };",
            None,
            "policy.cedar:1: ",
        ),
        (
            "permit (principal, action, resource);",
            Some(
                "[{\"uid\": {\"type\": \"Caller\", \"id\": \"a\"}, \"attrs\": {\"method\": \"mtls\"}}]",
            ),
            "entities.json:1: method of Caller::\"a\" comes from the credential",
        ),
        (
            "permit (principal, action, resource);",
            Some("[{\"uid\": {\"type\": \"Tenant\", \"id\": \"applications/x/tenants/Cust1\"}}]"),
            "application x is not configured",
        ),
    ] {
        let (_, warnings) = parse(policy, entities).unwrap();
        assert!(warnings.iter().any(|warning| warning.contains(wanted)), "{wanted}: {warnings:?}");
    }
    let policy =
        text("permit (principal, action, resource in Application::\"applications/x\");", None);
    assert_eq!(PolicySet::parse(&policy, &[]).unwrap().1, [], "applications are not known");
}

#[test]
fn suggests_the_nearest_name_for_an_unknown_group() {
    let entities = "[{\"uid\": {\"type\": \"Caller\", \"id\": \"a\"}, \"parents\": [{\"type\": \"CallerGroup\", \"id\": \"support\"}]}]";
    let policy = "forbid (principal in CallerGroup::\"suport\", action, resource);";
    refused(policy, Some(entities), &["did you mean \"support\"?"]);
}

#[test]
fn the_schema_and_the_actions_of_the_program_agree() {
    let schema = schema_names::schema().unwrap();
    let actions: BTreeSet<_> =
        schema.actions().map(|uid| uid.id().unescaped().to_owned()).collect();
    let known: BTreeSet<_> = ActionName::ALL.iter().map(|a| a.as_str().to_owned()).collect();
    assert_eq!(actions, known);
    let schema_names = SchemaNames::new().unwrap();
    for (action, uid) in schema_names.actions() {
        let of_schema: BTreeSet<_> = schema
            .resources_for_action(uid)
            .map(|kinds| kinds.map(ToString::to_string).collect())
            .unwrap_or_default();
        let of_program: BTreeSet<_> =
            action.resource_kinds().iter().map(|kind| kind.as_str().to_owned()).collect();
        assert_eq!(of_schema, of_program, "{action:?}");
        let groups: Vec<_> = schema
            .action_entities()
            .unwrap()
            .ancestors(uid)
            .map(|above| above.map(|uid| uid.id().unescaped().to_owned()).collect())
            .unwrap_or_default();
        assert_eq!(groups, Vec::from_iter(action.group().map(|g| g.as_str().to_owned())));
    }
    let kinds = BTreeMap::from([
        ("Gateway", "Gateway"),
        ("ApplicationId", "Application"),
        ("TenantName", "Tenant"),
        ("GrantResource", "Grant"),
    ]);
    for (action, types) in action::TYPED {
        let typed: BTreeSet<_> = types.iter().map(|name| kinds[name]).collect();
        let all: BTreeSet<_> = action.resource_kinds().iter().map(|kind| kind.as_str()).collect();
        assert_eq!(typed, all, "{action:?}");
    }
}

#[test]
fn an_empty_set_denies_everything() {
    let set = set("");
    for action in ActionName::ALL {
        for name in ["gateway", "applications/crm", "applications/crm/tenants/Cust1"] {
            let decision = set.decide(&caller("x"), *action, &resource(name), None);
            assert_eq!((decision.allowed, ids(&decision)), (false, vec![]));
            assert!(!set.may_for_some_context(&caller("x"), *action, &resource(name)).allowed);
        }
    }
}

#[test]
fn denies_an_action_on_kinds_that_it_does_not_apply_to() {
    let set = set("permit (principal, action, resource);");
    for action in ActionName::ALL {
        for name in [
            "gateway",
            "applications/crm",
            "applications/crm/tenants/Cust1",
            "applications/crm/tenants/Cust1/grants/g",
        ] {
            let resource = resource(name);
            let call = Some(WebApiCall { method: "GET", path: "/api/v1/contact" });
            let allowed = set.decide(&caller("x"), *action, &resource, call).allowed;
            let wanted = action.resource_kinds().contains(&resource.kind());
            assert_eq!(allowed, wanted, "{action:?} {name}");
        }
    }
}

#[test]
fn a_forbid_wins_and_names_itself() {
    let set = set(
        "@id(\"all\") permit (principal, action, resource);\n@id(\"no\") forbid (principal == Caller::\"x\", action, resource);",
    );
    let decision = set.decide(&caller("x"), ISSUE, &tenant(), None);
    assert_eq!((decision.allowed, ids(&decision)), (false, vec!["no"]));
    let decision = set.decide(&caller("y"), ISSUE, &tenant(), None);
    assert_eq!((decision.allowed, ids(&decision)), (true, vec!["all"]));
}

#[test]
fn a_policy_that_fails_denies() {
    let fails = "when { Caller::\"other\".method == \"jwt\" }";
    for policy in [
        format!(
            "permit (principal, action, resource); @id(\"f\") forbid (principal, action, resource) {fails};"
        ),
        format!(
            "permit (principal, action, resource); @id(\"f\") permit (principal, action, resource) {fails};"
        ),
    ] {
        let set = set(&policy);
        let decision = set.decide(&caller("x"), ISSUE, &tenant(), None);
        assert_eq!((decision.allowed, ids(&decision)), (false, vec!["f"]));
        let decision = set.may_for_some_context(&caller("x"), AS_SYSTEM, &tenant());
        assert_eq!((decision.allowed, ids(&decision)), (false, vec!["f"]));
    }
}

#[test]
fn groups_include_the_members_of_their_groups() {
    let entities = r#"[
        {"uid": {"type": "Caller", "id": "x"}, "parents": [{"type": "CallerGroup", "id": "a"}]},
        {"uid": {"type": "CallerGroup", "id": "a"}, "attrs": {}, "parents": [{"type": "CallerGroup", "id": "b"}]},
        {"uid": {"type": "CallerGroup", "id": "b"}, "parents": [{"__entity": {"type": "CallerGroup", "id": "c"}}]},
        {"uid": {"type": "Tenant", "id": "applications/crm/tenants/Cust1"},
         "parents": [{"type": "TenantGroup", "id": "t"}, {"type": "Application", "id": "applications/crm"}]}
    ]"#;
    for (policy, name) in [
        (
            "permit (principal in CallerGroup::\"c\", action, resource in TenantGroup::\"t\");",
            "applications/crm/tenants/Cust1/grants/g",
        ),
        (
            "permit (principal is Caller in CallerGroup::\"b\", action, resource in Gateway::\"gateway\") when { Caller::\"x\" in CallerGroup::\"c\" && CallerGroup::\"a\" in CallerGroup::\"c\" && Tenant::\"applications/crm/tenants/Cust1\" in TenantGroup::\"t\" };",
            "applications/crm/tenants/Cust2/grants/g",
        ),
    ] {
        let (set, _) = parse(policy, Some(entities)).unwrap();
        assert_eq!(set.groups(), 4);
        let action = ActionName::IssueAccessToken;
        assert!(set.decide(&caller("x"), action, &resource(name), None).allowed, "{policy}");
        assert!(!set.decide(&caller("y"), action, &resource(name), None).allowed);
    }
}

#[test]
fn conditions_can_read_attributes_of_caller_and_grant() {
    let set = set(
        "permit (principal, action, resource is Grant) when { principal has issuer && principal.issuer like \"https://*\" && resource.associateId == 7 && resource.userPrincipalName == \"kari@example.com\" };",
    );
    let grant = |associate_id, name: &str| {
        let (tenant, grant) = ("applications/crm/tenants/Cust1".parse().unwrap(), "g".into());
        let user_principal_name = name.into();
        Resource::from(crate::access::GrantResource {
            tenant,
            grant,
            associate_id,
            user_principal_name,
        })
    };
    let policies = Policies::new(set);
    let action = ActionName::IssueAccessToken;
    let kari = grant(7, "kari@example.com");
    assert!(policies.decide(&caller("x"), action, &kari).allowed);
    // The cached decision must not be used for any of these.
    assert!(!policies.decide(&caller("x"), action, &grant(8, "kari@example.com")).allowed);
    assert!(!policies.decide(&caller("x"), action, &grant(7, "ola@example.com")).allowed);
    let other = Caller::unverified("x", CallerMethod::Jwt, Some("http://issuer.example"));
    assert!(!policies.decide(&other, action, &kari).allowed);
    assert!(
        !policies.decide(&Caller::unverified("x", CallerMethod::Mtls, None), action, &kari).allowed
    );
    assert!(policies.cached(&caller("x"), action, &kari).unwrap().allowed);
    assert_eq!(policies.cached(&caller("y"), action, &kari), None);
}

#[test]
fn rejects_a_literal_that_is_not_in_normal_form_with_line_and_correction() {
    let policy = "// \"/API\"\nforbid (principal, action in Action::\"callWebApi\", resource)\nwhen {\n  \
                  context.path like \"*/Foo*\" ||\n  [\"GET\", \"post\"].contains(context.method)\n};\n\
                  forbid (principal, action == Action::\"issueAccessToken\", resource)\nwhen {\n  \
                  resource.userPrincipalName like \"Admin@*\"\n};";
    let wanted = [
        "policy.cedar:4: \"*/Foo*\" never matches: context.path ",
        "policy.cedar:5: \"post\" never matches: context.method is in upper case; write \"POST\"",
        "policy.cedar:9: \"Admin@*\" never matches: userPrincipalName ",
        "write \"*/foo*\"",
        "write \"admin@*\"",
    ];
    refused(policy, None, &wanted);
}

#[test]
fn a_forbid_holds_for_every_spelling_of_a_user_principal_name() {
    let set = set("permit (principal, action, resource);
        @id(\"admins\") forbid (principal, action, resource is Grant)
        when { resource.userPrincipalName like \"admin@*\" || resource.userPrincipalName == \"strasse@x.example\" };");
    let issue = ActionName::IssueAccessToken;
    let decision = |name: &str| {
        let Resource::Grant(grant) = resource("applications/crm/tenants/Cust1/grants/g1") else {
            panic!()
        };
        let grant = GrantResource { user_principal_name: name.into(), ..grant };
        set.decide(&caller("a"), issue, &grant.into(), None)
    };
    for name in [
        "admin@x.example",
        "Admin@x.example",
        "ADMIN@X.example",
        "STRASSE@x.example",
        "Stra\u{df}e@x.example",
    ] {
        assert_eq!(
            (decision(name).allowed, ids(&decision(name))),
            (false, vec!["admins"]),
            "{name}"
        );
    }
    assert!(decision("erik@x.example").allowed);
}

#[test]
fn replacing_policies_drops_cached_decisions() {
    let policies = Policies::new(set("permit (principal, action, resource);"));
    assert!(policies.decide(&caller("x"), ISSUE, &tenant()).allowed);
    assert!(policies.cached(&caller("x"), ISSUE, &tenant()).is_some());
    policies.replace(set(""));
    assert_eq!(policies.cached(&caller("x"), ISSUE, &tenant()), None);
    assert!(!policies.decide(&caller("x"), ISSUE, &tenant()).allowed);
}

#[test]
fn each_call_is_decided_with_its_context() {
    let policies = Policies::new(set(
        "permit (principal == Caller::\"x\", action in Action::\"callWebApi\", resource);\n\
         forbid (principal, action in Action::\"callWebApi\", resource) when { context.path like \"/api/v1/user*\" };",
    ));
    let ask =
        |path: &str| policies.decide_with_context(&caller("x"), AS_SYSTEM, &tenant(), "GET", path);
    assert!(ask("/api/v1/contact").allowed);
    assert!(!ask("/api/v1/user/1").allowed);
    assert!(ask("/api/v1/contact").allowed);
    assert!(!policies.decide(&caller("x"), AS_SYSTEM, &tenant()).allowed, "without a context");
    assert_eq!(policies.cached(&caller("x"), AS_SYSTEM, &tenant()), None);
}

#[test]
fn a_forbid_on_a_path_wins_over_cached_permits() {
    let permit = "permit (principal, action in Action::\"callWebApi\", resource);";
    let forbid = "@id(\"no\") forbid (principal, action in Action::\"callWebApi\", resource) when { context.path like \"/api/v1/user*\" };";
    let both = format!("{permit}\n{forbid}");
    let policies = Policies::new(set(&both));
    let grant = resource("applications/crm/tenants/Cust1/grants/g");
    let on = [(AS_SYSTEM, tenant()), (ActionName::CallWebApiAsUser, grant)];
    let ask = |path: &str| {
        let ask = |(action, resource): &(_, Resource)| {
            let decision =
                policies.decide_with_context(&caller("x"), *action, resource, "GET", path);
            (decision.allowed, ids(&decision).contains(&"no"))
        };
        on.each_ref().map(ask)
    };
    let (allowed, forbidden) = ([(true, false); 2], [(false, true); 2]);
    for _ in 0..3 {
        assert_eq!(ask("/api/v1/contact"), allowed);
        assert_eq!(ask("/api/v1/userlist/1"), forbidden);
    }
    policies.replace(set(permit));
    assert_eq!([ask("/api/v1/userlist/1"), ask("/api/v1/userlist/1")], [allowed; 2]);
    policies.replace(set(&both));
    assert_eq!(ask("/api/v1/userlist/1"), forbidden);
}

#[test]
fn caches_a_decision_on_calls_only_if_no_matching_policy_has_the_word_context() {
    let head = "(principal, action in Action::\"callWebApi\", resource)";
    for (policy, settled) in [
        (String::new(), Some(false)),
        (format!("permit {head};"), Some(true)),
        (format!("permit {head} when {{ principal.method == \"jwt\" }};"), Some(true)),
        (format!("permit {head}; forbid {head} unless {{ false }};"), Some(false)),
        (format!("permit {head} when {{ context.method == \"GET\" }};"), None),
        (format!("permit {head} when {{ context has path }};"), None),
        (format!("permit {head}; forbid {head} unless {{ context.path like \"/api/*\" }};"), None),
        (format!("permit {head}; forbid {head} when {{context\n[\"path\"] == \"\"}};"), None),
        (format!("permit {head} // context\n;"), None),
        (format!("@id(\"context\") permit {head};"), None),
        (format!("permit {head} when {{ [context].contains(context) }};"), None),
        (format!("permit {head}; forbid {head} when {{ Caller::\"a\".method == \"jwt\" }};"), None),
        (
            format!(
                "permit {head}; forbid (principal == Caller::\"y\", action in Action::\"callWebApi\", resource) when {{ context.path like \"*\" }};"
            ),
            Some(true),
        ),
    ] {
        let found =
            match set(&policy).prepare_call_decision(&caller("x"), AS_SYSTEM, &tenant()).unwrap() {
                CallDecision::SameForAllCalls(decision) => Some(decision.allowed),
                CallDecision::PerCall(_) => None,
            };
        assert_eq!(found, settled, "{policy}");
    }
}

#[test]
fn a_cached_permit_does_not_permit_a_credential_operation() {
    let token = "/api/v1/user/currenttoken";
    let permit = "permit (principal, action in Action::\"callWebApi\", resource);";
    let names = format!(
        "{permit} @id(\"named\") {} when {{ context.path == \"{token}\" }};",
        permit.trim_end_matches(';')
    );
    for (policy, by) in [(permit, vec![]), (names.as_str(), vec!["named"])] {
        let policies = Policies::new(set(policy));
        let ask = |path: &str| {
            policies.decide_with_context(&caller("x"), AS_SYSTEM, &tenant(), "GET", path)
        };
        for _ in 0..3 {
            assert!(ask("/api/v1/contact").allowed);
            let decision = ask(token);
            assert_eq!((decision.allowed, ids(&decision)), (!by.is_empty(), by.clone()));
        }
    }
}

#[test]
fn a_permit_names_an_operation_only_if_it_matches_no_sibling() {
    let all = "/api/v1/agents/webhook/getallwebhooks";
    let long = format!("/api/v1/webhook/a{}b", "x".repeat(200));
    let exactly = format!("context.path == \"{long}\"");
    for (condition, method, path, allowed) in [
        ("context.path like \"/api/v1/agents/*/get*webhooks\"", "POST", all, false),
        ("context.path like \"/api/v1/agents/*/getall*webhooks\"", "POST", all, false),
        ("context.path like \"/api/v1/agents/*/getallwebhook*\"", "POST", all, false),
        ("context.path like \"/api/v1/agents/*/*lw*\"", "POST", all, false),
        ("context.path like \"/api/v1/agents/*\"", "POST", all, false),
        ("context.path like \"*hooks\"", "POST", all, false),
        ("context.path like \"/api/*/agents/webhook/getallwebhooks\"", "POST", all, true),
        ("context.credentialOperation like \"/agents/*/get*webhooks\"", "POST", all, false),
        ("context.credentialOperation like \"*/getall*\"", "POST", all, false),
        ("context.credentialOperation != \"\"", "POST", all, false),
        (
            "context.path like \"/api/v1/agents/*\" && \
             context.credentialOperation == \"/agents/webhook/getallwebhooks\"",
            "POST",
            all,
            true,
        ),
        ("context.path like \"/api/v1/webhook/a*b\"", "GET", long.as_str(), false),
        ("context.path like \"/api/v1/webhook/*\"", "GET", long.as_str(), false),
        (exactly.as_str(), "GET", long.as_str(), true),
        ("context.credentialOperation == \"/webhook/{id}\"", "GET", long.as_str(), true),
        ("context.credentialOperation like \"/webhook/{*}\"", "GET", long.as_str(), false),
    ] {
        let policy = format!(
            "permit (principal, action in Action::\"callWebApi\", resource) when {{ {condition} }};"
        );
        let call = Some(WebApiCall { method, path });
        let decision = set(&policy).decide(&caller("x"), AS_SYSTEM, &tenant(), call);
        assert_eq!(decision.allowed, allowed, "{condition} {path}");
    }
}

#[test]
fn a_policy_that_fails_denies_every_call() {
    let policies = Policies::new(set(
        "permit (principal, action, resource); @id(\"f\") forbid (principal, action, resource) when { Caller::\"other\".method == \"jwt\" };",
    ));
    for _ in 0..3 {
        let decision = policies.decide_with_context(
            &caller("x"),
            AS_SYSTEM,
            &tenant(),
            "GET",
            "/api/v1/contact",
        );
        assert_eq!((decision.allowed, ids(&decision)), (false, vec!["f"]));
    }
}

#[test]
fn caches_permissions_for_some_context_without_permitting_a_call() {
    let permit = "permit (principal, action in Action::\"callWebApi\", resource) when { context.path like \"/api/v1/*\" };";
    let policies = Policies::new(set(permit));
    let some = || policies.may_for_some_context(&caller("x"), AS_SYSTEM, &tenant()).allowed;
    assert!(some() && some());
    assert!(policies.cached(&caller("x"), AS_SYSTEM, &tenant()).is_none());
    assert!(!policies.decide(&caller("x"), AS_SYSTEM, &tenant()).allowed);
    policies.replace(set(""));
    assert!(!some());
}

#[test]
fn reports_what_some_context_permits() {
    let permit = "@id(\"p\") permit (principal, action, resource) when { true };";
    let some = "@id(\"s\") permit (principal, action in Action::\"callWebApi\", resource) when { context.method == \"GET\" };";
    let some_not = "@id(\"sn\") forbid (principal, action in Action::\"callWebApi\", resource) when { context.method != \"GET\" };";
    let never =
        "@id(\"n\") forbid (principal, action, resource) when { principal.method == \"jwt\" };";
    for (policies, allowed, by) in [
        (vec![permit], true, vec!["p"]),
        (vec![some], true, vec!["s"]),
        (vec![permit, some], true, vec!["p"]),
        (vec![permit, some_not], true, vec!["p"]),
        (vec![some, some_not], true, vec!["s"]),
        (vec![some_not], false, vec![]),
        (vec![some, never], false, vec!["n"]),
        (vec![permit, some, never], false, vec!["n"]),
        (vec![never, some_not], false, vec!["n"]),
    ] {
        let decision = Policies::new(set(&policies.join("\n"))).may_for_some_context(
            &caller("x"),
            AS_SYSTEM,
            &tenant(),
        );
        assert_eq!((decision.allowed, ids(&decision)), (allowed, by), "{policies:?}");
    }
    let policies = Policies::new(set(some));
    assert!(!policies.may_for_some_context(&caller("x"), ISSUE, &tenant()).allowed);
}

#[test]
fn permission_on_any_grant_does_not_depend_on_stored_grants() {
    let tenant = tenant().tenant().cloned().unwrap();
    let anybodys = Resource::from(crate::access::GrantResource::any_grant(&tenant));
    let whose = "permit (principal, action == Action::\"issueAccessToken\", resource) when { resource.associateId == 5 };";
    let not_whose = "forbid (principal, action == Action::\"issueAccessToken\", resource) when { resource.userPrincipalName like \"admin@*\" };";
    let all = "permit (principal, action, resource);";
    let others = "permit (principal, action == Action::\"issueAccessToken\", resource) when { principal.method == \"mtls\" && resource.associateId == 5 };";
    let never = "forbid (principal, action == Action::\"issueAccessToken\", resource);";
    for (policies, allowed) in [
        (vec![whose], true),
        (vec![all, not_whose], true),
        (vec![whose, not_whose], true),
        (vec![not_whose], false),
        (vec![others], false),
        (vec![whose, never], false),
    ] {
        let asked = Policies::new(set(&policies.join("\n")));
        for _ in 0..2 {
            let decision =
                asked.may_for_some_context(&caller("x"), ActionName::IssueAccessToken, &anybodys);
            assert_eq!(decision.allowed, allowed, "{policies:?}");
        }
    }
}

#[test]
fn an_explanation_names_policies_groups_and_what_nearly_permits() {
    let entities = "[{\"uid\": {\"type\": \"Caller\", \"id\": \"x\"}, \"parents\": [{\"type\": \"CallerGroup\", \"id\": \"ops\"}]}]";
    let policy = "@id(\"read\")\npermit (principal in CallerGroup::\"ops\", action == Action::\"readTenants\", resource);\n\
                  @id(\"get\") permit (principal == Caller::\"y\", action == Action::\"issueSystemTicket\", resource);";
    let (set, _) = parse(policy, Some(entities)).unwrap();
    let explained = set.explain(&caller("x"), ActionName::ReadTenants, &tenant(), None);
    assert!(explained.decision.allowed);
    assert_eq!(explained.caller_groups, ["CallerGroup::\"ops\""]);
    assert_eq!(
        explained.resource_parents,
        ["Application::\"applications/crm\"", "Gateway::\"gateway\""]
    );
    let [read] = explained.determining.as_slice() else { panic!("{explained:?}") };
    assert_eq!((&*read.policy_id, read.line, read.effect), ("read", 1, "permit"));
    assert!(read.text.starts_with("@id") && read.text.ends_with(';'), "{}", read.text);
    let explained = set.explain(&caller("x"), ISSUE, &tenant(), None);
    assert_eq!(explained.note.as_deref(), Some("no permit matches"));
    let near: Vec<_> =
        explained.near_misses.iter().map(|near| (&*near.policy.policy_id, near.mismatch)).collect();
    assert_eq!(
        near,
        [("read", "it is about another action"), ("get", "it is about another caller")]
    );
    let explained = set.explain(&caller("x"), ISSUE, &Resource::Gateway, None);
    assert_eq!(
        explained.note.as_deref(),
        Some("issueSystemTicket does not apply to a Gateway, only to a Tenant")
    );
}

const ENTITIES: &str = r#"[
    {"uid": {"type": "Caller", "id": "c0"}, "parents": [{"type": "CallerGroup", "id": "g0"}]},
    {"uid": {"type": "Caller", "id": "c1"}, "parents": [{"type": "CallerGroup", "id": "g1"}, {"type": "CallerGroup", "id": "g2"}]},
    {"uid": {"type": "CallerGroup", "id": "g0"}, "parents": [{"type": "CallerGroup", "id": "g1"}]},
    {"uid": {"type": "CallerGroup", "id": "g1"}, "parents": [{"type": "CallerGroup", "id": "g3"}]},
    {"uid": {"type": "Tenant", "id": "applications/crm/tenants/Cust1"}, "parents": [{"type": "TenantGroup", "id": "t0"}]},
    {"uid": {"type": "Tenant", "id": "applications/crm/tenants/Cust2"}, "parents": [{"type": "TenantGroup", "id": "t0"}, {"type": "TenantGroup", "id": "t1"}]}
]"#;

/// Conditions for any policy.
const CONDITIONS: &[&str] = &[
    "",
    "",
    "when { principal.method == \"jwt\" }",
    "unless { principal has issuer }",
    "when { resource in TenantGroup::\"t1\" }",
    "unless { principal in CallerGroup::\"g3\" }",
    "when { Caller::\"c0\" in CallerGroup::\"g3\" && Tenant::\"applications/crm/tenants/Cust2\" in TenantGroup::\"t1\" }",
    "when { action in Action::\"callWebApi\" }",
    "when { Caller::\"c9\".method == \"jwt\" }",
];

/// Conditions for policies on calls.
const CALL_CONDITIONS: &[&str] = &[
    "when { context.path like \"/api/v1/contact*\" }",
    "when { context.path like \"/api/v1/*\" }",
    "when { context has path && context.path like \"*/sale\" }",
    "unless { context.path like \"*/contact\" }",
    "unless { context has path }",
    "when { context.method == \"GET\" }",
    "unless { context.method == \"GET\" && principal.method == \"jwt\" }",
    "when { context.path == \"/api/v1/user/currenttoken\" }",
    "when { principal.method == \"jwt\" || context.path like \"*sale*\" }",
    "when { context.path like \"*sale*\" && Caller::\"c9\".method == context.method }",
    "when { resource in TenantGroup::\"t1\" } unless { context.path like \"/api/v1/sale*\" }",
    "when { [context.path, \"context\"].contains(\"context\") }",
];

fn some_policy() -> impl Strategy<Value = String> {
    let name = (0..ActionName::ALL.len()).prop_map(|n| ActionName::ALL[n].as_str());
    let action = prop_oneof![
        Just("action".to_owned()),
        name.clone().prop_map(|name| format!("action == Action::\"{name}\"")),
        name.clone().prop_map(|name| format!("action in Action::\"{name}\"")),
        (name.clone(), name)
            .prop_map(|(a, b)| format!("action in [Action::\"{a}\", Action::\"{b}\"]")),
        Just("action in Action::\"callWebApi\"".to_owned()),
    ];
    policy_about(action, CONDITIONS.to_vec())
}

fn some_policy_about_calls() -> impl Strategy<Value = String> {
    let actions = [
        "action in Action::\"callWebApi\"",
        "action in Action::\"callWebApi\"",
        "action == Action::\"callWebApiAsUser\"",
        "action == Action::\"callWebApiAsSystemUser\"",
    ];
    let action = prop::sample::select(actions.map(str::to_owned).to_vec());
    policy_about(action, [CONDITIONS, CALL_CONDITIONS].concat())
}

fn policy_about(
    action: impl Strategy<Value = String>,
    conditions: Vec<&'static str>,
) -> impl Strategy<Value = String> {
    let principal = prop_oneof![
        Just("principal".to_owned()),
        Just("principal is Caller".to_owned()),
        (0..4).prop_map(|n| format!("principal == Caller::\"c{n}\"")),
        (0..4).prop_map(|n| format!("principal in Caller::\"c{n}\"")),
        (0..4).prop_map(|n| format!("principal in CallerGroup::\"g{n}\"")),
        (0..4).prop_map(|n| format!("principal is Caller in CallerGroup::\"g{n}\"")),
    ];
    let place = prop_oneof![
        Just("Gateway::\"gateway\"".to_owned()),
        Just("Application::\"applications/crm\"".to_owned()),
        Just("Application::\"applications/desk\"".to_owned()),
        (1..3).prop_map(|n| format!("Tenant::\"applications/crm/tenants/Cust{n}\"")),
        (0..2).prop_map(|n| format!("TenantGroup::\"t{n}\"")),
        Just("Grant::\"applications/crm/tenants/Cust1/grants/g\"".to_owned()),
    ];
    let kind = prop::sample::select(vec!["Tenant", "Grant", "Application", "Gateway"]);
    let resource = prop_oneof![
        Just("resource".to_owned()),
        place.clone().prop_map(|place| format!("resource == {place}")),
        place.clone().prop_map(|place| format!("resource in {place}")),
        kind.clone().prop_map(|kind| format!("resource is {kind}")),
        (kind, place).prop_map(|(kind, place)| format!("resource is {kind} in {place}")),
    ];
    let condition = prop::sample::select(conditions);
    let effect = prop::sample::select(vec!["permit", "permit", "forbid"]);
    (effect, principal, action, resource, condition)
        .prop_map(|(effect, p, a, r, c)| format!("{effect} ({p}, {a}, {r}) {c};"))
}

/// Returns the set of the valid policies. Parses all at once first, because parsing is slow.
fn set_of(policies: &[String]) -> PolicySet {
    let right = |policy: &&String| parse(policy, Some(ENTITIES)).is_ok();
    let (set, _) = parse(&policies.join("\n"), Some(ENTITIES)).unwrap_or_else(|_| {
        let policies: Vec<_> = policies.iter().filter(right).cloned().collect();
        parse(&policies.join("\n"), Some(ENTITIES)).unwrap()
    });
    set
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn cached_results_give_the_same_decisions_as_fresh_ones(
        sets in [prop::collection::vec(some_policy_about_calls(), 1..10), prop::collection::vec(some_policy_about_calls(), 1..10)],
        asked in prop::collection::vec((0..4_usize, 0..6_usize, any::<bool>(), any::<bool>(), 0..4_usize, prop::bool::weighted(0.02)), 1..200),
    ) {
        let jwt = |id: &str| Caller::unverified(id, CallerMethod::Jwt, Some("https://issuer.example"));
        let mtls = |id: &str| Caller::unverified(id, CallerMethod::Mtls, None);
        let callers = [mtls("c0"), mtls("c1"), jwt("c1"), jwt("c2")];
        let resources = ["gateway", "applications/crm/tenants/Cust1", "applications/crm/tenants/Cust2", "applications/desk/tenants/Cust1", "applications/crm/tenants/Cust1/grants/g", "applications/crm/tenants/Cust2/grants/h"].map(resource);
        let paths = ["/api/v1/contact", "/api/v1/sale", "/api/v1/user/currenttoken", "/api"];
        let sets = sets.map(|policies| (set_of(&policies), policies));
        let mut now = 0;
        let policies = Policies::new(set_of(&sets[now].1));
        for (caller, resource, as_user, get, path, replace) in asked {
            if replace {
                now = 1 - now;
                policies.replace(set_of(&sets[now].1));
            }
            let (fresh, caller, resource) = (&sets[now].0, &callers[caller], &resources[resource]);
            let action = if as_user { ActionName::CallWebApiAsUser } else { AS_SYSTEM };
            let (method, path) = (if get { "GET" } else { "POST" }, paths[path]);
            let call = Some(WebApiCall { method, path });
            let decision = policies.decide_with_context(caller, action, resource, method, path);
            prop_assert_eq!(&decision, &fresh.decide(caller, action, resource, call));
            if action.resource_kinds().contains(&resource.kind()) && credential_operation(method, path).is_none() {
                prop_assert_eq!(decision, fresh.decide_with_all(caller, action, resource, call));
            }
            prop_assert!(!policies.decide(caller, action, resource).allowed, "without a context");
            prop_assert_eq!(
                policies.may_for_some_context(caller, action, resource),
                fresh.may_for_some_context(caller, action, resource)
            );
            if let Some(tenant) = resource.tenant() {
                prop_assert_eq!(
                    policies.may_on_some_grant(caller, action, tenant),
                    fresh.may_on_some_grant(caller, action, tenant)
                );
            }
        }
    }

    #[test]
    fn evaluating_matching_policies_decides_like_evaluating_all(policies in prop::collection::vec(some_policy(), 1..12)) {
        let set = set_of(&policies);
        let callers = ["c0", "c1", "c2"].map(|id| Caller::unverified(id, CallerMethod::Mtls, None));
        for caller in callers.iter().chain([&caller("c1")]) {
            for action in ActionName::ALL {
                for name in ["gateway", "applications/crm", "applications/crm/tenants/Cust1", "applications/crm/tenants/Cust2", "applications/desk/tenants/Cust1", "applications/crm/tenants/Cust1/grants/g"] {
                    let resource = resource(name);
                    if !action.resource_kinds().contains(&resource.kind()) {
                        continue;
                    }
                    let call = action.has_context().then_some(WebApiCall { method: "GET", path: "/api/v1/contact" });
                    prop_assert_eq!(
                        set.decide(caller, *action, &resource, call),
                        set.decide_with_all(caller, *action, &resource, call),
                        "{:?} {:?} {}", caller, action, resource
                    );
                }
            }
        }
    }

    #[test]
    fn reading_malformed_policies_never_panics(policy in "\\PC{0,60}|(permit|forbid|@id|\\(|\\)|principal|action|resource|,|;|when|\\{|\\}|==| in |Caller::|\"[a-z\"]){0,30}", entities in "\\PC{0,60}|(\\[|\\]|\\{|\\}|\"uid\"|\"type\"|\"id\"|:|,|\"Caller\"){0,30}") {
        if let Ok((set, _)) = parse(&policy, Some(&entities)) {
            let _ = set.decide(&caller("x"), ISSUE, &tenant(), None);
        }
    }
}
