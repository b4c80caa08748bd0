//! The registration of an application at SuperOffice's login service.

/// The registration of an application at the login host.
pub struct Registration {
    /// The public client id, which is the audience of ID tokens.
    pub client_id: String,
    /// The issuer of ID tokens, `https://{env}.superoffice.com`: without a trailing slash, and without `/login`.
    pub issuer: String,
}
