//! `Health`: managers ask each other.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use weft_wire::swarmkit::health_check_response::ServingStatus;
use weft_wire::swarmkit::{HealthCheckRequest, HealthCheckResponse, health_server};

use crate::auth::{MANAGERS, authorize};
use crate::brain::Brain;

pub(super) struct Health(pub(super) Arc<Brain>);

#[async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        authorize(&self.0.core, &request, MANAGERS)?;
        match request.into_inner().service.as_str() {
            "" | "Raft" => Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() })),
            _ => Err(Status::not_found("unknown service")),
        }
    }
}
