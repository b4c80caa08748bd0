//! Outbound: the HTTP client of SuperOffice CRM Online (<https://docs.superoffice.com>).

mod call_limiter;
mod client;
mod credentials;
mod fault;
mod id_token;
mod json_repair;
mod jwks;
mod jwt;
mod login_host;
mod login_host_check;
mod notification;
mod oauth;
mod people;
mod principal;
mod refusal;
mod registration;
mod skew;
mod system_user;
mod tenant_status;
mod ticket_jwt;
mod web_api;

use std::sync::Arc;

pub use self::{
    client::{Client, ClientOptions},
    credentials::Credentials,
    login_host::LoginHost,
    login_host_check::{Discovery, LoginHostCheck, LoginHostReport},
    people::{
        ASSOCIATE_COLUMNS, PeopleRequests, ROLE_COLUMNS, read_associates, read_associates_by_id,
        read_principal, read_roles, read_user_groups,
    },
    registration::Registration,
    skew::CLOCK_ALARM,
};
use self::{id_token::IdTokenValidator, jwks::CachedJwks};
#[cfg(fuzzing)]
pub(crate) use self::{
    id_token::{
        Expected, read_header as read_id_token_header, validate_with_key as validate_id_token,
    },
    jwks::JwkSet,
    oauth::{TokenResponse, new_refresh_token},
    system_user::signed_token,
    tenant_status::read_status,
    ticket_jwt::{read_header, validate_with_key},
};
use crate::{
    domain::AllowedApiHosts,
    ports::{Clock, Random},
};

/// The SuperOffice client of one application: tickets, tenant status, ticket probes, OAuth and the Web API.
pub struct SuperOffice {
    client: Client,
    login: Arc<LoginHost>,
    credentials: Credentials,
    allowed_api_hosts: AllowedApiHosts,
    keys: Arc<CachedJwks>,
    id_tokens: Arc<IdTokenValidator>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl SuperOffice {
    /// Creates a client without connecting. `allowed_api_hosts` are the hosts that tenant status may name.
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
        let keys = Arc::new(CachedJwks::new(Arc::clone(&login), Arc::clone(&clock)));
        let id_tokens =
            IdTokenValidator { registration, keys: Arc::clone(&keys), clock: Arc::clone(&clock) };
        let id_tokens = Arc::new(id_tokens);
        Self { client, login, credentials, allowed_api_hosts, keys, id_tokens, clock, random }
    }
}
