//! Tests of `trusted_proxies` and `proxy_protocol`: the client address in limits, log and audit trail, which clients
//! cannot forge.

use tonic::Code;

use crate::support::{
    World, assert_status,
    clients::{Client, ClientAddresses, behind_proxies},
};

/// The trusted proxy, and an untrusted client.
const PROXY: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.9";

/// Calls each listener.
async fn ask_everywhere(world: &World, client: &Client<'_>) {
    let gateway = world.gateway();
    assert_eq!(client.open_page(gateway.http_address.unwrap()).await.status, 404);
    let called = client.call(gateway.egress_address.unwrap()).await;
    assert_eq!(called.status, 200, "{called:?}");
    client.issue_ticket(gateway.grpc_address).await.unwrap();
}

#[tokio::test]
async fn forged_headers_of_an_untrusted_peer_change_nothing() {
    let mut world = behind_proxies(PROXY, false).await;
    for headers in [
        &[("x-forwarded-for", "192.0.2.7")][..],
        &[("forwarded", "for=192.0.2.7")],
        &[("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.8")],
        &[("x-real-ip", "192.0.2.7"), ("true-client-ip", "192.0.2.7")],
    ] {
        ask_everywhere(&world, &Client { from: STRANGER, headers, ..Client::default() }).await;
    }
    assert_eq!(
        ClientAddresses::from_trail(&mut world).await,
        ClientAddresses::on_all_listeners(&[STRANGER])
    );
}

#[tokio::test]
async fn two_forwarded_headers_that_contradict_each_other_are_refused() {
    let mut world = behind_proxies(PROXY, false).await;
    let headers = &[("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.8")];
    let client = Client { from: PROXY, headers, ..Client::default() };
    let gateway = world.gateway();
    let page = client.open_page(gateway.http_address.unwrap()).await;
    let call = client.call(gateway.egress_address.unwrap()).await;
    for answer in [page, call] {
        let problem = answer.assert_problem(400, "INVALID_ARGUMENT");
        assert!(problem["detail"].as_str().unwrap().contains("configure the proxy to remove"));
    }
    let refused = client.issue_ticket(gateway.grpc_address).await.unwrap_err();
    assert_status(&refused, Code::InvalidArgument, "INVALID_ARGUMENT");
    let seen = ClientAddresses::from_trail(&mut world).await;
    assert_eq!(seen, ClientAddresses::default());
}

#[tokio::test]
async fn the_address_from_a_trusted_proxy_is_that_of_the_client() {
    let mut world = behind_proxies(PROXY, false).await;
    for headers in [
        &[("x-forwarded-for", "6.6.6.6, 192.0.2.7")][..],
        &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.7, 127.0.0.1")],
        &[("forwarded", "for=6.6.6.6, for=\"192.0.2.7:4711\";proto=https")],
        &[("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7")],
    ] {
        ask_everywhere(&world, &Client { from: PROXY, headers, ..Client::default() }).await;
    }
    // An invalid address is ignored, so the address of the proxy counts.
    let headers = &[("x-forwarded-for", "192.0.2.7, unknown")];
    ask_everywhere(&world, &Client { from: PROXY, headers, ..Client::default() }).await;
    assert_eq!(
        ClientAddresses::from_trail(&mut world).await,
        ClientAddresses::on_all_listeners(&["192.0.2.7", PROXY])
    );
}

#[tokio::test]
async fn a_proxy_protocol_header_counts_only_from_a_trusted_proxy() {
    let mut world = behind_proxies(PROXY, true).await;
    let gateway = world.gateway();
    let all =
        [gateway.http_address.unwrap(), gateway.egress_address.unwrap(), gateway.grpc_address];
    let text: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 443\r\n";
    let binary: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x7f\0\0\x01\xc3\x50\x01\xbb";
    let local: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for to in all {
        for begin in [text, binary, local] {
            assert!(Client { from: STRANGER, begin, ..Client::default() }.is_cut_off(to).await);
        }
        for begin in [&b""[..], b"PROXY TCP4 192.0.2.7\r\n"] {
            assert!(Client { from: PROXY, begin, ..Client::default() }.is_cut_off(to).await);
        }
    }
    for begin in [text, binary, local] {
        ask_everywhere(&world, &Client { from: PROXY, begin, ..Client::default() }).await;
    }
    // A direct connection, as from probes; and forged headers of a client behind the proxy.
    ask_everywhere(&world, &Client { from: STRANGER, ..Client::default() }).await;
    let headers = &[("x-forwarded-for", "6.6.6.6")];
    ask_everywhere(&world, &Client { from: PROXY, begin: text, headers }).await;
    let seen = ClientAddresses::on_all_listeners(&["192.0.2.7", "192.0.2.8", PROXY, STRANGER]);
    assert_eq!(ClientAddresses::from_trail(&mut world).await, seen);
}
