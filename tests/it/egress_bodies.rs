//! Tests of large bodies and many connections through the egress listener: memory use must not depend on them. The
//! gateway is a separate process, so that its memory can be measured.

use std::{env, fs, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    Options,
    api_host::{HostResponse, ScriptedApiHost},
    binary::{Served, Site},
    http::send,
};

const DOCUMENT: &str = "/crm-sync/Cust1/api/v1/Document/7/Content";
const MIB: u64 = 1 << 20;

/// Returns the body size: 256 MiB, because this build is slow. `GATEWAY_TEST_BODY_MIB=1024` tests the promised size.
fn body_bytes() -> u64 {
    let asked = env::var_os("GATEWAY_TEST_BODY_MIB");
    asked.map_or(256, |mebibytes| mebibytes.to_str().unwrap().parse().unwrap()) * MIB
}

/// A gateway as a process, with a tenant on a scripted host.
async fn served() -> (Site, Served, ScriptedApiHost, SocketAddr) {
    let extra_config = "[egress]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    let site = Site::with(Options { extra_config, ..Options::default() }).await;
    let host = ScriptedApiHost::start().await;
    host.move_tenant_here(&site.sandbox, "Cust1");
    site.enroll("Cust1").await;
    let served = site.serve().await;
    let to = served.egress.unwrap();
    // The first call creates everything that is created once.
    host.respond_next(HostResponse::Bytes(2 * MIB));
    assert_eq!(send(to, "PUT", DOCUMENT, &[], &vec![b'x'; 2 << 20]).await.status, 200);
    assert_eq!(host.received()[0].body_bytes, 2 * MIB);
    (site, served, host, to)
}

/// Returns a line of `/proc/{pid}/status` in bytes.
fn memory(served: &Served, line: &str) -> u64 {
    let pid = served.process.pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    line.trim_matches([':', ' ', '\t']).strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap()
        * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_pass_up_and_down_in_constant_memory() {
    let (_site, served, host, to) = served().await;
    let (bytes, before) = (body_bytes(), memory(&served, "VmRSS"));
    for framing in [format!("Content-Length: {bytes}"), "Transfer-Encoding: chunked".to_owned()] {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let head =
            format!("PUT {DOCUMENT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let block = vec![b'x'; 64 * 1024];
        for _ in 0..bytes / block.len() as u64 {
            if framing.starts_with('T') {
                stream.write_all(b"10000\r\n").await.unwrap();
            }
            stream.write_all(&block).await.unwrap();
            if framing.starts_with('T') {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        if framing.starts_with('T') {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let arrived = host.received().pop().unwrap();
        assert_eq!((arrived.body_bytes, arrived.whole), (bytes, true));
        let sized = framing.starts_with('C');
        assert_eq!(arrived.header("content-length").len(), usize::from(sized));
        assert_eq!(arrived.header("transfer-encoding").len(), usize::from(!sized));
    }
    host.respond_next(HostResponse::Bytes(bytes));
    let mut stream = TcpStream::connect(to).await.unwrap();
    let head = format!("GET {DOCUMENT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut block) = (0, vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut block).await.unwrap() {
            0 => break,
            more => read += more as u64,
        }
    }
    assert!((bytes..bytes + 1024).contains(&read), "{read}");
    let grown = memory(&served, "VmHWM").saturating_sub(before);
    assert!(grown <= 16 * MIB, "{} KiB more than before", grown / 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_slows_superoffice_down_and_uses_no_memory() {
    let (_site, served, host, to) = served().await;
    let before = memory(&served, "VmRSS");
    let mut waiting = Vec::new();
    for _ in 0..8 {
        host.respond_next(HostResponse::Bytes(64 * MIB));
        let mut stream = TcpStream::connect(to).await.unwrap();
        let head = format!("GET {DOCUMENT} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 1000]).await.unwrap();
        waiting.push(stream);
    }
    let grown = memory(&served, "VmHWM").saturating_sub(before);
    assert!(grown <= 32 * MIB, "{} KiB more than before", grown / 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_connections_cost_little() {
    let (_site, served, _host, to) = served().await;
    let before = memory(&served, "VmRSS");
    let mut idle = Vec::new();
    for _ in 0..1000 {
        let mut stream = TcpStream::connect(to).await.unwrap();
        // Each connection has sent a request.
        stream.write_all(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.read_exact(&mut [0; 100]).await.unwrap();
        idle.push(stream);
    }
    let grown = memory(&served, "VmRSS").saturating_sub(before);
    assert!(grown <= 32 * MIB, "{} KiB more than before", grown / 1024);
}
