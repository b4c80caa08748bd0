//! Classifies faults of requests to SuperOffice: whether to retry, and whether the host is down.

use http::StatusCode;

use super::client::{RequestLimits, RetryPolicy};
pub(super) use crate::outbound::Fault;
use crate::ports::UpstreamError;

impl Fault {
    /// Returns whether the request may be sent again. Not after a timeout, which has used up the caller's time.
    pub(super) fn may_retry(&self, repeat: RetryPolicy) -> bool {
        match self {
            Self::Name(_) | Self::Connect(_) | Self::Tls(_) | Self::NotProcessed => true,
            Self::Proxy { why, .. } => !why.is_timeout(),
            Self::Broken(_) | Self::Status(_) => repeat == RetryPolicy::Idempotent,
            Self::ConnectTimeout | Self::Timeout(_) | Self::TooLarge(_) => false,
        }
    }

    /// Returns whether the request was certainly not sent.
    pub(super) fn is_not_sent(&self) -> bool {
        matches!(self, Self::ConnectTimeout | Self::Proxy { .. })
            || self.may_retry(RetryPolicy::OnlyIfNotSent)
    }

    /// Returns whether the host as a whole does not answer. A status that may concern one tenant does not count.
    pub(super) fn is_host_failure(&self) -> bool {
        match self {
            Self::Name(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Proxy { .. }
            | Self::ConnectTimeout
            | Self::Timeout(_)
            | Self::NotProcessed
            | Self::Broken(_) => true,
            Self::Status(status) => matches!(
                *status,
                StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            Self::TooLarge(_) => false,
        }
    }

    pub(super) fn into_upstream_error(self, limits: RequestLimits) -> UpstreamError {
        let text = format!("{}: {self}", limits.name);
        match self {
            Self::TooLarge(_) => UpstreamError::InvalidResponse(text),
            _ => UpstreamError::Unavailable(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        domain::ProxyAddress,
        outbound::{ProxyFault, TlsFault},
    };

    #[test]
    fn retries_non_idempotent_requests_only_if_not_sent() {
        let connect = Fault::Connect(String::new());
        let broken = Fault::Broken(String::new());
        let timeout = Fault::Timeout(Duration::ZERO);
        for (fault, read, exchange) in
            [(connect, true, true), (broken, true, false), (timeout, false, false)]
        {
            assert_eq!(fault.may_retry(RetryPolicy::Idempotent), read, "{fault}");
            assert_eq!(fault.may_retry(RetryPolicy::OnlyIfNotSent), exchange, "{fault}");
            assert_eq!(fault.is_not_sent(), exchange, "{fault}");
        }
        // The timeout has used up the caller's time, but nothing was sent.
        assert!(Fault::ConnectTimeout.is_not_sent());
        assert!(!Fault::ConnectTimeout.may_retry(RetryPolicy::Idempotent));
    }

    #[test]
    fn a_proxy_fault_means_that_nothing_was_sent() {
        let limit = Duration::from_secs(3);
        for (why, repeated) in [
            (ProxyFault::Name, true),
            (ProxyFault::Connect(String::new()), true),
            (ProxyFault::Tls(TlsFault::NoTls), true),
            (ProxyFault::Closed, true),
            (ProxyFault::CredentialMissing, true),
            (ProxyFault::CredentialRefused, true),
            (ProxyFault::OtherScheme, true),
            (ProxyFault::Denied, true),
            (ProxyFault::Status(StatusCode::BAD_GATEWAY), true),
            (ProxyFault::NotAProxy, true),
            (ProxyFault::Broken(String::new()), true),
            (ProxyFault::Host(TlsFault::OtherName), true),
            // The timeout has used up the caller's time.
            (ProxyFault::Timeout(limit), false),
        ] {
            let proxy = ProxyAddress { tls: false, host: "proxy.example".to_owned(), port: 3128 };
            let fault = Fault::Proxy { proxy, why };
            assert!(fault.is_not_sent() && fault.is_host_failure(), "{fault}");
            assert_eq!(fault.may_retry(RetryPolicy::OnlyIfNotSent), repeated, "{fault}");
            assert!(
                fault.to_string().starts_with("the proxy http://proxy.example:3128 "),
                "{fault}"
            );
        }
    }
}
