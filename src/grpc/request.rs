//! Validates requests: checks all fields, and returns one error with all violations.

use std::{sync::Arc, time::Duration};

use http::Method;
use secrecy::SecretString;
use tonic::{Request, Status};
use tonic_types::FieldViolation;

use super::{context::CallContext, failure::Failure};
use crate::{
    access::{ActionName, Resource, is_web_api_method},
    broker::BrokerError,
    domain::{
        ApplicationId, AssociateSelector, ContextIdentifier, CredentialId, Field, Filter, Labels,
        ListScope, NameError, Order, SystemUserToken, TenantName, TenantSelector, application_name,
    },
    ports::PageTokens,
};

/// The default and the maximum number of items on a page.
const DEFAULT_PAGE_SIZE: u32 = 50;
const MAX_PAGE_SIZE: u32 = 1000;

/// The maximum length of the caller's reason, in characters.
const MAX_REASON_CHARS: usize = 256;

/// The maximum number of permissions in a request. There are fewer actions.
const MAX_PERMISSIONS: usize = 64;

/// The maximum length of a credential id. Those of the gateway are shorter.
const MAX_CREDENTIAL_ID_BYTES: usize = 256;

/// The metadata key of the maximum age of an answer, such as `30s`.
const MAX_STALENESS: &str = "gateway-max-staleness";

/// The parts of a request: the context that the layer has added, the metadata and the message.
pub(super) type RequestParts<T> = (Arc<CallContext>, tonic::metadata::MetadataMap, T);

/// Splits a request into its parts. Fails without a context, because the caller is then unknown.
pub(super) fn split_request<T>(request: Request<T>) -> Result<RequestParts<T>, Status> {
    let (metadata, mut extensions, message) = request.into_parts();
    let context = extensions.remove::<Arc<CallContext>>().ok_or_else(|| {
        let cause = "a call did not pass the layer that authenticates callers";
        tracing::error!(cause, "call refused");
        Failure::Broker(BrokerError::Internal(cause.into())).status("")
    })?;
    Ok((context, metadata, message))
}

/// Collects the violations of a request.
#[derive(Default)]
pub(super) struct Checks(Vec<FieldViolation>);

impl Checks {
    /// Returns all violations as a failure.
    pub(super) fn into_failure(self) -> Failure {
        Failure::Invalid(self.0)
    }

    pub(super) fn note<T>(&mut self, field: &str, result: Result<T, impl ToString>) -> Option<T> {
        result.map_err(|problem| self.0.push(FieldViolation::new(field, problem.to_string()))).ok()
    }

    pub(super) fn tenant_selector(&mut self, field: &str, text: &str) -> Option<TenantSelector> {
        self.note(field, text.parse::<TenantSelector>())
    }

    pub(super) fn tenant_name(&mut self, field: &str, text: &str) -> Option<TenantName> {
        self.note(field, text.parse::<TenantName>())
    }

    pub(super) fn associate_selector(
        &mut self,
        field: &str,
        text: &str,
    ) -> Option<AssociateSelector> {
        self.note(field, text.parse::<AssociateSelector>())
    }

    /// Parses an order by these fields.
    pub(super) fn order(
        &mut self,
        field: &str,
        text: &str,
        fields: &[&'static str],
    ) -> Option<Order> {
        self.note(field, Order::parse(text, fields))
    }

    pub(super) fn application_name(&mut self, field: &str, text: &str) -> Option<ApplicationId> {
        self.note(field, application_name(text))
    }

    /// Parses the name of a policy resource; empty is the gateway.
    pub(super) fn resource(&mut self, field: &str, text: &str) -> Option<Resource> {
        self.note(field, text.parse::<Resource>())
    }

    /// Parses the names of policy actions.
    pub(super) fn permissions(&mut self, field: &str, names: &[String]) -> Option<Vec<ActionName>> {
        if names.is_empty() || names.len() > MAX_PERMISSIONS {
            let problem = format!("1 to {MAX_PERMISSIONS} names of policy actions");
            return self.note(field, Err(problem));
        }
        let known = names.iter().enumerate().map(|(index, name)| {
            let problem = "not a policy action; docs/guides/policy.md lists them";
            self.note(&format!("{field}[{index}]"), ActionName::from_name(name).ok_or(problem))
        });
        // Checks all names first, so that the error lists every violation.
        known.collect::<Vec<_>>().into_iter().collect()
    }

    pub(super) fn list_scope(&mut self, field: &str, text: &str) -> Option<ListScope> {
        self.note(field, text.parse::<ListScope>())
    }

    pub(super) fn context_identifier(
        &mut self,
        field: &str,
        text: &str,
    ) -> Option<ContextIdentifier> {
        self.note(field, text.parse::<ContextIdentifier>().map_err(|_| NameError::Tenant))
    }

    pub(super) fn labels(
        &mut self,
        field: &str,
        labels: std::collections::HashMap<String, String>,
    ) -> Option<Labels> {
        self.note(field, Labels::new(labels.into_iter().collect()))
    }

    pub(super) fn system_user_token(
        &mut self,
        field: &str,
        text: String,
    ) -> Option<SystemUserToken> {
        self.note(field, SystemUserToken::new(&SecretString::from(text)))
    }

    /// Checks the caller's reason for the audit trail; it may be empty.
    pub(super) fn reason(&mut self, field: &str, text: String) -> Option<String> {
        let printable = !text.chars().any(char::is_control);
        let short = text.chars().take(MAX_REASON_CHARS + 1).count() <= MAX_REASON_CHARS;
        let problem = || format!("at most {MAX_REASON_CHARS} printable characters");
        self.note(field, if printable && short { Ok(text) } else { Err(problem()) })
    }

    /// Checks a duration from zero to `longest`; absent is zero.
    pub(super) fn duration(
        &mut self,
        field: &str,
        value: Option<prost_types::Duration>,
        longest: Duration,
    ) -> Option<Duration> {
        let Some(value) = value else { return Some(Duration::ZERO) };
        let read = read_duration(value).filter(|duration| *duration <= longest);
        let problem = || format!("from 0 to {} s", longest.as_secs());
        self.note(field, read.ok_or_else(problem))
    }

    pub(super) fn credential_id(&mut self, field: &str, text: &str) -> Option<CredentialId> {
        let id = CredentialId::from_text(text);
        let shaped = (id.is_ticket() || id.grant().is_some())
            && text.len() <= MAX_CREDENTIAL_ID_BYTES
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let problem = "must be the credential_id of an issued credential, such as t-… or a-…";
        self.note(field, if shaped { Ok(id) } else { Err(problem) })
    }

    /// Parses a filter on these fields.
    pub(super) fn filter(
        &mut self,
        field: &str,
        text: &str,
        schema: &'static [Field],
    ) -> Option<Filter> {
        self.note(field, Filter::parse(text, schema))
    }

    pub(super) fn page_size(&mut self, field: &str, size: i32) -> Option<u32> {
        let size = u32::try_from(size).map_err(|_| "must not be negative");
        self.note(field, size).map(|size| match size {
            0 => DEFAULT_PAGE_SIZE,
            size => size.min(MAX_PAGE_SIZE),
        })
    }

    /// Opens a page token of this query and parses its content; the inner `None` is the first page.
    #[expect(
        clippy::option_option,
        reason = "the outer option says whether the field is valid, the inner one whether it is set"
    )]
    pub(super) fn page_token<T: std::str::FromStr>(
        &mut self,
        field: &str,
        token: &str,
        tokens: &dyn PageTokens,
        query: &str,
    ) -> Option<Option<T>> {
        if token.is_empty() {
            return Some(None);
        }
        let opened = tokens.open(query, token).and_then(|bytes| String::from_utf8(bytes).ok());
        let after = opened.and_then(|text| text.parse().ok());
        let problem = "not a page token of this list: use the next_page_token of the same request";
        self.note(field, after.map(Some).ok_or(problem))
    }

    /// Parses the maximum staleness that the caller accepts, if it is set.
    #[expect(
        clippy::option_option,
        reason = "the outer option says whether the field is valid, the inner one whether it is set"
    )]
    pub(super) fn max_staleness(
        &mut self,
        metadata: &tonic::metadata::MetadataMap,
    ) -> Option<Option<Duration>> {
        let Some(value) = metadata.get(MAX_STALENESS) else { return Some(None) };
        let read = value.to_str().ok().and_then(|text| text.parse::<jiff::SignedDuration>().ok());
        let read = read.and_then(|duration| Duration::try_from(duration).ok());
        self.note(MAX_STALENESS, read.map(Some).ok_or("must be a duration such as 30s"))
    }
}

/// Parses a method that is supported for Web API calls.
pub(super) fn parse_method(text: &str) -> Option<Method> {
    Method::from_bytes(text.as_bytes()).ok().filter(is_web_api_method)
}

/// Converts a duration. `None` if it is negative or invalid (`google/protobuf/duration.proto`).
fn read_duration(value: prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(value.seconds).ok()?, nanos))
}
