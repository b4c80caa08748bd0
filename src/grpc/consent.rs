//! `BeginConsent` and `CompleteConsent` of `ImpersonationService`: a person is asked to let the gateway act as them.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::{Services, convert, failure::Failure, layer::Context, pb, request::Checks};
use crate::{
    access::{ActionName, On},
    broker::{Asked, BegunConsent, BrokerError, ConsentRequest, ConsentTaken},
    domain::{ApplicationId, TenantName},
};

/// Longer than any state or code (SUPEROFFICE.md 4.1).
const MAX_SECRET_BYTES: usize = 4096;

/// The longest name by which somebody signs in: an e-mail address (RFC 3696).
const MAX_USER_NAME_BYTES: usize = 320;

/// Begins a consent.
pub(super) async fn begin(
    services: &Services,
    context: &Context,
    request: pb::BeginConsentRequest,
) -> Result<pb::BeginConsentResponse, Failure> {
    let mut checks = Checks::default();
    let application = checks.application_name("application", &request.application);
    let tenant = tenant(&mut checks, &request.tenant, application.as_ref());
    let login_hint = user_name(&mut checks, "login_hint", request.login_hint);
    let field = "expected_user_principal_name";
    let expected = user_name(&mut checks, field, request.expected_user_principal_name);
    let reason = checks.reason("reason", request.reason);
    let (Some(application), Some(tenant)) = (application, tenant) else {
        return Err(checks.failed());
    };
    let (Some(login_hint), Some(expected_user_principal_name), Some(reason)) =
        (login_hint, expected, reason)
    else {
        return Err(checks.failed());
    };
    context.notes.reason(reason.clone());
    let asked = asked(services, context, &application, tenant.as_ref())?;
    let enrol = if request.enroll_system_user {
        Some(self::asked(services, context, &application, tenant.as_ref())?)
    } else {
        None
    };
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let request = ConsentRequest {
        login_hint,
        return_uri: some(request.return_uri),
        redirect_uri: some(request.redirect_uri),
        expected_user_principal_name,
        reason,
    };
    let begun = context.change(services.consents.begin(&asked, enrol.as_ref(), request)).await?;
    let BegunConsent { authorization_uri, state, expire_time, consent_uri } = begun;
    let shown = |secret: &SecretString| secret.expose_secret().to_owned();
    Ok(pb::BeginConsentResponse {
        authorization_uri: shown(&authorization_uri),
        state: shown(&state),
        expire_time: Some(convert::timestamp(expire_time)),
        consent_uri: consent_uri.as_ref().map(shown).unwrap_or_default(),
    })
}

/// Completes one with the code that a front end received.
pub(super) async fn complete(
    services: &Services,
    context: &Context,
    request: pb::CompleteConsentRequest,
) -> Result<pb::CompleteConsentResponse, Failure> {
    let mut checks = Checks::default();
    let state = secret(&mut checks, "state", request.state);
    let code = secret(&mut checks, "code", request.code);
    let (Some(state), Some(code)) = (state, code) else { return Err(checks.failed()) };
    // Before the state is used up: what cannot be written down is not done.
    services.audit.check(ActionName::ManageGrants)?;
    // Who began is asked before policy: only then is it known what is to be decided on.
    let shown = services.consents.find(&context.caller, &state).await;
    let shown = shown.inspect_err(|error| {
        if matches!(error, BrokerError::ConsentInvalid(_)) {
            context.notes.denied(ActionName::ManageGrants.as_str(), String::new(), Arc::new([]));
        }
    })?;
    context.notes.reason(shown.reason().to_owned());
    let application = shown.application().clone();
    let tenant =
        shown.tenant().map(|tenant| TenantName { application: application.clone(), tenant });
    let asked = asked(services, context, &application, tenant.as_ref())?;
    let enrol = if shown.enrols() {
        Some(self::asked(services, context, &application, tenant.as_ref())?)
    } else {
        None
    };
    let (patience, request_id) = (context.patience, Arc::clone(&context.request_id));
    let completing =
        services.consents.complete(&asked, enrol.as_ref(), shown, code, patience, request_id);
    let taken = context.change(completing).await.inspect_err(|error| {
        if let BrokerError::NoLongerPermitted(denied) = error {
            let (resource, policy_ids) = (denied.resource.to_string(), &denied.policy_ids);
            context.notes.denied(denied.action.as_str(), resource, Arc::clone(policy_ids));
        }
    })?;
    let ConsentTaken { grant, system_user_enrolled } = taken;
    // Decided on the application or the tenant, done to the grant, and maybe to the tenant.
    context.notes.done_to(ActionName::ManageGrants, grant.name.to_string());
    context.notes.done_to(ActionName::ManageTenants, grant.name.tenant.to_string());
    Ok(pb::CompleteConsentResponse { grant: Some(convert::grant(&grant)), system_user_enrolled })
}

/// Decides on the tenant, or on the application where none is named.
fn asked<A: On<ApplicationId> + On<TenantName>>(
    services: &Services,
    context: &Context,
    application: &ApplicationId,
    tenant: Option<&TenantName>,
) -> Result<Asked<A>, Failure> {
    Ok(match tenant {
        Some(tenant) => Asked::Tenant(services.authorize(context, tenant.clone())?),
        None => Asked::Application(services.authorize(context, application.clone())?),
    })
}

/// A tenant of the application, or none.
#[expect(
    clippy::option_option,
    reason = "outside: whether it is right; inside: whether there is one"
)]
fn tenant(
    checks: &mut Checks,
    text: &str,
    application: Option<&ApplicationId>,
) -> Option<Option<TenantName>> {
    if text.is_empty() {
        return Some(None);
    }
    let name = checks.tenant_name("tenant", text)?;
    let under = application.is_none_or(|application| *application == name.application);
    let problem = "must be a tenant of the application that is named";
    checks.note("tenant", if under { Ok(Some(name)) } else { Err(problem) })
}

/// The name by which somebody signs in, or none.
#[expect(
    clippy::option_option,
    reason = "outside: whether it is right; inside: whether there is one"
)]
fn user_name(checks: &mut Checks, field: &str, text: String) -> Option<Option<String>> {
    if text.is_empty() {
        return Some(None);
    }
    let printable = text.trim() == text && !text.chars().any(char::is_control);
    let fits = printable && text.len() <= MAX_USER_NAME_BYTES;
    let problem =
        format!("at most {MAX_USER_NAME_BYTES} bytes, printable, without white space around");
    checks.note(field, if fits { Ok(Some(text)) } else { Err(problem) })
}

/// What SuperOffice's page sent.
fn secret(checks: &mut Checks, field: &str, text: String) -> Option<SecretString> {
    let text = SecretString::from(text);
    let fits = (1..=MAX_SECRET_BYTES).contains(&text.expose_secret().len());
    let problem =
        format!("wanted what came back to the redirect URI, at most {MAX_SECRET_BYTES} bytes");
    checks.note(field, if fits { Ok(text) } else { Err(problem) })
}
