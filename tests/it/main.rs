//! The gateway over real gRPC, against a simulated SuperOffice over real HTTP. One test a promise, named as it.
#![cfg(test)]

mod support;

mod applications;
mod associates;
mod audit;
mod audit_commands;
mod audit_service;
mod bad_input;
mod call;
mod callers;
mod canary;
mod canary_people;
mod check;
mod commands;
mod configuration;
mod consent;
mod crashes;
mod egress;
mod egress_bodies;
mod egress_http2;
mod egress_input;
mod ext_authz;
mod fault_matrix;
mod grant_commands;
mod http_listener;
mod impersonation;
mod login_host;
mod oauth;
mod permissions;
mod person_faults;
mod policy;
mod process;
mod quotas;
mod rejected;
mod rotation;
mod server;
mod store_faults;
mod tenant_filter;
mod tenants;
mod tickets;
mod tls;
mod upstream;
mod watches;
mod web_api;
mod webhooks;
