//! Tests of the cost of clients without permissions. `tests/it/attacks.rs` measures the memory of the program.

use std::time::{Duration, Instant};

use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{
    World, assert_status,
    frames::{DATA, RawHttp2Client, frame, head},
};

/// More watches than the memory limit for one address allows.
const WATCHES: usize = 1400;

/// The watches of one connection, fewer than its calls at a time.
const WATCHES_PER_CONNECTION: usize = 400;

#[tokio::test]
async fn pending_calls_of_one_address_are_limited_and_new_connections_are_served() {
    let world = World::new().await;
    let request = || HealthCheckRequest { service: String::new() };
    let mut crowded = HealthClient::new(world.channel().await);
    let (mut full, mut open) = (Vec::new(), Vec::new());
    let refused = loop {
        assert!(open.len() < WATCHES, "the number of watches is not limited");
        if open.len() == WATCHES_PER_CONNECTION * (full.len() + 1) {
            full.push(std::mem::replace(&mut crowded, HealthClient::new(world.channel().await)));
        }
        match crowded.watch(request()).await {
            Ok(watch) => open.push(watch),
            Err(refused) => break refused,
        }
    };
    assert!(open.len() > 100, "{}", open.len());
    let details = assert_status(&refused, Code::ResourceExhausted, "CALLER_QUOTA_EXCEEDED");
    assert!(details.retry_info().is_some());
    assert!(refused.metadata().contains_key("x-request-id"), "{refused:?}");
    let mut newcomer = HealthClient::new(world.channel().await);
    newcomer.check(request()).await.unwrap();
    drop(open);
    crate::support::eventually_so("the memory is free again", async || {
        crowded.check(request()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn an_incomplete_message_does_not_delay_the_shutdown() {
    let mut world = World::new().await;
    let mut client = RawHttp2Client::connect(world.gateway().grpc_address).await;
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/tenantgateway.v1.TokenService/IssueSystemTicket"),
        (":authority", "gateway"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "99999999H"),
    ];
    // The prefix of a message of 100 bytes, and its first byte.
    let half = [&head(1, 0, &fields)[..], &frame(DATA, 0, 1, &[0, 0, 0, 0, 100, 1])].concat();
    client.send(&half).await;
    // The response to this proves that the gateway has read the first call.
    client.send(&head(3, 0, &fields)).await;
    client.send(&frame(DATA, 1, 3, &[0; 5])).await;
    client.next_on_stream(3).await;
    let begin = Instant::now();
    world.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}
