//! Tests of notifications: they are only hints.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::*;
use crate::{
    broker::{
        GrantStores, TicketRules, TicketStores,
        fakes::{Upstream, runtime},
        impersonation::fakes::GrantTable,
    },
    domain::{CredentialId, RedirectUris, SystemTicket},
    ports::{ManualClock, TicketStore as _},
};

/// Records notifications if `remembers` is set.
#[derive(Default)]
struct MemoryNotificationStore {
    remembers: AtomicBool,
    used: Mutex<HashSet<[u8; 32]>>,
}

#[async_trait]
impl NotificationStore for MemoryNotificationStore {
    async fn mark_used(
        &self,
        digest: &[u8; 32],
        _: Timestamp,
        _: Timestamp,
    ) -> Result<bool, StoreError> {
        let new = self.used.lock().unwrap().insert(*digest);
        Ok(new || !self.remembers.load(Ordering::SeqCst))
    }

    async fn is_used(&self, digest: &[u8; 32], _: Timestamp) -> Result<bool, StoreError> {
        let noted = self.used.lock().unwrap().contains(digest);
        Ok(noted && self.remembers.load(Ordering::SeqCst))
    }
}

struct World {
    used: Arc<MemoryNotificationStore>,
    clock: Arc<ManualClock>,
    upstream: Arc<Upstream>,
    grants: Arc<GrantTable>,
    hints: StateHints,
    tasks: TaskTracker,
}

fn tenant() -> TenantName {
    "applications/crm-sync/tenants/Cust1".parse().unwrap()
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new("2026-11-22T09:00:00Z".parse().unwrap()));
        let upstream = Upstream::new(clock.clone());
        let oauth =
            Arc::new(crate::broker::consent::fakes::FakeSignIn::new(crate::audit::fakes::keys()));
        let applications =
            Arc::new(Applications::new([upstream.application(RedirectUris::default(), oauth)]));
        let runtime = runtime(&clock, &upstream);
        let directory = Arc::new(TenantDirectory::new(upstream.clone(), &runtime));
        let statuses = Arc::new(Statuses::new(
            applications.clone(),
            directory.clone(),
            upstream.clone(),
            Duration::from_hours(24),
            &runtime,
        ));
        let rules = TicketRules {
            max_age: Duration::from_hours(12),
            renew_if_used_within: Duration::from_hours(2),
        };
        let tickets = Arc::new(Tickets::new(
            applications.clone(),
            directory.clone(),
            statuses.clone(),
            TicketStores { tenants: upstream.clone(), tickets: upstream.clone() },
            rules,
            &runtime,
        ));
        let grants = Arc::new(GrantTable::default());
        let impersonation = Impersonation::new(
            applications.clone(),
            directory.clone(),
            statuses.clone(),
            GrantStores { grants: grants.clone(), leases: grants.clone() },
            Duration::from_hours(2),
            Box::new(|_, _| None),
            &runtime,
        );
        let used = Arc::new(MemoryNotificationStore::default());
        let hints = StateHints::new(
            applications,
            directory,
            statuses,
            tickets,
            Arc::new(impersonation),
            UsedNotifications { store: used.clone(), signer: crate::audit::fakes::keys() },
            &runtime,
        );
        Self { used, clock, upstream, grants, hints, tasks: runtime.tasks }
    }

    async fn receive(&self, token: &str, change: StateChange) -> Result<(), NotificationRejected> {
        let result = self.hints.receive(&token.into(), tenant().tenant, change).await;
        while !self.tasks.is_empty() {
            tokio::task::yield_now().await;
        }
        result
    }

    fn status_reads(&self) -> u64 {
        self.upstream.status_reads.load(Ordering::SeqCst)
    }

    fn invalidations(&self) -> usize {
        let log = self.grants.log.lock().unwrap();
        log.iter().filter(|what| **what == "doubt_all").count()
    }
}

#[tokio::test]
async fn a_forged_notification_changes_nothing() {
    let world = World::new();
    for (token, wanted) in [
        ("forged", NotificationRejected::Unsigned),
        // Signed for another tenant.
        ("Cust2", NotificationRejected::Unsigned),
        ("down", NotificationRejected::KeysUnavailable),
    ] {
        assert_eq!(world.receive(token, StateChange::BackupRestored).await, Err(wanted), "{token}");
    }
    assert_eq!((world.status_reads(), world.invalidations()), (0, 0));
}

#[tokio::test]
async fn notifications_cause_at_most_one_read_a_minute_and_none_is_lost() {
    let world = World::new();
    for _ in 0..10 {
        world.receive("Cust1", StateChange::Other).await.unwrap();
    }
    world.receive("unnamed", StateChange::BackupRestored).await.unwrap();
    world.receive("Cust1", StateChange::Other).await.unwrap();
    // A restored backup takes effect at once: credentials are verified before their next use.
    assert_eq!((world.status_reads(), world.invalidations()), (1, 1));
    world.receive("Cust1", StateChange::BackupRestored).await.unwrap();
    assert_eq!((world.status_reads(), world.invalidations()), (1, 1));
    let mut run = std::pin::pin!(world.hints.run());
    for _ in 0..200 {
        world.clock.advance(CHECK_INTERVAL);
        for _ in 0..20 {
            assert!(futures_util::poll!(run.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
    }
    assert_eq!((world.status_reads(), world.invalidations()), (2, 2));
    assert!(world.hints.0.lock_windows().is_empty());
    world.receive("Cust1", StateChange::Other).await.unwrap();
    assert_eq!(world.status_reads(), 3);
}

#[tokio::test]
async fn after_a_restored_backup_grants_are_verified_again_and_the_ticket_is_dropped() {
    let world = World::new();
    let now = world.clock.now();
    let ticket = SystemTicket {
        value: "7T:old".into(),
        credential_id: CredentialId::from_text("t-1"),
        issue_time: now,
        expire_time: now + Duration::from_hours(6),
        token_version: 1,
    };
    world.upstream.put(&tenant(), &ticket).await.unwrap();
    world.receive("Cust1", StateChange::BackupRestored).await.unwrap();
    assert_eq!((world.status_reads(), world.invalidations()), (1, 1));
    assert!(world.upstream.stored_ticket.lock().unwrap().is_none());
}

#[tokio::test]
async fn only_suspension_or_deletion_invalidates_a_status_that_cannot_be_read() {
    for (changes, usable, a_minute_later) in [
        (vec![StateChange::Other], true, true),
        (vec![StateChange::BackupRestored], true, true),
        (vec![StateChange::SuspendedOrDeleted], false, false),
        (
            vec![StateChange::Other, StateChange::SuspendedOrDeleted, StateChange::BackupRestored],
            false,
            false,
        ),
    ] {
        let world = World::new();
        let shared = &world.hints.0;
        let tenant = shared.directory.get(&tenant()).await.unwrap();
        shared.statuses.current(&tenant).await.unwrap();
        *world.upstream.login_down.lock().unwrap() = true;
        assert_eq!(
            world.receive("forged", StateChange::SuspendedOrDeleted).await,
            Err(NotificationRejected::Unsigned)
        );
        for change in &changes {
            world.receive("Cust1", *change).await.unwrap();
        }
        assert_eq!(shared.statuses.current(&tenant).await.is_ok(), usable, "{changes:?}");
        let mut run = std::pin::pin!(world.hints.run());
        for _ in 0..70 {
            world.clock.advance(CHECK_INTERVAL);
            for _ in 0..20 {
                assert!(futures_util::poll!(run.as_mut()).is_pending());
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(shared.statuses.current(&tenant).await.is_ok(), a_minute_later, "{changes:?}");
        let stored = world.upstream.last_status.lock().unwrap().clone().unwrap();
        assert_eq!(stored.valid_until == Timestamp::UNIX_EPOCH, !a_minute_later, "{changes:?}");
    }
}

#[tokio::test]
async fn a_notification_is_accepted_once_whatever_change_it_names() {
    let world = World::new();
    world.used.remembers.store(true, Ordering::SeqCst);
    world.receive("Cust1", StateChange::Other).await.unwrap();
    for change in [StateChange::Other, StateChange::SuspendedOrDeleted, StateChange::BackupRestored]
    {
        assert_eq!(world.receive("Cust1", change).await, Err(NotificationRejected::AlreadyUsed));
    }
    assert_eq!((world.status_reads(), world.invalidations()), (1, 0));
}

#[tokio::test]
async fn a_notification_that_failed_can_be_sent_again() {
    let world = World::new();
    world.used.remembers.store(true, Ordering::SeqCst);
    world.grants.failures.lock().unwrap().insert("doubt_all", 1);
    let result = world.receive("Cust1", StateChange::BackupRestored).await;
    assert_eq!(result, Err(NotificationRejected::StoreUnavailable));
    assert!(world.used.used.lock().unwrap().is_empty(), "a notification is recorded last");
    world.receive("Cust1", StateChange::BackupRestored).await.unwrap();
    assert_eq!(world.invalidations(), 1, "the second delivery is handled at once");
    let result = world.receive("Cust1", StateChange::BackupRestored).await;
    assert_eq!(result, Err(NotificationRejected::AlreadyUsed));
}
