//! `GET /info`.

use std::time::SystemTime;

use bollard_stubs::models::{ContainerSummary, ContainerSummaryStateEnum};
use serde_json::{Map, Value, json};
use weft_engine::ListOptions;

use super::host;
use crate::convert;
use crate::error::ApiResult;
use crate::request::Call;
use crate::response::ok;
use crate::state::SystemSettings;
use crate::swarm_backend::{LocalNodeState, SwarmStatus};
use crate::version::ApiVersion;

/// The log driver of containers that ask for none.
const LOG_DRIVER: &str = "json-file";

pub(crate) async fn info(call: Call) -> ApiResult {
    let state = &call.state;
    let containers = state.engine.list(&ListOptions { all: true, ..ListOptions::default() })?;
    let images = state.engine.images().list(false, &Default::default())?.len();
    let status = state.swarm.status();
    let mut map = about_daemon(&state.system);
    map.extend(about_containers(&containers));
    map.extend(about_host());
    let apparmor = state.engine.has_apparmor().then_some("name=apparmor");
    let security: Vec<&str> = apparmor.into_iter().chain(["name=seccomp,profile=builtin"]).collect();
    map.insert("SecurityOptions".to_owned(), json!(security));
    map.insert("Images".to_owned(), images.into());
    map.insert("NEventsListener".to_owned(), state.events.listeners().into());
    map.insert("Swarm".to_owned(), swarm(&status));
    map.insert("Warnings".to_owned(), warnings(&state.system, &status));
    of_version(&mut map, call.version);
    ok(&Value::from(map))
}

/// Fields that came or went with a version.
fn of_version(info: &mut Map<String, Value>, version: ApiVersion) {
    if version < ApiVersion(1, 50) {
        info.insert("BridgeNfIptables".to_owned(), false.into());
        info.insert("BridgeNfIp6tables".to_owned(), false.into());
    }
    if version < ApiVersion(1, 49) {
        info.remove("FirewallBackend");
    }
    if version < ApiVersion(1, 47)
        && let Some(registries) = info.get_mut("RegistryConfig")
    {
        registries["AllowNondistributableArtifactsCIDRs"] = Value::Null;
        registries["AllowNondistributableArtifactsHostnames"] = Value::Null;
    }
    if version < ApiVersion(1, 42) {
        info.insert("KernelMemory".to_owned(), true.into());
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn about_containers(containers: &[ContainerSummary]) -> Map<String, Value> {
    let count = |state| containers.iter().filter(|c| c.state == Some(state)).count();
    let running = count(ContainerSummaryStateEnum::RUNNING);
    let paused = count(ContainerSummaryStateEnum::PAUSED);
    object(json!({
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers.len() - running - paused,
    }))
}

fn about_daemon(system: &SystemSettings) -> Map<String, Value> {
    let pools: Vec<Value> =
        system.address_pools.iter().map(|(base, size)| json!({ "Base": base, "Size": size })).collect();
    let mut map = object(json!({
        "ID": system.daemon_id,
        "Name": system.hostname,
        "Labels": system.labels,
        "ServerVersion": system.version,
        "DockerRootDir": system.data_root,
        "Debug": system.debug,
        "LiveRestoreEnabled": system.live_restore,
        "Driver": "overlay2",
        "DriverStatus": [
            ["Backing Filesystem", host::file_system(&system.data_root.display().to_string())],
            ["Supports d_type", "true"],
            ["Using metacopy", "false"],
            ["Native Overlay Diff", "true"],
            ["userxattr", "false"],
        ],
        "FirewallBackend": { "Driver": "nftables" },
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null", "overlay"],
            "Authorization": Value::Null,
            "Log": [LOG_DRIVER, "local"],
        },
        "LoggingDriver": LOG_DRIVER,
        "CgroupDriver": "cgroupfs",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "IndexConfigs": { "docker.io": { "Mirrors": [], "Name": "docker.io", "Official": true, "Secure": true } },
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "Mirrors": Value::Null,
        },
        "GenericResources": Value::Null,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "ExperimentalBuild": false,
        "Runtimes": { "weft": { "path": "weft" } },
        "DefaultRuntime": "weft",
        "Isolation": "",
        "InitBinary": "",
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": "" },
        "InitCommit": { "ID": "" },
        "CDISpecDirs": [],
    }));
    if !pools.is_empty() {
        map.insert("DefaultAddressPools".to_owned(), pools.into());
    }
    // Fields of API 1.40 and before, which Docker leaves out where there is no store.
    for (name, value) in
        [("ClusterStore", &system.cluster_store), ("ClusterAdvertise", &system.cluster_advertise)]
    {
        if let Some(value) = value {
            map.insert(name.to_owned(), value.as_str().into());
        }
    }
    map
}

fn about_host() -> Map<String, Value> {
    let (name, version) = host::operating_system();
    object(json!({
        "MemoryLimit": true,
        "SwapLimit": true,
        "KernelMemoryTCP": true,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "IPv4Forwarding": host::forwards_ipv4(),
        "OomKillDisable": true,
        "NFd": host::open_files(),
        "NGoroutines": 0,
        "SystemTime": convert::rfc3339(SystemTime::now()),
        "CgroupVersion": host::cgroup_version(),
        "KernelVersion": host::kernel_version(),
        "OperatingSystem": name,
        "OSVersion": version,
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": host::processors(),
        "MemTotal": host::memory_total(),
    }))
}

fn warnings(system: &SystemSettings, status: &SwarmStatus) -> Value {
    let lines: Vec<&String> = system.warnings.iter().chain(&status.warnings).collect();
    if lines.is_empty() { Value::Null } else { json!(lines) }
}

fn swarm(status: &SwarmStatus) -> Value {
    let managers: Vec<Value> =
        status.remote_managers.iter().map(|m| json!({ "NodeID": m.node_id, "Addr": m.addr })).collect();
    let mut map = object(json!({
        "NodeID": status.node_id,
        "NodeAddr": status.node_addr,
        "LocalNodeState": status.state.as_str(),
        "ControlAvailable": status.control_available,
        "Error": status.error,
        "RemoteManagers": if managers.is_empty() { Value::Null } else { managers.into() },
    }));
    if status.state == LocalNodeState::Active {
        let mut put = |key: &str, count: Option<u64>| {
            if let Some(count) = count {
                map.insert(key.to_owned(), count.into());
            }
        };
        put("Nodes", status.nodes);
        put("Managers", status.managers);
    }
    if let Some(cluster) = &status.cluster {
        map.insert("Cluster".to_owned(), convert::cluster_info(cluster));
    }
    map.into()
}
