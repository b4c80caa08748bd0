//! Clients over real connections, with test hosts, proxies and names.

mod hosts;
mod proxies;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use self::{
    hosts::{Authority, Host},
    proxies::{Behaviour, Proxy},
};
use super::*;
use crate::{domain::NoProxy, ports::Reloadable as _};

/// A resolver with the names of the test.
#[derive(Default)]
struct Names {
    known: Mutex<HashMap<String, Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.known.lock().unwrap().insert(name.to_owned(), addresses);
    }
}

#[async_trait]
impl NameLookup for Names {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let found = self.known.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A network, with the names that it resolves.
struct Way {
    names: Arc<Names>,
    network: Network,
}

impl Way {
    fn new(options: NetworkOptions) -> Self {
        let names = Arc::new(Names::default());
        let network = Network::with_names(options, Arc::clone(&names) as _).unwrap();
        Self { names, network }
    }

    async fn get(&self, profile: Profile, uri: &str) -> Result<String, Fault> {
        get(&self.network.client(profile), uri).await
    }
}

async fn get(client: &HttpClient, uri: &str) -> Result<String, Fault> {
    let mut response = client.send(Request::get(uri, "*/*")).await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(body).unwrap())
}

/// The production profile, with a short time limit.
fn strict() -> Profile {
    Profile {
        connect_timeout: Duration::from_millis(500),
        ..Profile::superoffice(Duration::MAX, false)
    }
}

/// A profile that also allows loopback addresses.
fn open() -> Profile {
    Profile { addresses: Addresses::Public { allow_loopback: true }, plain_http: true, ..strict() }
}

/// Returns a network that trusts this CA and uses this proxy.
fn options(authority: &Authority, proxy: Option<&Proxy>) -> NetworkOptions {
    NetworkOptions {
        proxy: proxy.map(Proxy::outbound),
        ca_file: Some(authority.file.clone()),
        nat64_prefixes: Vec::new(),
    }
}

#[tokio::test]
async fn each_proxy_fault_names_the_proxy_and_says_what_to_do() {
    let authority = Authority::new();
    let html = "<html><body>Blocked by the company</body></html>";
    for (behaviour, said) in [
        (Behaviour::says(html), "does not respond as an HTTP proxy"),
        (
            Behaviour::says(&format!("HTTP/1.1 200 OK\r\n\r\n{html}")),
            "does not respond as an HTTP proxy",
        ),
        (
            Behaviour::says(&format!("HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n{html}")),
            "does not respond as",
        ),
        (
            Behaviour::says("HTTP/1.1 405 Method Not Allowed\r\n\r\n"),
            "check whether it allows CONNECT",
        ),
        (Behaviour::says("HTTP/1.1 200 Conn"), "does not respond as an HTTP proxy"),
        (Behaviour::says(&"x".repeat(64 * 1024)), "does not respond as an HTTP proxy"),
        (
            Behaviour::says(&format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(10_000))),
            "does not respond as",
        ),
        (Behaviour::says("SSH-2.0-OpenSSH_9.2\r\n"), "does not respond as an HTTP proxy"),
        (Behaviour::says(""), "closed the connection without a response"),
        (
            Behaviour::Silent,
            "did not connect to the host within 500ms; check whether it is overloaded",
        ),
        (
            Behaviour::says("HTTP/1.1 502 Bad Gateway\r\n\r\n"),
            "did not connect to the host (HTTP 502",
        ),
        (
            Behaviour::says("HTTP/1.0 503 Service Unavailable\r\n\r\n"),
            "whether it can resolve and reach",
        ),
        (Behaviour::says("HTTP/1.1 403 Forbidden\r\n\r\n"), "allow CONNECT to it in the rules"),
        (
            Behaviour::says("HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n"),
            "set proxy.username and proxy.password_file",
        ),
        (
            Behaviour::says(
                "HTTP/1.1 407 X\r\nproxy-authenticate: Negotiate\r\nproxy-authenticate: NTLM\r\n\r\n",
            ),
            "an authentication scheme other than Basic",
        ),
        (
            Behaviour::after_client_hello("HTTP/1.1 200 OK\r\n\r\n", html),
            "it does not use TLS; the proxy responds instead of the host",
        ),
        (
            Behaviour::after_client_hello("HTTP/1.1 200 OK\r\n\r\n", ""),
            "closed the connection to the host",
        ),
    ] {
        let proxy = Proxy::new(behaviour).await;
        let way = Way::new(options(&authority, Some(&proxy)));
        let fault = way.get(strict(), "https://crm.example/").await.unwrap_err();
        assert!(matches!(fault, Fault::Proxy { .. }), "{fault} is not {said}");
        let text = fault.to_string();
        assert!(text.starts_with(&format!("the proxy http://{} ", proxy.address)), "{text}");
        assert!(text.contains(said) && !text.contains("Blocked"), "{text} is not {said}");
    }
}

#[tokio::test]
async fn distinguishes_an_unreachable_proxy_from_an_unreachable_host() {
    let authority = Authority::new();
    let mut gone = Proxy::new(Behaviour::Silent).await.outbound();
    // A port that was just released has no listener.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    gone.address.port = free.local_addr().unwrap().port();
    drop(free);
    let of =
        |proxy: OutboundProxy| NetworkOptions { proxy: Some(proxy), ..options(&authority, None) };
    let fault = Way::new(of(gone.clone())).get(strict(), "https://crm.example/").await.unwrap_err();
    assert!(fault.to_string().contains("cannot be connected to (connection refused)"), "{fault}");
    gone.address.host = "proxy.example".to_owned();
    let fault = Way::new(of(gone)).get(strict(), "https://crm.example/").await.unwrap_err();
    assert!(fault.to_string().contains("cannot be resolved"), "{fault}");
}

#[tokio::test]
async fn reports_a_proxy_that_connects_to_another_host_or_inspects_tls() {
    let (own, foreign) = (Authority::new(), Authority::new());
    let other = Host::new(Some(own.issue("other.example"))).await;
    let inspected = Host::new(Some(foreign.issue("crm.example"))).await;
    for (host, said) in [
        (&other, "its certificate is for another name; the proxy has connected to another host"),
        (&inspected, "set outbound.ca_file to the certificate of its CA"),
    ] {
        let proxy = Proxy::new(Behaviour::ConnectsTo(host.address)).await;
        let way = Way::new(options(&own, Some(&proxy)));
        let fault = way.get(strict(), "https://crm.example/").await.unwrap_err();
        let text = fault.to_string();
        assert!(matches!(fault, Fault::Proxy { why: ProxyFault::Host(_), .. }), "{text}");
        assert!(text.contains(said) && text.contains(&proxy.address.to_string()), "{text}");
    }
    assert_eq!((other.requests(), inspected.requests()), (0, 0));
}

#[tokio::test]
async fn connects_through_a_private_proxy_that_resolves_the_name() {
    let authority = Authority::new();
    let host = Host::new(Some(authority.issue("crm.example"))).await;
    let proxy = Proxy::new(Behaviour::ConnectsTo(host.address)).await;
    let way = Way::new(options(&authority, Some(&proxy)));
    assert_eq!(way.get(strict(), "https://crm.example/a'b?x='y'").await.unwrap(), "/a'b?x='y'");
    assert_eq!(proxy.asked(), ["CONNECT crm.example:443 HTTP/1.1"]);
    assert_eq!(*way.names.asked.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn connects_to_a_proxy_over_tls_if_its_uri_is_https() {
    let authority = Authority::new();
    let host = Host::new(Some(authority.issue("crm.example"))).await;
    let proxy =
        Proxy::secure(Behaviour::ConnectsTo(host.address), authority.issue("127.0.0.1")).await;
    let way = Way::new(options(&authority, Some(&proxy)));
    assert_eq!(way.get(strict(), "https://crm.example/x").await.unwrap(), "/x");
    let foreign = Proxy::secure(Behaviour::Silent, Authority::new().issue("127.0.0.1")).await;
    let way = Way::new(options(&authority, Some(&foreign)));
    let text = way.get(strict(), "https://crm.example/x").await.unwrap_err().to_string();
    assert!(text.contains("not trusted here") && text.contains("CA of its certificate"), "{text}");
}

#[tokio::test]
async fn sends_the_proxy_credential_only_to_the_proxy_and_never_prints_it() {
    let authority = Authority::new();
    let host = Host::new(Some(authority.issue("crm.example"))).await;
    let wanted = Behaviour::Asks("Basic dXNlcjpodW50ZXIy", host.address);
    let proxy = Proxy::new(wanted).await;
    let with = |name: &str, password: &str| {
        let credential = Some((name.to_owned(), password.into()));
        let proxy = OutboundProxy { credential, ..proxy.outbound() };
        Way::new(NetworkOptions { proxy: Some(proxy), ..options(&authority, None) })
    };
    assert_eq!(with("user", "hunter2").get(strict(), "https://crm.example/").await.unwrap(), "/");
    assert!(!host.heads().concat().to_lowercase().contains("proxy-authorization"));
    let way = with("user", "hunter3");
    let text = way.get(strict(), "https://crm.example/").await.unwrap_err().to_string();
    assert!(text.contains("rejected the user name and password (HTTP 407)"), "{text}");
    assert!(!text.contains("hunter") && !format!("{:?}", way.network).contains("hunter"), "{text}");
}

#[tokio::test]
async fn rejects_private_ip_literals_with_and_without_a_proxy() {
    let authority = Authority::new();
    let proxy = Proxy::new(Behaviour::Silent).await;
    for proxy in [Some(&proxy), None] {
        let way = Way::new(options(&authority, proxy));
        for host in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "127.1",
            "0x7f000001",
            "2130706433",
            "[::1]",
            "[::]",
            "[fd00::1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::a00:1]",
            "[64:ff9b::7f00:1]",
            "[2002:a00:1::]",
        ] {
            let fault = way.get(strict(), &format!("https://{host}/")).await.unwrap_err();
            assert_eq!(fault, Fault::Name(ResolveError::NotPublic), "{host}");
        }
        let fault = way.get(strict(), "http://crm.example/").await.unwrap_err();
        assert_eq!(fault, Fault::Connect("https is required".to_owned()));
    }
    assert_eq!(proxy.asked(), [""; 0]);
}

#[tokio::test]
async fn resolves_names_to_public_addresses_only_also_behind_nat64() {
    let way = Way::new(NetworkOptions::default());
    for (address, refused) in [
        ("10.0.0.1", true),
        ("127.0.0.1", true),
        ("64:ff9b::10.0.0.1", true),
        ("64:ff9b::169.254.169.254", true),
        ("fd00::1", true),
        // A public address that is unreachable here: only the attempt is checked.
        ("64:ff9b::192.0.1.1", false),
    ] {
        way.names.set("crm.example", &[address]);
        let fault = way.get(strict(), "https://crm.example/").await.unwrap_err();
        assert_eq!(fault == Fault::Name(ResolveError::NotPublic), refused, "{address}: {fault}");
    }
    let fault = way.get(strict(), "https://unknown.example/").await.unwrap_err();
    assert_eq!(fault, Fault::Name(ResolveError::Unknown));
}

#[tokio::test]
async fn bypasses_the_proxy_for_no_proxy_hosts_and_plain_http() {
    let authority = Authority::new();
    let host = Host::new(Some(authority.issue("crm.internal"))).await;
    let plain = Host::new(None).await;
    let proxy = Proxy::new(Behaviour::Silent).await;
    let mut no_proxy = NoProxy::default();
    no_proxy.add(".internal").unwrap();
    let outbound = OutboundProxy { no_proxy, ..proxy.outbound() };
    let way = Way::new(NetworkOptions { proxy: Some(outbound), ..options(&authority, None) });
    for name in ["crm.internal", "plain.example"] {
        way.names.set(name, &["127.0.0.1"]);
    }
    let uri = format!("https://crm.internal:{}/a", host.address.port());
    assert_eq!(way.get(open(), &uri).await.unwrap(), "/a");
    let uri = format!("http://plain.example:{}/b", plain.address.port());
    assert_eq!(way.get(open(), &uri).await.unwrap(), "/b");
    assert_eq!(proxy.asked(), [""; 0]);
}

/// Returns a listener whose queue is full, so that the system drops further connections.
async fn black_hole(address: SocketAddr) -> (tokio::net::TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v6().unwrap();
    socket.bind(address).unwrap();
    let listener = socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    let patience = Duration::from_millis(100);
    while let Ok(connected) =
        timeout(patience, TcpStream::connect(listener.local_addr().unwrap())).await
    {
        waiting.push(connected.unwrap());
    }
    (listener, waiting)
}

#[tokio::test]
async fn connects_to_another_address_if_one_is_dead() {
    let host = Host::new(None).await;
    let port = host.address.port();
    let way = Way::new(NetworkOptions::default());
    let dead = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
    let _hole = black_hole(dead).await;
    // One address that refuses and one that is silent, of both families.
    for addresses in [&["127.0.0.2", "127.0.0.1"][..], &["::1", "127.0.0.1"]] {
        way.names.set("crm.example", addresses);
        let profile = Profile { connect_timeout: Duration::from_secs(3), ..open() };
        let client = way.network.client(profile);
        let uri = format!("http://crm.example:{port}/");
        let answer = timeout(Duration::from_secs(3), get(&client, &uri)).await;
        assert_eq!(answer.unwrap().unwrap(), "/", "{addresses:?}");
    }
    way.names.set("crm.example", &["::1"]);
    let fault = way.get(open(), &format!("http://crm.example:{port}/")).await.unwrap_err();
    assert_eq!(fault, Fault::ConnectTimeout);
}

#[tokio::test]
async fn follows_a_host_to_its_new_address_after_the_maximum_connection_age() {
    let first = Host::at(Ipv4Addr::LOCALHOST.into(), 0, None).await;
    let port = first.address.port();
    let second = Host::at(Ipv4Addr::new(127, 0, 0, 3).into(), port, None).await;
    let uri = format!("http://crm.example:{port}/");
    for (max_connection_age, moves) in [(Duration::from_mins(1), false), (Duration::ZERO, true)] {
        let way = Way::new(NetworkOptions::default());
        let client = way.network.client(Profile { max_connection_age, ..open() });
        way.names.set("crm.example", &["127.0.0.1"]);
        get(&client, &uri).await.unwrap();
        way.names.set("crm.example", &["127.0.0.3"]);
        let before = second.requests();
        get(&client, &uri).await.unwrap();
        assert_eq!(second.requests() - before, usize::from(moves));
        // Each new connection is checked: a name that changes to a private address is rejected.
        way.names.set("crm.example", &["10.0.0.1"]);
        let answer = get(&client, &uri).await;
        assert_eq!(answer.is_err_and(|fault| fault == Fault::Name(ResolveError::NotPublic)), moves);
    }
}

#[tokio::test]
async fn trusts_and_reloads_the_authorities_of_the_file() {
    let (own, foreign) = (Authority::new(), Authority::new());
    let host = Host::new(Some(own.issue("crm.example"))).await;
    let uri = format!("https://crm.example:{}/", host.address.port());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    let load =
        || Network::new(NetworkOptions { ca_file: Some(file.clone()), ..Default::default() });
    for (content, said) in [
        (None, "there is no such file"),
        (Some(""), "contains no certificate"),
        (Some("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), "is not valid PEM"),
        (
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "that cannot be parsed",
        ),
    ] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let text = load().unwrap_err().to_string();
        assert!(text.contains(said) && text.contains("ca.crt"), "{text}");
    }
    std::fs::write(&file, &foreign.pem).unwrap();
    let way = Way::new(NetworkOptions { ca_file: Some(file.clone()), ..Default::default() });
    way.names.set("crm.example", &["127.0.0.1"]);
    let client = way.network.client(open());
    let untrusted = Fault::Tls(TlsFault::UnknownAuthority);
    for (content, trusted) in [
        (foreign.pem.clone(), false),
        (format!("\u{feff}{}{}", foreign.pem, own.pem), true),
        // An unusable file changes nothing.
        ("nothing".to_owned(), true),
        (foreign.pem.clone(), false),
    ] {
        std::fs::write(&file, content).unwrap();
        way.network.reload().await;
        let answer = get(&client, &uri).await;
        assert_eq!(answer.as_ref().err(), Some(&untrusted).filter(|_| !trusted));
    }
}
