//! Tests of the gateway over real gRPC, with a simulated SuperOffice over real HTTP. Each test checks one promise and
//! has its name.
#![cfg(test)]
#![expect(clippy::too_many_lines, reason = "tests with tables of cases are long")]

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
mod cancelled;
mod check;
mod clocks;
mod commands;
mod compression;
mod configuration;
mod consent;
mod contract;
mod crashes;
mod dead_hosts;
mod early_answers;
mod egress;
mod egress_bodies;
mod egress_heads;
mod egress_http2;
mod egress_input;
mod ext_authz;
mod fault_matrix;
mod file_encodings;
mod forwarded;
mod grant_commands;
mod http_listener;
mod impersonation;
mod login_host;
mod networks;
mod oauth;
mod operations;
mod permissions;
mod person_faults;
mod policy;
mod process;
mod quotas;
mod refusals;
mod rejected;
mod replay;
mod rotation;
mod server;
mod single_headers;
mod store_faults;
mod store_files;
mod tenant_filter;
mod tenants;
mod tickets;
mod tls;
mod trust;
mod unauthorized_clients;
mod unknown_outcome;
mod upstream;
mod watches;
mod web_api;
mod webhooks;
