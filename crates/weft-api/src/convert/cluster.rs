//! The swarm itself.

use serde_json::{Map, Value, json};
use weft_wire::swarmkit::{
    AcceptancePolicy, Annotations, CaConfig, Cluster, ClusterSpec, DispatcherConfig, Driver,
    EncryptionConfig, ExternalCa, OrchestrationConfig, RaftConfig, TaskDefaults,
};

use super::time::{duration, nanos};
use super::{annotations, ca, object_head, put_filled, put_number, put_text};
use crate::error::ApiError;

/// Docker shows the default pool as `null`.
const DEFAULT_POOL: &str = "10.0.0.0/8";
/// SwarmKit's prefix length of a subnet cut from the pools.
const DEFAULT_SUBNET_SIZE: u32 = 24;
/// The VXLAN port of the swarm when none was asked for.
const DEFAULT_DATA_PATH_PORT: u32 = 4789;

/// `GET /swarm`: the cluster with its join tokens.
pub(crate) fn swarm(cluster: &Cluster) -> Value {
    let mut map = info_map(cluster);
    let tokens = cluster.root_ca.as_ref().and_then(|ca| ca.join_tokens.clone()).unwrap_or_default();
    map.insert("JoinTokens".to_owned(), json!({ "Worker": tokens.worker, "Manager": tokens.manager }));
    map.into()
}

/// The cluster as `GET /info` shows it, without secrets.
pub(crate) fn cluster_info(cluster: &Cluster) -> Value {
    info_map(cluster).into()
}

fn info_map(cluster: &Cluster) -> Map<String, Value> {
    let mut map = object_head(&cluster.id, cluster.meta.as_ref());
    map.insert("Spec".to_owned(), spec(cluster.spec.as_ref()));
    let root = cluster.root_ca.clone().unwrap_or_default();
    map.insert("TLSInfo".to_owned(), ca::tls_info(&root.ca_cert));
    map.insert("RootRotationInProgress".to_owned(), root.root_rotation.is_some().into());
    let pools = &cluster.default_address_pool;
    let default_pool = pools.is_empty() || pools.as_slice() == [DEFAULT_POOL];
    map.insert("DefaultAddrPool".to_owned(), if default_pool { Value::Null } else { json!(pools) });
    map.insert("SubnetSize".to_owned(), non_zero(cluster.subnet_size, DEFAULT_SUBNET_SIZE).into());
    map.insert("DataPathPort".to_owned(), non_zero(cluster.vxlanudp_port, DEFAULT_DATA_PATH_PORT).into());
    map
}

fn non_zero(value: u32, default: u32) -> u32 {
    if value == 0 { default } else { value }
}

fn spec(spec: Option<&ClusterSpec>) -> Value {
    let spec = spec.cloned().unwrap_or_default();
    let mut map = annotations(spec.annotations.as_ref());
    let limit = spec.orchestration.map_or(0, |o| o.task_history_retention_limit);
    map.insert("Orchestration".to_owned(), json!({ "TaskHistoryRetentionLimit": limit }));
    let raft = spec.raft.unwrap_or_default();
    map.insert(
        "Raft".to_owned(),
        json!({
            "SnapshotInterval": raft.snapshot_interval,
            "KeepOldSnapshots": raft.keep_old_snapshots,
            "LogEntriesForSlowFollowers": raft.log_entries_for_slow_followers,
            "ElectionTick": raft.election_tick,
            "HeartbeatTick": raft.heartbeat_tick,
        }),
    );
    let mut dispatcher = Map::new();
    let period = spec.dispatcher.as_ref().and_then(|d| d.heartbeat_period.as_ref());
    put_number(&mut dispatcher, "HeartbeatPeriod", nanos(period));
    map.insert("Dispatcher".to_owned(), dispatcher.into());
    map.insert("CAConfig".to_owned(), ca_config(spec.ca_config.unwrap_or_default()));
    let mut defaults = Map::new();
    if let Some(driver) = spec.task_defaults.and_then(|d| d.log_driver) {
        let mut log = Map::new();
        put_text(&mut log, "Name", &driver.name);
        put_filled(&mut log, "Options", json!(driver.options));
        defaults.insert("LogDriver".to_owned(), log.into());
    }
    map.insert("TaskDefaults".to_owned(), defaults.into());
    let locked = spec.encryption_config.is_some_and(|e| e.auto_lock_managers);
    map.insert("EncryptionConfig".to_owned(), json!({ "AutoLockManagers": locked }));
    map.into()
}

fn ca_config(config: CaConfig) -> Value {
    let mut map = Map::new();
    put_number(&mut map, "NodeCertExpiry", nanos(config.node_cert_expiry.as_ref()));
    let external = config.external_cas.iter().map(|ca| {
        let mut map = Map::new();
        map.insert("Protocol".to_owned(), "cfssl".into());
        map.insert("URL".to_owned(), ca.url.clone().into());
        put_filled(&mut map, "Options", json!(ca.options));
        map.insert("CACert".to_owned(), String::from_utf8_lossy(&ca.ca_cert).into());
        Value::from(map)
    });
    put_filled(&mut map, "ExternalCAs", external.collect::<Vec<_>>().into());
    put_text(&mut map, "SigningCACert", &String::from_utf8_lossy(&config.signing_ca_cert));
    put_number(&mut map, "ForceRotate", config.force_rotate);
    map.into()
}

/// The spec of an init or update request. What is absent stays zero; `current` lends the parts that requests cannot
/// carry.
pub(crate) fn cluster_spec(request: &Value, current: Option<&ClusterSpec>) -> Result<ClusterSpec, ApiError> {
    let request: bollard_stubs::models::SwarmSpec = crate::request::typed(request.clone())?;
    let raft = request.raft.unwrap_or_default();
    let ca = request.ca_config.unwrap_or_default();
    Ok(ClusterSpec {
        annotations: Some(Annotations {
            name: request.name.unwrap_or_default(),
            labels: super::labels(request.labels),
            indices: Vec::new(),
        }),
        acceptance_policy: current
            .and_then(|c| c.acceptance_policy.clone())
            .or(Some(AcceptancePolicy::default())),
        orchestration: request
            .orchestration
            .and_then(|o| o.task_history_retention_limit)
            .map(|limit| OrchestrationConfig { task_history_retention_limit: limit }),
        raft: Some(RaftConfig {
            snapshot_interval: raft.snapshot_interval.unwrap_or_default(),
            keep_old_snapshots: raft.keep_old_snapshots.unwrap_or_default(),
            log_entries_for_slow_followers: raft.log_entries_for_slow_followers.unwrap_or_default(),
            heartbeat_tick: raft.heartbeat_tick.unwrap_or_default() as u32,
            election_tick: raft.election_tick.unwrap_or_default() as u32,
        }),
        dispatcher: request
            .dispatcher
            .and_then(|d| d.heartbeat_period)
            .filter(|p| *p != 0)
            .map(|period| DispatcherConfig { heartbeat_period: Some(duration(period)) }),
        ca_config: Some(CaConfig {
            node_cert_expiry: ca.node_cert_expiry.filter(|e| *e != 0).map(duration),
            external_cas: ca.external_cas.unwrap_or_default().into_iter().map(external_ca).collect(),
            signing_ca_cert: ca.signing_ca_cert.unwrap_or_default().into_bytes(),
            signing_ca_key: ca.signing_ca_key.unwrap_or_default().into_bytes(),
            force_rotate: ca.force_rotate.unwrap_or_default(),
        }),
        task_defaults: request.task_defaults.and_then(|d| d.log_driver).map(|driver| TaskDefaults {
            log_driver: Some(Driver {
                name: driver.name.unwrap_or_default(),
                options: super::labels(driver.options),
            }),
        }),
        encryption_config: Some(EncryptionConfig {
            auto_lock_managers: request
                .encryption_config
                .and_then(|e| e.auto_lock_managers)
                .unwrap_or_default(),
        }),
    })
}

fn external_ca(request: bollard_stubs::models::SwarmSpecCaConfigExternalCas) -> ExternalCa {
    ExternalCa {
        protocol: 0,
        url: request.url.unwrap_or_default(),
        options: super::labels(request.options),
        ca_cert: request.ca_cert.unwrap_or_default().into_bytes(),
    }
}
