//! Tests of disk faults: the right statuses, no data loss, and recovery without a restart where possible.

use std::{
    fs::Permissions,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, SqliteConnection,
    sqlite::SqliteConnectOptions,
};
use tenant_gateway::{audit::QUEUE_CAPACITY, grpc::pb, ports::Random as _};
use tonic::{Code, Status};

use crate::support::{
    APPLICATION, Options, Ticket, assert_status,
    binary::{Served, Site},
    eventually, eventually_so,
    full_disk::{limit_files, serve_ignoring_size_limits},
    get, issue, issue_with,
    load::{Load, succeeded},
    name,
    trail::StoredTrail,
};

fn create(tenant: &str) -> pb::CreateTenantRequest {
    pb::CreateTenantRequest {
        parent: format!("applications/{APPLICATION}"),
        tenant_id: tenant.to_owned(),
        tenant: None,
    }
}

/// A site with a short `max_wait` of the audit trail.
async fn site(durability: &str) -> Site {
    let extra_config = format!("[audit]\nmax_wait = \"500ms\"\ndurability = \"{durability}\"\n");
    Site::with(Options { extra_config, ..Default::default() }).await
}

/// `max_wait`, and a reserve for a busy machine.
const AT_ONCE: Duration = Duration::from_millis(2500);

/// Holds the store's lock, as a process that was stopped during a change.
async fn lock(site: &Site) -> SqliteConnection {
    let file = SqliteConnectOptions::new().filename(site.file("gateway.db"));
    let mut other = file.connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    other
}

async fn unlock(mut other: SqliteConnection) {
    other.execute("ROLLBACK").await.unwrap();
    other.close().await.unwrap();
}

/// Asserts that a call that needs the audit trail soon fails with UNAVAILABLE and retry info.
async fn assert_refused<T: std::fmt::Debug>(call: impl Future<Output = Result<T, Status>>) {
    let begin = Instant::now();
    let status = call.await.unwrap_err();
    assert_status(&status, Code::Unavailable, "STORE_UNAVAILABLE").retry_info().unwrap();
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

async fn eventually_the_same(served: &Served, ticket: &Ticket) {
    let mut tokens = served.tokens().await;
    eventually_so("the ticket is served again", async || {
        issue_with(&mut tokens, issue("Cust1")).await.is_ok_and(|again| again == *ticket)
    })
    .await;
    let ready = async || get(served.admin, "/readyz").await.contains("200");
    eventually_so("it is ready again", ready).await;
}

#[tokio::test]
async fn on_a_full_disk_calls_that_need_the_trail_are_refused_until_there_is_space() {
    let site = site("before_response").await;
    site.enroll("Cust1").await;
    let served = Served::start(serve_ignoring_size_limits(&site)).await;
    let (mut tokens, mut tenants) = (served.tokens().await, served.tenants().await);
    let before = issue_with(&mut tokens, issue("Cust1")).await.unwrap();

    limit_files(served.process.pid(), Some(1));
    assert_refused(tenants.create_tenant(create("Cust2"))).await;
    let disable = pb::DisableTenantRequest { name: name("Cust1"), ..Default::default() };
    assert_refused(tenants.disable_tenant(disable)).await;
    assert_refused(issue_with(&mut tokens, issue("Cust1"))).await;
    // A call without an event needs no space.
    tenants.get_tenant(pb::GetTenantRequest { name: name("Cust1") }).await.unwrap();
    assert!(get(served.admin, "/readyz").await.contains("503"));
    assert!(get(served.admin, "/livez").await.contains("200"));

    limit_files(served.process.pid(), None);
    eventually_the_same(&served, &before).await;
    tenants.create_tenant(create("Cust2")).await.unwrap();
    assert_eq!(site.sandbox.exchanges().issued, 1);
    served.stop().await;
}

#[tokio::test]
async fn with_a_store_locked_by_another_process_changes_fail_and_cached_tickets_are_served() {
    let site = site("before_response").await;
    site.enroll("Cust1").await;
    let served = site.serve().await;
    let (mut tokens, mut tenants) = (served.tokens().await, served.tenants().await);
    let before = issue_with(&mut tokens, issue("Cust1")).await.unwrap();

    let other = lock(&site).await;
    // The audit trail does not need the store.
    assert_eq!(issue_with(&mut tokens, issue("Cust1")).await.unwrap(), before);
    let status = tenants.create_tenant(create("Cust2")).await.unwrap_err();
    assert_status(&status, Code::Unavailable, "STORE_UNAVAILABLE").retry_info().unwrap();
    assert!(get(served.admin, "/readyz").await.contains("503"));
    assert_eq!(issue_with(&mut tokens, issue("Cust1")).await.unwrap(), before);
    unlock(other).await;

    eventually_the_same(&served, &before).await;
    tenants.create_tenant(create("Cust2")).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn with_after_response_cached_tickets_are_served_until_the_queue_is_full() {
    let site = site("after_response").await;
    site.enroll("Cust1").await;
    let served = Served::start(serve_ignoring_size_limits(&site)).await;
    let mut tokens = served.tokens().await;
    let before = issue_with(&mut tokens, issue("Cust1")).await.unwrap();

    limit_files(served.process.pid(), Some(1));
    let load = Load::start(&served, "Cust1", 32, None).await;
    eventually("the queue is full", || load.count() > 10_000).await;
    let answered = load.end().await;
    let slowest = answered.iter().map(|answered| answered.took).max().unwrap();
    assert!(slowest < AT_ONCE, "{slowest:?}");
    let served_meanwhile = succeeded(&answered);
    // The queue, and a batch taken from it before.
    let room = QUEUE_CAPACITY..=QUEUE_CAPACITY + 512;
    assert!(room.contains(&served_meanwhile.len()), "{}", served_meanwhile.len());
    for status in answered.iter().filter_map(|answered| answered.end.as_ref().err()) {
        assert_status(status, Code::Unavailable, "STORE_UNAVAILABLE").retry_info().unwrap();
    }
    assert_refused(served.tenants().await.create_tenant(create("Cust2"))).await;
    assert!(get(served.admin, "/readyz").await.contains("503"));
    limit_files(served.process.pid(), None);

    eventually_the_same(&served, &before).await;
    served.stop().await;
    let written = StoredTrail::read(&site.file("gateway.toml")).await;
    written.assert_intact();
    written.assert_each_once(&served_meanwhile);
}

#[tokio::test]
async fn a_new_ticket_that_cannot_be_stored_is_still_used() {
    let site = site("after_response").await;
    site.enroll("Cust1").await;
    let served = site.serve().await;
    let mut tokens = served.tokens().await;
    let other = lock(&site).await;
    let ticket = issue_with(&mut tokens, issue("Cust1")).await.unwrap();
    assert_eq!(issue_with(&mut tokens, issue("Cust1")).await.unwrap(), ticket);
    unlock(other).await;
    eventually_the_same(&served, &ticket).await;
    assert_eq!(site.sandbox.exchanges().issued, 1);
    served.stop().await;
}

#[tokio::test]
async fn while_the_trail_is_stalled_no_ticket_is_requested() {
    let site = site("before_response").await;
    site.enroll("Cust1").await;
    site.enroll("Cust2").await;
    let served = Served::start(serve_ignoring_size_limits(&site)).await;
    let mut tokens = served.tokens().await;
    let before = issue_with(&mut tokens, issue("Cust1")).await.unwrap();
    limit_files(served.process.pid(), Some(1));
    assert_refused(issue_with(&mut tokens, issue("Cust1"))).await;
    assert_refused(issue_with(&mut tokens, issue("Cust2"))).await;
    assert_eq!(site.sandbox.exchanges().issued, 1);
    limit_files(served.process.pid(), None);
    eventually_the_same(&served, &before).await;
    issue_with(&mut tokens, issue("Cust2")).await.unwrap();
    served.stop().await;
}

/// An ordinary account, to which file permissions apply.
const NOBODY: u32 = 65534;

/// Gives the folder of a site to an ordinary account, with an executable copy of the program. Without root, the tests
/// already run as such an account.
fn as_an_ordinary_account(site: &Site) -> Command {
    let plain = site.command(&["serve"]);
    if !rustix::process::geteuid().is_root() {
        return plain;
    }
    let program = site.file("program");
    // Copies in a separate process. A program cannot be started while it is open for writing, and a child process
    // of another test would inherit the open file.
    let copy = Command::new("cp").arg(plain.get_program()).arg(&program).status().unwrap();
    assert!(copy.success());
    give_away(site.folder.path());
    let mut command = Command::new(program);
    command.args(plain.get_args()).env_remove("RUST_LOG").uid(NOBODY).gid(NOBODY);
    command
}

/// Makes an ordinary account the owner of a folder and of everything in it.
fn give_away(folder: &Path) {
    chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            give_away(&path);
        } else {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

#[tokio::test]
async fn with_a_read_only_file_reads_work_and_changes_fail_until_a_restart() {
    let site = site("before_response").await;
    site.enroll("Cust1").await;
    let serve = || as_an_ordinary_account(&site);
    let served = Served::start(serve()).await;
    let before = issue_with(&mut served.tokens().await, issue("Cust1")).await.unwrap();
    served.stop().await;
    // SQLite creates its other files with the mode of the database.
    let set_mode = |mode| {
        for file in ["gateway.db", "gateway.db-wal", "gateway.db-shm"].map(|name| site.file(name)) {
            if file.exists() {
                std::fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
            }
        }
    };

    set_mode(0o400);
    let served = Served::start(serve()).await;
    let mut tenants = served.tenants().await;
    let listed = tenants.list_tenants(pb::ListTenantsRequest::default()).await;
    assert_eq!(listed.unwrap().into_inner().tenants.len(), 1);
    let page = get(served.admin, "/readyz").await;
    assert!(page.contains("503") && page.contains("read-only"), "{page}");
    assert_refused(tenants.create_tenant(create("Cust2"))).await;
    // The audit trail does not need the store.
    assert_eq!(issue_with(&mut served.tokens().await, issue("Cust1")).await.unwrap(), before);

    // SQLite keeps the access mode from when it opened the file, so a restart is needed.
    served.stop().await;
    set_mode(0o600);
    let served = Served::start(serve()).await;
    served.tenants().await.create_tenant(create("Cust2")).await.unwrap();
    eventually_the_same(&served, &before).await;
    served.stop().await;
}

/// The number of kills.
const KILLS: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_at_100_random_moments_the_store_opens_each_time() {
    let site = Site::new().await;
    site.make_tenant("Cust1");
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        let served = site.serve().await;
        let [first, second, ..] = tenant_gateway::crypto::SystemRandom.bytes();
        let moment = 2 * Duration::from_micros(u16::from_be_bytes([first, second]).into());
        let created = Arc::new(AtomicU64::new(0));
        let mut tenants = served.tenants().await;
        let counted = Arc::clone(&created);
        let writing = async move {
            loop {
                let number = kill * 10_000 + counted.load(Ordering::Relaxed) + 1;
                if tenants.create_tenant(create(&format!("Cust{number}"))).await.is_err() {
                    return;
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
        };
        let _ = tokio::time::timeout(moment, writing).await;
        served.kill().await;
        acknowledged += created.load(Ordering::Relaxed);
    }
    let listed = site.run(&["tenant", "list", "--output", "json"]).await.json();
    let listed = listed.as_array().unwrap().len() as u64;
    // Each kill may leave one more tenant than was acknowledged.
    assert!((acknowledged..=acknowledged + KILLS).contains(&listed), "{acknowledged} {listed}");
    assert!(acknowledged > KILLS / 2, "too few writes to prove anything: {acknowledged}");
}
