//! The one list of what is not as recorded, each with its reason. A place that is as recorded again must leave the list.

use std::path::Path;

/// For steps that are not sent at all.
pub(crate) const NOT_REPLAYED: &str = "not replayed";

/// Places where Weft's answers differ.
#[derive(Debug)]
pub(crate) struct Difference {
    /// Names of recordings.
    recordings: &'static [&'static str],
    /// Steps; all without any.
    steps: &'static [u32],
    /// As in [`crate::pattern::Mismatch`]; `*` is one part of it, `**` at the end all that follows.
    at: &'static str,
    #[allow(dead_code, reason = "for those who read the table or a failure")]
    why: &'static str,
    /// Seen in every run.
    always: bool,
}

impl Difference {
    pub(crate) fn covers(&self, step: u32, at: &str) -> bool {
        (self.steps.is_empty() || self.steps.contains(&step)) && matches(self.at, at)
    }

    pub(crate) fn is_always_seen(&self) -> bool {
        self.always
    }
}

fn matches(pattern: &str, at: &str) -> bool {
    let (mut wanted, mut parts) = (pattern.split('/'), at.split('/'));
    loop {
        match (wanted.next(), parts.next()) {
            (Some("**"), _) | (None, None) => return true,
            (Some("*"), Some(_)) => (),
            (Some(wanted), Some(part)) if wanted == part => (),
            _ => return false,
        }
    }
}

/// Those of one recording.
pub(crate) fn of(recording: &str) -> impl Iterator<Item = &'static Difference> {
    DIFFERENCES.iter().filter(move |d| d.recordings.contains(&recording))
}

/// The reason why an answer may differ at a place, if there is one.
pub(crate) fn find(recording: &str, step: u32, at: &str) -> Option<&'static Difference> {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let of_groups = OF_UNIFIED_GROUPS.iter().filter(|_| unified);
    of(recording).chain(of_groups).find(|difference| difference.covers(step, at))
}

const fn differs(
    recordings: &'static [&'static str],
    steps: &'static [u32],
    at: &'static str,
    why: &'static str,
) -> Difference {
    Difference { recordings, steps, at, why, always: true }
}

/// One that depends on the machine or on who is faster.
const fn may_differ(
    recordings: &'static [&'static str],
    steps: &'static [u32],
    at: &'static str,
    why: &'static str,
) -> Difference {
    Difference { always: false, ..differs(recordings, steps, at, why) }
}

const ALL: &[&str] = &["system", "containers", "options", "images", "networks", "events", "clients"];
/// Recordings in which containers are inspected.
const INSPECTING: &[&str] = &["containers", "options", "networks", "clients"];
/// Recordings in which ports are published.
const PUBLISHING: &[&str] = &["containers", "options", "clients"];
const INFO: &[&str] = &["system", "images", "clients"];

const OWN_PLACES: &str = "Weft keeps its files in places of its own";
const OWN_RUNTIME: &str = "Weft has a runtime of its own, and neither containerd nor runc";
const ANY_ORDER: &str = "first it ended, then it is stopped";
const LATER: &str = "not built yet";
const IPV4_ONLY: &str = "ports of containers without IPv6 are published on 0.0.0.0 only";
const KERNEL: &str = "what the kernel of the recording told, or did not";

const ABOVE_THE_DAEMON: &str = "Docker makes binds of what its own directory is below slaves";
const LEFT_BEHIND: &str = "Docker shows what is left of an endpoint whose container did not start";
const REFUSED_PORTS: &str = "ports that could never be published are refused, not ignored";
const SWARM: &str = "the recording's engine was in a swarm";
const GROUPS: &str = "control groups of another version";
const NO_MACVLAN: &str = "the recording's kernel had no devices for a macvlan without a parent";
const NO_ENDPOINT: &str = "there is no endpoint on the host's network or on none";
/// Steps that list containers which did not start.
const FAILED_STARTS: &[u32] = &[10, 16, 84, 164, 165, 170, 171, 178, 181, 184, 190];

/// Where the host has but one hierarchy of control groups (cgroup v2): that of the recordings had the older ones.
static OF_UNIFIED_GROUPS: &[Difference] = &[
    may_differ(ALL, &[], "/answer/CgroupVersion", GROUPS),
    may_differ(ALL, &[], "/answer/CgroupDriver", GROUPS),
    may_differ(ALL, &[], "/answer/KernelMemory", GROUPS),
    may_differ(ALL, &[], "/answer/KernelMemoryTCP", GROUPS),
    may_differ(ALL, &[], "/answer/OomKillDisable", GROUPS),
    may_differ(ALL, &[], "/answer/SecurityOptions", GROUPS),
    may_differ(ALL, &[], "/answer/Warnings", GROUPS),
    may_differ(ALL, &[], "/answer/HostConfig/CgroupnsMode", GROUPS),
    may_differ(ALL, &[], "/answer/HostConfig/OomKillDisable", GROUPS),
    may_differ(ALL, &[], "/answer/memory_stats/**", GROUPS),
    may_differ(ALL, &[], "/answer/blkio_stats/**", GROUPS),
    may_differ(ALL, &[], "/answer/cpu_stats/**", GROUPS),
    may_differ(ALL, &[], "/answer/precpu_stats/**", GROUPS),
];

static DIFFERENCES: &[Difference] = &[
    differs(ALL, &[], "/headers/Server", "it is Weft that answers"),
    // What is recorded of the engine itself.
    differs(&["system"], &[], "/headers/Builder-Version", "Weft has no BuildKit"),
    differs(&["system", "clients"], &[], "/answer/Platform/Name", "it is Weft that answers"),
    differs(&["system", "clients"], &[], "/answer/Version", "Weft's own version"),
    differs(&["system", "clients"], &[], "/answer/Components", OWN_RUNTIME),
    differs(INFO, &[], "/answer/ServerVersion", "Weft's own version"),
    differs(INFO, &[], "/answer/CDISpecDirs", LATER),
    differs(INFO, &[], "/answer/Containerd", OWN_RUNTIME),
    differs(INFO, &[], "/answer/DefaultRuntime", OWN_RUNTIME),
    differs(INFO, &[], "/answer/Runtimes/*", OWN_RUNTIME),
    differs(&["system"], &[], "/answer/RuncCommit/Expected", OWN_RUNTIME),
    differs(INFO, &[], "/answer/FirewallBackend/Driver", "Weft has nftables only"),
    may_differ(INFO, &[], "/answer/InitBinary", "an init comes with the machine, if at all"),
    differs(INFO, &[], "/answer/Labels", "engines in use are shown as labels"),
    differs(INFO, &[], "/answer/Plugins/Log", LATER),
    differs(&["images"], &[31], "/answer/RegistryConfig/**", "the recording's engine had a mirror"),
    differs(&["images"], &[31], "/answer/Warnings", "the recording's engine listened without TLS"),
    differs(&["system"], &[38], "/**", "login"),
    differs(&["system"], &[39], "/**", "search"),
    // Containers.
    differs(INSPECTING, &[], "/answer/HostConfig/Runtime", OWN_RUNTIME),
    differs(INSPECTING, &[], "/answer/GraphDriver/Data/*", OWN_PLACES),
    differs(INSPECTING, &[], "/answer/ResolvConfPath", OWN_PLACES),
    differs(INSPECTING, &[], "/answer/HostnamePath", OWN_PLACES),
    differs(INSPECTING, &[], "/answer/HostsPath", OWN_PLACES),
    differs(INSPECTING, &[], "/answer/NetworkSettings/SandboxKey", OWN_PLACES),
    differs(
        &["containers", "options"],
        &[],
        "/answer/Config/MacAddress",
        "deprecated: shown at the endpoint only",
    ),
    differs(PUBLISHING, &[], "/answer/NetworkSettings/Ports/*/-::", IPV4_ONLY),
    differs(PUBLISHING, &[], "/answer/*/Ports/-::", IPV4_ONLY),
    may_differ(&["containers", "clients"], &[], "/answer/memory_stats/stats/*", KERNEL),
    may_differ(&["containers", "clients"], &[], "/answer/blkio_stats/*", "whether the disk was read"),
    differs(&["containers"], &[], "/answer/Mounts/*/Propagation", ABOVE_THE_DAEMON),
    differs(&["containers"], &[], "/answer/*/Mounts/*/Propagation", ABOVE_THE_DAEMON),
    differs(
        &["containers", "options"],
        FAILED_STARTS,
        "/answer/*/NetworkSettings/Networks/bridge/*",
        LEFT_BEHIND,
    ),
    differs(
        &["containers", "options"],
        &[10, 11, 12, 14],
        "/answer/NetworkSettings/Networks/bridge/NetworkID",
        LEFT_BEHIND,
    ),
    differs(&["containers"], &[26, 28], "/**", REFUSED_PORTS),
    may_differ(&["containers"], &[103, 117], "/output", "a shell at a terminal writes as it is fast"),
    differs(&["containers"], &[104], "/answer/message", OWN_RUNTIME),
    differs(&["containers"], &[114, 115], "/frames", "another root file system: its group is nogroup"),
    differs(&["containers"], &[195, 196, 197, 198], NOT_REPLAYED, "links"),
    differs(&["options"], &[12], "/answer/message", IPV4_ONLY),
    differs(&["options"], &[38, 39, 40, 41], "/**", REFUSED_PORTS),
    differs(&["options"], &[46], "/**", SWARM),
    may_differ(&["options"], &[50], "/answer/message", "Docker's order is any"),
    differs(&["options"], &[98], "/answer/message", "who is asked for the name is not told"),
    differs(&["options"], &[100], "/**", "links"),
    differs(&["clients"], &[1, 12], "/answer/message", SWARM),
    differs(&["clients"], &[12, 18], "/answer/Swarm/*", SWARM),
    differs(&["clients"], &[17], "/answer/-ingress", SWARM),
    differs(&["clients"], &[17], "/answer/-docker_gwbridge", SWARM),
    differs(&["clients"], &[17], "/answer/-ncfg", "a network of another recording"),
    differs(&["clients"], &[18], "/answer/networks/eth1", SWARM),
    differs(&["clients"], &[18], "/answer/NetworkSettings/Networks/dn1/*", SWARM),
    differs(&["clients"], &[18], "/answer/*/NetworkSettings/Networks/dn1/*", SWARM),
    // Images.
    differs(&["images"], &[8], "/**", "importing from a URL is not built yet"),
    differs(&["images", "clients"], &[], "/answer/DockerVersion", "an image does not tell who made it"),
    differs(&["images"], &[], "/answer/GraphDriver/Data/*", OWN_PLACES),
    differs(&["images", "clients"], &[], "/answer/Metadata/LastTagTime", LATER),
    differs(&["images"], &[39], "/archive", "the directory of the blobs has no entry of its own"),
    differs(&["images"], &[55], "/archive", "no /.dockerenv is made"),
    // Events: the order in which Docker tells that a container is stopped and that it ended is any.
    may_differ(&["events"], &[23, 25], "/answer/10/**", ANY_ORDER),
    may_differ(&["events"], &[23, 25], "/answer/11/**", ANY_ORDER),
    may_differ(&["events"], &[23, 25], "/answer/15/**", ANY_ORDER),
    may_differ(&["events"], &[23, 25], "/answer/16/**", ANY_ORDER),
    // Networks.
    may_differ(&["networks"], &[79, 80], "/**", NO_MACVLAN),
    may_differ(&["networks"], &[127], "/answer/NetworksDeleted/+", NO_MACVLAN),
    differs(&["networks"], &[135], "/answer/NetworkSettings/Networks/host/EndpointID", NO_ENDPOINT),
    differs(&["networks"], &[135], "/answer/NetworkSettings/SandboxID", "the host's namespace is no sandbox"),
    differs(&["networks"], &[138], "/answer/NetworkSettings/Networks/none/EndpointID", NO_ENDPOINT),
    differs(&["networks"], &[143], "/answer/LogPath", "shown from the first attempt to start on"),
    differs(&["networks"], &[149], "/frames", "resolv.conf says who wrote it"),
];
