//! Changes of the files of a real journal by someone without the key. `audit verify` names each of them, exports and
//! lists have no event of another installation, and servers still start.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;
use tenant_gateway::{
    domain::AuditRecord,
    grpc::pb::{self, audit_service_client::AuditServiceClient},
};
use tokio::{sync::OnceCell, task::JoinSet};
use tonic::{Code, Status};

use crate::support::{
    APPLICATION, Options, assert_status,
    audit::{AuditWriter, SegmentFile, event},
    binary::{Finished, Process, Served, Site, program},
    eventually_so, issue, name,
};

/// The smallest segments.
const SMALL_SEGMENTS: &str = "[audit]\nsegment_bytes = 1048576\n";

/// Selects the events that another installation has written.
const STRANGERS: &str = "request_id = \"stranger-*\"";

/// The content of files, by their paths.
type Files = BTreeMap<PathBuf, (fs::Permissions, Vec<u8>)>;

/// Reads all files below a folder.
fn read_files(folder: &Path) -> Files {
    let (mut files, mut folders) = (Files::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // A running server may have renamed it meanwhile.
            let (Ok(metadata), Ok(bytes)) = (fs::metadata(&path), fs::read(&path)) else {
                continue;
            };
            let inside = path.strip_prefix(folder).unwrap().to_owned();
            files.insert(inside, (metadata.permissions(), bytes));
        }
    }
    files
}

fn put_files(folder: &Path, files: &Files) {
    for (path, (permissions, bytes)) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, permissions.clone()).unwrap();
    }
}

/// The files of a gateway that has served calls and was stopped. Its chain has two segments.
struct Run {
    chain: String,
    all: Files,
    /// The journal while the first segment was written.
    older: Files,
}

static RUN: OnceCell<Run> = OnceCell::const_new();

impl Run {
    async fn new() -> Self {
        let extra_config = SMALL_SEGMENTS.to_owned();
        let site = Site::with(Options { extra_config, ..Default::default() }).await;
        site.enroll("Cust1").await;
        let served = site.serve().await;
        request_tickets(&served, 40).await;
        let older = read_files(&site.file("audit"));
        request_tickets(&served, 110).await;
        served.stop().await;
        let [chain] = &server_chains(site.folder.path())[..] else { panic!("not one chain") };
        Self { chain: chain.clone(), all: read_files(site.folder.path()), older }
    }
}

/// Requests tickets with eight callers. Each event has about 1.3 KB.
async fn request_tickets(served: &Served, calls: usize) {
    let client = served.tokens().await;
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let mut client = client.clone();
        callers.spawn(async move {
            for _ in 0..calls {
                let reason = "\u{1d11e}".repeat(256);
                let request = pb::IssueSystemTicketRequest { reason, ..issue("Cust1") };
                client.issue_system_ticket(request).await.unwrap();
            }
        });
    }
    callers.join_all().await;
}

/// Returns the chains of servers, the oldest first.
fn server_chains(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("audit")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut chains: Vec<String> = names.filter(|name| name.starts_with("serve-")).collect();
    chains.sort();
    chains
}

/// Adds a tenant, which needs the audit trail and no SuperOffice.
async fn create(served: &Served, tenant: &str) -> Result<(), Status> {
    let create = pb::CreateTenantRequest {
        parent: format!("applications/{APPLICATION}"),
        tenant_id: tenant.to_owned(),
        tenant: None,
    };
    served.tenants().await.create_tenant(create).await.map(drop)
}

/// The numbers of the first and of the last event of a group.
fn numbers(segment: &SegmentFile, group: usize) -> (i64, i64) {
    let start = segment.groups()[group].start;
    let first = i64::from_be_bytes(segment.bytes[start + 12..start + 20].try_into().unwrap());
    let count = u32::from_be_bytes(segment.bytes[start + 20..start + 24].try_into().unwrap());
    (first, first + i64::from(count) - 1)
}

/// A copy of the files of [`Run`].
struct Installation {
    folder: TempDir,
    chain: &'static str,
    older: &'static Files,
}

/// The faulty chains with the fault and its event, and the damaged places with file and offset.
type Found = (Vec<(String, String, i64)>, Vec<(String, usize)>);

impl Installation {
    async fn new() -> Self {
        let run = RUN.get_or_init(Run::new).await;
        let folder = tempfile::tempdir().unwrap();
        put_files(folder.path(), &run.all);
        Self { folder, chain: &run.chain, older: &run.older }
    }

    fn audit(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    /// Returns the path of a segment of the server's chain, and its name in a report.
    fn segment_path(&self, first: i64) -> (PathBuf, String) {
        let file = format!("{}/{first:019}.seg", self.chain);
        (self.audit().join(&file), file)
    }

    /// Returns the two segments of the server's chain.
    fn segments(&self) -> [SegmentFile; 2] {
        let path = self.segment_path(1).0;
        let first = SegmentFile { bytes: fs::read(&path).unwrap(), path };
        let second = SegmentFile::read(self.folder.path(), self.chain);
        assert_ne!(first.path, second.path);
        [first, second]
    }

    /// Returns the number of the last event of the server's chain.
    fn last(&self) -> i64 {
        let [_, second] = self.segments();
        numbers(&second, second.groups().len() - 1).1
    }

    async fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = program(arguments);
        command.arg("--config").arg(self.folder.path().join("gateway.toml"));
        Process::start(command).finished().await
    }

    /// Verifies as a command. The exit code is 1 if something is found.
    async fn verify(&self) -> Found {
        let finished = self.run(&["audit", "verify", "--output", "json"]).await;
        let report: Value = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {finished:?}"));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let fault = |chain: &Value| {
            let sequence = chain["fault_sequence"].as_i64()?;
            Some((text(&chain["chain"])?, text(&chain["fault"])?, sequence))
        };
        let damage = |damage: &Value| {
            assert!(text(&damage["problem"]).is_some_and(|problem| !problem.is_empty()));
            let offset = damage["offset"].as_u64().unwrap();
            (text(&damage["file"]).unwrap(), usize::try_from(offset).unwrap())
        };
        let faults: Vec<_> =
            report["chains"].as_array().unwrap().iter().filter_map(fault).collect();
        let damages: Vec<_> = report["damages"].as_array().unwrap().iter().map(damage).collect();
        let intact = faults.is_empty() && damages.is_empty();
        assert_eq!(
            (report["intact"].as_bool(), finished.code),
            (Some(intact), Some(i32::from(!intact)))
        );
        (faults, damages)
    }

    fn fault(&self, kind: &str, sequence: i64) -> Vec<(String, String, i64)> {
        vec![(self.chain.to_owned(), kind.to_owned(), sequence)]
    }

    /// Exports everything. Asserts that these events of the server's chain are missing and reported, and that all
    /// others are there once.
    async fn assert_exported_without(&self, missing: Option<(i64, i64)>, last: i64) {
        let finished = self.run(&["audit", "export"]).await;
        assert_eq!(finished.code, Some(i32::from(missing.is_some())), "{}", finished.stderr);
        let lines =
            finished.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let own = lines.filter(|line| line["chain"] == self.chain);
        let found: Vec<i64> = own.map(|line| line["sequence"].as_i64().unwrap()).collect();
        let (from, to) = missing.unwrap_or((0, 0));
        let wanted = (1..=last).filter(|number| !(from..=to).contains(number));
        assert_eq!(found, wanted.collect::<Vec<_>>());
        if missing.is_some() {
            let told = format!("events {from} to {to} of chain {} are missing", self.chain);
            assert!(finished.stderr.contains(&told), "{}", finished.stderr);
        }
        assert!(!finished.stdout.contains("\"stranger-"));
    }

    async fn serve(&self) -> Served {
        let mut command = program(&["serve"]);
        command.arg("--config").arg(self.folder.path().join("gateway.toml"));
        Served::start(command).await
    }

    /// Asserts that a server starts, makes changes, and lists no event of a stranger.
    async fn assert_serves(&self) {
        let served = self.serve().await;
        create(&served, "Cust2").await.unwrap();
        let mut client = AuditServiceClient::new(served.channel().await);
        for (filter, count) in [(STRANGERS, 0), ("action = manageTenants", 1)] {
            let filter = filter.to_owned();
            let request = pb::ListAuditEventsRequest { filter, ..Default::default() };
            let page = client.list_audit_events(request).await.unwrap().into_inner();
            assert!(page.audit_events.len() >= count, "{page:?}");
            assert!(count > 0 || page.audit_events.is_empty(), "{page:?}");
        }
        served.stop().await;
    }
}

#[tokio::test]
async fn a_file_that_a_crash_left_is_no_part_of_a_chain() {
    let site = Installation::new().await;
    let [first, _] = site.segments();
    let last = site.last();
    fs::write(site.audit().join(site.chain).join("next.new"), &first.bytes).unwrap();
    fs::write(first.path.with_extension("seg.new"), &first.bytes[..700]).unwrap();
    assert_eq!(site.verify().await, (vec![], vec![]));
    site.assert_exported_without(None, last).await;
    site.assert_serves().await;
}

#[tokio::test]
async fn a_changed_byte_in_a_full_segment_is_named_with_file_and_offset() {
    let site = Installation::new().await;
    let [mut first, _] = site.segments();
    let last = site.last();
    let group = first.groups().len() / 2;
    let start = first.groups()[group].start;
    let missing = numbers(&first, group);
    first.bytes[start + 100] ^= 1;
    first.write();
    let damages = vec![(site.segment_path(1).1, start)];
    assert_eq!(site.verify().await, (site.fault("MISSING", missing.0), damages));
    site.assert_exported_without(Some(missing), last).await;
    site.assert_serves().await;
}

#[tokio::test]
async fn a_changed_event_with_a_right_checksum_is_named() {
    let site = Installation::new().await;
    let [mut first, _] = site.segments();
    let group = first.groups().len() / 2;
    let range = first.groups()[group].clone();
    let action = b"issueSystemTicket";
    let bytes = &mut first.bytes[range];
    let at = bytes.windows(action.len()).position(|window| window == action).unwrap();
    bytes[at] = b'x';
    let (changed, _) = numbers(&first, group);
    first.correct_checksums();
    first.write();
    assert_eq!(site.verify().await, (site.fault("CHANGED", changed), vec![]));
}

#[tokio::test]
async fn removed_events_of_a_full_segment_are_found() {
    let site = Installation::new().await;
    let [mut first, _] = site.segments();
    let last = site.last();
    let group = first.groups().len() / 2;
    let missing = numbers(&first, group);
    first.remove(group);
    first.write();
    assert_eq!(site.verify().await, (site.fault("MISSING", missing.0), vec![]));
    site.assert_exported_without(Some(missing), last).await;
}

#[tokio::test]
async fn reordered_events_are_found_and_not_exported_in_the_wrong_order() {
    let site = Installation::new().await;
    let [mut first, _] = site.segments();
    let last = site.last();
    let group = first.groups().len() / 2;
    let (one, other) = (first.groups()[group].clone(), first.groups()[group + 1].clone());
    let missing = numbers(&first, group);
    let moved = one.start + other.len();
    let swapped = [&first.bytes[other.clone()], &first.bytes[one.clone()]].concat();
    first.bytes.splice(one.start..other.end, swapped);
    first.write();
    let damages = vec![(site.segment_path(1).1, moved)];
    assert_eq!(site.verify().await, (site.fault("MISSING", missing.0), damages));
    site.assert_exported_without(Some(missing), last).await;
}

#[tokio::test]
async fn a_newest_segment_that_was_cut_is_found_by_the_head_in_the_store() {
    for inside in [0, 40] {
        let site = Installation::new().await;
        let [_, mut second] = site.segments();
        let group = second.groups().len() - 1;
        let (cut, _) = numbers(&second, group);
        second.bytes.truncate(second.groups()[group].start + inside);
        second.write();
        assert_eq!(site.verify().await, (site.fault("TRUNCATED", cut), vec![]), "{inside}");
        site.assert_exported_without(None, cut - 1).await;
        site.assert_serves().await;
    }
}

#[tokio::test]
async fn a_newest_segment_that_was_removed_is_found_by_the_head_in_the_store() {
    let site = Installation::new().await;
    let [_, second] = site.segments();
    let (cut, _) = numbers(&second, 0);
    fs::remove_file(&second.path).unwrap();
    assert_eq!(site.verify().await, (site.fault("TRUNCATED", cut), vec![]));
    site.assert_exported_without(None, cut - 1).await;
    site.assert_serves().await;
}

#[tokio::test]
async fn an_oldest_segment_that_was_removed_is_found() {
    let site = Installation::new().await;
    let [first, second] = site.segments();
    let last = site.last();
    let (next, _) = numbers(&second, 0);
    fs::remove_file(&first.path).unwrap();
    assert_eq!(site.verify().await, (site.fault("MISSING", 1), vec![]));
    site.assert_exported_without(Some((1, next - 1)), last).await;
    site.assert_serves().await;
}

#[tokio::test]
async fn a_chain_that_was_removed_is_found_by_the_head_in_the_store() {
    let site = Installation::new().await;
    let last = site.last();
    fs::remove_dir_all(site.audit().join(site.chain)).unwrap();
    assert_eq!(site.verify().await, (site.fault("MISSING", last), vec![]));
    site.assert_serves().await;
}

#[tokio::test]
async fn a_segment_under_another_number_is_named_and_its_events_are_exported_once() {
    let site = Installation::new().await;
    let [first, second] = site.segments();
    let last = site.last();
    // Within the first segment, and behind the chain.
    let (within, behind) = (site.segment_path(5), site.segment_path(last + 1));
    fs::copy(&first.path, &within.0).unwrap();
    fs::copy(&second.path, &behind.0).unwrap();
    let damages = vec![(within.1, 0), (behind.1, 0)];
    assert_eq!(site.verify().await, (vec![], damages));
    site.assert_exported_without(None, last).await;
    site.assert_serves().await;
}

/// Returns the segments of another installation with a chain of this name, by the numbers of their first events.
async fn strangers_segments(chain: &str) -> BTreeMap<i64, Vec<u8>> {
    let extra_config = SMALL_SEGMENTS.to_owned();
    let site = Site::with(Options { extra_config, ..Default::default() }).await;
    let writer = AuditWriter::open(&site.file("gateway.toml")).await;
    for part in 0..3 {
        let record = |number| AuditRecord {
            reason: "s".repeat(1000).into(),
            ..event(&format!("stranger-{part}-{number}"), &name("Cust1"))
        };
        writer.serve(chain, (0..400).map(record)).await;
    }
    writer.close().await;
    let files = read_files(&site.file("audit").join(chain));
    let segments: BTreeMap<i64, Vec<u8>> = files
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|end| end == "seg"))
        .map(|(path, (_, bytes))| {
            (path.file_stem().unwrap().to_str().unwrap().parse().unwrap(), bytes)
        })
        .collect();
    assert_eq!(segments.len(), 2);
    segments
}

#[tokio::test]
async fn a_strangers_segment_is_named_and_none_of_its_events_is_listed() {
    let site = Installation::new().await;
    let last = site.last();
    let strangers = strangers_segments(site.chain).await;
    let (number, bytes) = strangers.last_key_value().unwrap();
    let (path, file) = site.segment_path(*number);
    assert!(!path.exists());
    fs::write(path, bytes).unwrap();
    // No known key has signed the header, and the id of the chain is another one.
    let damages = vec![(file.clone(), 0), (file, 12)];
    assert_eq!(site.verify().await, (vec![], damages));
    site.assert_exported_without(None, last).await;
    site.assert_serves().await;
}

#[tokio::test]
async fn a_strangers_segment_in_place_of_an_own_one_is_named_and_not_listed() {
    let site = Installation::new().await;
    let [first, second] = site.segments();
    let last = site.last();
    let (next, _) = numbers(&second, 0);
    let strangers = strangers_segments(site.chain).await;
    fs::write(&first.path, &strangers[&1]).unwrap();
    let file = site.segment_path(1).1;
    let damages = vec![(file.clone(), 0), (file, 12)];
    assert_eq!(site.verify().await, (site.fault("MISSING", 1), damages));
    site.assert_exported_without(Some((1, next - 1)), last).await;
    site.assert_serves().await;
}

#[tokio::test]
async fn a_strangers_chain_in_place_of_the_own_one_has_no_valid_signature() {
    let site = Installation::new().await;
    let strangers = strangers_segments(site.chain).await;
    fs::remove_dir_all(site.audit().join(site.chain)).unwrap();
    fs::create_dir(site.audit().join(site.chain)).unwrap();
    for (number, bytes) in &strangers {
        fs::write(site.segment_path(*number).0, bytes).unwrap();
    }
    let (faults, damages) = site.verify().await;
    let [(chain, kind, _)] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!((&**chain, &**kind), (site.chain, "BAD_SIGNATURE"));
    assert_eq!(damages[0], (site.segment_path(1).1, 0));
}

#[tokio::test]
async fn an_older_copy_of_the_journal_is_found_by_the_heads_in_the_store() {
    let site = Installation::new().await;
    // Two more events of commands.
    for command in ["disable", "enable"] {
        site.run(&["tenant", command, "Cust1"]).await.succeeded();
    }
    fs::remove_dir_all(site.audit()).unwrap();
    put_files(&site.audit(), site.older);
    let copied = SegmentFile::read(site.folder.path(), site.chain);
    let (_, last) = numbers(&copied, copied.groups().len() - 1);
    let (faults, damages) = site.verify().await;
    let kinds: Vec<_> = faults.iter().map(|(chain, kind, _)| (&**chain, &**kind)).collect();
    assert_eq!(kinds, [("cli", "TRUNCATED"), (site.chain, "TRUNCATED")]);
    assert_eq!((faults[1].2, damages), (last + 1, vec![]));
    // A server continues, and the fault stays.
    site.assert_serves().await;
    let (faults, _) = site.verify().await;
    let fault = &site.fault("TRUNCATED", last + 1)[0];
    assert!(faults.contains(fault), "{faults:?}");
}

#[tokio::test]
async fn a_server_refuses_an_older_copy_that_takes_the_place_of_its_journal() {
    let site = Installation::new().await;
    let served = site.serve().await;
    create(&served, "Cust2").await.unwrap();
    let older = read_files(&site.audit());
    create(&served, "Cust3").await.unwrap();
    let away = site.folder.path().join("away");
    fs::rename(site.audit(), &away).unwrap();
    put_files(&site.audit(), &older);
    let mut number = 10;
    let mut create_another = async || {
        number += 1;
        create(&served, &format!("Cust{number}")).await
    };
    eventually_so("changes are refused", async || create_another().await.is_err()).await;
    let refused = create_another().await.unwrap_err();
    assert_status(&refused, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(read_files(&site.audit()) == older, "something was written to the copy");
    fs::remove_dir_all(site.audit()).unwrap();
    fs::rename(away, site.audit()).unwrap();
    eventually_so("changes are accepted again", async || create_another().await.is_ok()).await;
    served.stop().await;
    assert_eq!(site.verify().await, (vec![], vec![]));
}

#[tokio::test]
async fn a_segment_that_was_cut_under_a_running_server_is_named_with_file_and_offset() {
    let site = Installation::new().await;
    let served = site.serve().await;
    for tenant in ["Cust2", "Cust3", "Cust4"] {
        create(&served, tenant).await.unwrap();
    }
    let chain = server_chains(site.folder.path()).pop().unwrap();
    let segment = SegmentFile::read(site.folder.path(), &chain);
    let group = segment.groups().len() - 1;
    let (cut, _) = numbers(&segment, group);
    let start = segment.groups()[group].start;
    let file = fs::OpenOptions::new().write(true).open(&segment.path).unwrap();
    file.set_len(start as u64).unwrap();
    create(&served, "Cust5").await.unwrap();
    served.stop().await;
    let damages = vec![(format!("{chain}/0000000000000000001.seg"), start)];
    assert_eq!(site.verify().await, (vec![(chain, "MISSING".to_owned(), cut)], damages));
}
