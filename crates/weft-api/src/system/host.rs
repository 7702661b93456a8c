//! What `/info` tells about the machine.

use std::fs;

/// The architecture by Go's name, as image platforms use it.
pub(crate) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

pub(super) fn kernel_version() -> String {
    read("/proc/sys/kernel/osrelease").trim().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// `PRETTY_NAME` and `VERSION_ID`.
pub(super) fn operating_system() -> (String, String) {
    let text = read("/etc/os-release");
    let field = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    (field("PRETTY_NAME"), field("VERSION_ID"))
}

/// Bytes of memory.
pub(super) fn memory_total() -> u64 {
    let text = read("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// Name of the file system that holds a path, by its magic number (Linux, `include/uapi/linux/magic.h`).
pub(super) fn file_system(path: &str) -> &'static str {
    let magic = rustix::fs::statfs(path).map(|info| info.f_type).unwrap_or_default();
    match magic {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        _ => "<unknown>",
    }
}

pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Open file descriptors of this process.
pub(super) fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

pub(super) fn forwards_ipv4() -> bool {
    read("/proc/sys/net/ipv4/ip_forward").trim() == "1"
}

/// 2 where the unified hierarchy holds the controllers, else 1.
pub(super) fn cgroup_version() -> &'static str {
    if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default() { "2" } else { "1" }
}
