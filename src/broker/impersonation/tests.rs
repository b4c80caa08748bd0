//! The rules of DESIGN section 7, "Refresh tokens", one test each.

use std::{sync::Arc, time::Duration};

use futures_util::{future::join_all, poll};
use secrecy::ExposeSecret as _;

use super::{
    fakes::{Answer, person},
    *,
};
use crate::{
    access::{Access, Action, Caller, On, Resource},
    broker::fakes::{SYSTEM_USER, World, tenant},
    domain::{Filter, GRANT_FIELDS, GrantEventKind, Reason, RefreshToken, TenantState},
    ports::ExchangeError,
};

const ANY: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_hours(1);

fn may<A: Action + On<R>, R: Clone + Into<Resource>>(world: &World, what: R) -> Authorized<A, R> {
    let access = Access::command_line(Caller::anonymous(), world.clock.clone());
    access.authorize(&Caller::anonymous(), what).unwrap()
}

/// The value of the token that is handed out.
type Issued = Result<String, BrokerError>;

async fn ask(world: &World, subject: Subject, min_ttl: Duration) -> Issued {
    loop {
        let found = world.impersonation.find(&tenant(), &subject).await?;
        let issued = world.impersonation.issue(&may(world, found), min_ttl).await?;
        // Else they are called otherwise by now, and it is decided anew.
        if let Some(issued) = issued {
            return Ok(issued.token.value.expose_secret().to_owned());
        }
    }
}

/// Of the associate, in time.
async fn issue(world: &World, associate: i32) -> Issued {
    world.in_time(ask(world, of(associate), ANY)).await
}

fn of(associate: i32) -> Subject {
    Subject::Associate(AssociateId::new(associate).unwrap())
}

fn needs_consent(why: WhyConsent) -> Issued {
    Err(BrokerError::ConsentRequired(tenant(), why))
}

fn transient() -> Answer {
    Answer::Error(ExchangeError::Transient("HTTP 503".to_owned()))
}

fn refused() -> Answer {
    Answer::Error(ExchangeError::InvalidGrant)
}

fn reason(issued: Issued) -> Reason {
    issued.unwrap_err().reason()
}

#[tokio::test]
async fn all_who_ask_at_once_cost_one_refresh() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let asked = (0..1000).map(|_| ask(&world, of(5), ANY));
    let issued = world.in_time(join_all(asked)).await;
    assert!(issued.iter().all(|one| *one == Ok("8A:Cust1.r5.1".to_owned())));
    assert_eq!(world.provider.sent(), ["r5"]);
}

#[tokio::test]
async fn nobody_receives_what_somebody_else_asked_for() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    world.grants.add(&tenant(), 6);
    let both = join_all([5, 6].map(|id| ask(&world, of(id), ANY)));
    let values: Vec<_> = world.in_time(both).await.into_iter().map(Result::unwrap).collect();
    assert!(values[0].starts_with("8A:Cust1.r5."), "{values:?}");
    assert!(values[1].starts_with("8A:Cust1.r6."), "{values:?}");
}

#[tokio::test]
async fn the_first_callers_cancellation_stops_nothing() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let closed = Arc::clone(&world.provider.gate).write_owned().await;
    let mut first = Box::pin(ask(&world, of(5), ANY));
    while world.provider.sent().is_empty() {
        assert!(poll!(&mut first).is_pending());
        tokio::task::yield_now().await;
    }
    drop((first, closed));
    world.settled().await;
    assert!(world.grants.grant(&name).last_refresh_time.is_some());
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5.1");
    assert_eq!(world.provider.sent(), ["r5"]);
}

#[tokio::test]
async fn under_the_lease_the_stored_token_is_read_again() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let now = world.clock.now();
    let other = world.grants.acquire(&name.to_string(), "other", HOUR, now).await.unwrap().unwrap();
    let mut asked = Box::pin(ask(&world, of(5), ANY));
    for _ in 0..100 {
        assert!(poll!(&mut asked).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(world.provider.sent().is_empty(), "spent beside the holder of the lease");
    world.grants.set_token(&name, "r5-new");
    world.grants.release(&other).await.unwrap();
    assert_eq!(world.in_time(asked).await.unwrap(), "8A:Cust1.r5-new.1");
    assert_eq!(world.provider.sent(), ["r5-new"]);
}

#[tokio::test]
async fn who_takes_over_waits_one_exchange_time_out_after_expiry_and_renews_before_sending() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let begun = world.clock.now();
    let life = Duration::from_secs(15);
    world.grants.acquire(&name.to_string(), "crashed", life, begun).await.unwrap();
    issue(&world, 5).await.unwrap();
    let waited = world.clock.now().duration_since(begun).unsigned_abs();
    let allowed = Duration::from_secs(25)..Duration::from_secs(30);
    assert!(allowed.contains(&waited), "{waited:?}");
    // Ten of its fifteen seconds were gone: it would not have outlasted the exchange.
    assert_eq!(world.grants.renewals(), 1);
}

#[tokio::test]
async fn the_wait_for_a_former_holder_is_not_shortened_by_what_its_clock_wrote() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let life = Duration::from_secs(15);
    // A holder whose clock was an hour behind crashed in a refresh: its lease seems to have expired long ago.
    let behind = world.clock.now() - HOUR;
    world.grants.acquire(&name.to_string(), "crashed", life, behind).await.unwrap();
    let begun = world.clock.monotonic();
    issue(&world, 5).await.unwrap();
    let waited = world.clock.monotonic().saturating_sub(begun);
    let allowed = Duration::from_secs(10)..Duration::from_secs(15);
    assert!(allowed.contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn a_lease_that_a_clock_made_a_day_long_is_taken_over_once_it_was_seen_untouched() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let right = world.clock.now();
    let life = Duration::from_secs(15);
    // A holder whose clock was a day ahead crashed in a refresh.
    let ahead = right + 24 * HOUR;
    world.grants.acquire(&name.to_string(), "crashed", life, ahead).await.unwrap();
    world.grants.leave_orphan(&name, false);
    let begun = world.clock.monotonic();
    issue(&world, 5).await.unwrap();
    let waited = world.clock.monotonic().saturating_sub(begun);
    let allowed = Duration::from_secs(25)..Duration::from_secs(30);
    assert!(allowed.contains(&waited), "{waited:?}");
    assert_eq!(world.provider.sent(), ["r5"]);
    assert_eq!(world.counters.retried_after_crash.get(), 1);
}

#[tokio::test]
async fn what_was_stored_while_the_clock_was_ahead_is_not_handed_out_when_it_is_right_again() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let right = world.clock.now();
    for (index, step) in [2 * HOUR, 24 * HOUR, 365 * 24 * HOUR].into_iter().enumerate() {
        world.clock.set_wall(right + step);
        let ahead = issue(&world, 5).await.unwrap();
        assert_eq!(issue(&world, 5).await.unwrap(), ahead);
        world.clock.set_wall(right);
        // A restart: only what is stored is left of it.
        world.impersonation.refresher.cache.forget(|_| true);
        let again = issue(&world, 5).await.unwrap();
        assert_ne!(again, ahead, "{step:?}");
        assert_eq!(world.provider.sent().len(), 2 * index + 2);
        world.impersonation.refresher.cache.forget(|_| true);
        world.clock.advance(HOUR);
        world.clock.set_wall(right);
    }
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_prolongs_no_token_in_memory() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let first = issue(&world, 5).await.unwrap();
    world.clock.set_wall(world.clock.now() - 24 * HOUR);
    assert_eq!(issue(&world, 5).await.unwrap(), first);
    world.clock.advance(HOUR);
    assert_ne!(issue(&world, 5).await.unwrap(), first);
}

#[tokio::test]
async fn the_store_is_proven_writable_before_a_token_is_spent() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    world.grants.failing.lock().unwrap().insert("intend", 1);
    assert_eq!(reason(issue(&world, 5).await), Reason::StoreUnavailable);
    assert!(world.provider.sent().is_empty());
    assert!(issue(&world, 5).await.is_ok());
}

#[tokio::test]
async fn intent_then_exchange_then_the_new_token_then_the_rest() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.told([Answer::Rotated("r5-b")]);
    issue(&world, 5).await.unwrap();
    let log = world.grants.log.lock().unwrap().clone();
    assert_eq!(log, ["acquire", "read", "intend", "exchange", "keep_rotated", "settle"]);
    assert_eq!(world.grants.token(&name).unwrap(), "r5-b");
    assert!(!world.grants.has_intent(&name));
}

#[tokio::test]
async fn a_rotated_token_is_kept_though_nothing_else_can_be_believed() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.told([Answer::RotatedAndForged("r5-b")]);
    assert_eq!(reason(issue(&world, 5).await), Reason::UpstreamInvalidResponse);
    assert_eq!(world.grants.token(&name).unwrap(), "r5-b");
    world.clock.advance(Duration::from_mins(2));
    assert!(issue(&world, 5).await.is_ok());
    assert_eq!(world.provider.sent(), ["r5", "r5-b"]);
}

#[tokio::test]
async fn a_rotated_token_is_not_lost_while_the_store_is_away() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.told([Answer::Rotated("r5-b")]);
    world.grants.failing.lock().unwrap().insert("keep_rotated", 6);
    assert!(issue(&world, 5).await.is_ok());
    assert_eq!(world.grants.token(&name).unwrap(), "r5-b");
}

#[tokio::test]
async fn without_a_refresh_token_in_the_response_ours_goes_on() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    world.clock.advance(HOUR);
    issue(&world, 5).await.unwrap();
    assert_eq!(world.provider.sent(), ["r5", "r5"]);
    assert_eq!(world.grants.token(&name).unwrap(), "r5");
}

#[tokio::test]
async fn an_orphaned_intent_is_retried_once_and_counted() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.grants.leave_orphan(&name, false);
    assert!(issue(&world, 5).await.is_ok());
    assert_eq!(world.provider.sent(), ["r5"]);
    assert_eq!(world.counters.retried_after_crash.get(), 1);
    assert!(!world.grants.has_intent(&name));
}

#[tokio::test]
async fn an_orphan_that_was_retried_before_is_not_spent_again() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.grants.leave_orphan(&name, true);
    assert_eq!(issue(&world, 5).await, needs_consent(WhyConsent::NoLongerWorks));
    assert!(world.provider.sent().is_empty());
    assert_eq!(world.grants.grant(&name).state, GrantState::ConsentRequired);
}

#[tokio::test]
async fn a_rotated_token_that_meets_a_revoked_grant_is_revoked_upstream() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.told([Answer::Rotated("r5-b")]);
    let closed = Arc::clone(&world.provider.gate).write_owned().await;
    let mut asked = Box::pin(ask(&world, of(5), ANY));
    while world.provider.sent().is_empty() {
        assert!(poll!(&mut asked).is_pending());
        tokio::task::yield_now().await;
    }
    let revoked = world.impersonation.revoke(&may(&world, tenant()), &name.grant).await.unwrap();
    assert!(revoked.revocation_pending);
    drop(closed);
    assert_eq!(world.in_time(asked).await, needs_consent(WhyConsent::Revoked));
    assert!(world.impersonation.tell_pending().await.unwrap());
    assert_eq!(*world.provider.revoked.lock().unwrap(), ["r5-b"]);
    assert_eq!(world.grants.token(&name), None);
}

#[tokio::test]
async fn a_refused_grant_needs_consent_which_is_remembered_and_announced_and_not_hammered() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let mut feed = world.impersonation.feed();
    world.provider.told([refused()]);
    for _ in 0..10 {
        assert_eq!(issue(&world, 5).await, needs_consent(WhyConsent::NoLongerWorks));
    }
    assert_eq!(world.provider.sent().len(), 1);
    let event = feed.next().await.unwrap();
    let grant = event.grant.unwrap();
    assert_eq!((event.kind, &grant.name), (GrantEventKind::Broken, &name));
    assert_eq!(grant.last_failure.unwrap().reason, Reason::ConsentRequired);
    // Nor after a restart.
    let world = world.restarted();
    assert_eq!(issue(&world, 5).await, needs_consent(WhyConsent::NoLongerWorks));
    assert_eq!(world.provider.sent().len(), 1);
}

#[tokio::test]
async fn our_own_wrong_secret_breaks_no_grant() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.told([Answer::Error(ExchangeError::InvalidClient)]);
    assert_eq!(reason(issue(&world, 5).await), Reason::ApplicationCredentialRefused);
    assert_eq!(reason(issue(&world, 5).await), Reason::ApplicationCredentialRefused);
    assert_eq!(world.provider.sent().len(), 1, "it backs off");
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
    let gateway = may(&world, crate::access::Gateway);
    let seen = world.applications.list(&gateway, None, 1).pop().unwrap();
    let failure = seen.last_failure.unwrap().obstacle.reason;
    assert_eq!(failure, Reason::ApplicationCredentialRefused);
    world.clock.advance(Duration::from_mins(2));
    assert!(issue(&world, 5).await.is_ok());
}

#[tokio::test]
async fn a_401_without_a_name_blames_the_secret_only_where_it_has_not_worked_lately() {
    let world = World::new();
    let (name, other) = (world.grants.add(&tenant(), 5), world.grants.add(&tenant(), 6));
    let unnamed = || Answer::Error(ExchangeError::Unauthorized);
    // The secret has not worked yet.
    world.provider.told([unnamed()]);
    assert_eq!(reason(issue(&world, 5).await), Reason::ApplicationCredentialRefused);
    world.clock.advance(Duration::from_mins(2));
    issue(&world, 6).await.unwrap();
    for since in [0, 9] {
        world.clock.advance(Duration::from_mins(since));
        world.provider.told([unnamed()]);
        let sent = world.provider.sent().len();
        for _ in 0..60 {
            assert_eq!(reason(issue(&world, 5).await), Reason::UpstreamUnavailable, "{since}");
        }
        assert_eq!(world.provider.sent().len(), sent + 1, "it backs off");
    }
    let grant = world.grants.grant(&name);
    assert_eq!(
        (grant.state, grant.failing.map(|failing| failing.count)),
        (GrantState::Active, Some(3))
    );
    assert_eq!(world.grants.grant(&other).failing, None);
    // The secret last worked longer ago than an access token lives.
    world.clock.advance(Duration::from_mins(66));
    world.provider.told([unnamed()]);
    assert_eq!(reason(issue(&world, 5).await), Reason::ApplicationCredentialRefused);
}

#[tokio::test]
async fn what_passes_backs_off_and_a_token_that_is_still_valid_goes_on_being_served() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    world.clock.advance(Duration::from_mins(40));
    world.provider.told([transient(), transient()]);
    let half = Duration::from_mins(30);
    let asked = world.in_time(ask(&world, of(5), half)).await;
    assert_eq!(reason(asked), Reason::UpstreamUnavailable);
    let again = world.in_time(ask(&world, of(5), half)).await;
    assert_eq!(reason(again), Reason::UpstreamUnavailable);
    assert_eq!(world.provider.sent().len(), 2, "it backs off");
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5.1");
}

#[tokio::test]
async fn an_exchange_is_given_up_after_its_time_out() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let begun = world.clock.now();
    let _closed = Arc::clone(&world.provider.gate).write_owned().await;
    assert_eq!(reason(issue(&world, 5).await), Reason::UpstreamUnavailable);
    let waited = world.clock.now().duration_since(begun).unsigned_abs();
    assert!(waited < Duration::from_secs(15), "the lease outlasted it: {waited:?}");
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
}

#[tokio::test]
async fn while_the_tenant_is_not_usable_even_a_refused_grant_is_not_broken() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    // The last status is good for minutes yet.
    world.clock.advance(Duration::from_mins(50));
    *world.upstream.state.lock().unwrap() = TenantState::Suspended;
    world.provider.told([refused()]);
    let asked = world.in_time(ask(&world, of(5), Duration::from_mins(20))).await;
    assert_eq!(reason(asked), Reason::TenantNotRunning);
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
}

#[tokio::test]
async fn a_broken_grant_is_tried_again_after_1_6_and_24_hours() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.told([refused(), refused(), refused()]);
    assert!(issue(&world, 5).await.is_err());
    let mut tried = Vec::new();
    for half_hour in 1..=60_u32 {
        world.clock.advance(HOUR / 2);
        world.impersonation.renew_due();
        world.settled().await;
        if tried.len() + 1 < world.provider.sent().len() {
            tried.push(half_hour / 2);
        }
    }
    assert_eq!(tried, [1, 6, 24]);
    assert_eq!(world.grants.grant(&name).state, GrantState::Active, "the last one was accepted");
    assert!(issue(&world, 5).await.is_ok());
}

#[tokio::test]
async fn a_broken_grant_is_tried_again_when_its_tenant_resumes() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.told([refused()]);
    assert!(issue(&world, 5).await.is_err());
    world.impersonation.resumed(&tenant()).await.unwrap();
    world.settled().await;
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
}

#[tokio::test]
async fn a_tenant_that_comes_back_has_its_broken_grants_tried() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.told([refused()]);
    assert!(issue(&world, 5).await.is_err());
    let mut following = std::pin::pin!(world.impersonation.follow_resumed());
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
    world.settled().await;
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
}

#[tokio::test]
async fn another_person_or_tenant_is_a_mismatch_and_nothing_is_handed_out() {
    let elsewhere = "applications/crm-sync/tenants/Cust2".parse().unwrap();
    for identity in [person(&tenant(), 6), person(&elsewhere, 5)] {
        let world = World::new();
        let name = world.grants.add(&tenant(), 5);
        world.provider.told([Answer::For(identity)]);
        assert_eq!(issue(&world, 5).await, Err(BrokerError::SubjectMismatch(tenant())));
        assert_eq!(issue(&world, 5).await, needs_consent(WhyConsent::NoLongerWorks));
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
    world.provider.told([Answer::For(renamed)]);
    issue(&world, 5).await.unwrap();
    assert_eq!(world.grants.grant(&name).user_principal_name, "new@example.com");
    let new_name = Subject::UserPrincipalName("NEW@example.com".to_owned());
    let found = world.impersonation.find(&tenant(), &new_name).await.unwrap();
    assert_eq!(found.name(), Some(name));
    assert_eq!(&*found.user_principal_name, "new@example.com");
}

#[tokio::test]
async fn after_a_backup_was_restored_a_grant_is_proven_before_its_next_use() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    world.impersonation.doubt(&tenant()).await.unwrap();
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5.2");
    assert!(!world.grants.grant(&name).unproven);
}

#[tokio::test]
async fn after_a_restart_the_stored_token_is_served() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    let world = world.restarted();
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5.1");
    assert_eq!(world.provider.sent().len(), 1);
}

#[tokio::test]
async fn more_than_half_of_a_tokens_life_cannot_be_asked_for() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let ask_for = async |minutes| {
        let asked = ask(&world, of(5), Duration::from_mins(minutes));
        world.in_time(asked).await
    };
    assert_eq!(reason(ask_for(31).await), Reason::InvalidArgument);
    assert!(ask_for(30).await.is_ok());
    world.clock.advance(HOUR);
    world.provider.told([Answer::ExpiresIn(Duration::from_mins(20))]);
    assert_eq!(reason(ask_for(11).await), Reason::InvalidArgument);
    assert!(ask_for(10).await.is_ok());
    assert_eq!(world.provider.sent().len(), 2);
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
        world.settled().await;
    }
    assert_eq!(world.provider.sent().len(), 2);
    // Renewals are no use of it: after two hours there are no more.
    for _ in 0..600 {
        world.clock.advance(Duration::from_mins(1));
        world.impersonation.renew_due();
        world.settled().await;
    }
    assert!(world.provider.sent().len() <= 4, "{}", world.provider.sent().len());
}

#[tokio::test]
async fn a_rejected_token_is_proven_and_replaced_once_for_everybody_at_most_once_a_minute() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let token = async || {
        let found = world.impersonation.find(&tenant(), &of(5)).await.unwrap();
        let may = may(&world, found);
        world.in_time(world.impersonation.issue(&may, ANY)).await.map(|it| it.unwrap().token)
    };
    let report = async |id: CredentialId| {
        let found = world.impersonation.find(&tenant(), &of(5)).await.unwrap();
        world.impersonation.report_rejected(&may(&world, found), id).await.unwrap();
    };
    let first = token().await.unwrap();
    // It works, or it is made up: nothing happens.
    report(first.credential_id.clone()).await;
    report(CredentialId::from_text("a-g5-made-up")).await;
    assert_eq!(token().await.unwrap().credential_id, first.credential_id);
    let kill = |token: &AccessToken| {
        let value = token.value.expose_secret().to_owned();
        world.upstream.dead.lock().unwrap().insert(value);
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
async fn a_token_that_answers_for_somebody_else_is_dead() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    *world.upstream.principal.lock().unwrap() = 6;
    let found = world.impersonation.find(&tenant(), &of(5)).await.unwrap();
    let issued = world.impersonation.issue(&may(&world, found.clone()), ANY).await.unwrap();
    let id = issued.unwrap().token.credential_id.clone();
    world.impersonation.report_rejected(&may(&world, found), id).await.unwrap();
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5.2");
}

#[tokio::test]
async fn the_emergency_stop_holds_at_once() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    *world.upstream.disabled.lock().unwrap() = true;
    world.directory.forget(&tenant());
    assert_eq!(issue(&world, 5).await, Err(BrokerError::TenantDisabled(tenant())));
}

#[tokio::test]
async fn a_grant_that_is_deleted_while_it_is_refreshed_hands_out_nothing() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let closed = Arc::clone(&world.provider.gate).write_owned().await;
    let mut asked = Box::pin(ask(&world, of(5), ANY));
    while world.provider.sent().is_empty() {
        assert!(poll!(&mut asked).is_pending());
        tokio::task::yield_now().await;
    }
    world.grants.delete(&name);
    drop(closed);
    assert_eq!(reason(world.in_time(asked).await), Reason::ResourceNotFound);
}

#[tokio::test]
async fn a_revoked_grant_ends_at_once_here_and_upstream_when_it_is_heard() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    issue(&world, 5).await.unwrap();
    *world.provider.deaf.lock().unwrap() = true;
    let mut feed = world.impersonation.feed();
    world.impersonation.revoke(&may(&world, tenant()), &name.grant).await.unwrap();
    assert_eq!(issue(&world, 5).await, needs_consent(WhyConsent::Revoked));
    assert!(!world.impersonation.tell_pending().await.unwrap());
    assert!(world.grants.grant(&name).revocation_pending);
    *world.provider.deaf.lock().unwrap() = false;
    assert!(world.impersonation.tell_pending().await.unwrap());
    assert_eq!(*world.provider.revoked.lock().unwrap(), ["r5"]);
    for pending in [true, false] {
        let event = feed.next().await.unwrap();
        assert_eq!(event.kind, GrantEventKind::Revoked);
        assert_eq!(event.grant.unwrap().revocation_pending, pending);
    }
}

#[tokio::test]
async fn an_import_is_proven_before_it_is_stored_and_stores_what_was_rotated() {
    let world = World::new();
    let import = async |token: &str| {
        let token = RefreshToken::new(&token.into()).unwrap();
        world.impersonation.import(&may(&world, tenant()), token).await
    };
    world.provider.told([refused()]);
    assert_eq!(import("r5").await.unwrap_err().reason(), Reason::ConsentRequired);
    let elsewhere = "applications/crm-sync/tenants/Cust2".parse().unwrap();
    world.provider.told([Answer::For(person(&elsewhere, 5))]);
    assert_eq!(import("r5").await, Err(BrokerError::SubjectMismatch(tenant())));
    assert!(!world.grants.log.lock().unwrap().contains(&"consented"));
    world.provider.told([Answer::Rotated("r5-b")]);
    let grant = import(" r5\n").await.unwrap();
    assert_eq!(world.grants.token(&grant.name).unwrap(), "r5-b");
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5-b.4");
    // Again: it keeps its name.
    assert_eq!(import("r5-c").await.unwrap().name, grant.name);
    // One that was rotated and comes to nothing does not live on.
    world.provider.told([Answer::RotatedAndForged("r5-d")]);
    assert!(import("r5").await.is_err());
    // Nor does the one that another took the place of.
    assert_eq!(*world.provider.revoked.lock().unwrap(), ["r5-b", "r5-d"]);
}

#[tokio::test]
async fn an_imported_token_that_the_store_may_have_kept_is_not_revoked() {
    for (unknown, revoked) in [(0, 1), (1, 0)] {
        let world = World::new();
        world.provider.told([Answer::Rotated("r5-b")]);
        {
            let mut failing = world.grants.failing.lock().unwrap();
            // First the outcome is unknown, and then every other attempt surely fails.
            failing.insert("consented, outcome unknown", unknown);
            failing.insert("consented", 5 - unknown);
        }
        let token = RefreshToken::new(&"r5".into()).unwrap();
        let may = may(&world, tenant());
        let error = world.in_time(world.impersonation.import(&may, token)).await.unwrap_err();
        assert_eq!(matches!(error, BrokerError::StoreOutcomeUnknown(_)), unknown == 1, "{error:?}");
        assert_eq!(world.provider.revoked.lock().unwrap().len(), revoked, "{unknown}");
    }
}

#[tokio::test]
async fn who_is_called_otherwise_by_now_is_not_who_was_asked_for() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let renamed = crate::domain::Identity {
        user_principal_name: "somebody.else@example.com".to_owned(),
        ..person(&tenant(), 5)
    };
    world.provider.told([Answer::For(renamed)]);
    let asked = Subject::UserPrincipalName("p5@example.com".to_owned());
    let issued = world.in_time(ask(&world, asked, ANY)).await;
    assert_eq!(issued, needs_consent(WhyConsent::NotGiven));
    assert!(issue(&world, 5).await.is_ok());
}

#[tokio::test]
async fn a_start_does_not_try_all_broken_grants_again() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.told([refused(), refused()]);
    assert!(issue(&world, 5).await.is_err());
    let clock = world.clock.clone();
    clock.advance(2 * HOUR);
    let again = world.restarted();
    again.impersonation.remember_broken().await.unwrap();
    again.impersonation.renew_due();
    again.settled().await;
    assert_eq!(again.provider.sent().len(), 1);
    clock.advance(4 * HOUR);
    again.impersonation.renew_due();
    again.settled().await;
    assert_eq!(again.provider.sent().len(), 2);
    assert_eq!(again.grants.grant(&name).state, GrantState::ConsentRequired);
}

#[tokio::test]
async fn a_try_that_finds_nothing_out_is_made_again() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.told([refused(), transient()]);
    assert!(issue(&world, 5).await.is_err());
    for _ in 0..3 {
        world.clock.advance(HOUR);
        world.impersonation.renew_due();
        world.settled().await;
    }
    assert_eq!(world.grants.grant(&name).state, GrantState::Active);
}

#[tokio::test]
async fn a_new_consent_ends_what_was_known_of_the_former_one() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    world.provider.told([refused()]);
    assert!(issue(&world, 5).await.is_err());
    let mut feed = world.impersonation.feed();
    let (person, id) = (person(&tenant(), 5), name.grant.clone());
    let now = world.clock.now();
    let stored = world
        .grants
        .consented(&tenant().application, &person, &"r5-new".into(), &id, now)
        .await
        .unwrap()
        .unwrap();
    world.impersonation.told(&stored.grant, GrantEventKind::Reconsented);
    assert_eq!(issue(&world, 5).await.unwrap(), "8A:Cust1.r5-new.2");
    assert_eq!(feed.next().await.unwrap().kind, GrantEventKind::Reconsented);
}

#[tokio::test]
async fn two_grants_whose_names_fold_alike_are_ambiguous() {
    let world = World::new();
    let (five, six) = (world.grants.add(&tenant(), 5), world.grants.add(&tenant(), 6));
    let named = |name: &str| Subject::UserPrincipalName(name.to_owned());
    let user_principal_name = "Stra\u{df}e@example.com".to_owned();
    world.grants.rename(&five, &user_principal_name);
    let renamed = crate::domain::Identity { user_principal_name, ..person(&tenant(), 5) };
    world.provider.told([Answer::For(renamed)]);
    for name in ["STRASSE@example.com", "stra\u{df}e@EXAMPLE.com"] {
        assert!(world.in_time(ask(&world, named(name), ANY)).await.is_ok(), "{name}");
    }
    world.grants.rename(&six, "strasse@example.com");
    let several = world.in_time(ask(&world, named("strasse@example.com"), ANY)).await;
    assert_eq!(several, Err(BrokerError::GrantAmbiguous(tenant(), 2)));
}

#[tokio::test]
async fn who_is_meant_is_one_person_or_nobody() {
    let world = World::new();
    let five = world.grants.add(&tenant(), 5);
    let six = world.grants.add(&tenant(), 6);
    let named = |name: &str| Subject::UserPrincipalName(name.to_owned());
    assert_eq!(issue(&world, 7).await, needs_consent(WhyConsent::NotGiven));
    let nobody = world.in_time(ask(&world, named("x@example.com"), ANY)).await;
    assert_eq!(nobody, needs_consent(WhyConsent::NotGiven));
    assert!(world.in_time(ask(&world, named("P5@example.com"), ANY)).await.is_ok());
    world.grants.rename(&six, "p5@example.com");
    let several = world.in_time(ask(&world, named("p5@example.com"), ANY)).await;
    assert_eq!(several, Err(BrokerError::GrantAmbiguous(tenant(), 2)));
    // A name went from one to another, and the former can be acted for no more.
    world.impersonation.revoke(&may(&world, tenant()), &six.grant).await.unwrap();
    assert!(world.in_time(ask(&world, named("p5@example.com"), ANY)).await.is_ok());
    assert!(world.in_time(ask(&world, Subject::Grant(five.clone()), ANY)).await.is_ok());
    let unknown = GrantName { grant: "g99".parse().unwrap(), ..five };
    let unknown = world.in_time(ask(&world, Subject::Grant(unknown), ANY)).await;
    assert_eq!(reason(unknown), Reason::ResourceNotFound);
    let system = issue(&world, SYSTEM_USER).await.unwrap_err();
    assert_eq!(system.reason(), Reason::AssociateCannotSignIn);
    assert!(system.message().contains("system user"), "{}", system.message());
}

#[tokio::test]
async fn grants_are_listed_in_pages_by_a_filter() {
    let world = World::new();
    for associate in 1..=5 {
        world.grants.add(&tenant(), associate);
    }
    let (read, all) = (may(&world, tenant()), Filter::parse("", GRANT_FIELDS).unwrap());
    let page = world.impersonation.list(GrantsOf::Tenant(&read), &all, None, 3).await.unwrap();
    assert_eq!(page.grants.len(), 3);
    let rest = world.impersonation.list(GrantsOf::Tenant(&read), &all, page.next, 3).await.unwrap();
    assert_eq!((rest.grants.len(), rest.next), (2, None));
    let one = Filter::parse("associate_id = 4", GRANT_FIELDS).unwrap();
    let page = world.impersonation.list(GrantsOf::Tenant(&read), &one, None, 3).await.unwrap();
    assert_eq!(page.grants.len(), 1);
}

#[tokio::test]
async fn a_watch_that_falls_behind_is_told_so() {
    let world = World::new();
    let name = world.grants.add(&tenant(), 5);
    let mut feed = world.impersonation.feed();
    for _ in 0..1100 {
        world.impersonation.revoke(&may(&world, tenant()), &name.grant).await.unwrap();
    }
    assert!(feed.next().await.is_err());
}
