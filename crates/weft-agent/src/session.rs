//! One session with the dispatcher: opened, served, ended.
//!
//! All parts of a session live and die together: the first that fails ends it, and the agent opens another one.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use weft_identity::{ChannelMode, channel};
use weft_wire::swarmkit::dispatcher_client::DispatcherClient;
use weft_wire::swarmkit::log_broker_client::LogBrokerClient;
use weft_wire::swarmkit::{
    AssignmentsRequest, HeartbeatRequest, ListenSubscriptionsRequest, SessionMessage, SessionRequest,
    UpdateTaskStatusRequest,
};

use crate::attachments;
use crate::core::{Core, OpenSession};
use crate::description::HostDescription;
use crate::error::SessionError;
use crate::network_state;
use crate::task::log::Publishers;
use crate::task::runtime::TaskRuntime;
use crate::witness;

/// Until the first message, and for each unary call (SwarmKit's `dispatcherRPCTimeout`).
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// When a manager names no period. SwarmKit's default.
const DEFAULT_PERIOD: Duration = Duration::from_secs(5);
/// Longest period that is believed.
const MAX_PERIOD: Duration = Duration::from_secs(60);

/// Why a session ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// This node has a new certificate or root: the next session shows it.
    IdentityChanged,
}

/// Assignments may be as large as a cluster's secrets; SwarmKit lifts the limit here, too.
fn dispatcher(channel: Channel) -> DispatcherClient<Channel> {
    DispatcherClient::new(channel).max_decoding_message_size(i32::MAX as usize)
}

/// Opens a session with the manager at `address` and serves it until something ends it.
pub(crate) async fn run(
    core: &Arc<Core>,
    runtime: &Arc<dyn TaskRuntime>,
    host: &HostDescription,
    address: SocketAddr,
) -> Result<Ended, SessionError> {
    // Subscribed before the identity is read, so that no change is missed.
    let mut identity_changes = core.identity.changes();
    identity_changes.mark_unchanged();
    let channel = channel(address, ChannelMode::Node(&core.identity))?;
    let description = host.to_wire(&core.identity.identity())?;
    let request = SessionRequest { description: Some(description), session_id: core.session_id() };
    let (mut stream, first) = timed("Session", open(channel.clone(), request)).await?;
    let session = core.session_opened(address, channel, first);
    tracing::info!(manager = %address, session = %session.id, "session with the dispatcher opened");

    let mut parts: JoinSet<Result<(), SessionError>> = JoinSet::new();
    parts.spawn(heartbeats(session.clone()));
    parts.spawn(assignments(core.clone(), session.clone()));
    parts.spawn(statuses(core.clone(), session.clone()));
    parts.spawn(log_subscriptions(core.clone(), runtime.clone(), session.clone()));
    parts.spawn(network_state::run(core.clone(), session.clone()));
    parts.spawn(witness::run(core.clone(), session.clone()));
    loop {
        tokio::select! {
            message = stream.message() => match message {
                Ok(Some(message)) => core.on_session_message(message),
                Ok(None) => return Err(SessionError::Closed { stream: "the session" }),
                Err(status) => return Err(SessionError::Refused { call: "Session", status }),
            },
            Some(ended) = parts.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error),
                Err(panic) => tracing::error!(%panic, "a part of the session failed"),
            },
            _ = identity_changes.changed() => return Ok(Ended::IdentityChanged),
        }
    }
}

async fn open(
    channel: Channel,
    request: SessionRequest,
) -> Result<(Streaming<SessionMessage>, SessionMessage), SessionError> {
    let mut stream =
        dispatcher(channel).session(request).await.map_err(SessionError::refused("Session"))?.into_inner();
    match stream.message().await.map_err(SessionError::refused("Session"))? {
        Some(first) => Ok((stream, first)),
        None => Err(SessionError::Closed { stream: "the session" }),
    }
}

/// Waits for `call` no longer than [`CALL_DEADLINE`].
async fn timed<T>(
    name: &'static str,
    call: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, SessionError> {
    tokio::time::timeout(CALL_DEADLINE, call).await.unwrap_or(Err(SessionError::Timeout { call: name }))
}

/// Beats at the pace that the manager names; the first one goes out at once.
async fn heartbeats(session: OpenSession) -> Result<(), SessionError> {
    let mut client = dispatcher(session.channel);
    loop {
        let request = HeartbeatRequest { session_id: session.id.clone() };
        let call = async { client.heartbeat(request).await.map_err(SessionError::refused("Heartbeat")) };
        let period = timed("Heartbeat", call).await?.into_inner().period;
        let period = period.and_then(|period| Duration::try_from(period).ok()).unwrap_or(DEFAULT_PERIOD);
        tokio::time::sleep(period.clamp(Duration::from_millis(50), MAX_PERIOD)).await;
    }
}

/// Follows the assignments; a gap in them begins a new stream.
async fn assignments(core: Arc<Core>, session: OpenSession) -> Result<(), SessionError> {
    let mut client = dispatcher(session.channel.clone());
    loop {
        let request = AssignmentsRequest { session_id: session.id.clone() };
        let mut stream =
            client.assignments(request).await.map_err(SessionError::refused("Assignments"))?.into_inner();
        core.begin_assignments();
        let mut first = true;
        loop {
            let message = stream.message().await.map_err(SessionError::refused("Assignments"))?;
            let Some(message) = message else {
                return Err(SessionError::Closed { stream: "the assignments" });
            };
            if let Err(gap) = core.on_assignments(message) {
                tracing::warn!(%gap, "assignments are out of step; asking for all of them");
                break;
            }
            if std::mem::take(&mut first) {
                attachments::return_orphans(&core, &session).await;
            }
        }
    }
}

/// Sends statuses of tasks as they change.
async fn statuses(core: Arc<Core>, session: OpenSession) -> Result<(), SessionError> {
    let mut client = dispatcher(session.channel);
    loop {
        let updates = core.unsent_statuses();
        if updates.is_empty() {
            core.unsent.notified().await;
            continue;
        }
        let request = UpdateTaskStatusRequest { session_id: session.id.clone(), updates: updates.clone() };
        let call = async {
            client.update_task_status(request).await.map_err(SessionError::refused("UpdateTaskStatus"))
        };
        timed("UpdateTaskStatus", call).await?;
        core.sent(&updates);
    }
}

/// Keeps the log subscriptions open, as dockerd does, and publishes what they ask for.
async fn log_subscriptions(
    core: Arc<Core>,
    runtime: Arc<dyn TaskRuntime>,
    session: OpenSession,
) -> Result<(), SessionError> {
    let mut client = LogBrokerClient::new(session.channel.clone());
    let mut stream = match client.listen_subscriptions(ListenSubscriptionsRequest {}).await {
        Ok(response) => response.into_inner(),
        Err(status) if status.code() == Code::Unimplemented => return pending().await,
        Err(status) => return Err(refused_logs(status)),
    };
    let mut publishers = Publishers::new(core, runtime, session.channel);
    loop {
        match stream.message().await {
            Ok(Some(subscription)) => publishers.on_subscription(subscription),
            Ok(None) => return Err(SessionError::Closed { stream: "the log subscriptions" }),
            Err(status) if status.code() == Code::Unimplemented => return pending().await,
            Err(status) => return Err(refused_logs(status)),
        }
    }
}

fn refused_logs(status: Status) -> SessionError {
    SessionError::Refused { call: "ListenSubscriptions", status }
}
