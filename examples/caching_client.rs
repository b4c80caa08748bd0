//! A client that keeps one system user ticket for each tenant, and requests another one only when it must.
//!
//! Usage:  `cargo run --example caching_client -- GATEWAY TENANT TOKEN_FILE`
//!
//! `tenant-gateway dev` prints the three values, for example
//! `http://127.0.0.1:50051 applications/demo/tenants/Cust10001 /tmp/tenant-gateway-dev-YRKNqp/token`.
//! The gateway caches tickets itself. A client that caches them too saves one call for each use of a ticket.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example prints, and reads the clock of the system"
)]

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use tenant_gateway::grpc::pb::{
    IssueSystemTicketRequest, ReportRejectedCredentialRequest, SystemTicket,
    token_service_client::TokenServiceClient,
};
use tokio::sync::Mutex;
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// A ticket is replaced this long before it expires, so that no call with it meets the expiry.
const MARGIN: Duration = Duration::from_mins(1);

/// The deadline of each call to the gateway.
const DEADLINE: Duration = Duration::from_secs(10);

/// Attempts to get a ticket while the gateway asks to retry later.
const ATTEMPTS: u32 = 5;

/// The ticket of one tenant. The lock is held during a request, so that concurrent callers share it.
type Slot = Arc<Mutex<Option<SystemTicket>>>;

/// Tickets in memory, and the client that requests new ones.
struct TicketCache {
    client: TokenServiceClient<Channel>,
    token_file: PathBuf,
    slots: Mutex<HashMap<String, Slot>>,
}

impl TicketCache {
    /// Connects to the gateway. With TLS, add `tls_config` to the endpoint.
    async fn connect(gateway: String, token_file: PathBuf) -> anyhow::Result<Self> {
        let endpoint = Channel::from_shared(gateway).context("GATEWAY is not a URI")?;
        let channel = endpoint.connect().await.context("cannot connect to the gateway")?;
        let client = TokenServiceClient::new(channel);
        Ok(Self { client, token_file, slots: Mutex::default() })
    }

    /// Returns the ticket in memory while it is fresh, else a new one.
    async fn ticket(&self, tenant: &str) -> anyhow::Result<SystemTicket> {
        let slot = self.slot(tenant).await;
        let mut slot = slot.lock().await;
        if let Some(ticket) = slot.as_ref().filter(|ticket| is_fresh(ticket)) {
            return Ok(ticket.clone());
        }
        let ticket = self.issue(tenant).await?;
        *slot = Some(ticket.clone());
        Ok(ticket)
    }

    /// Reports a ticket that SuperOffice answered with 401, and drops it from memory.
    ///
    /// The gateway tests the ticket and replaces it only if it is dead, so a wrong report does no harm.
    async fn report_rejected(&self, tenant: &str, credential_id: &str) -> anyhow::Result<()> {
        let report = ReportRejectedCredentialRequest {
            tenant: tenant.to_owned(),
            credential_id: credential_id.to_owned(),
        };
        self.client.clone().report_rejected_credential(self.request(report)?).await?;
        let slot = self.slot(tenant).await;
        let mut slot = slot.lock().await;
        // Another caller may have replaced the ticket already.
        if slot.as_ref().is_some_and(|ticket| ticket.credential_id == credential_id) {
            *slot = None;
        }
        Ok(())
    }

    async fn slot(&self, tenant: &str) -> Slot {
        Arc::clone(self.slots.lock().await.entry(tenant.to_owned()).or_default())
    }

    /// Requests a ticket, and waits and retries where the gateway says how long.
    async fn issue(&self, tenant: &str) -> anyhow::Result<SystemTicket> {
        let mut attempt = 1;
        loop {
            let wanted = IssueSystemTicketRequest {
                tenant: tenant.to_owned(),
                reason: "the caching example".to_owned(),
                ..Default::default()
            };
            let status = match self.client.clone().issue_system_ticket(self.request(wanted)?).await
            {
                Ok(answer) => {
                    return answer.into_inner().ticket.context("the answer has no ticket");
                }
                Err(status) => status,
            };
            let Some(pause) = retry_delay(&status).filter(|_| attempt < ATTEMPTS) else {
                bail!("{}: {}", reason(&status), status.message());
            };
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// Adds the caller's token and a deadline. The token is read each time, because its issuer renews the file.
    fn request<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let token = std::fs::read_to_string(&self.token_file)
            .with_context(|| format!("cannot read {}", self.token_file.display()))?;
        let mut request = Request::new(message);
        let authorization = format!("Bearer {}", token.trim()).parse()?;
        request.metadata_mut().insert("authorization", authorization);
        request.set_timeout(DEADLINE);
        Ok(request)
    }
}

fn is_fresh(ticket: &SystemTicket) -> bool {
    let expiry = ticket.expire_time.and_then(|time| SystemTime::try_from(time).ok());
    expiry.is_some_and(|expiry| SystemTime::now() + MARGIN < expiry)
}

/// The time after which the same call may succeed, if the gateway names one.
fn retry_delay(status: &Status) -> Option<Duration> {
    let may_retry = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
    let details = status.get_error_details();
    details.retry_info().filter(|_| may_retry)?.retry_delay
}

/// The stable reason of an error, for programs to branch on.
fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map_or_else(|| status.code().to_string(), |info| info.reason.clone())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [gateway, tenant, token_file] = <[String; 3]>::try_from(arguments)
        .map_err(|_| anyhow::anyhow!("usage: caching_client GATEWAY TENANT TOKEN_FILE"))?;
    let cache = TicketCache::connect(gateway, token_file.into()).await?;

    let first = cache.ticket(&tenant).await?;
    println!("requested {}, valid for calls to {}", first.credential_id, first.web_api_uri);
    let second = cache.ticket(&tenant).await?;
    println!("in memory {}", second.credential_id);

    // A client does this after a 401 of SuperOffice. The ticket works, so the gateway keeps it.
    cache.report_rejected(&tenant, &second.credential_id).await?;
    let third = cache.ticket(&tenant).await?;
    println!("after the report {}", third.credential_id);
    Ok(())
}
