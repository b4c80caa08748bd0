//! The memory of cached tickets, and the start, with many tenants whose tickets are in the store, like after a restart.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use tenant_gateway::{
    domain::{
        AllowedApiHosts, CredentialId, SystemTicket, TenantName, TenantState, TenantStatus,
        WebApiUri,
    },
    ports::{TenantStore as _, TicketStore as _},
};
use tokio::runtime::Runtime;

use super::{
    first_tickets::{call_for_all, tenant},
    installation::{Installation, STORED_AT_A_TIME, tenant_name},
    server::Server,
    statistics::Spread,
    table::{Budget, Row, Table},
    tickets::{Layers, Target},
};

const TICKETS: u32 = 100_000;
const CALLERS: usize = 64;
const WARM_UP: Duration = Duration::from_secs(1);

/// The budget of a cached ticket with its tenant and status, in bytes.
const TICKET_BYTES: f64 = 1024.0;

/// Adds the budget of a cached ticket, and two lines about an idle gateway.
pub(crate) fn measure(runtime: &Runtime, table: &mut Table) {
    eprintln!("memory: storing {TICKETS} tenants");
    let world = runtime.block_on(prepare());
    let begin = Instant::now();
    let gateway = Server::gateway(&world.config(), "grpc");
    let ready = begin.elapsed().as_secs_f64();
    let idle = gateway.kib("VmRSS:") as f64;
    eprintln!("memory: reading {TICKETS} tickets");
    // Connections, threads and buffers get their memory before the tickets.
    let target = Target { server: &gateway, token: None };
    target.round(runtime, WARM_UP, CALLERS);
    let before = gateway.kib("VmRSS:") as f64;
    runtime.block_on(call_for_all(&gateway, None, TICKETS, CALLERS));
    let each = (gateway.kib("VmRSS:") as f64 - before) * 1024.0 / f64::from(TICKETS);
    let row = |what: String, ours: String, limit: String, ratio: f64| {
        Row::new(what, ours, limit, Spread::of([ratio]))
    };
    let what = format!("memory of each of {TICKETS} cached tickets");
    let ratio = each / TICKET_BYTES;
    let cached = row(what, format!("{each:.0} bytes"), format!("{TICKET_BYTES} bytes"), ratio);
    table.push(cached.budget(Budget::AtMost(1.0)));
    let what = format!("ready after start, {TICKETS} tenants");
    table.push(row(what, format!("{ready:.2} s"), "0.5 s".to_owned(), ready / 0.5));
    let what = "resident memory, idle".to_owned();
    let mib = idle / 1024.0;
    table.push(row(what, format!("{mib:.1} MiB"), "40 MiB".to_owned(), mib / 40.0));
}

/// Prepares a gateway whose store has tenants with a token, a status and a ticket.
async fn prepare() -> Installation {
    let world = Installation::new("").await;
    world.configure(&Layers::Anonymous.config(), "");
    world.enroll().await;
    let storage = world.storage().await;
    let store = &storage.store;
    let now = Timestamp::now();
    let allowed = &AllowedApiHosts::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let fill = |number: u32| async move {
        let name = tenant_name(&tenant(number));
        store.create(&name, &BTreeMap::default(), now).await.unwrap();
        let token = "Demo App-0123456789".to_owned().into();
        let set = store.set_system_user_token(&name, &token, now).await.unwrap().unwrap();
        store.put_status(&name, &status(&name, allowed, now)).await.unwrap();
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let ticket = SystemTicket {
            value: format!("7T:{}", "A".repeat(147)).into(),
            credential_id: CredentialId::of_ticket(id),
            issue_time: now,
            expire_time: now + Duration::from_hours(6),
            token_version: set.token_version,
        };
        assert!(store.put(&name, &ticket).await.unwrap());
    };
    stream::iter(0..TICKETS).for_each_concurrent(STORED_AT_A_TIME, fill).await;
    storage.close().await;
    world
}

fn status(name: &TenantName, allowed: &AllowedApiHosts, now: Timestamp) -> TenantStatus {
    let uri = format!("http://127.0.0.1:1/{}/api", name.tenant);
    TenantStatus {
        state: TenantState::Running,
        valid_until: now + Duration::from_hours(1),
        web_api_uri: WebApiUri::check_api(&uri, name.tenant, allowed).ok(),
        version: String::new(),
        read_time: now,
    }
}
