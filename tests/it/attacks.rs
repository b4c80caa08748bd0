//! Attacks on the release binary by clients without a credential, and by callers without permissions. Each attack has a
//! bound on memory, on the delay of other clients, and on the time to stop.
//!
//! Needs the release binary, so `cargo test` leaves it out (`test = false`). `tools/check-attacks` builds it and runs
//! this, and `.ci/run` runs that. Run it alone, because it measures the resources of the process.
#![cfg(test)]

#[expect(dead_code, unused_imports, reason = "uses only a part of the shared support module")]
mod support;

#[path = "attacks/attacker.rs"]
mod attacker;
#[path = "attacks/authority.rs"]
mod authority;
#[path = "attacks/process.rs"]
mod process;

use std::{fs, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    attacker::{IncompleteMessage, connect_from, fill, open_streams, preface, silent},
    process::Usage,
    support::{
        Options,
        binary::{Served, Site},
        callers::{CALLERS, ISSUER, TestIssuer},
        frames::{END_STREAM, HEADERS, frame},
    },
};

/// The most memory, in MiB, that an attack may add.
const MOST_MIB: u64 = 48;

/// The longest wait of a client at another address.
const NEWCOMER_WAITS: Duration = Duration::from_secs(1);

/// The connections that an attacker opens from one address.
const CONNECTIONS: usize = 512;

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const TICKET: &str = "/tenantgateway.v1.TokenService/IssueSystemTicket";
const CALL: &str = "/tenantgateway.v1.WebApiService/Call";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// A gateway under attack.
struct AttackedGateway {
    _site: Site,
    served: Served,
    issuer: TestIssuer,
    before: Usage,
}

impl AttackedGateway {
    async fn start(grpc: &str) -> Self {
        let issuer = TestIssuer::new(ISSUER, "one");
        let options = Options {
            grpc: Some(grpc.to_owned()),
            callers: Some(CALLERS.to_owned()),
            policy: Some(r#"permit (principal == Caller::"sync", action, resource);"#.to_owned()),
            extra_config: "[http]\nlisten = \"127.0.0.1:0\"\n[egress]\nlisten = \"127.0.0.1:0\"\n"
                .to_owned(),
            ..Options::default()
        };
        let site = Site::with(options).await;
        fs::write(site.file("jwks.json"), issuer.jwks()).unwrap();
        let served = site.serve().await;
        let attacked = Self { _site: site, before: Usage::of(&served.process), served, issuer };
        // The first calls allocate memory that stays allocated.
        attacked.newcomer_is_served().await;
        Self { before: Usage::of(&attacked.served.process), ..attacked }
    }

    /// Returns a valid token that permits nothing.
    fn token(&self) -> String {
        self.issuer.token("outsider", now())
    }

    fn listeners(&self) -> [SocketAddr; 3] {
        [self.served.grpc, self.served.egress.unwrap(), self.served.http.unwrap()]
    }

    /// Asserts that the process uses little more memory than before the attack.
    fn assert_small(&self, what: &str) {
        let now = Usage::of(&self.served.process);
        let more = now.resident_mib.saturating_sub(self.before.resident_mib);
        println!("{what}: {} MiB, {more} MiB more than before", now.resident_mib);
        assert!(more <= MOST_MIB, "{what}: {more} MiB more");
    }

    /// Calls each listener once from another address. Returns the longest wait.
    async fn newcomer_is_served(&self) -> Duration {
        let [grpc, egress, http] = self.listeners();
        let begin = Instant::now();
        let waited = timeout(Duration::from_secs(30), async {
            tokio::join!(checks_health(grpc), asks(egress), asks(http))
        });
        waited.await.expect("a newcomer is not served within 30 s");
        begin.elapsed()
    }

    async fn assert_newcomer_waits_little(&self, what: &str) {
        let waited = self.newcomer_is_served().await;
        println!("{what}: a newcomer waited {waited:?}");
        assert!(waited < NEWCOMER_WAITS, "{what}: a newcomer waited {waited:?}");
    }

    /// Stops the gateway gracefully, within `most`.
    async fn assert_stops_within(self, most: Duration) {
        let begin = Instant::now();
        let finished = self.served.stop().await;
        let took = begin.elapsed();
        println!("it stopped after {took:?}");
        assert!(took < most, "{took:?}: {finished:?}");
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Requests the health of the gateway on a new connection.
async fn checks_health(to: SocketAddr) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut bytes = preface();
    bytes.extend(attacker::grpc_head(1, HEALTH, None, "9S"));
    bytes.extend(frame(0, END_STREAM, 1, &[0; 5]));
    stream.write_all(&bytes).await.unwrap();
    loop {
        let mut begin = [0; 9];
        stream.read_exact(&mut begin).await.expect("the connection ends before the answer");
        let [_, high, low, kind, _, _, _, _, last] = begin;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        stream.read_exact(&mut payload).await.unwrap();
        if kind == HEADERS && last == 1 {
            return;
        }
    }
}

/// Sends a request that needs a credential, or whose path does not exist.
async fn asks(to: SocketAddr) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request =
        "GET /crm-sync/Cust1/api/v1/Contact/5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");
}

#[tokio::test]
async fn incomplete_messages_without_credential_cost_little_and_end_soon() {
    let attacked = AttackedGateway::start("").await;
    let token = attacked.token();
    for (what, path, token) in [
        ("health checks", HEALTH, None),
        ("tickets without a credential", TICKET, None),
        ("tickets that policy refuses", TICKET, Some(&*token)),
        ("calls of the Web API that policy refuses", CALL, Some(&*token)),
        ("reflection", REFLECTION, None),
    ] {
        let mut held = JoinSet::new();
        for connection in 0..48_u8 {
            let from = 2 + connection % 3;
            let half = IncompleteMessage { path, token: token.map(str::to_owned), bytes: 4 << 20 };
            held.spawn(fill(attacked.served.grpc, from, 100, half));
        }
        sleep(Duration::from_secs(3)).await;
        attacked.assert_small(what);
        attacked.assert_newcomer_waits_little(what).await;
    }
    attacked.assert_stops_within(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn health_watches_are_limited_and_end_with_the_connection_age() {
    let attacked = AttackedGateway::start("max_connection_age = \"6s\"").await;
    let mut held = Vec::new();
    let mut open = 0;
    for connection in 0..30_u8 {
        let from = 2 + connection % 3;
        let mut streams = open_streams(attacked.served.grpc, from, WATCH, 1000).await;
        open += streams.answered_within(Duration::from_millis(400)).await;
        held.push(streams);
    }
    attacked.assert_small("30,000 watches of health");
    println!("{open} of 30,000 watches were opened");
    assert!(open < 4_000);
    let mut ended = 0;
    for mut streams in held {
        ended += usize::from(streams.ends_within(Duration::from_secs(20)).await);
    }
    assert_eq!(ended, 30, "connections outlive their age");
    attacked.assert_stops_within(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn unread_responses_cost_little() {
    let attacked = AttackedGateway::start("").await;
    let [grpc, egress, http] = attacked.listeners();
    let mut held = JoinSet::new();
    for connection in 0..60_u8 {
        let from = 2 + connection % 3;
        held.spawn(attacker::unread_answers(grpc, from, HEALTH, 1000));
        held.spawn(attacker::unread_answers(egress, from, "/a/b/api/v1/Contact/5", 1000));
        held.spawn(attacker::unread_answers(http, from, "/consent/1", 1000));
    }
    sleep(Duration::from_secs(4)).await;
    attacked.assert_small("answers that are not read");
    attacked.assert_newcomer_waits_little("answers that are not read").await;
    attacked.assert_stops_within(Duration::from_secs(12)).await;
}

#[tokio::test]
async fn incomplete_heads_cost_little() {
    let attacked = AttackedGateway::start("").await;
    let [grpc, egress, http] = attacked.listeners();
    let line = format!("X-Filler: {}\r\n", "x".repeat(30_000));
    let http1 = format!("GET / HTTP/1.1\r\nHost: x\r\n{line}");
    let mut http2 = preface();
    http2.extend(attacker::half_block(1, 3 * 16_000));
    let mut held = Vec::new();
    for (what, to, bytes) in [
        ("heads of HTTP/1.1 on egress", egress, http1.as_bytes()),
        ("heads of HTTP/1.1 on http", http, http1.as_bytes()),
        ("heads of HTTP/2 on egress", egress, &*http2),
        ("heads of HTTP/2 on http", http, &*http2),
        ("heads of HTTP/2 on grpc", grpc, &*http2),
    ] {
        for connection in 0..CONNECTIONS {
            let from = 2 + u8::try_from(connection % 3).unwrap();
            let mut stream = connect_from(from, to).await;
            // Ignores the reset of a refused connection.
            let _ = timeout(Duration::from_secs(1), stream.write_all(bytes)).await;
            held.push(stream);
        }
        sleep(Duration::from_millis(300)).await;
        attacked.assert_small(what);
        attacked.assert_newcomer_waits_little(what).await;
    }
    attacked.assert_stops_within(Duration::from_secs(12)).await;
}

#[tokio::test]
async fn one_byte_header_fields_cost_little() {
    let attacked = AttackedGateway::start("").await;
    let [grpc, egress, http] = attacked.listeners();
    let mut bytes = preface();
    bytes.extend(attacker::half_block_of_references(1, 40_000));
    let mut held = Vec::new();
    for to in [grpc, egress, http] {
        for connection in 0..CONNECTIONS {
            let from = 2 + u8::try_from(connection % 3).unwrap();
            let mut stream = connect_from(from, to).await;
            let _ = timeout(Duration::from_secs(1), stream.write_all(&bytes)).await;
            held.push(stream);
        }
    }
    sleep(Duration::from_millis(500)).await;
    attacked.assert_small("references to the static table");
    attacked.assert_stops_within(Duration::from_secs(12)).await;
}

#[tokio::test]
async fn idle_connections_of_one_address_do_not_block_others() {
    let attacked = AttackedGateway::start("").await;
    for to in attacked.listeners() {
        let mut held = silent(to, &[2], 2048).await;
        attacked.assert_newcomer_waits_little("2,048 silent connections").await;
        held.extend(silent(to, &[3, 4], 512).await);
        attacked.assert_newcomer_waits_little("and 512 of two more addresses").await;
    }
    attacked.assert_small("silent connections");
    attacked.assert_stops_within(Duration::from_secs(12)).await;
}

#[tokio::test]
async fn endless_webhook_bodies_cost_little() {
    let attacked = AttackedGateway::start("").await;
    let http = attacked.served.http.unwrap();
    let mut held = JoinSet::new();
    for connection in 0..200_u8 {
        let from = 2 + connection % 3;
        held.spawn(attacker::half_bodies(
            http,
            from,
            "/webhooks/superoffice/state-change",
            8,
            60_000,
        ));
    }
    sleep(Duration::from_secs(2)).await;
    attacked.assert_small("half-sent webhooks");
    attacked.assert_newcomer_waits_little("half-sent webhooks").await;
    attacked.assert_stops_within(Duration::from_secs(12)).await;
}

#[tokio::test]
async fn an_incomplete_call_does_not_delay_the_shutdown() {
    let attacked = AttackedGateway::start("").await;
    let [grpc, egress, http] = attacked.listeners();
    let mut held = JoinSet::new();
    let half = |path, token| IncompleteMessage { path, token, bytes: 4 << 20 };
    held.spawn(fill(grpc, 2, 1, half(HEALTH, None)));
    held.spawn(fill(grpc, 2, 1, half(CALL, Some(attacked.token()))));
    held.spawn(attacker::half_bodies(http, 2, "/webhooks/superoffice/state-change", 1, 1000));
    let mut heads = Vec::new();
    for to in [egress, http] {
        let mut stream = connect_from(2, to).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
        heads.push(stream);
    }
    sleep(Duration::from_secs(1)).await;
    // The time limit for the body of a webhook is five seconds.
    attacked.assert_stops_within(Duration::from_secs(6)).await;
}

#[tokio::test]
async fn all_memory_attacks_together_stay_within_the_bound() {
    let attacked = AttackedGateway::start("").await;
    let [grpc, egress, http] = attacked.listeners();
    let mut held = JoinSet::new();
    for connection in 0..40_u8 {
        let from = 2 + connection % 5;
        let token = attacked.token();
        let half = |path, token| IncompleteMessage { path, token, bytes: 4 << 20 };
        held.spawn(fill(grpc, from, 50, half(HEALTH, None)));
        held.spawn(fill(grpc, from, 50, half(CALL, Some(token))));
        held.spawn(attacker::unread_answers(egress, from, "/a/b/api/v1/Contact/5", 500));
        held.spawn(attacker::half_bodies(
            http,
            from,
            "/webhooks/superoffice/state-change",
            8,
            60_000,
        ));
    }
    let mut streams = Vec::new();
    let mut http2 = preface();
    http2.extend(attacker::half_block(1, 3 * 16_000));
    let http1 = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Filler: {}\r\n", "x".repeat(30_000));
    for connection in 0..300_usize {
        for (to, bytes) in [(egress, http1.as_bytes()), (http, http1.as_bytes()), (grpc, &*http2)] {
            let mut stream = connect_from(2 + u8::try_from(connection % 5).unwrap(), to).await;
            let _ = timeout(Duration::from_secs(1), stream.write_all(bytes)).await;
            streams.push(stream);
        }
    }
    sleep(Duration::from_secs(2)).await;
    attacked.assert_small("everything at once");
    attacked.assert_newcomer_waits_little("everything at once").await;
    attacked.assert_stops_within(Duration::from_secs(12)).await;
}
