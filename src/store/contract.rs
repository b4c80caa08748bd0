//! What every store must do: each promise of the store ports is a test, named as the promise.
//!
//! An adapter implements [`Place`] and calls [`store_contract`], which makes a test of its own of each promise. A
//! promise that is missing in that macro's lists is dead code, which the lints refuse.

mod applications;
mod audit;
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
    applications::*, audit::*, concurrency::*, consents::*, grants::*, leases::*, refreshing::*,
    revoking::*, state::*, tenants::*, tickets::*, tokens::*,
};

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::{KnownApplication, KnownApplications};
use crate::{
    domain::{AllowedApiHosts, CredentialId, Environment, SystemTicket, Tenant, TenantName},
    ports::{
        ApplicationStore, AuditStore, ConsentStore, GrantStore, LeaseStore, SealError, SealedField,
        Sealer, StoreWatch, TenantStore, TicketStore,
    },
};

/// All ports of a store.
pub(super) trait Store:
    TenantStore
    + TicketStore
    + ApplicationStore
    + AuditStore
    + LeaseStore
    + GrantStore
    + ConsentStore
    + StoreWatch
{
}
impl<S> Store for S where
    S: TenantStore
        + TicketStore
        + ApplicationStore
        + AuditStore
        + LeaseStore
        + GrantStore
        + ConsentStore
        + StoreWatch
{
}

/// Where a store is kept. Every opening is like that of another process.
#[async_trait]
pub(super) trait Place: Send + Sync {
    /// Opens it with these applications configured.
    async fn open_with(&self, applications: KnownApplications) -> Arc<dyn Store>;

    /// Opens it with the usual applications configured.
    async fn open(&self) -> Arc<dyn Store> {
        self.open_with(usual_applications()).await
    }
}

macro_rules! store_contract {
    ($place:path) => {
        $crate::store::contract::store_contract!(@tests $place;
            create_adds_a_tenant,
            create_refuses_a_second_tenant_of_that_name,
            get_of_an_unknown_tenant_is_none,
            list_is_in_the_order_of_application_and_tenant_as_text,
            list_begins_after_a_name_and_keeps_to_the_limit,
            applications_of_a_tenant_are_in_order,
            set_disabled_counts_only_changes,
            put_status_and_company_name_are_no_changes_by_an_administrator,
            put_of_an_unknown_tenant_does_nothing,
            a_status_is_forgotten_when_its_address_is_no_longer_allowed,
            delete_cannot_be_undone,
            delete_with_another_version_is_a_conflict,
        );
        $crate::store::contract::store_contract!(@tests $place;
            set_system_user_token_counts_and_ends_the_ticket,
            system_user_token_is_none_until_it_is_set,
            a_token_belongs_to_its_tenant,
            a_tenant_added_again_never_takes_a_ticket_of_its_former_life,
            secrets_of_an_application_that_is_no_longer_configured_still_open,
        );
        $crate::store::contract::store_contract!(@tests $place;
            a_ticket_is_kept_in_place_of_the_former_one,
            a_ticket_of_another_token_is_not_kept,
            a_ticket_of_an_unknown_tenant_is_not_kept,
            extend_touches_only_the_ticket_it_names_and_never_shortens,
            delete_touches_only_the_ticket_it_names,
            a_ticket_goes_with_its_tenant,
            stopped_and_removed_tenants_are_told_from_the_others,
        );
        $crate::store::contract::store_contract!(@tests $place;
            bind_remembers_what_an_id_meant,
        );
        $crate::store::contract::store_contract!(@tests $place;
            a_group_is_kept_with_its_head,
            an_append_can_be_repeated,
            an_append_that_does_not_follow_the_head_is_a_conflict,
            of_two_who_append_one_wins,
            our_own_appends_are_no_changes_by_others,
            newest_events_come_first_and_pages_go_on_where_they_ended,
            prune_removes_what_is_old_and_keeps_the_head,
            a_public_key_is_kept_in_place_of_the_former,
        );
        $crate::store::contract::store_contract!(@tests $place;
            of_many_who_want_a_lease_one_gets_it,
            a_lease_that_seems_to_last_for_ever_is_taken_over_only_as_it_was_seen,
            a_lease_is_its_owners_until_it_expires_or_is_given_back,
            whoever_takes_over_is_told_when_the_former_lease_expired,
            a_fence_grows_with_every_acquisition_for_ever,
            only_the_present_lease_is_renewed_or_given_back,
            an_expired_lease_that_nobody_took_can_be_renewed,
        );
        $crate::store::contract::store_contract!(@tests $place;
            a_consent_makes_a_grant,
            a_consent_for_an_unknown_tenant_is_not_kept,
            a_new_consent_replaces_the_token_and_keeps_the_name,
            two_consents_at_once_for_one_person_make_one_grant,
            a_grant_is_found_by_its_associate,
            grants_are_found_by_user_name_in_upper_or_lower_case,
            grants_are_listed_in_order_and_in_pages,
            every_reason_of_a_failure_is_read_back,
        );
        $crate::store::contract::store_contract!(@tests $place;
            a_refresh_is_intended_then_settled,
            only_the_present_token_of_a_known_grant_is_spent,
            an_outdated_fence_writes_nothing,
            a_lease_that_expired_and_that_nobody_took_still_writes,
            a_rotated_token_is_kept_before_the_rest_of_the_answer_is_looked_at,
            an_orphaned_intent_is_retried_once,
            a_broken_grant_loses_its_access_token_and_keeps_its_refresh_token,
            a_failure_that_may_pass_leaves_state_and_tokens,
            failures_in_a_row_are_counted_until_a_success_or_a_consent,
            a_consent_during_a_refresh_wins,
            a_revocation_during_a_refresh_wins,
            a_deletion_during_a_refresh_wins,
            no_token_is_spent_twice_and_none_is_lost_however_many_refresh,
            no_token_is_in_what_is_printed_for_debugging,
            an_access_token_is_dropped_by_its_own_id_only,
            a_doubted_grant_is_proven_by_a_lease_that_was_taken_later,
        );
        $crate::store::contract::store_contract!(@tests $place;
            a_revoked_grant_keeps_its_token_until_it_is_revoked_upstream,
            a_revocation_by_another_process_is_noticed,
            revoking_an_unknown_grant_is_none,
            a_consent_after_a_revocation_keeps_the_name_and_is_not_revoked,
            a_rotated_token_that_meets_a_revoked_grant_is_revoked_too,
            pending_revocations_come_in_pages,
            a_tenant_with_grants_is_deleted_by_force_only,
            a_tenant_whose_grants_are_all_revoked_needs_no_force,
        );
        $crate::store::contract::store_contract!(@tests $place;
            a_consent_is_kept_as_it_was_asked_for,
            consents_are_bounded_for_a_caller_and_in_all,
            a_state_is_redeemed_once_also_by_many_at_once,
            a_state_that_was_given_back_is_redeemed_once_more,
            an_expired_attempt_is_not_redeemed,
            an_attempt_needs_an_open_consent,
            attempts_of_one_consent_are_bounded,
            the_first_end_of_a_consent_stays,
            what_expired_is_forgotten_and_the_rest_is_not,
        );
        $crate::store::contract::store_contract!(@tests $place;
            a_new_store_is_writable,
            what_was_acknowledged_is_there_after_reopening,
            external_version_changes_with_writes_of_others_and_not_with_our_own,
            what_seems_to_be_issued_in_the_future_is_forgotten_and_the_rest_is_not,
            a_closed_store_is_unavailable,
        );
        $crate::store::contract::store_contract!(@tests $place;
            concurrent_writers_lose_nothing,
            pages_cover_every_tenant_once_while_others_are_added,
            of_two_who_create_one_tenant_one_wins,
            a_write_whose_caller_went_away_is_done_or_undone_and_the_next_one_works,
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

/// Configured in these tests, in different environments.
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

/// The tenant of most tests.
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

/// Adds a tenant with a token, and tells its token version: 1 for the first in a store.
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

/// Value, id, end and token version of a ticket: what is compared.
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

pub(super) async fn kept_ticket(store: &dyn Store, name: &TenantName) -> Option<PlainTicket> {
    let ticket = TicketStore::get(store, name).await.unwrap();
    ticket.as_ref().map(plain)
}

/// Hides what it seals, and opens it in its place only. No protection: for tests.
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
