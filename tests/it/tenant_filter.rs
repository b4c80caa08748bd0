//! Tests of filters in lists of tenants.

use std::collections::HashMap;

use tenant_gateway::grpc::pb;

use crate::support::{APPLICATION, World, assert_invalid, eventually_so, name};

async fn filtered(world: &World, filter: &str) -> Result<Vec<String>, tonic::Status> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let filter = filter.to_owned();
        let request =
            pb::ListTenantsRequest { filter, page_token, page_size: 2, ..Default::default() };
        let page = world.tenants().await.list_tenants(request).await?.into_inner();
        assert!(page.tenants.len() <= 2);
        let id = |tenant: pb::Tenant| tenant.name.rsplit_once('/').unwrap().1.to_owned();
        found.extend(page.tenants.into_iter().map(id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

#[tokio::test]
async fn tenants_are_filtered_by_their_fields_page_by_page() {
    let world = World::new().await;
    for (number, region) in (1..=7).zip(["nordic", "benelux"].into_iter().cycle()) {
        let labels: HashMap<_, _> = [("region".to_owned(), region.to_owned())].into();
        let request = pb::CreateTenantRequest {
            parent: format!("applications/{APPLICATION}"),
            tenant_id: format!("Cust{number}"),
            tenant: Some(pb::Tenant { labels, ..Default::default() }),
        };
        world.tenants().await.create_tenant(request).await.unwrap();
    }
    let token = world.make_tenant("Cust2");
    world.set_token("Cust2", &token).await;
    world.ticket("Cust2").await.unwrap();
    eventually_so("the company's name is known", async || {
        !world.tenant("Cust2").await.company_name.is_empty()
    })
    .await;
    let disable = pb::DisableTenantRequest { name: name("Cust3"), ..Default::default() };
    world.tenants().await.disable_tenant(disable).await.unwrap();
    let all = ["Cust1", "Cust2", "Cust3", "Cust4", "Cust5", "Cust6", "Cust7"];
    for (filter, wanted) in [
        ("", &all[..]),
        ("labels.region = nordic", &["Cust1", "Cust3", "Cust5", "Cust7"]),
        ("labels.region = nordic AND disabled = false", &["Cust1", "Cust5", "Cust7"]),
        ("status = RUNNING", &["Cust2"]),
        ("NOT status:*", &["Cust1", "Cust3", "Cust4", "Cust5", "Cust6", "Cust7"]),
        ("has_system_user_token = true", &["Cust2"]),
        ("name = \"*/Cust4\"", &["Cust4"]),
        ("company_name:Company", &["Cust2"]),
        ("create_time > 2000-01-01T00:00:00Z AND update_time > 2000-01-01T00:00:00Z", &all),
        ("create_time < 2000-01-01T00:00:00Z", &[]),
    ] {
        assert_eq!(filtered(&world, filter).await.unwrap(), wanted, "{filter}");
    }
    for (filter, position) in [
        ("disabled = perhaps", 11),
        ("state = RUNNING", 0),
        ("status = Running", 9),
        ("etag = x", 0),
    ] {
        let details = assert_invalid(&filtered(&world, filter).await.unwrap_err(), &["filter"]);
        let description = &details.bad_request().unwrap().field_violations[0].description;
        assert!(description.ends_with(&format!("(at byte {position})")), "{filter}: {description}");
    }
}
