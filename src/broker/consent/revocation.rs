//! Revocation of refresh tokens that are not stored: they would stay valid at SuperOffice although nothing uses them.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;

use super::Shared;
use crate::broker::Application;

/// The pauses before the attempts.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];

impl Shared {
    /// Starts the revocation of a token in the background. It fails if SuperOffice cannot be reached.
    pub(super) fn revoke(self: &Arc<Self>, application: &Arc<Application>, token: SecretString) {
        let (shared, application) = (Arc::clone(self), Arc::clone(application));
        let work = async move { shared.revoke_now(&application, &token).await };
        self.tasks.spawn_on(work, &self.handle);
    }

    async fn revoke_now(&self, application: &Application, token: &SecretString) {
        let application_id = &application.id;
        for wait in PAUSES {
            if !wait.is_zero() {
                self.clock.sleep(wait).await;
            }
            match application.oauth.revoke(token).await {
                Ok(()) => {
                    tracing::info!(application = %application_id, "a refresh token that is not stored was revoked");
                    return;
                }
                Err(error) => {
                    tracing::warn!(application = %application_id, %error, "a refresh token that is not stored could not be revoked");
                }
            }
        }
        tracing::error!(
            application = %application_id,
            "a refresh token that is not stored stays valid at SuperOffice; nothing uses it, and the customer can \
            revoke the application's access"
        );
    }
}
