//! Envoy with its credential injector, as its documentation shows it.

use std::{fs, net::SocketAddr, path::Path, process::Command, thread};

use super::server::{Server, free_address, on_path};

/// Starts Envoy in front of this upstream, if it is on PATH. The folder gets its configuration.
pub(crate) fn start(folder: &Path, upstream: SocketAddr) -> Option<Server> {
    let program = on_path(&["envoy"])?;
    let address = free_address();
    let socket = |address: SocketAddr| {
        let (ip, port) = (address.ip(), address.port());
        format!("{{ socket_address: {{ address: {ip}, port_value: {port} }} }}")
    };
    let text = CREDENTIAL_INJECTOR
        .replace("@LISTEN@", &socket(address))
        .replace("@UPSTREAM@", &socket(upstream));
    let file = folder.join("envoy.yaml");
    fs::write(&file, text).unwrap();
    // A worker for each core, as the gateway has.
    let workers = thread::available_parallelism().unwrap().to_string();
    let mut command = Command::new(program);
    command
        .args(["--disable-hot-restart", "--log-level", "error", "--concurrency", &workers])
        .arg("--config-path")
        .arg(&file);
    Some(Server::foreign(command, address))
}

const CREDENTIAL_INJECTOR: &str = r#"
static_resources:
  secrets:
    - name: credential
      generic_secret: { secret: { inline_string: "SOTicket 7T:0123456789012345678901234567890123456789" } }
  listeners:
    - address: @LISTEN@
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: bench
                http_filters:
                  - name: envoy.filters.http.credential_injector
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector
                      overwrite: true
                      credential:
                        name: envoy.http.injected_credentials.generic
                        typed_config:
                          "@type": type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic
                          credential: { name: credential }
                          header: Authorization
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes: [{ match: { prefix: / }, route: { cluster: upstream } }]
  clusters:
    - name: upstream
      type: STATIC
      load_assignment:
        cluster_name: upstream
        endpoints: [{ lb_endpoints: [{ endpoint: { address: @UPSTREAM@ } }] }]
"#;
