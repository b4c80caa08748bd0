//! Authorization of Web API calls, and the choice of the user that a call acts as.

use std::sync::Arc;

use super::Access;
use crate::{
    access::{
        AccessError, Action, ActionName, ActorChoice, Authorized, AuthorizedCall, CallError,
        CallWebApiAsUser, Caller, GrantResource, On, RequestedCall, Resource,
    },
    domain::TenantName,
};

impl Access {
    /// Returns whether policy could permit the caller to act as at least one person of the tenant. If so, the tenant's
    /// grants must be looked up before [`ActorChoice::Unspecified`] can be built.
    #[must_use]
    pub fn may_act_as_some_person(&self, caller: &Caller, tenant: &TenantName) -> bool {
        self.may_on_some_grant(caller, ActionName::CallWebApiAsUser, tenant)
    }

    /// Authorizes a call, and counts a permitted call against the quota of caller and tenant.
    ///
    /// A caller that chose no user acts as the only user that policy permits for any call. Method and path do not
    /// change it.
    ///
    /// # Errors
    /// Returns an error if the call is denied, a quota is exceeded, or policy permits several users.
    pub fn authorize_web_api_call(
        &self,
        caller: &Caller,
        call: RequestedCall<TenantName>,
        chosen: ActorChoice,
    ) -> Result<AuthorizedCall, CallError> {
        let as_person = |grant: GrantResource, call: RequestedCall<TenantName>| {
            let RequestedCall { method, path, .. } = call;
            self.authorize_as::<CallWebApiAsUser, _>(
                caller,
                RequestedCall { target: grant, method, path },
            )
            .map(AuthorizedCall::Person)
        };
        let as_system_user = |call| self.authorize_as(caller, call).map(AuthorizedCall::SystemUser);
        let authorized = match chosen {
            ActorChoice::SystemUser => as_system_user(call),
            ActorChoice::Person(grant) => as_person(grant, call),
            ActorChoice::Unspecified { candidates } => {
                match self.only_permitted_actor(caller, &call.target, candidates)? {
                    Some(grant) => as_person(grant, call),
                    None => as_system_user(call),
                }
            }
        }?;
        // Counts only permitted calls: denied calls have their own quota, and made-up tenants must not fill the
        // buckets.
        let refused = |over| CallError::Refused {
            action: authorized.action(),
            resource: authorized.tenant().clone().into(),
            refused: AccessError::OverQuota(over),
        };
        self.count_tenant_call(caller, authorized.tenant()).map_err(refused)?;
        Ok(authorized)
    }

    /// Returns the grant of the only person that the caller may act as. Returns `None` for the system user, or if no
    /// user is permitted.
    ///
    /// A caller that may act as the system user and as people must choose as soon as any person has consented.
    /// Otherwise an expired consent would silently turn its calls into calls of the system user.
    fn only_permitted_actor(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        people: Vec<GrantResource>,
    ) -> Result<Option<GrantResource>, CallError> {
        if people.is_empty() {
            // The system user is the only candidate; whether it is permitted is decided next.
            return Ok(None);
        }
        let refused = |action, refused| CallError::Refused {
            action,
            resource: tenant.clone().into(),
            refused,
        };
        let system = ActionName::CallWebApiAsSystemUser;
        let of_system = self.rights_on_each(caller, [tenant.clone()], &[system]);
        if !of_system.map_err(|why| refused(system, why))?.is_empty() {
            let several = self.may_act_as_some_person(caller, tenant);
            return if several { Err(CallError::AmbiguousActor) } else { Ok(None) };
        }
        let person = ActionName::CallWebApiAsUser;
        let held = self.rights_on_each(caller, people, &[person]);
        let mut held = held.map_err(|why| refused(person, why))?;
        match (held.pop(), held.is_empty()) {
            (Some(only), true) => Ok(Some(only.resource().clone())),
            // A policy may depend on the path, so that only the call itself shows which user it permits.
            (None, _) if !self.may_act_as_some_person(caller, tenant) => Ok(None),
            _ => Err(CallError::AmbiguousActor),
        }
    }

    fn authorize_as<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        call: RequestedCall<R>,
    ) -> Result<Authorized<A, RequestedCall<R>>, CallError> {
        let resource: Resource = call.target.clone().into();
        self.authorize_requested_call(caller, call).map_err(|refused| CallError::Refused {
            action: A::NAME,
            resource,
            refused,
        })
    }

    /// Does the same as [`Self::authorize_call`], but the witness contains the call, and the error is `PathNotAllowed`
    /// instead of `Denied` if another path could be permitted.
    ///
    /// # Errors
    /// See [`Self::authorize`].
    fn authorize_requested_call<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        call: RequestedCall<R>,
    ) -> Result<Authorized<A, RequestedCall<R>>, AccessError> {
        let (method, path) = (call.method.as_str(), call.path.normal_form());
        let decided: Result<Authorized<A, R>, _> =
            self.authorize_call(caller, call.target.clone(), method, path);
        match decided {
            Ok(decided) => {
                let policy_ids = Arc::clone(decided.policy_ids());
                Ok(Authorized::new(caller.clone(), call, policy_ids))
            }
            Err(AccessError::Denied(policy_ids))
                if self.may_for_some_path::<A>(caller, &call.target.into()) =>
            {
                Err(AccessError::PathNotAllowed(policy_ids))
            }
            Err(refused) => Err(refused),
        }
    }

    fn may_for_some_path<A: Action>(&self, caller: &Caller, resource: &Resource) -> bool {
        self.rules
            .decide_with(|policies| policies.may_for_some_context(caller, A::NAME, resource))
            .allowed
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use jiff::Timestamp;

    use super::*;
    use crate::{
        access::{Policies, PolicySet, PolicyText, QuotaRules, Rules},
        domain::{ApiPath, AssociateId, PersonSelector},
        ports::ManualClock,
    };

    fn tenant() -> TenantName {
        "applications/crm/tenants/Cust1".parse().unwrap()
    }

    fn person(id: i32) -> GrantResource {
        let person = PersonSelector::Associate(AssociateId::new(id).unwrap());
        GrantResource {
            grant: format!("g{id}").into(),
            ..GrantResource::requested(&tenant(), &person)
        }
    }

    fn act(
        policy: &str,
        chosen: ActorChoice,
        method: Method,
        path: &str,
    ) -> Result<AuthorizedCall, CallError> {
        let text = PolicyText { policy: policy.to_owned(), ..PolicyText::default() };
        let (set, _) = PolicySet::parse(&text, &["crm".parse().unwrap()]).unwrap();
        let rules = Rules::Policies(Arc::new(Policies::new(set)));
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let access = Access::insecure_anonymous(rules, QuotaRules::default(), clock);
        let call = RequestedCall { target: tenant(), method, path: ApiPath::parse(path).unwrap() };
        access.authorize_web_api_call(&Caller::anonymous(), call, chosen)
    }

    fn said(authorized: Result<AuthorizedCall, CallError>) -> String {
        match authorized {
            Ok(authorized) => authorized.resource().to_string(),
            Err(CallError::AmbiguousActor) => "several".to_owned(),
            Err(CallError::Refused { action, refused, .. }) => {
                let refused = match refused {
                    AccessError::Denied(_) => "denied",
                    AccessError::PathNotAllowed(_) => "path",
                    AccessError::OverQuota(_)
                    | AccessError::CredentialExpired
                    | AccessError::CertificateNotTrusted => "otherwise",
                };
                format!("{} {refused}", action.as_str())
            }
        }
    }

    const SYSTEM: &str =
        "permit (principal, action == Action::\"callWebApiAsSystemUser\", resource)
        when { context.method == \"GET\" && context.path like \"/api/v1/contact*\" };";
    const FIVE: &str = "permit (principal, action == Action::\"callWebApiAsUser\", resource)
        when { resource.associateId == 5 && context.path like \"/api/v1/*\" };";

    #[test]
    fn decides_on_the_method_and_the_normal_form_of_the_path() {
        let get = |path: &str| said(act(SYSTEM, ActorChoice::SystemUser, Method::GET, path));
        let tenant = tenant().to_string();
        assert_eq!(get("/api/v1/Contact/5"), tenant);
        assert_eq!(get("/API/v1/%63ONTACT"), tenant);
        assert_eq!(get("/api/v1/Person/5"), "callWebApiAsSystemUser path");
        let post = act(SYSTEM, ActorChoice::SystemUser, Method::POST, "/api/v1/Contact");
        assert_eq!(said(post), "callWebApiAsSystemUser path");
        let nobody = act("", ActorChoice::SystemUser, Method::GET, "/api/v1/Contact");
        assert_eq!(said(nobody), "callWebApiAsSystemUser denied");
        let other = act(FIVE, ActorChoice::Person(person(6)), Method::GET, "/api/v1/Contact");
        assert_eq!(said(other), "callWebApiAsUser denied");
    }

    #[test]
    fn without_a_choice_the_call_acts_as_the_only_permitted_user_whatever_the_path() {
        let (get, both) = (Method::GET, format!("{SYSTEM}{FIVE}"));
        let guarded = both.replace("&& context.path", "&& context has path && context.path");
        let unspecified = |candidates| ActorChoice::Unspecified { candidates };
        let people = || unspecified(vec![person(4), person(5), person(6)]);
        let tenant = tenant().to_string();
        for (policy, chosen, path, wanted) in [
            (SYSTEM, people(), "/api/v1/Contact", tenant.as_str()),
            (FIVE, people(), "/api/v1/Contact", &format!("{tenant}/grants/g5")),
            (&both, people(), "/api/v1/Contact", "several"),
            (&both, unspecified(Vec::new()), "/api/v1/Contact", &tenant),
            (&guarded, unspecified(vec![person(6)]), "/api/v1/Contact", "several"),
            // Policy permits this path only to the person, but the chosen user must not depend on the path.
            (&both, people(), "/api/v1/Sale", "several"),
            ("", people(), "/api/v1/Contact", "callWebApiAsSystemUser denied"),
            (FIVE, unspecified(Vec::new()), "/api/v1/Sale", "callWebApiAsSystemUser denied"),
        ] {
            assert_eq!(said(act(policy, chosen, get.clone(), path)), wanted, "{policy} {path}");
        }
    }

    #[test]
    fn permits_a_credential_operation_only_by_a_policy_that_names_it() {
        let token = "/api/v1/User/currentToken";
        let when = |condition: &str| {
            let head = "permit (principal, action == Action::\"callWebApiAsSystemUser\", resource)";
            format!("{head} when {{ {condition} }};")
        };
        let names = "context.path == \"/api/v1/user/currenttoken\"";
        let (granted, denied) = (tenant().to_string(), "callWebApiAsSystemUser path".to_owned());
        for (policy, wanted) in [
            (when("true"), &denied),
            (when("context.path like \"*\""), &denied),
            (when("context.path like \"/api/v1/user/*\""), &denied),
            (when("context.path like \"/api/v1/user/current*\""), &denied),
            (when("context.path like \"/api/*token\""), &denied),
            (when("context.method == \"GET\""), &denied),
            (when(names), &granted),
            (when(&format!("context.method == \"GET\" && {names}")), &granted),
            (when("[\"/api/v1/user/currenttoken\"].contains(context.path)"), &granted),
            (when("context.path like \"/api/v*/user/currenttoken\""), &granted),
            (when("true") + &when(names), &granted),
            (when(names) + &when("true").replace("permit", "forbid"), &denied),
        ] {
            let authorized = act(&policy, ActorChoice::SystemUser, Method::GET, token);
            let wanted =
                if policy.contains("forbid") { "callWebApiAsSystemUser denied" } else { wanted };
            assert_eq!(said(authorized), *wanted, "{policy}");
        }
        let branch = act(&when("true"), ActorChoice::SystemUser, Method::GET, "/api/v1/User");
        assert_eq!(said(branch), granted);
    }
}
