//! From a create request to a record: defaults of the image, checks, mounts.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use bollard_stubs::models::{
    ContainerConfig, ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount,
    MountType, RestartPolicy, RestartPolicyNameEnum,
};

use super::record::{MountKind, MountRecord};
use crate::error::EngineError;
use crate::image::document::RunConfig;
use crate::spec::capabilities::CapabilitySet;
use crate::spec::security::SecurityOptions;

type Result<T> = std::result::Result<T, EngineError>;

/// Docker's least memory limit.
const MEMORY_MIN: i64 = 6 << 20;

fn invalid<T>(text: impl Into<String>) -> Result<T> {
    Err(EngineError::Invalid(text.into()))
}

/// The parts of a request.
pub(crate) struct Request {
    pub(crate) config: ContainerConfig,
    pub(crate) host: HostConfig,
    pub(crate) endpoints: BTreeMap<String, EndpointSettings>,
}

impl Request {
    pub(crate) fn split(body: ContainerCreateBody) -> Self {
        let config = ContainerConfig {
            hostname: body.hostname,
            domainname: body.domainname,
            user: body.user,
            attach_stdin: body.attach_stdin,
            attach_stdout: body.attach_stdout,
            attach_stderr: body.attach_stderr,
            exposed_ports: body.exposed_ports,
            tty: body.tty,
            open_stdin: body.open_stdin,
            stdin_once: body.stdin_once,
            env: body.env,
            cmd: body.cmd,
            healthcheck: body.healthcheck,
            args_escaped: body.args_escaped,
            image: body.image,
            volumes: body.volumes,
            working_dir: body.working_dir,
            entrypoint: body.entrypoint,
            network_disabled: body.network_disabled,
            on_build: body.on_build,
            labels: body.labels,
            stop_signal: body.stop_signal,
            stop_timeout: body.stop_timeout,
            shell: body.shell,
        };
        let endpoints: HashMap<String, EndpointSettings> =
            body.networking_config.and_then(|networking| networking.endpoints_config).unwrap_or_default();
        Self {
            config,
            host: body.host_config.unwrap_or_default(),
            endpoints: endpoints.into_iter().collect(),
        }
    }

    /// Fills in what the image says and the request leaves open (Docker's `merge` of configurations).
    pub(crate) fn merge_image(&mut self, image: &RunConfig) -> Result<()> {
        let config = &mut self.config;
        let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
        if empty(&config.user) {
            config.user = image.user.clone();
        }
        if config.entrypoint.as_deref().is_none_or(<[String]>::is_empty) {
            // An entrypoint of `[""]` resets the image's; a new entrypoint drops the image's command.
            if config.cmd.as_deref().is_none_or(<[String]>::is_empty) {
                config.cmd = image.cmd.clone();
            }
            if config.entrypoint.is_none() {
                config.entrypoint = image.entrypoint.clone();
            }
        }
        if config.entrypoint.as_deref() == Some(&[String::new()]) {
            config.entrypoint = None;
        }
        if empty(&config.working_dir) {
            config.working_dir = image.working_dir.clone();
        }
        if empty(&config.stop_signal) {
            config.stop_signal = image.stop_signal.clone();
        }
        config.healthcheck = super::health::merge(config.healthcheck.take(), image);
        if config.shell.as_deref().is_none_or(<[String]>::is_empty) {
            config.shell = image.shell.clone();
        }
        let mut env = image.env.clone().unwrap_or_default();
        let own = config.env.clone().unwrap_or_default();
        env.retain(|entry| !own.iter().any(|o| o.split('=').next() == entry.split('=').next()));
        config.env = Some(own.into_iter().chain(env).collect());
        let mut labels: HashMap<String, String> =
            image.labels.clone().unwrap_or_default().into_iter().collect();
        labels.extend(config.labels.take().unwrap_or_default());
        config.labels = Some(labels);
        let mut ports = config.exposed_ports.take().unwrap_or_default();
        ports.extend(image.exposed_ports.iter().flat_map(|ports| ports.keys().cloned()));
        ports.sort();
        ports.dedup();
        config.exposed_ports = (!ports.is_empty()).then_some(ports);
        let mut volumes = config.volumes.take().unwrap_or_default();
        volumes.extend(image.volumes.iter().flat_map(|volumes| volumes.keys().cloned()));
        volumes.sort();
        volumes.dedup();
        config.volumes = (!volumes.is_empty()).then_some(volumes);
        Ok(())
    }

    /// Program and arguments.
    pub(crate) fn command(&self) -> Result<(String, Vec<String>)> {
        let mut words = self.config.entrypoint.clone().unwrap_or_default();
        words.extend(self.config.cmd.clone().unwrap_or_default());
        if words.is_empty() || words[0].is_empty() && words.len() == 1 {
            return invalid("no command specified");
        }
        let args = words.split_off(1);
        Ok((words.remove(0), args))
    }

    /// Checks what can be checked before anything is made; warnings for the user.
    pub(crate) fn check(&mut self, default_shm_size: i64) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        self.check_restart_policy()?;
        self.check_resources(&mut warnings)?;
        self.check_log_config()?;
        let host = &self.host;
        let bindings = host.port_bindings.clone().unwrap_or_default();
        crate::ports::wishes(&bindings, self.config.exposed_ports.as_deref().unwrap_or_default(), true)?;
        if host.links.as_ref().is_some_and(|links| !links.is_empty()) {
            return Err(EngineError::NotImplemented(
                "legacy links are not supported: put the containers on a user-defined network".to_owned(),
            ));
        }
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let privileged = host.privileged == Some(true);
        CapabilitySet::of_container(privileged, &list(&host.cap_add), &list(&host.cap_drop))?;
        SecurityOptions::parse(&list(&host.security_opt))?;
        if host
            .runtime
            .as_deref()
            .is_some_and(|runtime| !matches!(runtime, "" | "weft" | "runc" | "io.containerd.runc.v2"))
        {
            let runtime = host.runtime.as_deref().unwrap_or_default();
            return invalid(format!("unknown or invalid runtime name: {runtime}"));
        }
        if host.init == Some(true) {
            return Err(EngineError::NotImplemented("--init is not implemented yet".to_owned()));
        }
        if host.userns_mode.as_deref().is_some_and(|mode| !matches!(mode, "" | "host")) {
            return Err(EngineError::NotImplemented("user namespaces are not implemented yet".to_owned()));
        }
        if host.auto_remove == Some(true) && self.has_restart_policy() {
            return invalid("can't create 'AutoRemove' container with restart policy");
        }
        if let Some(mode) = host.network_mode.as_deref().filter(|mode| mode.starts_with("container:")) {
            let published = host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
            if published || host.publish_all_ports == Some(true) {
                return invalid("conflicting options: port publishing and the container type network mode");
            }
            if self.config.hostname.as_deref().is_some_and(|name| !name.is_empty()) {
                return invalid("conflicting options: hostname and the network mode");
            }
            if mode == "container:" {
                return invalid("Invalid network mode: invalid container format container:<name|id>");
            }
        }
        if self.config.working_dir.as_deref().is_some_and(|dir| !dir.is_empty() && !dir.starts_with('/')) {
            let dir = self.config.working_dir.as_deref().unwrap_or_default();
            return invalid(format!(
                "the working directory '{dir}' is invalid, it needs to be an absolute path"
            ));
        }
        if let Some(signal) = self.config.stop_signal.as_deref().filter(|signal| !signal.is_empty()) {
            super::signal::parse(signal)?;
        }
        for entry in self.config.env.iter().flatten() {
            if entry.starts_with('=') || entry.is_empty() {
                return invalid(format!("invalid environment variable: {entry}"));
            }
        }
        if let Some(check) = &self.config.healthcheck {
            super::health::validate(check)?;
        }
        if self.host.shm_size.unwrap_or(0) == 0 {
            self.host.shm_size = Some(default_shm_size);
        } else if self.host.shm_size.is_some_and(|size| size < 0) {
            return invalid("SHM size can not be less than 0");
        }
        Ok(warnings)
    }

    fn has_restart_policy(&self) -> bool {
        let name = self.host.restart_policy.as_ref().and_then(|policy| policy.name);
        !matches!(name, None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO))
    }

    fn check_restart_policy(&mut self) -> Result<()> {
        let policy = self.host.restart_policy.get_or_insert_with(RestartPolicy::default);
        let retries = policy.maximum_retry_count.unwrap_or(0);
        let name = policy.name.filter(|name| *name != RestartPolicyNameEnum::EMPTY);
        let name = name.unwrap_or(RestartPolicyNameEnum::NO);
        if retries < 0 {
            return invalid("invalid restart policy: maximum retry count cannot be negative");
        }
        if retries > 0 && name != RestartPolicyNameEnum::ON_FAILURE {
            return invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'");
        }
        *policy = RestartPolicy { name: Some(name), maximum_retry_count: Some(retries) };
        Ok(())
    }

    fn check_resources(&mut self, warnings: &mut Vec<String>) -> Result<()> {
        let host = &mut self.host;
        let memory = host.memory.unwrap_or(0);
        if memory != 0 && memory < MEMORY_MIN {
            return invalid("Minimum memory limit allowed is 6MB");
        }
        let swap = host.memory_swap.unwrap_or(0);
        if swap > 0 && memory == 0 {
            return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
        }
        if swap > 0 && swap < memory {
            return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
        }
        // Docker allows as much swap as memory unless told otherwise.
        if memory > 0 && swap == 0 {
            host.memory_swap = Some(memory.saturating_mul(2));
        }
        let nano = host.nano_cpus.unwrap_or(0);
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        if nano < 0 || nano > available as i64 * 1_000_000_000 {
            return invalid(format!(
                "range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available"
            ));
        }
        if nano > 0 && (host.cpu_period.unwrap_or(0) > 0 || host.cpu_quota.unwrap_or(0) > 0) {
            return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
        }
        if host.oom_kill_disable == Some(true) && memory == 0 {
            warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
        }
        Ok(())
    }

    fn check_log_config(&mut self) -> Result<()> {
        let log = self.host.log_config.get_or_insert_with(HostConfigLogConfig::default);
        let driver = log.typ.clone().filter(|typ| !typ.is_empty()).unwrap_or_else(|| "json-file".to_owned());
        if !matches!(driver.as_str(), "json-file" | "none") {
            return invalid(format!(
                "error looking up logging plugin {driver}: plugin \"{driver}\" not found"
            ));
        }
        let options = log.config.get_or_insert_default();
        let known = ["max-size", "max-file", "labels", "labels-regex", "env", "env-regex", "tag", "compress"];
        if let Some(option) =
            options.keys().find(|key| !known.contains(&key.as_str()) && driver == "json-file")
        {
            return invalid(format!("unknown log opt '{option}' for json-file log driver"));
        }
        if let Some(size) = options.get("max-size") {
            parse_size(size)?;
        }
        if let Some(files) = options.get("max-file") {
            match files.parse::<u32>() {
                Ok(files) if files >= 1 => {}
                _ => return invalid("max-file cannot be less than 1"),
            }
        }
        log.typ = Some(driver);
        Ok(())
    }
}

/// `10m`, `1g`, `100k`, `512`: bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => 0,
    };
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(size) if factor > 0 => Ok(size),
        _ => invalid(format!("invalid size: '{text}'")),
    }
}

/// Where named volumes are made.
pub(crate) trait VolumeMaker {
    /// The directory of volume `name`, made if missing; `None` makes an anonymous one. Answers name and directory.
    fn volume(&self, name: Option<&str>) -> Result<(String, PathBuf)>;
}

/// The mounts of a request: `--mount`, `-v`, `--tmpfs`, `VOLUME` of the image; in this order of precedence.
pub(crate) fn mounts(request: &Request, volumes: &dyn VolumeMaker) -> Result<Vec<MountRecord>> {
    let mut mounts: Vec<MountRecord> = Vec::new();
    let mut add = |mount: MountRecord, replaceable: bool| {
        if mounts.iter().any(|have| have.destination == mount.destination) {
            return if replaceable {
                Ok(())
            } else {
                invalid(format!("Duplicate mount point: {}", mount.destination.display()))
            };
        }
        mounts.push(mount);
        Ok(())
    };
    for mount in request.host.mounts.iter().flatten() {
        add(from_mount(mount, volumes)?, false)?;
    }
    for bind in request.host.binds.iter().flatten() {
        add(from_bind(bind, volumes)?, false)?;
    }
    for (destination, options) in request.host.tmpfs.iter().flatten() {
        add(
            MountRecord {
                kind: MountKind::Tmpfs,
                name: String::new(),
                source: PathBuf::new(),
                destination: destination_path(destination, "tmpfs")?,
                writable: !options.split(',').any(|option| option == "ro"),
                mode: options.clone(),
                propagation: String::new(),
                anonymous: false,
            },
            false,
        )?;
    }
    for destination in request.config.volumes.iter().flatten() {
        let destination = destination_path(destination, "volume")?;
        if mounts.iter().all(|have| have.destination != destination) {
            let (name, source) = volumes.volume(None)?;
            mounts.push(volume_record(name, source, destination, true, String::new(), true));
        }
    }
    // Parents before their children.
    mounts.sort_by_key(|mount| mount.destination.components().count());
    Ok(mounts)
}

fn volume_record(
    name: String,
    source: PathBuf,
    destination: PathBuf,
    writable: bool,
    mode: String,
    anonymous: bool,
) -> MountRecord {
    MountRecord {
        kind: MountKind::Volume,
        name,
        source,
        destination,
        writable,
        mode,
        propagation: String::new(),
        anonymous,
    }
}

fn destination_path(text: &str, kind: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(EngineError::Refused(format!(
            "invalid mount config for type \"{kind}\": invalid mount path: '{text}' mount path must be absolute"
        )));
    }
    let clean: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
    if clean.components().any(|part| part == Component::ParentDir) || clean == Path::new("/") {
        return invalid(format!(
            "invalid mount config for type \"{kind}\": invalid specification: destination can't be '{text}'"
        ));
    }
    Ok(clean)
}

/// `source:destination[:options]` or `destination`.
fn from_bind(text: &str, volumes: &dyn VolumeMaker) -> Result<MountRecord> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [destination] => (None, destination, ""),
        [source, destination] => (Some(source), destination, ""),
        [source, destination, options] => (Some(source), destination, options),
        _ => return invalid(format!("invalid volume specification: '{text}'")),
    };
    let wrong = |error: EngineError| match error {
        EngineError::Refused(reason) => {
            EngineError::Refused(format!("invalid volume specification: '{text}': {reason}"))
        }
        other => other,
    };
    let mut writable = true;
    let mut propagation = "rprivate".to_owned();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => writable = false,
            "rw" | "z" | "Z" | "nocopy" | "consistent" | "cached" | "delegated" => {}
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                propagation = option.to_owned()
            }
            _ => {
                return invalid(format!("invalid volume specification: '{text}': invalid mode: {options}"));
            }
        }
    }
    match source {
        Some(source) if source.starts_with('/') => {
            let destination = destination_path(destination, "bind").map_err(wrong)?;
            Ok(MountRecord {
                kind: MountKind::Bind,
                name: String::new(),
                source: PathBuf::from(source),
                destination,
                writable,
                mode: options.to_owned(),
                propagation,
                anonymous: false,
            })
        }
        source => {
            let destination = destination_path(destination, "volume").map_err(wrong)?;
            let (name, path) = volumes.volume(source)?;
            Ok(volume_record(name, path, destination, writable, options.to_owned(), source.is_none()))
        }
    }
}

fn from_mount(mount: &Mount, volumes: &dyn VolumeMaker) -> Result<MountRecord> {
    let writable = mount.read_only != Some(true);
    let target = mount.target.as_deref().unwrap_or_default();
    let source = mount.source.as_deref().unwrap_or_default();
    let kind = mount.typ.unwrap_or(MountType::VOLUME);
    match kind {
        MountType::BIND => {
            let options = mount.bind_options.as_ref();
            let create = options.and_then(|options| options.create_mountpoint) == Some(true);
            if !Path::new(source).is_absolute() {
                return invalid("invalid mount config for type \"bind\": field Source must not be empty");
            }
            if !create && !Path::new(source).exists() {
                return invalid(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {source}"
                ));
            }
            let propagation = options.and_then(|options| options.propagation).map(|p| p.to_string());
            Ok(MountRecord {
                kind: MountKind::Bind,
                name: String::new(),
                source: PathBuf::from(source),
                destination: destination_path(target, "bind")?,
                writable,
                mode: String::new(),
                propagation: propagation.filter(|p| !p.is_empty()).unwrap_or_else(|| "rprivate".to_owned()),
                anonymous: false,
            })
        }
        MountType::VOLUME => {
            let destination = destination_path(target, "volume")?;
            let wanted = Some(source).filter(|source| !source.is_empty());
            let (name, path) = volumes.volume(wanted)?;
            Ok(volume_record(name, path, destination, writable, "z".to_owned(), wanted.is_none()))
        }
        MountType::TMPFS => {
            let options = mount.tmpfs_options.as_ref();
            let mut mode = Vec::new();
            if let Some(size) = options.and_then(|options| options.size_bytes).filter(|size| *size > 0) {
                mode.push(format!("size={size}"));
            }
            if let Some(bits) = options.and_then(|options| options.mode).filter(|bits| *bits > 0) {
                mode.push(format!("mode={bits:o}"));
            }
            Ok(MountRecord {
                kind: MountKind::Tmpfs,
                name: String::new(),
                source: PathBuf::new(),
                destination: destination_path(target, "tmpfs")?,
                writable,
                mode: mode.join(","),
                propagation: String::new(),
                anonymous: false,
            })
        }
        other => invalid(format!("mount type {other} is not supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;
    impl VolumeMaker for Fake {
        fn volume(&self, name: Option<&str>) -> Result<(String, PathBuf)> {
            let name = name.unwrap_or("anonymous").to_owned();
            Ok((name.clone(), PathBuf::from("/volumes").join(name)))
        }
    }

    #[test]
    fn binds_are_parsed_as_docker_does() {
        let bind = from_bind("/src:/dst:ro", &Fake).unwrap();
        assert_eq!((bind.kind, bind.writable), (MountKind::Bind, false));
        let volume = from_bind("data:/dst", &Fake).unwrap();
        assert_eq!((volume.kind, volume.name.as_str(), volume.anonymous), (MountKind::Volume, "data", false));
        assert_eq!(
            from_bind("v1:x", &Fake).unwrap_err().to_string(),
            "invalid volume specification: 'v1:x': invalid mount config for type \"volume\": invalid mount path: 'x' mount path must be absolute"
        );
        assert!(from_bind("/a:/b:bogus", &Fake).is_err());
        assert!(from_bind("/a:/", &Fake).is_err());
        assert!(from_bind("/a:/x/../..", &Fake).is_err());
    }

    #[test]
    fn the_image_fills_what_the_request_leaves_open() {
        let image = RunConfig {
            cmd: Some(vec!["sh".into()]),
            entrypoint: Some(vec!["/entry".into()]),
            env: Some(vec!["A=image".into(), "B=image".into()]),
            ..RunConfig::default()
        };
        let merged = |body: ContainerCreateBody| {
            let mut request = Request::split(body);
            request.merge_image(&image).unwrap();
            request
        };
        let plain = merged(ContainerCreateBody::default());
        assert_eq!(plain.command().unwrap(), ("/entry".to_owned(), vec!["sh".to_owned()]));
        let own = merged(ContainerCreateBody {
            entrypoint: Some(vec!["mine".into()]),
            env: Some(vec!["A=own".into()]),
            ..ContainerCreateBody::default()
        });
        assert_eq!(own.command().unwrap(), ("mine".to_owned(), vec![]));
        assert_eq!(own.config.env.unwrap(), ["A=own", "B=image"]);
        let reset =
            merged(ContainerCreateBody { entrypoint: Some(vec![String::new()]), ..Default::default() });
        assert!(reset.command().is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("10m").unwrap(), 10 << 20);
        assert!(parse_size("x").is_err());
        assert!(parse_size("99999999999999g").is_err());
    }
}
