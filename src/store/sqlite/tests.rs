//! Tests that are specific to SQLite. `store::contract` has the tests for every store.

mod grants;

use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};
use tempfile::TempDir;

use super::{OpenError, ServeLock, SqliteFile, SqliteStore, tenants::statements};
use crate::{
    domain::TenantName,
    ports::{SealError, StoreError, StoreHealth as _, TenantStore, TicketStore},
    store::{
        KnownApplications,
        contract::{
            Store, StoreLocation, TestSealer, a_ticket, add, at, cust1, enroll, name, secret,
            store_contract, tenant, token, usual_applications,
        },
        sealing,
    },
};

store_contract!(Folder::new);

/// A temporary directory for one database.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("gateway.db")
    }

    async fn store(&self) -> SqliteStore {
        let file = SqliteFile::open(&self.path()).await.unwrap();
        SqliteStore::new(file, Arc::new(TestSealer), usual_applications())
    }

    /// Changes the file in a way that the store never does.
    async fn meddle(&self, sql: &str) {
        let mut connection =
            SqliteConnection::connect(self.path().to_str().unwrap()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Returns whether the database file or a file beside it contains these bytes.
    fn contains(&self, bytes: &[u8]) -> bool {
        fs::read_dir(self.0.path()).unwrap().any(|entry| {
            let content = fs::read(entry.unwrap().path()).unwrap();
            content.windows(bytes.len()).any(|window| window == bytes)
        })
    }
}

#[async_trait]
impl StoreLocation for Folder {
    async fn open_with(&self, applications: KnownApplications) -> Arc<dyn Store> {
        let file = SqliteFile::open(&self.path()).await.unwrap();
        Arc::new(SqliteStore::new(file, Arc::new(TestSealer), applications))
    }
}

/// Sets a pragma on the writing connection.
async fn set(store: &SqliteStore, pragma: &str) {
    let mut writer = store.file().writer().await.unwrap();
    sqlx::query(AssertSqlSafe(format!("PRAGMA {pragma}")))
        .execute(writer.connection().unwrap())
        .await
        .unwrap();
}

async fn pragma(store: &SqliteStore, name: &str) -> String {
    let mut writer = store.file().writer().await.unwrap();
    let row = sqlx::query(AssertSqlSafe(format!("PRAGMA {name}")))
        .fetch_one(writer.connection().unwrap())
        .await
        .unwrap();
    row.try_get_unchecked(0).unwrap()
}

fn unavailable<T>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Unavailable(detail)) => detail,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("done"),
    }
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let folder = Folder::new();
    let store = folder.store().await;
    let _lock = ServeLock::acquire(&folder.path()).unwrap();
    add(&store, &cust1()).await;
    let mut count = 0;
    for entry in fs::read_dir(folder.0.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
        count += 1;
    }
    assert_eq!(count, 4, "database, log, index and lock");
}

#[tokio::test]
async fn a_commit_is_synced_and_deleted_bytes_are_overwritten() {
    let folder = Folder::new();
    let store = folder.store().await;
    enroll(&store, &cust1()).await;
    TenantStore::delete(&store, &cust1(), None, false).await.unwrap();
    for (name, wanted) in [
        ("journal_mode", "wal"),
        ("synchronous", "2"),
        ("foreign_keys", "1"),
        ("secure_delete", "1"),
        ("busy_timeout", "5000"),
    ] {
        assert_eq!(pragma(&store, name).await, wanted, "{name}");
    }
}

#[tokio::test]
async fn the_first_activated_key_stays_active() {
    let folder = Folder::new();
    let (ours, theirs) = (folder.store().await, folder.store().await);
    assert_eq!(ours.file().active_key_id().await.unwrap(), None);
    assert_eq!(ours.file().activate_key("k1").await.unwrap(), "k1");
    assert_eq!(theirs.file().activate_key("k2").await.unwrap(), "k1");
    let active = theirs.file().active_key_id().await.unwrap();
    assert_eq!(active.as_deref(), Some("k1"));
}

#[tokio::test]
async fn several_processes_may_open_a_new_file_at_once() {
    let folder = Folder::new();
    let path = folder.path();
    let opening: Vec<_> = (0..6).map(|_| SqliteFile::open(&path)).collect();
    for file in futures_util::future::join_all(opening).await {
        file.unwrap();
    }
}

async fn refused(path: &Path) -> (OpenError, String) {
    let error = SqliteFile::open(path).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    (error, text)
}

#[tokio::test]
async fn rejects_a_file_of_a_newer_release_without_changing_it() {
    let folder = Folder::new();
    folder.store().await.close().await;
    folder
        .meddle("INSERT INTO _sqlx_migrations VALUES (9999, 'later', 'now', TRUE, x'00', 0)")
        .await;
    let before = fs::read(folder.path()).unwrap();
    let (error, text) = refused(&folder.path()).await;
    assert!(matches!(error, OpenError::NewerSchema { found: 9999, .. }));
    assert!(text.contains("newer release"), "{text}");
    assert_eq!(fs::read(folder.path()).unwrap(), before);
}

#[tokio::test]
async fn rejects_a_database_of_another_program_without_changing_it() {
    let other = Folder::new();
    fs::write(other.path(), "").unwrap();
    other.meddle("CREATE TABLE tenants (id INTEGER)").await;
    let changed = Folder::new();
    changed.store().await.close().await;
    changed.meddle("UPDATE _sqlx_migrations SET checksum = x'00'").await;
    for folder in [other, changed] {
        let before = fs::read(folder.path()).unwrap();
        let (error, _) = refused(&folder.path()).await;
        assert!(matches!(error, OpenError::UnknownSchema { .. }), "{error}");
        assert_eq!(fs::read(folder.path()).unwrap(), before);
    }
}

#[tokio::test]
async fn open_errors_name_the_file_and_say_what_to_do() {
    let folder = Folder::new();
    let inside = folder.0.path().join("missing/gateway.db");
    let (error, _) = refused(&inside).await;
    assert!(matches!(error, OpenError::FolderMissing { .. }), "{error}");
    let (error, _) = refused(folder.0.path()).await;
    assert!(matches!(error, OpenError::Refused { .. }), "{error}");
    fs::write(folder.path(), "not a database, ".repeat(1000)).unwrap();
    let (error, _) = refused(&folder.path()).await;
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
}

#[tokio::test]
async fn rejects_a_second_serve_on_one_file() {
    let folder = Folder::new();
    let first = ServeLock::acquire(&folder.path()).unwrap();
    let error = ServeLock::acquire(&folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::AlreadyServed { .. }), "{error}");
    assert!(error.to_string().contains("gateway.db.lock"), "{error}");
    drop(first);
    ServeLock::acquire(&folder.path()).unwrap();
}

#[tokio::test]
async fn a_read_only_file_is_readable_and_unavailable_for_writes() {
    let folder = Folder::new();
    let store = folder.store().await;
    let created = add(&store, &cust1()).await;
    // Permissions do not apply to the superuser, who may run the tests; the error of SQLite is the same.
    set(&store, "query_only = ON").await;
    let detail = unavailable(store.set_disabled(&cust1(), true, at(1)).await);
    assert!(detail.contains("read-only"), "{detail}");
    unavailable(store.check_writable().await);
    assert_eq!(tenant(&store, &cust1()).await, Some(created));
}

#[tokio::test]
async fn a_full_disk_is_a_temporary_unavailability() {
    let folder = Folder::new();
    let store = folder.store().await;
    add(&store, &cust1()).await;
    let labels = BTreeMap::from([("note".to_owned(), "x".repeat(100_000))]);
    let big = name("crm-sync", "Cust2");
    for _ in 0..3 {
        let pages = pragma(&store, "page_count").await;
        set(&store, &format!("max_page_count = {pages}")).await;
        let detail = unavailable(store.create(&big, &labels, at(1)).await);
        assert!(detail.contains("full"), "{detail}");
        assert_eq!(tenant(&store, &big).await, None);
    }
    assert!(tenant(&store, &cust1()).await.is_some());
    set(&store, "max_page_count = 1000000").await;
    store.create(&big, &labels, at(1)).await.unwrap();
}

#[tokio::test]
async fn replaces_a_writer_that_lost_its_transaction() {
    let folder = Folder::new();
    let store = folder.store().await;
    let before = store.external_version().await.unwrap();
    {
        let mut writer = store.file().writer().await.unwrap();
        let mut transaction = writer.begin().await.unwrap();
        // SQLite does this by itself after some errors.
        sqlx::query("ROLLBACK").execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap_err();
    }
    store.check_writable().await.unwrap();
    // A replaced connection cannot detect earlier changes of other processes.
    let after = store.external_version().await.unwrap();
    assert_ne!(after, before);
    assert_eq!(store.external_version().await.unwrap(), after);
}

#[tokio::test]
async fn opening_waits_for_other_writers() {
    let folder = Folder::new();
    fs::write(folder.path(), "").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let mut other = SqliteConnection::connect(folder.path().to_str().unwrap()).await.unwrap();
    let transaction = other.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    let path = folder.path();
    let release = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        transaction.rollback().await.unwrap();
    };
    let (opened, ()) = tokio::join!(SqliteFile::open(&path), release);
    opened.unwrap();
}

#[tokio::test]
async fn a_write_is_unavailable_after_waiting_for_another_process() {
    let folder = Folder::new();
    let (ours, theirs) = (folder.store().await, folder.store().await);
    set(&ours, "busy_timeout = 20").await;
    let mut writer = theirs.file().writer().await.unwrap();
    let transaction = writer.begin().await.unwrap();
    unavailable(ours.check_writable().await);
    drop(transaction);
    drop(writer);
    theirs.check_writable().await.unwrap();
    ours.check_writable().await.unwrap();
}

#[tokio::test]
async fn an_invalid_row_is_corrupt() {
    for damage in [
        "labels = '{'",
        "labels = '{\"a\": 1}'",
        "application = 'NOT AN ID'",
        "tenant = 'Cust'",
        "create_time = 9223372036854775807",
        "status_state = 'Dancing', status_valid_until = 1, status_version = '', status_read_time = 1",
        "status_state = 'Deleted', status_valid_until = -9223372036854775808, status_version = '', status_read_time = 1",
    ] {
        let folder = Folder::new();
        let store = folder.store().await;
        add(&store, &cust1()).await;
        folder.meddle(&format!("UPDATE tenants SET {damage}")).await;
        let listed = store.list(None, None, 10).await;
        assert!(matches!(listed, Err(StoreError::Corrupt(_))), "{damage}");
    }
}

#[tokio::test]
async fn a_damaged_page_is_corrupt() {
    let folder = Folder::new();
    let store = folder.store().await;
    add(&store, &cust1()).await;
    store.close().await;
    let mut bytes = fs::read(folder.path()).unwrap();
    // Damages everything after the page with the schema.
    bytes[4096..].fill(0x7f);
    fs::write(folder.path(), bytes).unwrap();
    match SqliteFile::open(&folder.path()).await {
        Err(error) => assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}"),
        Ok(file) => {
            let store = SqliteStore::new(file, Arc::new(TestSealer), usual_applications());
            let read = TenantStore::get(&store, &cust1()).await;
            assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
        }
    }
}

#[tokio::test]
async fn does_not_write_the_log_of_a_replaced_file_into_the_new_one() {
    let folder = Folder::new();
    let beside = |name: &str| folder.0.path().join(name);
    let store = folder.store().await;
    add(&store, &cust1()).await;
    store.close().await;
    // The copy is a backup from before the second tenant was added.
    fs::copy(folder.path(), beside("copy.db")).unwrap();
    let store = folder.store().await;
    let second = name("crm-sync", "Cust2");
    add(&store, &second).await;
    fs::rename(folder.path(), beside("away.db")).unwrap();
    fs::rename(beside("copy.db"), folder.path()).unwrap();
    assert!(matches!(store.check_file(), Err(StoreError::Lost(_))));
    store.close().await;
    assert!(!beside("gateway.db-wal").exists() && !beside("gateway.db-shm").exists());
    let restored = folder.store().await;
    assert!(tenant(&restored, &cust1()).await.is_some());
    assert_eq!(tenant(&restored, &second).await, None);
    restored.close().await;
    // With its log, the former file still contains everything.
    fs::rename(beside("away.db"), folder.path()).unwrap();
    fs::rename(beside("gateway.db-wal.former"), beside("gateway.db-wal")).unwrap();
    let former = folder.store().await;
    assert!(tenant(&former, &second).await.is_some());
}

#[tokio::test]
async fn secrets_are_bound_to_their_row() {
    let folder = Folder::new();
    let store = folder.store().await;
    let other = name("crm-sync", "Cust2");
    for name in [&cust1(), &other] {
        let version = enroll(&store, name).await;
        TicketStore::put(&store, name, &a_ticket(1, version)).await.unwrap();
    }
    folder
        .meddle(
            "UPDATE tenants SET system_user_token =
                 (SELECT system_user_token FROM tenants WHERE tenant = 'Cust1');
             UPDATE tickets SET value = (SELECT value FROM tickets WHERE tenant = 'Cust1')",
        )
        .await;
    assert!(token(&store, &cust1()).await.is_some());
    let moved = store.system_user_token(&other).await;
    assert!(matches!(moved, Err(StoreError::Seal(SealError::Corrupt(_)))));
    let moved = TicketStore::get(&store, &other).await;
    assert!(matches!(moved, Err(StoreError::Seal(SealError::Corrupt(_)))));
}

fn sealed(name: &TenantName, text: &str) -> Vec<u8> {
    sealed_for(sealing::SYSTEM_USER_TOKEN, &name.to_string(), text)
}

fn sealed_for(column: sealing::SecretColumn, name: &String, text: &str) -> Vec<u8> {
    let sealing = sealing::Sealing::new(Arc::new(TestSealer));
    sealing.seal(column, "sod", name, &secret(text)).unwrap()
}

#[tokio::test]
async fn files_contain_no_plain_secrets_and_no_deleted_ones() {
    let folder = Folder::new();
    let store = folder.store().await;
    let text = "a-token-that-nobody-may-see";
    add(&store, &cust1()).await;
    store.set_system_user_token(&cust1(), &secret(text), at(1)).await.unwrap();
    let ticket = a_ticket(1, 1);
    TicketStore::put(&store, &cust1(), &ticket).await.unwrap();
    let sealed = sealed(&cust1(), text);
    assert!(folder.contains(&sealed));
    assert!(!folder.contains(text.as_bytes()));
    assert!(!folder.contains(b"ticket-number-1"));

    TenantStore::delete(&store, &cust1(), None, false).await.unwrap();
    assert!(!folder.contains(&sealed));
    store.close().await;
    assert!(!folder.contains(&sealed));
    assert!(!folder.contains(text.as_bytes()));
}

#[tokio::test]
async fn reads_and_lists_use_an_index_without_sorting() {
    let folder = Folder::new();
    let store = folder.store().await;
    for statement in
        [statements::LIST, statements::LIST_OF_APPLICATION, statements::APPLICATIONS_OF]
    {
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
            .fetch_all(store.file().readers().unwrap())
            .await
            .unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert_eq!(plan.len(), 1, "{plan:?}");
        assert!(plan[0].starts_with("SEARCH tenants USING"), "{plan:?}");
    }
}
