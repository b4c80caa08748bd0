//! Starts and stops the simulated service.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use tokio::net::TcpListener;

use crate::api::ApiService;
use crate::control::{Control, ControlService};
use crate::endpoint::ApiHost;
use crate::keys::SigningKey;
use crate::login::LoginService;
use crate::net::{Tasks, listen};
use crate::options::{Options, StartError};
use crate::platform::{Addresses, Platform};
use crate::webhooks;

/// A running simulated service. Dropping it stops it; [`shutdown`](Self::shutdown) also waits.
///
/// It dereferences to its [`Control`].
#[derive(Debug)]
pub struct Sandbox {
    control: Control,
    tasks: Tasks,
}

impl Sandbox {
    /// Opens the listeners and starts to serve. The service is empty at first: add applications and
    /// tenants through [`control`](Self::control), or add demonstration data with
    /// [`demo`](crate::demo).
    ///
    /// # Errors
    ///
    /// When a listener cannot be opened, or no signing key can be generated.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let key = tokio::task::spawn_blocking(SigningKey::generate)
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(StartError::SigningKey)?;
        let (login, login_uri) = open_listener(options.login)?;
        let [first, second] = options.api;
        let (api_a, first_uri) = open_listener(first)?;
        let (api_b, second_uri) = open_listener(second)?;
        let (control, control_uri) = open_listener(options.control)?;
        let addresses =
            Addresses { login: login_uri, api: [first_uri, second_uri], control: control_uri };
        let page_key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| StartError::SigningKey)?;
        let platform = Arc::new(Platform::new(&options, addresses, key, page_key));

        let tasks = Tasks::default();
        tasks.serve(login, LoginService::new(Arc::clone(&platform)));
        tasks.serve(api_a, ApiService::new(Arc::clone(&platform), ApiHost::A));
        tasks.serve(api_b, ApiService::new(Arc::clone(&platform), ApiHost::B));
        tasks.run(webhooks::deliver(Arc::clone(&platform.webhooks), tasks.clone()));
        let handle = Control::new(platform);
        tasks.serve(control, ControlService::new(handle.clone()));
        Ok(Self { control: handle, tasks })
    }

    /// The handle that configures and inspects the service; cheap to clone.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Stops listening, closes every connection, and waits until all tasks have ended.
    pub async fn shutdown(self) {
        self.tasks.stop();
        self.tasks.stopped().await;
    }
}

impl Deref for Sandbox {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn open_listener(address: SocketAddr) -> Result<(TcpListener, String), StartError> {
    let opened = listen(address).and_then(|listener| {
        let actual = listener.local_addr()?;
        Ok((listener, format!("http://{actual}")))
    });
    opened.map_err(|source| StartError::Listen { address, source })
}
