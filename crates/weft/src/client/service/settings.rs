//! Flags that `create` and `update` share: each sets one value of the spec.

use clap::Args;
use serde_json::{Value, json};

use super::flags::{duration, usage};
use crate::client::container_spec::bytes;
use crate::client::error::ClientError;

/// docker's names. What is not given stays as it is.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// Number of tasks
    #[arg(long)]
    replicas: Option<u64>,
    /// Most tasks of a job at the same time
    #[arg(long)]
    max_concurrent: Option<u64>,
    /// Most tasks on one node
    #[arg(long)]
    replicas_max_per_node: Option<u64>,
    /// vip or dnsrr
    #[arg(long)]
    endpoint_mode: Option<String>,
    /// Host name of the containers
    #[arg(long)]
    hostname: Option<String>,
    /// Working directory
    #[arg(short, long)]
    workdir: Option<String>,
    /// User: name or id[:group]
    #[arg(short, long)]
    user: Option<String>,
    /// Time to stop before it is killed, for example 10s
    #[arg(long)]
    stop_grace_period: Option<String>,
    /// Signal to stop
    #[arg(long)]
    stop_signal: Option<String>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// The root file system cannot be written
    #[arg(long)]
    read_only: bool,
    /// A small init as first process
    #[arg(long)]
    init: bool,
    /// Command that tells whether the container is well
    #[arg(long)]
    health_cmd: Option<String>,
    /// Time between two checks
    #[arg(long)]
    health_interval: Option<String>,
    /// Most CPUs
    #[arg(long)]
    limit_cpu: Option<f64>,
    /// Most memory: bytes, or with k, m, g
    #[arg(long)]
    limit_memory: Option<String>,
    /// Most processes
    #[arg(long)]
    limit_pids: Option<i64>,
    /// CPUs a node must have free
    #[arg(long)]
    reserve_cpu: Option<f64>,
    /// Memory a node must have free
    #[arg(long)]
    reserve_memory: Option<String>,
    /// none, on-failure or any
    #[arg(long)]
    restart_condition: Option<String>,
    /// Time between two attempts
    #[arg(long)]
    restart_delay: Option<String>,
    /// Most restarts
    #[arg(long)]
    restart_max_attempts: Option<u64>,
    /// Time in which restarts are counted
    #[arg(long)]
    restart_window: Option<String>,
    #[command(flatten)]
    rolling: Rolling,
}

/// How updates and rollbacks go on.
#[derive(Debug, Args)]
struct Rolling {
    /// Tasks updated at the same time, 0 for all
    #[arg(long)]
    update_parallelism: Option<u64>,
    /// Time between two updates
    #[arg(long)]
    update_delay: Option<String>,
    /// pause, continue or rollback
    #[arg(long)]
    update_failure_action: Option<String>,
    /// Time in which a new task may fail
    #[arg(long)]
    update_monitor: Option<String>,
    /// Part of the tasks that may fail
    #[arg(long)]
    update_max_failure_ratio: Option<f64>,
    /// start-first or stop-first
    #[arg(long)]
    update_order: Option<String>,
    /// Tasks rolled back at the same time, 0 for all
    #[arg(long)]
    rollback_parallelism: Option<u64>,
    /// Time between two rollbacks
    #[arg(long)]
    rollback_delay: Option<String>,
    /// pause or continue
    #[arg(long)]
    rollback_failure_action: Option<String>,
    /// Time in which a task rolled back may fail
    #[arg(long)]
    rollback_monitor: Option<String>,
    /// Part of the tasks that may fail
    #[arg(long)]
    rollback_max_failure_ratio: Option<f64>,
    /// start-first or stop-first
    #[arg(long)]
    rollback_order: Option<String>,
}

/// Docker's defaults of a rolling update; a spec without one means them too.
fn rolling_defaults() -> Value {
    json!({
        "Parallelism": 1,
        "FailureAction": "pause",
        "Monitor": 5_000_000_000_i64,
        "MaxFailureRatio": 0,
        "Order": "stop-first",
    })
}

/// Sets a value if it is given.
fn set(at: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        at[key] = value.into();
    }
}

fn nanos(word: Option<&String>) -> Result<Option<i64>, ClientError> {
    word.map(|word| duration(word)).transpose()
}

fn size(word: Option<&String>) -> Result<Option<i64>, ClientError> {
    word.map(|word| bytes(word)).transpose()
}

impl Settings {
    /// Writes what is given into a spec.
    pub(super) fn apply(&self, spec: &mut Value) -> Result<(), ClientError> {
        self.mode(spec)?;
        if let Some(mode) = &self.endpoint_mode {
            spec["EndpointSpec"]["Mode"] = mode.clone().into();
        }
        let task = &mut spec["TaskTemplate"];
        self.container(&mut task["ContainerSpec"])?;
        self.resources(task)?;
        self.restart(task)?;
        if let Some(most) = self.replicas_max_per_node {
            task["Placement"]["MaxReplicas"] = most.into();
        }
        self.rolling.apply(spec)
    }

    fn mode(&self, spec: &mut Value) -> Result<(), ClientError> {
        let mode = &mut spec["Mode"];
        if let Some(replicas) = self.replicas {
            super::set_replicas(mode, replicas)?;
        }
        if let Some(most) = self.max_concurrent {
            if mode.get("ReplicatedJob").is_none() {
                return Err(usage("max-concurrent can only be used with replicated-job mode"));
            }
            mode["ReplicatedJob"]["MaxConcurrent"] = most.into();
        }
        Ok(())
    }

    fn container(&self, container: &mut Value) -> Result<(), ClientError> {
        set(container, "Hostname", self.hostname.clone());
        set(container, "Dir", self.workdir.clone());
        set(container, "User", self.user.clone());
        set(container, "StopGracePeriod", nanos(self.stop_grace_period.as_ref())?);
        set(container, "StopSignal", self.stop_signal.clone());
        set(container, "TTY", self.tty.then_some(true));
        set(container, "ReadOnly", self.read_only.then_some(true));
        set(container, "Init", self.init.then_some(true));
        if let Some(command) = &self.health_cmd {
            container["Healthcheck"]["Test"] = json!(["CMD-SHELL", command]);
        }
        if let Some(interval) = nanos(self.health_interval.as_ref())? {
            container["Healthcheck"]["Interval"] = interval.into();
        }
        Ok(())
    }

    fn resources(&self, task: &mut Value) -> Result<(), ClientError> {
        let cpus = |cpus: Option<f64>| cpus.map(|cpus| (cpus * 1e9) as i64);
        let limits = [
            ("NanoCPUs", cpus(self.limit_cpu)),
            ("MemoryBytes", size(self.limit_memory.as_ref())?),
            ("Pids", self.limit_pids),
        ];
        let reservations =
            [("NanoCPUs", cpus(self.reserve_cpu)), ("MemoryBytes", size(self.reserve_memory.as_ref())?)];
        for (kind, values) in [("Limits", &limits[..]), ("Reservations", &reservations[..])] {
            for (key, value) in values.iter().filter_map(|(key, value)| Some((key, (*value)?))) {
                task["Resources"][kind][*key] = value.into();
            }
        }
        Ok(())
    }

    fn restart(&self, task: &mut Value) -> Result<(), ClientError> {
        let (delay, window) = (nanos(self.restart_delay.as_ref())?, nanos(self.restart_window.as_ref())?);
        let condition = self.restart_condition.clone();
        if condition.is_none() && delay.is_none() && window.is_none() && self.restart_max_attempts.is_none() {
            return Ok(());
        }
        let policy = &mut task["RestartPolicy"];
        set(policy, "Condition", condition);
        set(policy, "Delay", delay);
        set(policy, "MaxAttempts", self.restart_max_attempts);
        set(policy, "Window", window);
        Ok(())
    }
}

impl Rolling {
    fn apply(&self, spec: &mut Value) -> Result<(), ClientError> {
        let update = [
            ("Parallelism", self.update_parallelism.map(Value::from)),
            ("Delay", nanos(self.update_delay.as_ref())?.map(Value::from)),
            ("FailureAction", self.update_failure_action.clone().map(Value::from)),
            ("Monitor", nanos(self.update_monitor.as_ref())?.map(Value::from)),
            ("MaxFailureRatio", self.update_max_failure_ratio.map(Value::from)),
            ("Order", self.update_order.clone().map(Value::from)),
        ];
        let rollback = [
            ("Parallelism", self.rollback_parallelism.map(Value::from)),
            ("Delay", nanos(self.rollback_delay.as_ref())?.map(Value::from)),
            ("FailureAction", self.rollback_failure_action.clone().map(Value::from)),
            ("Monitor", nanos(self.rollback_monitor.as_ref())?.map(Value::from)),
            ("MaxFailureRatio", self.rollback_max_failure_ratio.map(Value::from)),
            ("Order", self.rollback_order.clone().map(Value::from)),
        ];
        for (key, values) in [("UpdateConfig", update), ("RollbackConfig", rollback)] {
            if values.iter().all(|(_, value)| value.is_none()) {
                continue;
            }
            if spec[key].is_null() {
                spec[key] = rolling_defaults();
            }
            for (name, value) in values {
                set(&mut spec[key], name, value);
            }
        }
        Ok(())
    }
}
