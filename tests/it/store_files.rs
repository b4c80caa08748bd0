//! Tests of the files of store and journal: a file that is replaced while open loses no acknowledged change, and a
//! file that others can access is refused.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::Duration,
};

use tenant_gateway::grpc::pb;
use tonic::{Code, Request, Status};

use crate::support::{
    APPLICATION, Options, assert_status,
    binary::{Served, Site},
    eventually_so, get, issue, issue_with, name,
};

fn create(tenant: &str) -> pb::CreateTenantRequest {
    pb::CreateTenantRequest {
        parent: format!("applications/{APPLICATION}"),
        tenant_id: tenant.to_owned(),
        tenant: None,
    }
}

async fn site(durability: &str) -> Site {
    let extra_config = format!("[audit]\nmax_wait = \"500ms\"\ndurability = \"{durability}\"\n");
    Site::with(Options { extra_config, ..Default::default() }).await
}

async fn issued(served: &Served) -> Result<(), Status> {
    issue_with(&mut served.tokens().await, issue("Cust1")).await.map(drop)
}

/// Replaces the file with a copy by rename. Returns the path of the original.
fn restore_a_copy(site: &Site) -> PathBuf {
    let (database, away) = (site.file("gateway.db"), site.file("away.db"));
    fs::rename(&database, &away).unwrap();
    fs::copy(&away, site.file("copy.db")).unwrap();
    fs::rename(site.file("copy.db"), database).unwrap();
    away
}

#[tokio::test]
async fn a_replaced_store_file_is_detected_and_refuses_changes() {
    for durability in ["before_response", "after_response"] {
        let site = site(durability).await;
        site.enroll("Cust1").await;
        let mut served = site.serve().await;
        issued(&served).await.unwrap();
        let away = restore_a_copy(&site);
        // Changes fail at once, and credentials within a second.
        let mut tenants = served.tenants().await;
        let status = tenants.create_tenant(create("Cust2")).await.unwrap_err();
        assert_status(&status, Code::Unavailable, "STORE_UNAVAILABLE");
        let refused = async || issued(&served).await.is_err();
        eventually_so("credentials are refused", refused).await;
        let status = issued(&served).await.unwrap_err();
        assert_status(&status, Code::Unavailable, "STORE_UNAVAILABLE");
        let page = get(served.admin, "/readyz").await;
        assert!(page.contains("503") && page.contains("was replaced"), "{page}");
        let told = served.process.until("logs an error", |process| {
            let log = process.stderr();
            let line = log.lines().find(|line| line.contains("no longer the one that was opened"));
            line.map(str::to_owned)
        });
        let line: serde_json::Value = serde_json::from_str(&told.await).unwrap();
        assert_eq!(line["level"], "ERROR", "{line}");
        assert!(line["message"].as_str().unwrap().contains("stop the gateway"), "{line}");

        // The original file is intact: after it is put back, the gateway continues.
        fs::rename(away, site.file("gateway.db")).unwrap();
        let again = async || issued(&served).await.is_ok();
        eventually_so("credentials are handed out again", again).await;
        tenants.create_tenant(create("Cust3")).await.unwrap();
        served.stop().await;
        let listed = site.run(&["tenant", "list", "--output", "json"]).await.json();
        let listed = listed.to_string();
        assert!(listed.contains("Cust1") && listed.contains("Cust3"), "{listed}");
    }
}

#[tokio::test]
async fn a_removed_store_file_is_detected() {
    type Change = fn(&Site);
    let changes: [(&str, Change); 3] = [
        ("removed", |site| fs::remove_file(site.file("gateway.db")).unwrap()),
        ("log removed", |site| fs::remove_file(site.file("gateway.db-wal")).unwrap()),
        ("index replaced", |site| {
            fs::copy(site.file("gateway.db-shm"), site.file("copy")).unwrap();
            fs::rename(site.file("copy"), site.file("gateway.db-shm")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let site = site("before_response").await;
        site.enroll("Cust1").await;
        let served = site.serve().await;
        issued(&served).await.unwrap();
        change(&site);
        eventually_so("credentials are refused", async || issued(&served).await.is_err()).await;
        let refused = issued(&served).await.unwrap_err();
        assert_status(&refused, Code::Unavailable, "STORE_UNAVAILABLE");
        let page = get(served.admin, "/readyz").await;
        assert!(
            page.contains("503") && page.contains("while the store was open"),
            "{what}: {page}"
        );
    }
}

#[tokio::test]
async fn a_journal_that_is_moved_away_is_detected_and_continued_when_it_is_back() {
    for durability in ["before_response", "after_response"] {
        let site = site(durability).await;
        site.enroll("Cust1").await;
        let mut served = site.serve().await;
        issued(&served).await.unwrap();
        let (journal, away) = (site.file("audit"), site.file("away"));
        fs::rename(&journal, &away).unwrap();
        fs::create_dir(&journal).unwrap();
        let refused = async || issued(&served).await.is_err();
        eventually_so("credentials are refused", refused).await;
        let status = issued(&served).await.unwrap_err();
        assert_status(&status, Code::Unavailable, "STORE_UNAVAILABLE");
        let mut tenants = served.tenants().await;
        let status = tenants.create_tenant(create("Cust2")).await.unwrap_err();
        assert_status(&status, Code::Unavailable, "STORE_UNAVAILABLE");
        let page = get(served.admin, "/readyz").await;
        assert!(page.contains("503") && page.contains("audit"), "{page}");
        let told = served.process.until("logs an error", |process| {
            let log = process.stderr();
            let line = log.lines().find(|line| line.contains("the audit journal is no longer"));
            line.map(str::to_owned)
        });
        let line: serde_json::Value = serde_json::from_str(&told.await).unwrap();
        assert_eq!(line["level"], "ERROR", "{line}");
        assert_eq!(fs::read_dir(&journal).unwrap().count(), 0, "nothing is written elsewhere");

        fs::remove_dir(&journal).unwrap();
        fs::rename(away, journal).unwrap();
        let again = async || issued(&served).await.is_ok();
        eventually_so("credentials are handed out again", again).await;
        served.stop().await;
        site.run(&["audit", "verify"]).await.succeeded();
    }
}

#[tokio::test]
async fn two_servers_on_one_journal_are_refused() {
    let first = Site::new().await;
    let served = first.serve().await;
    let directory = first.file("audit");
    let extra_config = format!("[audit]\ndirectory = \"{}\"\n", directory.display());
    let second = Site::with(Options { extra_config, ..Default::default() }).await;
    let told = second.run(&["serve"]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    let told = format!("{}{}", told.stdout, told.stderr);
    assert!(told.contains("another server uses this audit journal"), "{told}");
    assert!(told.contains("audit.directory"), "{told}");
    served.stop().await;
}

#[tokio::test]
async fn a_store_that_others_may_read_or_write_is_refused() {
    let site = Site::new().await;
    site.enroll("Cust1").await;
    let database = site.file("gateway.db");
    for mode in [0o666, 0o640] {
        fs::set_permissions(&database, Permissions::from_mode(mode)).unwrap();
        for arguments in [&["serve"][..], &["tenant", "list"]] {
            let told = site.run(arguments).await;
            let told = format!("{}{}", told.stdout, told.stderr);
            assert!(told.contains(&format!("mode {mode:04o}")), "{arguments:?}: {told}");
            assert!(told.contains("chmod 600"), "{arguments:?}: {told}");
            // SQLite's other files would have the same mode.
            assert!(!site.file("gateway.db-shm").exists(), "{arguments:?}");
        }
    }
    fs::set_permissions(&database, Permissions::from_mode(0o600)).unwrap();
    let served = site.serve().await;
    issued(&served).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn a_change_whose_deadline_passes_while_the_store_hangs_has_an_unknown_outcome() {
    let site = Site::new().await;
    site.enroll("Cust1").await;
    let served = site.serve().await;
    let mut tenants = served.tenants().await;
    let mut other = crate::support::audit::open_without_key(&site.file("gateway.db")).await;
    sqlx::Executor::execute(&mut other, "BEGIN IMMEDIATE").await.unwrap();
    let mut request = Request::new(create("Cust2"));
    request.set_timeout(Duration::from_millis(500));
    let status = tenants.create_tenant(request).await.unwrap_err();
    let details = assert_status(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert_eq!(details.error_info().unwrap().metadata["outcome"], "unknown", "{status:?}");
    assert!(details.retry_info().is_none(), "{status:?}");
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1", "{status:?}");
    sqlx::Executor::execute(&mut other, "ROLLBACK").await.unwrap();
    sqlx::Connection::close(other).await.unwrap();
    // The started change completes.
    eventually_so("the tenant is there", async || {
        let get = pb::GetTenantRequest { name: name("Cust2") };
        served.tenants().await.get_tenant(get).await.is_ok()
    })
    .await;
    served.stop().await;
}
