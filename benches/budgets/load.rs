//! Load on a server for the time of a round. The same code measures the gateway and its references.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{runtime::Runtime, task::JoinSet};
use tonic::transport::Channel;

use super::{server::cpu_micros, statistics::Round};

/// The number of HTTP/2 connections that the gRPC callers share.
const CONNECTIONS: usize = 4;

/// The time after the end of a round by which all calls must have ended.
const GRACE: Duration = Duration::from_secs(30);

/// A caller, which makes one call at a time.
pub(crate) trait Caller: Send + 'static {
    /// Makes a call, and panics if it fails.
    fn call(&mut self) -> impl Future<Output = ()> + Send;
}

/// Lets all callers call until the round is over, and measures the calls and the processor time of the process `pid`.
pub(crate) fn measure<C: Caller>(
    runtime: &Runtime,
    pid: u32,
    length: Duration,
    callers: impl Future<Output = Vec<C>>,
) -> Round {
    runtime.block_on(async {
        let callers = callers.await;
        let before = cpu_micros(pid);
        let begin = Instant::now();
        let mut running = JoinSet::new();
        for mut caller in callers {
            running.spawn(async move {
                let mut micros = Vec::new();
                while begin.elapsed() < length {
                    let call = Instant::now();
                    caller.call().await;
                    micros.push(call.elapsed().as_secs_f64() * 1e6);
                }
                micros
            });
        }
        let micros = tokio::time::timeout(length + GRACE, running.join_all()).await;
        let micros: Vec<f64> = micros.unwrap().into_iter().flatten().collect();
        Round::new(micros, begin.elapsed().as_secs_f64(), cpu_micros(pid) - before)
    })
}

/// Opens a connection.
pub(crate) async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Opens connections, and returns one for each of so many callers.
pub(crate) async fn channels(address: SocketAddr, callers: usize) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS.min(callers) {
        channels.push(channel(address).await);
    }
    channels.into_iter().cycle().take(callers).collect()
}
