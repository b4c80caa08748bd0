//! Promises of `GrantStore` about the use of refresh tokens.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::task::JoinSet;

use super::{
    Store, StoreLocation, at, consent, cust1, granted, lease, plain_token, read, refresh,
    refreshed, secret, stored_access_token, to_spend,
};
use crate::{
    domain::{FailureStreak, Grant, GrantFailure, GrantState, Reason},
    ports::{Lease, RefreshIntent, RefreshOutcome, RotationOutcome, TenantStore},
};

async fn intend(store: &dyn Store, grant: &Grant, lease: &Lease, version: i64) -> bool {
    store.record_intent(&grant.name, lease, version, at(21)).await.unwrap()
}

async fn rotate(store: &dyn Store, grant: &Grant, lease: &Lease, version: i64) -> RotationOutcome {
    let token = secret("refresh-rotated");
    store.store_rotated_token(&grant.name, lease, version, &token).await.unwrap()
}

async fn settle(store: &dyn Store, grant: &Grant, lease: &Lease, version: i64) -> Option<Grant> {
    let outcome = refreshed(grant, 9);
    store.record_outcome(&grant.name, lease, version, &outcome, at(31)).await.unwrap()
}

/// Asserts that nothing can be written with this lease and version.
async fn assert_nothing_is_written(store: &dyn Store, grant: &Grant, lease: &Lease, version: i64) {
    let before = (read(store, &grant.name).await, stored_access_token(store, &grant.name).await);
    let token = to_spend(store, &grant.name).await;
    assert!(!intend(store, grant, lease, version).await);
    assert_eq!(rotate(store, grant, lease, version).await, RotationOutcome::Discarded);
    for outcome in [
        refreshed(grant, 9),
        RefreshOutcome::ConsentRequired { reason: Reason::ConsentRequired },
        RefreshOutcome::Failed { reason: Reason::UpstreamUnavailable },
    ] {
        let settled = store.record_outcome(&grant.name, lease, version, &outcome, at(31)).await;
        assert_eq!(settled.unwrap(), None);
    }
    assert_eq!(
        (read(store, &grant.name).await, stored_access_token(store, &grant.name).await),
        before
    );
    assert_eq!(to_spend(store, &grant.name).await, token);
}

pub(in crate::store) async fn a_refresh_records_intent_and_outcome(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    let lease = lease(&*store, &grant.name, 20).await;
    assert!(intend(&*store, &grant, &lease, 1).await);
    let intent = Some(RefreshIntent { fence: lease.fence, retried: false, time: at(21) });
    assert_eq!(to_spend(&*store, &grant.name).await, Some(("refresh-1".to_owned(), 1, intent)));
    // The intent is of the same lease, so it is no orphan: the other client secret is tried.
    assert!(intend(&*store, &grant, &lease, 1).await);

    let settled = settle(&*store, &grant, &lease, 1).await;
    let wanted = Grant {
        user_principal_name: "tony@new.example.com".to_owned(),
        full_name: "Tony Yates Jr.".to_owned(),
        last_refresh_time: Some(at(31)),
        version: 2,
        ..grant.clone()
    };
    assert_eq!(settled.as_ref(), Some(&wanted));
    assert_eq!(read(&*store, &grant.name).await, Some(wanted));
    let RefreshOutcome::Refreshed { access_token, .. } = refreshed(&grant, 9) else { return };
    assert_eq!(stored_access_token(&*store, &grant.name).await, Some(plain_token(&access_token)));
    // A response without a refresh token keeps the current one.
    assert_eq!(to_spend(&*store, &grant.name).await, Some(("refresh-1".to_owned(), 1, None)));
}

pub(in crate::store) async fn uses_only_the_current_token_of_a_known_grant(
    place: &dyn StoreLocation,
) {
    let (store, grant) = granted(place).await;
    let lease = lease(&*store, &grant.name, 20).await;
    for version in [0, 2] {
        assert_nothing_is_written(&*store, &grant, &lease, version).await;
    }
    let unknown = Grant { name: format!("{}0", grant.name).parse().unwrap(), ..grant };
    let lease = super::lease(&*store, &unknown.name, 20).await;
    assert_nothing_is_written(&*store, &unknown, &lease, 1).await;
    assert!(!store.retry_orphaned_intent(&unknown.name, &lease, at(21)).await.unwrap());
}

pub(in crate::store) async fn an_old_fence_cannot_write(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    let slow = lease(&*store, &grant.name, 20).await;
    assert!(intend(&*store, &grant, &slow, 1).await);
    let next = lease(&*store, &grant.name, 40).await;
    assert_eq!(next.previous_expire_time, Some(at(35)));
    assert_nothing_is_written(&*store, &grant, &slow, 1).await;
    assert!(!store.retry_orphaned_intent(&grant.name, &slow, at(41)).await.unwrap());
    // A released lease, or one with another key, cannot write either.
    store.release(&next).await.unwrap();
    assert_nothing_is_written(&*store, &grant, &next, 1).await;
    let other = consent(&*store, &cust1(), 6, "x").await.grant;
    let of_other = lease(&*store, &other.name, 41).await;
    assert_nothing_is_written(&*store, &grant, &of_other, 1).await;
}

pub(in crate::store) async fn an_expired_lease_can_write_until_it_is_taken_over(
    place: &dyn StoreLocation,
) {
    let (store, grant) = granted(place).await;
    let lease = lease(&*store, &grant.name, 20).await;
    assert!(intend(&*store, &grant, &lease, 1).await);
    // The writes come after the lease has expired: a rotated token must not be lost.
    assert_eq!(rotate(&*store, &grant, &lease, 1).await, RotationOutcome::Stored(2));
    assert!(settle(&*store, &grant, &lease, 2).await.is_some());
}

pub(in crate::store) async fn stores_a_rotated_token_before_the_rest_is_validated(
    place: &dyn StoreLocation,
) {
    let (store, grant) = granted(place).await;
    let first = lease(&*store, &grant.name, 20).await;
    assert!(intend(&*store, &grant, &first, 1).await);
    assert_eq!(rotate(&*store, &grant, &first, 1).await, RotationOutcome::Stored(2));
    // Repeated, as after a commit with an unknown outcome; and with a foreign token.
    assert_eq!(rotate(&*store, &grant, &first, 1).await, RotationOutcome::Stored(2));
    let other = store.store_rotated_token(&grant.name, &first, 1, &secret("other")).await;
    assert_eq!(other.unwrap(), RotationOutcome::Discarded);

    // The process stops here. The next one has the new token, and no orphan.
    let store = place.open().await;
    let kept = Some(("refresh-rotated".to_owned(), 2, None));
    assert_eq!(to_spend(&*store, &grant.name).await, kept);
    let next = lease(&*store, &grant.name, 40).await;
    assert!(!store.retry_orphaned_intent(&grant.name, &next, at(41)).await.unwrap());
    assert!(intend(&*store, &grant, &next, 2).await);
    // The rest of the response was invalid: the token stays.
    let outcome = RefreshOutcome::ConsentRequired { reason: Reason::SubjectMismatch };
    store.record_outcome(&grant.name, &next, 2, &outcome, at(42)).await.unwrap().unwrap();
    assert_eq!(to_spend(&*store, &grant.name).await, kept);
}

pub(in crate::store) async fn an_orphaned_intent_can_be_retried_once(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    let dead = lease(&*store, &grant.name, 20).await;
    assert!(intend(&*store, &grant, &dead, 1).await);
    assert!(
        !store.retry_orphaned_intent(&grant.name, &dead, at(22)).await.unwrap(),
        "no orphan yet"
    );

    let second = lease(&*store, &grant.name, 40).await;
    assert!(!intend(&*store, &grant, &second, 1).await, "the orphan is not passed over");
    for _ in 0..2 {
        // Repeated, as after a commit with an unknown outcome.
        assert!(store.retry_orphaned_intent(&grant.name, &second, at(41)).await.unwrap());
    }
    assert!(intend(&*store, &grant, &second, 1).await, "it is our own now");
    let (_, _, intent) = to_spend(&*store, &grant.name).await.unwrap();
    assert_eq!(intent.map(|intent| (intent.fence, intent.retried)), Some((second.fence, true)));

    let third = lease(&*store, &grant.name, 60).await;
    assert!(!intend(&*store, &grant, &third, 1).await);
    assert!(!store.retry_orphaned_intent(&grant.name, &third, at(61)).await.unwrap());
    // A holder that gives up clears the intent.
    let outcome = RefreshOutcome::ConsentRequired { reason: Reason::ConsentRequired };
    let broken = store.record_outcome(&grant.name, &third, 1, &outcome, at(62)).await.unwrap();
    assert_eq!(broken.unwrap().state, GrantState::ConsentRequired);
    assert_eq!(to_spend(&*store, &grant.name).await.unwrap().2, None);
}

pub(in crate::store) async fn a_broken_grant_loses_its_access_token_and_keeps_its_refresh_token(
    place: &dyn StoreLocation,
) {
    let (store, grant) = granted(place).await;
    let fresh = refresh(&*store, &grant, 1).await;
    let lease = lease(&*store, &grant.name, 40).await;
    assert!(intend(&*store, &grant, &lease, 1).await);
    let outcome = RefreshOutcome::ConsentRequired { reason: Reason::ConsentRequired };
    let settled = store.record_outcome(&grant.name, &lease, 1, &outcome, at(41)).await.unwrap();
    let last_failure = Some(GrantFailure { reason: Reason::ConsentRequired, time: at(41) });
    let failing = Some(FailureStreak { count: 1, since: at(41) });
    let wanted =
        Grant { state: GrantState::ConsentRequired, last_failure, failing, version: 3, ..fresh };
    assert_eq!(settled, Some(wanted));
    assert_eq!(stored_access_token(&*store, &grant.name).await, None);
    assert_eq!(to_spend(&*store, &grant.name).await, Some(("refresh-1".to_owned(), 1, None)));
    // A later failure changes neither the reason nor the time.
    for outcome in [
        RefreshOutcome::Failed { reason: Reason::UpstreamUnavailable },
        RefreshOutcome::ConsentRequired { reason: Reason::SubjectMismatch },
    ] {
        assert!(intend(&*store, &grant, &lease, 1).await);
        let settled = store.record_outcome(&grant.name, &lease, 1, &outcome, at(42)).await.unwrap();
        let settled = settled.unwrap();
        let wanted = (GrantState::ConsentRequired, last_failure);
        assert_eq!((settled.state, settled.last_failure), wanted);
    }
    // A later refresh succeeds again.
    assert!(intend(&*store, &grant, &lease, 1).await);
    let mended = settle(&*store, &grant, &lease, 1).await.unwrap();
    assert_eq!(mended.state, GrantState::Active);
}

pub(in crate::store) async fn a_temporary_failure_keeps_state_and_tokens(
    place: &dyn StoreLocation,
) {
    let (store, grant) = granted(place).await;
    let fresh = refresh(&*store, &grant, 1).await;
    let token = stored_access_token(&*store, &grant.name).await;
    assert!(token.is_some());
    let lease = lease(&*store, &grant.name, 40).await;
    assert!(intend(&*store, &grant, &lease, 1).await);
    let outcome = RefreshOutcome::Failed { reason: Reason::UpstreamUnavailable };
    let settled = store.record_outcome(&grant.name, &lease, 1, &outcome, at(41)).await.unwrap();
    let failure = GrantFailure { reason: Reason::UpstreamUnavailable, time: at(41) };
    let failing = Some(FailureStreak { count: 1, since: at(41) });
    let wanted = Grant { last_failure: Some(failure), failing, version: 3, ..fresh };
    assert_eq!(settled, Some(wanted));
    assert_eq!(stored_access_token(&*store, &grant.name).await, token);
    assert_eq!(to_spend(&*store, &grant.name).await, Some(("refresh-1".to_owned(), 1, None)));
}

pub(in crate::store) async fn counts_consecutive_failures_until_a_success_or_a_consent(
    place: &dyn StoreLocation,
) {
    let (store, grant) = granted(place).await;
    assert_eq!(grant.failing, None);
    let lease = lease(&*store, &grant.name, 20).await;
    let mut failed = 0;
    let mut fail = async |outcome: RefreshOutcome| {
        failed += 1;
        assert!(intend(&*store, &grant, &lease, 1).await);
        let now = at(20 + failed);
        let settled = store.record_outcome(&grant.name, &lease, 1, &outcome, now).await.unwrap();
        settled.unwrap().failing
    };
    let passing = || RefreshOutcome::Failed { reason: Reason::UpstreamUnavailable };
    let broken = || RefreshOutcome::ConsentRequired { reason: Reason::ConsentRequired };
    let since = at(21);
    assert_eq!(fail(passing()).await, Some(FailureStreak { count: 1, since }));
    assert_eq!(fail(passing()).await, Some(FailureStreak { count: 2, since }));
    assert_eq!(fail(broken()).await, Some(FailureStreak { count: 3, since }));
    assert_eq!(fail(passing()).await, Some(FailureStreak { count: 4, since }));
    // Another process reads the same.
    let read_again = read(&*place.open().await, &grant.name).await.unwrap();
    assert_eq!(read_again.failing, Some(FailureStreak { count: 4, since }));
    assert_eq!(settle(&*store, &grant, &lease, 1).await.unwrap().failing, None);
    let since = at(25);
    assert_eq!(fail(passing()).await, Some(FailureStreak { count: 1, since }));
    assert_eq!(consent(&*store, &cust1(), 5, "refresh-2").await.grant.failing, None);
}

pub(in crate::store) async fn a_consent_during_a_refresh_wins(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    let slow = lease(&*store, &grant.name, 20).await;
    assert!(intend(&*store, &grant, &slow, 1).await);
    consent(&*store, &cust1(), 5, "refresh-2").await;
    assert_nothing_is_written(&*store, &grant, &slow, 1).await;
    assert_eq!(to_spend(&*store, &grant.name).await, Some(("refresh-2".to_owned(), 2, None)));
}

pub(in crate::store) async fn a_revocation_during_a_refresh_wins(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    let slow = lease(&*store, &grant.name, 20).await;
    assert!(intend(&*store, &grant, &slow, 1).await);
    let revoked = store.revoke(&grant.name).await.unwrap();
    assert_eq!(settle(&*store, &grant, &slow, 1).await, None);
    assert!(!intend(&*store, &grant, &slow, 1).await);
    assert!(!store.retry_orphaned_intent(&grant.name, &slow, at(22)).await.unwrap());
    assert_eq!(read(&*store, &grant.name).await, revoked);
    assert_eq!(to_spend(&*store, &grant.name).await, None);
    assert_eq!(stored_access_token(&*store, &grant.name).await, None);
}

pub(in crate::store) async fn a_deletion_during_a_refresh_wins(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    let slow = lease(&*store, &grant.name, 20).await;
    assert!(intend(&*store, &grant, &slow, 1).await);
    TenantStore::delete(&*store, &cust1(), None, true).await.unwrap();
    store.mark_revoked_upstream(&grant.name, 1).await.unwrap().unwrap();
    assert_nothing_is_written(&*store, &grant, &slow, 1).await;
    assert_eq!(read(&*store, &grant.name).await, None);
}

/// Refreshes once, as a replica does. `upstream` accepts its current token once and rotates it. Returns `false` if
/// another replica refreshes.
async fn refresh_as_a_replica(store: &dyn Store, grant: &Grant, upstream: &Mutex<u32>) -> bool {
    let life = Duration::from_secs(15);
    let lease = store.acquire(&grant.name.to_string(), "replica", life, at(20)).await.unwrap();
    let Some(lease) = lease else { return false };
    let (token, version, intent) = to_spend(store, &grant.name).await.unwrap();
    assert_eq!(intent, None);
    assert!(intend(store, grant, &lease, version).await);
    let rotated = {
        let mut present = upstream.lock().unwrap();
        assert_eq!(token, format!("refresh-{present}"), "spent twice");
        *present += 1;
        secret(&format!("refresh-{present}"))
    };
    let kept = store.store_rotated_token(&grant.name, &lease, version, &rotated).await.unwrap();
    let RotationOutcome::Stored(version) = kept else { panic!("{kept:?}") };
    assert!(settle(store, grant, &lease, version).await.is_some());
    store.release(&lease).await.unwrap();
    true
}

pub(in crate::store) async fn concurrent_refreshes_never_reuse_or_lose_a_token(
    place: &dyn StoreLocation,
) {
    let (ours, grant) = granted(place).await;
    let theirs = place.open().await;
    let upstream = Arc::new(Mutex::new(1));
    let mut replicas = JoinSet::new();
    for number in 0..6 {
        let store = Arc::clone(if number % 2 == 0 { &ours } else { &theirs });
        let (grant, upstream) = (grant.clone(), Arc::clone(&upstream));
        replicas.spawn(async move {
            let mut done = 0;
            while done < 5 {
                done += u32::from(refresh_as_a_replica(&*store, &grant, &upstream).await);
                tokio::task::yield_now().await;
            }
        });
    }
    replicas.join_all().await;
    assert_eq!(*upstream.lock().unwrap(), 31);
    let kept = to_spend(&*ours, &grant.name).await;
    assert_eq!(kept, Some(("refresh-31".to_owned(), 31, None)));
}

pub(in crate::store) async fn debug_output_contains_no_token(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    refresh(&*store, &grant, 1).await;
    let token = store.refresh_token(&grant.name).await.unwrap().unwrap();
    let access = store.access_token(&grant.name).await.unwrap().unwrap();
    let printed = format!("{token:?} {access:?} {:?}", refreshed(&grant, 1));
    assert!(!printed.contains("refresh-1") && !printed.contains("access-1"), "{printed}");
}

pub(in crate::store) async fn deletes_an_access_token_only_by_its_id(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    refresh(&*store, &grant, 1).await;
    let first = stored_access_token(&*store, &grant.name).await.unwrap();
    refresh(&*store, &grant, 2).await;
    let second = stored_access_token(&*store, &grant.name).await.unwrap();
    assert_ne!(first.0, second.0);
    store.delete_access_token(&grant.name, &first.1).await.unwrap();
    assert_eq!(stored_access_token(&*store, &grant.name).await.as_ref(), Some(&second));
    store.delete_access_token(&grant.name, &second.1).await.unwrap();
    assert_eq!(stored_access_token(&*store, &grant.name).await, None);
    assert!(to_spend(&*store, &grant.name).await.is_some());
}

pub(in crate::store) async fn only_a_later_lease_confirms_an_unconfirmed_grant(
    place: &dyn StoreLocation,
) {
    let (store, grant) = granted(place).await;
    let fresh = refresh(&*store, &grant, 1).await;
    let other = consent(&*store, &cust1(), 6, "x").await.grant;
    let early = lease(&*store, &grant.name, 40).await;
    assert!(intend(&*store, &grant, &early, 1).await);
    assert_eq!(store.mark_all_unconfirmed(&cust1()).await.unwrap(), 2);
    assert_eq!(stored_access_token(&*store, &grant.name).await, None);
    let doubted = Grant { identity_unconfirmed: true, version: fresh.version + 1, ..fresh };
    assert_eq!(read(&*store, &grant.name).await.as_ref(), Some(&doubted));
    // The result may be older than the revocation. The exchange still ends and leaves no orphan.
    assert_eq!(settle(&*store, &grant, &early, 1).await, None);
    assert_eq!(read(&*store, &grant.name).await, Some(doubted));
    assert_eq!(to_spend(&*store, &grant.name).await, Some(("refresh-1".to_owned(), 1, None)));
    // A token that was rotated in the meantime is the only valid one, so it stays.
    assert_eq!(rotate(&*store, &grant, &early, 1).await, RotationOutcome::Stored(2));

    let later = lease(&*store, &grant.name, 60).await;
    assert!(intend(&*store, &grant, &later, 2).await);
    let failure = RefreshOutcome::Failed { reason: Reason::UpstreamUnavailable };
    let failed = store.record_outcome(&grant.name, &later, 2, &failure, at(61)).await.unwrap();
    assert!(failed.unwrap().identity_unconfirmed);
    assert!(!settle(&*store, &grant, &later, 2).await.unwrap().identity_unconfirmed);
    assert!(stored_access_token(&*store, &grant.name).await.is_some());
    let consented = consent(&*store, &cust1(), 6, "y").await.grant;
    assert_eq!((consented.name, consented.identity_unconfirmed), (other.name, false));
}
