//! `LogBroker`: nodes hear which output is wanted, and send it.

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
use crate::logs::Subscription;

pub(super) struct LogBroker(pub(super) Arc<Brain>);

#[async_trait]
impl log_broker_server::LogBroker for LogBroker {
    type ListenSubscriptionsStream = Answers<SubscriptionMessage>;

    async fn listen_subscriptions(
        &self,
        request: Request<ListenSubscriptionsRequest>,
    ) -> Result<Response<Self::ListenSubscriptionsStream>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        let listening = self.0.logs.listen(&caller.node_id);
        let messages = futures_util::stream::unfold(listening, |mut listening| async move {
            let message = listening.next().await?;
            Some((Ok(message), listening))
        });
        let core = Arc::clone(&self.0.core);
        let over = async move {
            let mut leadership = core.leadership();
            tokio::select! {
                () = core.stopping.cancelled() => {}
                _ = leadership.wait_for(|now| !now.leading) => {}
            }
        };
        Ok(Response::new(boxed(messages.take_until(Box::pin(over)))))
    }

    async fn publish_logs(
        &self,
        request: Request<Streaming<PublishLogsMessage>>,
    ) -> Result<Response<PublishLogsResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MEMBERS)?;
        let mut publisher = Publisher { brain: &self.0, node_id: &caller.node_id, subscription: None };
        let mut messages = request.into_inner();
        let result = publisher.take(&mut messages).await;
        if let Some(subscription) = publisher.subscription {
            subscription
                .done(&caller.node_id, result.as_ref().err().map(|status| status.message().to_owned()));
        }
        result.map(|()| Response::new(PublishLogsResponse {}))
    }
}

/// One node's messages for one subscription.
struct Publisher<'a> {
    brain: &'a Brain,
    node_id: &'a str,
    subscription: Option<Arc<Subscription>>,
}

impl Publisher<'_> {
    /// Until the node has sent everything, or nobody reads any more.
    async fn take(&mut self, messages: &mut Streaming<PublishLogsMessage>) -> Result<(), Status> {
        while let Some(message) = messages.message().await? {
            let subscription = self.subscription(&message.subscription_id)?;
            if message.close {
                return Ok(());
            }
            let foreign = |node: &str| node != self.node_id;
            let named = message.messages.iter().filter_map(|message| message.context.as_ref());
            if let Some(context) = { named }.find(|context| foreign(&context.node_id)) {
                let (expected, received) = (self.node_id, &context.node_id);
                return Err(Status::permission_denied(format!(
                    "invalid NodeID: expected={expected};received={received}"
                )));
            }
            let Some(output) = subscription.output() else { return Ok(()) };
            if output.send(message.messages).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    #[allow(clippy::result_large_err, reason = "tonic's own error type; the caller returns it as it is")]
    fn subscription(&mut self, id: &str) -> Result<Arc<Subscription>, Status> {
        if id.is_empty() {
            return Err(Status::invalid_argument("missing subscription ID"));
        }
        match &self.subscription {
            Some(current) if current.id() == id => Ok(Arc::clone(current)),
            Some(_) => Err(Status::invalid_argument("different subscription IDs in the same session")),
            None => {
                let found = self.brain.logs.subscription(id);
                let found = found.ok_or_else(|| Status::not_found("unknown subscription ID"))?;
                self.subscription = Some(Arc::clone(&found));
                Ok(found)
            }
        }
    }
}
