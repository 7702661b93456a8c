//! SwarmKit's objects as Docker's JSON, and Docker's requests as SwarmKit's specs.

mod ca;
mod cluster;
mod container_spec;
mod defaults;
mod fields;
mod mount;
mod network;
mod node;
mod privileges;
mod service;
mod stored;
mod task;
mod task_spec;
mod time;

pub(crate) use cluster::{cluster_info, cluster_spec, swarm};
pub(crate) use defaults::insert_defaults;
pub(crate) use network::{is_predefined, network_spec, swarm_network};
pub(crate) use node::{
    availability, availability_word, node, node_spec, reachability_word, role_word,
    state_word as node_state_word,
};
pub(crate) use service::{service, service_spec, update_state_word};
pub(crate) use stored::{config, config_spec, secret, secret_spec};
pub(crate) use task::{task, task_name, task_state};
pub(crate) use time::{rfc3339, rfc3339_fixed, rfc3339_proto};

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use weft_wire::swarmkit::{Annotations, Meta, Version};

/// `ID`, `Version`, `CreatedAt`, `UpdatedAt`: how every swarm object begins.
fn object_head(id: &str, meta: Option<&Meta>) -> Map<String, Value> {
    let meta = meta.cloned().unwrap_or_default();
    let mut head = Map::new();
    head.insert("ID".to_owned(), id.into());
    head.insert("Version".to_owned(), version_json(meta.version.as_ref()));
    head.insert("CreatedAt".to_owned(), rfc3339_proto(meta.created_at.as_ref()).into());
    head.insert("UpdatedAt".to_owned(), rfc3339_proto(meta.updated_at.as_ref()).into());
    head
}

/// An index that is zero is left out.
fn version_json(version: Option<&Version>) -> Value {
    let mut map = Map::new();
    put_number(&mut map, "Index", version.map_or(0, |v| v.index));
    map.into()
}

/// `Name` (absent when empty, as Go's `omitempty`) and `Labels`.
fn annotations(annotations: Option<&Annotations>) -> Map<String, Value> {
    let mut map = Map::new();
    let empty = Annotations::default();
    let annotations = annotations.unwrap_or(&empty);
    put_text(&mut map, "Name", &annotations.name);
    map.insert("Labels".to_owned(), json!(annotations.labels));
    map
}

/// Go's `omitempty` for text.
fn put_text(map: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        map.insert(key.to_owned(), text.into());
    }
}

/// Go's `omitempty` for numbers.
fn put_number(map: &mut Map<String, Value>, key: &str, number: impl Into<Value>) {
    let number = number.into();
    if number.as_f64() != Some(0.0) {
        map.insert(key.to_owned(), number);
    }
}

/// Go's `omitempty` for booleans.
fn put_true(map: &mut Map<String, Value>, key: &str, on: bool) {
    if on {
        map.insert(key.to_owned(), true.into());
    }
}

/// Go's `omitempty` for lists and maps.
fn put_filled(map: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = match &value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Null => true,
        _ => false,
    };
    if !empty {
        map.insert(key.to_owned(), value);
    }
}

/// `None` as no labels.
pub(crate) fn labels<K: Ord + Into<String>>(
    labels: Option<impl IntoIterator<Item = (K, String)>>,
) -> BTreeMap<String, String> {
    labels.into_iter().flatten().map(|(key, value)| (key.into(), value)).collect()
}
