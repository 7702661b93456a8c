//! `LogBroker`: subscriptions for `docker service logs`. There are no services yet, so nobody subscribes; the stream
//! is held open because a Docker node gives up its session when it ends.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tonic::{Request, Response, Status, Streaming, async_trait};
use weft_wire::swarmkit::{
    ListenSubscriptionsRequest, PublishLogsMessage, PublishLogsResponse, SubscriptionMessage,
    log_broker_server,
};

use super::{Answers, boxed};
use crate::auth::{MEMBERS, authorize};
use crate::brain::Brain;

pub(super) struct LogBroker(pub(super) Arc<Brain>);

#[async_trait]
impl log_broker_server::LogBroker for LogBroker {
    type ListenSubscriptionsStream = Answers<SubscriptionMessage>;

    async fn listen_subscriptions(
        &self,
        request: Request<ListenSubscriptionsRequest>,
    ) -> Result<Response<Self::ListenSubscriptionsStream>, Status> {
        authorize(&self.0.core, &request, MEMBERS)?;
        let until = self.0.core.stopping.clone().cancelled_owned();
        Ok(Response::new(boxed(futures_util::stream::pending().take_until(until))))
    }

    async fn publish_logs(
        &self,
        request: Request<Streaming<PublishLogsMessage>>,
    ) -> Result<Response<PublishLogsResponse>, Status> {
        authorize(&self.0.core, &request, MEMBERS)?;
        Err(Status::not_found("log subscription not found"))
    }
}
