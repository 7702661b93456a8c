//! What a service's tasks are made from.

use serde_json::{Map, Value, json};
use weft_wire::swarmkit::restart_policy::RestartCondition;
use weft_wire::swarmkit::{
    DiscreteGenericResource, Driver, GenericResource, NamedGenericResource, NetworkAttachmentConfig,
    Placement, PlacementPreference, Platform, ResourceRequirements, Resources, RestartPolicy, SpreadOver,
    TaskSpec, generic_resource, placement_preference, task_spec,
};

use super::fields::Fields;
use super::{container_spec, network, node, put_filled, put_number, put_text, time};
use crate::error::ApiError;

/// As tasks show it; services add the runtime.
pub(super) fn to_json(spec: &TaskSpec) -> Map<String, Value> {
    let mut map = Map::new();
    match &spec.runtime {
        Some(task_spec::Runtime::Container(container)) => {
            map.insert("ContainerSpec".to_owned(), container_spec::to_json(container));
        }
        Some(task_spec::Runtime::Attachment(attachment)) => {
            map.insert("NetworkAttachmentSpec".to_owned(), json!({ "ContainerID": attachment.container_id }));
        }
        Some(task_spec::Runtime::Generic(_)) | None => {}
    }
    if let Some(resources) = &spec.resources {
        map.insert("Resources".to_owned(), resources_json(resources, pids(spec)));
    }
    if let Some(restart) = &spec.restart {
        map.insert("RestartPolicy".to_owned(), restart_json(restart));
    }
    map.insert("Placement".to_owned(), placement_json(spec.placement.as_ref()));
    put_filled(&mut map, "Networks", spec.networks.iter().map(network_json).collect());
    if let Some(driver) = &spec.log_driver {
        map.insert("LogDriver".to_owned(), network::driver_json(driver));
    }
    map.insert("ForceUpdate".to_owned(), spec.force_update.into());
    if matches!(spec.runtime, Some(task_spec::Runtime::Attachment(_))) {
        map.insert("Runtime".to_owned(), "attachment".into());
    }
    map
}

fn pids(spec: &TaskSpec) -> i64 {
    match &spec.runtime {
        Some(task_spec::Runtime::Container(container)) => container.pids_limit,
        _ => 0,
    }
}

fn resources_json(resources: &ResourceRequirements, pids: i64) -> Value {
    let mut map = Map::new();
    if let Some(limits) = &resources.limits {
        let mut limit = Map::new();
        put_number(&mut limit, "NanoCPUs", limits.nano_cpus);
        put_number(&mut limit, "MemoryBytes", limits.memory_bytes);
        put_number(&mut limit, "Pids", pids);
        map.insert("Limits".to_owned(), limit.into());
    }
    if let Some(reservations) = &resources.reservations {
        map.insert("Reservations".to_owned(), node::resources(Some(reservations)));
    }
    map.into()
}

fn restart_json(policy: &RestartPolicy) -> Value {
    let condition = match policy.condition() {
        RestartCondition::None => "none",
        RestartCondition::OnFailure => "on-failure",
        RestartCondition::Any => "any",
    };
    let mut map = Map::new();
    map.insert("Condition".to_owned(), condition.into());
    if let Some(delay) = &policy.delay {
        map.insert("Delay".to_owned(), time::nanos(Some(delay)).into());
    }
    map.insert("MaxAttempts".to_owned(), policy.max_attempts.into());
    if let Some(window) = &policy.window {
        map.insert("Window".to_owned(), time::nanos(Some(window)).into());
    }
    map.into()
}

fn placement_json(placement: Option<&Placement>) -> Value {
    let mut map = Map::new();
    let Some(placement) = placement else { return map.into() };
    put_filled(&mut map, "Constraints", json!(placement.constraints));
    let preferences = placement.preferences.iter().filter_map(|p| p.preference.as_ref());
    let preference = |p: &placement_preference::Preference| match p {
        placement_preference::Preference::Spread(spread) => {
            json!({ "Spread": { "SpreadDescriptor": spread.spread_descriptor } })
        }
    };
    put_filled(&mut map, "Preferences", preferences.map(preference).collect());
    put_number(&mut map, "MaxReplicas", placement.max_replicas);
    put_filled(&mut map, "Platforms", placement.platforms.iter().map(|p| node::platform(Some(p))).collect());
    map.into()
}

pub(super) fn network_json(config: &NetworkAttachmentConfig) -> Value {
    let mut map = Map::new();
    put_text(&mut map, "Target", &config.target);
    put_filled(&mut map, "Aliases", json!(config.aliases));
    put_filled(&mut map, "DriverOpts", json!(config.driver_attachment_opts));
    map.into()
}

/// Only services with containers are made; Docker's words for the others.
pub(super) fn from_fields(fields: &Fields<'_>) -> Result<TaskSpec, ApiError> {
    let limits = fields.object_or_empty("Resources")?.object_or_empty("Limits")?;
    Ok(TaskSpec {
        runtime: Some(runtime(fields, limits.get("Pids")?)?),
        resources: fields.object("Resources")?.map(|f| resources(&f)).transpose()?,
        restart: fields.object("RestartPolicy")?.map(|f| restart(&f)).transpose()?,
        placement: fields.object("Placement")?.map(|f| placement(&f)).transpose()?,
        log_driver: fields.object("LogDriver")?.map(|f| driver(&f)).transpose()?,
        networks: fields.objects("Networks", network)?,
        force_update: fields.get("ForceUpdate")?,
        resource_references: Vec::new(),
    })
}

fn runtime(fields: &Fields<'_>, pids_limit: i64) -> Result<task_spec::Runtime, ApiError> {
    match fields.text("Runtime")?.as_str() {
        "" | "container" => {
            let container = fields.object("ContainerSpec")?;
            let container =
                container.ok_or_else(|| ApiError::invalid("mismatched Runtime and *Spec fields"))?;
            let container = container_spec::from_fields(&container)?;
            Ok(task_spec::Runtime::Container(weft_wire::swarmkit::ContainerSpec { pids_limit, ..container }))
        }
        "plugin" => Err(ApiError::not_implemented("a service of plugins")),
        "attachment" => Err(ApiError::invalid("mismatched Runtime and *Spec fields")),
        _ => Err(ApiError::invalid("unsupported runtime")),
    }
}

fn resources(fields: &Fields<'_>) -> Result<ResourceRequirements, ApiError> {
    let one = |f: Fields<'_>| {
        Ok::<_, ApiError>(Resources {
            nano_cpus: f.get("NanoCPUs")?,
            memory_bytes: f.get("MemoryBytes")?,
            generic: f.objects("GenericResources", generic_resource)?,
        })
    };
    Ok(ResourceRequirements {
        limits: fields.object("Limits")?.map(one).transpose()?,
        reservations: fields.object("Reservations")?.map(one).transpose()?,
        swap_bytes: fields.some("SwapBytes")?,
        memory_swappiness: fields.some("MemorySwappiness")?,
    })
}

fn generic_resource(fields: &Fields<'_>) -> Result<GenericResource, ApiError> {
    let named = fields.object("NamedResourceSpec")?.map(|f| {
        let resource = NamedGenericResource { kind: f.text("Kind")?, value: f.text("Value")? };
        Ok::<_, ApiError>(generic_resource::Resource::NamedResourceSpec(resource))
    });
    let discrete = fields.object("DiscreteResourceSpec")?.map(|f| {
        let resource = DiscreteGenericResource { kind: f.text("Kind")?, value: f.get("Value")? };
        Ok::<_, ApiError>(generic_resource::Resource::DiscreteResourceSpec(resource))
    });
    Ok(GenericResource { resource: named.or(discrete).transpose()? })
}

fn restart(fields: &Fields<'_>) -> Result<RestartPolicy, ApiError> {
    let word = fields.text("Condition")?;
    let condition = match word.as_str() {
        "none" => RestartCondition::None,
        "on-failure" => RestartCondition::OnFailure,
        "any" | "" => RestartCondition::Any,
        _ => return Err(ApiError::invalid(format!("invalid RestartCondition: {word:?}"))),
    };
    Ok(RestartPolicy {
        condition: condition.into(),
        delay: fields.duration("Delay")?,
        max_attempts: fields.get("MaxAttempts")?,
        window: fields.duration("Window")?,
    })
}

fn placement(fields: &Fields<'_>) -> Result<Placement, ApiError> {
    let preference = |f: &Fields<'_>| {
        let spread = f.object("Spread")?.map(|f| f.text("SpreadDescriptor")).transpose()?;
        let preference =
            |spread_descriptor| placement_preference::Preference::Spread(SpreadOver { spread_descriptor });
        Ok(PlacementPreference { preference: spread.map(preference) })
    };
    let platform = |f: &Fields<'_>| Ok(Platform { architecture: f.text("Architecture")?, os: f.text("OS")? });
    Ok(Placement {
        constraints: fields.get("Constraints")?,
        preferences: fields.objects("Preferences", preference)?,
        platforms: fields.objects("Platforms", platform)?,
        max_replicas: fields.get("MaxReplicas")?,
    })
}

pub(super) fn driver(fields: &Fields<'_>) -> Result<Driver, ApiError> {
    Ok(Driver { name: fields.text("Name")?, options: fields.get("Options")? })
}

pub(super) fn network(fields: &Fields<'_>) -> Result<NetworkAttachmentConfig, ApiError> {
    Ok(NetworkAttachmentConfig {
        target: fields.text("Target")?,
        aliases: fields.get("Aliases")?,
        addresses: Vec::new(),
        driver_attachment_opts: fields.get("DriverOpts")?,
    })
}
