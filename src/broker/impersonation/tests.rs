//! Tests of the rules of refresh tokens, one test each.

use std::{sync::Arc, time::Duration};

use futures_util::{future::join_all, poll};
use secrecy::ExposeSecret as _;

use super::{
    fakes::{ScriptedAnswer, person},
    *,
};
use crate::{
    access::{Access, Action, Caller, On, Resource},
    broker::fakes::{SYSTEM_USER, World, tenant},
    domain::{Filter, GRANT_FIELDS, GrantEventKind, Reason, RefreshToken, TenantState},
    ports::{Clock as _, ExchangeError},
};

const ANY: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_hours(1);

fn authorize<A: Action + On<R>, R: Clone + Into<Resource>>(
    world: &World,
    what: R,
) -> Authorized<A, R> {
    let access = Access::command_line(Caller::anonymous(), world.clock.clone());
    access.authorize(&Caller::anonymous(), what).unwrap()
}

/// The value of the issued token.
type Issued = Result<String, BrokerError>;

async fn issue_for(world: &World, subject: PersonSelector, min_ttl: Duration) -> Issued {
    loop {
        let found = world.impersonation.find(&tenant(), &subject).await?;
        let issued = world.impersonation.issue(&authorize(world, found), min_ttl).await?;
        // `None` means that the user principal name changed: decide again.
        if let Some(issued) = issued {
            return Ok(issued.token.value.expose_secret().to_owned());
        }
    }
}

/// Issues a token of the associate, within the test's time limit.
async fn issue(world: &World, associate: i32) -> Issued {
    world.finish(issue_for(world, by_associate(associate), ANY)).await
}

fn by_associate(associate: i32) -> PersonSelector {
    PersonSelector::Associate(AssociateId::new(associate).unwrap())
}

fn needs_consent(why: ConsentReason) -> Issued {
    Err(BrokerError::ConsentRequired(tenant(), why))
}

fn transient() -> ScriptedAnswer {
    ScriptedAnswer::Error(ExchangeError::Transient("HTTP 503".to_owned()))
}

fn refused() -> ScriptedAnswer {
    ScriptedAnswer::Error(ExchangeError::InvalidGrant)
}

fn reason(issued: Issued) -> Reason {
    issued.unwrap_err().reason()
}

#[tokio::test]
async fn concurrent_calls_share_one_refresh() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let asked = (0..1000).map(|_| issue_for(&world, by_associate(5), ANY));
    let issued = world.finish(join_all(asked)).await;
    assert!(issued.iter().all(|one| *one == Ok("8A:Cust1.r5.1".to_owned())));
    assert_eq!(world.provider.sent(), ["r5"]);
}

#[tokio::test]
async fn each_caller_receives_the_requested_persons_token() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    world.grants.add(&tenant(), 6);
    let both = join_all([5, 6].map(|id| issue_for(&world, by_associate(id), ANY)));
    let values: Vec<_> = world.finish(both).await.into_iter().map(Result::unwrap).collect();
    assert!(values[0].starts_with("8A:Cust1.r5."), "{values:?}");
    assert!(values[1].starts_with("8A:Cust1.r6."), "{values:?}");
}

#[tokio::test]
async fn cancelling_the_first_caller_does_not_stop_the_refresh() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let closed = Arc::clone(&world.provider.gate).write_owned().await;
    let mut first = Box::pin(issue_for(&world, by_associate(5), ANY));
    while world.provider.sent().is_empty() {
        assert!(poll!(&mut first).is_pending());
        tokio::task::yield_now().await;
    }
    drop((first, closed));
    world.wait_idle().await;
    assert!(world.grants.grant(&name).last_refresh_time.is_some());
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5.1");
    assert_eq!(world.provider.sent(), ["r5"]);
}

#[tokio::test]
async fn reads_the_stored_token_again_under_the_lease() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let now = world.clock.now();
    let other = world.grants.acquire(&name.to_string(), "other", HOUR, now).await.unwrap().unwrap();
    let mut asked = Box::pin(issue_for(&world, by_associate(5), ANY));
    for _ in 0..100 {
        assert!(poll!(&mut asked).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(world.provider.sent().is_empty(), "used without the lease");
    world.grants.set_token(&name, "r5-new");
    world.grants.release(&other).await.unwrap();
    assert_eq!(world.finish(asked).await.unwrap(), "8A:Cust1.r5-new.1");
    assert_eq!(world.provider.sent(), ["r5-new"]);
}

#[tokio::test]
async fn a_takeover_waits_for_the_exchange_timeout_and_renews_before_sending() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let begun = world.clock.now();
    let life = Duration::from_secs(15);
    world.grants.acquire(&name.to_string(), "crashed", life, begun).await.unwrap();
    issue(&world, 5).await.unwrap();
    let waited = world.clock.now().duration_since(begun).unsigned_abs();
    let allowed = Duration::from_secs(25)..Duration::from_secs(30);
    assert!(allowed.contains(&waited), "{waited:?}");
    // Ten of the lease's fifteen seconds were over, so it would not outlast the exchange.
    assert_eq!(world.grants.renewals(), 1);
}

#[tokio::test]
async fn a_wrong_clock_of_the_former_holder_does_not_shorten_the_wait() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let life = Duration::from_secs(15);
    // A holder with a clock one hour behind crashed during a refresh, so its lease seems to have expired long ago.
    let behind = world.clock.now() - HOUR;
    world.grants.acquire(&name.to_string(), "crashed", life, behind).await.unwrap();
    let begun = world.clock.monotonic();
    issue(&world, 5).await.unwrap();
    let waited = world.clock.monotonic().saturating_sub(begun);
    let allowed = Duration::from_secs(10)..Duration::from_secs(15);
    assert!(allowed.contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn takes_over_an_untouched_lease_that_a_wrong_clock_made_a_day_long() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let right = world.clock.now();
    let life = Duration::from_secs(15);
    // A holder with a clock one day ahead crashed during a refresh.
    let ahead = right + 24 * HOUR;
    world.grants.acquire(&name.to_string(), "crashed", life, ahead).await.unwrap();
    world.grants.leave_orphaned_intent(&name, false);
    let begun = world.clock.monotonic();
    issue(&world, 5).await.unwrap();
    let waited = world.clock.monotonic().saturating_sub(begun);
    let allowed = Duration::from_secs(25)..Duration::from_secs(30);
    assert!(allowed.contains(&waited), "{waited:?}");
    assert_eq!(world.provider.sent(), ["r5"]);
    assert_eq!(world.counters.retried_after_crash.get(), 1);
}

#[tokio::test]
async fn does_not_issue_a_token_stored_while_the_clock_was_ahead() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let right = world.clock.now();
    for (index, step) in [2 * HOUR, 24 * HOUR, 365 * 24 * HOUR].into_iter().enumerate() {
        world.clock.set_wall(right + step);
        let ahead = issue(&world, 5).await.unwrap();
        assert_eq!(issue(&world, 5).await.unwrap(), ahead);
        world.clock.set_wall(right);
        // After a restart only the stored token is left.
        world.impersonation.refresher.token_cache.forget(|_| true);
        let again = issue(&world, 5).await.unwrap();
        assert_ne!(again, ahead, "{step:?}");
        assert_eq!(world.provider.sent().len(), 2 * index + 2);
        world.impersonation.refresher.token_cache.forget(|_| true);
        world.clock.advance(HOUR);
        world.clock.set_wall(right);
    }
}

#[tokio::test]
async fn setting_the_wall_clock_back_does_not_prolong_a_cached_token() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let first = issue(&world, 5).await.unwrap();
    world.clock.set_wall(world.clock.now() - 24 * HOUR);
    assert_eq!(issue(&world, 5).await.unwrap(), first);
    world.clock.advance(HOUR);
    assert_ne!(issue(&world, 5).await.unwrap(), first);
}

#[tokio::test]
async fn checks_that_the_store_is_writable_before_using_a_token() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    world.grants.failures.lock().unwrap().insert("intend", 1);
    assert_eq!(reason(issue(&world, 5).await), Reason::StoreUnavailable);
    assert!(world.provider.sent().is_empty());
    assert!(issue(&world, 5).await.is_ok());
}

#[tokio::test]
async fn stores_intent_then_exchanges_then_stores_the_new_token_first() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([ScriptedAnswer::Rotated("r5-b")]);
    issue(&world, 5).await.unwrap();
    let log = world.grants.log.lock().unwrap().clone();
    assert_eq!(log, ["acquire", "read", "intend", "exchange", "keep_rotated", "settle"]);
    assert_eq!(world.grants.token(&name).unwrap(), "r5-b");
    assert!(!world.grants.has_intent(&name));
}

#[tokio::test]
async fn stores_a_rotated_token_although_the_id_token_is_invalid() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([ScriptedAnswer::RotatedWithInvalidIdToken("r5-b")]);
    assert_eq!(reason(issue(&world, 5).await), Reason::UpstreamInvalidResponse);
    assert_eq!(world.grants.token(&name).unwrap(), "r5-b");
    world.clock.advance(Duration::from_mins(2));
    assert!(issue(&world, 5).await.is_ok());
    assert_eq!(world.provider.sent(), ["r5", "r5-b"]);
}

#[tokio::test]
async fn retries_storing_a_rotated_token_while_the_store_is_unavailable() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([ScriptedAnswer::Rotated("r5-b")]);
    world.grants.failures.lock().unwrap().insert("keep_rotated", 6);
    assert!(issue(&world, 5).await.is_ok());
    assert_eq!(world.grants.token(&name).unwrap(), "r5-b");
}

#[tokio::test]
async fn keeps_the_refresh_token_if_the_response_has_none() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    world.clock.advance(HOUR);
    issue(&world, 5).await.unwrap();
    assert_eq!(world.provider.sent(), ["r5", "r5"]);
    assert_eq!(world.grants.token(&name).unwrap(), "r5");
}

#[tokio::test]
async fn retries_an_orphaned_intent_once_and_counts_it() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.grants.leave_orphaned_intent(&name, false);
    assert!(issue(&world, 5).await.is_ok());
    assert_eq!(world.provider.sent(), ["r5"]);
    assert_eq!(world.counters.retried_after_crash.get(), 1);
    assert!(!world.grants.has_intent(&name));
}

#[tokio::test]
async fn does_not_retry_an_orphaned_intent_twice() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.grants.leave_orphaned_intent(&name, true);
    assert_eq!(issue(&world, 5).await, needs_consent(ConsentReason::NoLongerWorks));
    assert!(world.provider.sent().is_empty());
    assert_eq!(world.grants.grant(&name).state, GrantState::ConsentRequired);
}

#[tokio::test]
async fn revokes_a_rotated_token_of_a_revoked_grant_upstream() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([ScriptedAnswer::Rotated("r5-b")]);
    let closed = Arc::clone(&world.provider.gate).write_owned().await;
    let mut asked = Box::pin(issue_for(&world, by_associate(5), ANY));
    while world.provider.sent().is_empty() {
        assert!(poll!(&mut asked).is_pending());
        tokio::task::yield_now().await;
    }
    let revoked =
        world.impersonation.revoke(&authorize(&world, tenant()), &name.grant).await.unwrap();
    assert!(revoked.revocation_pending);
    drop(closed);
    assert_eq!(world.finish(asked).await, needs_consent(ConsentReason::Revoked));
    assert!(world.impersonation.revoke_pending().await.unwrap());
    assert_eq!(*world.provider.revoked.lock().unwrap(), ["r5-b"]);
    assert_eq!(world.grants.token(&name), None);
}

#[tokio::test]
async fn a_rejected_grant_needs_consent_and_is_not_retried_at_each_call() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let mut feed = world.impersonation.subscribe();
    world.provider.script_answers([refused()]);
    for _ in 0..10 {
        assert_eq!(issue(&world, 5).await, needs_consent(ConsentReason::NoLongerWorks));
    }
    assert_eq!(world.provider.sent().len(), 1);
    let event = feed.next().await.unwrap();
    let grant = event.grant.unwrap();
    assert_eq!((event.kind, &grant.name), (GrantEventKind::Broken, &name));
    assert_eq!(grant.last_failure.unwrap().reason, Reason::ConsentRequired);
    // A restart does not cause another exchange either.
    let world = world.restarted();
    assert_eq!(issue(&world, 5).await, needs_consent(ConsentReason::NoLongerWorks));
    assert_eq!(world.provider.sent().len(), 1);
}

#[tokio::test]
async fn a_rejected_client_secret_does_not_break_a_grant() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([ScriptedAnswer::Error(ExchangeError::InvalidClient)]);
    assert_eq!(reason(issue(&world, 5).await), Reason::ApplicationCredentialRefused);
    assert_eq!(reason(issue(&world, 5).await), Reason::ApplicationCredentialRefused);
    assert_eq!(world.provider.sent().len(), 1, "a back-off delays the next attempt");
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
    let gateway = authorize(&world, crate::access::Gateway);
    let seen = world.applications.list(&gateway, None, 1).pop().unwrap();
    let failure = seen.last_failure.unwrap().obstacle.reason;
    assert_eq!(failure, Reason::ApplicationCredentialRefused);
    world.clock.advance(Duration::from_mins(2));
    assert!(issue(&world, 5).await.is_ok());
}

#[tokio::test]
async fn a_401_without_an_error_code_blames_the_secret_only_if_it_has_not_worked_recently() {
    let world = World::new();
    let (name, other) = (world.grants.add(&tenant(), 5), world.grants.add(&tenant(), 6));
    let unnamed = || ScriptedAnswer::Error(ExchangeError::Unauthorized);
    // The secret has not worked yet.
    world.provider.script_answers([unnamed()]);
    assert_eq!(reason(issue(&world, 5).await), Reason::ApplicationCredentialRefused);
    world.clock.advance(Duration::from_mins(2));
    issue(&world, 6).await.unwrap();
    for since in [0, 9] {
        world.clock.advance(Duration::from_mins(since));
        world.provider.script_answers([unnamed()]);
        let sent = world.provider.sent().len();
        for _ in 0..60 {
            assert_eq!(reason(issue(&world, 5).await), Reason::UpstreamUnavailable, "{since}");
        }
        assert_eq!(world.provider.sent().len(), sent + 1, "a back-off delays the next attempt");
    }
    let grant = world.grants.grant(&name);
    assert_eq!(
        (grant.state, grant.failing.map(|failing| failing.count)),
        (GrantState::Active, Some(3))
    );
    assert_eq!(world.grants.grant(&other).failing, None);
    // The secret last worked longer ago than an access token lives.
    world.clock.advance(Duration::from_mins(66));
    world.provider.script_answers([unnamed()]);
    assert_eq!(reason(issue(&world, 5).await), Reason::ApplicationCredentialRefused);
}

#[tokio::test]
async fn backs_off_after_transient_errors_and_still_issues_a_valid_token() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    world.clock.advance(Duration::from_mins(40));
    world.provider.script_answers([transient(), transient()]);
    let half = Duration::from_mins(30);
    let asked = world.finish(issue_for(&world, by_associate(5), half)).await;
    assert_eq!(reason(asked), Reason::UpstreamUnavailable);
    let again = world.finish(issue_for(&world, by_associate(5), half)).await;
    assert_eq!(reason(again), Reason::UpstreamUnavailable);
    assert_eq!(world.provider.sent().len(), 2, "a back-off delays the next attempt");
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5.1");
}

#[tokio::test]
async fn an_exchange_times_out() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let begun = world.clock.now();
    let _closed = Arc::clone(&world.provider.gate).write_owned().await;
    assert_eq!(reason(issue(&world, 5).await), Reason::UpstreamUnavailable);
    let waited = world.clock.now().duration_since(begun).unsigned_abs();
    assert!(waited < Duration::from_secs(15), "the exchange outlasted the lease: {waited:?}");
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
}

#[tokio::test]
async fn a_rejection_while_the_tenant_is_unusable_does_not_break_the_grant() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    // The last status stays valid for some minutes.
    world.clock.advance(Duration::from_mins(50));
    *world.upstream.state.lock().unwrap() = TenantState::Suspended;
    world.provider.script_answers([refused()]);
    let asked = world.finish(issue_for(&world, by_associate(5), Duration::from_mins(20))).await;
    assert_eq!(reason(asked), Reason::TenantNotRunning);
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
}

#[tokio::test]
async fn retries_a_broken_grant_after_1_6_and_24_hours() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([refused(), refused(), refused()]);
    assert!(issue(&world, 5).await.is_err());
    let mut tried = Vec::new();
    for half_hour in 1..=60_u32 {
        world.clock.advance(HOUR / 2);
        world.impersonation.renew_due();
        world.wait_idle().await;
        if tried.len() + 1 < world.provider.sent().len() {
            tried.push(half_hour / 2);
        }
    }
    assert_eq!(tried, [1, 6, 24]);
    assert_eq!(world.grants.grant(&name).state, GrantState::Active, "the last retry succeeded");
    assert!(issue(&world, 5).await.is_ok());
}

#[tokio::test]
async fn retries_broken_grants_when_their_tenant_resumes() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([refused()]);
    assert!(issue(&world, 5).await.is_err());
    world.impersonation.retry_broken_grants(&tenant()).await.unwrap();
    world.wait_idle().await;
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
}

#[tokio::test]
async fn retries_broken_grants_after_a_status_change_to_running() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([refused()]);
    assert!(issue(&world, 5).await.is_err());
    let mut following = std::pin::pin!(world.impersonation.run_retries_after_resume());
    assert!(futures_util::poll!(following.as_mut()).is_pending());
    for (state, wanted) in [
        (TenantState::Suspended, Reason::TenantNotRunning),
        (TenantState::Running, Reason::ConsentRequired),
    ] {
        *world.upstream.state.lock().unwrap() = state;
        world.clock.advance(2 * HOUR);
        assert_eq!(reason(issue(&world, 5).await), wanted);
    }
    assert!(futures_util::poll!(following.as_mut()).is_pending());
    world.wait_idle().await;
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
}

#[tokio::test]
async fn rejects_a_token_of_another_person_or_tenant() {
    let elsewhere = "applications/crm-sync/tenants/Cust2".parse().unwrap();
    for identity in [person(&tenant(), 6), person(&elsewhere, 5)] {
        let world = World::new();
        let name = world.grants.add(&tenant(), 5);
        world.provider.script_answers([ScriptedAnswer::ForIdentity(identity)]);
        assert_eq!(issue(&world, 5).await, Err(BrokerError::SubjectMismatch(tenant())));
        assert_eq!(issue(&world, 5).await, needs_consent(ConsentReason::NoLongerWorks));
        let kept = world.grants.access_token(&name).await.unwrap();
        assert!(kept.is_none());
    }
}

#[tokio::test]
async fn a_changed_user_principal_name_updates_the_grant() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let mut renamed = person(&tenant(), 5);
    renamed.user_principal_name = "new@example.com".to_owned();
    world.provider.script_answers([ScriptedAnswer::ForIdentity(renamed)]);
    issue(&world, 5).await.unwrap();
    assert_eq!(world.grants.grant(&name).user_principal_name, "new@example.com");
    let new_name = PersonSelector::UserPrincipalName("NEW@example.com".to_owned());
    let found = world.impersonation.find(&tenant(), &new_name).await.unwrap();
    assert_eq!(found.name(), Some(name));
    assert_eq!(&*found.user_principal_name, "new@example.com");
}

#[tokio::test]
async fn verifies_a_grant_before_its_next_use_after_a_restored_backup() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    let other: TenantName = "applications/crm-sync/tenants/Cust2".parse().unwrap();
    world.grants.add(&other, 7);
    world.impersonation.find(&other, &by_associate(7)).await.unwrap();
    world.impersonation.mark_all_unconfirmed(&tenant()).await.unwrap();
    assert_eq!(world.impersonation.refresher.grant_cache.tenants(), [other]);
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5.2");
    assert!(!world.grants.grant(&name).identity_unconfirmed);
}

#[tokio::test]
async fn issues_the_stored_token_after_a_restart() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    let world = world.restarted();
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5.1");
    assert_eq!(world.provider.sent().len(), 1);
}

#[tokio::test]
async fn rejects_a_min_ttl_of_more_than_half_the_lifetime() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let ask_for = async |minutes| {
        let asked = issue_for(&world, by_associate(5), Duration::from_mins(minutes));
        world.finish(asked).await
    };
    assert_eq!(reason(ask_for(31).await), Reason::InvalidArgument);
    assert!(ask_for(30).await.is_ok());
    world.clock.advance(HOUR);
    world.provider.script_answers([ScriptedAnswer::ExpiresIn(Duration::from_mins(20))]);
    assert_eq!(reason(ask_for(11).await), Reason::InvalidArgument);
    assert!(ask_for(10).await.is_ok());
    assert_eq!(world.provider.sent().len(), 2);
}

#[tokio::test]
async fn a_wall_clock_set_back_does_not_reduce_the_longest_min_ttl() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let first = issue(&world, 5).await.unwrap();
    world.clock.set_wall(world.clock.now() - 24 * HOUR);
    world.clock.advance(Duration::from_mins(40));
    // Corrects the times of the cached token.
    world.impersonation.renew_due();
    world.wait_idle().await;
    let asked = issue_for(&world, by_associate(5), Duration::from_mins(15));
    assert_eq!(world.finish(asked).await.unwrap(), first);
}

#[tokio::test]
async fn the_gateways_own_calls_accept_a_token_of_a_short_lifetime() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([ScriptedAnswer::ExpiresIn(Duration::from_secs(40))]);
    let min_ttl = Duration::from_secs(30);
    let asked = world.impersonation.access_token(&name, MinTtl::Preferred(min_ttl));
    assert!(world.finish(asked).await.is_ok());
    let asked = issue_for(&world, by_associate(5), min_ttl);
    assert_eq!(reason(world.finish(asked).await), Reason::InvalidArgument);
    assert_eq!(world.provider.sent().len(), 1);
}

#[tokio::test]
async fn a_token_in_use_is_renewed_by_four_fifths_of_its_life_and_one_that_nobody_asks_for_is_not()
{
    let world = World::new();
    world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    for _ in 0..48 {
        world.clock.advance(Duration::from_mins(1));
        world.impersonation.renew_due();
        world.wait_idle().await;
    }
    assert_eq!(world.provider.sent().len(), 2);
    // A renewal does not count as use: after two hours there are no more renewals.
    for _ in 0..600 {
        world.clock.advance(Duration::from_mins(1));
        world.impersonation.renew_due();
        world.wait_idle().await;
    }
    assert!(world.provider.sent().len() <= 4, "{}", world.provider.sent().len());
}

#[tokio::test]
async fn verifies_a_rejected_token_and_replaces_it_at_most_once_a_minute() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let token = async || {
        let found = world.impersonation.find(&tenant(), &by_associate(5)).await.unwrap();
        let may = authorize(&world, found);
        world.finish(world.impersonation.issue(&may, ANY)).await.map(|it| it.unwrap().token)
    };
    let report = async |id: CredentialId| {
        let found = world.impersonation.find(&tenant(), &by_associate(5)).await.unwrap();
        world.impersonation.report_rejected(&authorize(&world, found), id).await.unwrap();
    };
    let first = token().await.unwrap();
    // A report of a working token or of a made-up id changes nothing.
    report(first.credential_id.clone()).await;
    report(CredentialId::from_text("a-g5-made-up")).await;
    assert_eq!(token().await.unwrap().credential_id, first.credential_id);
    let kill = |token: &AccessToken| {
        let value = token.value.expose_secret().to_owned();
        world.upstream.dead_tickets.lock().unwrap().insert(value);
    };
    kill(&first);
    join_all((0..10).map(|_| report(first.credential_id.clone()))).await;
    assert_eq!(world.grants.access_token(&name).await.unwrap().map(|_| ()), None);
    let second = token().await.unwrap();
    assert_eq!(world.provider.sent().len(), 2);
    kill(&second);
    report(second.credential_id.clone()).await;
    assert_eq!(token().await.unwrap_err().reason(), Reason::UpstreamUnavailable);
    world.clock.advance(Duration::from_mins(1));
    assert!(token().await.is_ok());
}

#[tokio::test]
async fn drops_a_token_that_belongs_to_another_person() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    *world.upstream.principal.lock().unwrap() = 6;
    let found = world.impersonation.find(&tenant(), &by_associate(5)).await.unwrap();
    let issued = world.impersonation.issue(&authorize(&world, found.clone()), ANY).await.unwrap();
    let id = issued.unwrap().token.credential_id.clone();
    world.impersonation.report_rejected(&authorize(&world, found), id).await.unwrap();
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5.2");
}

#[tokio::test]
async fn a_disabled_tenant_gets_no_token_at_once() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    *world.upstream.disabled.lock().unwrap() = true;
    world.directory.forget(&tenant());
    assert_eq!(issue(&world, 5).await, Err(BrokerError::TenantDisabled(tenant())));
}

#[tokio::test]
async fn issues_nothing_for_a_grant_deleted_during_its_refresh() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let closed = Arc::clone(&world.provider.gate).write_owned().await;
    let mut asked = Box::pin(issue_for(&world, by_associate(5), ANY));
    while world.provider.sent().is_empty() {
        assert!(poll!(&mut asked).is_pending());
        tokio::task::yield_now().await;
    }
    world.grants.delete(&name);
    drop(closed);
    assert_eq!(reason(world.finish(asked).await), Reason::ResourceNotFound);
}

#[tokio::test]
async fn revokes_a_grant_at_once_locally_and_later_upstream() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    *world.provider.revocation_fails.lock().unwrap() = true;
    let mut feed = world.impersonation.subscribe();
    world.impersonation.revoke(&authorize(&world, tenant()), &name.grant).await.unwrap();
    assert_eq!(issue(&world, 5).await, needs_consent(ConsentReason::Revoked));
    assert!(!world.impersonation.revoke_pending().await.unwrap());
    let failed = world.impersonation.revoke_upstream(&name).await.unwrap_err();
    assert_eq!(failed.reason(), Reason::UpstreamUnavailable);
    assert!(world.grants.grant(&name).revocation_pending);
    *world.provider.revocation_fails.lock().unwrap() = false;
    assert!(world.impersonation.revoke_pending().await.unwrap());
    assert_eq!(*world.provider.revoked.lock().unwrap(), ["r5"]);
    for pending in [true, false] {
        let event = feed.next().await.unwrap();
        assert_eq!(event.kind, GrantEventKind::Revoked);
        assert_eq!(event.grant.unwrap().revocation_pending, pending);
    }
}

#[tokio::test]
async fn verifies_an_import_before_storing_it_and_stores_the_rotated_token() {
    let world = World::new();
    let import = async |token: &str| {
        let token = RefreshToken::new(&token.into()).unwrap();
        world.impersonation.import(&authorize(&world, tenant()), token).await
    };
    world.provider.script_answers([refused()]);
    assert_eq!(import("r5").await.unwrap_err().reason(), Reason::ConsentRequired);
    let elsewhere = "applications/crm-sync/tenants/Cust2".parse().unwrap();
    world.provider.script_answers([ScriptedAnswer::ForIdentity(person(&elsewhere, 5))]);
    assert_eq!(import("r5").await, Err(BrokerError::SubjectMismatch(tenant())));
    assert!(!world.grants.log.lock().unwrap().contains(&"consented"));
    world.provider.script_answers([ScriptedAnswer::Rotated("r5-b")]);
    let grant = import(" r5\n").await.unwrap();
    assert_eq!(world.grants.token(&grant.name).unwrap(), "r5-b");
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5-b.4");
    // A second import keeps the name of the grant.
    assert_eq!(import("r5-c").await.unwrap().name, grant.name);
    // A rotated token whose import fails is revoked.
    world.provider.script_answers([ScriptedAnswer::RotatedWithInvalidIdToken("r5-d")]);
    assert!(import("r5").await.is_err());
    // The replaced token is revoked, too.
    assert_eq!(*world.provider.revoked.lock().unwrap(), ["r5-b", "r5-d"]);
}

#[tokio::test]
async fn does_not_revoke_an_imported_token_that_the_store_may_have() {
    for (unknown, revoked) in [(0, 1), (1, 0)] {
        let world = World::new();
        world.provider.script_answers([ScriptedAnswer::Rotated("r5-b")]);
        {
            let mut failing = world.grants.failures.lock().unwrap();
            // The first outcome is unknown, and every later attempt certainly fails.
            failing.insert("consented, outcome unknown", unknown);
            failing.insert("consented", 5 - unknown);
        }
        let token = RefreshToken::new(&"r5".into()).unwrap();
        let may = authorize(&world, tenant());
        let error = world.finish(world.impersonation.import(&may, token)).await.unwrap_err();
        assert_eq!(matches!(error, BrokerError::StoreOutcomeUnknown(_)), unknown == 1, "{error:?}");
        assert_eq!(world.provider.revoked.lock().unwrap().len(), revoked, "{unknown}");
    }
}

#[tokio::test]
async fn does_not_issue_a_token_by_a_name_that_no_longer_matches() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let renamed = crate::domain::VerifiedIdentity {
        user_principal_name: "somebody.else@example.com".to_owned(),
        ..person(&tenant(), 5)
    };
    world.provider.script_answers([ScriptedAnswer::ForIdentity(renamed)]);
    let asked = PersonSelector::UserPrincipalName("p5@example.com".to_owned());
    let issued = world.finish(issue_for(&world, asked, ANY)).await;
    assert_eq!(issued, needs_consent(ConsentReason::NotGiven));
    assert!(issue(&world, 5).await.is_ok());
}

#[tokio::test]
async fn a_restart_does_not_retry_all_broken_grants() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([refused(), refused()]);
    assert!(issue(&world, 5).await.is_err());
    let clock = world.clock.clone();
    clock.advance(2 * HOUR);
    let again = world.restarted();
    again.impersonation.restore_broken_grants().await.unwrap();
    again.impersonation.renew_due();
    again.wait_idle().await;
    assert_eq!(again.provider.sent().len(), 1);
    clock.advance(4 * HOUR);
    again.impersonation.renew_due();
    again.wait_idle().await;
    assert_eq!(again.provider.sent().len(), 2);
    assert_eq!(again.grants.grant(&name).state, GrantState::ConsentRequired);
}

#[tokio::test]
async fn repeats_an_inconclusive_retry() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([refused(), transient()]);
    assert!(issue(&world, 5).await.is_err());
    for _ in 0..3 {
        world.clock.advance(HOUR);
        world.impersonation.renew_due();
        world.wait_idle().await;
    }
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
}

#[tokio::test]
async fn a_new_consent_invalidates_the_cached_grant() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.script_answers([refused()]);
    assert!(issue(&world, 5).await.is_err());
    let mut feed = world.impersonation.subscribe();
    let (person, id) = (person(&tenant(), 5), name.grant.clone());
    let now = world.clock.now();
    let stored = world
        .grants
        .store_consent(&tenant().application, &person, &"r5-new".into(), &id, now)
        .await
        .unwrap()
        .unwrap();
    world.impersonation.record_consent(&stored.grant, GrantEventKind::Reconsented);
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5-new.2");
    assert_eq!(feed.next().await.unwrap().kind, GrantEventKind::Reconsented);
}

#[tokio::test]
async fn two_grants_with_names_of_equal_case_folding_are_ambiguous() {
    let world = World::new();
    let (five, six) = (world.grants.add(&tenant(), 5), world.grants.add(&tenant(), 6));
    let named = |name: &str| PersonSelector::UserPrincipalName(name.to_owned());
    let user_principal_name = "Stra\u{df}e@example.com".to_owned();
    world.grants.rename(&five, &user_principal_name);
    let renamed = crate::domain::VerifiedIdentity { user_principal_name, ..person(&tenant(), 5) };
    world.provider.script_answers([ScriptedAnswer::ForIdentity(renamed)]);
    for name in ["STRASSE@example.com", "stra\u{df}e@EXAMPLE.com"] {
        assert!(world.finish(issue_for(&world, named(name), ANY)).await.is_ok(), "{name}");
    }
    world.grants.rename(&six, "strasse@example.com");
    let several = world.finish(issue_for(&world, named("strasse@example.com"), ANY)).await;
    assert_eq!(several, Err(BrokerError::GrantAmbiguous(tenant(), 2)));
}

#[tokio::test]
async fn finds_exactly_one_grant_or_explains_why_not() {
    let world = World::new();
    let five = world.grants.add(&tenant(), 5);
    let six = world.grants.add(&tenant(), 6);
    let named = |name: &str| PersonSelector::UserPrincipalName(name.to_owned());
    assert_eq!(issue(&world, 7).await, needs_consent(ConsentReason::NotGiven));
    let nobody = world.finish(issue_for(&world, named("x@example.com"), ANY)).await;
    assert_eq!(nobody, needs_consent(ConsentReason::NotGiven));
    assert!(world.finish(issue_for(&world, named("P5@example.com"), ANY)).await.is_ok());
    world.grants.rename(&six, "p5@example.com");
    let several = world.finish(issue_for(&world, named("p5@example.com"), ANY)).await;
    assert_eq!(several, Err(BrokerError::GrantAmbiguous(tenant(), 2)));
    // The name moved to another person, and the former grant is revoked.
    world.impersonation.revoke(&authorize(&world, tenant()), &six.grant).await.unwrap();
    assert!(world.finish(issue_for(&world, named("p5@example.com"), ANY)).await.is_ok());
    assert!(world.finish(issue_for(&world, PersonSelector::Grant(five.grant), ANY)).await.is_ok());
    let unknown = "g99".parse().unwrap();
    let unknown = world.finish(issue_for(&world, PersonSelector::Grant(unknown), ANY)).await;
    assert_eq!(reason(unknown), Reason::ResourceNotFound);
    let system = issue(&world, SYSTEM_USER).await.unwrap_err();
    assert_eq!(system.reason(), Reason::AssociateCannotSignIn);
    assert!(system.message().contains("system user"), "{}", system.message());
}

#[tokio::test]
async fn lists_grants_in_pages_with_a_filter() {
    let world = World::new();
    for associate in 1..=5 {
        world.grants.add(&tenant(), associate);
    }
    let (read, all) = (authorize(&world, tenant()), Filter::parse("", GRANT_FIELDS).unwrap());
    let page =
        world.impersonation.list(AuthorizedGrantScope::Tenant(&read), &all, None, 3).await.unwrap();
    assert_eq!(page.grants.len(), 3);
    let rest = world
        .impersonation
        .list(AuthorizedGrantScope::Tenant(&read), &all, page.next, 3)
        .await
        .unwrap();
    assert_eq!((rest.grants.len(), rest.next), (2, None));
    let one = Filter::parse("associate_id = 4", GRANT_FIELDS).unwrap();
    let page =
        world.impersonation.list(AuthorizedGrantScope::Tenant(&read), &one, None, 3).await.unwrap();
    assert_eq!(page.grants.len(), 1);
}

#[tokio::test]
async fn a_slow_watch_gets_an_error() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let mut feed = world.impersonation.subscribe();
    for _ in 0..1100 {
        world.impersonation.revoke(&authorize(&world, tenant()), &name.grant).await.unwrap();
    }
    assert!(feed.next().await.is_err());
}
