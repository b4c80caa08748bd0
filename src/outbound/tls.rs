//! TLS of outbound connections that no HTTP library sets up by itself.

use std::sync::Arc;

use rustls::{ClientConfig, crypto::CryptoProvider};
use rustls_platform_verifier::Verifier;

/// The TLS settings of a client that trusts the system's certificate authorities.
#[derive(Debug, Clone)]
pub struct PlatformTls(ClientConfig);

/// The system's certificate authorities cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct PlatformTlsError(#[from] rustls::Error);

impl PlatformTls {
    /// Reads the system's certificate authorities.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn new() -> Result<Self, PlatformTlsError> {
        let provider = CryptoProvider::get_default().cloned();
        let provider =
            provider.unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let verifier = Verifier::new(Arc::clone(&provider))?;
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        Ok(Self(builder.with_no_client_auth()))
    }

    /// Returns the settings for a client to use.
    #[must_use]
    pub fn into_config(self) -> ClientConfig {
        self.0
    }
}
