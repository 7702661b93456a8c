use std::sync::Arc;

use weft_orchestration::Dirty;
use weft_wire::swarmkit::{Cluster, ClusterSpec, Network, Node, NodeStatus, OrchestrationConfig, Task};

use super::news::News;
use crate::store::{Change, Commit, Object};

fn noted(before: Option<Object>, after: Option<Object>) -> News {
    let mut news = News::default();
    news.note(&Commit { index: 1, changes: vec![Change { before, after }] });
    news
}

fn task(service: &str) -> Object {
    Object::Task(Arc::new(Task { id: "t".into(), service_id: service.into(), ..Default::default() }))
}

#[test]
fn a_task_makes_its_service_dirty() {
    assert_eq!(noted(None, Some(task("web"))).dirty, Dirty::service("web"));
    assert_eq!(noted(Some(task("web")), None).dirty, Dirty::service("web"));
}

#[test]
fn a_freed_address_is_a_reason_to_look_at_what_waits() {
    let attachment = noted(Some(task("")), None);
    assert!(attachment.is_due() && attachment.dirty.is_empty());
    let network = Object::Network(Arc::new(Network { id: "n".into(), ..Default::default() }));
    assert!(noted(None, Some(network)).is_due());
}

#[test]
fn a_node_is_dirty_only_by_what_decides_about_tasks() {
    let node = |state: i32, message: &str| {
        let status = NodeStatus { state, message: message.into(), ..Default::default() };
        Object::Node(Arc::new(Node { id: "n".into(), status: Some(status), ..Default::default() }))
    };
    assert_eq!(noted(Some(node(2, "")), Some(node(1, ""))).dirty, Dirty::node("n"));
    assert!(!noted(Some(node(2, "a")), Some(node(2, "b"))).is_due());
}

#[test]
fn only_settings_of_tasks_make_everything_dirty() {
    let cluster = |limit: i64, clock: u64| {
        let orchestration = Some(OrchestrationConfig { task_history_retention_limit: limit });
        Object::Cluster(Arc::new(Cluster {
            spec: Some(ClusterSpec { orchestration, ..Default::default() }),
            encryption_key_lamport_clock: clock,
            ..Default::default()
        }))
    };
    assert!(noted(Some(cluster(5, 1)), Some(cluster(1, 1))).dirty.all);
    assert!(!noted(Some(cluster(5, 1)), Some(cluster(5, 2))).is_due());
}
