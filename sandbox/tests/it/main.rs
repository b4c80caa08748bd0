//! Tests of the simulated service over real HTTP, one test for each promise.
#![expect(clippy::disallowed_methods, reason = "tests use an ordinary HTTP client")]

#[cfg(test)]
mod access;
#[cfg(test)]
mod approvals;
#[cfg(test)]
mod control_port;
#[cfg(test)]
mod counts;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod id_token;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod lost_answers;
#[cfg(test)]
mod people;
#[cfg(test)]
mod people_agents;
#[cfg(test)]
mod people_faults;
#[cfg(test)]
mod person;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod sign_in;
#[cfg(test)]
mod sign_in_control;
#[cfg(test)]
mod state_changes;
#[cfg(test)]
mod status;
#[cfg(test)]
mod tickets;
#[cfg(test)]
mod token_endpoint;
#[cfg(test)]
mod token_faults;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod web_api;
#[cfg(test)]
mod webhooks;
