//! Tests for every store: each promise of the store ports is a test with its name.
//!
//! An adapter implements [`StoreLocation`] and calls [`store_contract`], which generates a test for each promise. A
//! promise that is missing in the macro's lists is dead code, which the lints reject.

mod applications;
mod concurrency;
mod consents;
mod grants;
mod leases;
mod refreshing;
mod revoking;
mod state;
mod tenants;
mod tickets;
mod tokens;

pub(super) use self::{
    applications::*, concurrency::*, consents::*, grants::*, leases::*, refreshing::*, revoking::*,
    state::*, tenants::*, tickets::*, tokens::*,
};

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::{KnownApplication, KnownApplications};
use crate::{
    domain::{AllowedApiHosts, CredentialId, Environment, SystemTicket, Tenant, TenantName},
    ports::{
        ApplicationStore, ConsentStore, GrantStore, LeaseStore, SealError, SealedField, Sealer,
        StoreHealth, TenantStore, TicketStore,
    },
};

/// All ports that a store implements.
pub(super) trait Store:
    TenantStore + TicketStore + ApplicationStore + LeaseStore + GrantStore + ConsentStore + StoreHealth
{
}
impl<S> Store for S where
    S: TenantStore
        + TicketStore
        + ApplicationStore
        + LeaseStore
        + GrantStore
        + ConsentStore
        + StoreHealth
{
}

/// The location of a store. Each opening acts like that of another process.
#[async_trait]
pub(super) trait StoreLocation: Send + Sync {
    /// Opens the store with these applications configured.
    async fn open_with(&self, applications: KnownApplications) -> Arc<dyn Store>;

    /// Opens the store with the usual applications configured.
    async fn open(&self) -> Arc<dyn Store> {
        self.open_with(usual_applications()).await
    }
}

macro_rules! store_contract {
    ($place:path) => {
        $crate::store::contract::store_contract!(@tests $place;
            create_adds_a_tenant,
            create_rejects_a_second_tenant_with_the_same_name,
            get_of_an_unknown_tenant_is_none,
            list_is_ordered_by_application_and_tenant,
            list_starts_after_a_name_and_respects_the_limit,
            applications_of_a_tenant_are_ordered,
            set_disabled_counts_only_changes,
            put_status_and_company_name_do_not_change_the_version,
            put_of_an_unknown_tenant_does_nothing,
            a_status_is_ignored_if_its_address_is_no_longer_allowed,
            delete_cannot_be_undone,
            delete_with_another_version_is_a_conflict,
        );
        $crate::store::contract::store_contract!(@tests $place;
            set_system_user_token_increments_the_version_and_deletes_the_ticket,
            system_user_token_is_none_until_it_is_set,
            a_token_is_stored_for_its_tenant_only,
            a_recreated_tenant_rejects_tickets_of_the_deleted_one,
            secrets_of_an_unconfigured_application_still_open,
        );
        $crate::store::contract::store_contract!(@tests $place;
            a_new_ticket_replaces_the_previous_one,
            rejects_a_ticket_of_another_token_version,
            rejects_a_ticket_of_an_unknown_tenant,
            extend_changes_only_the_named_ticket_and_never_shortens_it,
            delete_removes_only_the_named_ticket,
            a_ticket_is_deleted_with_its_tenant,
            finds_disabled_and_deleted_tenants,
        );
        $crate::store::contract::store_contract!(@tests $place;
            bind_stores_environment_and_client_id,
        );
        $crate::store::contract::store_contract!(@tests $place;
            concurrent_acquisitions_give_one_lease,
            takes_over_a_lease_only_if_it_is_unchanged,
            a_lease_is_exclusive_until_it_expires_or_is_released,
            a_takeover_returns_the_expiry_of_the_previous_lease,
            every_acquisition_increments_the_fence,
            only_the_current_lease_can_be_renewed_or_released,
            an_expired_lease_can_be_renewed_until_it_is_taken_over,
        );
        $crate::store::contract::store_contract!(@tests $place;
            a_consent_creates_a_grant,
            rejects_a_consent_for_an_unknown_tenant,
            a_new_consent_replaces_the_token_and_keeps_the_name,
            concurrent_consents_of_one_person_create_one_grant,
            finds_a_grant_by_associate,
            finds_grants_by_user_name_ignoring_case,
            lists_grants_in_order_and_in_pages,
            stores_every_failure_reason,
        );
        $crate::store::contract::store_contract!(@tests $place;
            a_refresh_records_intent_and_outcome,
            uses_only_the_current_token_of_a_known_grant,
            an_old_fence_cannot_write,
            an_expired_lease_can_write_until_it_is_taken_over,
            stores_a_rotated_token_before_the_rest_is_validated,
            an_orphaned_intent_can_be_retried_once,
            a_broken_grant_loses_its_access_token_and_keeps_its_refresh_token,
            a_temporary_failure_keeps_state_and_tokens,
            counts_consecutive_failures_until_a_success_or_a_consent,
            a_consent_during_a_refresh_wins,
            a_revocation_during_a_refresh_wins,
            a_deletion_during_a_refresh_wins,
            concurrent_refreshes_never_reuse_or_lose_a_token,
            debug_output_contains_no_token,
            deletes_an_access_token_only_by_its_id,
            only_a_later_lease_confirms_an_unconfirmed_grant,
        );
        $crate::store::contract::store_contract!(@tests $place;
            keeps_the_token_until_it_is_revoked_upstream,
            detects_a_revocation_by_another_process,
            revoking_an_unknown_grant_is_none,
            a_consent_after_a_revocation_keeps_the_name_and_is_not_revoked,
            a_token_rotated_after_a_revocation_is_revoked_too,
            lists_pending_revocations_in_pages,
            deletes_a_tenant_with_grants_only_by_force,
            deletes_a_tenant_with_revoked_grants_without_force,
        );
        $crate::store::contract::store_contract!(@tests $place;
            stores_a_consent_unchanged,
            limits_consents_per_caller_and_in_total,
            a_state_can_be_used_once_even_concurrently,
            a_state_added_again_can_be_used_once_more,
            an_expired_attempt_cannot_be_used,
            an_attempt_needs_an_open_consent,
            limits_attempts_of_one_consent,
            the_first_outcome_of_a_consent_stays,
            deletes_only_expired_consents_and_attempts,
        );
        $crate::store::contract::store_contract!(@tests $place;
            a_new_store_is_writable,
            acknowledged_writes_survive_reopening,
            external_version_changes_only_with_writes_of_other_processes,
            deletes_only_credentials_issued_in_the_future,
            a_closed_store_is_unavailable,
        );
        $crate::store::contract::store_contract!(@tests $place;
            concurrent_writers_lose_nothing,
            pages_list_every_tenant_once_during_additions,
            concurrent_creations_of_a_tenant_have_one_winner,
            a_dropped_write_is_complete_or_rolled_back,
        );
    };
    (@tests $place:path; $($name:ident),+ $(,)?) => {
        $(#[tokio::test]
        async fn $name() {
            $crate::store::contract::$name(&$place()).await;
        })+
    };
}
pub(super) use store_contract;

/// Returns the applications of these tests, in different environments.
pub(super) fn usual_applications() -> KnownApplications {
    let known = |environment| KnownApplication {
        environment,
        allowed_api_hosts: AllowedApiHosts::new(vec!["superoffice.com".to_owned()]).unwrap(),
    };
    [("crm-sync", Environment::Sod), ("portal", Environment::Online)]
        .into_iter()
        .map(|(id, environment)| (id.parse().unwrap(), known(environment)))
        .collect()
}

pub(super) fn name(application: &str, tenant: &str) -> TenantName {
    format!("applications/{application}/tenants/{tenant}").parse().unwrap()
}

/// Returns the tenant of most tests.
pub(super) fn cust1() -> TenantName {
    name("crm-sync", "Cust1")
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(super) fn secret(text: &str) -> SecretString {
    text.into()
}

pub(super) async fn add(store: &dyn Store, name: &TenantName) -> Tenant {
    store.create(name, &BTreeMap::new(), at(0)).await.unwrap()
}

pub(super) async fn tenant(store: &dyn Store, name: &TenantName) -> Option<Tenant> {
    TenantStore::get(store, name).await.unwrap()
}

pub(super) async fn token(store: &dyn Store, name: &TenantName) -> Option<(String, i64)> {
    let stored = store.system_user_token(name).await.unwrap()?;
    Some((stored.token.expose_secret().to_owned(), stored.version))
}

/// Adds a tenant with a token, and returns its token version: 1 for the first one in a store.
pub(super) async fn enroll(store: &dyn Store, name: &TenantName) -> i64 {
    add(store, name).await;
    let token = secret("Contoso-Kq1aV9GR4x");
    let set = store.set_system_user_token(name, &token, at(1)).await;
    set.unwrap().unwrap().token_version
}

pub(super) fn a_ticket(number: u8, token_version: i64) -> SystemTicket {
    SystemTicket {
        value: format!("7T:ticket-number-{number}").into(),
        credential_id: CredentialId::of_ticket([number; 16]),
        issue_time: at(10),
        expire_time: at(100),
        token_version,
    }
}

/// The compared fields of a ticket: value, id, expiry and token version.
pub(super) type PlainTicket = (String, CredentialId, Timestamp, i64);

pub(super) fn plain(ticket: &SystemTicket) -> PlainTicket {
    assert_eq!(ticket.issue_time, at(10));
    (
        ticket.value.expose_secret().to_owned(),
        ticket.credential_id.clone(),
        ticket.expire_time,
        ticket.token_version,
    )
}

pub(super) async fn stored_ticket(store: &dyn Store, name: &TenantName) -> Option<PlainTicket> {
    let ticket = TicketStore::get(store, name).await.unwrap();
    ticket.as_ref().map(plain)
}

/// A sealer for tests without real encryption. It opens a secret only at its location.
pub(super) struct TestSealer;

impl TestSealer {
    fn scramble(bytes: &mut [u8]) {
        for (byte, mask) in bytes.iter_mut().zip([0xA5, 0x5C, 0x93].iter().cycle()) {
            *byte ^= mask;
        }
    }

    fn frame(place: &SealedField<'_>) -> String {
        let SealedField { environment, table, resource, field } = place;
        format!("{environment}|{table}|{resource}|{field}|")
    }
}

impl Sealer for TestSealer {
    fn seal(&self, place: &SealedField<'_>, secret: &SecretString) -> Result<Vec<u8>, SealError> {
        let mut bytes = (Self::frame(place) + secret.expose_secret()).into_bytes();
        Self::scramble(&mut bytes);
        Ok(bytes)
    }

    fn open(&self, place: &SealedField<'_>, sealed: &[u8]) -> Result<SecretString, SealError> {
        let mut bytes = sealed.to_vec();
        Self::scramble(&mut bytes);
        let text = String::from_utf8(bytes).map_err(|_| SealError::Corrupt("damaged"))?;
        let secret = text.strip_prefix(&Self::frame(place));
        Ok(secret.ok_or(SealError::Corrupt("moved"))?.into())
    }
}
