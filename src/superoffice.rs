//! Outbound: SuperOffice Online, spoken to over HTTP (SUPEROFFICE.md).

mod client;
mod credentials;
mod diagnosis;
mod fault;
mod gate;
mod jwks;
mod login_host;
mod people;
mod principal;
mod refusal;
mod resolver;
mod skew;
mod system_user;
mod tenant_status;
mod ticket_jwt;
mod web_api;

use std::sync::Arc;

use self::jwks::KeySet;
pub use self::{
    client::{Client, ClientError, ClientOptions},
    credentials::Credentials,
    diagnosis::{Diagnosis, Discovery, Reached},
    fault::Fault,
    login_host::LoginHost,
    people::{
        ASSOCIATE_COLUMNS, PeopleQuestions, ROLE_COLUMNS, read_associates, read_associates_by_id,
        read_principal, read_roles, read_user_groups,
    },
    resolver::Unresolved,
    skew::CLOCK_ALARM,
};
#[cfg(fuzzing)]
pub(crate) use self::{
    jwks::Keys,
    system_user::signed_token,
    tenant_status::read_status,
    ticket_jwt::{open_with, read_header},
};
use crate::{
    domain::AllowedApiHosts,
    ports::{Clock, Random},
};

/// The way to SuperOffice of one application: implements the ports for tickets, status, probes and the Web API.
pub struct SuperOffice {
    client: Client,
    login: Arc<LoginHost>,
    credentials: Credentials,
    allowed_api_hosts: AllowedApiHosts,
    keys: KeySet,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl SuperOffice {
    /// Connects nothing yet. `allowed_api_hosts` are the hosts that tenant status may name.
    #[must_use]
    pub fn new(
        client: Client,
        login: Arc<LoginHost>,
        credentials: Credentials,
        allowed_api_hosts: AllowedApiHosts,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let keys = KeySet::new(Arc::clone(&login), Arc::clone(&clock));
        Self { client, login, credentials, allowed_api_hosts, keys, clock, random }
    }
}
