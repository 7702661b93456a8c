//! The OCI runtime specification of a container, with Docker's confinement.

pub(crate) mod capabilities;
mod devices;
pub(crate) mod filter;
mod resources;
pub(crate) mod seccomp;
pub(crate) mod security;
pub(crate) mod user;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use self::capabilities::CapabilitySet;
use self::seccomp::Profile;
use self::security::{Seccomp, SecurityOptions};
use self::user::User;
use crate::cgroup::Hierarchies;
use crate::container::record::{MountKind, MountRecord, Record};
use crate::error::EngineError;
use crate::network::SandboxView;

/// Where programs are looked for unless the image says otherwise; Docker's.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where `--init` shows the first process; Docker's.
const INIT_PATH: &str = "/sbin/docker-init";
/// CFS period in microseconds; the kernel's default.
pub(crate) const CPU_PERIOD: i64 = 100_000;

/// Paths that show or change the host; hidden from containers (Docker's `oci/defaults.go`).
pub(crate) const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that containers may read only.
pub(crate) const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Namespaces of another process to join; `None` makes a new one.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    pub(crate) pid: Namespace,
    pub(crate) ipc: Namespace,
    /// Directory to show at `/dev/shm` with a joined IPC namespace.
    pub(crate) shm: Option<PathBuf>,
}

/// A namespace of a container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// A new one.
    #[default]
    New,
    /// The host's.
    Host,
    /// The one at this path.
    Path(PathBuf),
}

/// Everything a specification is made of.
pub(crate) struct SpecInput<'a> {
    pub(crate) record: &'a Record,
    pub(crate) rootfs: &'a Path,
    pub(crate) user: &'a User,
    pub(crate) hostname: &'a str,
    pub(crate) sandbox: &'a SandboxView,
    pub(crate) joined: &'a Joined,
    pub(crate) cgroup: &'a Path,
    pub(crate) hierarchies: &'a Hierarchies,
    /// Profile, where the kernel has AppArmor.
    pub(crate) apparmor: Option<String>,
    /// Program on the host that reaps as first process, for `--init`.
    pub(crate) init: Option<&'a Path>,
}

/// The process of an exec or of the container itself.
pub(crate) struct ProcessInput<'a> {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: &'a User,
    pub(crate) tty: bool,
    pub(crate) capabilities: &'a CapabilitySet,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor: Option<String>,
    pub(crate) console_size: Option<(u16, u16)>,
}

/// Capabilities of a container.
pub(crate) fn capabilities_of(record: &Record) -> Result<CapabilitySet, EngineError> {
    let host = &record.host;
    CapabilitySet::of_container(
        host.privileged == Some(true),
        host.cap_add.as_deref().unwrap_or_default(),
        host.cap_drop.as_deref().unwrap_or_default(),
    )
}

/// Environment of a process: Docker's own entries, then `env`, later ones winning.
pub(crate) fn environment(hostname: &str, tty: bool, home: &str, env: &[String]) -> Vec<String> {
    let mut out = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        out.push("TERM=xterm".to_owned());
    }
    for entry in env {
        let key = entry.split('=').next().unwrap_or_default();
        let same = |have: &String| have.split('=').next() == Some(key);
        match (entry.contains('='), out.iter().position(same)) {
            // A name without value takes the entry away.
            (false, Some(at)) => {
                out.remove(at);
            }
            (false, None) => {}
            (true, Some(at)) => out[at] = entry.clone(),
            (true, None) => out.push(entry.clone()),
        }
    }
    if !out.iter().any(|entry| entry.starts_with("HOME=")) {
        out.push(format!("HOME={home}"));
    }
    out
}

/// The OCI `process` object.
pub(crate) fn process(record: &Record, input: ProcessInput<'_>) -> Result<Value, EngineError> {
    let names = input.capabilities.names();
    let user = input.user;
    // The own group is among them: else a program could drop a "deny" entry for it (CVE-2022-36109).
    let others = user.additional_gids.iter().filter(|gid| **gid != user.gid);
    let groups: Vec<u32> = std::iter::once(&user.gid).chain(others).copied().collect();
    let mut process = json!({
        "terminal": input.tty,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": groups },
        "args": input.args,
        "env": input.env,
        "cwd": input.cwd,
        // No ambient ones: a process of another user than root starts without capabilities, as with Docker.
        "capabilities": { "bounding": names, "effective": names, "permitted": names },
        "rlimits": rlimits(record)?,
    });
    // The runtime library treats `false` as `true` when it orders the filter: leave it out instead.
    if input.no_new_privileges {
        process["noNewPrivileges"] = json!(true);
    }
    if let Some(profile) = input.apparmor {
        process["apparmorProfile"] = json!(profile);
    }
    if let Some((height, width)) = input.console_size {
        process["consoleSize"] = json!({ "height": height, "width": width });
    }
    if let Some(adjust) = record.host.oom_score_adj.filter(|adjust| *adjust != 0) {
        process["oomScoreAdj"] = json!(adjust);
    }
    Ok(process)
}

fn rlimits(record: &Record) -> Result<Vec<Value>, EngineError> {
    let limits = record.host.ulimits.iter().flatten().map(|limit| {
        let name = limit.name.clone().unwrap_or_default();
        let (soft, hard) = (limit.soft.unwrap_or(0), limit.hard.unwrap_or(limit.soft.unwrap_or(0)));
        let known = [
            "core",
            "cpu",
            "data",
            "fsize",
            "locks",
            "memlock",
            "msgqueue",
            "nice",
            "nofile",
            "nproc",
            "rss",
            "rtprio",
            "rttime",
            "sigpending",
            "stack",
            "as",
        ];
        if !known.contains(&name.as_str()) {
            return Err(EngineError::Invalid(format!("invalid ulimit type: {name}")));
        }
        let value = |number: i64| if number < 0 { u64::MAX } else { number as u64 };
        Ok(json!({
            "type": format!("RLIMIT_{}", name.to_ascii_uppercase()),
            "soft": value(soft),
            "hard": value(hard),
        }))
    });
    limits.collect()
}

/// The whole specification.
pub(crate) fn build(input: &SpecInput<'_>) -> Result<Value, EngineError> {
    let record = input.record;
    let options = SecurityOptions::parse(record.host.security_opt.as_deref().unwrap_or_default())?;
    let capabilities = capabilities_of(record)?;
    let tty = record.tty();
    let env =
        environment(input.hostname, tty, &input.user.home, record.config.env.as_deref().unwrap_or_default());
    let own = std::iter::once(record.path.clone()).chain(record.args.iter().cloned());
    let args = match input.init {
        Some(_) => [INIT_PATH.to_owned(), "--".to_owned()].into_iter().chain(own).collect(),
        None => own.collect(),
    };
    let cwd =
        record.config.working_dir.clone().filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".to_owned());
    let console = record.host.console_size.as_deref().and_then(|size| match size {
        [height, width] if *height > 0 && *width > 0 => Some((*height as u16, *width as u16)),
        _ => None,
    });
    let process = process(
        record,
        ProcessInput {
            args,
            env,
            cwd,
            user: input.user,
            tty,
            capabilities: &capabilities,
            no_new_privileges: options.no_new_privileges,
            apparmor: input.apparmor.clone(),
            console_size: console,
        },
    )?;
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": input.rootfs, "readonly": record.host.readonly_rootfs == Some(true) },
        "mounts": mounts(input),
        "linux": linux(input, &options, &capabilities)?,
    });
    if record.host.uts_mode.as_deref() != Some("host") {
        spec["hostname"] = json!(input.hostname);
        if let Some(domain) = record.config.domainname.as_deref().filter(|domain| !domain.is_empty()) {
            spec["domainname"] = json!(domain);
        }
    }
    Ok(spec)
}

fn linux(
    input: &SpecInput<'_>,
    options: &SecurityOptions,
    capabilities: &CapabilitySet,
) -> Result<Value, EngineError> {
    let host = &input.record.host;
    let privileged = host.privileged == Some(true);
    let mut linux = json!({
        "cgroupsPath": input.cgroup,
        "namespaces": namespaces(input),
        "resources": resources::of(input)?,
        "sysctl": sysctls(input),
    });
    if privileged {
        linux["devices"] = json!(devices::of_host());
    } else {
        linux["devices"] = json!(devices::mapped(host)?);
        if !options.unmasked {
            linux["maskedPaths"] = json!(host.masked_paths.clone().unwrap_or_else(|| own(&MASKED_PATHS)));
            linux["readonlyPaths"] =
                json!(host.readonly_paths.clone().unwrap_or_else(|| own(&READONLY_PATHS)));
        }
    }
    let profile = match &options.seccomp {
        Seccomp::Default if privileged => None,
        Seccomp::Unconfined => None,
        Seccomp::Default => Some(Profile::default_profile()),
        Seccomp::Custom(profile) => Some(profile.clone()),
    };
    if let Some(profile) = profile {
        linux["seccomp"] = profile.resolve(capabilities);
    }
    if let Some(propagation) = root_propagation(&input.record.mounts) {
        linux["rootfsPropagation"] = json!(propagation);
    }
    Ok(linux)
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Mounts that spread need a root that lets them.
fn root_propagation(mounts: &[MountRecord]) -> Option<&'static str> {
    let wants = |kind: &str| mounts.iter().any(|mount| mount.propagation.ends_with(kind));
    if wants("shared") {
        Some("shared")
    } else if wants("slave") {
        Some("slave")
    } else {
        None
    }
}

fn namespaces(input: &SpecInput<'_>) -> Vec<Value> {
    let host = &input.record.host;
    let mut namespaces = vec![json!({ "type": "mount" })];
    let mut add = |kind: &str, namespace: &Namespace| match namespace {
        Namespace::New => namespaces.push(json!({ "type": kind })),
        Namespace::Path(path) => namespaces.push(json!({ "type": kind, "path": path })),
        Namespace::Host => {}
    };
    add("pid", &input.joined.pid);
    add("ipc", &input.joined.ipc);
    let uts = if host.uts_mode.as_deref() == Some("host") { Namespace::Host } else { Namespace::New };
    add("uts", &uts);
    if let Some(netns) = &input.sandbox.netns {
        add("network", &Namespace::Path(netns.clone()));
    }
    let mode = host.cgroupns_mode.map(|mode| mode.to_string()).unwrap_or_default();
    if mode == "private" || (mode.is_empty() && input.hierarchies.is_pure_v2()) {
        add("cgroup", &Namespace::New);
    }
    namespaces
}

/// Docker lets every user of an own network namespace bind low ports and send pings; then what the user asks for.
fn sysctls(input: &SpecInput<'_>) -> Map<String, Value> {
    let mut sysctls = Map::new();
    if input.sandbox.netns.is_some() && !input.record.network_mode().starts_with("container:") {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), json!("0"));
        sysctls.insert("net.ipv4.ping_group_range".to_owned(), json!("0 2147483647"));
    }
    for (key, value) in input.record.host.sysctls.iter().flatten() {
        sysctls.insert(key.clone(), json!(value));
    }
    sysctls
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn mounts(input: &SpecInput<'_>) -> Vec<Value> {
    let host = &input.record.host;
    let access = if host.privileged == Some(true) { "rw" } else { "ro" };
    let user = &input.record.mounts;
    let free = |destination: &str| user.iter().all(|mount| mount.destination != Path::new(destination));
    let mut mounts = Vec::new();
    let mut system = |value: Value| {
        if free(value["destination"].as_str().unwrap_or_default()) {
            mounts.push(value);
        }
    };
    system(mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]));
    system(mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]));
    system(mount(
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ));
    system(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]));
    system(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", access]));
    system(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    match &input.joined.shm {
        Some(path) => system(mount("/dev/shm", "bind", &path.display().to_string(), &["rbind", "rprivate"])),
        None if host.ipc_mode.as_deref() == Some("none") => {}
        None => {
            let size = format!("size={}", host.shm_size.unwrap_or(64 << 20));
            system(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
        }
    }
    for (destination, source) in [
        ("/etc/resolv.conf", &input.sandbox.resolv_conf),
        ("/etc/hostname", &input.sandbox.hostname),
        ("/etc/hosts", &input.sandbox.hosts),
    ] {
        if let Some(source) = source {
            system(mount(destination, "bind", &source.display().to_string(), &["rbind", "rprivate"]));
        }
    }
    if let Some(init) = input.init {
        mounts.push(mount(INIT_PATH, "bind", &init.display().to_string(), &["bind", "rprivate", "ro"]));
    }
    mounts.extend(user.iter().map(user_mount));
    mounts
}

fn user_mount(record: &MountRecord) -> Value {
    let destination = record.destination.display().to_string();
    if record.kind == MountKind::Tmpfs {
        let given: Vec<&str> = record.mode.split(',').filter(|option| !option.is_empty()).collect();
        let mut options: Vec<&str> = ["noexec", "nosuid", "nodev"]
            .into_iter()
            .filter(|option| !given.contains(&option.trim_start_matches("no")))
            .collect();
        options.extend(given.iter().filter(|option| !matches!(**option, "exec" | "suid" | "dev" | "rw")));
        if !record.writable && !given.contains(&"ro") {
            options.push("ro");
        }
        return mount(&destination, "tmpfs", "tmpfs", &options);
    }
    let propagation = if record.propagation.is_empty() { "rprivate" } else { &record.propagation };
    let access = if record.writable { "rw" } else { "ro" };
    let bind = if record.non_recursive { "bind" } else { "rbind" };
    mount(&destination, "bind", &record.source.display().to_string(), &[bind, propagation, access])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_keeps_the_users_word() {
        let env = ["A=1", "PATH=/bin", "GONE=1", "GONE"].map(str::to_owned);
        let out = environment("box", true, "/root", &env);
        assert_eq!(out, ["PATH=/bin", "HOSTNAME=box", "TERM=xterm", "A=1", "HOME=/root"]);
    }

    #[test]
    fn tmpfs_options_replace_the_defaults() {
        let record = MountRecord {
            mode: "exec,size=1m".to_owned(),
            ..MountRecord::new(MountKind::Tmpfs, PathBuf::from("/t"))
        };
        assert_eq!(user_mount(&record)["options"], json!(["nosuid", "nodev", "size=1m"]));
    }
}
