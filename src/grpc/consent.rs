//! `BeginConsent` and `CompleteConsent` of `ImpersonationService`: a person permits the gateway to act as them.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    context::CallContext, convert, failure::Failure, handler_dependencies::HandlerDependencies,
    notes::NotedResource, pb, request::Checks,
};
use crate::{
    access::{ActionName, On},
    broker::{
        AuthorizedConsentScope, BegunConsent, BrokerError, CompletedConsent, ConsentRequest,
        Consents,
    },
    domain::{ApplicationId, TenantName},
};

/// The maximum length of a state or a code, which is longer than those of SuperOffice.
const MAX_SECRET_BYTES: usize = 4096;

/// The maximum length of a user name, which is an e-mail address (RFC 3696).
const MAX_USER_NAME_BYTES: usize = 320;

/// Begins a consent.
pub(super) async fn begin(
    common: &HandlerDependencies,
    consents: &Consents,
    context: &CallContext,
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
        return Err(checks.into_failure());
    };
    let (Some(login_hint), Some(expected_user_principal_name), Some(reason)) =
        (login_hint, expected, reason)
    else {
        return Err(checks.into_failure());
    };
    context.notes.set_reason(reason.clone());
    let authorized = authorize_consent(common, context, &application, tenant.as_ref())?;
    let enrolment = request
        .enroll_system_user
        .then(|| authorize_consent(common, context, &application, tenant.as_ref()))
        .transpose()?;
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let request = ConsentRequest {
        login_hint,
        return_uri: some(request.return_uri),
        redirect_uri: some(request.redirect_uri),
        expected_user_principal_name,
        reason,
    };
    let begun =
        context.run_change(consents.begin(&authorized, enrolment.as_ref(), request)).await?;
    let BegunConsent { authorization_uri, state, expire_time, consent_uri } = begun;
    let expose = |secret: &SecretString| secret.expose_secret().to_owned();
    Ok(pb::BeginConsentResponse {
        authorization_uri: expose(&authorization_uri),
        state: expose(&state),
        expire_time: Some(convert::timestamp(expire_time)),
        consent_uri: consent_uri.as_ref().map(expose).unwrap_or_default(),
    })
}

/// Completes a consent with the code that a front end received.
pub(super) async fn complete(
    common: &HandlerDependencies,
    consents: &Consents,
    context: &CallContext,
    request: pb::CompleteConsentRequest,
) -> Result<pb::CompleteConsentResponse, Failure> {
    let mut checks = Checks::default();
    let state = secret(&mut checks, "state", request.state);
    let code = secret(&mut checks, "code", request.code);
    let (Some(state), Some(code)) = (state, code) else { return Err(checks.into_failure()) };
    // Checked before the state is used up: without an audit event the action must not happen.
    common.audit.check(ActionName::ManageGrants)?;
    // The consent is read before the policy check, because it names the resource to check.
    let consent = consents.find(context.caller(), &state).await;
    let consent = consent.inspect_err(|error| {
        if matches!(error, BrokerError::ConsentInvalid(_)) {
            let (action, resource) = (ActionName::ManageGrants.as_str(), NotedResource::Name(""));
            context.notes.denied(action, resource, Arc::new([]));
        }
    })?;
    context.notes.set_reason(consent.reason().to_owned());
    let application = consent.application().clone();
    let tenant =
        consent.tenant().map(|tenant| TenantName { application: application.clone(), tenant });
    let authorized = authorize_consent(common, context, &application, tenant.as_ref())?;
    let enrolment = consent
        .enrols()
        .then(|| authorize_consent(common, context, &application, tenant.as_ref()))
        .transpose()?;
    let (max_wait, request_id) = (context.max_wait, Arc::clone(&context.request_id));
    let completing =
        consents.complete(&authorized, enrolment.as_ref(), consent, code, max_wait, request_id);
    let completed = context.run_change(completing).await.inspect_err(|error| {
        if let BrokerError::NoLongerPermitted(denied) = error {
            let (resource, policy_ids) =
                (NotedResource::Name(&denied.resource), &denied.policy_ids);
            context.notes.denied(denied.action.as_str(), resource, Arc::clone(policy_ids));
        }
    })?;
    let CompletedConsent { grant, system_user_enrolled } = completed;
    // Policy decided on the application or the tenant; the action changed the grant, and maybe the tenant.
    context.notes.set_resource_of(ActionName::ManageGrants, grant.name.to_string());
    context.notes.set_resource_of(ActionName::ManageTenants, grant.name.tenant.to_string());
    Ok(pb::CompleteConsentResponse { grant: Some(convert::grant(&grant)), system_user_enrolled })
}

/// Checks policy on the tenant, or on the application if no tenant is named.
fn authorize_consent<A: On<ApplicationId> + On<TenantName>>(
    common: &HandlerDependencies,
    context: &CallContext,
    application: &ApplicationId,
    tenant: Option<&TenantName>,
) -> Result<AuthorizedConsentScope<A>, Failure> {
    Ok(match tenant {
        Some(tenant) => AuthorizedConsentScope::Tenant(common.authorize(context, tenant.clone())?),
        None => {
            AuthorizedConsentScope::Application(common.authorize(context, application.clone())?)
        }
    })
}

/// Parses the name of a tenant of the application; an empty text is no tenant.
#[expect(
    clippy::option_option,
    reason = "the outer option says whether the field is valid, the inner one whether it is set"
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
    let problem = "must be a tenant of the application in `application`";
    checks.note("tenant", if under { Ok(Some(name)) } else { Err(problem) })
}

/// Checks a user name; an empty text is no user name.
#[expect(
    clippy::option_option,
    reason = "the outer option says whether the field is valid, the inner one whether it is set"
)]
fn user_name(checks: &mut Checks, field: &str, text: String) -> Option<Option<String>> {
    if text.is_empty() {
        return Some(None);
    }
    let printable = text.trim() == text && !text.chars().any(char::is_control);
    let fits = printable && text.len() <= MAX_USER_NAME_BYTES;
    let problem =
        format!("at most {MAX_USER_NAME_BYTES} printable bytes without white space at the ends");
    checks.note(field, if fits { Ok(Some(text)) } else { Err(problem) })
}

/// Checks a state or a code from SuperOffice's redirect.
fn secret(checks: &mut Checks, field: &str, text: String) -> Option<SecretString> {
    let text = SecretString::from(text);
    let fits = (1..=MAX_SECRET_BYTES).contains(&text.expose_secret().len());
    let problem = format!("must be the value from the redirect URI, 1 to {MAX_SECRET_BYTES} bytes");
    checks.note(field, if fits { Ok(text) } else { Err(problem) })
}
