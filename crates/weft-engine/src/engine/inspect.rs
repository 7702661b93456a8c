//! Everything about one container, as `docker inspect` shows it.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bollard_stubs::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerTopResponse, DriverData,
    EndpointSettings, HostConfig, MountPoint, NetworkSettings, PortMap,
};

use super::{Engine, Result};
use crate::container::health::Health;
use crate::container::record::{MountKind, MountRecord, Phase, Record};
use crate::error::EngineError;
use crate::spec::security::SecurityOptions;
use crate::spec::{MASKED_PATHS, READONLY_PATHS};

impl Engine {
    /// Everything about one container.
    pub fn inspect(&self, term: &str, size: bool) -> Result<ContainerInspectResponse> {
        let container = self.find(term)?;
        let record = container.record();
        let sandbox = record.sandbox.clone().unwrap_or_default();
        let path = |path: &Option<std::path::PathBuf>| {
            Some(path.as_ref().map(|path| path.display().to_string()).unwrap_or_default())
        };
        let sizes = size.then(|| self.sizes(&record));
        let rootfs = container.rootfs();
        let execs = self.execs.unfinished(&container);
        Ok(ContainerInspectResponse {
            id: Some(record.id.to_string()),
            created: Some(record.created.clone()),
            path: Some(record.path.clone()),
            args: Some(record.args.clone()),
            state: Some(state(&record)),
            image: Some(record.image.to_string()),
            resolv_conf_path: path(&sandbox.resolv_conf),
            hostname_path: path(&sandbox.hostname),
            hosts_path: path(&sandbox.hosts),
            log_path: Some(self.shown_log_path(&record)),
            name: Some(format!("/{}", record.name)),
            restart_count: Some(record.state.restart_count),
            driver: Some("overlay2".to_owned()),
            platform: Some("linux".to_owned()),
            mount_label: Some(String::new()),
            process_label: Some(String::new()),
            app_armor_profile: Some(self.apparmor_profile(&record).unwrap_or_default()),
            exec_ids: (!execs.is_empty()).then_some(execs),
            host_config: Some(self.shown_host_config(&record)),
            graph_driver: Some(DriverData {
                name: "overlay2".to_owned(),
                data: HashMap::from([
                    ("UpperDir".to_owned(), rootfs.upper().display().to_string()),
                    ("WorkDir".to_owned(), rootfs.work().display().to_string()),
                    ("MergedDir".to_owned(), rootfs.merged().display().to_string()),
                ]),
            }),
            size_rw: sizes.map(|(own, _)| own),
            size_root_fs: sizes.map(|(_, all)| all),
            mounts: Some(self.shown_mounts(&record)),
            config: Some(record.config.clone()),
            network_settings: Some(NetworkSettings {
                sandbox_id: Some(sandbox.id.clone()),
                sandbox_key: path(&sandbox.netns),
                ports: Some(if record.state.is_running() {
                    shown_ports(&record, &sandbox.ports)
                } else {
                    PortMap::new()
                }),
                networks: Some(self.shown_endpoints(&record)),
            }),
            ..ContainerInspectResponse::default()
        })
    }

    /// The AppArmor profile of a container's processes, where the kernel has AppArmor.
    pub(super) fn apparmor_profile(&self, record: &Record) -> Option<String> {
        let options = SecurityOptions::parse(record.host.security_opt.as_deref().unwrap_or_default());
        let asked = options.ok().and_then(|options| options.apparmor);
        self.apparmor.profile_of(asked.as_deref(), record.host.privileged == Some(true))
    }

    /// Mounts but for those that the daemon itself has put there.
    pub(super) fn shown_mounts(&self, record: &Record) -> Vec<MountPoint> {
        let shown = record.mounts.iter().filter(|mount| !self.is_private(&mount.source));
        shown.filter_map(mount_point).collect()
    }

    /// Where its log is since it was first started; empty for drivers that have no such file.
    fn shown_log_path(&self, record: &Record) -> String {
        let began = record.state.phase != Phase::Created || !record.state.error.is_empty();
        let driver = record.host.log_config.as_ref().and_then(|log| log.typ.as_deref()).unwrap_or_default();
        if !began || !matches!(driver, "" | "json-file") {
            return String::new();
        }
        let name = format!("{}-json.log", record.id);
        self.container_dir(&record.id).join(name).display().to_string()
    }

    fn shown_host_config(&self, record: &Record) -> HostConfig {
        let mut host = host_config(record);
        if let Some(mounts) = &mut host.mounts {
            mounts.retain(|mount| {
                mount.source.as_deref().is_none_or(|source| !self.is_private(Path::new(source)))
            });
        }
        host.mounts = host.mounts.filter(|mounts| !mounts.is_empty());
        host
    }

    fn is_private(&self, source: &Path) -> bool {
        self.config.private_sources.as_ref().is_some_and(|folder| source.starts_with(folder))
    }

    /// Bytes of its own layer, and together with its image's.
    pub(super) fn sizes(&self, record: &Record) -> (i64, i64) {
        let dir = self.container_dir(&record.id);
        let own = directory_size(&crate::container::rootfs::RootFs::new(&dir).upper());
        let image =
            self.images.inspect(&record.image.to_string()).ok().and_then(|image| image.size).unwrap_or(0);
        (own, own + image)
    }

    /// Endpoints under the names of their networks, as they are or as they are wished for.
    pub(super) fn shown_endpoints(&self, record: &Record) -> HashMap<String, EndpointSettings> {
        record
            .endpoints
            .iter()
            .map(|(name, wish)| {
                let shown = self.network.display_name(name).unwrap_or_else(|| name.clone());
                let endpoint = record.connected.get(name).cloned().unwrap_or_else(|| EndpointSettings {
                    // What is wished for is nobody's address yet.
                    mac_address: None,
                    ..wish.clone()
                });
                (shown, complete(endpoint))
            })
            .collect()
    }

    /// Processes inside, with the columns of `ps`.
    pub async fn top(&self, term: &str, ps_args: &str) -> Result<ContainerTopResponse> {
        let container = self.find(term)?;
        let state = container.state();
        if state.phase != Phase::Running {
            return Err(EngineError::NotRunning(container.id.to_string()));
        }
        let pids = self.hierarchies.processes(&container.cgroup(&self.config.cgroup_parent));
        let args: Vec<&str> =
            if ps_args.trim().is_empty() { vec!["-ef"] } else { ps_args.split_whitespace().collect() };
        // By pids, because most options of `ps` choose processes of one terminal only; not every `ps` knows how.
        let by_pid = format!("-q{}", pids.iter().map(i32::to_string).collect::<Vec<_>>().join(","));
        let text = match ps(args.iter().copied().chain([by_pid.as_str()])).await {
            Ok(text) => text,
            Err(_) => ps(args.iter().copied()).await?,
        };
        parse_ps(&text, &pids)
    }
}

async fn ps(args: impl Iterator<Item = &str>) -> Result<String> {
    let output = tokio::process::Command::new("ps").args(args).output().await;
    let output = output.map_err(|error| EngineError::Refused(format!("ps: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(EngineError::Refused(format!("ps: {}", text.lines().next().unwrap_or_default())))
}

/// Keeps the rows whose PID is one of `pids`; the last column takes the rest of the line.
fn parse_ps(text: &str, pids: &[i32]) -> Result<ContainerTopResponse> {
    let mut lines = text.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let Some(column) = titles.iter().position(|title| title == "PID") else {
        return Err(EngineError::Refused("Couldn't find PID field in ps output".to_owned()));
    };
    let rows = lines.map(|line| {
        let mut words = line.split_whitespace();
        let mut row: Vec<String> = words.by_ref().take(titles.len() - 1).map(str::to_owned).collect();
        row.push(words.collect::<Vec<_>>().join(" "));
        row
    });
    let inside = |row: &Vec<String>| {
        row.get(column).and_then(|pid| pid.parse().ok()).is_some_and(|pid: i32| pids.contains(&pid))
    };
    let processes = rows.filter(inside).collect();
    Ok(ContainerTopResponse { titles: Some(titles), processes: Some(processes) })
}

fn state(record: &Record) -> ContainerState {
    let state = &record.state;
    let status: ContainerStateStatusEnum = state.status().parse().unwrap_or(ContainerStateStatusEnum::EMPTY);
    ContainerState {
        status: Some(status),
        running: Some(state.is_running()),
        paused: Some(state.paused),
        restarting: Some(state.phase == Phase::Restarting),
        oom_killed: Some(state.oom_killed),
        dead: Some(false),
        pid: Some(state.pid),
        exit_code: Some(state.exit_code),
        error: Some(state.error.clone()),
        started_at: Some(state.started_at.clone()),
        finished_at: Some(state.finished_at.clone()),
        health: state.health.as_ref().map(Health::shown),
    }
}

/// What applies, also where nothing was asked for.
fn host_config(record: &Record) -> HostConfig {
    let mut host = record.host.clone();
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    if host.privileged != Some(true) {
        host.masked_paths.get_or_insert_with(|| own(&MASKED_PATHS));
        host.readonly_paths.get_or_insert_with(|| own(&READONLY_PATHS));
    }
    host.runtime.get_or_insert_with(|| "weft".to_owned());
    host.auto_remove.get_or_insert(false);
    host.privileged.get_or_insert(false);
    host.readonly_rootfs.get_or_insert(false);
    host.publish_all_ports.get_or_insert(false);
    host
}

/// Fields that Docker always shows.
fn complete(mut endpoint: EndpointSettings) -> EndpointSettings {
    for text in [
        &mut endpoint.mac_address,
        &mut endpoint.network_id,
        &mut endpoint.endpoint_id,
        &mut endpoint.gateway,
        &mut endpoint.ip_address,
        &mut endpoint.ipv6_gateway,
        &mut endpoint.global_ipv6_address,
    ] {
        text.get_or_insert_default();
    }
    endpoint.ip_prefix_len.get_or_insert(0);
    endpoint.global_ipv6_prefix_len.get_or_insert(0);
    endpoint.gw_priority.get_or_insert(0);
    endpoint
}

/// Bound ports, and exposed ones as `null`.
fn shown_ports(record: &Record, bound: &PortMap) -> PortMap {
    let mut ports: PortMap =
        record.config.exposed_ports.iter().flatten().map(|port| (port.clone(), None)).collect();
    ports.extend(bound.clone());
    ports
}

/// A mount as shown; tmpfs are only in the host configuration.
fn mount_point(mount: &MountRecord) -> Option<MountPoint> {
    let (typ, name, driver) = match mount.kind {
        MountKind::Bind => ("bind", None, None),
        MountKind::Volume => ("volume", Some(mount.name.clone()), Some("local".to_owned())),
        MountKind::Tmpfs => return None,
    };
    Some(MountPoint {
        typ: Some(typ.to_owned()),
        name,
        source: Some(mount.source.display().to_string()),
        destination: Some(mount.destination.display().to_string()),
        driver,
        mode: Some(mount.mode.clone()),
        rw: Some(mount.writable),
        propagation: Some(mount.propagation.clone()),
    })
}

/// Bytes of all files and links below a directory; those with several names count once.
pub(crate) fn directory_size(dir: &Path) -> i64 {
    fn add(dir: &Path, seen: &mut HashSet<(u64, u64)>) -> i64 {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .map(|entry| match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => add(&entry.path(), seen),
                Ok(metadata) if metadata.nlink() > 1 && !seen.insert((metadata.dev(), metadata.ino())) => 0,
                Ok(metadata) => metadata.len() as i64,
                Err(_) => 0,
            })
            .sum()
    }
    add(dir, &mut HashSet::new())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_two_names_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/f"), "12345").unwrap();
        std::fs::hard_link(at("d/f"), at("g")).unwrap();
        std::os::unix::fs::symlink("/d", at("l")).unwrap();
        assert_eq!(directory_size(dir.path()), 5 + 2);
    }

    #[test]
    fn only_own_processes_are_shown() {
        let text = "UID PID PPID CMD\nroot 1 0 /sbin/init splash\nroot 42 1 sleep 100\n";
        let top = parse_ps(text, &[42]).unwrap();
        assert_eq!(top.processes.unwrap(), [["root", "42", "1", "sleep 100"]]);
        assert!(parse_ps("UID CMD\n", &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_table_of_processes_is_read(titles in "(PID|UID| |CMD){0,6}", text in "[0-9a-z \n]{0,60}|\\PC{0,20}") {
            let _ = parse_ps(&format!("{titles}\n{text}"), &[1, 42]);
        }
    }
}
