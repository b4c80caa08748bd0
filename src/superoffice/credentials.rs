//! The secrets and keys of one application, and which of them work now.
//!
//! The platform knows one secret and one key at a time, without overlap (SUPEROFFICE.md 3), so a replacement is
//! configured beforehand as the next one and tried when the first is refused. The one that last worked is used
//! from then on.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use secrecy::SecretString;

use crate::ports::Signer;

/// One secret and one key, or two.
pub struct Credentials {
    secrets: Candidates<SecretString>,
    signers: Candidates<Arc<dyn Signer>>,
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
        }
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
        self.secrets.use_from_now_on(number, "client secret");
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
        self.secrets.use_from_now_on(pair.indices.0, "client secret");
        self.signers.use_from_now_on(pair.indices.1, "private key");
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

    fn use_from_now_on(&self, index: usize, what: &'static str) {
        if self.working.swap(index, Ordering::Relaxed) != index {
            let now = if index == 0 { "the first" } else { "the next" };
            tracing::warn!(
                what,
                now,
                "SuperOffice takes another one than before; finish the rotation"
            );
        }
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
        let one = Credentials::new("s1".into(), None, Arc::new(Named("k1")), None);
        assert_eq!(names(&one), ["s1k1"]);
        assert_eq!(one.secrets().count(), 1);
    }
}
