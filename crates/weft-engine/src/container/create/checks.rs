//! What is refused before anything is made.

use bollard_stubs::models::{RestartPolicy, RestartPolicyNameEnum};

use super::{Request, Result, check_resources, invalid};
use crate::container::{health, signal};
use crate::error::EngineError;
use crate::spec::capabilities::CapabilitySet;
use crate::spec::security::SecurityOptions;

impl Request {
    /// Checks what can be checked before anything is made; warnings for the user.
    pub(crate) fn check(&mut self, default_shm_size: i64) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        self.check_restart_policy()?;
        check_resources(&self.host)?;
        self.check_missing()?;
        self.check_memory(&mut warnings)?;
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
        if host.userns_mode.as_deref().is_some_and(|mode| !matches!(mode, "" | "host")) {
            return invalid("user namespaces are off: the only user namespace mode is \"host\"");
        }
        if host.auto_remove == Some(true) && self.has_restart_policy() {
            return invalid("can't create 'AutoRemove' container with restart policy");
        }
        if self.config.working_dir.as_deref().is_some_and(|dir| !dir.is_empty() && !dir.starts_with('/')) {
            let dir = self.config.working_dir.as_deref().unwrap_or_default();
            return invalid(format!(
                "the working directory '{dir}' is invalid, it needs to be an absolute path"
            ));
        }
        if let Some(signal) = self.config.stop_signal.as_deref().filter(|signal| !signal.is_empty()) {
            signal::parse(signal)?;
        }
        for entry in self.config.env.iter().flatten() {
            if entry.starts_with('=') || entry.is_empty() {
                return invalid(format!("invalid environment variable: {entry}"));
            }
        }
        if let Some(check) = &self.config.healthcheck {
            health::validate(check)?;
        }
        self.fill_host_defaults();
        if self.host.shm_size.unwrap_or(0) == 0 {
            self.host.shm_size = Some(default_shm_size);
        } else if self.host.shm_size.is_some_and(|size| size < 0) {
            return invalid("SHM size can not be less than 0");
        }
        Ok(warnings)
    }

    /// What is shown as chosen, because it applies; what means "no limit" is shown as none.
    fn fill_host_defaults(&mut self) {
        let host = &mut self.host;
        if host.ipc_mode.as_deref().is_none_or(str::is_empty) {
            host.ipc_mode = Some("private".to_owned());
        }
        if host.runtime.as_deref() == Some("") {
            host.runtime = None;
        }
        host.memory_swappiness = host.memory_swappiness.filter(|percent| *percent >= 0);
        host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    }

    fn has_restart_policy(&self) -> bool {
        let name = self.host.restart_policy.as_ref().and_then(|policy| policy.name);
        !matches!(name, None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO))
    }

    fn check_restart_policy(&mut self) -> Result<()> {
        let policy = self.host.restart_policy.take().unwrap_or_default();
        self.host.restart_policy = Some(checked_policy(policy)?);
        Ok(())
    }

    fn check_memory(&mut self, warnings: &mut Vec<String>) -> Result<()> {
        let host = &mut self.host;
        let (memory, swap) = (host.memory.unwrap_or(0), host.memory_swap.unwrap_or(0));
        if swap > 0 && memory == 0 {
            return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
        }
        // Docker allows as much swap as memory unless told otherwise.
        if memory > 0 && swap == 0 {
            host.memory_swap = Some(memory.saturating_mul(2));
        }
        if host.oom_kill_disable == Some(true) && memory == 0 {
            warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
        }
        Ok(())
    }
}

/// A restart policy with nothing left open.
pub(crate) fn checked_policy(policy: RestartPolicy) -> Result<RestartPolicy> {
    let retries = policy.maximum_retry_count.unwrap_or(0);
    let name = policy.name.filter(|name| *name != RestartPolicyNameEnum::EMPTY);
    let name = name.unwrap_or(RestartPolicyNameEnum::NO);
    if retries < 0 {
        return invalid("invalid restart policy: maximum retry count cannot be negative");
    }
    if retries > 0 && name != RestartPolicyNameEnum::ON_FAILURE {
        return invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'");
    }
    Ok(RestartPolicy { name: Some(name), maximum_retry_count: Some(retries) })
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

#[cfg(test)]
mod tests {
    use bollard_stubs::models::HostConfig;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn user_namespaces_are_off() {
        let check = |mode: &str| {
            let host = HostConfig { userns_mode: Some(mode.to_owned()), ..HostConfig::default() };
            let mut request = Request { config: Default::default(), host, endpoints: Default::default() };
            request.check(1 << 20).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!((check(""), check("host")), (Ok(()), Ok(())));
        let refused = "user namespaces are off: the only user namespace mode is \"host\"";
        assert_eq!(check("private"), Err(refused.to_owned()));
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("10m").unwrap(), 10 << 20);
        assert!(parse_size("x").is_err());
        assert!(parse_size("99999999999999g").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_refused(text in "[0-9]{0,20}[a-zA-Z ]{0,3}|\\PC{0,8}") {
            let _ = parse_size(&text);
        }
    }
}
