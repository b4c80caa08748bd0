//! Tests of `kill -9` and the audit journal: every acknowledged event is there, and no chain is broken.
//!
//! A server begins a chain at each start. So a directory has a chain of each server that was killed there. The first
//! event of each chain links to the ends of all chains before.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::Signal;
use tenant_gateway::{
    app::Storage,
    config::Config,
    crypto::SystemRandom,
    domain::AuditEvent,
    grpc::pb::{self, tenant_service_client::TenantServiceClient},
    ports::{AuditSigner as _, AuditStore as _, Random as _},
};
use tokio::{task::JoinSet, time::sleep};
use tonic::{metadata::MetadataMap, transport::Channel};

use crate::{
    process::Random,
    support::{
        APPLICATION, Options,
        binary::{Process, Served, Site},
        eventually, issue, name,
        trail::StoredTrail,
    },
};

/// The directories on which servers are killed, half of them at a time, and the kills on each: 200 kills.
const DIRECTORIES: u64 = 8;
const KILLS: u64 = 25;

/// The callers that request tickets at the same time.
const CALLERS: usize = 16;

/// The rounds in which a command is killed, and the commands that run at the same time.
const COMMAND_KILLS: u64 = 20;
const COMMANDS: u64 = 3;

/// Returns random numbers. A failed test shows the seed.
fn dice() -> Random {
    let seed = SystemRandom.bytes().iter().fold(0, |seed, byte| seed << 8 ^ u64::from(*byte));
    eprintln!("seed {seed}");
    Random(seed)
}

/// Returns a site with the smallest segments, and with a tenant that has a ticket.
async fn site() -> Site {
    let audit = "durability = \"before_response\"\nsegment_bytes = 1048576\nmax_wait = \"20s\"";
    let extra_config = format!("[audit]\n{audit}\n");
    let site = Site::with(Options { extra_config, ..Default::default() }).await;
    site.enroll("Cust1").await;
    let served = site.serve().await;
    served.tokens().await.issue_system_ticket(ticket()).await.unwrap();
    served.stop().await;
    site
}

/// Returns a request whose event has the longest reason: about 1.3 KB.
fn ticket() -> pb::IssueSystemTicketRequest {
    pb::IssueSystemTicketRequest { reason: "\u{1d11e}".repeat(256), ..issue("Cust1") }
}

fn tenant(number: u64) -> String {
    format!("Cust{}", 1000 + number)
}

fn create(number: u64) -> pb::CreateTenantRequest {
    pb::CreateTenantRequest {
        parent: format!("applications/{APPLICATION}"),
        tenant_id: tenant(number),
        tenant: None,
    }
}

fn request_id(metadata: &MetadataMap) -> String {
    metadata.get("x-request-id").unwrap().to_str().unwrap().to_owned()
}

/// Callers of a server until it ends, and the request ids of the answered calls.
struct Callers {
    tasks: JoinSet<()>,
    answered: Arc<Mutex<Vec<String>>>,
}

impl Callers {
    /// Starts callers that request tickets.
    async fn start(served: &Served) -> Self {
        let mut callers = Self { tasks: JoinSet::new(), answered: Arc::default() };
        let client = served.tokens().await;
        for _ in 0..CALLERS {
            let (mut client, answered) = (client.clone(), Arc::clone(&callers.answered));
            callers.tasks.spawn(async move {
                while let Ok(response) = client.issue_system_ticket(ticket()).await {
                    let id = request_id(response.metadata());
                    answered.lock().unwrap().push(id);
                }
            });
        }
        callers
    }

    /// Starts a caller that adds tenants. Their numbers begin with `first`.
    fn add_tenants(&mut self, mut client: TenantServiceClient<Channel>, first: u64) {
        let answered = Arc::clone(&self.answered);
        self.tasks.spawn(async move {
            for number in first.. {
                let Ok(response) = client.create_tenant(create(number)).await else { return };
                let id = request_id(response.metadata());
                answered.lock().unwrap().push(id);
            }
        });
    }

    fn count(&self) -> u64 {
        self.answered.lock().unwrap().len() as u64
    }

    /// Waits until all callers have noticed the end of the server. Returns the request ids of the answered calls.
    async fn end(self) -> Vec<String> {
        self.tasks.join_all().await;
        std::mem::take(&mut *self.answered.lock().unwrap())
    }
}

/// A directory on which servers are killed, one after the other.
struct Directory {
    site: Site,
    /// The journal, as a command reads it beside the servers.
    reader: Storage,
    dice: Random,
    /// The chains whose events were checked.
    checked: BTreeSet<Arc<str>>,
    acknowledged: Vec<String>,
}

impl Directory {
    async fn new(dice: Random) -> Self {
        let site = site().await;
        let config = Config::load(&site.file("gateway.toml")).unwrap().config;
        let reader = Storage::open(&config).await.unwrap();
        Self { site, reader, dice, checked: BTreeSet::new(), acknowledged: Vec::new() }
    }

    /// Kills a server under load, and asserts that the events of all answered calls are there.
    async fn kill(&mut self, kill: u64) {
        // Every eighth server fills its first segment, or almost.
        let answers = if kill % 8 == 7 { 400 + self.dice.below(800) } else { 0 };
        let moment = Duration::from_micros(self.dice.below(100_000));
        let served = self.site.serve().await;
        let mut callers = Callers::start(&served).await;
        callers.add_tenants(served.tenants().await, 10_000 * (kill + 1));
        eventually("enough calls are answered", || callers.count() >= answers).await;
        sleep(moment).await;
        served.kill().await;
        let answered = callers.end().await;

        let place = format!("kill {kill}, {moment:?} after {answers} answers");
        let found = self.new_request_ids().await;
        let lost: Vec<_> = answered.iter().filter(|id| !found.contains(*id)).collect();
        assert!(lost.is_empty(), "{place}: {lost:?} of {} are lost", answered.len());
        assert_eq!(self.reader.audit.damages(), [], "{place}");
        self.acknowledged.extend(answered);
    }

    /// Returns the request ids of the events in chains that were not checked before.
    async fn new_request_ids(&mut self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for state in self.reader.audit.chains().await.unwrap() {
            let chain = state.head.point.chain;
            if !self.checked.insert(Arc::clone(&chain)) {
                continue;
            }
            let rows = self.reader.audit.events(&chain, 0, 100_000).await.unwrap();
            let events = rows.iter().map(|row| AuditEvent::read(&chain, row).unwrap());
            found.extend(events.map(|event| (*event.record.request_id).to_owned()));
        }
        found
    }

    /// Asserts that a server goes on, that all chains verify, and that each acknowledged event is there once. Returns
    /// the number of segments that followed a full one.
    async fn finish(mut self) -> usize {
        let served = self.site.serve().await;
        let response = served.tokens().await.issue_system_ticket(ticket()).await.unwrap();
        self.acknowledged.push(request_id(response.metadata()));
        served.stop().await;
        let keys = self.reader.audit_signer.public_keys();
        self.reader.close().await;
        let trail = StoredTrail::read(&self.site.file("gateway.toml")).await;
        trail.assert_intact();
        trail.assert_each_once(&self.acknowledged);
        assert!(self.acknowledged.len() > 1000, "too few: {}", self.acknowledged.len());
        assert_verified_by_python(&self.site.file("audit"), keys).await;
        later_segments(&self.site.file("audit"))
    }
}

/// Runs `tools/verify-journal.py`, which was written from the reference, where Python 3 is installed.
async fn assert_verified_by_python(directory: &Path, keys: Vec<(String, Vec<u8>)>) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/verify-journal.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(directory).arg("--all-signatures");
    for (id, key) in keys {
        let digits: Vec<String> = key.iter().map(|byte| format!("{byte:02x}")).collect();
        command.arg("--public-key").arg(format!("{id}={}", digits.concat()));
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let Ok(output) = output else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{said}{output:?}");
}

/// Returns the number of segments that are not the first one of their chain.
fn later_segments(directory: &Path) -> usize {
    let chains = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = chains.filter(|path| path.is_dir()).flat_map(|chain| fs::read_dir(chain).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    let segments = paths.filter(|path| path.extension().is_some_and(|end| end == "seg"));
    let first = "0000000000000000001";
    segments.filter(|path| path.file_stem().is_some_and(|stem| stem != first)).count()
}

/// Kills servers on half of the directories. Returns the number of segments that followed a full one.
async fn kill_servers(seed: u64) -> usize {
    let mut later = 0;
    for number in 0..DIRECTORIES / 2 {
        let mut directory = Directory::new(Random(seed.wrapping_add(number))).await;
        for kill in 0..KILLS {
            directory.kill(kill).await;
        }
        later += directory.finish().await;
    }
    later
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_at_200_random_moments_under_load_every_acknowledged_event_is_there() {
    let mut dice = dice();
    let (one, other) = (dice.below(u64::MAX), dice.below(u64::MAX));
    let (one, other) = tokio::join!(Box::pin(kill_servers(one)), Box::pin(kill_servers(other)));
    assert!(one + other > 0, "no server has filled a segment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_killed_beside_a_server_leave_a_whole_event_or_no_change() {
    let mut dice = dice();
    let site = site().await;
    let served = site.serve().await;
    let mut client = served.tenants().await;
    for number in 0..COMMAND_KILLS * COMMANDS {
        client.create_tenant(create(number)).await.unwrap();
    }
    let callers = Callers::start(&served).await;
    let (mut acknowledged, mut killed) = (Vec::new(), Vec::new());
    for kill in 0..COMMAND_KILLS {
        let start = |number| {
            let id = tenant(number);
            (number, Process::start(site.command(&["tenant", "disable", id.as_str()])))
        };
        let mut commands: Vec<_> = (kill * COMMANDS..(kill + 1) * COMMANDS).map(start).collect();
        sleep(Duration::from_micros(dice.below(400_000))).await;
        let (number, victim) = commands.pop().unwrap();
        victim.signal(Signal::KILL);
        let ended = victim.finished().await;
        if ended.signal == Some(9) {
            killed.push(number);
        } else {
            // It had ended before the signal.
            ended.succeeded();
            acknowledged.push(number);
        }
        // The others get the lock of the chain.
        for (number, command) in commands {
            command.finished().await.succeeded();
            acknowledged.push(number);
        }
    }
    served.kill().await;
    let answered = callers.end().await;

    let listed = site.run(&["tenant", "list", "--output", "json"]).await.json();
    let disabled: BTreeSet<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter(|tenant| tenant["disabled"] == true)
        .map(|tenant| tenant["name"].as_str().unwrap())
        .collect();
    let trail = StoredTrail::read(&site.file("gateway.toml")).await;
    trail.assert_intact();
    trail.assert_each_once(&answered);
    let events = |resource: &str| {
        let of = |event: &&AuditEvent| {
            &*event.record.action == "cli.tenant.disable" && *event.record.resource == *resource
        };
        trail.events.iter().filter(of).count()
    };
    for number in acknowledged {
        let tenant = name(&tenant(number));
        assert!(events(&tenant) == 1 && disabled.contains(&*tenant), "{tenant}");
    }
    assert!(!killed.is_empty(), "every command ended before it was killed");
    for number in killed {
        let tenant = name(&tenant(number));
        let count = events(&tenant);
        assert!(count <= 1, "{tenant}: {count} events");
        assert!(count == 1 || !disabled.contains(&*tenant), "{tenant}: changed without an event");
    }
    let chains = trail.chains();
    let of_commands: Vec<&str> =
        chains.iter().map(|chain| &**chain).filter(|chain| chain.starts_with("cli")).collect();
    assert_eq!(of_commands, ["cli"], "the chain was left as damaged");
}
