//! A view as the orchestration loops read it.

use std::sync::Arc;

use weft_orchestration::{Objects, Snapshot};
use weft_wire::swarmkit::{Cluster, Network, Node, Service, Task};

use super::View;

impl Snapshot for View {
    fn cluster(&self) -> Option<&Arc<Cluster>> {
        View::cluster(self)
    }

    fn service(&self, id: &str) -> Option<&Arc<Service>> {
        View::service(self, id)
    }

    fn services(&self) -> Objects<'_, Service> {
        Box::new(View::services(self))
    }

    fn node(&self, id: &str) -> Option<&Arc<Node>> {
        View::node(self, id)
    }

    fn nodes(&self) -> Objects<'_, Node> {
        Box::new(View::nodes(self))
    }

    fn task(&self, id: &str) -> Option<&Arc<Task>> {
        View::task(self, id)
    }

    fn tasks(&self) -> Objects<'_, Task> {
        Box::new(View::tasks(self))
    }

    fn waiting_tasks(&self) -> Objects<'_, Task> {
        Box::new(View::waiting_tasks(self))
    }

    fn tasks_of_service<'a>(&'a self, service: &'a str) -> Objects<'a, Task> {
        Box::new(View::tasks_of_service(self, service))
    }

    fn tasks_of_node<'a>(&'a self, node: &'a str) -> Objects<'a, Task> {
        Box::new(View::tasks_of_node(self, node))
    }

    fn network(&self, id: &str) -> Option<&Arc<Network>> {
        View::network(self, id)
    }

    fn networks(&self) -> Objects<'_, Network> {
        Box::new(View::networks(self))
    }
}
