//! Output of tasks, wherever they run.

use std::collections::VecDeque;
use std::pin::Pin;

use futures_util::Stream;
use futures_util::stream;
use weft_wire::swarmkit::{
    LogMessage, LogSelector, LogSubscriptionOptions, SubscribeLogsMessage, SubscribeLogsRequest,
    logs_client::LogsClient,
};

use super::Control;
use crate::consensus::ConsensusError;
use crate::error::ControlError;
use crate::logs::Reading;

/// Messages of a subscription as nodes publish them; dropping it ends the subscription. An error is the last item.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogMessage, ControlError>> + Send>>;

/// Where a subscription's messages come from.
enum Source {
    Here(Reading),
    Leader(Box<tonic::Streaming<SubscribeLogsMessage>>),
}

impl Control {
    /// The output of tasks: of these services, tasks or nodes, all named by full id. Without `follow` it ends once all
    /// their nodes have sent what there is. Works on every manager.
    pub async fn subscribe_logs(
        &self,
        selector: LogSelector,
        options: LogSubscriptionOptions,
    ) -> Result<LogStream, ControlError> {
        if selector.service_ids.is_empty() && selector.task_ids.is_empty() && selector.node_ids.is_empty() {
            return Err(ControlError::EmptyLogSelector);
        }
        let core = &self.brain.core;
        let source = match core.leader_channel() {
            _ if core.leadership().borrow().leading => {
                Source::Here(self.brain.logs.subscribe(&core.store, selector, options))
            }
            None => return Err(ConsensusError::NoLeader.into()),
            Some(channel) => {
                let request = SubscribeLogsRequest { selector: Some(selector), options: Some(options) };
                let answer = LogsClient::new(channel).subscribe_logs(request).await;
                let answer = answer.map_err(|status| ControlError::Logs(status.message().to_owned()))?;
                Source::Leader(Box::new(answer.into_inner()))
            }
        };
        Ok(Box::pin(stream::unfold((Some(source), VecDeque::new()), next)))
    }
}

type Position = (Option<Source>, VecDeque<LogMessage>);

async fn next((mut source, mut ready): Position) -> Option<(Result<LogMessage, ControlError>, Position)> {
    loop {
        if let Some(message) = ready.pop_front() {
            return Some((Ok(message), (source, ready)));
        }
        let batch = match source.as_mut()? {
            Source::Here(reading) => reading.next().await?,
            Source::Leader(messages) => match messages.message().await {
                Ok(message) => Ok(message?.messages),
                Err(status) => Err(status.message().to_owned()),
            },
        };
        match batch {
            Ok(messages) => ready.extend(messages),
            Err(reason) => return Some((Err(ControlError::Logs(reason)), (None, ready))),
        }
    }
}
