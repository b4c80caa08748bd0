//! A refresh token that is not kept is revoked at SuperOffice: nobody knows of it any more, and it would live on.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;

use super::Shared;
use crate::broker::Application;

/// How often it is tried, and how long is waited in between.
const WAITS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];

impl Shared {
    /// Revokes it, as far as SuperOffice can be reached. Nobody waits for that.
    pub(super) fn revoke(self: &Arc<Self>, application: &Arc<Application>, token: SecretString) {
        let (shared, application) = (Arc::clone(self), Arc::clone(application));
        let work = async move { shared.revoke_now(&application, &token).await };
        self.tasks.spawn_on(work, &self.runtime);
    }

    async fn revoke_now(&self, application: &Application, token: &SecretString) {
        let application_id = &application.id;
        for wait in WAITS {
            if !wait.is_zero() {
                self.clock.sleep(wait).await;
            }
            match application.oauth.revoke(token).await {
                Ok(()) => {
                    tracing::info!(application = %application_id, "a refresh token that is not kept was revoked");
                    return;
                }
                Err(error) => {
                    tracing::warn!(application = %application_id, %error, "a refresh token that is not kept is not revoked");
                }
            }
        }
        tracing::error!(
            application = %application_id,
            "a refresh token that is not kept lives on at SuperOffice; nobody has it, and the customer can revoke the \
             application's access"
        );
    }
}
