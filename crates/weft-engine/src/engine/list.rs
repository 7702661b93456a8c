//! Listing with Docker's filters.

use std::collections::HashMap;
use std::sync::Arc;

use bollard_stubs::models::{
    ContainerSummary, ContainerSummaryHostConfig, ContainerSummaryNetworkSettings, ContainerSummaryStateEnum,
    PortSummary, PortSummaryTypeEnum,
};

use super::{Engine, Result};
use crate::container::record::Record;
use crate::container::status;
use crate::error::EngineError;
use crate::options::{Filters, ListOptions};

/// Filters that exist.
const FILTERS: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

impl Engine {
    /// Containers that match, newest first.
    pub fn list(&self, options: &ListOptions) -> Result<Vec<ContainerSummary>> {
        let filters = &options.filters;
        check(filters)?;
        let mut records: Vec<Arc<Record>> =
            self.containers().iter().map(|container| container.record()).collect();
        records.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        let newer = self.bounds(filters, "since")?;
        let older = self.bounds(filters, "before")?;
        let all = options.all
            || options.limit > 0
            || ["status", "exited", "since", "before"].iter().any(|key| filters.contains_key(*key));
        records.retain(|record| {
            (all || record.state.is_running())
                && newer.iter().all(|bound| record.created > *bound)
                && older.iter().all(|bound| record.created < *bound)
                && self.matches(record, filters)
        });
        if options.limit > 0 {
            records.truncate(options.limit);
        }
        Ok(records.iter().map(|record| self.summary(record, options.size)).collect())
    }

    fn bounds(&self, filters: &Filters, key: &str) -> Result<Vec<String>> {
        let terms = filters.get(key).into_iter().flatten();
        terms.map(|term| Ok(self.find(term)?.with(|record| record.created.clone()))).collect()
    }

    fn matches(&self, record: &Record, filters: &Filters) -> bool {
        filters.iter().all(|(key, values)| {
            let any =
                |test: &dyn Fn(&str) -> bool| values.is_empty() || values.iter().any(|value| test(value));
            match key.as_str() {
                "id" => any(&|value| record.id.as_str().starts_with(value)),
                "name" => any(&|value| name_matches(&record.name, value)),
                "status" => any(&|value| record.state.status() == value),
                "exited" => {
                    !record.state.is_running()
                        && record.state.status() == "exited"
                        && any(&|value| value.parse() == Ok(record.state.exit_code))
                }
                "label" => label_filter(record, values),
                "label!" => !label_filter(record, values),
                "volume" => any(&|value| has_volume(record, value)),
                "ancestor" => any(&|value| self.is_ancestor(record, value)),
                "network" => any(&|value| self.is_on_network(record, value)),
                "publish" | "expose" => any(&|value| has_port(record, value, key == "publish")),
                "health" => {
                    let health = record.state.health.as_ref().map_or("none", |health| health.status.as_str());
                    any(&|value| value == health)
                }
                "is-task" => any(&|value| {
                    let labels = record.config.labels.as_ref();
                    let task = labels.is_some_and(|labels| labels.contains_key(super::create::TASK_LABEL));
                    matches!(value, "true" | "1") == task
                }),
                _ => true,
            }
        })
    }

    fn is_ancestor(&self, record: &Record, term: &str) -> bool {
        record.image_name == term
            || self.images.for_container(term).is_ok_and(|image| {
                image.id == record.image
                    || record.layers.starts_with(&image.layers) && !image.layers.is_empty()
            })
    }

    fn is_on_network(&self, record: &Record, term: &str) -> bool {
        record
            .endpoints
            .keys()
            .any(|name| name == term || self.network.display_name(name).is_some_and(|shown| shown == term))
            || record.connected.values().any(|endpoint| {
                endpoint.network_id.as_deref().is_some_and(|id| !term.is_empty() && id.starts_with(term))
            })
    }

    fn summary(&self, record: &Record, size: bool) -> ContainerSummary {
        let image = self.image_label(record);
        let words = std::iter::once(record.path.clone()).chain(record.args.iter().map(|arg| quoted(arg)));
        let words = words.collect::<Vec<_>>().join(" ");
        let created = record.created.parse::<jiff::Timestamp>().map(|time| time.as_second()).unwrap_or(0);
        let sizes = size.then(|| self.sizes(record));
        ContainerSummary {
            id: Some(record.id.to_string()),
            names: Some(vec![format!("/{}", record.name)]),
            image: Some(image),
            image_id: Some(record.image.to_string()),
            command: Some(words),
            created: Some(created),
            ports: Some(ports(record)),
            size_rw: sizes.map(|(own, _)| own).filter(|bytes| *bytes > 0),
            size_root_fs: sizes.map(|(_, all)| all),
            labels: Some(record.config.labels.clone().unwrap_or_default()),
            state: Some(state(record.state.status())),
            status: Some(status::text(&record.state, jiff::Timestamp::now())),
            host_config: Some(ContainerSummaryHostConfig {
                network_mode: Some(record.network_mode().to_owned()),
                ..ContainerSummaryHostConfig::default()
            }),
            network_settings: Some(ContainerSummaryNetworkSettings {
                networks: Some(self.shown_endpoints(record)),
            }),
            mounts: Some(self.shown_mounts(record)),
            ..ContainerSummary::default()
        }
    }

    /// The name it was created from, or the id once that name means another image.
    fn image_label(&self, record: &Record) -> String {
        match self.images.for_container(&record.image_name) {
            Ok(image) if image.id == record.image => record.image_name.clone(),
            _ => record.image.to_string(),
        }
    }
}

/// As Docker shows arguments: no shell would read them back.
fn quoted(arg: &str) -> String {
    if arg.contains(' ') { format!("'{arg}'") } else { arg.to_owned() }
}

fn check(filters: &Filters) -> Result<()> {
    if let Some(key) = filters.keys().find(|key| !FILTERS.contains(&key.as_str())) {
        return Err(EngineError::Invalid(format!("invalid filter '{key}'")));
    }
    if let Some(bad) =
        filters.get("status").into_iter().flatten().find(|value| !STATES.contains(&value.as_str()))
    {
        return Err(EngineError::Invalid(format!(
            "invalid filter 'status={bad}': invalid value for state ({bad}): must be one of {}",
            STATES.join(", ")
        )));
    }
    if let Some(bad) = filters.get("exited").into_iter().flatten().find(|value| value.parse::<i64>().is_err())
    {
        return Err(EngineError::Invalid(format!("invalid filter 'exited={bad}'")));
    }
    Ok(())
}

/// Docker takes a regular expression; anchors are what people use of it.
fn name_matches(name: &str, pattern: &str) -> bool {
    let body = pattern.trim_start_matches('^').trim_start_matches('/').trim_end_matches('$');
    match (pattern.starts_with('^'), pattern.ends_with('$')) {
        (true, true) => name == body,
        (true, false) => name.starts_with(body),
        (false, true) => name.ends_with(body),
        (false, false) => name.contains(body),
    }
}

fn label_filter(record: &Record, wanted: &[String]) -> bool {
    let empty = HashMap::new();
    let labels = record.config.labels.as_ref().unwrap_or(&empty);
    wanted.iter().all(|label| match label.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
        None => labels.contains_key(label),
    })
}

/// The label filters of prune requests, with `label!`.
pub(super) fn labels_match(record: &Record, filters: &Filters) -> bool {
    filters.get("label").is_none_or(|wanted| label_filter(record, wanted))
        && filters.get("label!").is_none_or(|unwanted| !label_filter(record, unwanted))
}

/// `publish` asks for ports of the host, `expose` for those of the container; both `port[-port][/protocol]`.
fn has_port(record: &Record, wanted: &str, published: bool) -> bool {
    let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return false };
    let in_range = |port: Option<u16>| port.is_some_and(|port| (first..=last).contains(&port));
    if published {
        let ports = record.sandbox.iter().flat_map(|sandbox| &sandbox.ports);
        let bindings = ports.filter(|(port, _)| port.ends_with(&format!("/{protocol}")));
        let mut host_ports = bindings.flat_map(|(_, bindings)| bindings.iter().flatten());
        return host_ports.any(|b| in_range(b.host_port.as_deref().and_then(|port| port.parse().ok())));
    }
    // A container that does not run exposes nothing.
    let mut exposed = record.config.exposed_ports.iter().flatten().filter(|_| record.state.is_running());
    exposed.any(|exposed| {
        let (port, own) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        own == protocol && in_range(port.parse().ok())
    })
}

/// By the volume's name or by where it or a bind is in the container.
fn has_volume(record: &Record, wanted: &str) -> bool {
    record.mounts.iter().any(|mount| {
        (!mount.name.is_empty() && mount.name == wanted)
            || mount.destination == std::path::Path::new(wanted)
            || (!mount.source.as_os_str().is_empty() && mount.source == std::path::Path::new(wanted))
    })
}

fn state(text: &str) -> ContainerSummaryStateEnum {
    text.parse().unwrap_or(ContainerSummaryStateEnum::CREATED)
}

fn ports(record: &Record) -> Vec<PortSummary> {
    let mut ports = Vec::new();
    let bound = record.sandbox.as_ref().map(|sandbox| sandbox.ports.clone()).unwrap_or_default();
    let split = |port: &str| -> Option<(u16, PortSummaryTypeEnum)> {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        Some((number.parse().ok()?, protocol.parse().ok()?))
    };
    for (port, bindings) in &bound {
        let Some((private_port, typ)) = split(port) else { continue };
        for binding in bindings.iter().flatten() {
            ports.push(PortSummary {
                ip: binding.host_ip.clone(),
                private_port,
                public_port: binding.host_port.as_deref().and_then(|port| port.parse().ok()),
                typ: Some(typ),
            });
        }
    }
    let running = record.state.is_running();
    for port in
        record.config.exposed_ports.iter().flatten().filter(|port| running && !bound.contains_key(*port))
    {
        if let Some((private_port, typ)) = split(port) {
            ports.push(PortSummary { ip: None, private_port, public_port: None, typ: Some(typ) });
        }
    }
    ports.sort_by_key(|port| (port.private_port, port.public_port));
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_patterns() {
        assert!(name_matches("web1", "web"));
        assert!(name_matches("web1", "^/web1$"));
        assert!(!name_matches("web12", "^/web1$"));
        assert!(name_matches("my-web", "web$"));
    }
}
