//! `Logs`: managers that do not lead read output of tasks here.

use std::sync::Arc;

use futures_util::stream;
use tonic::{Request, Response, Status, async_trait};
use weft_wire::swarmkit::{SubscribeLogsMessage, SubscribeLogsRequest, logs_server};

use super::{Answers, boxed};
use crate::auth::{MANAGERS, authorize};
use crate::brain::Brain;

pub(super) struct Logs(pub(super) Arc<Brain>);

#[async_trait]
impl logs_server::Logs for Logs {
    type SubscribeLogsStream = Answers<SubscribeLogsMessage>;

    async fn subscribe_logs(
        &self,
        request: Request<SubscribeLogsRequest>,
    ) -> Result<Response<Self::SubscribeLogsStream>, Status> {
        authorize(&self.0.core, &request, MANAGERS)?;
        if !self.0.core.leadership().borrow().leading {
            return Err(Status::unavailable("this manager is not the leader of the swarm"));
        }
        let SubscribeLogsRequest { selector, options } = request.into_inner();
        let reading = self.0.logs.subscribe(
            &self.0.core.store,
            selector.unwrap_or_default(),
            options.unwrap_or_default(),
        );
        let messages = stream::unfold(reading, |mut reading| async move {
            let batch = reading.next().await?;
            let message = batch.map(|messages| SubscribeLogsMessage { messages }).map_err(Status::unknown);
            Some((message, reading))
        });
        Ok(Response::new(boxed(messages)))
    }
}
