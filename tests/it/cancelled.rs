//! Tests of HTTP/2 clients that cancel many requests at once. Other calls on the connection continue.

use std::net::SocketAddr;

use prost::Message as _;
use tenant_gateway::grpc::pb;
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    World,
    api_host::{HostResponse, address, gateway_with_host},
    eventually,
    frames::{
        self, DATA, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PING, RawHttp2Client, WINDOW_UPDATE,
        cancel, frame, head,
    },
    http::send,
    name,
};

const BURSTS: u32 = 10;
const BURST: u32 = 200;

const ISSUE: &str = "/tenantgateway.v1.TokenService/IssueSystemTicket";
const WATCH: &str = "/tenantgateway.v1.TokenService/WatchSystemTicket";
const CONTACT: &str = "/crm-sync/Cust1/api/v1/Contact/5";

fn grpc(stream: u32, flags: u8, path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    head(stream, flags, &fields)
}

fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0], &length[..], bytes].concat()
}

/// Opens and cancels streams in bursts, each sent at once. Half of the requests are complete.
async fn cancel_in_bursts(frames: &mut RawHttp2Client, open: impl Fn(u32, bool) -> Vec<u8>) {
    let mut stream = 3;
    for _ in 0..BURSTS {
        let mut burst = Vec::new();
        for nth in 0..BURST {
            burst.extend(open(stream, nth % 2 == 0));
            burst.extend(cancel(stream));
            stream += 2;
        }
        frames.send(&burst).await;
    }
}

/// Reads the next ticket of a watch on stream 1.
async fn ticket(frames: &mut RawHttp2Client) {
    loop {
        let frame = frames.next_on_stream(1).await;
        assert!(
            [HEADERS, DATA].contains(&frame.kind) && frame.flags & END_STREAM == 0,
            "{frame:?}"
        );
        if frame.kind == DATA {
            let message = pb::WatchSystemTicketResponse::decode(&frame.payload[5..]).unwrap();
            assert!(message.ticket.is_some());
            return;
        }
    }
}

#[tokio::test]
async fn a_watch_survives_2000_cancelled_calls_on_its_connection() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let mut frames = RawHttp2Client::connect(world.gateway().grpc_address).await;
    let watch = pb::WatchSystemTicketRequest { tenant: name("Cust1"), ..Default::default() };
    frames.send(&grpc(1, 0, WATCH)).await;
    frames.send(&frame(DATA, END_STREAM, 1, &message(&watch.encode_to_vec()))).await;
    ticket(&mut frames).await;
    let issue = pb::IssueSystemTicketRequest { tenant: name("Cust1"), ..Default::default() };
    let issue = message(&issue.encode_to_vec());
    let open = |stream, whole| {
        let data = if whole { frame(DATA, END_STREAM, stream, &issue) } else { Vec::new() };
        [grpc(stream, 0, ISSUE), data].concat()
    };
    cancel_in_bursts(&mut frames, open).await;
    // The watch is still open: it ends when its tenant is disabled.
    let disable = pb::DisableTenantRequest { name: name("Cust1"), ..Default::default() };
    world.tenants().await.disable_tenant(disable).await.unwrap();
    let end = frames.next_on_stream(1).await;
    assert_eq!((end.kind, end.flags & END_STREAM), (HEADERS, END_STREAM), "{end:?}");
}

#[tokio::test]
async fn a_download_survives_2000_cancelled_calls_on_its_connection() {
    const BYTES: usize = 1 << 20;
    let (world, host) = gateway_with_host("").await;
    host.respond_next(HostResponse::Bytes(BYTES as u64));
    let mut frames = RawHttp2Client::connect(address(world.gateway())).await;
    let get = |stream, flags| {
        let fields = [
            (":method", if flags == END_STREAM { "GET" } else { "PUT" }),
            (":scheme", "http"),
            (":path", CONTACT),
            (":authority", "gateway"),
        ];
        head(stream, flags, &fields)
    };
    frames.send(&get(1, END_STREAM)).await;
    assert_eq!(frames.next_on_stream(1).await.kind, HEADERS);
    // The client's window holds back the rest of the download.
    cancel_in_bursts(&mut frames, |stream, whole| get(stream, u8::from(whole))).await;
    for stream in [0, 1] {
        frames.send(&frame(WINDOW_UPDATE, 0, stream, &(1_u32 << 30).to_be_bytes())).await;
    }
    let mut come = 0;
    while come < BYTES {
        let frame = frames.next_on_stream(1).await;
        assert_eq!(frame.kind, DATA, "{frame:?}");
        come += frame.payload.len();
    }
    assert_eq!(come, BYTES);
}

/// Sends cancelled calls until the gateway ends the connection.
async fn flood(to: SocketAddr) -> Option<u32> {
    const CALLS: u32 = 20_000;
    let frames = RawHttp2Client::connect(to).await;
    let (mut reader, mut writer) = frames.0.into_split();
    let writing = async {
        for first in (1..2 * CALLS).step_by(2000) {
            let burst = (first..first + 2000).step_by(2);
            // The smallest head of a call, from the static table (RFC 7541).
            let call = |stream| [frame(HEADERS, 5, stream, &[0x83, 0x86, 0x84]), cancel(stream)];
            let bytes: Vec<_> = burst.flat_map(call).flatten().collect();
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // A gateway that still serves the connection answers.
        let _ = writer.write_all(&frame(PING, 0, 0, b"the end.")).await;
    };
    let reading = frames::until_goaway(&mut reader);
    tokio::join!(writing, reading).1
}

#[tokio::test]
async fn a_flood_of_cancelled_calls_does_not_affect_other_clients() {
    let (world, host) = gateway_with_host("").await;
    for to in [world.gateway().grpc_address, address(world.gateway())] {
        let code = flood(to).await;
        assert!([None, Some(ENHANCE_YOUR_CALM)].contains(&code), "{code:?}");
    }
    assert_eq!(send(address(world.gateway()), "GET", CONTACT, &[], b"").await.status, 200);
    world.ticket("Cust1").await.unwrap();
    eventually("the call has arrived", || host.received().len() == 1).await;
}
