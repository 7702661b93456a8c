//! The rules of a task's spec.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weft_orchestration::{Constraint, check_placeholders};
use weft_wire::swarmkit::{
    ContainerSpec, HealthConfig, Resources, RestartPolicy, TaskSpec, config_reference, secret_reference,
    task_spec::Runtime,
};

use super::ServiceProblem;
use super::image::is_reference;

/// A thousandth of a CPU.
const MIN_NANO_CPUS: i64 = 1_000_000;
const MIN_MEMORY: i64 = 4 * 1024 * 1024;
const MIN_HEALTH: Duration = Duration::from_millis(1);

pub(super) fn check(spec: &TaskSpec) -> Result<(), ServiceProblem> {
    if let Some(requirements) = &spec.resources {
        for resources in [&requirements.limits, &requirements.reservations].into_iter().flatten() {
            check_resources(resources)?;
        }
    }
    spec.restart.as_ref().map_or(Ok(()), check_restart)?;
    if let Some(placement) = &spec.placement {
        Constraint::parse_all(&placement.constraints)?;
    }
    let container = match &spec.runtime {
        Some(Runtime::Container(container)) => container,
        Some(_) => return Err(ServiceProblem::Runtime),
        None => return Err(ServiceProblem::MissingRuntime),
    };
    check_files(container)?;
    check_container(container)
}

fn check_resources(resources: &Resources) -> Result<(), ServiceProblem> {
    if resources.nano_cpus != 0 && resources.nano_cpus < MIN_NANO_CPUS {
        #[allow(clippy::cast_precision_loss, reason = "only shown, and far below what f64 holds exactly")]
        return Err(ServiceProblem::Cpu(resources.nano_cpus as f64 / 1e9));
    }
    if resources.memory_bytes != 0 && resources.memory_bytes < MIN_MEMORY {
        return Err(ServiceProblem::Memory(resources.memory_bytes));
    }
    Ok(())
}

fn check_restart(policy: &RestartPolicy) -> Result<(), ServiceProblem> {
    not_negative(policy.delay.as_ref(), "restart-delay")?;
    not_negative(policy.window.as_ref(), "restart-window")
}

pub(super) fn not_negative(
    duration: Option<&prost_types::Duration>,
    name: &'static str,
) -> Result<(), ServiceProblem> {
    match duration {
        Some(duration) if Duration::try_from(*duration).is_err() => Err(ServiceProblem::Negative(name)),
        _ => Ok(()),
    }
}

/// References to secrets and configs are whole and do not meet.
fn check_files(container: &ContainerSpec) -> Result<(), ServiceProblem> {
    let secrets = container.secrets.iter().map(|reference| {
        let file = match &reference.target {
            Some(secret_reference::Target::File(file)) => Target::File(&file.name),
            None => Target::Missing,
        };
        (reference.secret_id.as_str(), reference.secret_name.as_str(), file)
    });
    check_targets("secret", secrets)?;
    let configs = container.configs.iter().map(|reference| {
        let file = match &reference.target {
            Some(config_reference::Target::File(file)) => Target::File(&file.name),
            Some(config_reference::Target::Runtime(_)) => Target::Runtime,
            None => Target::Missing,
        };
        (reference.config_id.as_str(), reference.config_name.as_str(), file)
    });
    check_targets("config", configs)
}

enum Target<'a> {
    File(&'a str),
    /// For the engine, not for a file.
    Runtime,
    Missing,
}

fn check_targets<'a>(
    kind: &'static str,
    references: impl Iterator<Item = (&'a str, &'a str, Target<'a>)>,
) -> Result<(), ServiceProblem> {
    let mut targets = BTreeMap::new();
    for (id, name, target) in references {
        if id.is_empty() || name.is_empty() {
            return Err(ServiceProblem::Reference(kind));
        }
        let file = match target {
            Target::Missing => return Err(ServiceProblem::ReferenceTarget(kind)),
            Target::Runtime => continue,
            Target::File("") => return Err(ServiceProblem::ReferenceFile(kind)),
            Target::File(file) => file,
        };
        if let Some(first) = targets.insert(file, name) {
            return Err(ServiceProblem::ConflictingTarget {
                kind,
                first: first.to_owned(),
                second: name.to_owned(),
                file: file.to_owned(),
            });
        }
    }
    Ok(())
}

fn check_container(container: &ContainerSpec) -> Result<(), ServiceProblem> {
    check_placeholders(container)?;
    if container.image.is_empty() {
        return Err(ServiceProblem::NoImage);
    }
    if !is_reference(&container.image) {
        return Err(ServiceProblem::Image(container.image.clone()));
    }
    let mut targets = BTreeSet::new();
    if let Some(mount) = container.mounts.iter().find(|mount| !targets.insert(mount.target.as_str())) {
        return Err(ServiceProblem::DuplicateMount(mount.target.clone()));
    }
    container.healthcheck.as_ref().map_or(Ok(()), check_health)
}

fn check_health(health: &HealthConfig) -> Result<(), ServiceProblem> {
    let durations = [
        (health.interval.as_ref(), "Interval"),
        (health.timeout.as_ref(), "Timeout"),
        (health.start_period.as_ref(), "StartPeriod"),
        (health.start_interval.as_ref(), "StartInterval"),
    ];
    for (duration, name) in durations {
        let too_short = |duration: &prost_types::Duration| {
            !Duration::try_from(*duration).is_ok_and(|duration| duration.is_zero() || duration >= MIN_HEALTH)
        };
        if duration.is_some_and(too_short) {
            return Err(ServiceProblem::HealthDuration(name));
        }
    }
    if health.retries < 0 { Err(ServiceProblem::HealthRetries) } else { Ok(()) }
}
