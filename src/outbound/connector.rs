//! Opens connections: resolves the name, checks the address, connects through the proxy if one is configured, and
//! performs the TLS handshake.

use std::{
    fmt,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

use super::{
    Addresses, Fault, OutboundProxy, Profile, ResolveError, TlsFault,
    fault::{error_kind, tls_error},
    proxy::ProxyFault,
    resolver::Resolver,
    stream::{ProxyStream, Stream},
    tls::Tls,
    tunnel,
};

/// The interval between two keepalive probes of a silent TCP connection.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// Opens the connections of one client. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector(Arc<ConnectorInner>);

struct ConnectorInner {
    profile: Profile,
    tls: Arc<Tls>,
    proxy: Option<Arc<OutboundProxy>>,
    resolver: Resolver,
    to_host: HttpConnector<Resolver>,
    to_proxy: HttpConnector<Resolver>,
}

/// The host of a URI.
struct Target {
    /// The host as written in the URI; an IPv6 address is in brackets.
    host: String,
    port: u16,
    tls: bool,
}

impl Connector {
    /// `resolver` allows the addresses of the profile. The proxy may have any address.
    pub(super) fn new(
        profile: Profile,
        tls: Arc<Tls>,
        proxy: Option<Arc<OutboundProxy>>,
        resolver: Resolver,
    ) -> Self {
        let of_proxy = Resolver { addresses: Addresses::Any, ..resolver.clone() };
        let (to_host, to_proxy) = (tcp(resolver.clone(), profile), tcp(of_proxy, profile));
        Self(Arc::new(ConnectorInner { profile, tls, proxy, resolver, to_host, to_proxy }))
    }
}

fn tcp(resolver: Resolver, profile: Profile) -> HttpConnector<Resolver> {
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(TCP_KEEPALIVE));
    http.set_keepalive_interval(Some(TCP_KEEPALIVE));
    // Divides the time among the addresses of the host, so that one dead address does not use all of it. The other
    // address family is tried in parallel after 300 ms (RFC 8305).
    http.set_connect_timeout(Some(profile.connect_timeout));
    http
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Fault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let parts = Arc::clone(&self.0);
        Box::pin(async move { Ok(TokioIo::new(parts.open(&uri).await?)) })
    }
}

impl ConnectorInner {
    async fn open(&self, uri: &Uri) -> Result<Stream, Fault> {
        let target = self.target(uri)?;
        let proxy =
            self.proxy.as_deref().filter(|proxy| proxy.applies_to(&target.host, target.port));
        let limit = self.profile.connect_timeout;
        match proxy {
            // Plain HTTP is for loopback and tests, and needs no proxy.
            Some(proxy) if target.tls => {
                let connected = timeout(limit, self.connect_through_proxy(proxy, &target)).await;
                connected
                    .unwrap_or(Err(ProxyFault::Timeout(limit)))
                    .map_err(|why| Fault::Proxy { proxy: proxy.address.clone(), why })
            }
            _ => timeout(limit, self.connect_directly(&target))
                .await
                .unwrap_or(Err(Fault::ConnectTimeout)),
        }
    }

    /// Returns the host of a URI. Rejects plain HTTP and IP literals that the profile forbids: no resolver sees those.
    fn target(&self, uri: &Uri) -> Result<Target, Fault> {
        let unusable = || Fault::Connect("the URI has no host".to_owned());
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if self.profile.plain_http => false,
            _ => return Err(Fault::Connect("https is required".to_owned())),
        };
        let host = uri.host().ok_or_else(unusable)?.to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let not_public = match strip_brackets(&host).parse::<IpAddr>() {
            Ok(address) => !self.resolver.allows(address),
            // Many resolvers, such as that of a proxy, also accept `127.1` and `0x7f000001` as addresses.
            Err(_) => self.profile.addresses != Addresses::Any && ends_in_a_number(&host),
        };
        if not_public {
            return Err(Fault::Name(ResolveError::NotPublic));
        }
        Ok(Target { host, port, tls })
    }

    async fn connect_directly(&self, target: &Target) -> Result<Stream, Fault> {
        let stream = connect(&self.to_host, &target.host, target.port).await?;
        if !target.tls {
            return Ok(Stream::Plain(stream));
        }
        let stream = tls_handshake(&self.tls.to_host, &target.host, stream).await;
        stream.map(|stream| Stream::Tls(Box::new(stream))).map_err(|error| {
            match tls_fault(&error) {
                Some(fault) => Fault::Tls(fault),
                None => Fault::Connect(error_kind(&error)),
            }
        })
    }

    async fn connect_through_proxy(
        &self,
        proxy: &OutboundProxy,
        target: &Target,
    ) -> Result<Stream, ProxyFault> {
        let failed = |error: io::Error| match tls_fault(&error) {
            Some(fault) => ProxyFault::Host(fault),
            None => ProxyFault::Broken(error_kind(&error)),
        };
        let (host, port) = (&target.host, target.port);
        let authorization = proxy.authorization();
        let to_host = &self.tls.to_host;
        match self.connect_to_proxy(proxy).await? {
            ProxyStream::Plain(mut stream) => {
                tunnel::establish(&mut stream, host, port, authorization.as_ref()).await?;
                let stream = tls_handshake(to_host, host, stream).await.map_err(failed)?;
                Ok(Stream::Tls(Box::new(stream)))
            }
            ProxyStream::Tls(mut stream) => {
                tunnel::establish(&mut stream, host, port, authorization.as_ref()).await?;
                let stream = tls_handshake(to_host, host, stream).await.map_err(failed)?;
                Ok(Stream::TlsInTls(Box::new(stream)))
            }
        }
    }

    async fn connect_to_proxy(&self, proxy: &OutboundProxy) -> Result<ProxyStream, ProxyFault> {
        let address = &proxy.address;
        let connected = connect(&self.to_proxy, &address.host, address.port).await;
        let stream = connected.map_err(|fault| match fault {
            Fault::Name(_) => ProxyFault::Name,
            Fault::Connect(words) => ProxyFault::Connect(words),
            // The connector may time out before the timer around it.
            Fault::ConnectTimeout => ProxyFault::Timeout(self.profile.connect_timeout),
            _ => ProxyFault::Connect(io::ErrorKind::TimedOut.to_string()),
        })?;
        if !address.tls {
            return Ok(ProxyStream::Plain(stream));
        }
        let stream = tls_handshake(&self.tls.to_proxy, &address.host, stream).await;
        stream.map(|stream| ProxyStream::Tls(Box::new(stream))).map_err(|error| {
            match tls_fault(&error) {
                Some(fault) => ProxyFault::Tls(fault),
                None => ProxyFault::Connect(error_kind(&error)),
            }
        })
    }
}

async fn connect(
    connector: &HttpConnector<Resolver>,
    host: &str,
    port: u16,
) -> Result<TcpStream, Fault> {
    let uri = Uri::builder().scheme("http").authority(format!("{host}:{port}")).path_and_query("/");
    let uri = uri.build().map_err(|_| Fault::Connect("the host name is invalid".to_owned()))?;
    let connected = connector.clone().call(uri).await;
    let stream = connected.map_err(|error| Fault::from_causes(&ConnectError(error), true))?;
    Ok(stream.into_inner())
}

/// Performs the TLS handshake with the host of this name.
async fn tls_handshake<S>(
    config: &Arc<ClientConfig>,
    host: &str,
    stream: S,
) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(strip_brackets(host).to_owned());
    let name = name.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

fn tls_fault(error: &io::Error) -> Option<TlsFault> {
    tls_error(error).map(TlsFault::from_rustls)
}

fn strip_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

fn ends_in_a_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    last.starts_with(|c: char| c.is_ascii_digit())
}

/// Wraps an error, because causes are searched from the source of an error.
#[derive(Debug)]
struct ConnectError<E>(E);

impl<E> fmt::Display for ConnectError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no connection")
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ConnectError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
