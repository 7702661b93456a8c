//! The managers' word on endpoints: what this node reports, and what it is told (`weft.v1.NetworkState`).

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tonic::Code;
use tonic::transport::Channel;
use weft_wire::weft_v1::network_state_client::NetworkStateClient;
use weft_wire::weft_v1::{AckRequest, DepartRequest, ReportRequest, WatchRequest};

use crate::core::{Core, OpenSession};
use crate::error::SessionError;
use crate::handover::{self, Told};
use crate::network::Programmed;

/// What the managers know this engine by.
const ENGINE: &str = "weft";
/// Leaving does not wait for managers that are away.
const DEPART_DEADLINE: Duration = Duration::from_secs(2);

/// Reports and watches until the session ends. Docker's managers have no such service: then gossip alone rules.
pub(crate) async fn run(core: Arc<Core>, session: OpenSession) -> Result<(), SessionError> {
    let client =
        NetworkStateClient::new(session.channel.clone()).max_decoding_message_size(i32::MAX as usize);
    let told = tokio::sync::watch::Sender::default();
    let outcome = tokio::try_join!(
        report(&core, client.clone(), &session, &told),
        watch(&core, client.clone(), &session),
        handover::serve(&core, client, &session.id, told.subscribe()),
    );
    match outcome {
        Err(SessionError::Refused { status, .. }) if status.code() == Code::Unimplemented => {
            core.no_outlook();
            handover::serve_by_gossip(&core).await
        }
        other => other.map(drop),
    }
}

/// Says that this node leaves the swarm. A manager that does not hear it misses the heartbeats soon enough.
pub(crate) async fn depart(session: OpenSession) {
    let request = DepartRequest { session_id: session.id };
    let mut client = NetworkStateClient::new(session.channel);
    match tokio::time::timeout(DEPART_DEADLINE, client.depart(request)).await {
        Ok(Ok(_)) => {}
        Ok(Err(status)) => tracing::debug!(%status, "the manager did not take note that this node leaves"),
        Err(_) => tracing::debug!("the manager did not take note in time that this node leaves"),
    }
}

/// Tells what this node has, at once and after each change.
async fn report(
    core: &Core,
    mut client: NetworkStateClient<Channel>,
    session: &OpenSession,
    told: &tokio::sync::watch::Sender<Option<Told>>,
) -> Result<(), SessionError> {
    let mut local = core.network().local();
    let mut serving = core.serving();
    loop {
        let view = local.borrow_and_update().clone();
        let healthy = serving.borrow_and_update().clone();
        let mut endpoints = view.endpoints;
        for endpoint in &mut endpoints {
            // A task takes traffic only while it runs and is not about to end.
            if core.is_service_task(&endpoint.attachment_id) {
                endpoint.healthy = healthy.contains(&endpoint.attachment_id);
            }
        }
        let present = endpoints.iter().map(|endpoint| endpoint.attachment_id.clone()).collect();
        let request = ReportRequest {
            session_id: session.id.clone(),
            data_path_address: view.data_path,
            data_path_mtu: view.mtu,
            engine: ENGINE.to_owned(),
            gossip_name: view.gossip_name,
            endpoints,
            node_subnets: view.subnets,
        };
        match client.report(request).await {
            Ok(_) => drop(told.send_replace(Some(Told { serving: healthy, present }))),
            // Our fault, and repeating it would not help: the next change may.
            Err(status) if status.code() == Code::InvalidArgument => {
                tracing::warn!(%status, "the managers refused this node's report");
            }
            Err(status) => return Err(SessionError::Refused { call: "Report", status }),
        }
        tokio::select! {
            outcome = local.changed() => if outcome.is_err() { return pending().await },
            outcome = serving.changed() => if outcome.is_err() { return pending().await },
        }
    }
}

/// Follows the managers' word on all networks of this node, and tells when the kernel does.
async fn watch(
    core: &Core,
    mut client: NetworkStateClient<Channel>,
    session: &OpenSession,
) -> Result<(), SessionError> {
    let request = WatchRequest { session_id: session.id.clone(), network_ids: Vec::new() };
    let mut stream = client.watch(request).await.map_err(SessionError::refused("Watch"))?.into_inner();
    let mut programmed = core.network().programmed();
    // Networks of which news came that the kernel does not follow yet, with the index of the news.
    let mut open: BTreeMap<String, u64> = BTreeMap::new();
    // Networks that the managers were told of that they could not be followed: they hear it when they are.
    let mut failed: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        tokio::select! {
            message = stream.message() => {
                let message = message.map_err(SessionError::refused("Watch"))?;
                let Some(message) = message else { return Err(SessionError::Closed { stream: "the network state" }) };
                let networks: Vec<String> = message.networks.iter().map(|view| view.network_id.clone()).collect();
                let index = core.on_outlook(message);
                open.extend(networks.into_iter().map(|id| (id, index)));
            }
            Ok(()) = programmed.changed() => {}
        }
        let done = programmed.borrow_and_update().clone();
        let (mut now, later): (BTreeMap<_, _>, _) =
            open.into_iter().partition(|(_, index)| *index <= done.index);
        open = later;
        if done.error.is_empty() {
            now = std::mem::take(&mut failed).into_iter().chain(now).collect();
        } else {
            failed.extend(now.clone());
        }
        acknowledge(&client, session, now, &done).await?;
    }
}

/// Says of each network that its news are in the kernel, or why not; of all at once, since tasks may wait for it.
async fn acknowledge(
    client: &NetworkStateClient<Channel>,
    session: &OpenSession,
    networks: BTreeMap<String, u64>,
    done: &Programmed,
) -> Result<(), SessionError> {
    let acknowledge = async |network_id: String, index: u64| {
        let ack = AckRequest { session_id: session.id.clone(), index, network_id, error: done.error.clone() };
        match client.clone().ack(ack).await {
            Ok(_) => Ok(()),
            // The network was left meanwhile.
            Err(status) if matches!(status.code(), Code::PermissionDenied | Code::NotFound) => {
                tracing::debug!(%status, "an acknowledgement was refused");
                Ok(())
            }
            Err(status) => Err(SessionError::Refused { call: "Ack", status }),
        }
    };
    try_join_all(networks.into_iter().map(|(network, index)| acknowledge(network, index))).await.map(drop)
}
