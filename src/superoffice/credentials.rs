//! The secrets and keys of one application, and which of them work now.
//!
//! The platform knows one secret and one key at a time, without overlap (SUPEROFFICE.md 3), so a replacement is
//! configured beforehand as the next one and tried when the first is refused. The one that last worked is used
//! from then on.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use secrecy::SecretString;

use crate::ports::Signer;

/// While SuperOffice refuses all pairs, each tenant and grant would multiply its calls by their number. The others than
/// the one that last worked are tried this often in a minute, for all tenants together: a change of the secret needs one.
const TRIALS_A_MINUTE: u32 = 60;
const MINUTE: Duration = Duration::from_mins(1);

/// One secret and one key, or two.
pub struct Credentials {
    secrets: Candidates<SecretString>,
    signers: Candidates<Arc<dyn Signer>>,
    trials: Mutex<Trials>,
    changes: AtomicU64,
}

/// Trials since the beginning of a minute, by the monotonic clock.
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
pub(super) struct Pair {
    pub(super) secret: SecretString,
    pub(super) signer: Arc<dyn Signer>,
    indices: (usize, usize),
}

impl Credentials {
    /// What is configured now, and what is configured to come.
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
            changes: AtomicU64::new(0),
        }
    }

    /// Counts how often another secret or key than before was found to work.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Whether another secret or key than the one that last worked may be tried now; takes one trial if so.
    pub(super) fn may_try_another(&self, now: Duration) -> bool {
        let mut trials = self.trials.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(trials.since) >= MINUTE {
            *trials = Trials { since: now, count: 0 };
        }
        trials.count += 1;
        trials.count <= TRIALS_A_MINUTE
    }

    /// The secret that last worked.
    pub(super) fn secret(&self) -> SecretString {
        self.secrets.working().1
    }

    /// Each secret and its number, the one that last worked first.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (usize, SecretString)> + use<> {
        self.secrets.in_order()
    }

    /// The secret of this number has been seen to work.
    pub(super) fn secret_works(&self, number: usize) {
        self.note(self.secrets.use_from_now_on(number, "client secret"));
    }

    /// Every pair, those that last worked first.
    pub(super) fn pairs(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (key, signer) in self.signers.in_order() {
            for (index, secret) in self.secrets.in_order() {
                pairs.push(Pair { secret, signer: Arc::clone(&signer), indices: (index, key) });
            }
        }
        pairs
    }

    /// This pair has been seen to work.
    pub(super) fn works(&self, pair: &Pair) {
        let secret = self.secrets.use_from_now_on(pair.indices.0, "client secret");
        let key = self.signers.use_from_now_on(pair.indices.1, "private key");
        self.note(secret || key);
    }

    fn note(&self, changed: bool) {
        if changed {
            self.changes.fetch_add(1, Ordering::Relaxed);
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

    /// Returns whether it is another one than before.
    fn use_from_now_on(&self, index: usize, what: &'static str) -> bool {
        let changed = self.working.swap(index, Ordering::Relaxed) != index;
        if changed {
            let now = if index == 0 { "the first" } else { "the next" };
            tracing::warn!(
                what,
                now,
                "SuperOffice takes another one than before; finish the rotation"
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
        let name = |pair: &Pair| {
            let key = String::from_utf8(pair.signer.sign(b"").unwrap()).unwrap();
            format!("{}{key}", pair.secret.expose_secret())
        };
        credentials.pairs().iter().map(name).collect()
    }

    #[test]
    fn every_pair_is_tried_once_and_what_worked_is_tried_first() {
        let next_key: Arc<dyn Signer> = Arc::new(Named("k2"));
        let two =
            Credentials::new("s1".into(), Some("s2".into()), Arc::new(Named("k1")), Some(next_key));
        assert_eq!(names(&two), ["s1k1", "s2k1", "s1k2", "s2k2"]);
        two.works(two.pairs().last().unwrap());
        assert_eq!(names(&two), ["s2k2", "s1k2", "s2k1", "s1k1"]);
        assert_eq!(two.secret().expose_secret(), "s2");
        two.secret_works(0);
        assert_eq!(two.secret().expose_secret(), "s1");
        assert_eq!(two.changes(), 2);
        let one = Credentials::new("s1".into(), None, Arc::new(Named("k1")), None);
        assert_eq!(names(&one), ["s1k1"]);
        assert_eq!(one.secrets().count(), 1);
    }

    #[test]
    fn trials_of_other_secrets_and_keys_are_limited_a_minute() {
        let credentials = Credentials::new("s1".into(), None, Arc::new(Named("k1")), None);
        for minute in [0, 1, 7] {
            let tried = (0..60).map(|second| Duration::from_secs(60 * minute + second));
            let tried = tried.flat_map(|now| [now, now, now]);
            let tried = tried.filter(|now| credentials.may_try_another(*now)).count();
            assert_eq!(tried, TRIALS_A_MINUTE as usize);
        }
    }
}
