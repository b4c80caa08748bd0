//! Tests of clocks that are temporarily wrong: data stored meanwhile is not returned, and nothing stays blocked.

use std::time::Duration;

use tenant_gateway::{grpc::pb, ports::Clock as _};

use crate::support::{World, eventually_so, name};

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn a_ticket_that_was_stored_while_the_clock_was_ahead_is_replaced_after_a_restart() {
    for ahead in [Duration::from_hours(2), DAY, 30 * DAY] {
        let mut world = World::new().await;
        world.enroll("Cust1").await;
        let right = world.clock.now();
        world.advance(ahead);
        let stored = world.ticket("Cust1").await.unwrap();
        world.sandbox.shift_clock(0);
        world.clock.set_wall(right);
        world.restart().await;
        let ticket = world.ticket("Cust1").await.unwrap();
        assert_ne!(ticket.credential_id, stored.credential_id, "{ahead:?}");
        let end = ticket.expire_time.unwrap().seconds;
        assert!(end <= right.as_second() + 6 * 3600, "{ahead:?}");
        assert_eq!(world.exchanges(), 2);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_extends_no_ticket() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let right = world.clock.now();
    world.advance(DAY);
    let ticket = world.ticket("Cust1").await.unwrap();
    world.sandbox.shift_clock(0);
    world.clock.set_wall(right);
    // The ticket is valid as long as before.
    assert_eq!(world.ticket("Cust1").await.unwrap().credential_id, ticket.credential_id);
    world.clock.advance(Duration::from_hours(7));
    world.sandbox.shift_clock(7 * 3600);
    let next = world.ticket("Cust1").await.unwrap();
    assert_ne!(next.credential_id, ticket.credential_id);
}

#[tokio::test]
async fn no_ticket_of_a_disabled_or_removed_tenant_stays_in_memory() {
    let mut world = World::new().await;
    for tenant in ["Cust1", "Cust2"] {
        world.enroll(tenant).await;
        world.ticket(tenant).await.unwrap();
    }
    assert_eq!(world.metric("tickets_cached").await, 2);
    let disable = pb::DisableTenantRequest { name: name("Cust1"), ..Default::default() };
    world.tenants().await.disable_tenant(disable).await.unwrap();
    assert_eq!(world.metric("tickets_cached").await, 1);
    let delete = pb::DeleteTenantRequest { name: name("Cust2"), ..Default::default() };
    world.tenants().await.delete_tenant(delete).await.unwrap();
    assert_eq!(world.metric("tickets_cached").await, 0);
    // The stored ticket is used again when the tenant is enabled.
    let enable = pb::EnableTenantRequest { name: name("Cust1") };
    world.tenants().await.enable_tenant(enable).await.unwrap();
    world.ticket("Cust1").await.unwrap();
    assert_eq!(world.exchanges(), 2);
    // A command in another process has the same effect.
    let program = crate::support::binary::program(&["tenant", "disable", "Cust1", "--config"]);
    let mut program = program;
    assert!(program.arg(world.config_file()).status().unwrap().success());
    eventually_so("the ticket is forgotten", async || {
        world.advance(Duration::from_secs(1));
        world.metric("tickets_cached").await == 0
    })
    .await;
}
