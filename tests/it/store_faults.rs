//! What a disk can do wrong: the right statuses, nothing lost, and all well again without a restart where that can be.

use std::{
    fs::Permissions,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, sqlite::SqliteConnectOptions};
use tenant_gateway::{grpc::pb, ports::Random as _};
use tonic::Code;

use crate::support::{
    APPLICATION, World, assert_status,
    binary::{Served, Site},
    get, issue, issue_with, name,
};

fn create(tenant: &str) -> pb::CreateTenantRequest {
    pb::CreateTenantRequest {
        parent: format!("applications/{APPLICATION}"),
        tenant_id: tenant.to_owned(),
        tenant: None,
    }
}

/// Lets files of the process grow to `bytes` and no further, as a full disk does; `None` lifts that.
fn limit_files(process: Pid, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(process), Resource::Fsize, limit).unwrap();
}

/// `serve` with SIGXFSZ ignored: a write beyond the limit is an error, not the end.
fn deaf_to_size_limits(site: &Site) -> Command {
    let plain = site.command(&["serve"]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    command.arg(plain.get_program()).args(plain.get_args()).env_remove("RUST_LOG");
    command
}

#[tokio::test]
async fn on_a_full_disk_changes_fail_and_cached_tickets_are_served_until_there_is_room_again() {
    let site = Site::new().await;
    let token = site.make_tenant("Cust1");
    let served = Served::start(deaf_to_size_limits(&site)).await;
    let (mut tokens, mut tenants) = (served.tokens().await, served.tenants().await);
    tenants.create_tenant(create("Cust1")).await.unwrap();
    let set = pb::SetSystemUserTokenRequest { name: name("Cust1"), system_user_token: token };
    tenants.set_system_user_token(set).await.unwrap();
    let before = issue_with(&mut tokens, issue("Cust1")).await.unwrap();

    limit_files(served.process.pid(), Some(1));
    let status = tenants.create_tenant(create("Cust2")).await.unwrap_err();
    assert_status(&status, Code::Unavailable, "STORE_UNAVAILABLE").retry_info().unwrap();
    let disable = pb::DisableTenantRequest { name: name("Cust1"), ..Default::default() };
    let status = tenants.disable_tenant(disable).await.unwrap_err();
    assert_status(&status, Code::Unavailable, "STORE_UNAVAILABLE");
    assert_eq!(issue_with(&mut tokens, issue("Cust1")).await.unwrap(), before);
    assert!(get(served.admin, "/readyz").await.contains("503"));
    assert!(get(served.admin, "/livez").await.contains("200"));

    limit_files(served.process.pid(), None);
    tenants.create_tenant(create("Cust2")).await.unwrap();
    assert!(get(served.admin, "/readyz").await.contains("200"));
    assert_eq!(issue_with(&mut tokens, issue("Cust1")).await.unwrap(), before);
    served.stop().await;
}

#[tokio::test]
async fn a_store_that_another_process_holds_locked_is_unavailable_and_nothing_hangs() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let ticket = world.ticket("Cust1").await.unwrap();
    let file = world.folder.path().join("gateway.db");
    let mut other = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let begin = std::time::Instant::now();
    let status = world.tenants().await.create_tenant(create("Cust2")).await.unwrap_err();
    assert_status(&status, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(world.ticket("Cust1").await.unwrap(), ticket);
    other.execute("ROLLBACK").await.unwrap();
    world.tenants().await.create_tenant(create("Cust2")).await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_new_ticket_that_cannot_be_stored_is_used_all_the_same() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    // So that only the ticket remains to be written.
    let file = world.folder.path().join("gateway.db");
    let mut other = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let ticket = world.ticket("Cust1").await.unwrap();
    assert_eq!(world.ticket("Cust1").await.unwrap(), ticket);
    assert_eq!(world.exchanges(), 1);
    other.execute("ROLLBACK").await.unwrap();
    other.close().await.unwrap();
}

/// An account that is not root, for whom the bits of a file count.
const NOBODY: u32 = 65534;

/// Gives everything in the folder of a site to an ordinary account, and a copy of the program that it can run.
/// Without root the tests run as such an account already.
fn as_an_ordinary_account(site: &Site) -> Command {
    let plain = site.command(&["serve"]);
    if !rustix::process::geteuid().is_root() {
        return plain;
    }
    let program = site.file("program");
    // In a process of its own: a program cannot be started while any process has it open for writing, and one that
    // another test starts meanwhile would have.
    let copy = Command::new("cp").arg(plain.get_program()).arg(&program).status().unwrap();
    assert!(copy.success());
    chown(site.folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    for entry in std::fs::read_dir(site.folder.path()).unwrap() {
        chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = Command::new(program);
    command.args(plain.get_args()).env_remove("RUST_LOG").uid(NOBODY).gid(NOBODY);
    command
}

#[tokio::test]
async fn from_a_read_only_file_reads_are_answered_and_changes_fail_and_a_restart_mends_it() {
    let site = Site::new().await;
    let serve = || as_an_ordinary_account(&site);
    let served = Served::start(serve()).await;
    served.tenants().await.create_tenant(create("Cust1")).await.unwrap();
    served.stop().await;
    // SQLite makes the files beside it with the mode of the database.
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
    let status = tenants.create_tenant(create("Cust2")).await.unwrap_err();
    assert_status(&status, Code::Unavailable, "STORE_UNAVAILABLE").retry_info().unwrap();
    let page = get(served.admin, "/readyz").await;
    assert!(page.contains("503") && page.contains("read-only"), "{page}");

    // SQLite stays with what it found when it opened the file: a restart finds it writable again.
    served.stop().await;
    set_mode(0o600);
    let served = Served::start(serve()).await;
    served.tenants().await.create_tenant(create("Cust2")).await.unwrap();
    assert!(get(served.admin, "/readyz").await.contains("200"));
    served.stop().await;
}

/// How often the process is killed.
const KILLS: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_at_100_random_moments_the_store_opens_each_time() {
    let site = Site::new().await;
    site.make_tenant("Cust1");
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        let served = site.serve().await;
        let [first, second, ..] = tenant_gateway::crypto::SystemRandom.bytes();
        let moment = Duration::from_micros(u64::from(u16::from_be_bytes([first, second])) / 4);
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
    // Each kill may leave one more than was acknowledged: done, but not answered.
    assert!((acknowledged..=acknowledged + KILLS).contains(&listed), "{acknowledged} {listed}");
    assert!(acknowledged > KILLS, "too few writes to prove anything: {acknowledged}");
}
