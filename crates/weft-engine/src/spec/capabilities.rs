//! Capabilities of a container: Docker's default set, `--cap-add`, `--cap-drop`, `--privileged`.

use std::collections::BTreeSet;

use crate::error::EngineError;

/// All capabilities that Linux names, by number (capabilities(7)).
#[rustfmt::skip]
const ALL: [&str; 41] = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
];

/// What Docker gives every container (<https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities>).
#[rustfmt::skip]
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Names of capabilities, `CAP_…`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CapabilitySet(BTreeSet<&'static str>);

impl CapabilitySet {
    pub(crate) fn docker_default() -> Self {
        Self(DEFAULT.into_iter().collect())
    }

    /// All that this process itself may give on: its bounding set.
    pub(crate) fn all() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(u64::MAX);
        Self(
            ALL.into_iter()
                .enumerate()
                .filter(|(bit, _)| mask >> bit & 1 == 1)
                .map(|(_, name)| name)
                .collect(),
        )
    }

    /// The set of a container (`daemon/oci` of Docker: ALL first, then single ones).
    pub(crate) fn of_container(
        privileged: bool,
        add: &[String],
        drop: &[String],
    ) -> Result<Self, EngineError> {
        let add = normalize("CapAdd", add)?;
        let drop = normalize("CapDrop", drop)?;
        let bounding = Self::all();
        if privileged {
            return Ok(bounding);
        }
        let all = |names: &[&str]| names.contains(&"ALL");
        let mut set = match (all(&add), all(&drop)) {
            (true, _) => bounding.0.clone(),
            (false, true) => BTreeSet::new(),
            (false, false) => Self::docker_default().0,
        };
        // With both, what is added by name wins over "drop all", and what is dropped over "add all".
        set.extend(add.iter().filter(|name| **name != "ALL"));
        if !all(&drop) || all(&add) {
            set.retain(|name| !drop.contains(name));
        }
        set.retain(|name| bounding.0.contains(name));
        Ok(Self(set))
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    #[cfg(test)]
    pub(crate) fn insert(&mut self, name: &'static str) {
        self.0.insert(name);
    }

    /// For the OCI specification.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.iter().copied().collect()
    }
}

fn normalize(field: &str, names: &[String]) -> Result<Vec<&'static str>, EngineError> {
    names
        .iter()
        .map(|name| {
            let upper = name.to_ascii_uppercase();
            if upper == "ALL" {
                return Ok("ALL");
            }
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            ALL.into_iter().find(|known| **known == full).ok_or_else(|| {
                EngineError::Invalid(format!("invalid {field}: unknown capability: \"{full}\""))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: &[&str], drop: &[&str]) -> CapabilitySet {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        CapabilitySet::of_container(false, &own(add), &own(drop)).unwrap()
    }

    #[test]
    fn add_and_drop_follow_docker() {
        assert!(of(&["net_admin"], &[]).contains("CAP_NET_ADMIN"));
        assert!(!of(&[], &["NET_RAW"]).contains("CAP_NET_RAW"));
        assert_eq!(of(&["CHOWN"], &["ALL"]).names(), ["CAP_CHOWN"]);
        assert!(of(&[], &["all"]).names().is_empty());
        let error = CapabilitySet::of_container(false, &["BOGUS".to_owned()], &[]).unwrap_err();
        assert_eq!(error.to_string(), "invalid CapAdd: unknown capability: \"CAP_BOGUS\"");
    }
}
