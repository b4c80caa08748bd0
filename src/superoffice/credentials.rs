//! The client secrets and private keys of one application, and which of them currently work.
//!
//! SuperOffice accepts one secret and one key at a time, without overlap. So a replacement is configured in advance and
//! tried when the first one is rejected. The one that last worked is used from then on.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use secrecy::SecretString;

use crate::ports::Signer;

/// The maximum number of trials a minute with a secret or key other than the last working one, for all tenants
/// together. Without it, each tenant and grant would multiply its calls while SuperOffice rejects all pairs. A change
/// of the secret needs one trial.
const TRIALS_A_MINUTE: u32 = 60;
const MINUTE: Duration = Duration::from_mins(1);

/// One or two client secrets and one or two private keys.
pub struct Credentials {
    secrets: Candidates<SecretString>,
    signers: Candidates<Arc<dyn Signer>>,
    trials: Mutex<Trials>,
    /// The number of changes of the working secret or key.
    credential_changes: AtomicU64,
}

/// The trials in the current minute, by the monotonic clock.
#[derive(Default)]
struct Trials {
    since: Duration,
    count: u32,
}

struct Candidates<T> {
    first: T,
    next: Option<T>,
    /// 0 for the first, 1 for the next.
    working: AtomicUsize,
}

/// A secret and a key to try together.
#[derive(Clone)]
pub(super) struct CredentialPair {
    pub(super) secret: SecretString,
    pub(super) signer: Arc<dyn Signer>,
    indices: (usize, usize),
}

impl Credentials {
    /// Takes the current secret and key, and the optional next ones.
    #[must_use]
    pub fn new(
        secret: SecretString,
        next_secret: Option<SecretString>,
        signer: Arc<dyn Signer>,
        next_signer: Option<Arc<dyn Signer>>,
    ) -> Self {
        Self {
            secrets: Candidates::new(secret, next_secret),
            signers: Candidates::new(signer, next_signer),
            trials: Mutex::default(),
            credential_changes: AtomicU64::new(0),
        }
    }

    /// Returns how often the working secret or key has changed.
    pub(super) fn credential_changes(&self) -> u64 {
        self.credential_changes.load(Ordering::Relaxed)
    }

    /// Counts a trial of another secret or key than the last working one. Returns whether it is allowed now.
    pub(super) fn may_try_another(&self, now: Duration) -> bool {
        let mut trials = self.trials.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(trials.since) >= MINUTE {
            *trials = Trials { since: now, count: 0 };
        }
        trials.count += 1;
        trials.count <= TRIALS_A_MINUTE
    }

    /// Returns the secret that last worked.
    pub(super) fn secret(&self) -> SecretString {
        self.secrets.working().1
    }

    /// Returns each secret with its number, the last working one first.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (usize, SecretString)> + use<> {
        self.secrets.in_order()
    }

    /// Records that the secret with this number works.
    pub(super) fn mark_secret_working(&self, number: usize) {
        self.count_change(self.secrets.set_working(number, "client secret"));
    }

    /// Returns every pair, the last working one first.
    pub(super) fn pairs(&self) -> Vec<CredentialPair> {
        let mut pairs = Vec::new();
        for (key, signer) in self.signers.in_order() {
            for (index, secret) in self.secrets.in_order() {
                pairs.push(CredentialPair {
                    secret,
                    signer: Arc::clone(&signer),
                    indices: (index, key),
                });
            }
        }
        pairs
    }

    /// Records that this pair works.
    pub(super) fn mark_pair_working(&self, pair: &CredentialPair) {
        let secret = self.secrets.set_working(pair.indices.0, "client secret");
        let key = self.signers.set_working(pair.indices.1, "private key");
        self.count_change(secret || key);
    }

    fn count_change(&self, changed: bool) {
        if changed {
            self.credential_changes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<T: Clone> Candidates<T> {
    fn new(first: T, next: Option<T>) -> Self {
        Self { first, next, working: AtomicUsize::new(0) }
    }

    fn working(&self) -> (usize, T) {
        match (self.working.load(Ordering::Relaxed), &self.next) {
            (1, Some(next)) => (1, next.clone()),
            _ => (0, self.first.clone()),
        }
    }

    fn in_order(&self) -> impl Iterator<Item = (usize, T)> + use<T> {
        let working = self.working();
        let other = match working.0 {
            1 => Some((0, self.first.clone())),
            _ => self.next.clone().map(|next| (1, next)),
        };
        std::iter::once(working).chain(other)
    }

    /// Makes this the working candidate. Returns whether it was another one before.
    fn set_working(&self, index: usize, what: &'static str) -> bool {
        let changed = self.working.swap(index, Ordering::Relaxed) != index;
        if changed {
            let now = if index == 0 { "the first" } else { "the next" };
            tracing::warn!(
                what,
                now,
                "SuperOffice now accepts the other configured credential; finish the rotation"
            );
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::ports::SignError;

    struct Named(&'static str);

    impl Signer for Named {
        fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
            Ok(self.0.as_bytes().to_vec())
        }
    }

    fn names(credentials: &Credentials) -> Vec<String> {
        let name = |pair: &CredentialPair| {
            let key = String::from_utf8(pair.signer.sign(b"").unwrap()).unwrap();
            format!("{}{key}", pair.secret.expose_secret())
        };
        credentials.pairs().iter().map(name).collect()
    }

    #[test]
    fn tries_every_pair_once_and_the_working_one_first() {
        let next_key: Arc<dyn Signer> = Arc::new(Named("k2"));
        let two =
            Credentials::new("s1".into(), Some("s2".into()), Arc::new(Named("k1")), Some(next_key));
        assert_eq!(names(&two), ["s1k1", "s2k1", "s1k2", "s2k2"]);
        two.mark_pair_working(two.pairs().last().unwrap());
        assert_eq!(names(&two), ["s2k2", "s1k2", "s2k1", "s1k1"]);
        assert_eq!(two.secret().expose_secret(), "s2");
        two.mark_secret_working(0);
        assert_eq!(two.secret().expose_secret(), "s1");
        assert_eq!(two.credential_changes(), 2);
        let one = Credentials::new("s1".into(), None, Arc::new(Named("k1")), None);
        assert_eq!(names(&one), ["s1k1"]);
        assert_eq!(one.secrets().count(), 1);
    }

    #[test]
    fn limits_trials_of_other_credentials_per_minute() {
        let credentials = Credentials::new("s1".into(), None, Arc::new(Named("k1")), None);
        for minute in [0, 1, 7] {
            let tried = (0..60).map(|second| Duration::from_secs(60 * minute + second));
            let tried = tried.flat_map(|now| [now, now, now]);
            let tried = tried.filter(|now| credentials.may_try_another(*now)).count();
            assert_eq!(tried, TRIALS_A_MINUTE as usize);
        }
    }
}
