//! Outbound: SuperOffice Online, spoken to over HTTP (SUPEROFFICE.md).

mod client;
mod credentials;
mod diagnosis;
mod fault;
mod gate;
mod id_token;
mod jwks;
mod jwt;
mod lenient;
mod login_host;
mod notification;
mod oauth;
mod people;
mod principal;
mod refusal;
mod skew;
mod system_user;
mod tenant_status;
mod ticket_jwt;
mod web_api;

use std::sync::Arc;

pub use self::{
    client::{Client, ClientOptions},
    credentials::Credentials,
    diagnosis::{Diagnosis, Discovery, Reached},
    login_host::LoginHost,
    oauth::Registration,
    people::{
        ASSOCIATE_COLUMNS, PeopleQuestions, ROLE_COLUMNS, read_associates, read_associates_by_id,
        read_principal, read_roles, read_user_groups,
    },
    skew::CLOCK_ALARM,
};
use self::{id_token::IdTokens, jwks::KeySet};
#[cfg(fuzzing)]
pub(crate) use self::{
    id_token::{Expected, open_with as open_id_token, read_header as read_id_token_header},
    jwks::Keys,
    oauth::{Granted, new_refresh_token},
    system_user::signed_token,
    tenant_status::read_status,
    ticket_jwt::{open_with, read_header},
};
use crate::{
    domain::AllowedApiHosts,
    ports::{Clock, Random},
};

/// The way to SuperOffice of one application: implements the ports for tickets, status, probes, people's
/// tokens and the Web API.
pub struct SuperOffice {
    client: Client,
    login: Arc<LoginHost>,
    credentials: Credentials,
    allowed_api_hosts: AllowedApiHosts,
    keys: Arc<KeySet>,
    id_tokens: Arc<IdTokens>,
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
        registration: Registration,
        allowed_api_hosts: AllowedApiHosts,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let keys = Arc::new(KeySet::new(Arc::clone(&login), Arc::clone(&clock)));
        let id_tokens =
            IdTokens { registration, keys: Arc::clone(&keys), clock: Arc::clone(&clock) };
        let id_tokens = Arc::new(id_tokens);
        Self { client, login, credentials, allowed_api_hosts, keys, id_tokens, clock, random }
    }
}
