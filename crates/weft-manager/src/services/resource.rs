//! `ResourceAllocator`: addresses for containers outside services.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use weft_wire::swarmkit::{
    AttachNetworkRequest, AttachNetworkResponse, DetachNetworkRequest, DetachNetworkResponse,
    resource_allocator_server,
};

use super::attach_status;
use crate::auth::{MEMBERS, authorize};
use crate::brain::Brain;
use crate::network;

pub(super) struct ResourceAllocator(pub(super) Arc<Brain>);

#[async_trait]
impl resource_allocator_server::ResourceAllocator for ResourceAllocator {
    async fn attach_network(
        &self,
        request: Request<AttachNetworkRequest>,
    ) -> Result<Response<AttachNetworkResponse>, Status> {
        let brain = &self.0;
        let caller = authorize(&brain.core, &request, MEMBERS)?;
        let request = request.into_inner();
        let wanted =
            request.config.ok_or_else(|| Status::invalid_argument("invalid request: no network is named"))?;
        let id =
            network::attach(&brain.core, &brain.reports, &caller.node_id, &wanted, &request.container_id)
                .await
                .map_err(|error| attach_status(&error))?;
        Ok(Response::new(AttachNetworkResponse { attachment_id: id.to_string() }))
    }

    async fn detach_network(
        &self,
        request: Request<DetachNetworkRequest>,
    ) -> Result<Response<DetachNetworkResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        network::detach(&self.0.core, &caller.node_id, &request.into_inner().attachment_id)
            .await
            .map_err(|error| attach_status(&error))?;
        Ok(Response::new(DetachNetworkResponse {}))
    }
}
