//! `envoy.service.auth.v3.Authorization`: a proxy holds a request to a tenant's Web API and asks for permission.
//!
//! The proxy must authenticate like every caller and needs `checkExternally`; its report of the request is read only
//! after that. The request's own caller is authenticated as on our listeners: by the token in the request, or by the
//! certificate that the proxy has verified. The answer rewrites the request to the authorized form and adds the
//! credential. The configuration of the proxy must route the request only to the tenant's host; the route reports
//! that host (`api_host`).

mod check_response;
mod reported_headers;

use std::{net::IpAddr, sync::Arc};

use http::HeaderMap;
use tonic::{Request, Response, Status};

use self::reported_headers::{HeaderProblem, reported_headers};
use super::{
    answer::answer,
    audit_guard::AuditGuard,
    context::CallContext,
    envoy_pb::{
        CheckRequest, CheckResponse,
        attribute_context::Peer,
        authorization_server::{self, Authorization},
        core::address::Address,
    },
    failure::Failure,
    handler_dependencies::HandlerDependencies,
    request::{parse_method, split_request},
};
use crate::{
    access::{
        AdmissionError, Authorized, AuthorizedCall, Bearer, Caller, CheckExternally, Gateway,
        PresentedCredentials, RequestedCall, RevealApplicationToken,
    },
    broker::{ACT_AS, Egress, GatewayHeaders, IssuedProxyCredential, method_override},
    domain::{ApiPath, TenantName},
};

/// The full name of the service.
pub(super) const NAME: &str = authorization_server::SERVICE_NAME;

/// The context extension in which the route reports the upstream host, and the port if it is not 443.
const API_HOST: &str = "api_host";

/// The handler of the service.
pub struct ExtAuthzHandler {
    /// The dependencies that all handlers share.
    pub common: Arc<HandlerDependencies>,
    /// Makes Web API calls for callers.
    pub egress: Arc<Egress>,
}

/// The request that the proxy holds, as the proxy reports it.
struct CheckedRequest {
    /// The name in the client certificate, as the proxy reports it, and the certificate as PEM.
    principal: String,
    certificate: String,
    /// The address of the client.
    client: IpAddr,
    method: String,
    path: String,
    headers: HeaderMap,
    /// A header that could not be parsed. The request is refused after its caller is known.
    invalid_header: Option<HeaderProblem>,
    api_host: String,
}

impl ExtAuthzHandler {
    async fn check(
        &self,
        proxy: &CallContext,
        request: CheckRequest,
    ) -> Result<CheckResponse, Failure> {
        let _: Authorized<CheckExternally, _> = self.common.authorize(proxy, Gateway)?;
        let held = CheckedRequest::read(request, proxy.client);
        let caller = match self.caller(&held).await {
            Ok(caller) => caller,
            Err(not_admitted) => return Ok(self.reject(proxy, &held, not_admitted)),
        };
        let context = Arc::new(proxy.on_behalf_of(caller, held.client, &held.headers));
        let guard = AuditGuard { context, audit: Arc::clone(&self.common.audit) };
        let context = &guard.context;
        // Without its audit event, a permission must not be returned.
        let outcome = guard.write_outcome(self.decide(proxy, context, &held).await).await;
        log_check(context, outcome.as_ref().err());
        Ok(outcome.unwrap_or_else(|failure| check_response::denied(&failure, &proxy.request_id)))
    }

    /// Authenticates the caller of the request. Calls count for that caller, failed attempts for the client address.
    async fn caller(&self, held: &CheckedRequest) -> Result<Caller, AdmissionError> {
        let certificate = self
            .common
            .access
            .forwarded_certificate(&held.principal, &held.certificate)
            .transpose();
        let presented = PresentedCredentials {
            bearer: Bearer::from_forwarded_call(&held.headers),
            certificate: certificate.as_ref(),
        };
        self.common.access.admit(&presented, held.client).await
    }

    fn reject(
        &self,
        proxy: &CallContext,
        held: &CheckedRequest,
        not_admitted: AdmissionError,
    ) -> CheckResponse {
        let caller = not_admitted.caller().cloned().unwrap_or_else(Caller::unauthenticated);
        if not_admitted.is_failed_attempt() {
            self.common.audit.attempts.count_address(held.client);
        }
        let context = proxy.on_behalf_of(caller, held.client, &held.headers);
        let failure = not_admitted.into();
        log_check(&context, Some(&failure));
        check_response::denied(&failure, &proxy.request_id)
    }

    /// Authorizes the request like the other Web API endpoints, then gets the credential for the proxy.
    async fn decide(
        &self,
        proxy: &CallContext,
        context: &CallContext,
        held: &CheckedRequest,
    ) -> Result<CheckResponse, Failure> {
        if let Some(invalid_header) = &held.invalid_header {
            return Err(invalid_header.clone().into());
        }
        let (tenant, path) = held.target()?;
        let method = parse_method(&held.method)
            .ok_or_else(|| Failure::invalid("method", "must be an HTTP method, such as GET"))?;
        if let Some(name) = method_override(&method, &held.headers) {
            let problem = "method overrides are not supported: send the request with that method instead of POST";
            return Err(Failure::invalid(name, problem));
        }
        let GatewayHeaders { actor, reason, .. } = GatewayHeaders::read(&held.headers)
            .map_err(|problem| Failure::invalid(problem.name(), problem.to_string()))?;
        context.notes.set_reason(reason);
        let call = RequestedCall { target: tenant, method, path };
        let authorized =
            self.common.authorize_web_api_call(&self.egress, context, call, actor, ACT_AS).await?;
        // A ticket is useful only with the client secret, which the proxy then receives too.
        let reveal: Option<Authorized<RevealApplicationToken, _>> = match &authorized {
            AuthorizedCall::SystemUser(_) => {
                Some(self.common.authorize(proxy, authorized.tenant().clone())?)
            }
            AuthorizedCall::Person(_) => None,
        };
        let IssuedProxyCredential { headers, path_and_query, credential_id } = self
            .egress
            .issue_for_proxy(&authorized, reveal.as_ref(), &held.api_host, Some(context.max_wait))
            .await?;
        context.notes.set_credential(&credential_id);
        check_response::allowed(&headers, &path_and_query, &held.headers)
    }
}

impl CheckedRequest {
    /// Reads the report. `proxy` is the proxy's address.
    fn read(request: CheckRequest, proxy: IpAddr) -> Self {
        let attributes = request.attributes.unwrap_or_default();
        let source = attributes.source.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
        let (headers, invalid_header) = reported_headers(&http);
        let mut extensions = attributes.context_extensions;
        Self {
            client: client(&source).unwrap_or(proxy),
            principal: source.principal.clone(),
            certificate: source.certificate.clone(),
            method: http.method,
            path: http.path,
            headers,
            invalid_header,
            api_host: extensions.remove(API_HOST).unwrap_or_default(),
        }
    }

    /// Parses `/{application}/{tenant}/api/…`, as on the egress listener.
    fn target(&self) -> Result<(TenantName, ApiPath), Failure> {
        let expected =
            "must be /{application}/{tenant}/api/…, such as /crm-sync/Cust12345/api/v1/Contact/12";
        let invalid = || Failure::invalid("path", expected);
        let (application, rest) = self
            .path
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .ok_or_else(invalid)?;
        let end = rest.find('/').ok_or_else(invalid)?;
        let (tenant, path) = rest.split_at(end);
        let (application, tenant) =
            application.parse().ok().zip(tenant.parse().ok()).ok_or_else(invalid)?;
        let path = ApiPath::parse(path)
            .map_err(|problem| Failure::invalid("path", problem.to_string()))?;
        Ok((TenantName { application, tenant }, path))
    }
}

fn client(peer: &Peer) -> Option<IpAddr> {
    match peer.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => socket.address.parse().ok(),
        Address::Pipe(_) => None,
    }
}

/// Logs the check. The log line of the gRPC call itself is about the proxy. A permitted request is logged at `debug`,
/// because the audit trail has it.
fn log_check(context: &CallContext, failure: Option<&Failure>) {
    macro_rules! log {
        ($level:expr) => {
            tracing::event!(
                $level,
                reason = failure.map(|failure| failure.reason().as_str()),
                cause = failure.and_then(Failure::cause),
                caller = (!context.caller().is_unauthenticated()).then(|| context.caller().id()),
                caller_certificate = context.caller().certificate(),
                client_address = &*context.client_text,
                tenant = context.tenant().map(tracing::field::display),
                request_id = &*context.request_id,
                "a request was checked for a proxy"
            )
        };
    }
    if failure.is_some() {
        log!(tracing::Level::INFO);
    } else {
        log!(tracing::Level::DEBUG);
    }
}

#[tonic::async_trait]
impl Authorization for ExtAuthzHandler {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let (context, _, request) = split_request(request)?;
        answer(&context, Self::check(self, &context, request).await)
    }
}

/// Parses a check request for the fuzz target: the id in the peer's certificate, the path, and its tenant and API path.
#[cfg(fuzzing)]
pub(crate) fn read_check_request(
    message: &[u8],
) -> Option<(Option<String>, String, Option<(TenantName, ApiPath)>)> {
    let request = prost::Message::decode(message).ok()?;
    let held = CheckedRequest::read(request, IpAddr::from([127, 0, 0, 1]));
    let _ = GatewayHeaders::read(&held.headers);
    let target = held.target().ok();
    let rules = crate::access::CertificateRules::default();
    let peer =
        crate::access::PeerCertificate::forwarded(&held.principal, &held.certificate, &rules)
            .ok()
            .flatten();
    Some((peer.map(|peer| peer.id().to_owned()), held.path, target))
}
