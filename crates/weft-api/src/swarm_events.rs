//! What users hear of the swarm's objects: a change of the store as an event with what is new and what was.

use std::collections::BTreeMap;
use std::time::SystemTime;

use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::update_status::UpdateState;
use weft_wire::swarmkit::{
    Annotations, ManagerStatus, Meta, Network, Node, NodeRole, Service, ServiceSpec, task_spec,
};

use crate::convert;
use crate::event_hub::{ApiEvent, since_epoch};
use crate::swarm_backend::{SwarmChange, SwarmNews, SwarmObject, Unacknowledged};

type Attributes = BTreeMap<String, String>;

/// Ours: Docker has no such event.
const UNACKNOWLEDGED: &str = "unacknowledged";

/// What users hear of it.
pub(crate) fn events(news: &SwarmNews) -> Vec<ApiEvent> {
    match news {
        SwarmNews::Change(change) => event(change).into_iter().collect(),
        SwarmNews::Unacknowledged(missed) => unacknowledged(missed),
    }
}

/// One event of the node, and one of each service that it held up.
fn unacknowledged(missed: &Unacknowledged) -> Vec<ApiEvent> {
    let node = SwarmObject::Node(missed.node.clone());
    let objects = std::iter::once(node).chain(missed.services.iter().cloned().map(SwarmObject::Service));
    let mut attributes = Attributes::from([
        ("node.id".to_owned(), missed.node.id.clone()),
        ("node.name".to_owned(), node_name(&missed.node)),
        ("turn".to_owned(), if missed.is_drain { "drain" } else { "settle" }.to_owned()),
        ("tasks".to_owned(), missed.tasks.join(",")),
    ]);
    if !missed.error.is_empty() {
        attributes.insert("error".to_owned(), missed.error.clone());
    }
    let time = since_epoch(SystemTime::now());
    let of = |object: SwarmObject| {
        let (typ, id, name) = subject(&object)?;
        let mut attributes = attributes.clone();
        attributes.insert("name".to_owned(), name);
        Some(ApiEvent { typ, action: UNACKNOWLEDGED.to_owned(), id, attributes, scope: "swarm", time })
    };
    objects.filter_map(of).collect()
}

/// `None` for what users do not hear of.
fn event(change: &SwarmChange) -> Option<ApiEvent> {
    let object = change.after.as_ref().or(change.before.as_ref())?;
    let (action, time) = match (&change.before, &change.after) {
        (None, _) => ("create", created(object)),
        (_, Some(_)) => ("update", updated(object)),
        (_, None) => ("remove", SystemTime::now()),
    };
    let (typ, id, name) = subject(object)?;
    let mut attributes = Attributes::from([("name".to_owned(), name)]);
    if let (Some(before), Some(after)) = (&change.before, &change.after) {
        differences(before, after, &mut attributes);
    }
    Some(ApiEvent { typ, action: action.to_owned(), id, attributes, scope: "swarm", time: since_epoch(time) })
}

fn subject(object: &SwarmObject) -> Option<(&'static str, String, String)> {
    let named = |annotations: Option<&Annotations>| annotations.map(|a| a.name.clone()).unwrap_or_default();
    Some(match object {
        SwarmObject::Node(node) => ("node", node.id.clone(), node_name(node)),
        SwarmObject::Service(service) => {
            let spec = service.spec.as_ref();
            ("service", service.id.clone(), named(spec.and_then(|s| s.annotations.as_ref())))
        }
        SwarmObject::Network(network) => ("network", network.id.clone(), network_name(network)?),
        SwarmObject::Secret(secret) => {
            let spec = secret.spec.as_ref();
            ("secret", secret.id.clone(), named(spec.and_then(|s| s.annotations.as_ref())))
        }
        SwarmObject::Config(config) => {
            let spec = config.spec.as_ref();
            ("config", config.id.clone(), named(spec.and_then(|s| s.annotations.as_ref())))
        }
    })
}

fn node_name(node: &Node) -> String {
    let given = node.spec.as_ref().and_then(|s| s.annotations.as_ref()).map(|a| a.name.clone());
    let host = node.description.as_ref().map(|d| d.hostname.clone());
    given.filter(|name| !name.is_empty()).or(host).unwrap_or_default()
}

fn network_name(network: &Network) -> Option<String> {
    let annotations = network.spec.as_ref()?.annotations.as_ref()?;
    (!convert::is_predefined(network)).then(|| annotations.name.clone())
}

fn meta(object: &SwarmObject) -> Option<&Meta> {
    match object {
        SwarmObject::Node(o) => o.meta.as_ref(),
        SwarmObject::Service(o) => o.meta.as_ref(),
        SwarmObject::Network(o) => o.meta.as_ref(),
        SwarmObject::Secret(o) => o.meta.as_ref(),
        SwarmObject::Config(o) => o.meta.as_ref(),
    }
}

fn created(object: &SwarmObject) -> SystemTime {
    moment(meta(object).and_then(|meta| meta.created_at))
}

fn updated(object: &SwarmObject) -> SystemTime {
    moment(meta(object).and_then(|meta| meta.updated_at))
}

fn moment(at: Option<prost_types::Timestamp>) -> SystemTime {
    at.and_then(|at| SystemTime::try_from(at).ok()).unwrap_or_else(SystemTime::now)
}

fn differences(before: &SwarmObject, after: &SwarmObject, attributes: &mut Attributes) {
    match (before, after) {
        (SwarmObject::Node(before), SwarmObject::Node(after)) => node_differences(before, after, attributes),
        (SwarmObject::Service(before), SwarmObject::Service(after)) => {
            service_differences(before, after, attributes);
        }
        _ => {}
    }
}

/// `key.old` and `key.new`, if they differ.
fn put<T: PartialEq>(attributes: &mut Attributes, key: &str, old: T, new: T, word: impl Fn(T) -> String) {
    if old != new {
        attributes.insert(format!("{key}.old"), word(old));
        attributes.insert(format!("{key}.new"), word(new));
    }
}

fn node_differences(before: &Node, after: &Node, attributes: &mut Attributes) {
    let state = |node: &Node| node.status.as_ref().map(|status| status.state()).unwrap_or_default();
    put(attributes, "state", state(before), state(after), |s| convert::node_state_word(s).to_owned());
    let availability =
        |node: &Node| node.spec.as_ref().map_or(Availability::Active, |spec| spec.availability());
    put(attributes, "availability", availability(before), availability(after), |a| {
        convert::availability_word(a).to_owned()
    });
    // The role a node has, not the one it shall get.
    let role = |node: &Node| NodeRole::try_from(node.role).unwrap_or_default();
    put(attributes, "role", role(before), role(after), |r| convert::role_word(r).to_owned());
    let leader = |node: &Node| node.manager_status.as_ref().is_some_and(|status| status.leader);
    put(attributes, "leader", leader(before), leader(after), |leader| leader.to_string());
    let reachability =
        |node: &Node| node.manager_status.as_ref().map(ManagerStatus::reachability).unwrap_or_default();
    put(attributes, "reachability", reachability(before), reachability(after), |r| {
        convert::reachability_word(r).to_owned()
    });
}

fn service_differences(before: &Service, after: &Service, attributes: &mut Attributes) {
    let image = |service: &Service| service.spec.as_ref().and_then(image_of).unwrap_or_default();
    put(attributes, "image", image(before), image(after), |image| image);
    if let (Some(old), Some(new)) = (replicas(before), replicas(after)) {
        put(attributes, "replicas", old, new, |replicas| replicas.to_string());
    }
    let state = |service: &Service| {
        service.update_status.as_ref().map_or(UpdateState::Unknown, |status| status.state())
    };
    let (old, new) = (state(before), state(after));
    if old != new {
        // Unlike the others these are told only if they are anything.
        for (key, state) in [("updatestate.old", old), ("updatestate.new", new)] {
            let word = convert::update_state_word(state);
            if !word.is_empty() {
                attributes.insert(key.to_owned(), word.to_owned());
            }
        }
    }
}

fn image_of(spec: &ServiceSpec) -> Option<String> {
    match spec.task.as_ref()?.runtime.as_ref()? {
        task_spec::Runtime::Container(container) => Some(container.image.clone()),
        _ => None,
    }
}

fn replicas(service: &Service) -> Option<u64> {
    match service.spec.as_ref()?.mode.as_ref()? {
        Mode::Replicated(replicated) => Some(replicated.replicas),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn service(replicas: u64, image: &str) -> SwarmObject {
        let request = json!({
            "Name": "evs",
            "TaskTemplate": { "ContainerSpec": { "Image": image } },
            "Mode": { "Replicated": { "Replicas": replicas } },
        });
        let spec = convert::service_spec(&request).unwrap();
        SwarmObject::Service(Arc::new(Service { id: "s".to_owned(), spec: Some(spec), ..Service::default() }))
    }

    fn told(before: Option<SwarmObject>, after: Option<SwarmObject>) -> (String, Attributes) {
        let event = event(&SwarmChange { before, after }).unwrap();
        assert_eq!((event.typ, event.scope, event.id.as_str()), ("service", "swarm", "s"));
        (event.action, event.attributes)
    }

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn services_are_created_updated_and_removed() {
        let (one, two) = (service(2, "a"), service(1, "a"));
        assert_eq!(told(None, Some(one.clone())), ("create".to_owned(), attributes(&[("name", "evs")])));
        assert_eq!(
            told(Some(one.clone()), Some(two.clone())),
            (
                "update".to_owned(),
                attributes(&[("name", "evs"), ("replicas.new", "1"), ("replicas.old", "2")])
            )
        );
        assert_eq!(told(Some(two), None), ("remove".to_owned(), attributes(&[("name", "evs")])));
        let (_, image) = told(Some(one), Some(service(2, "b")));
        assert_eq!(image, attributes(&[("image.new", "b"), ("image.old", "a"), ("name", "evs")]));
    }

    #[test]
    fn a_missed_acknowledgement_names_the_node_at_the_node_and_the_service() {
        let SwarmObject::Service(service) = service(2, "a") else { panic!("no service") };
        let description =
            weft_wire::swarmkit::NodeDescription { hostname: "n3".to_owned(), ..Default::default() };
        let missed = Unacknowledged {
            node: Arc::new(Node { id: "n".to_owned(), description: Some(description), ..Node::default() }),
            services: vec![service],
            tasks: vec!["t1".to_owned(), "t2".to_owned()],
            is_drain: true,
            error: String::new(),
        };
        let events = events(&SwarmNews::Unacknowledged(missed));
        let told = |name: &str| {
            attributes(&[
                ("name", name),
                ("node.id", "n"),
                ("node.name", "n3"),
                ("turn", "drain"),
                ("tasks", "t1,t2"),
            ])
        };
        let seen: Vec<_> = events.iter().map(|e| (e.typ, e.id.as_str(), e.action.as_str())).collect();
        assert_eq!(seen, [("node", "n", "unacknowledged"), ("service", "s", "unacknowledged")]);
        assert_eq!(events[0].attributes, told("n3"));
        assert_eq!(events[1].attributes, told("evs"));
    }

    #[test]
    fn nodes_tell_what_changed() {
        let node = |availability: Availability| {
            let mut spec = weft_wire::swarmkit::NodeSpec::default();
            spec.set_availability(availability);
            let description =
                weft_wire::swarmkit::NodeDescription { hostname: "n3".to_owned(), ..Default::default() };
            SwarmObject::Node(Arc::new(Node {
                spec: Some(spec),
                description: Some(description),
                ..Node::default()
            }))
        };
        let change =
            SwarmChange { before: Some(node(Availability::Active)), after: Some(node(Availability::Pause)) };
        assert_eq!(
            event(&change).unwrap().attributes,
            attributes(&[("availability.new", "pause"), ("availability.old", "active"), ("name", "n3")])
        );
    }
}
