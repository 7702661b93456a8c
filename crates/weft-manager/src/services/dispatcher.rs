//! `Dispatcher`: the conversation with every node.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use weft_wire::swarmkit::{
    AssignmentsMessage, AssignmentsRequest, HeartbeatRequest, HeartbeatResponse, SessionMessage,
    SessionRequest, TasksMessage, TasksRequest, UpdateTaskStatusRequest, UpdateTaskStatusResponse,
    UpdateVolumeStatusRequest, UpdateVolumeStatusResponse, dispatcher_server,
};

use super::{Answers, boxed, consensus_status};
use crate::auth::{Caller, MEMBERS, authorize};
use crate::brain::Brain;
use crate::dispatcher::{self, RegisterError, Session, SessionError, UpdateError};

pub(super) struct Dispatcher(pub(super) Arc<Brain>);

impl Dispatcher {
    #[allow(clippy::result_large_err, reason = "tonic's own error type; every caller returns it as it is")]
    fn session(&self, caller: &Caller, session_id: &str) -> Result<Arc<Session>, Status> {
        self.0.sessions.check(&caller.node_id, session_id).map_err(|error| session_status(&error))
    }
}

#[async_trait]
impl dispatcher_server::Dispatcher for Dispatcher {
    type SessionStream = Answers<SessionMessage>;
    type TasksStream = Answers<TasksMessage>;
    type AssignmentsStream = Answers<AssignmentsMessage>;

    async fn session(
        &self,
        request: Request<SessionRequest>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        let request = request.into_inner();
        let session = dispatcher::register(
            &self.0,
            &caller.node_id,
            caller.remote.ip(),
            &request.session_id,
            request.description,
        )
        .await
        .map_err(|error| register_status(&error))?;
        Ok(Response::new(boxed(dispatcher::session_messages(Arc::clone(&self.0.core), session))))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        let session = self.session(&caller, &request.get_ref().session_id)?;
        dispatcher::beat(&self.0.core, &session).await;
        let period = dispatcher::jittered(&self.0.core);
        Ok(Response::new(HeartbeatResponse { period: period.try_into().ok() }))
    }

    async fn update_task_status(
        &self,
        request: Request<UpdateTaskStatusRequest>,
    ) -> Result<Response<UpdateTaskStatusResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        let request = request.into_inner();
        self.session(&caller, &request.session_id)?;
        let updates = request.updates.into_iter().filter_map(|update| Some((update.task_id, update.status?)));
        dispatcher::update_task_status(&self.0.core, &caller.node_id, updates.collect())
            .await
            .map_err(|error| update_status(&error))?;
        Ok(Response::new(UpdateTaskStatusResponse {}))
    }

    /// No volumes are ever assigned.
    async fn update_volume_status(
        &self,
        request: Request<UpdateVolumeStatusRequest>,
    ) -> Result<Response<UpdateVolumeStatusResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        self.session(&caller, &request.get_ref().session_id)?;
        Ok(Response::new(UpdateVolumeStatusResponse {}))
    }

    /// What nodes older than any that we speak to used.
    async fn tasks(&self, request: Request<TasksRequest>) -> Result<Response<Self::TasksStream>, Status> {
        authorize(&self.0.core, &request, MEMBERS)?;
        Err(Status::unimplemented("use Assignments"))
    }

    async fn assignments(
        &self,
        request: Request<AssignmentsRequest>,
    ) -> Result<Response<Self::AssignmentsStream>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        let session = self.session(&caller, &request.get_ref().session_id)?;
        Ok(Response::new(boxed(dispatcher::assignments(Arc::clone(&self.0), session))))
    }
}

pub(super) fn session_status(error: &SessionError) -> Status {
    let text = error.to_string();
    match error {
        SessionError::NotRegistered => Status::not_found(text),
        SessionError::Invalid => Status::invalid_argument(text),
        SessionError::RateLimit(_) => Status::unavailable(text),
    }
}

fn register_status(error: &RegisterError) -> Status {
    match error {
        RegisterError::NoSuchNode => Status::not_found(error.to_string()),
        RegisterError::Session(error) => session_status(error),
        RegisterError::Contention => Status::aborted(error.to_string()),
        RegisterError::Consensus(error) => consensus_status(error),
    }
}

fn update_status(error: &UpdateError) -> Status {
    match error {
        UpdateError::ForeignTask => Status::permission_denied(error.to_string()),
        UpdateError::Contention => Status::aborted(error.to_string()),
        UpdateError::Consensus(error) => consensus_status(error),
    }
}
