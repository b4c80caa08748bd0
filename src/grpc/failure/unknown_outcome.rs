//! The status of a call whose outcome is unknown, at SuperOffice or in our own store: no client library and no person
//! may take it for advice to send the call again.

use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{DOMAIN, Failure};
use crate::{
    broker::{BrokerError, LOOK_FIRST, READ_FIRST},
    domain::Reason,
};

/// With a negative value it forbids a client to retry, whatever its service config says (gRPC proposal A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

impl Failure {
    pub(super) fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::Broker(BrokerError::OutcomeUnknown { .. }))
    }

    /// The status of a failure after an unsafe request was sent to SuperOffice.
    pub(in crate::grpc) fn status_of_unknown_outcome(&self, request_id: &str) -> Status {
        self.unknown(request_id, &self.what_happened(), LOOK_FIRST)
    }

    /// The status of a failure after a change of our own store was begun, and before it was known how that ended.
    pub(in crate::grpc) fn status_of_unknown_change(&self, request_id: &str) -> Status {
        let happened = match self {
            Self::DeadlineExceeded => "the deadline passed before the change was confirmed",
            Self::ShuttingDown => "this replica stopped before the change was confirmed",
            Self::Broker(BrokerError::StoreUnavailable(_)) => {
                "the gateway's store did not confirm the change"
            }
            _ => return self.unknown(request_id, &self.what_happened(), READ_FIRST),
        };
        self.unknown(request_id, happened, READ_FIRST)
    }

    /// Service configs retry UNAVAILABLE, so ABORTED takes its place; all other codes stay.
    fn unknown(&self, request_id: &str, happened: &str, advice: &str) -> Status {
        let code = match self.code() {
            Code::Unavailable => Code::Aborted,
            code => code,
        };
        let reason = self.reason();
        let mut metadata = self.metadata();
        metadata.insert("outcome".to_owned(), "unknown".to_owned());
        let mut details = ErrorDetails::new();
        details.set_error_info(reason.as_str(), DOMAIN, metadata);
        if reason == Reason::Internal {
            details.set_request_info(request_id, "");
        }
        let message = format!("{happened}; {advice}");
        let mut status = Status::with_error_details(code, message, details);
        status.metadata_mut().insert(PUSHBACK, MetadataValue::from_static("-1"));
        status
    }

    /// The message without its advice.
    fn what_happened(&self) -> String {
        match self {
            Self::DeadlineExceeded => "the deadline passed before SuperOffice answered".to_owned(),
            Self::ShuttingDown => "this replica stopped before SuperOffice answered".to_owned(),
            Self::TooLarge(_) => "the answer is too large to be passed on".to_owned(),
            Self::Broker(BrokerError::UpstreamUnavailable { .. }) => {
                "SuperOffice's answer broke off".to_owned()
            }
            Self::Broker(error) => error.message(),
            other => other.message(),
        }
    }
}
