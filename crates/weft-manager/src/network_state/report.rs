//! `Report`: a node's word about itself, checked and stored.

use weft_types::{MacAddr, Mtu};
use weft_wire::swarmkit::Resource;
use weft_wire::weft_v1::{Endpoint, ReportRequest};

use super::endpoints::is_of_attachment;
use crate::brain::Brain;
use crate::consensus::ConsensusError;
use crate::core::Contention;
use crate::network::to_resource;
use crate::store::View;

/// More names than any container needs; bounds what one node can make the managers keep.
const MAX_ALIASES: usize = 256;
const MAX_NAME: usize = 255;
/// As many as our nodes send.
const MAX_NODE_SUBNETS: usize = 256;

/// A report was refused as a whole; the one before stands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("data path address {0:?} is not an address that peers can send to")]
    Address(String),
    #[error("data path MTU {0} is out of range")]
    Mtu(u32),
    #[error("the report names {0} subnets, more than 256")]
    Subnets(usize),
    #[error("endpoint {endpoint}: {what} is malformed")]
    Malformed { endpoint: String, what: &'static str },
    #[error("endpoint {0} is listed twice")]
    Twice(String),
    #[error(
        "endpoint {endpoint} names attachment {attachment}, which is not this node's or has another address"
    )]
    Foreign { endpoint: String, attachment: String },
    #[error("node not found")]
    NoSuchNode,
    #[error("the swarm's state changed too often while this request was computed")]
    Contention,
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
}

impl From<Contention> for ReportError {
    fn from(_: Contention) -> Self {
        Self::Contention
    }
}

/// Stores what a node says of itself. Gives the Raft index at which it is part of the state.
pub(crate) async fn report(brain: &Brain, node_id: &str, report: ReportRequest) -> Result<u64, ReportError> {
    // A new session alone changes nothing that others are told.
    let report = ReportRequest { session_id: String::new(), ..report };
    check(&report)?;
    brain
        .core
        .change(|view, transaction| {
            view.node(node_id).ok_or(ReportError::NoSuchNode)?;
            for endpoint in &report.endpoints {
                check_endpoint(view, node_id, endpoint)?;
            }
            let resource = to_resource(node_id, &report);
            match view.resource(node_id) {
                None => drop(transaction.create(resource)),
                Some(before) if before.payload == resource.payload => {}
                Some(before) => {
                    transaction.update(Resource { meta: before.meta, ..resource });
                }
            }
            Ok::<_, ReportError>(())
        })
        .await?;
    Ok(brain.core.view().index())
}

fn check(report: &ReportRequest) -> Result<(), ReportError> {
    let reachable = |address: &std::net::IpAddr| !address.is_unspecified() && !address.is_multicast();
    if !report.data_path_address.parse().is_ok_and(|address| reachable(&address)) {
        return Err(ReportError::Address(report.data_path_address.clone()));
    }
    if Mtu::try_from(report.data_path_mtu).is_err() {
        return Err(ReportError::Mtu(report.data_path_mtu));
    }
    if report.node_subnets.len() > MAX_NODE_SUBNETS {
        return Err(ReportError::Subnets(report.node_subnets.len()));
    }
    let mut seen = std::collections::BTreeSet::new();
    for endpoint in &report.endpoints {
        if !seen.insert(&endpoint.id) {
            return Err(ReportError::Twice(endpoint.id.clone()));
        }
    }
    Ok(())
}

fn check_endpoint(view: &View, node_id: &str, endpoint: &Endpoint) -> Result<(), ReportError> {
    let malformed = |what| ReportError::Malformed { endpoint: endpoint.id.clone(), what };
    if endpoint.id.is_empty() || endpoint.id.len() > MAX_NAME {
        return Err(malformed("the id"));
    }
    if !endpoint.mac.parse().is_ok_and(|mac: MacAddr| mac.is_unicast()) {
        return Err(malformed("the MAC address"));
    }
    let names = std::iter::once(&endpoint.name).chain(&endpoint.aliases);
    if endpoint.aliases.len() > MAX_ALIASES || { names }.any(|name| name.len() > MAX_NAME) {
        return Err(malformed("the list of names"));
    }
    let task = view.task(&endpoint.attachment_id);
    match task.filter(|task| is_of_attachment(task, node_id, endpoint)) {
        Some(_) => Ok(()),
        // Detached while the report was on its way: the next one will not name it, and nobody is told of it.
        None if task.is_none() => Ok(()),
        None => Err(ReportError::Foreign {
            endpoint: endpoint.id.clone(),
            attachment: endpoint.attachment_id.clone(),
        }),
    }
}
