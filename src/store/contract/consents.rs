//! Promises of `ConsentStore`.

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;
use tokio::task::JoinSet;

use super::{Store, StoreLocation, at, cust1};
use crate::{
    domain::{
        CallerRecord, Consent, ConsentAttempt, ConsentId, ConsentOutcome, GrantId, GrantName,
        Reason,
    },
    ports::{BeginConsentResult, ConsentLimits, ConsentStore, MAX_CONSENT_ATTEMPTS, StoreError},
};

const ROOMY: ConsentLimits = ConsentLimits { open_per_caller: 100, total: 100 };

fn a_consent(number: u8) -> Consent {
    Consent {
        id: ConsentId::new([number; 16]),
        application: cust1().application,
        tenant: Some(cust1().tenant),
        caller: caller("login:portal"),
        return_uri: Some("https://portal.example.com/done".to_owned()),
        redirect_uri: None,
        login_hint: Some("tony@example.com".to_owned()),
        enroll_system_user: true,
        expected_user_principal_name: Some("tony@example.com".to_owned()),
        reason: "to sync Tony's diary".to_owned(),
        create_time: at(0),
        expire_time: at(1000),
        outcome: None,
    }
}

fn caller(id: &str) -> CallerRecord {
    let issuer = Some("https://login.example.com".to_owned());
    CallerRecord { id: id.to_owned(), method: "jwt".to_owned(), issuer }
}

fn an_attempt(number: u8) -> ConsentAttempt {
    ConsentAttempt {
        consent: ConsentId::new([number; 16]),
        nonce: "nonce".to_owned(),
        verifier: "verifier-that-nobody-may-see".into(),
        redirect_uri: "https://gateway.example.com/consent/callback".to_owned(),
        cookie_digest: Some([7; 32]),
        expire_time: at(600),
    }
}

async fn begin(store: &dyn Store, consent: &Consent) {
    assert_eq!(
        ConsentStore::begin(store, consent, ROOMY).await.unwrap(),
        BeginConsentResult::Stored
    );
}

async fn kept(store: &dyn Store, id: &ConsentId) -> Option<Consent> {
    ConsentStore::get(store, id).await.unwrap()
}

pub(in crate::store) async fn stores_a_consent_unchanged(place: &dyn StoreLocation) {
    let store = place.open().await;
    let bare = Consent {
        tenant: None,
        return_uri: None,
        redirect_uri: Some("https://portal.example.com/callback".to_owned()),
        caller: CallerRecord { issuer: None, ..caller("b") },
        login_hint: None,
        enroll_system_user: false,
        expected_user_principal_name: None,
        reason: String::new(),
        ..a_consent(2)
    };
    for consent in [&a_consent(1), &bare] {
        assert_eq!(kept(&*store, &consent.id).await, None);
        begin(&*store, consent).await;
        assert_eq!(kept(&*place.open().await, &consent.id).await.as_ref(), Some(consent));
    }
    let again = ConsentStore::begin(&*store, &bare, ROOMY).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists)));
}

pub(in crate::store) async fn limits_consents_per_caller_and_in_total(place: &dyn StoreLocation) {
    let store = place.open().await;
    let limits = ConsentLimits { open_per_caller: 2, total: 4 };
    let begin = async |number, id: &str, second| {
        let caller = caller(id);
        let consent = Consent { caller, create_time: at(second), ..a_consent(number) };
        ConsentStore::begin(&*store, &consent, limits).await.unwrap()
    };
    assert_eq!(begin(1, "a", 0).await, BeginConsentResult::Stored);
    assert_eq!(begin(2, "a", 0).await, BeginConsentResult::Stored);
    assert_eq!(begin(3, "a", 0).await, BeginConsentResult::CallerLimitReached);
    assert_eq!(kept(&*store, &ConsentId::new([3; 16])).await, None);
    // A finished or expired consent is not open.
    let first = ConsentId::new([1; 16]);
    assert!(store.finish(&first, &ConsentOutcome::Refused).await.unwrap());
    assert_eq!(begin(3, "a", 0).await, BeginConsentResult::Stored);
    assert_eq!(begin(4, "a", 999).await, BeginConsentResult::CallerLimitReached);
    assert_eq!(begin(4, "a", 1000).await, BeginConsentResult::Stored);
    assert_eq!(begin(5, "b", 1000).await, BeginConsentResult::TotalLimitReached);
    assert_eq!(store.delete_expired(Duration::ZERO, at(1000)).await.unwrap(), 4);
    assert_eq!(begin(5, "b", 1001).await, BeginConsentResult::Stored);
}

pub(in crate::store) async fn a_state_can_be_used_once_even_concurrently(
    place: &dyn StoreLocation,
) {
    let (ours, theirs) = (place.open().await, place.open().await);
    begin(&*ours, &a_consent(1)).await;
    assert!(ours.add_attempt(&[1; 32], &an_attempt(1), at(1)).await.unwrap());
    assert!(ours.take_attempt(&[2; 32], at(2)).await.unwrap().is_none(), "made up");
    let mut redeeming = JoinSet::new();
    for number in 0..10 {
        let store = Arc::clone(if number % 2 == 0 { &ours } else { &theirs });
        redeeming.spawn(async move { store.take_attempt(&[1; 32], at(2)).await.unwrap() });
    }
    let got: Vec<_> = redeeming.join_all().await.into_iter().flatten().collect();
    let [(consent, attempt)] = got.as_slice() else { panic!("{} got it", got.len()) };
    assert_eq!(*consent, a_consent(1));
    let wanted = an_attempt(1);
    assert_eq!(attempt.verifier.expose_secret(), wanted.verifier.expose_secret());
    assert_eq!(
        (&attempt.consent, &attempt.nonce, &attempt.redirect_uri, attempt.cookie_digest),
        (&wanted.consent, &wanted.nonce, &wanted.redirect_uri, wanted.cookie_digest)
    );
    assert_eq!(attempt.expire_time, wanted.expire_time);
    assert!(ours.take_attempt(&[1; 32], at(2)).await.unwrap().is_none(), "replayed");
}

pub(in crate::store) async fn a_state_added_again_can_be_used_once_more(place: &dyn StoreLocation) {
    let store = place.open().await;
    begin(&*store, &a_consent(1)).await;
    assert!(store.add_attempt(&[1; 32], &an_attempt(1), at(1)).await.unwrap());
    let (_, attempt) = store.take_attempt(&[1; 32], at(2)).await.unwrap().unwrap();
    assert!(store.add_attempt(&[1; 32], &attempt, at(3)).await.unwrap());
    let (consent, again) = store.take_attempt(&[1; 32], at(4)).await.unwrap().unwrap();
    assert_eq!(consent, a_consent(1));
    assert_eq!(again.verifier.expose_secret(), attempt.verifier.expose_secret());
    assert_eq!(again.expire_time, attempt.expire_time);
    assert!(store.take_attempt(&[1; 32], at(5)).await.unwrap().is_none());
}

pub(in crate::store) async fn an_expired_attempt_cannot_be_used(place: &dyn StoreLocation) {
    let store = place.open().await;
    begin(&*store, &a_consent(1)).await;
    let late = ConsentAttempt { expire_time: at(2000), ..an_attempt(1) };
    let bare = ConsentAttempt { cookie_digest: None, ..an_attempt(1) };
    for (state, attempt) in [([1; 32], &bare), ([2; 32], &bare), ([3; 32], &late)] {
        assert!(store.add_attempt(&state, attempt, at(1)).await.unwrap());
    }
    let (_, attempt) = store.take_attempt(&[1; 32], at(599)).await.unwrap().unwrap();
    assert_eq!(attempt.cookie_digest, None);
    assert!(store.take_attempt(&[2; 32], at(600)).await.unwrap().is_none());
    // Setting the clock back does not restore it.
    assert!(store.take_attempt(&[2; 32], at(1)).await.unwrap().is_none());
    // The consent expires before the attempt.
    assert!(store.take_attempt(&[3; 32], at(1000)).await.unwrap().is_none());
}

pub(in crate::store) async fn an_attempt_needs_an_open_consent(place: &dyn StoreLocation) {
    let store = place.open().await;
    assert!(!store.add_attempt(&[1; 32], &an_attempt(1), at(1)).await.unwrap(), "unknown");
    begin(&*store, &a_consent(1)).await;
    assert!(!store.add_attempt(&[1; 32], &an_attempt(1), at(1000)).await.unwrap(), "expired");
    assert!(store.add_attempt(&[1; 32], &an_attempt(1), at(1)).await.unwrap());
    let again = store.add_attempt(&[1; 32], &an_attempt(1), at(1)).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists)));
    let id = ConsentId::new([1; 16]);
    assert!(store.finish(&id, &ConsentOutcome::Refused).await.unwrap());
    assert!(store.take_attempt(&[1; 32], at(2)).await.unwrap().is_none(), "ended");
    assert!(!store.add_attempt(&[2; 32], &an_attempt(1), at(2)).await.unwrap(), "ended");
}

pub(in crate::store) async fn limits_attempts_of_one_consent(place: &dyn StoreLocation) {
    let store = place.open().await;
    for number in [1, 2] {
        begin(&*store, &a_consent(number)).await;
    }
    assert!(store.add_attempt(&[99; 32], &an_attempt(2), at(1)).await.unwrap());
    let most = u8::try_from(MAX_CONSENT_ATTEMPTS).unwrap();
    for number in 0..=most {
        assert!(store.add_attempt(&[number; 32], &an_attempt(1), at(1)).await.unwrap());
    }
    assert!(store.take_attempt(&[0; 32], at(2)).await.unwrap().is_none(), "the oldest is gone");
    for state in [1, most, 99] {
        assert!(store.take_attempt(&[state; 32], at(2)).await.unwrap().is_some());
    }
}

pub(in crate::store) async fn the_first_outcome_of_a_consent_stays(place: &dyn StoreLocation) {
    let store = place.open().await;
    let grant = GrantName { tenant: cust1(), grant: GrantId::new([5; 16]) };
    let granted =
        |enrolled| ConsentOutcome::Granted { grant: grant.clone(), system_user_enrolled: enrolled };
    let mut outcomes = vec![granted(true), granted(false), ConsentOutcome::Refused];
    outcomes.extend(Reason::ALL.iter().copied().map(ConsentOutcome::Failed));
    for (number, outcome) in (1..).zip(outcomes) {
        let consent = a_consent(number);
        begin(&*store, &consent).await;
        assert!(store.finish(&consent.id, &outcome).await.unwrap());
        assert!(!store.finish(&consent.id, &ConsentOutcome::Refused).await.unwrap());
        let wanted = Consent { outcome: Some(outcome), ..consent };
        assert_eq!(kept(&*store, &wanted.id).await, Some(wanted));
    }
    let unknown = ConsentId::new([0; 16]);
    assert!(!store.finish(&unknown, &ConsentOutcome::Refused).await.unwrap());
}

pub(in crate::store) async fn deletes_only_expired_consents_and_attempts(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let longer = Consent { expire_time: at(2000), ..a_consent(2) };
    for consent in [&a_consent(1), &longer] {
        begin(&*store, consent).await;
    }
    assert!(store.add_attempt(&[1; 32], &an_attempt(1), at(1)).await.unwrap());
    assert!(store.add_attempt(&[2; 32], &an_attempt(2), at(1)).await.unwrap());
    let day = Duration::from_hours(24);
    let forget = async |now| store.delete_expired(day, now).await.unwrap();
    assert_eq!(forget(at(599)).await, 0);
    assert!(store.take_attempt(&[2; 32], at(1)).await.unwrap().is_some());
    // An expired attempt is deleted at once, because it has no outcome.
    assert_eq!(forget(at(600)).await, 0);
    assert!(store.take_attempt(&[1; 32], at(1)).await.unwrap().is_none());
    assert_eq!(forget(at(999) + day).await, 0);
    assert_eq!(forget(at(1000) + day).await, 1);
    assert_eq!(kept(&*store, &a_consent(1).id).await, None);
    assert_eq!(kept(&*store, &longer.id).await, Some(longer));
}
