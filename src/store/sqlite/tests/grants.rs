//! Tests of grants and consents that are specific to SQLite.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Row as _};

use super::{Folder, sealed_for, set, unavailable};
use crate::{
    domain::{
        CallerRecord, Consent, ConsentAttempt, ConsentId, Environment, FailureStreak, GrantId,
        GrantScope, TenantName,
    },
    ports::{
        ConsentLimits, ConsentStore as _, GrantStore, SealError, StoreError, StoreHealth as _,
        TenantStore,
    },
    store::{
        contract::{
            Store as AnyStore, TestSealer, add, at, consent, cust1, lease, name, person, read,
            refresh, secret, tenant, to_spend, usual_applications,
        },
        sealing::REFRESH_TOKEN,
        sqlite::{SqliteFile, SqliteStore, grants::statements},
    },
};

fn does_not_open<T>(result: Result<T, StoreError>) {
    let Err(error) = result else { panic!("it opened") };
    assert!(matches!(error, StoreError::Seal(SealError::Corrupt(_))), "{error}");
}

async fn granted(store: &dyn AnyStore, tenant: &TenantName, associate: u8) -> crate::domain::Grant {
    consent(store, tenant, associate, &format!("refresh-of-{associate}")).await.grant
}

#[tokio::test]
async fn tokens_of_grants_are_bound_to_their_row_and_column() {
    let folder = Folder::new();
    let store = folder.store().await;
    add(&store, &cust1()).await;
    let (one, two) = (granted(&store, &cust1(), 1).await, granted(&store, &cust1(), 2).await);
    refresh(&store, &one, 1).await;
    refresh(&store, &two, 2).await;
    folder
        .meddle(
            "UPDATE refresh_tokens SET value = (SELECT value FROM refresh_tokens WHERE id LIKE '01%');
             UPDATE access_tokens SET value = (SELECT value FROM access_tokens WHERE id LIKE '01%')",
        )
        .await;
    assert!(to_spend(&store, &one.name).await.is_some());
    does_not_open(store.refresh_token(&two.name).await);
    does_not_open(store.access_token(&two.name).await);
    store.revoke(&two.name).await.unwrap();
    does_not_open(store.token_to_revoke(&two.name).await);
    // A refresh token cannot be opened as an access token either.
    folder.meddle("UPDATE access_tokens SET value = (SELECT value FROM refresh_tokens WHERE id LIKE '01%')").await;
    does_not_open(store.access_token(&one.name).await);
    // A row of one environment cannot be opened in another either.
    let mut elsewhere = usual_applications();
    elsewhere.get_mut(&cust1().application).unwrap().environment = Environment::Online;
    let file = SqliteFile::open(&folder.path()).await.unwrap();
    let store = SqliteStore::new(file, Arc::new(TestSealer), elsewhere);
    does_not_open(store.refresh_token(&one.name).await);
}

#[tokio::test]
async fn verifiers_are_bound_to_their_attempt() {
    let folder = Folder::new();
    let store = folder.store().await;
    let id = ConsentId::new([1; 16]);
    let consent = Consent {
        id: id.clone(),
        application: cust1().application,
        tenant: None,
        caller: CallerRecord {
            id: "login:portal".to_owned(),
            method: "jwt".to_owned(),
            issuer: None,
        },
        return_uri: None,
        redirect_uri: None,
        login_hint: None,
        enroll_system_user: false,
        expected_user_principal_name: None,
        reason: String::new(),
        create_time: at(0),
        expire_time: at(100),
        outcome: None,
    };
    let limits = ConsentLimits { open_per_caller: 9, total: 9 };
    store.begin(&consent, limits).await.unwrap();
    for state in [[1; 32], [2; 32]] {
        let attempt = ConsentAttempt {
            consent: id.clone(),
            nonce: "n".to_owned(),
            verifier: "a-verifier-that-nobody-may-see".into(),
            redirect_uri: String::new(),
            cookie_digest: None,
            expire_time: at(100),
        };
        assert!(store.add_attempt(&state, &attempt, at(1)).await.unwrap());
    }
    assert!(!folder.contains(b"a-verifier-that-nobody-may-see"));
    folder.meddle("UPDATE consent_attempts SET verifier = (SELECT verifier FROM consent_attempts LIMIT 1)").await;
    let redeemed =
        [store.take_attempt(&[1; 32], at(2)).await, store.take_attempt(&[2; 32], at(2)).await];
    assert_eq!(redeemed.iter().filter(|attempt| attempt.is_ok()).count(), 1);
}

#[tokio::test]
async fn files_contain_no_plain_refresh_tokens_and_no_deleted_ones() {
    let folder = Folder::new();
    let store = folder.store().await;
    add(&store, &cust1()).await;
    let grant = consent(&store, &cust1(), 5, "a-refresh-token-that-nobody-may-see").await.grant;
    refresh(&store, &grant, 1).await;
    let name = grant.name.to_string();
    let sealed = sealed_for(REFRESH_TOKEN, &name, "a-refresh-token-that-nobody-may-see");
    assert!(folder.contains(&sealed));
    for text in ["a-refresh-token-that-nobody-may-see", "8A:Cust1.access"] {
        assert!(!folder.contains(text.as_bytes()), "{text}");
    }
    TenantStore::delete(&store, &cust1(), None, true).await.unwrap();
    assert!(folder.contains(&sealed), "needed to revoke it");
    store.mark_revoked_upstream(&grant.name, 1).await.unwrap().unwrap();
    assert!(!folder.contains(&sealed));
    // The person's name is deleted too: nothing remains of the grant.
    assert!(!folder.contains(b"ony@new.example.com"));
    assert!(!folder.contains(grant.name.grant.as_str().as_bytes()));
}

#[tokio::test]
async fn does_not_use_a_token_while_the_store_is_not_writable() {
    let folder = Folder::new();
    let store = folder.store().await;
    add(&store, &cust1()).await;
    let grant = granted(&store, &cust1(), 5).await;
    let lease = lease(&store, &grant.name, 20).await;
    assert!(store.record_intent(&grant.name, &lease, 1, at(21)).await.unwrap());
    set(&store, "query_only = ON").await;
    // Also if the intent is already stored.
    unavailable(store.record_intent(&grant.name, &lease, 1, at(22)).await);
    assert!(to_spend(&store, &grant.name).await.is_some());
}

#[tokio::test]
async fn migrates_a_file_without_grants_and_keeps_its_data() {
    let folder = Folder::new();
    let store = folder.store().await;
    let before = add(&store, &cust1()).await;
    store.close().await;
    folder
        .meddle(
            "DROP TABLE consent_attempts; DROP TABLE consents; DROP TABLE access_tokens; DROP TABLE refresh_tokens;
             DROP TABLE grants; DROP TABLE leases; DROP TABLE lease_fences;
             DROP TABLE used_notifications;
             DELETE FROM _sqlx_migrations WHERE version >= 3",
        )
        .await;
    let store = folder.store().await;
    assert_eq!(tenant(&store, &cust1()).await, Some(before));
    let grant = granted(&store, &cust1(), 5).await;
    assert_eq!(read(&store, &grant.name).await, Some(grant));
}

#[tokio::test]
async fn a_migrated_failing_grant_counts_one_failure() {
    let folder = Folder::new();
    let store = folder.store().await;
    add(&store, &cust1()).await;
    let mut names = Vec::new();
    for associate in [5, 6, 7] {
        names.push(granted(&store, &cust1(), associate).await.name);
    }
    store.close().await;
    // The first failed after its last success, the second before it, and the third never failed.
    folder
        .meddle(
            "ALTER TABLE grants DROP COLUMN failing_since; ALTER TABLE grants DROP COLUMN failure_count;
             DROP TABLE used_notifications;
             DELETE FROM _sqlx_migrations WHERE version >= 5;
             UPDATE grants SET last_failure_reason = 'INTERNAL', last_failure_time = 2000000, last_refresh_time = 1000000
             WHERE associate_id = 5;
             UPDATE grants SET last_failure_reason = 'INTERNAL', last_failure_time = 1000000, last_refresh_time = 2000000
             WHERE associate_id = 6;",
        )
        .await;
    let store = folder.store().await;
    let mut failing = Vec::new();
    for name in &names {
        failing.push(read(&store, name).await.unwrap().failing);
    }
    let since = jiff::Timestamp::from_second(2).unwrap();
    assert_eq!(failing, [Some(FailureStreak { count: 1, since }), None, None]);
}

#[tokio::test]
async fn migrates_lower_case_keys_to_folded_ones() {
    let folder = Folder::new();
    let store = folder.store().await;
    add(&store, &cust1()).await;
    let names = ["Tony@Example.com", "Stra\u{df}e@example.com", "A\u{30a}se@example.com"];
    for (id, user) in (5_u8..).zip(names) {
        let person = person(&cust1(), id.into(), user);
        let grant = GrantId::new([id; 16]);
        let application = cust1().application;
        store.store_consent(&application, &person, &secret("x"), &grant, at(5)).await.unwrap();
    }
    store.close().await;
    folder
        .meddle(
            "UPDATE grants SET user_principal_key = CASE associate_id WHEN 5 THEN 'tony@example.com'
               WHEN 6 THEN 'straße@example.com' ELSE 'a\u{30a}se@example.com' END;
             DROP TABLE used_notifications;
             DELETE FROM _sqlx_migrations WHERE version >= 6",
        )
        .await;
    let store = folder.store().await;
    for (id, user) in
        [(5, "TONY@example.com"), (6, "STRASSE@EXAMPLE.com"), (7, "\u{c5}se@example.com")]
    {
        let found = store.find_by_user_principal_name(&cust1(), user).await.unwrap();
        let found: Vec<i32> = found.iter().map(|grant| grant.associate_id.get()).collect();
        assert_eq!(found, [id], "{user}");
    }
}

#[tokio::test]
async fn an_invalid_grant_row_is_corrupt() {
    for damage in [
        "grants SET associate_id = 2147483648",
        "grants SET id = 'no id'",
        "grants SET tenant = 'Cust'",
        "grants SET create_time = 9223372036854775807",
        "grants SET last_refresh_time = -9223372036854775808",
        "grants SET last_failure_reason = 'BAD_LUCK', last_failure_time = 1",
        "grants SET last_failure_reason = 'INTERNAL', last_failure_time = 9223372036854775807",
        "grants SET failure_count = 4294967296, failing_since = 1",
        "grants SET failure_count = 1, failing_since = 9223372036854775807",
    ] {
        let folder = Folder::new();
        let store = folder.store().await;
        add(&store, &cust1()).await;
        granted(&store, &cust1(), 5).await;
        folder.meddle(&format!("PRAGMA foreign_keys = OFF; UPDATE {damage}")).await;
        let scope = GrantScope::Application(cust1().application);
        let listed = GrantStore::list(&store, &scope, None, 10).await;
        assert!(matches!(listed, Err(StoreError::Corrupt(_))), "{damage}");
    }
}

#[tokio::test]
async fn finding_grants_uses_an_index_without_sorting() {
    let folder = Folder::new();
    let store = folder.store().await;
    add(&store, &name("portal", "Cust1")).await;
    for statement in [
        statements::GET,
        statements::FIND,
        statements::FIND_BY_USER,
        statements::LIST_OF_APPLICATION,
        statements::LIST_OF_TENANT,
        statements::PENDING,
        statements::HAS_GRANTS,
    ] {
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
            .fetch_all(store.file().readers().unwrap())
            .await
            .unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(plan.iter().any(|step| step.starts_with("SEARCH grants USING")), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
        assert!(!plan.iter().any(|step| step.starts_with("SCAN grants")), "{plan:?}");
    }
}
