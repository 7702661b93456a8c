//! The swarm itself.

use std::sync::Arc;
use std::time::Duration;

use weft_identity::JoinToken;
use weft_wire::swarmkit::{
    Annotations, CaConfig, Cluster, ClusterSpec, DispatcherConfig, EncryptionConfig, OrchestrationConfig,
    RaftConfig, RootCa, TaskDefaults,
};

use super::{Control, Rotation};
use crate::autolock;
use crate::error::{ControlError, SpecProblem};
use crate::keys;
use crate::root_rotation;
use crate::store::version_of;

/// The only name a cluster has.
pub(crate) const CLUSTER_NAME: &str = "default";
/// SwarmKit's least lifetime of node certificates.
const MIN_EXPIRY: Duration = Duration::from_secs(60 * 60);
/// 90 days, SwarmKit's default.
const DEFAULT_EXPIRY: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// SwarmKit's defaults.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(5);
const TASK_HISTORY: i64 = 5;

impl Control {
    /// Changes the cluster's spec, if it still is at `version`, and rotates secrets.
    pub async fn update_cluster(
        &self,
        version: u64,
        spec: ClusterSpec,
        rotation: Rotation,
    ) -> Result<Arc<Cluster>, ControlError> {
        let spec = with_defaults(spec);
        check(&spec).map_err(ControlError::InvalidSpec)?;
        self.brain
            .core
            .change(|view, transaction| {
                let cluster = view.cluster().cloned().unwrap_or_default();
                if version_of(cluster.meta.as_ref()) != version {
                    return Err(ControlError::OutOfSequence);
                }
                let root = cluster.root_ca.clone().unwrap_or_default();
                let ca = spec.ca_config.clone().unwrap_or_default();
                let root = root_rotation::next_root(&root, &ca).map_err(ControlError::InvalidSpec)?;
                let unlock_keys = autolock::next_keys(&cluster, &spec, rotation.manager_unlock_key);
                let next = Cluster {
                    spec: Some(spec.clone()),
                    root_ca: Some(rotate(root, rotation)),
                    unlock_keys,
                    ..Cluster::clone(&cluster)
                };
                let rotated = rotation.network_keys.then(|| keys::next_keys(&next, &mut rand::rng()));
                transaction.update(rotated.unwrap_or(next));
                Ok(())
            })
            .await?;
        Ok(self.cluster())
    }
}

impl Control {
    /// The key that opens a manager's store after its restart; empty while managers are not locked.
    pub fn unlock_key(&self) -> String {
        autolock::unlock_key(&self.cluster())
    }
}

fn rotate(mut root: RootCa, rotation: Rotation) -> RootCa {
    let pem = String::from_utf8_lossy(&root.ca_cert).into_owned();
    let fresh = || JoinToken::generate(&mut rand::rng(), &pem).to_string();
    let tokens = root.join_tokens.get_or_insert_default();
    if rotation.worker_join_token {
        tokens.worker = fresh();
    }
    if rotation.manager_join_token {
        tokens.manager = fresh();
    }
    root
}

/// Fills what the caller left out with Docker's defaults. Zero durations and ticks count as left out.
pub(crate) fn with_defaults(mut spec: ClusterSpec) -> ClusterSpec {
    let annotations = spec.annotations.get_or_insert_with(Annotations::default);
    if annotations.name.is_empty() {
        annotations.name = CLUSTER_NAME.to_owned();
    }
    spec.orchestration.get_or_insert(OrchestrationConfig { task_history_retention_limit: TASK_HISTORY });
    let raft = spec.raft.get_or_insert_with(RaftConfig::default);
    fill(&mut raft.snapshot_interval, 10_000);
    fill(&mut raft.log_entries_for_slow_followers, 500);
    fill(&mut raft.heartbeat_tick, 1);
    fill(&mut raft.election_tick, 10);
    let dispatcher = spec.dispatcher.get_or_insert_with(DispatcherConfig::default);
    default_duration(&mut dispatcher.heartbeat_period, DEFAULT_HEARTBEAT);
    let ca = spec.ca_config.get_or_insert_with(CaConfig::default);
    default_duration(&mut ca.node_cert_expiry, DEFAULT_EXPIRY);
    spec.task_defaults.get_or_insert_with(TaskDefaults::default);
    spec.encryption_config.get_or_insert_with(EncryptionConfig::default);
    spec
}

fn fill<T: Default + PartialEq>(value: &mut T, default: T) {
    if *value == T::default() {
        *value = default;
    }
}

fn default_duration(value: &mut Option<prost_types::Duration>, default: Duration) {
    if value.is_none_or(|value| value.seconds == 0 && value.nanos == 0) {
        *value = default.try_into().ok();
    }
}

/// SwarmKit's rules of a cluster spec.
pub(crate) fn check(spec: &ClusterSpec) -> Result<(), SpecProblem> {
    if spec.annotations.as_ref().is_none_or(|annotations| annotations.name != CLUSTER_NAME) {
        return Err(SpecProblem::ClusterName);
    }
    let expiry = spec.ca_config.as_ref().and_then(|ca| ca.node_cert_expiry);
    if !expiry.is_some_and(|expiry| Duration::try_from(expiry).is_ok_and(|expiry| expiry >= MIN_EXPIRY)) {
        return Err(SpecProblem::CertificateExpiry);
    }
    let heartbeat = spec.dispatcher.as_ref().and_then(|dispatcher| dispatcher.heartbeat_period);
    if heartbeat.is_none_or(|period| Duration::try_from(period).is_err()) {
        return Err(SpecProblem::HeartbeatPeriod);
    }
    if spec.raft.as_ref().is_some_and(|raft| raft.election_tick <= raft.heartbeat_tick) {
        return Err(SpecProblem::RaftTicks);
    }
    Ok(())
}
