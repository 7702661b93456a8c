//! System call filters: Docker's profile format, our default profile, and their translation to the OCI form.
//!
//! The default allows what <https://docs.docker.com/engine/security/seccomp/> documents as allowed and refuses the rest
//! with EPERM. What depends on a capability is allowed only with it, as there.

use serde::Deserialize;
use serde_json::{Value, json};

use super::capabilities::CapabilitySet;

/// `CLONE_NEW*` flags that need `CAP_SYS_ADMIN`: namespaces of mount, cgroup, UTS, IPC, user, PID and network.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;
const AF_VSOCK: u64 = 40;

/// A profile as `--security-opt seccomp=profile.json` gives it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Profile {
    pub(super) default_action: String,
    pub(super) default_errno_ret: Option<u32>,
    pub(super) architectures: Vec<String>,
    arch_map: Vec<ArchMap>,
    pub(super) flags: Vec<String>,
    pub(super) syscalls: Vec<Rule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    name: String,
    pub(super) names: Option<Vec<String>>,
    pub(super) action: String,
    pub(super) errno_ret: Option<u32>,
    pub(super) args: Option<Vec<Argument>>,
    includes: Condition,
    excludes: Condition,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Argument {
    pub(super) index: u32,
    pub(super) value: u64,
    pub(super) value_two: u64,
    pub(super) op: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Profile {
    /// Parses a user's profile; the error is for the user.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = serde_json::from_str(text)
            .map_err(|error| format!("Decoding seccomp profile failed: {error}"))?;
        if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
            return Err("both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'".to_owned());
        }
        for rule in &profile.syscalls {
            if !rule.name.is_empty() && rule.names.is_some() {
                return Err("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'".to_owned());
            }
        }
        if profile.default_action.is_empty() {
            return Err("Decoding seccomp profile failed: no defaultAction".to_owned());
        }
        Ok(profile)
    }

    /// The profile of containers that do not say otherwise.
    pub(crate) fn default_profile() -> Self {
        let mut syscalls = vec![allow(ALWAYS)];
        syscalls
            .push(Rule { args: Some(vec![argument(0, "SCMP_CMP_NE", AF_VSOCK, 0)]), ..allow(&["socket"]) });
        for persona in [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff] {
            let args = Some(vec![argument(0, "SCMP_CMP_EQ", persona, 0)]);
            syscalls.push(Rule { args, ..allow(&["personality"]) });
        }
        for (arches, names) in BY_ARCHITECTURE {
            let includes = Condition { arches: Some(strings(arches)), ..Condition::default() };
            syscalls.push(Rule { includes, ..allow(names) });
        }
        for (capability, names) in BY_CAPABILITY {
            let includes = Condition { caps: Some(strings(&[capability])), ..Condition::default() };
            syscalls.push(Rule { includes, ..allow(names) });
        }
        let unprivileged = || Condition { caps: Some(strings(&["CAP_SYS_ADMIN"])), ..Condition::default() };
        syscalls.push(Rule {
            args: Some(vec![argument(0, "SCMP_CMP_MASKED_EQ", CLONE_NAMESPACES, 0)]),
            excludes: unprivileged(),
            ..allow(&["clone"])
        });
        // Its flags are behind a pointer that a filter cannot read: programs then fall back to clone.
        syscalls.push(Rule {
            action: "SCMP_ACT_ERRNO".to_owned(),
            errno_ret: Some(ENOSYS),
            excludes: unprivileged(),
            ..allow(&["clone3"])
        });
        Self {
            default_action: "SCMP_ACT_ERRNO".to_owned(),
            default_errno_ret: Some(EPERM),
            arch_map: [
                ("SCMP_ARCH_X86_64", &["SCMP_ARCH_X86", "SCMP_ARCH_X32"] as &[&str]),
                ("SCMP_ARCH_AARCH64", &["SCMP_ARCH_ARM"]),
            ]
            .map(|(architecture, subs)| ArchMap {
                architecture: architecture.to_owned(),
                sub_architectures: Some(strings(subs)),
            })
            .into(),
            syscalls,
            ..Self::default()
        }
    }

    /// The OCI form (`config-linux.md`) for a container with these capabilities.
    pub(crate) fn resolve(&self, capabilities: &CapabilitySet) -> Value {
        let native = native_architecture();
        let mut architectures = self.architectures.clone();
        if let Some(map) = self.arch_map.iter().find(|map| map.architecture == native) {
            architectures.push(map.architecture.clone());
            architectures.extend(map.sub_architectures.clone().unwrap_or_default());
        }
        let rules: Vec<Value> = self
            .syscalls
            .iter()
            .filter(|rule| rule.applies(capabilities))
            .map(Rule::to_oci)
            .filter(|rule| rule["names"].as_array().is_some_and(|names| !names.is_empty()))
            .collect();
        let mut out = json!({
            "defaultAction": self.default_action,
            "architectures": architectures,
            "syscalls": rules,
        });
        if let Some(errno) = self.default_errno_ret {
            out["defaultErrnoRet"] = json!(errno);
        }
        if !self.flags.is_empty() {
            out["flags"] = json!(self.flags);
        }
        out
    }
}

impl Rule {
    fn applies(&self, capabilities: &CapabilitySet) -> bool {
        let arch = super::super::image::document::architecture();
        let here = |arches: &Vec<String>| arches.iter().any(|wanted| wanted == arch);
        let excluded = self.excludes.arches.as_ref().is_some_and(here)
            || self.excludes.caps.iter().flatten().any(|capability| capabilities.contains(capability))
            || self.excludes.min_kernel.as_deref().is_some_and(kernel_is_at_least);
        let included = self.includes.arches.as_ref().is_none_or(|arches| arches.is_empty() || here(arches))
            && self.includes.caps.iter().flatten().all(|capability| capabilities.contains(capability))
            && self.includes.min_kernel.as_deref().is_none_or(kernel_is_at_least);
        included && !excluded
    }

    fn to_oci(&self) -> Value {
        let mut names = self.names.clone().unwrap_or_default();
        if !self.name.is_empty() {
            names.push(self.name.clone());
        }
        let mut out = json!({ "names": names, "action": self.action });
        if let Some(errno) = self.errno_ret {
            out["errnoRet"] = json!(errno);
        }
        if let Some(args) = self.args.as_ref().filter(|args| !args.is_empty()) {
            out["args"] = args
                .iter()
                .map(|a| json!({"index": a.index, "value": a.value, "valueTwo": a.value_two, "op": a.op}))
                .collect();
        }
        out
    }
}

fn allow(names: &[&str]) -> Rule {
    Rule { names: Some(strings(names)), action: "SCMP_ACT_ALLOW".to_owned(), ..Rule::default() }
}

fn argument(index: u32, op: &str, value: u64, value_two: u64) -> Argument {
    Argument { index, value, value_two, op: op.to_owned() }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn native_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "SCMP_ARCH_X86_64",
        "aarch64" => "SCMP_ARCH_AARCH64",
        _ => "SCMP_ARCH_NATIVE",
    }
}

fn kernel_is_at_least(wanted: &str) -> bool {
    let parse = |text: &str| {
        let mut parts = text.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    let release = rustix::system::uname();
    parse(&release.release().to_string_lossy()) >= parse(wanted)
}

/// Allowed for everybody.
#[rustfmt::skip]
const ALWAYS: &[&str] = &[
    "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget", "capset", "chdir",
    "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
    "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "close", "close_range",
    "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "execve",
    "execveat", "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate",
    "fanotify_mark", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl",
    "fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat",
    "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue",
    "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "futimesat", "get_robust_list", "get_thread_area",
    "getcpu", "getcwd", "getdents", "getdents64", "getegid", "getegid32", "geteuid", "geteuid32", "getgid",
    "getgid32", "getgroups", "getgroups32", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid",
    "getpriority", "getrandom", "getresgid", "getresgid32", "getresuid", "getresuid32", "getrlimit", "getrusage",
    "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getuid32", "getxattr", "getxattrat",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "io_destroy",
    "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit", "ioctl", "ioprio_get",
    "ioprio_set", "ipc", "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown",
    "lchown32", "lgetxattr", "link", "linkat", "listen", "listmount", "listxattr", "listxattrat", "llistxattr",
    "_llseek", "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise", "map_shadow_stack", "membarrier",
    "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall",
    "mmap", "mmap2", "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive",
    "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap", "mseal", "msgctl",
    "msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap", "name_to_handle_at", "nanosleep",
    "newfstatat", "_newselect", "open", "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe",
    "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl", "pread64",
    "preadv", "preadv2", "prlimit64", "process_mrelease", "process_vm_readv", "process_vm_writev", "pselect6",
    "pselect6_time64", "ptrace", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat",
    "readv", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr",
    "removexattrat", "rename", "renameat", "renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction",
    "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min",
    "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
    "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
    "sched_yield", "seccomp", "select", "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "send",
    "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto", "set_robust_list", "set_thread_area",
    "set_tid_address", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups",
    "setgroups32", "setitimer", "setpgid", "setpriority", "setregid", "setregid32", "setresgid", "setresgid32",
    "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit", "setsid", "setsockopt", "setuid", "setuid32",
    "setxattr", "setxattrat", "shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaltstack", "signalfd",
    "signalfd4", "sigprocmask", "sigreturn", "socketcall", "socketpair", "splice", "stat", "stat64", "statfs",
    "statfs64", "statmount", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee",
    "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
    "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64", "times", "tkill", "truncate", "truncate64", "ugetrlimit", "umask", "uname", "unlink",
    "unlinkat", "uretprobe", "utime", "utimensat", "utimensat_time64", "utimes", "vfork", "vmsplice", "wait4",
    "waitid", "waitpid", "write", "writev",
];

/// Allowed on these architectures (Go's names).
#[rustfmt::skip]
const BY_ARCHITECTURE: &[(&[&str], &[&str])] = &[
    (&["ppc64le"], &["sync_file_range2", "swapcontext"]),
    (&["arm", "arm64"], &["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"]),
    (&["amd64", "x32"], &["arch_prctl"]),
    (&["amd64", "x32", "x86"], &["modify_ldt"]),
    (&["s390", "s390x"], &["s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"]),
    (&["riscv64"], &["riscv_flush_icache"]),
];

/// Allowed with this capability.
#[rustfmt::skip]
const BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_SYS_ADMIN", &[
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
        "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr", "move_mount",
        "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "syslog",
        "umount", "umount2", "unshare",
    ]),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(oci: &Value) -> Vec<&str> {
        let rules = oci["syscalls"].as_array().unwrap().iter();
        rules
            .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule.get("args").is_none())
            .flat_map(|rule| rule["names"].as_array().unwrap().iter().filter_map(Value::as_str))
            .collect()
    }

    #[test]
    fn dangerous_calls_need_their_capability() {
        let default = CapabilitySet::docker_default();
        let oci = Profile::default_profile().resolve(&default);
        let allowed = names(&oci);
        for refused in [
            "mount",
            "keyctl",
            "add_key",
            "request_key",
            "unshare",
            "bpf",
            "reboot",
            "init_module",
            "kexec_load",
        ] {
            assert!(!allowed.contains(&refused), "{refused}");
        }
        assert!(allowed.contains(&"chroot") && allowed.contains(&"read"));
        let mut more = default;
        more.insert("CAP_SYS_ADMIN");
        let oci = Profile::default_profile().resolve(&more);
        assert!(names(&oci).contains(&"mount"));
        assert!(!names(&oci).contains(&"keyctl"));
    }

    #[test]
    fn a_profile_without_default_action_is_refused() {
        assert!(Profile::parse("{}").is_err());
        assert!(Profile::parse("no json").is_err());
        let text =
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO"}]}"#;
        let oci = Profile::parse(text).unwrap().resolve(&CapabilitySet::docker_default());
        assert_eq!(oci["syscalls"][0]["names"][0], "mkdir");
    }

    proptest! {
        #[test]
        fn any_profile_is_decoded_without_panic(text in ".{0,200}") {
            let _ = Profile::parse(&text);
        }
    }
}
