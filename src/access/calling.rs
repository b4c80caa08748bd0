//! Whose eyes a call of the Web API sees with: what a caller chose, or the only ones that policy lets it have.

use http::Method;

use super::{
    Access, ActionName, Authorized, CallWebApiAsSystemUser, CallWebApiAsUser, Caller,
    GrantResource, On, PolicyIds, Refused, Resource,
};
use crate::domain::{ApiPath, TenantName};

/// The methods with which an API is called (RFC 9110 section 9.3, RFC 5789). Policies compare them as they stand and
/// servers do not mind their case, so each has one spelling. `CONNECT` asks for a tunnel, and `TRACE` would have the
/// credential told back.
#[must_use]
pub fn is_calling_method(method: &Method) -> bool {
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    methods.contains(method)
}

/// A call of the Web API: what was decided on, and nothing else, is what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calling<R> {
    /// The tenant, or the grant of a person there.
    pub on: R,
    /// What is to be done.
    pub method: Method,
    /// Where.
    pub path: ApiPath,
}

/// Whose eyes a caller chose.
#[derive(Debug, Clone)]
pub enum Chosen {
    /// The system user's.
    SystemUser,
    /// This person's.
    Person(GrantResource),
    /// It did not say: they are those of the only user whom policy lets it act as. The grants of the tenant, or some
    /// that policy permits nobody to use left out.
    TheOnly(Vec<GrantResource>),
}

/// Proof that a call may be made, and as whom.
#[derive(Debug, Clone)]
pub enum Acting {
    /// As the system user.
    SystemUser(Authorized<CallWebApiAsSystemUser, Calling<TenantName>>),
    /// As a person.
    Person(Authorized<CallWebApiAsUser, Calling<GrantResource>>),
}

/// Why a call is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotActing {
    /// It did not say whose eyes, and policy permits several.
    #[error("policy lets the caller act as several users")]
    Several,
    /// Policy refuses it, or a quota does. The action and the resource are those of the decision.
    #[error("{refused}")]
    Refused {
        /// What was decided.
        action: ActionName,
        /// On what.
        resource: String,
        /// How.
        refused: Refused,
    },
}

impl Acting {
    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        match self {
            Self::SystemUser(authorized) => authorized.caller(),
            Self::Person(authorized) => authorized.caller(),
        }
    }

    /// What was decided.
    #[must_use]
    pub fn action(&self) -> ActionName {
        match self {
            Self::SystemUser(_) => ActionName::CallWebApiAsSystemUser,
            Self::Person(_) => ActionName::CallWebApiAsUser,
        }
    }

    /// The policies that permit it.
    #[must_use]
    pub fn policy_ids(&self) -> &PolicyIds {
        match self {
            Self::SystemUser(authorized) => authorized.policy_ids(),
            Self::Person(authorized) => authorized.policy_ids(),
        }
    }

    /// What it was decided on: the tenant, or the grant.
    #[must_use]
    pub fn resource(&self) -> Resource {
        match self {
            Self::SystemUser(authorized) => authorized.resource().on.clone().into(),
            Self::Person(authorized) => authorized.resource().on.clone().into(),
        }
    }

    /// Whose data.
    #[must_use]
    pub fn tenant(&self) -> &TenantName {
        match self {
            Self::SystemUser(authorized) => &authorized.resource().on,
            Self::Person(authorized) => &authorized.resource().on.tenant,
        }
    }

    /// What is to be done.
    #[must_use]
    pub fn method(&self) -> &Method {
        match self {
            Self::SystemUser(authorized) => &authorized.resource().method,
            Self::Person(authorized) => &authorized.resource().method,
        }
    }

    /// Where.
    #[must_use]
    pub fn path(&self) -> &ApiPath {
        match self {
            Self::SystemUser(authorized) => &authorized.resource().path,
            Self::Person(authorized) => &authorized.resource().path,
        }
    }
}

impl Access {
    /// Whether it has to be known which grants the tenant has, before [`Chosen::TheOnly`] can be said.
    #[must_use]
    pub fn may_act_as_somebody(&self, caller: &Caller, tenant: &TenantName) -> bool {
        self.may_on_some_grant(caller, ActionName::CallWebApiAsUser, tenant)
    }

    /// Decides on a call, and counts it in the tenant if it is permitted.
    ///
    /// Who did not choose gets the only user whom policy lets it act as at all, whatever it calls: which user that is
    /// must not depend on the path.
    ///
    /// # Errors
    /// If it may not be made.
    pub fn act(
        &self,
        caller: &Caller,
        call: Calling<TenantName>,
        chosen: Chosen,
    ) -> Result<Acting, NotActing> {
        let as_person = |grant: GrantResource, call: Calling<TenantName>| {
            let Calling { method, path, .. } = call;
            self.decide::<CallWebApiAsUser, _>(caller, Calling { on: grant, method, path })
                .map(Acting::Person)
        };
        let as_system_user = |call| self.decide(caller, call).map(Acting::SystemUser);
        let acting = match chosen {
            Chosen::SystemUser => as_system_user(call),
            Chosen::Person(grant) => as_person(grant, call),
            Chosen::TheOnly(people) => match self.the_only(caller, &call.on, people)? {
                Some(grant) => as_person(grant, call),
                None => as_system_user(call),
            },
        }?;
        // Only now: what is denied has a quota of its own, and names that are made up take no room.
        let refused = |over| NotActing::Refused {
            action: acting.action(),
            resource: acting.tenant().to_string(),
            refused: Refused::OverQuota(over),
        };
        self.admit_to(caller, acting.tenant()).map_err(refused)?;
        Ok(acting)
    }

    /// The only person as whom the caller may act; `None` if that is the system user, or nobody.
    ///
    /// Who may act as the system user and as people must choose wherever a person ever consented: nobody is to become
    /// the system user because a consent has ended.
    fn the_only(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        people: Vec<GrantResource>,
    ) -> Result<Option<GrantResource>, NotActing> {
        if people.is_empty() {
            // Nobody else can be meant; whether it may is decided on next.
            return Ok(None);
        }
        let refused =
            |action, refused| NotActing::Refused { action, resource: tenant.to_string(), refused };
        let system = ActionName::CallWebApiAsSystemUser;
        let of_system = self.rights_among(caller, [tenant.clone()], &[system]);
        if !of_system.map_err(|why| refused(system, why))?.is_empty() {
            let several = self.may_act_as_somebody(caller, tenant);
            return if several { Err(NotActing::Several) } else { Ok(None) };
        }
        let person = ActionName::CallWebApiAsUser;
        let held = self.rights_among(caller, people, &[person]);
        let mut held = held.map_err(|why| refused(person, why))?;
        match (held.pop(), held.is_empty()) {
            (Some(only), true) => Ok(Some(only.resource().clone())),
            // Policies can be written so that only the path of a call shows whom they mean.
            (None, _) if !self.may_act_as_somebody(caller, tenant) => Ok(None),
            _ => Err(NotActing::Several),
        }
    }

    fn decide<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        call: Calling<R>,
    ) -> Result<Authorized<A, Calling<R>>, NotActing> {
        let resource: Resource = call.on.clone().into();
        self.authorize_calling(caller, call).map_err(|refused| NotActing::Refused {
            action: A::NAME,
            resource: resource.to_string(),
            refused,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::{
        access::{Policies, PolicySet, PolicyText, QuotaRules, Rules},
        domain::{AssociateId, Subject},
        ports::ManualClock,
    };

    fn tenant() -> TenantName {
        "applications/crm/tenants/Cust1".parse().unwrap()
    }

    fn person(id: i32) -> GrantResource {
        let subject = Subject::Associate(AssociateId::new(id).unwrap());
        GrantResource {
            grant: format!("g{id}").into(),
            ..GrantResource::absent(&tenant(), &subject)
        }
    }

    fn act(policy: &str, chosen: Chosen, method: Method, path: &str) -> Result<Acting, NotActing> {
        let text = PolicyText { policy: policy.to_owned(), ..PolicyText::default() };
        let (set, _) = PolicySet::parse(&text, &["crm".parse().unwrap()]).unwrap();
        let rules = Rules::Policies(Arc::new(Policies::new(set)));
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let access = Access::insecure_anonymous(rules, QuotaRules::default(), clock);
        let call = Calling { on: tenant(), method, path: ApiPath::parse(path).unwrap() };
        access.act(&Caller::anonymous(), call, chosen)
    }

    fn said(acting: Result<Acting, NotActing>) -> String {
        match acting {
            Ok(acting) => acting.resource().to_string(),
            Err(NotActing::Several) => "several".to_owned(),
            Err(NotActing::Refused { action, refused, .. }) => {
                let refused = match refused {
                    Refused::Denied(_) => "denied",
                    Refused::PathNotAllowed(_) => "path",
                    Refused::OverQuota(_) | Refused::Expired | Refused::Distrusted => "otherwise",
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
    fn a_call_is_decided_on_its_method_and_the_normal_form_of_its_path() {
        let get = |path: &str| said(act(SYSTEM, Chosen::SystemUser, Method::GET, path));
        let tenant = tenant().to_string();
        assert_eq!(get("/api/v1/Contact/5"), tenant);
        assert_eq!(get("/API/v1/%63ONTACT"), tenant);
        assert_eq!(get("/api/v1/Person/5"), "callWebApiAsSystemUser path");
        let post = act(SYSTEM, Chosen::SystemUser, Method::POST, "/api/v1/Contact");
        assert_eq!(said(post), "callWebApiAsSystemUser path");
        let nobody = act("", Chosen::SystemUser, Method::GET, "/api/v1/Contact");
        assert_eq!(said(nobody), "callWebApiAsSystemUser denied");
        let other = act(FIVE, Chosen::Person(person(6)), Method::GET, "/api/v1/Contact");
        assert_eq!(said(other), "callWebApiAsUser denied");
    }

    #[test]
    fn who_did_not_choose_gets_the_only_user_whom_policy_permits_whatever_is_called() {
        let (get, both) = (Method::GET, format!("{SYSTEM}{FIVE}"));
        let guarded = both.replace("&& context.path", "&& context has path && context.path");
        let people = || Chosen::TheOnly(vec![person(4), person(5), person(6)]);
        let tenant = tenant().to_string();
        for (policy, chosen, path, wanted) in [
            (SYSTEM, people(), "/api/v1/Contact", tenant.as_str()),
            (FIVE, people(), "/api/v1/Contact", &format!("{tenant}/grants/g5")),
            (&both, people(), "/api/v1/Contact", "several"),
            (&both, Chosen::TheOnly(Vec::new()), "/api/v1/Contact", &tenant),
            (&guarded, Chosen::TheOnly(vec![person(6)]), "/api/v1/Contact", "several"),
            // Only the person may call this; but which user it is does not depend on the path.
            (&both, people(), "/api/v1/Sale", "several"),
            ("", people(), "/api/v1/Contact", "callWebApiAsSystemUser denied"),
            (FIVE, Chosen::TheOnly(Vec::new()), "/api/v1/Sale", "callWebApiAsSystemUser denied"),
        ] {
            assert_eq!(said(act(policy, chosen, get.clone(), path)), wanted, "{policy} {path}");
        }
    }

    #[test]
    fn methods_have_one_spelling() {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            assert!(is_calling_method(&method.parse().unwrap()), "{method}");
        }
        for method in ["get", "Delete", "TRACE", "trace", "CONNECT", "MERGE", "X-Y"] {
            assert!(!is_calling_method(&method.parse().unwrap()), "{method}");
        }
    }

    #[test]
    fn what_hands_out_credentials_is_permitted_only_by_a_policy_that_names_it() {
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
            let acting = act(&policy, Chosen::SystemUser, Method::GET, token);
            let wanted =
                if policy.contains("forbid") { "callWebApiAsSystemUser denied" } else { wanted };
            assert_eq!(said(acting), *wanted, "{policy}");
        }
        let branch = act(&when("true"), Chosen::SystemUser, Method::GET, "/api/v1/User");
        assert_eq!(said(branch), granted);
    }
}
