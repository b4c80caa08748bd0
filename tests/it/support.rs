//! The environment of a test: a sandbox, a gateway in this process with a manual clock, and clients.

pub(crate) mod api_host;
pub(crate) mod audit;
pub(crate) mod binary;
pub(crate) mod callers;
mod certificates;
pub(crate) mod clients;
pub(crate) mod faults;
pub(crate) mod frames;
pub(crate) mod full_disk;
pub(crate) mod http;
pub(crate) mod http2_host;
pub(crate) mod load;
mod program;
pub(crate) mod raw_http2;
pub(crate) mod trail;
pub(crate) mod wire;
mod world;

pub(crate) use certificates::{Authority, Client, Identity, replace};
pub(crate) use program::Program;
pub(crate) use world::{
    APPLICATION, CLIENT_ID, CLIENT_SECRET, Options, PRIVATE_KEY, PUBLIC_KEY, Ticket, World,
    issue_with, sandbox, write_files,
};

use std::{net::SocketAddr, time::Duration};

use tenant_gateway::grpc::pb;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Asserts the code and the reason of an error, and returns its details.
#[track_caller]
pub(crate) fn assert_status(status: &Status, code: Code, reason: &str) -> ErrorDetails {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    let got = (status.code(), info.reason.as_str(), info.domain.as_str());
    assert_eq!(got, (code, reason, "tenantgateway"), "{status:?}");
    details
}

/// Asserts that a request was refused because of exactly these fields, however often each is wrong.
#[track_caller]
pub(crate) fn assert_invalid(status: &Status, fields: &[&str]) -> ErrorDetails {
    let details = assert_status(status, Code::InvalidArgument, "INVALID_ARGUMENT");
    let violations = &details.bad_request().expect("no BadRequest").field_violations;
    let mut got: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    got.sort_unstable();
    let mut wanted = fields.to_vec();
    wanted.sort_unstable();
    assert_eq!(got, wanted, "{status:?}");
    assert!(violations.iter().all(|violation| !violation.description.is_empty()));
    details
}

/// Returns a request for a ticket of a tenant of the usual application.
pub(crate) fn issue(tenant: &str) -> pb::IssueSystemTicketRequest {
    pb::IssueSystemTicketRequest { tenant: name(tenant), ..Default::default() }
}

/// Returns the name of a tenant of the usual application.
pub(crate) fn name(tenant: &str) -> String {
    format!("applications/{APPLICATION}/tenants/{tenant}")
}

/// A time limit much longer than any operation takes, also on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Waits until a background operation has the expected effect.
pub(crate) async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while !happened() {
        assert!(tokio::time::Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Requests a page over plain HTTP/1.0, and returns head and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

/// Like [`eventually`], with an asynchronous condition.
pub(crate) async fn eventually_so(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while !happened().await {
        assert!(tokio::time::Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
