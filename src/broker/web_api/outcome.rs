//! The outcome of each attempt: whether the request provably did not run, or whether its outcome is unknown.

use std::time::Duration;

use crate::{
    broker::{BrokerError, error::RETRY_SOON},
    domain::CredentialId,
    ports::{CallOutcome, SendError},
};

/// The maximum time for reading the rest of a request body into its copy.
pub(super) const BODY_COPY_TIMEOUT: Duration = Duration::from_mins(1);

/// The progress of a call, for the audit event of its caller.
#[derive(Debug, Clone, Copy)]
pub enum SendProgress<'a> {
    /// The request is about to be sent with this credential. From here on its outcome is unknown.
    Sending(&'a CredentialId),
    /// The request that was sent last provably did not run.
    DidNotRun,
}

/// Receives each step before the next one starts, so that the audit event of a cancelled call is correct.
pub type ProgressCallback<'a> = &'a mut (dyn FnMut(SendProgress<'_>) + Send);

/// Returns whether the attempt provably did not run: SuperOffice rejected the credential (401) or the host (421), or
/// the request was not sent.
pub(super) fn did_not_run(outcome: Result<CallOutcome, &SendError>) -> bool {
    match outcome {
        Ok(CallOutcome::CredentialRefused | CallOutcome::Misdirected)
        | Err(SendError::NotSent(_) | SendError::InvalidRequest(_)) => true,
        Ok(
            CallOutcome::Done { .. }
            | CallOutcome::Forbidden
            | CallOutcome::Throttled { .. }
            | CallOutcome::Failed,
        )
        | Err(SendError::Interrupted(_) | SendError::TimedOut(_)) => false,
    }
}

/// Returns the error of a call without an answer. A safe call, and a call that did not run, may be sent again.
pub(super) fn no_answer_error(what: &str, safe: bool, error: &SendError) -> BrokerError {
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
        for outcome in [CallOutcome::CredentialRefused, CallOutcome::Misdirected] {
            assert!(did_not_run(Ok(outcome)), "{outcome:?}");
        }
        let throttled = CallOutcome::Throttled { retry_after: Duration::ZERO };
        let done = [true, false].map(|success| CallOutcome::Done { success });
        for outcome in
            [CallOutcome::Forbidden, CallOutcome::Failed, throttled].into_iter().chain(done)
        {
            assert!(!did_not_run(Ok(outcome)), "{outcome:?}");
        }
        assert!(did_not_run(Err(&SendError::NotSent(String::new()))));
        assert!(!did_not_run(Err(&SendError::Interrupted(String::new()))));
        assert!(!did_not_run(Err(&SendError::TimedOut(String::new()))));
    }

    #[test]
    fn an_unsafe_call_that_may_have_run_gets_no_retry_delay() {
        let not_sent = SendError::NotSent(String::new());
        let broken = SendError::Interrupted(String::new());
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
            let failure = no_answer_error("call", safe, error);
            assert_eq!(failure.reason(), reason, "{safe} {error}");
            assert_eq!(failure.retry_after().is_some(), comes_again, "{safe} {error}");
            assert_eq!(failure.outcome_is_unknown(), !comes_again, "{safe} {error}");
        }
    }
}
