//! The status of a call whose outcome is unknown, at SuperOffice or in our own store. It must not make a client library
//! or a person retry the call.

use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{DOMAIN, Failure};
use crate::{
    broker::{BrokerError, CHECK_SUPEROFFICE_FIRST, READ_BEFORE_RETRY},
    domain::Reason,
};

/// A negative value forbids a retry, regardless of the client's service config (gRPC proposal A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

impl Failure {
    pub(super) fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::Broker(BrokerError::OutcomeUnknown { .. }))
    }

    /// Returns the status of a failure after an unsafe request was sent to SuperOffice.
    pub(in crate::grpc) fn status_of_unknown_outcome(&self, request_id: &str) -> Status {
        self.unknown_outcome_status(
            request_id,
            &self.message_without_advice(),
            CHECK_SUPEROFFICE_FIRST,
        )
    }

    /// Returns the status of a failure after a change of our own store was begun and before it was confirmed.
    pub(in crate::grpc) fn status_of_unknown_change(&self, request_id: &str) -> Status {
        let happened = match self {
            Self::DeadlineExceeded => "the deadline passed before the change was confirmed",
            Self::ShuttingDown => "this replica stopped before the change was confirmed",
            Self::Broker(BrokerError::StoreUnavailable(_)) => {
                "the gateway's store did not confirm the change"
            }
            _ => {
                return self.unknown_outcome_status(
                    request_id,
                    &self.message_without_advice(),
                    READ_BEFORE_RETRY,
                );
            }
        };
        self.unknown_outcome_status(request_id, happened, READ_BEFORE_RETRY)
    }

    /// Replaces UNAVAILABLE, which service configs retry, by ABORTED; all other codes stay.
    fn unknown_outcome_status(&self, request_id: &str, happened: &str, advice: &str) -> Status {
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

    /// Returns the message without its advice.
    fn message_without_advice(&self) -> String {
        match self {
            Self::DeadlineExceeded => "the deadline passed before SuperOffice answered".to_owned(),
            Self::ShuttingDown => "this replica stopped before SuperOffice answered".to_owned(),
            Self::TooLarge(_) => "the answer is too large".to_owned(),
            Self::Broker(BrokerError::UpstreamUnavailable { .. }) => {
                "the connection to SuperOffice failed before the whole answer arrived".to_owned()
            }
            Self::Broker(error) => error.message(),
            other => other.message(),
        }
    }
}
