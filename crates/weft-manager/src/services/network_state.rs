//! `weft.v1.NetworkState`: a worker reports only for itself and sees only the networks it is on.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status, async_trait};
use weft_wire::weft_v1::{
    AckRequest, AckResponse, DepartRequest, DepartResponse, HandoverRequest, HandoverResponse, ReportRequest,
    ReportResponse, WatchMessage, WatchRequest, network_state_server,
};

use super::dispatcher::session_status;
use super::{Answers, boxed, consensus_status};
use crate::auth::{Caller, MEMBERS, authorize};
use crate::brain::Brain;
use crate::dispatcher::{self, Session};
use crate::network_state::{self, Acknowledged, HandoverError, ReportError, Turn};

pub(super) struct NetworkState(pub(super) Arc<Brain>);

impl NetworkState {
    #[allow(clippy::result_large_err, reason = "tonic's own error type; every caller returns it as it is")]
    fn session(&self, caller: &Caller, session_id: &str) -> Result<Arc<Session>, Status> {
        self.0.sessions.check(&caller.node_id, session_id).map_err(|error| session_status(&error))
    }
}

impl NetworkState {
    async fn hand_over(
        &self,
        request: Request<HandoverRequest>,
        turn: Turn,
    ) -> Result<Response<HandoverResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        let HandoverRequest { session_id, task_ids, limit_ms } = request.into_inner();
        let session = self.session(&caller, &session_id)?;
        let limit = Duration::from_millis(limit_ms.into());
        let missing = network_state::hand_over(&self.0, &session, turn, &task_ids, limit)
            .await
            .map_err(|error| handover_status(&error))?;
        Ok(Response::new(HandoverResponse { missing }))
    }
}

#[async_trait]
impl network_state_server::NetworkState for NetworkState {
    type WatchStream = Answers<WatchMessage>;

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        self.session(&caller, &request.get_ref().session_id)?;
        let index = network_state::report(&self.0, &caller.node_id, request.into_inner())
            .await
            .map_err(|error| report_status(&error))?;
        Ok(Response::new(ReportResponse { index }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        let session = self.session(&caller, &request.get_ref().session_id)?;
        let stream = network_state::watch(Arc::clone(&self.0), session, request.into_inner().network_ids)
            .map_err(|error| Status::permission_denied(error.to_string()))?;
        Ok(Response::new(boxed(stream)))
    }

    async fn ack(&self, request: Request<AckRequest>) -> Result<Response<AckResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        self.session(&caller, &request.get_ref().session_id)?;
        let AckRequest { index, network_id, error, .. } = request.into_inner();
        if !network_state::networks_of_node(&self.0.core.view(), &caller.node_id).contains(&network_id) {
            return Err(Status::permission_denied(format!(
                "node {} has no endpoint on network {network_id}",
                caller.node_id
            )));
        }
        self.0.progress.acknowledge(&caller.node_id, &network_id, Acknowledged { index, error });
        Ok(Response::new(AckResponse {}))
    }

    async fn drain(&self, request: Request<HandoverRequest>) -> Result<Response<HandoverResponse>, Status> {
        self.hand_over(request, Turn::Drain).await
    }

    async fn settle(&self, request: Request<HandoverRequest>) -> Result<Response<HandoverResponse>, Status> {
        self.hand_over(request, Turn::Settle).await
    }

    async fn depart(&self, request: Request<DepartRequest>) -> Result<Response<DepartResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        let session = self.session(&caller, &request.get_ref().session_id)?;
        dispatcher::depart(&self.0, &session).await;
        Ok(Response::new(DepartResponse {}))
    }
}

fn handover_status(error: &HandoverError) -> Status {
    match error {
        HandoverError::Foreign { .. } => Status::permission_denied(error.to_string()),
        HandoverError::Ended => Status::aborted(error.to_string()),
    }
}

fn report_status(error: &ReportError) -> Status {
    let text = error.to_string();
    match error {
        ReportError::Address(_)
        | ReportError::Mtu(_)
        | ReportError::Subnets(_)
        | ReportError::Malformed { .. }
        | ReportError::Twice(_) => Status::invalid_argument(text),
        ReportError::Foreign { .. } => Status::permission_denied(text),
        ReportError::NoSuchNode => Status::not_found(text),
        ReportError::Contention => Status::aborted(text),
        ReportError::Consensus(error) => consensus_status(error),
    }
}
