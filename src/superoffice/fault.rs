//! The meaning of a fault for requests to SuperOffice: whether they are repeated, and whether the host is down.

use http::StatusCode;

use super::client::{Profile, Repeat};
pub(super) use crate::outbound::Fault;
use crate::ports::UpstreamError;

impl Fault {
    /// Whether the request may be sent again. Not after a time-out, which has used up the caller's patience.
    pub(super) fn may_be_repeated(&self, repeat: Repeat) -> bool {
        match self {
            Self::Name(_) | Self::Connect(_) | Self::Tls(_) | Self::NotProcessed => true,
            Self::Proxy { why, .. } => !why.is_timeout(),
            Self::Broken(_) | Self::Status(_) => repeat == Repeat::Reads,
            Self::Unreached | Self::Timeout(_) | Self::TooLarge(_) => false,
        }
    }

    /// Whether the request surely did not arrive.
    pub(super) fn is_before_sending(&self) -> bool {
        matches!(self, Self::Unreached | Self::Proxy { .. })
            || self.may_be_repeated(Repeat::OnlyIfNotSent)
    }

    /// Whether the host as a whole does not answer. A status that may be about one tenant says nothing of others.
    pub(super) fn is_the_hosts(&self) -> bool {
        match self {
            Self::Name(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Proxy { .. }
            | Self::Unreached
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

    pub(super) fn of(self, profile: Profile) -> UpstreamError {
        let text = format!("{}: {self}", profile.what);
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
    fn only_what_surely_was_not_sent_is_repeated_where_doing_it_twice_costs() {
        let connect = Fault::Connect(String::new());
        let broken = Fault::Broken(String::new());
        let timeout = Fault::Timeout(Duration::ZERO);
        for (fault, read, exchange) in
            [(connect, true, true), (broken, true, false), (timeout, false, false)]
        {
            assert_eq!(fault.may_be_repeated(Repeat::Reads), read, "{fault}");
            assert_eq!(fault.may_be_repeated(Repeat::OnlyIfNotSent), exchange, "{fault}");
            assert_eq!(fault.is_before_sending(), exchange, "{fault}");
        }
        // It has used up the caller's patience, and no more than that.
        assert!(Fault::Unreached.is_before_sending());
        assert!(!Fault::Unreached.may_be_repeated(Repeat::Reads));
    }

    #[test]
    fn whatever_is_wrong_with_the_proxy_nothing_was_sent_to_the_host() {
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
            // It has used up the caller's patience.
            (ProxyFault::Timeout(limit), false),
        ] {
            let proxy = ProxyAddress { tls: false, host: "proxy.example".to_owned(), port: 3128 };
            let fault = Fault::Proxy { proxy, why };
            assert!(fault.is_before_sending() && fault.is_the_hosts(), "{fault}");
            assert_eq!(fault.may_be_repeated(Repeat::OnlyIfNotSent), repeated, "{fault}");
            assert!(
                fault.to_string().starts_with("the proxy http://proxy.example:3128 "),
                "{fault}"
            );
        }
    }
}
