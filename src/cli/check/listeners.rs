//! Whether the addresses to listen on can be had.

use std::{io, net::SocketAddr};

use tokio::net::TcpSocket;

use super::report::{Check, Report, Topic};
use crate::{app::store_path, config::Config, store::ServeLock};

/// Binds each address for an instant; nobody can connect to it meanwhile.
pub(super) fn check(config: &Config, report: &mut Report) {
    if ServeLock::is_held(store_path(config)) {
        let found = "a gateway of this configuration is running (it holds the lock of the store)";
        report.add(Check::skipped(Topic::Listener, found));
        return;
    }
    let http = config.http.iter().map(|http| ("http.listen", http.listen));
    let egress = config.egress.iter().map(|egress| ("egress.listen", egress.listen));
    let others = [("grpc.listen", config.grpc.listen), ("admin.listen", config.admin.listen)];
    for (key, address) in others.into_iter().chain(http).chain(egress) {
        let check = match bind(address) {
            Ok(()) => Check::ok(Topic::Listener, format!("{address} is free")),
            Err(error) => Check::failed(
                Topic::Listener,
                format!("cannot listen on {address} ({})", error.kind()),
                "choose another address, or stop what is using it",
            ),
        };
        report.add(check.at(key));
    }
}

fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As `serve` does it: connections of a former process are not in the way.
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}
