//! Reading again what may have changed outside, without a restart.

use async_trait::async_trait;

/// Something that can be read again while it is in use. What is wrong with the new is logged by the
/// implementation, and the old stays in force.
#[async_trait]
pub trait Reloadable: Send + Sync + 'static {
    /// Reads it again, now.
    async fn reload(&self);
}
