//! Tests of real proxies before every listener: the audit trail has the client address from nginx and Envoy, and
//! ignores forged headers of the client.
//!
//! Needs nginx with its stream module and Envoy, so `cargo test` leaves it out (`test = false`).
//! `tools/check-forwarded` installs what it needs and runs it, and `.ci/run` runs that.
#![cfg(test)]

#[expect(dead_code, unused_imports, reason = "uses only a part of the shared support module")]
mod support;

use std::{
    env, fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::support::{
    World,
    clients::{Client, ClientAddresses, behind_proxies},
    eventually,
};

/// The client, which is not a trusted proxy.
const CLIENT: &str = "127.0.0.9";

/// Forged headers of a client.
const FORGED: &[(&str, &str)] = &[("x-forwarded-for", "6.6.6.6"), ("x-real-ip", "6.6.6.6")];
const FORGED_IN_FORWARDED: &[(&str, &str)] =
    &[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")];

/// The addresses of `[http]`, `[egress]` and `[grpc]`, or of the proxies before them.
#[derive(Clone, Copy)]
struct Three([SocketAddr; 3]);

/// A process that ends with the test.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Proxy {
    /// Starts the proxy, and waits until it listens on all addresses.
    async fn start(mut command: Command, addresses: &[SocketAddr]) -> Self {
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let mut proxy = Self(child);
        for address in addresses {
            eventually("the proxy listens", || {
                assert!(proxy.0.try_wait().unwrap().is_none(), "the proxy has ended");
                TcpStream::connect(address).is_ok()
            })
            .await;
        }
        proxy
    }

    /// Starts Envoy with one of the configurations, before one listener.
    async fn envoy(text: &str, folder: &Path, listen: SocketAddr, gateway: SocketAddr) -> Self {
        let text = text
            .replace("LISTEN_PORT", &listen.port().to_string())
            .replace("GATEWAY_PORT", &gateway.port().to_string());
        let file = folder.join(format!("envoy-{}.yaml", listen.port()));
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program("ENVOY"));
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
        command.arg("--config-path").arg(&file);
        Self::start(command, &[listen]).await
    }
}

fn program(variable: &str) -> String {
    env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run this with tools/check-forwarded"))
}

/// Returns free addresses.
fn free() -> Three {
    let sockets = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    Three(sockets.map(|socket| socket.local_addr().unwrap()))
}

fn listeners(world: &World) -> Three {
    let gateway = world.gateway();
    let (http, egress) = (gateway.http_address.unwrap(), gateway.egress_address.unwrap());
    Three([http, egress, gateway.grpc_address])
}

/// Calls each listener through a proxy.
async fn ask(client: &Client<'_>, by: Three) {
    let Three([http, egress, grpc]) = by;
    assert_eq!(client.open_page(http).await.status, 404);
    let called = client.call(egress).await;
    assert_eq!(called.status, 200, "{called:?}");
    client.issue_ticket(grpc).await.unwrap();
}

fn client<'a>(headers: &'a [(&'static str, &'a str)]) -> Client<'a> {
    Client { from: CLIENT, headers, ..Client::default() }
}

struct Nginx {
    xff: Three,
    forwarded: Three,
    proxy: Three,
    _process: Proxy,
    _folder: tempfile::TempDir,
}

impl Nginx {
    async fn before(gateway: Three) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (xff, forwarded, proxy) = (free(), free(), free());
        let mut text = include_str!("../proxies/nginx.conf")
            .replace("STREAM_MODULE", &program("NGINX_STREAM"));
        for (kind, three) in
            [("XFF", xff), ("FORWARDED", forwarded), ("PROXY", proxy), ("GATEWAY", gateway)]
        {
            for (listener, address) in ["HTTP", "EGRESS", "GRPC"].iter().zip(three.0) {
                text = text.replace(&format!("{kind}_{listener}"), &address.to_string());
            }
        }
        let file = folder.path().join("nginx.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program("NGINX"));
        command.arg("-p").arg(folder.path()).args(["-e", "stderr", "-c"]).arg(&file);
        let all = [xff.0, forwarded.0, proxy.0].concat();
        let process = Proxy::start(command, &all).await;
        Self { xff, forwarded, proxy, _process: process, _folder: folder }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_reports_the_client_address_in_headers() {
    let mut world = behind_proxies("127.0.0.1/32", false).await;
    let nginx = Nginx::before(listeners(&world)).await;
    ask(&client(&[]), nginx.xff).await;
    ask(&client(FORGED), nginx.xff).await;
    ask(&client(&[]), nginx.forwarded).await;
    ask(&client(FORGED_IN_FORWARDED), nginx.forwarded).await;
    ask(&client(FORGED_IN_FORWARDED), nginx.xff).await;
    // Without the proxy.
    ask(&client(FORGED), listeners(&world)).await;
    assert_eq!(
        ClientAddresses::from_trail(&mut world).await,
        ClientAddresses::on_all_listeners(&[CLIENT])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_reports_the_client_address_with_the_proxy_protocol() {
    let mut world = behind_proxies("127.0.0.1/32", true).await;
    let nginx = Nginx::before(listeners(&world)).await;
    ask(&client(&[]), nginx.proxy).await;
    ask(&client(FORGED), nginx.proxy).await;
    ask(&client(FORGED), listeners(&world)).await;
    let begin = b"PROXY TCP4 6.6.6.6 127.0.0.1 50000 443\r\n";
    for to in listeners(&world).0 {
        assert!(Client { begin, ..client(&[]) }.is_cut_off(to).await);
    }
    assert_eq!(
        ClientAddresses::from_trail(&mut world).await,
        ClientAddresses::on_all_listeners(&[CLIENT])
    );
}

/// Starts Envoy before each listener.
async fn envoys(text: &str, folder: &Path, gateway: Three) -> (Three, [Proxy; 3]) {
    let by = free();
    let [http, egress, grpc] = by.0;
    let Three([to_http, to_egress, to_grpc]) = gateway;
    let envoys = [
        Proxy::envoy(text, folder, http, to_http).await,
        Proxy::envoy(text, folder, egress, to_egress).await,
        Proxy::envoy(text, folder, grpc, to_grpc).await,
    ];
    (by, envoys)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_reports_the_client_address_in_headers() {
    let (mut world, folder) =
        (behind_proxies("127.0.0.1/32", false).await, tempfile::tempdir().unwrap());
    let text = include_str!("../proxies/envoy-http.yaml");
    let (by, _envoys) = envoys(text, folder.path(), listeners(&world)).await;
    for headers in [&[][..], FORGED, FORGED_IN_FORWARDED] {
        ask(&client(headers), by).await;
    }
    assert_eq!(
        ClientAddresses::from_trail(&mut world).await,
        ClientAddresses::on_all_listeners(&[CLIENT])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_reports_the_client_address_with_version_2_of_the_proxy_protocol() {
    let (mut world, folder) =
        (behind_proxies("127.0.0.1/32", true).await, tempfile::tempdir().unwrap());
    let text = include_str!("../proxies/envoy-tcp.yaml");
    let (by, _envoys) = envoys(text, folder.path(), listeners(&world)).await;
    for headers in [&[][..], FORGED] {
        ask(&client(headers), by).await;
    }
    assert_eq!(
        ClientAddresses::from_trail(&mut world).await,
        ClientAddresses::on_all_listeners(&[CLIENT])
    );
}
