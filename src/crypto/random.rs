//! Random bytes of the system.

use crate::ports::Random;

/// The number of attempts. The library collects new entropy at each.
const ATTEMPTS: usize = 3;

/// Random bytes of the cryptographic library, which the operating system seeds.
///
/// There is no fallback to a weaker source, because the bytes identify credentials and protect consents: a guessable or
/// repeated value is worse than none. If the library provides no random bytes, the process aborts. The library aborts
/// by itself in this case, so the abort here only completes the function's type.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for _ in 0..ATTEMPTS {
            if aws_lc_rs::rand::fill(&mut bytes).is_ok() {
                return bytes;
            }
        }
        std::process::abort()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    #[test]
    fn bytes_do_not_repeat() {
        let drawn: HashSet<_> = (0..10_000).map(|_| SystemRandom.bytes()).collect();
        assert_eq!(drawn.len(), 10_000);
    }

    #[test]
    fn jitter_stays_around_its_base() {
        let base = Duration::from_secs(10);
        for _ in 0..1_000 {
            let jitter = SystemRandom.jitter(base);
            assert!((base / 2..=base * 3 / 2).contains(&jitter), "{jitter:?}");
        }
    }
}
