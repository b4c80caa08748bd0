//! The meaning of a fault for requests to SuperOffice: whether they are repeated, and whether the host is down.

use std::{error::Error as _, io};

use hyper_util::client::legacy;
use reqwest::StatusCode;

use super::client::{Profile, Repeat};
pub(super) use crate::outbound::Fault;
use crate::ports::UpstreamError;

impl Fault {
    /// A call of the Web API that was not answered. Only connecting has a limit there.
    pub(super) fn of_sending(error: &legacy::Error) -> Self {
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        let timed_out = causes
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| cause.kind() == io::ErrorKind::TimedOut);
        Self::from_causes(error, error.is_connect(), timed_out)
    }

    /// Whether the request may be sent again. Not after a time-out, which has used up the caller's patience.
    pub(super) fn may_be_repeated(&self, repeat: Repeat) -> bool {
        match self {
            Self::Name(_) | Self::Connect(_) | Self::Tls(_) | Self::NotProcessed => true,
            Self::Broken(_) | Self::Status(_) => repeat == Repeat::Reads,
            Self::Unreached | Self::Timeout(_) | Self::TooLarge(_) => false,
        }
    }

    /// Whether the request surely did not arrive.
    pub(super) fn is_before_sending(&self) -> bool {
        matches!(self, Self::Unreached) || self.may_be_repeated(Repeat::OnlyIfNotSent)
    }

    /// Whether the host as a whole does not answer. A status that may be about one tenant says nothing of others.
    pub(super) fn is_the_hosts(&self) -> bool {
        match self {
            Self::Name(_)
            | Self::Connect(_)
            | Self::Tls(_)
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
}
