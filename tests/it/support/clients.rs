//! Clients at their own addresses that call each listener, and their addresses in the audit trail.

use std::{collections::BTreeSet, io, net::SocketAddr, sync::Mutex};

use hyper_util::rt::TokioIo;
use tenant_gateway::grpc::pb::token_service_client::TokenServiceClient;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tonic::{
    Request, Status,
    metadata::{MetadataKey, MetadataValue},
    transport::Endpoint,
};

use super::{
    Options, World,
    http::{Answer, request},
    issue,
    trail::StoredTrail,
};

/// A client, with bytes and headers that it or a proxy adds.
#[derive(Clone, Default)]
pub(crate) struct Client<'a> {
    /// The address that its connections come from.
    pub(crate) from: &'a str,
    /// A header of the PROXY protocol.
    pub(crate) begin: &'a [u8],
    /// Headers of its requests.
    pub(crate) headers: &'a [(&'static str, &'a str)],
}

impl Client<'_> {
    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.from.parse().unwrap(), 0))?;
        let mut stream = socket.connect(to).await?;
        stream.write_all(self.begin).await?;
        Ok(stream)
    }

    async fn send(&self, to: SocketAddr, path: &str) -> Answer {
        let mut stream = self.connect(to).await.unwrap();
        stream.write_all(&request("GET", path, self.headers, b"")).await.unwrap();
        Answer::read(&mut stream).await
    }

    /// Opens a consent page that does not exist, on `[http]`: an attempt that is counted.
    pub(crate) async fn open_page(&self, to: SocketAddr) -> Answer {
        self.send(to, "/consent/unknown").await
    }

    /// Calls the Web API of Cust1, on `[egress]`.
    pub(crate) async fn call(&self, to: SocketAddr) -> Answer {
        self.send(to, "/crm-sync/Cust1/api/v1/User/currentPrincipal").await
    }

    /// Asks for a ticket of Cust1, on `[grpc]`.
    pub(crate) async fn issue_ticket(&self, to: SocketAddr) -> Result<(), Status> {
        let stream = self.connect(to).await.map_err(|error| Status::from_error(error.into()))?;
        let once = Mutex::new(Some(TokioIo::new(stream)));
        let connector = tower::service_fn(move |_| {
            let stream = once.lock().unwrap().take();
            std::future::ready(stream.ok_or_else(|| io::Error::other("connected already")))
        });
        let endpoint = Endpoint::from_static("http://gateway");
        let channel = endpoint.connect_with_connector(connector);
        let channel = channel.await.map_err(|error| Status::from_error(error.into()))?;
        let mut ask = Request::new(issue("Cust1"));
        for &(name, value) in self.headers {
            let value = MetadataValue::try_from(value).unwrap();
            ask.metadata_mut().append(MetadataKey::from_static(name), value);
        }
        TokenServiceClient::new(channel).issue_system_ticket(ask).await.map(drop)
    }

    /// Returns whether the listener closes a connection without a response.
    pub(crate) async fn is_cut_off(&self, to: SocketAddr) -> bool {
        let mut stream = self.connect(to).await.unwrap();
        // The connection may be closed already.
        let _ = stream.write_all(&request("GET", "/consent/unknown", self.headers, b"")).await;
        let mut answer = Vec::new();
        let end = tokio::time::timeout(super::TIMEOUT, stream.read_to_end(&mut answer));
        let _ = end.await.expect("the connection does not end");
        answer.is_empty()
    }
}

/// Starts a gateway that trusts proxies of this network on each listener, with or without the PROXY protocol, and
/// enrolls a tenant.
pub(crate) async fn behind_proxies(trusted: &str, protocol: bool) -> World {
    let keys = format!("trusted_proxies = [\"{trusted}\"]\nproxy_protocol = false\n");
    let listen = "listen = \"127.0.0.1:0\"\n";
    let extra_config = format!("[http]\n{listen}{keys}[egress]\n{listen}{keys}");
    let options = Options { extra_config, grpc: Some(keys), ..Options::default() };
    let mut world = World::with(options).await;
    // Before the PROXY protocol is on, because this client does not send it.
    world.enroll("Cust1").await;
    if protocol {
        world.reconfigure("proxy_protocol = false", "proxy_protocol = true").await;
    }
    world
}

/// Client addresses in the audit trail, for each listener.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientAddresses {
    pub(crate) http: BTreeSet<String>,
    pub(crate) egress: BTreeSet<String>,
    pub(crate) grpc: BTreeSet<String>,
}

impl ClientAddresses {
    /// Returns the same addresses for each listener.
    pub(crate) fn on_all_listeners(addresses: &[&str]) -> Self {
        let all: BTreeSet<_> = addresses.iter().map(|address| (*address).to_owned()).collect();
        Self { http: all.clone(), egress: all.clone(), grpc: all }
    }

    /// Stops the gateway and reads its audit trail.
    pub(crate) async fn from_trail(world: &mut World) -> Self {
        world.stop().await;
        let written = StoredTrail::read(&world.config_file()).await;
        written.assert_intact();
        let mut seen = Self::default();
        for event in &written.events {
            let on = match &*event.record.action {
                "authenticate" => &mut seen.http,
                "callWebApiAsSystemUser" => &mut seen.egress,
                "issueSystemTicket" => &mut seen.grpc,
                _ => continue,
            };
            on.insert(event.record.client_address.to_string());
        }
        seen
    }
}
