//! Changing a container's limits and restart policy, also while it runs.

use std::sync::Arc;

use bollard_stubs::models::{ContainerUpdateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum};

use super::{Engine, Result, blocking};
use crate::container::create::{check_resources, check_swap, checked_policy};
use crate::container::live::Container;
use crate::container::record::Phase;
use crate::error::EngineError;
use crate::limits::{self, Undo, given};

impl Engine {
    /// Changes what the request names: what is zero or empty in it stays as it is.
    pub async fn update(self: &Arc<Self>, term: &str, body: ContainerUpdateBody) -> Result<()> {
        checked_policy(body.restart_policy.clone().unwrap_or_default())?;
        let (asked, policy) = split(body);
        check_resources(&asked)?;
        let container = self.find(term)?;
        let _operation = container.operation.lock().await;
        let wrap = |error: EngineError| error.context(format!("Cannot update container {}", container.id));
        if container.state().phase == Phase::Removing {
            let text = "container is marked for removal and cannot be \"update\"";
            return Err(wrap(EngineError::Conflict(text.to_owned())));
        }
        let whole = merged(container.with(|record| record.host.clone()), &asked, policy).map_err(wrap)?;
        let undo = self.set_limits(&container, asked, whole.clone()).await.map_err(wrap)?;
        if let Err(error) = container.update(|record| record.host = whole) {
            blocking(move || {
                undo.undo();
                Ok(())
            })
            .await?;
            return Err(wrap(error));
        }
        self.container_event(&container, "update", &[]);
        Ok(())
    }

    /// Gives a running container the limits that `asked` changes; the others have them from their next start on.
    async fn set_limits(
        &self,
        container: &Arc<Container>,
        asked: HostConfig,
        whole: HostConfig,
    ) -> Result<Undo> {
        if container.state().phase != Phase::Running {
            return Ok(Undo::default());
        }
        let (hierarchies, cgroup) = (self.hierarchies.clone(), container.cgroup(&self.config.cgroup_parent));
        let set = blocking(move || {
            limits::apply(&hierarchies, &cgroup, &asked, &whole).or_else(|error| {
                // It has ended meanwhile.
                let gone = !hierarchies.exists(&cgroup);
                if gone { Ok(Undo::default()) } else { Err(EngineError::Refused(error.to_string())) }
            })
        });
        match set.await {
            Err(error) if container.state().phase == Phase::Running => Err(error),
            set => Ok(set.unwrap_or_default()),
        }
    }

    /// Gives an adopted container the limits of its record: its daemon may have ended between the two.
    pub(super) async fn set_recorded_limits(&self, container: &Arc<Container>) {
        let host = container.with(|record| record.host.clone());
        if let Err(error) = self.set_limits(container, host.clone(), host).await {
            tracing::warn!(container = %container.id, %error, "limits may not be those of its configuration");
        }
    }
}

/// What can be changed, as a configuration that has nothing else, and the restart policy if one is named.
fn split(body: ContainerUpdateBody) -> (HostConfig, Option<RestartPolicy>) {
    let policy = body
        .restart_policy
        .filter(|policy| !matches!(policy.name, None | Some(RestartPolicyNameEnum::EMPTY)));
    let asked = HostConfig {
        cpu_shares: body.cpu_shares,
        memory: body.memory,
        blkio_weight: body.blkio_weight,
        cpu_period: body.cpu_period,
        cpu_quota: body.cpu_quota,
        cpu_realtime_period: body.cpu_realtime_period,
        cpu_realtime_runtime: body.cpu_realtime_runtime,
        cpuset_cpus: body.cpuset_cpus,
        cpuset_mems: body.cpuset_mems,
        memory_reservation: body.memory_reservation,
        memory_swap: body.memory_swap,
        nano_cpus: body.nano_cpus,
        pids_limit: body.pids_limit,
        ..HostConfig::default()
    };
    (asked, policy)
}

/// The configuration with the changes in it, refused where they contradict what was set before.
fn merged(mut host: HostConfig, asked: &HostConfig, policy: Option<RestartPolicy>) -> Result<HostConfig> {
    let conflict = |text: &str| Err(EngineError::Conflict(text.to_owned()));
    let set = |number: Option<i64>| number.unwrap_or(0) > 0;
    if set(asked.nano_cpus) && set(host.cpu_period) {
        return conflict(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        );
    }
    if set(asked.nano_cpus) && set(host.cpu_quota) {
        return conflict(
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        );
    }
    if set(asked.cpu_period) && set(host.nano_cpus) {
        return conflict(
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        );
    }
    if set(asked.cpu_quota) && set(host.nano_cpus) {
        return conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set");
    }
    // Also without a limit of swap, as Docker has it.
    if given(asked.memory).is_some_and(|memory| memory > host.memory_swap.unwrap_or(0))
        && given(asked.memory_swap).is_none()
    {
        return conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    for (have, new) in [
        (&mut host.cpu_shares, asked.cpu_shares),
        (&mut host.memory, asked.memory),
        (&mut host.cpu_period, asked.cpu_period),
        (&mut host.cpu_quota, asked.cpu_quota),
        (&mut host.memory_reservation, asked.memory_reservation),
        (&mut host.memory_swap, asked.memory_swap),
        (&mut host.nano_cpus, asked.nano_cpus),
    ] {
        *have = given(new).or(*have);
    }
    for (have, new) in
        [(&mut host.cpuset_cpus, &asked.cpuset_cpus), (&mut host.cpuset_mems, &asked.cpuset_mems)]
    {
        if let Some(new) = new.clone().filter(|text| !text.is_empty()) {
            *have = Some(new);
        }
    }
    host.blkio_weight = asked.blkio_weight.filter(|weight| *weight != 0).or(host.blkio_weight);
    host.pids_limit = asked.pids_limit.or(host.pids_limit);
    if let Some(policy) = policy {
        if host.auto_remove == Some(true) && policy.name != Some(RestartPolicyNameEnum::NO) {
            return conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            );
        }
        host.restart_policy = Some(checked_policy(policy)?);
    }
    check_swap(&host)?;
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(host: HostConfig, asked: HostConfig) -> String {
        merged(host, &asked, None).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_named_stays() {
        let host = HostConfig {
            memory: Some(64 << 20),
            memory_swap: Some(128 << 20),
            cpuset_cpus: Some("0".to_owned()),
            pids_limit: Some(5),
            ..HostConfig::default()
        };
        let asked = HostConfig {
            memory: Some(100 << 20),
            memory_swap: Some(0),
            cpuset_cpus: Some(String::new()),
            cpu_shares: Some(512),
            ..HostConfig::default()
        };
        let wanted = HostConfig { memory: Some(100 << 20), cpu_shares: Some(512), ..host.clone() };
        assert_eq!(merged(host, &asked, None).unwrap(), wanted);
    }

    #[test]
    fn contradictions_are_refused_in_dockers_words() {
        let nano = || HostConfig { nano_cpus: Some(1), ..HostConfig::default() };
        let period = || HostConfig { cpu_period: Some(50_000), ..HostConfig::default() };
        assert!(
            refusal(period(), nano())
                .starts_with("Conflicting options: Nano CPUs cannot be updated as CPU P")
        );
        assert!(
            refusal(nano(), period())
                .starts_with("Conflicting options: CPU Period cannot be updated as Nano")
        );
        let memory = HostConfig { memory: Some(64 << 20), ..HostConfig::default() };
        assert!(
            refusal(HostConfig::default(), memory).starts_with("Memory limit should be smaller than already")
        );
        let always = RestartPolicy { name: Some(RestartPolicyNameEnum::ALWAYS), maximum_retry_count: None };
        let removed = HostConfig { auto_remove: Some(true), ..HostConfig::default() };
        let error = merged(removed, &HostConfig::default(), Some(always)).unwrap_err();
        assert!(error.to_string().starts_with("Restart policy cannot be updated because AutoRemove"));
        let memory = HostConfig { memory: Some(64 << 20), memory_swap: Some(-1), ..HostConfig::default() };
        let swap = HostConfig { memory_swap: Some(32 << 20), ..HostConfig::default() };
        assert!(refusal(memory, swap).starts_with("Minimum memoryswap limit should be larger"));
    }
}
