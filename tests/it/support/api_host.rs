//! An API host made by hand: it answers what a test says, byte by byte, and keeps every byte that arrived.

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

/// Larger bodies are counted, not kept.
const KEPT_BYTES: usize = 1 << 20;

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrived {
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) body_bytes: u64,
    /// It came to its end.
    pub(crate) whole: bool,
}

impl Arrived {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// All values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// The names of all headers, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let mut names: Vec<_> = lines.map(|(name, _)| name.to_lowercase()).collect();
        names.sort();
        names
    }
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// These bytes, with a length.
    Body(&'static str, Vec<u8>),
    /// These bytes as they are; then the connection ends.
    Raw(Vec<u8>),
    /// A body of so many bytes.
    Bytes(u64),
    /// These headers with an empty body, before anything of the request's body is read; the body is read after that.
    Early(&'static str),
    /// Nothing, ever; the body is not read either.
    Hang,
    /// The connection ends when so much of the body has come.
    LeaveAfter(u64),
}

/// The host.
pub(crate) struct ApiHostByHand {
    pub(crate) address: SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    script: Arc<Mutex<VecDeque<Told>>>,
    _serving: JoinSet<()>,
}

/// What answers where nothing else was said.
pub(crate) const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

impl ApiHostByHand {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, script) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<_>>::default());
        let mut serving = JoinSet::new();
        let (kept, told) = (Arc::clone(&arrived), Arc::clone(&script));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, Arc::clone(&kept), Arc::clone(&told)));
            }
        });
        Self { address, arrived, script, _serving: serving }
    }

    /// The next answer.
    pub(crate) fn tell(&self, told: Told) {
        self.script.lock().unwrap().push_back(told);
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }

    /// What tenant status calls the Web API of a tenant there.
    pub(crate) fn uri(&self, tenant: &str) -> String {
        format!("http://{}/{tenant}/api", self.address)
    }

    /// Moves a tenant here.
    pub(crate) fn take_in(&self, sandbox: &Sandbox, tenant: &str) {
        move_to(sandbox, tenant, &self.uri(tenant));
    }
}

/// Lets tenant status say that the Web API of a tenant is there.
pub(crate) fn move_to(sandbox: &Sandbox, tenant: &str, api: &str) {
    let endpoint = api.strip_suffix("/api").map(str::to_owned);
    let fault = Fault::Addresses { api: Some(api.to_owned()), endpoint };
    let scope = FaultScope { tenant: Some(tenant.to_owned()), times: None };
    sandbox.inject(Endpoint::TenantStatus, fault, scope).unwrap();
}

/// A gateway with `[egress]`, where anybody may do everything, and a tenant on a host made by hand.
pub(crate) async fn with_host(egress: &str) -> (World, ApiHostByHand) {
    let host = ApiHostByHand::start().await;
    let extra_config = format!("[egress]\nlisten = \"127.0.0.1:0\"\n{egress}");
    let world = World::with(Options { extra_config, ..Options::default() }).await;
    host.take_in(&world.sandbox, "Cust1");
    world.enroll("Cust1").await;
    (world, host)
}

/// Where the proxy listens.
pub(crate) fn address(gateway: &Running) -> SocketAddr {
    gateway.egress_address.unwrap()
}

async fn converse(
    mut stream: TcpStream,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    script: Arc<Mutex<VecDeque<Told>>>,
) {
    let mut rest = Vec::new();
    while let Some(head) = head(&mut stream, &mut rest).await {
        let told = script.lock().unwrap().pop_front();
        let told = told.unwrap_or_else(|| Told::Body(FINE, b"{}".to_vec()));
        let index = {
            let mut arrived = arrived.lock().unwrap();
            arrived.push(Arrived { head, ..Arrived::default() });
            arrived.len() - 1
        };
        if matches!(told, Told::Hang) {
            // Until the other side has enough.
            let _ = stream.read(&mut [0]).await;
            sleep(Duration::from_mins(5)).await;
            return;
        }
        if let Told::Early(head) = &told {
            let head = format!("{head}Content-Length: 0\r\n\r\n");
            if stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
        }
        let most = if let Told::LeaveAfter(bytes) = &told { *bytes } else { u64::MAX };
        if !body(&mut stream, &mut rest, &arrived, index, most).await {
            return;
        }
        let sent = match told {
            Told::Body(head, body) => {
                let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[head.into_bytes(), body].concat()).await.is_ok()
            }
            Told::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                false
            }
            Told::Bytes(bytes) => send(&mut stream, bytes).await,
            Told::Early(_) => true,
            Told::Hang | Told::LeaveAfter(_) => false,
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

/// Reads up to the empty line; what follows stays in `rest`.
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

/// Reads a body with a length or in chunks. Whether it came to its end.
async fn body(
    stream: &mut TcpStream,
    rest: &mut Vec<u8>,
    arrived: &Mutex<Vec<Arrived>>,
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
