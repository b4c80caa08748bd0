//! Outbound: SuperOffice Online, spoken to over HTTP (SUPEROFFICE.md).

mod client;
mod jwks;
mod principal;
mod refusal;
mod resolver;
mod system_user;
mod tenant_status;
mod ticket_jwt;

use std::sync::Arc;

use secrecy::SecretString;

pub use self::client::{Client, ClientError, ClientOptions};
use self::jwks::KeySet;
use crate::{
    domain::AllowedApiHosts,
    ports::{Clock, Random, Signer},
};

/// The way to SuperOffice of one application: implements the ports for tickets, status and probes.
pub struct SuperOffice {
    client: Client,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    signer: Arc<dyn Signer>,
    login_uri: String,
    client_secret: SecretString,
    allowed_api_hosts: AllowedApiHosts,
    keys: KeySet,
}

/// What belongs to one application.
pub struct Credentials {
    /// The login host, without a trailing slash.
    pub login_uri: String,
    /// The client secret: also the value of `SO-AppToken`.
    pub client_secret: SecretString,
    /// Signs its system user tokens.
    pub signer: Arc<dyn Signer>,
    /// The hosts that tenant status may name.
    pub allowed_api_hosts: AllowedApiHosts,
}

impl SuperOffice {
    /// Connects nothing yet.
    #[must_use]
    pub fn new(
        client: Client,
        credentials: Credentials,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let Credentials { login_uri, client_secret, signer, allowed_api_hosts } = credentials;
        let keys = KeySet::new(client.clone(), &login_uri, Arc::clone(&clock), Arc::clone(&random));
        Self { client, clock, random, signer, login_uri, client_secret, allowed_api_hosts, keys }
    }
}
