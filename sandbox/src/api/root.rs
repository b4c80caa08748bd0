//! `GET /{tenant}/api`: the API versions.

use hyper::{HeaderMap, StatusCode};
use serde_json::json;

use super::accepts_json;
use crate::answer::Answer;
use crate::platform::Platform;
use crate::world::Tenant;

pub(super) fn root(platform: &Platform, tenant: &Tenant, headers: &HeaderMap) -> Answer {
    if !accepts_json(headers) {
        return Answer::html(StatusCode::OK, "SuperOffice Web API");
    }
    let base = format!("{}/{}", platform.addresses.api(tenant.host), tenant.id);
    Answer::json(
        StatusCode::OK,
        &json!({
            "v1": format!("{base}/api/v1/"),
            "NetServerVersion": "11.10",
            "NetServerAssembly": "11.10.9551.1121",
            "NetServerDate": "2026-02-24",
            "NetServerLabel": "Release_11.10_2026.02.24-02",
            "NetServer": format!("{base}/Remote/"),
            "Services": format!("{base}/Remote/Services/"),
            "ServicesCurrent": format!("{base}/Remote/Services88/"),
            "Version": "11.10",
            "Documentation": "https://docs.superoffice.com/",
        }),
    )
}
