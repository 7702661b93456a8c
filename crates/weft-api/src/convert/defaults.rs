//! `insertDefaults`: what SwarmKit assumes where a service's spec is silent (swarmkit `api/defaults`).

use weft_wire::swarmkit::container_spec::DnsConfig;
use weft_wire::swarmkit::restart_policy::RestartCondition;
use weft_wire::swarmkit::{
    Placement, ResourceRequirements, RestartPolicy, ServiceSpec, UpdateConfig, task_spec,
};

const STOP_GRACE_SECONDS: i64 = 10;
const RESTART_DELAY_SECONDS: i64 = 5;
const MONITOR_SECONDS: i64 = 5;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

pub(crate) fn insert_defaults(spec: &mut ServiceSpec) {
    let task = spec.task.get_or_insert_default();
    if let Some(task_spec::Runtime::Container(container)) = &mut task.runtime {
        container.stop_grace_period = container.stop_grace_period.or(seconds(STOP_GRACE_SECONDS));
        container.dns_config.get_or_insert_with(DnsConfig::default);
    }
    task.resources.get_or_insert_with(ResourceRequirements::default);
    task.placement.get_or_insert_with(Placement::default);
    let restart = task.restart.get_or_insert_with(|| RestartPolicy {
        condition: RestartCondition::Any.into(),
        ..RestartPolicy::default()
    });
    restart.delay = restart.delay.or(seconds(RESTART_DELAY_SECONDS));
    for config in [&mut spec.update, &mut spec.rollback] {
        let config = config.get_or_insert_with(|| UpdateConfig { parallelism: 1, ..UpdateConfig::default() });
        config.monitor = config.monitor.or(seconds(MONITOR_SECONDS));
    }
}
