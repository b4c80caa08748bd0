//! Connections that wait for a slot of the [`ConnectionLimiter`]: those of an address that has the most.

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
    accept::OPENING_TIME,
    connection_limiter::{ConnectionLimiter, ConnectionSlot, TooManyConnections},
};
use crate::domain::site;

/// Connections that wait; others are refused.
const MAX_WAITING: usize = 4096;

/// The time between two looks for slots.
const WAITING_PAUSE: Duration = Duration::from_millis(20);

/// Connections that have no slot yet. They cost a socket each.
#[derive(Default)]
pub(super) struct WaitingRoom {
    waiting: VecDeque<Waiting>,
    next_look: Option<Instant>,
}

struct Waiting {
    tcp: TcpStream,
    peer: SocketAddr,
    since: Instant,
}

impl WaitingRoom {
    /// Lets a new connection wait.
    ///
    /// # Errors
    /// If too many wait.
    pub(super) fn enter(
        &mut self,
        tcp: TcpStream,
        peer: SocketAddr,
    ) -> Result<(), TooManyConnections> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(TooManyConnections);
        }
        let since = Instant::now();
        self.waiting.push_back(Waiting { tcp, peer, since });
        self.next_look.get_or_insert(since + WAITING_PAUSE);
        Ok(())
    }

    /// Completes when it is time to look for slots. Never, if none waits.
    pub(super) async fn pause(&self) {
        match self.next_look {
            Some(next) => sleep_until(next).await,
            None => pending().await,
        }
    }

    /// Takes out the connections that get a slot, and drops those that have waited too long.
    pub(super) fn admitted(
        &mut self,
        limiter: &ConnectionLimiter,
    ) -> Vec<(TcpStream, SocketAddr, Arc<ConnectionSlot>)> {
        let now = Instant::now();
        self.waiting.retain(|waiting| now.saturating_duration_since(waiting.since) < OPENING_TIME);
        let (mut admitted, mut refused) = (Vec::new(), HashSet::new());
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else { break };
            let address = site(waiting.peer.ip());
            // If one of an address gets no slot, the others get none either.
            let slot = if refused.contains(&address) { None } else { limiter.take(address).ok() };
            if let Some(slot) = slot {
                admitted.push((waiting.tcp, waiting.peer, slot));
            } else {
                refused.insert(address);
                self.waiting.push_back(waiting);
            }
        }
        self.next_look = (!self.waiting.is_empty()).then(|| now + WAITING_PAUSE);
        admitted
    }
}
