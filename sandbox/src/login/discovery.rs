//! The discovery document and the key set.

use hyper::StatusCode;
use serde_json::json;

use crate::answer::Answer;
use crate::lock::read;
use crate::platform::Platform;

pub(super) fn document(platform: &Platform) -> Answer {
    let login = format!("{}/login", platform.addresses.login);
    Answer::json(
        StatusCode::OK,
        &json!({
            "issuer": platform.rules().issuer,
            "authorization_endpoint": format!("{login}/common/oauth/authorize"),
            "token_endpoint": format!("{login}/common/oauth/tokens"),
            "end_session_endpoint": format!("{login}/logout"),
            "jwks_uri": format!("{login}/.well-known/jwks"),
            "scopes_supported": ["openid"],
            "response_modes_supported": ["form_post", "fragment", "query"],
            "response_types_supported":
                ["code", "id_token", "code id_token", "token id_token", "token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported":
                ["client_secret_post", "client_secret_basic"],
            "grant_types_supported": ["implicit", "authorization_code", "refresh_token"],
            "revocation_endpoint": format!("{login}/common/oauth/revoke"),
        }),
    )
}

pub(super) fn jwks(platform: &Platform) -> Answer {
    Answer::json(StatusCode::OK, &read(&platform.keys).jwks())
}
