//! Connections that wait for a slot of the [`ConnectionLimiter`], because their address holds its share of the slots.
//! All addresses share one queue.

use std::{
    collections::{HashSet, VecDeque},
    future::pending,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::{
    OPENING_TIME,
    connection_limiter::{ConnectionLimiter, ConnectionSlot},
};
use crate::domain::client_network;

/// The maximum number of waiting connections; further ones are rejected.
const MAX_WAITING: usize = 4096;

/// The interval between two checks for free slots.
const WAITING_PAUSE: Duration = Duration::from_millis(20);

/// The queue of connections without a slot is full.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "too many connections wait for a slot (limit {MAX_WAITING}); close idle connections, or send a \
     permitted request on each"
)]
pub(super) struct QueueFull;

/// Connections without a slot. Each costs one socket.
#[derive(Default)]
pub(super) struct WaitingConnections {
    waiting: VecDeque<Waiting>,
    next_check: Option<Instant>,
}

struct Waiting {
    tcp: TcpStream,
    peer: SocketAddr,
    since: Instant,
}

impl WaitingConnections {
    /// Queues a connection.
    ///
    /// # Errors
    /// If the queue is full.
    pub(super) fn push(&mut self, tcp: TcpStream, peer: SocketAddr) -> Result<(), QueueFull> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(QueueFull);
        }
        let since = Instant::now();
        self.waiting.push_back(Waiting { tcp, peer, since });
        self.next_check.get_or_insert(since + WAITING_PAUSE);
        Ok(())
    }

    /// Completes when the next check is due. Never completes if no connection waits.
    pub(super) async fn wait_for_next_check(&self) {
        match self.next_check {
            Some(next) => sleep_until(next).await,
            None => pending().await,
        }
    }

    /// Returns the connections that get a slot, and drops those that have waited too long.
    pub(super) fn take_admitted(
        &mut self,
        limiter: &ConnectionLimiter,
    ) -> Vec<(TcpStream, SocketAddr, Arc<ConnectionSlot>)> {
        let now = Instant::now();
        self.waiting.retain(|waiting| now.saturating_duration_since(waiting.since) < OPENING_TIME);
        let (mut admitted, mut refused) = (Vec::new(), HashSet::new());
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else { break };
            let address = client_network(waiting.peer.ip());
            // If one connection of an address gets no slot, the others of this address get none either.
            let slot = if refused.contains(&address) { None } else { limiter.take(address).ok() };
            if let Some(slot) = slot {
                admitted.push((waiting.tcp, waiting.peer, slot));
            } else {
                refused.insert(address);
                self.waiting.push_back(waiting);
            }
        }
        self.next_check = (!self.waiting.is_empty()).then(|| now + WAITING_PAUSE);
        admitted
    }
}
