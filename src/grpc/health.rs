//! The health of the server and of each service, for `grpc.health.v1.Health`.

use std::sync::Arc;

use tonic_health::{ServingStatus, server::HealthReporter};

/// The full name of the health service.
pub(super) const NAME: &str = "grpc.health.v1.Health";

/// Sets the state that `grpc.health.v1.Health` reports, of the server and of each service.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    services: Arc<[&'static str]>,
}

impl Health {
    /// Returns the health of these services.
    pub(super) fn new(reporter: HealthReporter, services: Arc<[&'static str]>) -> Self {
        Self { reporter, services }
    }

    /// Sets the status to serving.
    pub async fn set_serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// Sets the status to not serving.
    pub async fn set_not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends all `Health/Watch` streams, which would otherwise keep their connections open.
    pub async fn end_watches(&self) {
        let mut reporter = self.reporter.clone();
        for service in self.services.iter().chain(&[""]) {
            reporter.clear_service_status(service).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        self.reporter.set_service_status("", status).await;
        for service in self.services.iter().filter(|service| **service != NAME) {
            self.reporter.set_service_status(*service, status).await;
        }
    }
}
