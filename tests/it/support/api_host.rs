//! A scripted API host: it sends the responses of a test byte by byte, and keeps every request.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use superoffice_sandbox::{Endpoint, Fault, FaultScope, Sandbox};
use tenant_gateway::app::Running;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

use super::{Options, World};

/// The bytes of a body that are kept; further bytes are only counted.
const KEPT_BYTES: usize = 1 << 20;

/// A request that the host received.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReceivedRequest {
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) body_bytes: u64,
    /// Whether the whole body arrived.
    pub(crate) whole: bool,
}

impl ReceivedRequest {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// Returns all values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// Returns the names of all headers, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let mut names: Vec<_> = lines.map(|(name, _)| name.to_lowercase()).collect();
        names.sort();
        names
    }
}

/// The response to a request.
#[derive(Debug, Clone)]
pub(crate) enum HostResponse {
    /// This head and body, with `Content-Length`.
    Body(&'static str, Vec<u8>),
    /// These raw bytes; then the connection closes.
    Raw(Vec<u8>),
    /// A body of this many bytes.
    Bytes(u64),
    /// This head with an empty body, sent before the request body is read. The request body is read afterwards.
    Early(&'static str),
    /// No response; the request body is not read.
    Hang,
    /// The connection closes after this many bytes of the request body.
    CloseAfter(u64),
}

/// The host.
pub(crate) struct ScriptedApiHost {
    pub(crate) address: SocketAddr,
    arrived: Arc<Mutex<Vec<ReceivedRequest>>>,
    script: Arc<Mutex<VecDeque<HostResponse>>>,
    _serving: JoinSet<()>,
}

/// The head of the default response.
pub(crate) const OK_JSON: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

impl ScriptedApiHost {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, script) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<_>>::default());
        let mut serving = JoinSet::new();
        let (kept, told) = (Arc::clone(&arrived), Arc::clone(&script));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve_connection(stream, Arc::clone(&kept), Arc::clone(&told)));
            }
        });
        Self { address, arrived, script, _serving: serving }
    }

    /// Adds the response to the next request.
    pub(crate) fn respond_next(&self, told: HostResponse) {
        self.script.lock().unwrap().push_back(told);
    }

    pub(crate) fn received(&self) -> Vec<ReceivedRequest> {
        self.arrived.lock().unwrap().clone()
    }

    /// Returns the address of a tenant's Web API on this host.
    pub(crate) fn uri(&self, tenant: &str) -> String {
        format!("http://{}/{tenant}/api", self.address)
    }

    /// Moves a tenant to this host.
    pub(crate) fn move_tenant_here(&self, sandbox: &Sandbox, tenant: &str) {
        set_tenant_api(sandbox, tenant, &self.uri(tenant));
    }
}

/// Sets the address of a tenant's Web API in tenant status.
pub(crate) fn set_tenant_api(sandbox: &Sandbox, tenant: &str, api: &str) {
    let endpoint = api.strip_suffix("/api").map(str::to_owned);
    let fault = Fault::Addresses { api: Some(api.to_owned()), endpoint };
    let scope = FaultScope { tenant: Some(tenant.to_owned()), times: None };
    sandbox.inject(Endpoint::TenantStatus, fault, scope).unwrap();
}

/// Starts a gateway with `[egress]` where every call is permitted, and a tenant on a scripted host.
pub(crate) async fn gateway_with_host(egress: &str) -> (World, ScriptedApiHost) {
    let host = ScriptedApiHost::start().await;
    let extra_config = format!("[egress]\nlisten = \"127.0.0.1:0\"\n{egress}");
    let world = World::with(Options { extra_config, ..Options::default() }).await;
    host.move_tenant_here(&world.sandbox, "Cust1");
    world.enroll("Cust1").await;
    (world, host)
}

/// Returns the address of the egress listener.
pub(crate) fn address(gateway: &Running) -> SocketAddr {
    gateway.egress_address.unwrap()
}

async fn serve_connection(
    mut stream: TcpStream,
    arrived: Arc<Mutex<Vec<ReceivedRequest>>>,
    script: Arc<Mutex<VecDeque<HostResponse>>>,
) {
    let mut rest = Vec::new();
    while let Some(head) = head(&mut stream, &mut rest).await {
        let told = script.lock().unwrap().pop_front();
        let told = told.unwrap_or_else(|| HostResponse::Body(OK_JSON, b"{}".to_vec()));
        let index = {
            let mut arrived = arrived.lock().unwrap();
            arrived.push(ReceivedRequest { head, ..ReceivedRequest::default() });
            arrived.len() - 1
        };
        if matches!(told, HostResponse::Hang) {
            // Until the client disconnects.
            let _ = stream.read(&mut [0]).await;
            sleep(Duration::from_mins(5)).await;
            return;
        }
        if let HostResponse::Early(head) = &told {
            let head = format!("{head}Content-Length: 0\r\n\r\n");
            if stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
        }
        let most = if let HostResponse::CloseAfter(bytes) = &told { *bytes } else { u64::MAX };
        if !body(&mut stream, &mut rest, &arrived, index, most).await {
            return;
        }
        let sent = match told {
            HostResponse::Body(head, body) => {
                let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[head.into_bytes(), body].concat()).await.is_ok()
            }
            HostResponse::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                false
            }
            HostResponse::Bytes(bytes) => send(&mut stream, bytes).await,
            HostResponse::Early(_) => true,
            HostResponse::Hang | HostResponse::CloseAfter(_) => false,
        };
        if !sent {
            return;
        }
    }
}

async fn send(stream: &mut TcpStream, bytes: u64) -> bool {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n\r\n"
    );
    let block = vec![b'x'; 64 * 1024];
    let mut left = bytes;
    if stream.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        if stream.write_all(&block[..now]).await.is_err() {
            return false;
        }
        left -= now as u64;
    }
    true
}

/// Reads up to the empty line; later bytes stay in `rest`.
async fn head(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
            let after = rest.split_off(end + 4);
            let head = std::mem::replace(rest, after);
            return Some(String::from_utf8(head[..end].to_vec()).unwrap());
        }
        stream.read_buf(rest).await.ok().filter(|read| *read > 0)?;
    }
}

/// Reads a body with a length or in chunks. Returns whether it was complete.
async fn body(
    stream: &mut TcpStream,
    rest: &mut Vec<u8>,
    arrived: &Mutex<Vec<ReceivedRequest>>,
    index: usize,
    most: u64,
) -> bool {
    let request = arrived.lock().unwrap()[index].clone();
    let note = |bytes: &[u8]| {
        let request = &mut arrived.lock().unwrap()[index];
        request.body_bytes += bytes.len() as u64;
        if request.body.len() < KEPT_BYTES {
            request.body.extend(bytes);
        }
        request.body_bytes <= most
    };
    if let [length] = request.header("content-length")[..] {
        let mut left: u64 = length.parse().unwrap();
        while left > 0 {
            if rest.is_empty() && stream.read_buf(rest).await.ok().is_none_or(|read| read == 0) {
                return false;
            }
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let part: Vec<_> = rest.drain(..now).collect();
            left -= now as u64;
            if !note(&part) {
                return false;
            }
        }
    } else if request.header("transfer-encoding") == ["chunked"] {
        loop {
            let Some(size) = line(stream, rest).await else { return false };
            let size = usize::from_str_radix(&size, 16).unwrap();
            while rest.len() < size + 2 {
                if stream.read_buf(rest).await.ok().is_none_or(|read| read == 0) {
                    return false;
                }
            }
            let part: Vec<_> = rest.drain(..size + 2).collect();
            if !note(&part[..size]) {
                return false;
            }
            if size == 0 {
                break;
            }
        }
    }
    arrived.lock().unwrap()[index].whole = true;
    true
}

async fn line(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
            let line: Vec<_> = rest.drain(..end + 2).collect();
            return Some(String::from_utf8(line[..end].to_vec()).unwrap());
        }
        if stream.read_buf(rest).await.ok().is_none_or(|read| read == 0) {
            return None;
        }
    }
}
