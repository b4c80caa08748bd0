//! Promises of `ApplicationStore`.

use super::StoreLocation;
use crate::{
    domain::{ApplicationId, Environment},
    ports::ApplicationBinding,
};

pub(in crate::store) async fn bind_stores_environment_and_client_id(place: &dyn StoreLocation) {
    let store = place.open().await;
    let id: ApplicationId = "crm-sync".parse().unwrap();
    assert_eq!(store.binding(&id).await.unwrap(), None);
    for (environment, client_id) in
        [(Environment::Sod, "1234"), (Environment::Sod, "1234"), (Environment::Online, "5678")]
    {
        store.bind(&id, environment, client_id).await.unwrap();
        let wanted = ApplicationBinding {
            environment: environment.as_str().to_owned(),
            client_id: client_id.to_owned(),
        };
        assert_eq!(store.binding(&id).await.unwrap(), Some(wanted));
    }
    let other: ApplicationId = "portal".parse().unwrap();
    assert_eq!(store.binding(&other).await.unwrap(), None);
}
