//! What nodes reported of themselves, as stored.
//!
//! A report is a `Resource` object under the node's id: it goes through Raft, so what peers are told survives the
//! manager, and every word to a watcher has a Raft index.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;
use weft_orchestration::NodeEngine;
use weft_wire::swarmkit::{Annotations, Node, Resource};
use weft_wire::weft_v1::ReportRequest;

use crate::store::{View, version_of};

/// `Resource.kind` of a report.
pub(crate) const REPORT_KIND: &str = "weft.v1.Report";
const TYPE_URL: &str = "type.googleapis.com/weft.v1.ReportRequest";
/// The engine name that reports carry, and part of the engine version that our nodes describe themselves with.
const WEFT: &str = "weft";

/// Decoded reports, each decoded once per version.
#[derive(Default)]
pub(crate) struct Reports {
    decoded: Mutex<HashMap<String, (u64, Arc<ReportRequest>)>>,
}

impl Reports {
    /// A node's report as of this view.
    pub(crate) fn of(&self, view: &View, node: &str) -> Option<Arc<ReportRequest>> {
        let resource = view.resource(node).filter(|resource| resource.kind == REPORT_KIND)?;
        let version = version_of(resource.meta.as_ref());
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, report)) = decoded.get(node).filter(|(at, _)| *at == version) {
            return Some(Arc::clone(report));
        }
        let report = Arc::new(decode(resource)?);
        decoded.insert(node.to_owned(), (version, Arc::clone(&report)));
        Some(report)
    }

    /// Forgets a removed node.
    pub(crate) fn forget(&self, node: &str) {
        self.decoded.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

/// The object that holds a report.
pub(crate) fn to_resource(node: &str, report: &ReportRequest) -> Resource {
    Resource {
        id: node.to_owned(),
        annotations: Some(Annotations::default()),
        kind: REPORT_KIND.to_owned(),
        payload: Some(prost_types::Any { type_url: TYPE_URL.to_owned(), value: report.encode_to_vec() }),
        ..Default::default()
    }
}

/// The report in an object. Only this crate writes them: one that does not decode is logged and counts as none.
pub(crate) fn decode(resource: &Resource) -> Option<ReportRequest> {
    let payload = resource.payload.as_ref()?;
    ReportRequest::decode(payload.value.as_slice())
        .map_err(|error| tracing::warn!(node = resource.id, %error, "a stored report does not decode"))
        .ok()
}

/// Which engine a node runs; none while it has not said.
pub(crate) fn engine_of(node: &Node, report: Option<&ReportRequest>) -> Option<NodeEngine> {
    if report.is_some_and(|report| report.engine == WEFT) {
        return Some(NodeEngine::Weft);
    }
    let engine = node.description.as_ref()?.engine.as_ref()?;
    if engine.engine_version.is_empty() {
        return None;
    }
    Some(if engine.engine_version.contains(WEFT) { NodeEngine::Weft } else { NodeEngine::Docker })
}

/// Where a node's tunnels end: its report, or for Docker nodes the address it is seen from.
pub(crate) fn data_path_address(node: &Node, report: Option<&ReportRequest>) -> Option<IpAddr> {
    let reported = report.map(|report| report.data_path_address.as_str()).filter(|text| !text.is_empty());
    let seen = node.status.as_ref().map(|status| status.addr.as_str());
    reported.or(seen)?.parse().ok()
}
