//! Nodes.

use bollard_stubs::models;
use serde_json::{Map, Value, json};
use weft_wire::swarmkit::node_spec::{Availability, Membership};
use weft_wire::swarmkit::raft_member_status::Reachability;
use weft_wire::swarmkit::{
    Annotations, GenericResource, ManagerStatus, Node, NodeDescription, NodeRole, NodeSpec, NodeStatus,
    Platform, Resources, generic_resource, node_status,
};

use super::{annotations, ca, object_head, put_filled, put_number, put_text, put_true};
use crate::error::ApiError;

/// `GET /nodes/{id}`.
pub(crate) fn node(node: &Node) -> Value {
    let mut map = object_head(&node.id, node.meta.as_ref());
    map.insert("Spec".to_owned(), spec(node));
    map.insert("Description".to_owned(), description(node.description.as_ref()));
    map.insert("Status".to_owned(), status(node.status.as_ref()));
    if let Some(manager) = &node.manager_status {
        map.insert("ManagerStatus".to_owned(), manager_status(manager));
    }
    map.into()
}

fn spec(node: &Node) -> Value {
    let spec = node.spec.clone().unwrap_or_default();
    let mut map = annotations(spec.annotations.as_ref());
    put_text(&mut map, "Role", role_word(spec.desired_role()));
    put_text(&mut map, "Availability", availability_word(spec.availability()));
    map.into()
}

pub(crate) fn availability_word(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

pub(crate) fn role_word(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Worker => "worker",
        NodeRole::Manager => "manager",
    }
}

fn description(description: Option<&NodeDescription>) -> Value {
    let description = description.cloned().unwrap_or_default();
    let mut map = Map::new();
    put_text(&mut map, "Hostname", &description.hostname);
    map.insert("Platform".to_owned(), platform(description.platform.as_ref()));
    map.insert("Resources".to_owned(), resources(description.resources.as_ref()));
    let engine = description.engine.unwrap_or_default();
    let mut engine_map = Map::new();
    put_text(&mut engine_map, "EngineVersion", &engine.engine_version);
    put_filled(&mut engine_map, "Labels", json!(engine.labels));
    let plugins: Vec<Value> =
        engine.plugins.iter().map(|p| json!({ "Type": p.r#type, "Name": p.name })).collect();
    put_filled(&mut engine_map, "Plugins", plugins.into());
    map.insert("Engine".to_owned(), engine_map.into());
    let tls = description.tls_info.unwrap_or_default();
    let info = ca::described(&tls.trust_root, &tls.cert_issuer_subject, &tls.cert_issuer_public_key);
    map.insert("TLSInfo".to_owned(), if tls.trust_root.is_empty() { json!({}) } else { info });
    map.into()
}

pub(super) fn platform(platform: Option<&Platform>) -> Value {
    let platform = platform.cloned().unwrap_or_default();
    let mut map = Map::new();
    put_text(&mut map, "Architecture", &platform.architecture);
    put_text(&mut map, "OS", &platform.os);
    map.into()
}

pub(super) fn resources(resources: Option<&Resources>) -> Value {
    let resources = resources.cloned().unwrap_or_default();
    let mut map = Map::new();
    put_number(&mut map, "NanoCPUs", resources.nano_cpus);
    put_number(&mut map, "MemoryBytes", resources.memory_bytes);
    put_filled(&mut map, "GenericResources", generic_resources(&resources.generic));
    map.into()
}

pub(super) fn generic_resources(resources: &[GenericResource]) -> Value {
    let resource = |resource: &generic_resource::Resource| match resource {
        generic_resource::Resource::NamedResourceSpec(named) => {
            json!({ "NamedResourceSpec": { "Kind": named.kind, "Value": named.value } })
        }
        generic_resource::Resource::DiscreteResourceSpec(discrete) => {
            json!({ "DiscreteResourceSpec": { "Kind": discrete.kind, "Value": discrete.value } })
        }
    };
    resources.iter().filter_map(|r| r.resource.as_ref()).map(resource).collect()
}

fn status(status: Option<&NodeStatus>) -> Value {
    let status = status.cloned().unwrap_or_default();
    let mut map = Map::new();
    put_text(&mut map, "State", state_word(status.state()));
    put_text(&mut map, "Message", &status.message);
    put_text(&mut map, "Addr", &status.addr);
    map.into()
}

pub(crate) fn state_word(state: node_status::State) -> &'static str {
    match state {
        node_status::State::Unknown => "unknown",
        node_status::State::Down => "down",
        node_status::State::Ready => "ready",
        node_status::State::Disconnected => "disconnected",
    }
}

fn manager_status(status: &ManagerStatus) -> Value {
    let mut map = Map::new();
    put_true(&mut map, "Leader", status.leader);
    put_text(&mut map, "Reachability", reachability_word(status.reachability()));
    put_text(&mut map, "Addr", &status.addr);
    map.into()
}

pub(crate) fn reachability_word(reachability: Reachability) -> &'static str {
    match reachability {
        Reachability::Unknown => "unknown",
        Reachability::Unreachable => "unreachable",
        Reachability::Reachable => "reachable",
    }
}

/// Docker's word for an availability, empty for the default.
pub(crate) fn availability(word: &str) -> Result<Availability, ApiError> {
    match word {
        "" | "active" => Ok(Availability::Active),
        "pause" => Ok(Availability::Pause),
        "drain" => Ok(Availability::Drain),
        _ => Err(ApiError::invalid(format!("invalid Availability: {word:?}"))),
    }
}

/// A request's spec. Raw JSON, for unknown words have Docker's own refusals.
pub(crate) fn node_spec(request: &Value) -> Result<NodeSpec, ApiError> {
    let word = |key: &str| request.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let role = word("Role");
    let desired_role = match role.as_str() {
        "worker" => NodeRole::Worker,
        "manager" => NodeRole::Manager,
        _ => return Err(ApiError::invalid(format!("invalid Role: {role:?}"))),
    };
    let wanted = word("Availability");
    if wanted.is_empty() {
        return Err(ApiError::invalid("invalid Availability: \"\""));
    }
    let named: models::NodeSpec =
        crate::request::typed(json!({ "Name": word("Name"), "Labels": request.get("Labels") }))?;
    Ok(NodeSpec {
        annotations: Some(Annotations {
            name: named.name.unwrap_or_default(),
            labels: super::labels(named.labels),
            indices: Vec::new(),
        }),
        desired_role: desired_role.into(),
        membership: Membership::Accepted.into(),
        availability: availability(&wanted)?.into(),
    })
}
