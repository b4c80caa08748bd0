//! The authorize page: choice of user, choice of tenant, approval.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use hyper::StatusCode;

use super::flow::{self, AuthorizeError, Flow};
use super::page::{self, SelectOption, SignInPage};
use super::{OAuthRequest, authorize_response};
use crate::answer::Answer;
use crate::faults::Fault;
use crate::form::Form;
use crate::grants::{ApprovalPage, Code, GrantOwner};
use crate::lock::{read, write};
use crate::people::Associate;
use crate::platform::Platform;
use crate::random;
use crate::world::{Application, Approval, Authorization, Tenant};

/// The maximum number of users on a page. A client can still send another user.
const MAX_LISTED: usize = 200;

/// Length of the random part of a system user token (documented).
const TOKEN_LETTERS: usize = 10;

/// Error texts of the authorization (documented).
const WRONG_REDIRECT: &str = "Authorization error: InvalidRedirectUrl (2)";
const DENIED: &str = "Authorization error: Denied (4)";
/// Error texts of the sign-in (documented).
const NO_ACCESS: &str = "Account does not have access";
const TECHNICAL: &str = "Technical error";

/// Answers the authorize request of an application.
pub(super) fn begin_sign_in(
    platform: &Platform,
    request: &OAuthRequest,
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
    if let Some(error) = injected_error(fault) {
        return authorize_response::error(platform, &flow, error);
    }
    if let Err(error) = flow.read_parameters(form, application.registration.native) {
        return authorize_response::error(platform, &flow, error);
    }
    if !platform.grants.rules().ignore_tenant_hint {
        flow.tenant = tenant.or_else(|| flow::tenant_hint(form)).map(ToOwned::to_owned);
    }
    if flow.tenant.as_deref().is_some_and(|id| read(&platform.world).tenant(id).is_none()) {
        return page::error(platform, StatusCode::FORBIDDEN, DENIED);
    }
    let users = users(platform, flow.tenant.as_deref(), flow.login_hint.as_deref());
    sign_in_page(platform, request, &application, &flow).user_page(platform, &users)
}

/// Answers the form of a page.
pub(super) fn continue_sign_in(
    platform: &Platform,
    request: &OAuthRequest,
    form: Option<&Form>,
    fault: Option<&Fault>,
) -> Answer {
    let sent = form.and_then(|form| Some((form, flow::unseal(platform, form.get("request")?)?)));
    let Some((form, mut flow)) = sent else {
        return page::error(platform, StatusCode::BAD_REQUEST, TECHNICAL);
    };
    let Some(application) = application(platform, &flow.client_id, &flow.redirect_uri) else {
        return page::error(platform, StatusCode::BAD_REQUEST, WRONG_REDIRECT);
    };
    if let Some(error) = injected_error(fault) {
        return authorize_response::error(platform, &flow, error);
    }
    if form.get("decision") == Some("refuse") {
        platform.counts.update_sign_ins(|counts| counts.refusals += 1);
        let error = AuthorizeError("access_denied", "The user denied the request.");
        return authorize_response::error(platform, &flow, error);
    }
    let approval_was_asked = flow.user.is_some() && flow.tenant.is_some();
    let Some(user) = flow.user.clone().or_else(|| form.get("user").map(ToOwned::to_owned)) else {
        let users = users(platform, flow.tenant.as_deref(), flow.login_hint.as_deref());
        return sign_in_page(platform, request, &application, &flow).user_page(platform, &users);
    };
    flow.user = Some(user.clone());
    let chosen = flow.tenant.clone().or_else(|| form.get("tenant").map(ToOwned::to_owned));
    let tenant = match chosen {
        Some(tenant) => tenant,
        None => match &*tenants(platform, &user) {
            [] => return page::error(platform, StatusCode::FORBIDDEN, NO_ACCESS),
            [(only, _)] => only.clone(),
            tenants => {
                return sign_in_page(platform, request, &application, &flow)
                    .tenant_page(platform, &tenant_options(tenants));
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
    let approved = approval_was_asked && form.get("decision") == Some("approve");
    let sign_in_page = sign_in_page(platform, request, &application, &flow);
    match required_approval(platform, &tenant, &associate, &application.client_id) {
        Err(text) => page::error(platform, StatusCode::FORBIDDEN, text),
        Ok(missing) if missing != RequiredApproval::NotRequired && !approved => {
            let by_administrator = missing == RequiredApproval::ByAdministrator;
            sign_in_page.approval_page(platform, (&user, &tenant.id), by_administrator)
        }
        Ok(missing) => {
            let given = missing == RequiredApproval::ByAdministrator;
            issue_code(platform, &flow, &tenant, &associate, given)
                .unwrap_or_else(|_| Answer::empty(StatusCode::INTERNAL_SERVER_ERROR))
        }
    }
}

/// Returns the choices of the page on which a person chooses a tenant.
fn tenant_options(tenants: &[(String, String)]) -> Vec<SelectOption> {
    let option = |(id, company): &(String, String)| SelectOption {
        value: id.clone(),
        label: format!("{company} ({id})"),
        selected: false,
    };
    tenants.iter().map(option).collect()
}

fn injected_error(fault: Option<&Fault>) -> Option<AuthorizeError<'_>> {
    match fault? {
        Fault::AuthorizeError { error } => {
            Some(AuthorizeError(error, "The sandbox injected this error."))
        }
        _ => None,
    }
}

/// The approval that a sign-in still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequiredApproval {
    NotRequired,
    /// Approval by the person.
    ByUser,
    /// Approval by an administrator for the whole tenant; the person is an administrator.
    ByAdministrator,
}

/// Returns the approval that is needed. Without an administrator's approval, only an administrator
/// may continue (documented).
fn required_approval(
    platform: &Platform,
    tenant: &Tenant,
    associate: &Associate,
    client_id: &str,
) -> Result<RequiredApproval, &'static str> {
    let text = match tenant.record(client_id).map(|record| record.state) {
        Some(Authorization::Active) => {
            return Ok(match platform.grants.rules().approval_page {
                ApprovalPage::Always => RequiredApproval::ByUser,
                ApprovalPage::WhenNeeded => RequiredApproval::NotRequired,
            });
        }
        Some(Authorization::Denied) => return Err(DENIED),
        Some(Authorization::Revoked) => "Authorization error: Revoked (1)",
        Some(Authorization::Expired) => "Authorization error: Expired (3)",
        Some(Authorization::NeedsReapproval) | None => "Authorization error: NeedsReapproval (5)",
    };
    if tenant.people.is_administrator(associate) {
        Ok(RequiredApproval::ByAdministrator)
    } else {
        Err(text)
    }
}

/// Records the administrator's approval, if given, and returns the code.
fn issue_code(
    platform: &Platform,
    flow: &Flow,
    tenant: &Tenant,
    associate: &Associate,
    approval_given: bool,
) -> Result<Answer, Unspecified> {
    let now = platform.clock.now();
    if approval_given {
        let approval = Approval { user_name: associate.user_name.clone(), at: now };
        let letters = random::alphanumeric(TOKEN_LETTERS)?;
        let mut world = write(&platform.world);
        world.approve(&flow.client_id, &tenant.id, approval, &letters).map_err(|_| Unspecified)?;
        drop(world);
        platform.counts.update_sign_ins(|counts| counts.approvals += 1);
    }
    let code = Code {
        owner: GrantOwner {
            client_id: flow.client_id.clone(),
            tenant: tenant.id.clone(),
            associate_id: associate.id,
        },
        redirect_uri: flow.redirect_uri.clone(),
        challenge: flow.challenge.clone(),
        nonce: flow.nonce.clone(),
    };
    let code = platform.codes.issue(code, now)?;
    platform.counts.update_sign_ins(|counts| counts.codes_issued += 1);
    Ok(authorize_response::code(platform, flow, &code))
}

/// Returns the application, if this redirect address is registered for it.
fn application(
    platform: &Platform,
    client_id: &str,
    redirect_uri: &str,
) -> Option<Arc<Application>> {
    let application = read(&platform.world).application(client_id).cloned();
    application.filter(|application| application.registration.allows_redirect_to(redirect_uri))
}

/// Returns the users who can sign in to a tenant, or to any tenant. The user of the hint comes
/// first.
fn users(platform: &Platform, tenant: Option<&str>, hint: Option<&str>) -> Vec<SelectOption> {
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
        .map(|(value, name)| SelectOption {
            label: format!("{name} ({value})"),
            selected: Some(&value) == expected.as_ref(),
            value,
        })
        .collect()
}

/// Returns the tenants that a user can sign in to, with their companies.
fn tenants(platform: &Platform, user: &str) -> Vec<(String, String)> {
    let world = read(&platform.world);
    let tenants = world.tenants().filter(|tenant| tenant.people.user(user).is_some());
    let mut found: Vec<(String, String)> =
        tenants.map(|tenant| (tenant.id.clone(), tenant.company_name.clone())).collect();
    found.sort();
    found
}

fn sign_in_page(
    platform: &Platform,
    request: &OAuthRequest,
    application: &Application,
    flow: &Flow,
) -> SignInPage {
    SignInPage {
        action: request.path.clone(),
        request: flow.seal(platform),
        application: application.name.clone(),
    }
}
