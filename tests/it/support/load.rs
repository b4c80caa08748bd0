//! Many concurrent callers that keep the result of each call.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tenant_gateway::grpc::pb;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{APPLICATION, binary::Served, issue};

/// One call, and its result: the request id, or the error.
pub(crate) struct FinishedCall {
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
    pub(crate) end: Result<String, Status>,
}

/// Callers that request tickets, and now and then add a tenant.
pub(crate) struct Load {
    callers: JoinSet<()>,
    answered: Arc<Mutex<Vec<FinishedCall>>>,
    enough: CancellationToken,
}

impl Load {
    /// Starts the callers. `tenant` must have a ticket. `changes` is a two-digit number that is new for this store;
    /// without it no tenants are added.
    pub(crate) async fn start(
        served: &Served,
        tenant: &str,
        callers: usize,
        changes: Option<usize>,
    ) -> Self {
        let (answered, enough) = (Arc::<Mutex<Vec<_>>>::default(), CancellationToken::new());
        let mut load = Self {
            callers: JoinSet::new(),
            answered: Arc::clone(&answered),
            enough: enough.clone(),
        };
        for caller in 0..callers {
            let channel = served.channel().await;
            let mut tokens = pb::token_service_client::TokenServiceClient::new(channel.clone());
            let mut tenants = pb::tenant_service_client::TenantServiceClient::new(channel);
            let (answered, enough, tenant) =
                (Arc::clone(&answered), enough.clone(), tenant.to_owned());
            load.callers.spawn(async move {
                for call in 0.. {
                    if enough.is_cancelled() {
                        return;
                    }
                    let begun = Instant::now();
                    let metadata = match changes.filter(|_| call % 16 == 15) {
                        None => tokens
                            .issue_system_ticket(issue(&tenant))
                            .await
                            .map(|answer| answer.metadata().clone()),
                        Some(changes) => {
                            let create = pb::CreateTenantRequest {
                                parent: format!("applications/{APPLICATION}"),
                                tenant_id: format!("Cust9{changes:02}{caller:02}{call:05}"),
                                tenant: None,
                            };
                            let created = tenants.create_tenant(create).await;
                            created.map(|answer| answer.metadata().clone())
                        }
                    };
                    let id = |metadata: tonic::metadata::MetadataMap| {
                        metadata.get("x-request-id").unwrap().to_str().unwrap().to_owned()
                    };
                    let end = metadata.map(id);
                    let refused = end.is_err();
                    let took = begun.elapsed();
                    answered.lock().unwrap().push(FinishedCall { begun, took, end });
                    if refused {
                        // Avoids a busy loop once the program has ended.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            });
        }
        load
    }

    pub(crate) fn count(&self) -> usize {
        self.answered.lock().unwrap().len()
    }

    /// Stops the callers after their current calls, and returns all results.
    pub(crate) async fn end(mut self) -> Vec<FinishedCall> {
        self.enough.cancel();
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
        std::mem::take(&mut *self.answered.lock().unwrap())
    }
}

/// Returns the request ids of the successful calls.
pub(crate) fn succeeded(answered: &[FinishedCall]) -> Vec<String> {
    answered.iter().filter_map(|answered| answered.end.as_ref().ok().cloned()).collect()
}
