//! Checks that the addresses to listen on are available.

use super::report::{Check, Report, Topic};
use crate::{
    app::store_path,
    config::Config,
    listen::{bind_error_advice, bound_socket},
    store::ServeLock,
};

/// Binds each address briefly, without accepting connections.
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
        let check = match bound_socket(address) {
            Ok(_) => Check::ok(Topic::Listener, format!("{address} is free")),
            Err(error) => Check::failed(
                Topic::Listener,
                format!("cannot listen on {address} ({})", error.kind()),
                bind_error_advice(address, &error),
            ),
        };
        report.add(check.at(key));
    }
}
