//! `envoy.service.auth.v3.Authorization`: a proxy holds a request to a tenant's Web API and asks whether it may go on.
//!
//! The proxy has to prove who it is, as every caller does, and needs `checkExternally`; only then what it tells of
//! the request is looked at (DESIGN rule 6.11). Who sent the request is proven as on our own listeners: by the token
//! in it, or by the certificate that the proxy has verified. The answer changes the request into the one that was
//! decided on, with the credential in it. That the proxy sends it to the tenant's host and nowhere else is its
//! configuration's doing, of which the route tells us (`api_host`).

mod answer;
mod reported_headers;

use std::{net::IpAddr, sync::Arc};

use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, PROXY_AUTHORIZATION},
};
use tonic::{Code, Request, Response, Status};

use self::reported_headers::{Unreadable, reported_headers};
use super::{
    Services,
    envoy_pb::{
        CheckRequest, CheckResponse,
        attribute_context::Peer,
        authorization_server::{self, Authorization},
        core::address::Address,
    },
    failure::Failure,
    layer::Context,
    request::{answer, calling_method, open},
    trail::Audit,
};
use crate::{
    access::{
        Acting, Authorized, Bearer, Caller, Calling, CheckExternally, Gateway, NotAdmitted,
        Presented, RevealApplicationToken,
    },
    broker::{ACT_AS, GatewayHeaders, Lent, method_override},
    domain::{ApiPath, TenantName},
};

/// Its full name.
pub(super) const NAME: &str = authorization_server::SERVICE_NAME;

/// Where the route tells to which host, and port if it is not 443, the proxy sends the request: a context extension.
const API_HOST: &str = "api_host";

/// The service.
pub(super) struct Authorizations(pub(super) Arc<Services>);

/// What the proxy tells of the request that it holds.
struct Held {
    /// The name of the sender's certificate, as the proxy tells it, and the certificate as PEM.
    principal: String,
    certificate: String,
    /// Where the request comes from.
    client: IpAddr,
    method: String,
    path: String,
    headers: HeaderMap,
    /// Why the headers above are not those of the request. The request is refused once its caller is known.
    unreadable: Option<Unreadable>,
    api_host: String,
}

/// What is decided on: an event of it is written also if the proxy does not wait.
struct Checked {
    context: Context,
    audit: Arc<Audit>,
}

impl Drop for Checked {
    fn drop(&mut self) {
        self.audit.keep_unanswered(&self.context);
    }
}

impl Authorizations {
    async fn check(
        &self,
        proxy: &Context,
        request: CheckRequest,
    ) -> Result<CheckResponse, Failure> {
        let _: Authorized<CheckExternally, _> = self.0.authorize(proxy, Gateway)?;
        let held = Held::read(request, proxy.client());
        let caller = match self.caller(&held).await {
            Ok(caller) => caller,
            Err(not_admitted) => return Ok(self.turned_away(proxy, &held, not_admitted)),
        };
        let context = proxy.on_behalf_of(caller, held.client, &held.headers);
        let checked = Checked { context, audit: Arc::clone(&self.0.audit) };
        let mut outcome = self.decide(proxy, &checked.context, &held).await;
        let (code, reason) = match &outcome {
            Ok(_) => (Code::Ok, None),
            Err(failure) => (failure.code(), Some(failure.reason())),
        };
        // An answer that cannot be written down is none.
        if let Err(failure) = self.0.audit.keep(&checked.context, code, reason).await {
            outcome = Err(failure);
        }
        tell(&checked.context, outcome.as_ref().err());
        Ok(outcome.unwrap_or_else(|failure| answer::denied(&failure, &proxy.request_id)))
    }

    /// Who sent the request. It counts against that caller, and a refusal against where it comes from.
    async fn caller(&self, held: &Held) -> Result<Caller, NotAdmitted> {
        // As on the egress listener: a library may insist on an `Authorization` of its own.
        let proxy = held.headers.contains_key(PROXY_AUTHORIZATION);
        let name = if proxy { PROXY_AUTHORIZATION } else { AUTHORIZATION };
        let values = held.headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let certificate =
            self.0.access.reported_certificate(&held.principal, &held.certificate).transpose();
        let presented =
            Presented { bearer: Bearer::from_values(values), certificate: certificate.as_ref() };
        self.0.access.admit(&presented, held.client).await
    }

    fn turned_away(
        &self,
        proxy: &Context,
        held: &Held,
        not_admitted: NotAdmitted,
    ) -> CheckResponse {
        let caller = match &not_admitted {
            NotAdmitted::OverQuota { caller, .. } => caller.clone(),
            NotAdmitted::Unauthenticated(_) | NotAdmitted::Distrusted | NotAdmitted::Slowed(_) => {
                self.0.audit.attempts.count_address(held.client);
                Caller::nobody()
            }
            NotAdmitted::KeysUnavailable { .. } => Caller::nobody(),
        };
        let context = proxy.on_behalf_of(caller, held.client, &held.headers);
        let failure = not_admitted.into();
        tell(&context, Some(&failure));
        answer::denied(&failure, &proxy.request_id)
    }

    /// Decides as the other doors do, and then whether the proxy may be given the credential.
    async fn decide(
        &self,
        proxy: &Context,
        checked: &Context,
        held: &Held,
    ) -> Result<CheckResponse, Failure> {
        if let Some(unreadable) = &held.unreadable {
            return Err(unreadable.clone().into());
        }
        let (tenant, path) = held.target()?;
        let method = calling_method(&held.method)
            .ok_or_else(|| Failure::invalid("method", "wanted a method of HTTP, such as GET"))?;
        if let Some(name) = method_override(&method, &held.headers) {
            let problem = "the request is not sent on as another method: send it with that method instead of POST";
            return Err(Failure::invalid(name, problem));
        }
        let asked = GatewayHeaders::read(&held.headers)
            .map_err(|problem| Failure::invalid(problem.name(), problem.to_string()))?;
        checked.notes.reason(asked.reason);
        let call = Calling { on: tenant, method, path };
        let acting = self.0.act(checked, call, asked.eyes, ACT_AS).await?;
        // With the ticket goes the client secret, which the proxy then holds.
        let reveal: Option<Authorized<RevealApplicationToken, _>> = match &acting {
            Acting::SystemUser(_) => Some(self.0.authorize(proxy, acting.tenant().clone())?),
            Acting::Person(_) => None,
        };
        let patience = Some(checked.patience);
        let lent = self.0.egress.lend(&acting, reveal.as_ref(), &held.api_host, patience).await?;
        checked.notes.credential(&lent.credential_id);
        let Lent { headers, path_and_query, .. } = &lent;
        answer::allowed(headers, path_and_query, &held.headers)
    }
}

impl Held {
    /// Reads what the proxy tells. `proxy` is where the proxy is.
    fn read(request: CheckRequest, proxy: IpAddr) -> Self {
        let attributes = request.attributes.unwrap_or_default();
        let source = attributes.source.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
        let (headers, unreadable) = reported_headers(&http);
        let mut extensions = attributes.context_extensions;
        Self {
            client: client(&source).unwrap_or(proxy),
            principal: source.principal.clone(),
            certificate: source.certificate.clone(),
            method: http.method,
            path: http.path,
            headers,
            unreadable,
            api_host: extensions.remove(API_HOST).unwrap_or_default(),
        }
    }

    /// `/{application}/{tenant}/api/…`, as on the egress listener.
    fn target(&self) -> Result<(TenantName, ApiPath), Failure> {
        let wanted =
            "wanted /{application}/{tenant}/api/…, such as /crm-sync/Cust12345/api/v1/Contact/12";
        let wanted = || Failure::invalid("path", wanted);
        let (application, rest) =
            self.path.strip_prefix('/').and_then(|path| path.split_once('/')).ok_or_else(wanted)?;
        let end = rest.find('/').ok_or_else(wanted)?;
        let (tenant, path) = rest.split_at(end);
        let (application, tenant) =
            application.parse().ok().zip(tenant.parse().ok()).ok_or_else(wanted)?;
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

/// The line in the log. The one of the call itself tells of the proxy.
fn tell(context: &Context, failure: Option<&Failure>) {
    tracing::info!(
        reason = failure.map(|failure| failure.reason().as_str()),
        cause = failure.and_then(Failure::cause),
        caller = (!context.caller.is_nobody()).then(|| context.caller.id()),
        caller_certificate = context.caller.certificate(),
        client_address = %context.client_text.to_string(),
        tenant = context.tenant().map(tracing::field::display),
        request_id = &*context.request_id,
        "a request was checked for a proxy"
    );
}

#[tonic::async_trait]
impl Authorization for Authorizations {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let (context, _, request) = open(request)?;
        answer(&context, Self::check(self, &context, request).await)
    }
}

/// What the fuzz target sees of a question: whom the peer's certificate names, the path, and where that leads.
#[cfg(fuzzing)]
pub(crate) fn read_question(
    question: &[u8],
) -> Option<(Option<String>, String, Option<(TenantName, ApiPath)>)> {
    let request = prost::Message::decode(question).ok()?;
    let held = Held::read(request, IpAddr::from([127, 0, 0, 1]));
    let _ = GatewayHeaders::read(&held.headers);
    let target = held.target().ok();
    let rules = crate::access::CertificateRules::default();
    let peer = crate::access::PeerCertificate::reported(&held.principal, &held.certificate, &rules)
        .ok()
        .flatten();
    Some((peer.map(|peer| peer.id().to_owned()), held.path, target))
}
