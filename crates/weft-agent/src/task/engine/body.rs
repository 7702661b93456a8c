//! From a task to a request for its container. Pure.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard_stubs::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, NetworkingConfig, PortBinding, PortMap, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use weft_orchestration::{Malformed, Placeholders};
use weft_wire::swarmkit::mount::Type;
use weft_wire::swarmkit::mount::bind_options::Propagation;
use weft_wire::swarmkit::port_config::{Protocol, PublishMode};
use weft_wire::swarmkit::privileges::app_armor_opts::AppArmorMode;
use weft_wire::swarmkit::privileges::seccomp_opts::SeccompMode;
use weft_wire::swarmkit::task_spec::Runtime;
use weft_wire::swarmkit::{
    ContainerSpec, NetworkAttachment, PortConfig, Privileges, Task, mount as wire_mount,
};

use crate::task::naming;

/// Networks by this label are the node's own: `host`, `bridge`, `none`.
const PREDEFINED_LABEL: &str = "com.docker.swarm.predefined";

/// Why a task cannot become a container, in the words of Docker's executor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("dockerexec: image required")]
    NoImage,
    #[error("expanding {0} failed: {1}")]
    Template(&'static str, #[source] Malformed),
    #[error("the task is no container")]
    NoContainer,
    #[error("{0}")]
    Unsupported(&'static str),
}

/// A file that is given to the container: where it lies here, and where it shall be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileMount {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
}

/// The container part of a task.
pub(crate) fn container_spec(task: &Task) -> Option<&ContainerSpec> {
    match task.spec.as_ref()?.runtime.as_ref()? {
        Runtime::Container(spec) => Some(spec),
        _ => None,
    }
}

/// Environment with its placeholders filled in.
pub(super) fn environment(spec: &ContainerSpec, context: &Placeholders) -> Result<Vec<String>, BodyError> {
    let expand = |entry: &String| context.expand(entry).map_err(|error| BodyError::Template("env", error));
    spec.env.iter().map(expand).collect()
}

/// What to create.
pub(super) fn body(
    task: &Task,
    context: &Placeholders,
    files: &[FileMount],
) -> Result<ContainerCreateBody, BodyError> {
    let spec = container_spec(task).ok_or(BodyError::NoContainer)?;
    if spec.image.is_empty() {
        return Err(BodyError::NoImage);
    }
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let hostname = context.expand(&spec.hostname).map_err(|error| BodyError::Template("hostname", error))?;
    let labels = naming::labels(task, &spec.labels);
    Ok(ContainerCreateBody {
        hostname: some(&hostname),
        user: some(&spec.user),
        env: list(&environment(spec, context)?),
        entrypoint: list(&spec.command),
        cmd: list(&spec.args),
        working_dir: some(&spec.dir),
        image: Some(spec.image.clone()),
        tty: Some(spec.tty),
        open_stdin: Some(spec.open_stdin),
        stop_signal: some(&spec.stop_signal),
        labels: Some(labels.into_iter().collect()),
        exposed_ports: exposed_ports(task),
        healthcheck: spec.healthcheck.as_ref().map(health_check),
        host_config: Some(host_config(task, spec, context, files)?),
        networking_config: Some(NetworkingConfig { endpoints_config: Some(endpoints(task)) }),
        ..ContainerCreateBody::default()
    })
}

fn nanoseconds(duration: Option<&prost_types::Duration>) -> Option<i64> {
    let duration = duration?;
    Some(duration.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(duration.nanos)))
}

fn health_check(check: &weft_wire::swarmkit::HealthConfig) -> HealthConfig {
    HealthConfig {
        test: Some(check.test.clone()),
        interval: nanoseconds(check.interval.as_ref()),
        timeout: nanoseconds(check.timeout.as_ref()),
        retries: Some(i64::from(check.retries)),
        start_period: nanoseconds(check.start_period.as_ref()),
        start_interval: nanoseconds(check.start_interval.as_ref()),
    }
}

fn host_config(
    task: &Task,
    spec: &ContainerSpec,
    context: &Placeholders,
    files: &[FileMount],
) -> Result<HostConfig, BodyError> {
    let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let resources = task.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let reserved = resources.and_then(|resources| resources.reservations.as_ref());
    let positive = |number: i64| Some(number).filter(|number| *number > 0);
    let dns = spec.dns_config.clone().unwrap_or_default();
    let mut mounts: Vec<Mount> =
        spec.mounts.iter().map(|mount| bind_mount(mount, context)).collect::<Result<_, _>>()?;
    mounts.extend(files.iter().map(file_mount));
    let sysctls: HashMap<String, String> = spec.sysctls.clone().into_iter().collect();
    Ok(HostConfig {
        network_mode: network_mode(task),
        port_bindings: port_bindings(task),
        // Who starts it again is the orchestrator.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: log_config(task),
        mounts: (!mounts.is_empty()).then_some(mounts),
        memory: limits.and_then(|limits| positive(limits.memory_bytes)),
        nano_cpus: limits.and_then(|limits| positive(limits.nano_cpus)),
        memory_reservation: reserved.and_then(|reserved| positive(reserved.memory_bytes)),
        memory_swap: memory_swap(limits.map_or(0, |limits| limits.memory_bytes), resources),
        memory_swappiness: resources.and_then(|resources| resources.memory_swappiness),
        pids_limit: positive(spec.pids_limit),
        ulimits: (!spec.ulimits.is_empty()).then(|| spec.ulimits.iter().map(ulimit).collect()),
        group_add: list(&spec.groups),
        readonly_rootfs: Some(spec.read_only),
        init: spec.init,
        sysctls: (!sysctls.is_empty()).then_some(sysctls),
        cap_add: list(&spec.capability_add),
        cap_drop: list(&spec.capability_drop),
        oom_score_adj: Some(spec.oom_score_adj).filter(|adjust| *adjust != 0),
        dns: list(&dns.nameservers),
        dns_search: list(&dns.search),
        dns_options: list(&dns.options),
        extra_hosts: list(&extra_hosts(&spec.hosts)),
        security_opt: list(&security(spec.privileges.as_ref())?),
        ..HostConfig::default()
    })
}

/// Swap beyond the memory limit, as `--memory-swap` counts: both together.
fn memory_swap(memory: i64, resources: Option<&weft_wire::swarmkit::ResourceRequirements>) -> Option<i64> {
    match resources?.swap_bytes? {
        unlimited if unlimited < 0 => Some(-1),
        swap if memory > 0 => Some(memory.saturating_add(swap)),
        _ => None,
    }
}

fn ulimit(limit: &weft_wire::swarmkit::container_spec::Ulimit) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(limit.name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

/// The lines of a hosts file as `name:address`.
fn extra_hosts(lines: &[String]) -> Vec<String> {
    let names = |line: &String| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let address = words.next().unwrap_or_default();
        words.map(move |name| format!("{name}:{address}")).collect::<Vec<_>>()
    };
    lines.iter().flat_map(names).collect()
}

fn security(privileges: Option<&Privileges>) -> Result<Vec<String>, BodyError> {
    let Some(privileges) = privileges else { return Ok(Vec::new()) };
    if privileges.credential_spec.is_some() {
        return Err(BodyError::Unsupported("credential specs are for Windows"));
    }
    let mut options = Vec::new();
    if privileges.no_new_privileges {
        options.push("no-new-privileges=true".to_owned());
    }
    if let Some(seccomp) = &privileges.seccomp {
        match seccomp.mode() {
            SeccompMode::Default => {}
            SeccompMode::Unconfined => options.push("seccomp=unconfined".to_owned()),
            SeccompMode::Custom => {
                options.push(format!("seccomp={}", String::from_utf8_lossy(&seccomp.profile)));
            }
        }
    }
    if privileges.apparmor.as_ref().is_some_and(|apparmor| apparmor.mode() == AppArmorMode::Disabled) {
        options.push("apparmor=unconfined".to_owned());
    }
    if let Some(context) = &privileges.selinux_context {
        if context.disable {
            options.push("label=disable".to_owned());
        }
        let parts = [
            ("user", &context.user),
            ("role", &context.role),
            ("type", &context.r#type),
            ("level", &context.level),
        ];
        options.extend(
            parts
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(key, value)| format!("label={key}:{value}")),
        );
    }
    Ok(options)
}

fn log_config(task: &Task) -> Option<HostConfigLogConfig> {
    let driver = task.log_driver.as_ref().or(task.spec.as_ref()?.log_driver.as_ref())?;
    Some(HostConfigLogConfig {
        typ: Some(driver.name.clone()),
        config: Some(driver.options.clone().into_iter().collect()),
    })
}

// --- mounts ---

fn bind_mount(mount: &weft_wire::swarmkit::Mount, context: &Placeholders) -> Result<Mount, BodyError> {
    let expand = |text: &str| context.expand(text).map_err(|error| BodyError::Template("mounts", error));
    let (source, target) = (expand(&mount.source)?, expand(&mount.target)?);
    let typ = match mount.r#type() {
        Type::Bind => MountType::BIND,
        Type::Volume => MountType::VOLUME,
        Type::Tmpfs => MountType::TMPFS,
        Type::Npipe => return Err(BodyError::Unsupported("mounts of type npipe are for Windows")),
        Type::Cluster => return Err(BodyError::Unsupported("cluster volumes are not implemented yet")),
    };
    let volume_options = match &mount.volume_options {
        Some(options) => Some(MountVolumeOptions {
            no_copy: Some(options.nocopy),
            labels: expanded(&options.labels, &expand)?,
            driver_config: match &options.driver_config {
                Some(driver) => Some(MountVolumeOptionsDriverConfig {
                    name: Some(driver.name.clone()),
                    options: expanded(&driver.options, &expand)?,
                }),
                None => None,
            },
            subpath: Some(options.subpath.clone()).filter(|path| !path.is_empty()),
        }),
        None => None,
    };
    Ok(Mount {
        target: Some(target),
        source: Some(source).filter(|source| !source.is_empty()),
        typ: Some(typ),
        read_only: Some(mount.readonly),
        bind_options: mount.bind_options.as_ref().map(bind_options),
        volume_options,
        tmpfs_options: mount.tmpfs_options.as_ref().map(tmpfs_options),
        ..Mount::default()
    })
}

fn expanded(
    texts: &BTreeMap<String, String>,
    expand: &impl Fn(&str) -> Result<String, BodyError>,
) -> Result<Option<HashMap<String, String>>, BodyError> {
    let all: HashMap<String, String> = texts
        .iter()
        .map(|(key, value)| Ok((key.clone(), expand(value)?)))
        .collect::<Result<_, BodyError>>()?;
    Ok((!all.is_empty()).then_some(all))
}

fn bind_options(options: &wire_mount::BindOptions) -> MountBindOptions {
    use MountBindOptionsPropagationEnum as Word;
    let propagation = match options.propagation() {
        Propagation::Rprivate => Word::RPRIVATE,
        Propagation::Private => Word::PRIVATE,
        Propagation::Rshared => Word::RSHARED,
        Propagation::Shared => Word::SHARED,
        Propagation::Rslave => Word::RSLAVE,
        Propagation::Slave => Word::SLAVE,
    };
    MountBindOptions {
        propagation: Some(propagation),
        non_recursive: Some(options.nonrecursive),
        create_mountpoint: Some(options.createmountpoint),
        read_only_non_recursive: Some(options.readonlynonrecursive),
        read_only_force_recursive: Some(options.readonlyforcerecursive),
    }
}

fn tmpfs_options(options: &wire_mount::TmpfsOptions) -> MountTmpfsOptions {
    MountTmpfsOptions {
        size_bytes: Some(options.size_bytes),
        mode: Some(i64::from(options.mode)),
        options: None,
    }
}

fn file_mount(file: &FileMount) -> Mount {
    Mount {
        target: Some(file.target.display().to_string()),
        source: Some(file.source.display().to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

/// Where a secret's or config's file is seen: relative names lie below `base`.
pub(super) fn target(base: &str, name: &str) -> PathBuf {
    Path::new(base).join(name)
}

// --- network ---

fn name_of(attachment: &NetworkAttachment) -> Option<&str> {
    let spec = attachment.network.as_ref()?.spec.as_ref()?;
    spec.annotations.as_ref().map(|annotations| annotations.name.as_str()).filter(|name| !name.is_empty())
}

fn is_predefined(attachment: &NetworkAttachment) -> bool {
    let spec = attachment.network.as_ref().and_then(|network| network.spec.as_ref());
    let annotations = spec.and_then(|spec| spec.annotations.as_ref());
    annotations.is_some_and(|a| a.labels.get(PREDEFINED_LABEL).is_some_and(|value| value == "true"))
}

/// A network of the node's own is the mode, as with Docker. Else it is the default: the engine puts a task without
/// networks on the default bridge, and one with networks on these alone.
fn network_mode(task: &Task) -> Option<String> {
    let first = task.networks.first().filter(|first| is_predefined(first))?;
    name_of(first).map(str::to_owned)
}

fn endpoints(task: &Task) -> HashMap<String, EndpointSettings> {
    let settings = |attachment: &NetworkAttachment| {
        let name = name_of(attachment)?.to_owned();
        let plain = is_predefined(attachment);
        let aliases = Some(attachment.aliases.clone()).filter(|aliases| !plain && !aliases.is_empty());
        let driver_opts: HashMap<String, String> =
            attachment.driver_attachment_opts.clone().into_iter().collect();
        let settings = EndpointSettings {
            aliases,
            driver_opts: (!driver_opts.is_empty()).then_some(driver_opts),
            ..EndpointSettings::default()
        };
        Some((name, settings))
    };
    task.networks.iter().filter_map(settings).collect()
}

/// Ports that the task's own host publishes.
pub(super) fn host_ports(task: &Task) -> impl Iterator<Item = &PortConfig> {
    let ports = task.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    ports.filter(|port| port.publish_mode() == PublishMode::Host)
}

fn port_key(port: &PortConfig) -> String {
    format!("{}/{}", port.target_port, protocol_word(port.protocol()))
}

fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn exposed_ports(task: &Task) -> Option<Vec<String>> {
    let ports: Vec<String> = host_ports(task).map(port_key).collect();
    (!ports.is_empty()).then_some(ports)
}

fn port_bindings(task: &Task) -> Option<PortMap> {
    let mut bindings = PortMap::new();
    for port in host_ports(task) {
        let published =
            if port.published_port == 0 { String::new() } else { port.published_port.to_string() };
        let binding = PortBinding { host_ip: None, host_port: Some(published) };
        bindings.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    (!bindings.is_empty()).then_some(bindings)
}

/// What was bound, as the managers are told: an entry for each address family, as Docker has it.
pub(super) fn bound_ports(bound: &PortMap) -> Vec<PortConfig> {
    let mut ports = Vec::new();
    for (key, bindings) in bound {
        let Some((target, protocol)) = key.split_once('/') else { continue };
        let protocol = match protocol {
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let Ok(target_port) = target.parse() else { continue };
        for binding in bindings.iter().flatten() {
            let published = binding.host_port.as_deref().and_then(|port| port.parse().ok());
            let Some(published_port) = published else { continue };
            ports.push(PortConfig {
                protocol: protocol.into(),
                target_port,
                published_port,
                publish_mode: PublishMode::Host.into(),
                ..PortConfig::default()
            });
        }
    }
    ports.sort_by_key(|port| (port.target_port, port.protocol, port.published_port));
    ports
}
