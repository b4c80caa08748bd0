//! `WatchAccessToken`: the person's current token, then each new one before it expires.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    context::CallContext,
    convert,
    failure::Failure,
    handler_dependencies::HandlerDependencies,
    pb,
    person::{MAX_ATTEMPTS, PersonRequest, name_keeps_changing},
    watch::Watch,
};
use crate::{
    access::{Authorized, GrantResource, IssueAccessToken},
    broker::{Impersonation, IssuedAccessToken, TenantChanges},
    domain::{PersonSelector, TenantName},
};

/// An open stream.
pub(super) struct AccessTokenWatch {
    common: Arc<HandlerDependencies>,
    impersonation: Arc<Impersonation>,
    context: Arc<CallContext>,
    tenant: TenantName,
    subject: Option<PersonSelector>,
    /// The policy decision of the call, which is used for the first message.
    initial_decision: Option<Authorized<IssueAccessToken, GrantResource>>,
    changes: TenantChanges,
    sent: Option<IssuedAccessToken>,
    /// The token of the first message, read before the call was answered.
    first: Option<IssuedAccessToken>,
}

impl AccessTokenWatch {
    pub(super) fn new(
        common: Arc<HandlerDependencies>,
        impersonation: Arc<Impersonation>,
        context: Arc<CallContext>,
        initial_decision: Authorized<IssueAccessToken, GrantResource>,
        subject: &PersonRequest,
    ) -> Self {
        let tenant = initial_decision.resource().tenant.clone();
        let subject = subject.in_tenant(&tenant).cloned();
        // Subscribed before the first read, so that no change is missed.
        let changes = impersonation.changes(&tenant);
        let initial_decision = Some(initial_decision);
        Self {
            common,
            impersonation,
            context,
            tenant,
            subject,
            initial_decision,
            changes,
            sent: None,
            first: None,
        }
    }

    async fn token(&mut self) -> Result<IssuedAccessToken, Failure> {
        let impersonation = &self.impersonation;
        for _ in 0..MAX_ATTEMPTS {
            let authorized = match (self.initial_decision.take(), &self.subject) {
                (Some(decision), _) => decision,
                (None, Some(subject)) => {
                    let found = impersonation.find(&self.tenant, subject).await?;
                    self.common.authorize(&self.context, found)?
                }
                (None, None) => {
                    return Err(Failure::invalid("grant", "not a grant of the tenant in `tenant`"));
                }
            };
            if let Some(token) = impersonation.issue(&authorized, Duration::ZERO).await? {
                self.context.notes.set_credential(&token.token.credential_id);
                return Ok(token);
            }
            self.context.notes.discard();
        }
        Err(name_keeps_changing())
    }
}

impl Watch for AccessTokenWatch {
    type Message = pb::WatchAccessTokenResponse;

    fn open(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        async {
            self.first = Some(self.token().await?);
            Ok(())
        }
        .boxed()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Self::Message, Failure>> {
        async {
            loop {
                if self.sent.is_some() {
                    self.changes.wait().await;
                }
                let token = match self.first.take() {
                    Some(first) => first,
                    None => self.token().await?,
                };
                if !self.sent.as_ref().is_some_and(|sent| sent.same_as(&token)) {
                    let message = convert::access_token(&token);
                    self.sent = Some(token);
                    return Ok(pb::WatchAccessTokenResponse { token: Some(message) });
                }
                // The token is unchanged and not sent, so there is no audit event.
                self.context.notes.discard();
            }
        }
        .boxed()
    }
}
