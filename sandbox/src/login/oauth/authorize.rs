//! The authorize page: who are you, in which tenant, do you approve.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use hyper::StatusCode;

use super::flow::{self, Flow, Told};
use super::page::{self, Choice, Question};
use super::{Asked, back};
use crate::answer::Answer;
use crate::faults::Fault;
use crate::form::Form;
use crate::grants::{ApprovalPage, Code, SignedIn};
use crate::lock::{read, write};
use crate::people::Associate;
use crate::platform::Platform;
use crate::random;
use crate::world::{Application, Approval, Authorization, Tenant};

/// A page does not list more users; one who is not listed can still be sent.
const MAX_LISTED: usize = 200;

/// Length of the random part of a system user token (SUPEROFFICE.md 2.2, documented).
const TOKEN_LETTERS: usize = 10;

/// SUPEROFFICE.md 2.4 and 4.1, documented.
const WRONG_REDIRECT: &str = "Authorization error: InvalidRedirectUrl (2)";
const DENIED: &str = "Authorization error: Denied (4)";
/// SUPEROFFICE.md 4.1, documented.
const NO_ACCESS: &str = "Account does not have access";
const TECHNICAL: &str = "Technical error";

/// A request of an application.
pub(super) fn begin(
    platform: &Platform,
    asked: &Asked,
    form: Option<&Form>,
    tenant: Option<&str>,
    fault: Option<&Fault>,
) -> Answer {
    let Some(form) = form else {
        return page::error(platform, StatusCode::BAD_REQUEST, TECHNICAL);
    };
    let client_id = form.get("client_id").unwrap_or_default();
    let redirect_uri = form.get("redirect_uri").unwrap_or_default();
    let Some(application) = application(platform, client_id, redirect_uri) else {
        return page::error(platform, StatusCode::BAD_REQUEST, WRONG_REDIRECT);
    };
    let mut flow = Flow::new(client_id, redirect_uri, form);
    if let Some(told) = told(fault) {
        return back::error(platform, &flow, told);
    }
    if let Err(told) = flow.fill(form, application.registration.native) {
        return back::error(platform, &flow, told);
    }
    if !platform.grants.rules().ignore_tenant_hint {
        flow.tenant = tenant.or_else(|| flow::tenant_hint(form)).map(ToOwned::to_owned);
    }
    if flow.tenant.as_deref().is_some_and(|id| read(&platform.world).tenant(id).is_none()) {
        return page::error(platform, StatusCode::FORBIDDEN, DENIED);
    }
    let users = users(platform, flow.tenant.as_deref(), flow.login_hint.as_deref());
    ask(platform, asked, &application, &flow).user(platform, &users)
}

/// What a person sent from one of the pages.
pub(super) fn go_on(
    platform: &Platform,
    asked: &Asked,
    form: Option<&Form>,
    fault: Option<&Fault>,
) -> Answer {
    let sent = form.and_then(|form| Some((form, flow::open(platform, form.get("request")?)?)));
    let Some((form, mut flow)) = sent else {
        return page::error(platform, StatusCode::BAD_REQUEST, TECHNICAL);
    };
    let Some(application) = application(platform, &flow.client_id, &flow.redirect_uri) else {
        return page::error(platform, StatusCode::BAD_REQUEST, WRONG_REDIRECT);
    };
    if let Some(told) = told(fault) {
        return back::error(platform, &flow, told);
    }
    if form.get("decision") == Some("refuse") {
        platform.counts.sign_in(|counts| counts.refusals += 1);
        let told = Told("access_denied", "The person refused.");
        return back::error(platform, &flow, told);
    }
    let asked_for_approval = flow.user.is_some() && flow.tenant.is_some();
    let Some(user) = flow.user.clone().or_else(|| form.get("user").map(ToOwned::to_owned)) else {
        let users = users(platform, flow.tenant.as_deref(), flow.login_hint.as_deref());
        return ask(platform, asked, &application, &flow).user(platform, &users);
    };
    flow.user = Some(user.clone());
    let chosen = flow.tenant.clone().or_else(|| form.get("tenant").map(ToOwned::to_owned));
    let tenant = match chosen {
        Some(tenant) => tenant,
        None => match &*tenants(platform, &user) {
            [] => return page::error(platform, StatusCode::FORBIDDEN, NO_ACCESS),
            [(only, _)] => only.clone(),
            tenants => {
                let choices: Vec<Choice> = tenants
                    .iter()
                    .map(|(id, company)| Choice {
                        value: id.clone(),
                        label: format!("{company} ({id})"),
                        selected: false,
                    })
                    .collect();
                return ask(platform, asked, &application, &flow).tenant(platform, &choices);
            }
        },
    };
    flow.tenant = Some(tenant.clone());
    let tenant = read(&platform.world).tenant(&tenant).cloned();
    let person = tenant.and_then(|tenant| {
        let associate = tenant.people.user(&user)?.clone();
        Some((tenant, associate))
    });
    let Some((tenant, associate)) = person else {
        return page::error(platform, StatusCode::FORBIDDEN, NO_ACCESS);
    };
    if !tenant.state.is_running() {
        return page::error(platform, StatusCode::SERVICE_UNAVAILABLE, TECHNICAL);
    }
    let approved = asked_for_approval && form.get("decision") == Some("approve");
    let question = ask(platform, asked, &application, &flow);
    match decide(platform, &tenant, &associate, &application.client_id) {
        Err(text) => page::error(platform, StatusCode::FORBIDDEN, text),
        Ok(Missing::Approval) if !approved => {
            question.approval(platform, (&user, &tenant.id), true)
        }
        Ok(Missing::Consent) if !approved => {
            question.approval(platform, (&user, &tenant.id), false)
        }
        Ok(missing) => {
            let given = missing == Missing::Approval;
            finish(platform, &flow, &tenant, &associate, given)
                .unwrap_or_else(|_| Answer::empty(StatusCode::INTERNAL_SERVER_ERROR))
        }
    }
}

fn told(fault: Option<&Fault>) -> Option<Told<'_>> {
    match fault? {
        Fault::AuthorizeError { error } => Some(Told(error, "A fault was injected.")),
        _ => None,
    }
}

/// What a sign-in still lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Nothing,
    /// The person's own yes.
    Consent,
    /// An administrator's yes for the whole tenant, and the person is one.
    Approval,
}

/// Without an approval only an administrator gets further: the others are locked out until it is
/// given (SUPEROFFICE.md 8, documented).
fn decide(
    platform: &Platform,
    tenant: &Tenant,
    associate: &Associate,
    client_id: &str,
) -> Result<Missing, &'static str> {
    let text = match tenant.record(client_id).map(|record| record.state) {
        Some(Authorization::Active) => {
            return Ok(match platform.grants.rules().approval_page {
                ApprovalPage::Always => Missing::Consent,
                ApprovalPage::WhenNeeded => Missing::Nothing,
            });
        }
        Some(Authorization::Denied) => return Err(DENIED),
        Some(Authorization::Revoked) => "Authorization error: Revoked (1)",
        Some(Authorization::Expired) => "Authorization error: Expired (3)",
        Some(Authorization::NeedsReapproval) | None => "Authorization error: NeedsReapproval (5)",
    };
    if tenant.people.is_administrator(associate) { Ok(Missing::Approval) } else { Err(text) }
}

/// Notes the approval, if one was given, and sends the code.
fn finish(
    platform: &Platform,
    flow: &Flow,
    tenant: &Tenant,
    associate: &Associate,
    approval_given: bool,
) -> Result<Answer, Unspecified> {
    let now = platform.clock.now();
    if approval_given {
        let approval = Approval { user_name: associate.user_name.clone(), at: now };
        let letters = random::letters(TOKEN_LETTERS)?;
        let mut world = write(&platform.world);
        world.approve(&flow.client_id, &tenant.id, approval, &letters).map_err(|_| Unspecified)?;
        drop(world);
        platform.counts.sign_in(|counts| counts.approvals += 1);
    }
    let code = Code {
        who: SignedIn {
            client_id: flow.client_id.clone(),
            tenant: tenant.id.clone(),
            associate_id: associate.id,
        },
        redirect_uri: flow.redirect_uri.clone(),
        challenge: flow.challenge.clone(),
        nonce: flow.nonce.clone(),
    };
    let code = platform.codes.issue(code, now)?;
    platform.counts.sign_in(|counts| counts.codes_issued += 1);
    Ok(back::code(platform, flow, &code))
}

/// The application, if it may have people sent back there.
fn application(
    platform: &Platform,
    client_id: &str,
    redirect_uri: &str,
) -> Option<Arc<Application>> {
    let application = read(&platform.world).application(client_id).cloned();
    application.filter(|application| application.registration.sends_back_to(redirect_uri))
}

/// Those who can sign in to a tenant, or to any: the one who is expected first.
fn users(platform: &Platform, tenant: Option<&str>, hint: Option<&str>) -> Vec<Choice> {
    let world = read(&platform.world);
    let tenants = world.tenants().filter(|one| tenant.is_none_or(|tenant| one.id == tenant));
    let mut users: Vec<(String, String)> = Vec::new();
    let mut expected = None;
    for tenant in tenants {
        expected = expected.or_else(|| Some(tenant.people.user(hint?)?.user_name.clone()));
        let all = tenant.people.users();
        users.extend(all.map(|one| (one.user_name.clone(), tenant.people.full_name(one))));
    }
    users.sort_by_cached_key(|(user, _)| (Some(user) != expected.as_ref(), user.to_lowercase()));
    users.dedup_by(|left, right| left.0.eq_ignore_ascii_case(&right.0));
    users.truncate(MAX_LISTED);
    users
        .into_iter()
        .map(|(value, name)| Choice {
            label: format!("{name} ({value})"),
            selected: Some(&value) == expected.as_ref(),
            value,
        })
        .collect()
}

/// The tenants a user can sign in to, and the companies they belong to.
fn tenants(platform: &Platform, user: &str) -> Vec<(String, String)> {
    let world = read(&platform.world);
    let tenants = world.tenants().filter(|tenant| tenant.people.user(user).is_some());
    let mut found: Vec<(String, String)> =
        tenants.map(|tenant| (tenant.id.clone(), tenant.company_name.clone())).collect();
    found.sort();
    found
}

fn ask(platform: &Platform, asked: &Asked, application: &Application, flow: &Flow) -> Question {
    Question {
        action: asked.path.clone(),
        request: flow.seal(platform),
        application: application.name.clone(),
    }
}
