//! The socket of a listener.

use std::{io, net::SocketAddr};

use rustix::{io::Errno, net::sockopt::set_ipv6_v6only};
use tokio::net::TcpSocket;

/// Returns a socket that is bound to an address. `[::]` takes IPv4 clients too.
///
/// # Errors
/// If the address is not available; [`bind_error_advice`] says what to do.
pub fn bound_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // Overrides the default of the system (net.ipv6.bindv6only).
        set_ipv6_v6only(&socket, false)?;
    }
    // Allows a restart while connections of the previous process are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Returns advice for a failed bind.
#[must_use]
pub fn bind_error_advice(address: SocketAddr, error: &io::Error) -> &'static str {
    let not_there = error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
        || error.kind() == io::ErrorKind::AddrNotAvailable;
    match (not_there, address.is_ipv6()) {
        (true, true) if address.ip().is_unspecified() || address.ip().is_loopback() => {
            "IPv6 is switched off on this machine: listen on 0.0.0.0 or 127.0.0.1 instead, or switch it on"
        }
        (true, _) => "no interface of this machine has this address: correct it",
        (false, _) if error.kind() == io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: choose another port, or grant it"
        }
        (false, _) => "choose another address, or stop what is using it",
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn the_unspecified_ipv6_address_accepts_ipv4_and_ipv6_clients() {
        let any: SocketAddr = "[::]:0".parse().unwrap();
        let listener = bound_socket(any).unwrap().listen(8).unwrap();
        let port = listener.local_addr().unwrap().port();
        for loopback in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let client = TcpStream::connect((loopback, port)).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip().to_canonical(), client.local_addr().unwrap().ip());
        }
        let listener = bound_socket("[::1]:0".parse().unwrap()).unwrap().listen(8).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap_err();
    }

    #[test]
    fn bind_advice_depends_on_the_error() {
        let of =
            |address: &str, error: io::Error| bind_error_advice(address.parse().unwrap(), &error);
        let no_family = || io::Error::from_raw_os_error(Errno::AFNOSUPPORT.raw_os_error());
        assert!(of("[::]:1", no_family()).contains("IPv6 is switched off"));
        assert!(of("[::1]:1", io::ErrorKind::AddrNotAvailable.into()).contains("switched off"));
        for address in ["192.0.2.1:1", "[2001:db8::1]:1"] {
            let said = of(address, io::ErrorKind::AddrNotAvailable.into());
            assert!(said.contains("no interface"), "{said}");
        }
        assert!(of("[::]:1", io::ErrorKind::AddrInUse.into()).contains("stop what is using it"));
        assert!(of("0.0.0.0:1", io::ErrorKind::PermissionDenied.into()).contains("1024"));
    }
}
