//! `WatchAccessToken`: the person's token now, and the next before it expires.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    Services, convert,
    failure::Failure,
    impersonation::{MAX_DECISIONS, renamed},
    layer::Context,
    pb,
    person::AskedSubject,
    watch::Watch,
};
use crate::{
    access::{Authorized, GrantResource, IssueAccessToken},
    broker::{HandedOutAccessToken, TenantChanges},
    domain::{Subject, TenantName},
};

/// One open stream.
pub(super) struct AccessTokenWatch {
    services: Arc<Services>,
    context: Arc<Context>,
    tenant: TenantName,
    subject: Option<Subject>,
    /// The decision that began the stream: that of the first message.
    begun: Option<Authorized<IssueAccessToken, GrantResource>>,
    changes: TenantChanges,
    sent: Option<HandedOutAccessToken>,
    /// The first message, had before the call was answered.
    first: Option<HandedOutAccessToken>,
}

impl AccessTokenWatch {
    pub(super) fn new(
        services: Arc<Services>,
        context: Arc<Context>,
        begun: Authorized<IssueAccessToken, GrantResource>,
        subject: &AskedSubject,
    ) -> Self {
        let tenant = begun.resource().tenant.clone();
        let subject = subject.in_tenant(&tenant);
        // Before the first look: what changes after it is not missed.
        let changes = services.impersonation.changes(&tenant);
        let begun = Some(begun);
        Self { services, context, tenant, subject, begun, changes, sent: None, first: None }
    }

    async fn token(&mut self) -> Result<HandedOutAccessToken, Failure> {
        let impersonation = &self.services.impersonation;
        for _ in 0..MAX_DECISIONS {
            let authorized = match (self.begun.take(), &self.subject) {
                (Some(begun), _) => begun,
                (None, Some(subject)) => {
                    let found = impersonation.find(&self.tenant, subject).await?;
                    self.services.authorize(&self.context, found)?
                }
                (None, None) => return Err(Failure::invalid("grant", "not a grant of tenant")),
            };
            if let Some(token) = impersonation.issue(&authorized, Duration::ZERO).await? {
                self.context.notes.credential(&token.token.credential_id);
                return Ok(token);
            }
            self.context.notes.forget();
        }
        Err(renamed())
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
                // Looked and handed out nothing: no event, and nothing to remember until there is one.
                self.context.notes.forget();
            }
        }
        .boxed()
    }
}
