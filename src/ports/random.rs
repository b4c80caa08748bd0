//! The source of randomness: use cases receive it as a parameter.

use std::time::Duration;

/// A source of random bytes for ids and jitter. Keys and nonces are generated inside `crypto`.
pub trait Random: Send + Sync + 'static {
    /// Returns sixteen random bytes.
    fn bytes(&self) -> [u8; 16];

    /// Returns a random duration between 0.5 and 1.5 times `base`, so that many waiters do not retry at the same time.
    fn jitter(&self, base: Duration) -> Duration {
        let [first, second, ..] = self.bytes();
        let share = f64::from(u16::from_be_bytes([first, second])) / f64::from(u16::MAX);
        base.mul_f64(0.5 + share)
    }
}
