//! `RaftMembership`: not for foreign managers. A Docker manager in our Raft group would see all secrets and fight over
//! every default, so none is ever let in.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use weft_wire::swarmkit::{JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, raft_membership_server};

use crate::auth::{MANAGERS, authorize};
use crate::brain::Brain;

pub(super) struct RaftMembership(pub(super) Arc<Brain>);

#[async_trait]
impl raft_membership_server::RaftMembership for RaftMembership {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        authorize(&self.0.core, &request, MANAGERS)?;
        Err(Status::failed_precondition("a Weft swarm takes no other managers: its store is not SwarmKit's"))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        authorize(&self.0.core, &request, MANAGERS)?;
        Err(Status::failed_precondition("a Weft swarm has no SwarmKit managers that could leave"))
    }
}
