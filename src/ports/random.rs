//! Randomness, passed in.

use std::time::Duration;

/// A source of random bytes good enough for ids and jitter. Keys and nonces are made inside `crypto`.
pub trait Random: Send + Sync + 'static {
    /// Sixteen random bytes.
    fn bytes(&self) -> [u8; 16];

    /// A duration between half of `base` and one and a half of it, so that many who wait do not return together.
    fn jitter(&self, base: Duration) -> Duration {
        let [first, second, ..] = self.bytes();
        let share = f64::from(u16::from_be_bytes([first, second])) / f64::from(u16::MAX);
        base.mul_f64(0.5 + share)
    }
}
