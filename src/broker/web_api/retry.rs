//! The reaction to a failed call: each retry action is tried once, and no unsafe call may run twice.

use std::time::Duration;

use crate::ports::{CallOutcome, SendError};

/// The maximum number of retries of a safe call after failures of the host.
const MAX_RETRIES: u32 = 2;

/// The pause before the first retry. The pause before the second is four times as long; both have jitter.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);

/// Whether a call may be sent twice (RFC 9110 section 9.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Safety {
    /// A safe method, with a body that can be sent again.
    Safe,
    /// Any other call: running it twice may change something, or its body cannot be sent again.
    Unsafe,
}

/// The retry actions that were already tried for one call.
#[derive(Debug)]
pub(super) struct RetryState {
    safety: Safety,
    credential_verified: bool,
    address_changed: bool,
    waited_for_throttling: bool,
    failures: u32,
}

/// The reaction to the outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryAction {
    /// Do not send the call again.
    GiveUp,
    /// Verify the credential with a probe, then send the call again.
    VerifyCredential,
    /// Invalidate the tenant's address, then send the call to the new one.
    InvalidateAddress,
    /// Send the call to the tenant's new address, which is already known.
    UseNewAddress,
    /// Pause all calls to the tenant for this time, then send the call again.
    PauseAndRetry(Duration),
    /// Pause all calls to the tenant for this time, and do not send the call again.
    PauseOnly(Duration),
    /// Send the call again after about this time.
    RetryAfter(Duration),
}

impl RetryState {
    pub(super) fn new(safety: Safety) -> Self {
        Self {
            safety,
            credential_verified: false,
            address_changed: false,
            waited_for_throttling: false,
            failures: 0,
        }
    }

    /// Returns the action after an attempt. 401 and 421 prove that the call did not run, so any call may be sent again.
    pub(super) fn next_action(
        &mut self,
        outcome: Result<CallOutcome, &SendError>,
        may_have_expired: bool,
    ) -> RetryAction {
        match outcome {
            Ok(CallOutcome::CredentialRefused) => self.verify_credential_once(),
            Ok(CallOutcome::Forbidden) if may_have_expired => self.verify_credential_once(),
            Ok(CallOutcome::Misdirected) if !std::mem::replace(&mut self.address_changed, true) => {
                RetryAction::InvalidateAddress
            }
            Ok(CallOutcome::Throttled { retry_after }) => {
                let first = !std::mem::replace(&mut self.waited_for_throttling, true);
                if first && self.safety == Safety::Safe {
                    RetryAction::PauseAndRetry(retry_after)
                } else {
                    RetryAction::PauseOnly(retry_after)
                }
            }
            Ok(CallOutcome::Failed) | Err(SendError::NotSent(_) | SendError::Interrupted(_)) => {
                self.retry_with_back_off()
            }
            // After a time-out the caller's deadline is probably near, so there is no retry.
            Ok(CallOutcome::Done { .. } | CallOutcome::Forbidden | CallOutcome::Misdirected)
            | Err(SendError::TimedOut(_) | SendError::InvalidRequest(_)) => RetryAction::GiveUp,
        }
    }

    /// Returns the action for a failed call that may be sent again and whose tenant has another address now. Uses the
    /// new address once, as after HTTP 421.
    pub(super) fn action_after_move(
        &mut self,
        outcome: Result<CallOutcome, &SendError>,
    ) -> RetryAction {
        let again = std::mem::replace(&mut self.address_changed, true);
        if again { self.next_action(outcome, false) } else { RetryAction::UseNewAddress }
    }

    fn verify_credential_once(&mut self) -> RetryAction {
        let again = std::mem::replace(&mut self.credential_verified, true);
        if again { RetryAction::GiveUp } else { RetryAction::VerifyCredential }
    }

    fn retry_with_back_off(&mut self) -> RetryAction {
        if self.safety == Safety::Unsafe || self.failures >= MAX_RETRIES {
            return RetryAction::GiveUp;
        }
        let pause = FIRST_BACK_OFF * 4_u32.pow(self.failures);
        self.failures += 1;
        RetryAction::RetryAfter(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const THROTTLED: CallOutcome = CallOutcome::Throttled { retry_after: SECOND };

    fn actions(kind: Safety, outcome: CallOutcome) -> [RetryAction; 4] {
        let mut state = RetryState::new(kind);
        [(); 4].map(|()| state.next_action(Ok(outcome), false))
    }

    #[test]
    fn a_rejected_credential_is_verified_once_for_any_call() {
        for kind in [Safety::Safe, Safety::Unsafe] {
            let taken = actions(kind, CallOutcome::CredentialRefused);
            assert_eq!(taken[..2], [RetryAction::VerifyCredential, RetryAction::GiveUp]);
        }
    }

    #[test]
    fn forbidden_concerns_the_credential_only_if_it_may_have_expired() {
        assert_eq!(actions(Safety::Safe, CallOutcome::Forbidden), [RetryAction::GiveUp; 4]);
        let mut state = RetryState::new(Safety::Safe);
        let forbidden = Ok(CallOutcome::Forbidden);
        assert_eq!(state.next_action(forbidden, true), RetryAction::VerifyCredential);
        assert_eq!(state.next_action(forbidden, true), RetryAction::GiveUp);
    }

    #[test]
    fn after_421_the_address_is_invalidated_once_for_any_call() {
        for kind in [Safety::Safe, Safety::Unsafe] {
            let taken = actions(kind, CallOutcome::Misdirected);
            assert_eq!(taken[..2], [RetryAction::InvalidateAddress, RetryAction::GiveUp]);
        }
    }

    #[test]
    fn a_call_uses_a_new_address_only_once() {
        let error = SendError::NotSent(String::new());
        for kind in [Safety::Safe, Safety::Unsafe] {
            let mut state = RetryState::new(kind);
            assert_eq!(state.action_after_move(Err(&error)), RetryAction::UseNewAddress);
            assert_ne!(state.action_after_move(Err(&error)), RetryAction::UseNewAddress);
            assert_eq!(state.next_action(Ok(CallOutcome::Misdirected), false), RetryAction::GiveUp);
        }
    }

    #[test]
    fn a_throttled_safe_call_is_retried_once_and_an_unsafe_one_never() {
        let (wait, pause) = (RetryAction::PauseAndRetry(SECOND), RetryAction::PauseOnly(SECOND));
        assert_eq!(actions(Safety::Safe, THROTTLED), [wait, pause, pause, pause]);
        assert_eq!(actions(Safety::Unsafe, THROTTLED), [pause; 4]);
    }

    #[test]
    fn a_failed_safe_call_is_retried_at_most_twice_and_an_unsafe_one_never() {
        let again = |milliseconds| RetryAction::RetryAfter(Duration::from_millis(milliseconds));
        let more = [again(100), again(400), RetryAction::GiveUp, RetryAction::GiveUp];
        assert_eq!(actions(Safety::Safe, CallOutcome::Failed), more);
        assert_eq!(actions(Safety::Unsafe, CallOutcome::Failed), [RetryAction::GiveUp; 4]);
        let errors = [SendError::NotSent(String::new()), SendError::Interrupted(String::new())];
        for error in errors {
            let (mut safe, mut not_safe) =
                (RetryState::new(Safety::Safe), RetryState::new(Safety::Unsafe));
            assert_eq!([(); 4].map(|()| safe.next_action(Err(&error), false)), more, "{error}");
            assert_eq!(not_safe.next_action(Err(&error), false), RetryAction::GiveUp, "{error}");
        }
    }

    #[test]
    fn an_answer_or_a_time_out_is_not_retried() {
        for success in [true, false] {
            assert_eq!(
                actions(Safety::Safe, CallOutcome::Done { success }),
                [RetryAction::GiveUp; 4]
            );
        }
        let timed_out = SendError::TimedOut(String::new());
        assert_eq!(
            RetryState::new(Safety::Safe).next_action(Err(&timed_out), false),
            RetryAction::GiveUp
        );
    }
}
