//! The outcome of a call after each attempt: the request provably did not run, or its outcome is unknown.

use std::time::Duration;

use crate::{
    broker::{BrokerError, error::RETRY_SOON},
    domain::CredentialId,
    ports::{SendError, Verdict},
};

/// Reading the rest of a body into its copy takes at most this long.
pub(super) const REST_OF_BODY: Duration = Duration::from_mins(1);

/// A step of a call that its caller's records need.
#[derive(Debug, Clone, Copy)]
pub enum SendProgress<'a> {
    /// The request is about to be sent with this credential. From here on its outcome is unknown.
    Sends(&'a CredentialId),
    /// The request that was sent last provably did not run.
    DidNotRun,
}

/// Receives every step before the next one begins, so that a call that is cancelled leaves a true record.
pub type Used<'a> = &'a mut (dyn FnMut(SendProgress<'_>) + Send);

/// Whether the attempt provably did not run: SuperOffice rejected the credential (401) or the host (421), or the request
/// was not sent.
pub(super) fn did_not_run(outcome: Result<Verdict, &SendError>) -> bool {
    match outcome {
        Ok(Verdict::CredentialRefused | Verdict::Misdirected)
        | Err(SendError::NotSent(_) | SendError::Unsendable(_)) => true,
        Ok(
            Verdict::Done { .. } | Verdict::Forbidden | Verdict::Throttled { .. } | Verdict::Failed,
        )
        | Err(SendError::Broken(_) | SendError::TimedOut(_)) => false,
    }
}

/// The error of a call without an answer. A safe call, and one that did not run, may be sent again.
pub(super) fn no_answer(what: &str, safe: bool, error: &SendError) -> BrokerError {
    let cause = format!("{what}: {error}").into();
    if safe || did_not_run(Err(error)) {
        return BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause };
    }
    BrokerError::OutcomeUnknown { timed_out: matches!(error, SendError::TimedOut(_)), cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Reason;

    #[test]
    fn only_a_rejected_credential_a_wrong_host_and_a_request_that_was_not_sent_prove_that_nothing_ran()
     {
        for verdict in [Verdict::CredentialRefused, Verdict::Misdirected] {
            assert!(did_not_run(Ok(verdict)), "{verdict:?}");
        }
        let throttled = Verdict::Throttled { retry_after: Duration::ZERO };
        let done = [true, false].map(|success| Verdict::Done { success });
        for verdict in [Verdict::Forbidden, Verdict::Failed, throttled].into_iter().chain(done) {
            assert!(!did_not_run(Ok(verdict)), "{verdict:?}");
        }
        assert!(did_not_run(Err(&SendError::NotSent(String::new()))));
        assert!(!did_not_run(Err(&SendError::Broken(String::new()))));
        assert!(!did_not_run(Err(&SendError::TimedOut(String::new()))));
    }

    #[test]
    fn an_unsafe_call_that_may_have_run_is_never_told_to_come_again() {
        let not_sent = SendError::NotSent(String::new());
        let broken = SendError::Broken(String::new());
        let timed_out = SendError::TimedOut(String::new());
        let unavailable = Reason::UpstreamUnavailable;
        for (safe, error, reason, comes_again) in [
            (true, &not_sent, unavailable, true),
            (true, &broken, unavailable, true),
            (true, &timed_out, unavailable, true),
            (false, &not_sent, unavailable, true),
            (false, &broken, unavailable, false),
            (false, &timed_out, Reason::DeadlineExceeded, false),
        ] {
            let told = no_answer("call", safe, error);
            assert_eq!(told.reason(), reason, "{safe} {error}");
            assert_eq!(told.retry_after().is_some(), comes_again, "{safe} {error}");
            assert_eq!(told.outcome_is_unknown(), !comes_again, "{safe} {error}");
        }
    }
}
