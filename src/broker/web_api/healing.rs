//! What is done about a call that failed: each thing once, and nothing that could do twice what was asked.

use std::time::Duration;

use crate::ports::{SendError, Verdict};

/// How often a question is asked again after failures of the host.
const MORE_ATTEMPTS: u32 = 2;

/// The first pause before that; the next is four times as long, both with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Whether a call may be made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Asking twice changes nothing.
    Question,
    /// Doing it twice may.
    Order,
}

/// What was tried so far for one call.
#[derive(Debug)]
pub(super) struct Healing {
    kind: Kind,
    proven: bool,
    relocated: bool,
    waited_out: bool,
    failures: u32,
}

/// What to do before the call is made once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It is not made once more.
    None,
    /// Find out whether the credential is dead.
    ProveCredential,
    /// Ask where the tenant is.
    Relocate,
    /// Nothing: the tenant is known to be elsewhere by now.
    Follow,
    /// Let nobody call for so long; then this one may come again.
    WaitOut(Duration),
    /// Let nobody call for so long, and leave it at that.
    Pause(Duration),
    /// Come again after about so long.
    Again(Duration),
}

impl Healing {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, proven: false, relocated: false, waited_out: false, failures: 0 }
    }

    /// What helps against this. 401 and 421 say that nothing was done, so that whatever was asked may be asked again.
    pub(super) fn remedy(
        &mut self,
        outcome: Result<Verdict, &SendError>,
        old_credential: bool,
    ) -> Remedy {
        match outcome {
            Ok(Verdict::CredentialRefused) => self.prove(),
            Ok(Verdict::Forbidden) if old_credential => self.prove(),
            Ok(Verdict::Misdirected) if !std::mem::replace(&mut self.relocated, true) => {
                Remedy::Relocate
            }
            Ok(Verdict::Throttled { retry_after }) => {
                let first = !std::mem::replace(&mut self.waited_out, true);
                if first && self.kind == Kind::Question {
                    Remedy::WaitOut(retry_after)
                } else {
                    Remedy::Pause(retry_after)
                }
            }
            Ok(Verdict::Failed) | Err(SendError::NotSent(_) | SendError::Broken(_)) => self.again(),
            // A time-out has used up the caller's patience.
            Ok(Verdict::Done { .. } | Verdict::Forbidden | Verdict::Misdirected)
            | Err(SendError::TimedOut(_) | SendError::Unsendable(_)) => Remedy::None,
        }
    }

    /// The remedy for a failed call that may be made once more, and whose tenant is at another address by now. It
    /// follows once, like after HTTP 421.
    pub(super) fn follow(&mut self, outcome: Result<Verdict, &SendError>) -> Remedy {
        let again = std::mem::replace(&mut self.relocated, true);
        if again { self.remedy(outcome, false) } else { Remedy::Follow }
    }

    fn prove(&mut self) -> Remedy {
        let again = std::mem::replace(&mut self.proven, true);
        if again { Remedy::None } else { Remedy::ProveCredential }
    }

    fn again(&mut self) -> Remedy {
        if self.kind == Kind::Order || self.failures >= MORE_ATTEMPTS {
            return Remedy::None;
        }
        let pause = FIRST_PAUSE * 4_u32.pow(self.failures);
        self.failures += 1;
        Remedy::Again(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const THROTTLED: Verdict = Verdict::Throttled { retry_after: SECOND };

    fn remedies(kind: Kind, verdict: Verdict) -> [Remedy; 4] {
        let mut healing = Healing::new(kind);
        [(); 4].map(|()| healing.remedy(Ok(verdict), false))
    }

    #[test]
    fn a_refused_credential_is_proven_once_whatever_was_asked() {
        for kind in [Kind::Question, Kind::Order] {
            let remedies = remedies(kind, Verdict::CredentialRefused);
            assert_eq!(remedies[..2], [Remedy::ProveCredential, Remedy::None]);
        }
    }

    #[test]
    fn forbidden_is_about_the_credential_only_if_that_is_old() {
        assert_eq!(remedies(Kind::Question, Verdict::Forbidden), [Remedy::None; 4]);
        let mut healing = Healing::new(Kind::Question);
        let forbidden = Ok(Verdict::Forbidden);
        assert_eq!(healing.remedy(forbidden, true), Remedy::ProveCredential);
        assert_eq!(healing.remedy(forbidden, true), Remedy::None);
    }

    #[test]
    fn a_tenant_that_moved_is_looked_for_once_whatever_was_asked() {
        for kind in [Kind::Question, Kind::Order] {
            let remedies = remedies(kind, Verdict::Misdirected);
            assert_eq!(remedies[..2], [Remedy::Relocate, Remedy::None]);
        }
    }

    #[test]
    fn a_call_follows_its_tenant_once_and_not_after_421_too() {
        let error = SendError::NotSent(String::new());
        for kind in [Kind::Question, Kind::Order] {
            let mut healing = Healing::new(kind);
            assert_eq!(healing.follow(Err(&error)), Remedy::Follow);
            assert_ne!(healing.follow(Err(&error)), Remedy::Follow);
            assert_eq!(healing.remedy(Ok(Verdict::Misdirected), false), Remedy::None);
        }
    }

    #[test]
    fn a_question_is_asked_again_once_after_a_pause_and_anything_else_never() {
        let (wait, pause) = (Remedy::WaitOut(SECOND), Remedy::Pause(SECOND));
        assert_eq!(remedies(Kind::Question, THROTTLED), [wait, pause, pause, pause]);
        assert_eq!(remedies(Kind::Order, THROTTLED), [pause; 4]);
    }

    #[test]
    fn a_question_is_asked_at_most_twice_more_after_failures_and_anything_else_never() {
        let again = |milliseconds| Remedy::Again(Duration::from_millis(milliseconds));
        let more = [again(100), again(400), Remedy::None, Remedy::None];
        assert_eq!(remedies(Kind::Question, Verdict::Failed), more);
        assert_eq!(remedies(Kind::Order, Verdict::Failed), [Remedy::None; 4]);
        let errors = [SendError::NotSent(String::new()), SendError::Broken(String::new())];
        for error in errors {
            let (mut question, mut order) =
                (Healing::new(Kind::Question), Healing::new(Kind::Order));
            assert_eq!([(); 4].map(|()| question.remedy(Err(&error), false)), more, "{error}");
            assert_eq!(order.remedy(Err(&error), false), Remedy::None, "{error}");
        }
    }

    #[test]
    fn nothing_is_done_about_an_answer_or_a_time_out() {
        for success in [true, false] {
            assert_eq!(remedies(Kind::Question, Verdict::Done { success }), [Remedy::None; 4]);
        }
        let timed_out = SendError::TimedOut(String::new());
        assert_eq!(Healing::new(Kind::Question).remedy(Err(&timed_out), false), Remedy::None);
    }
}
