use std::time::SystemTime;

use weft_orchestration::{Allocator, AllocatorConfig, Dirty, InUse};
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::task_spec::Runtime;
use weft_wire::swarmkit::{Cluster, ContainerSpec, ReplicatedService, Service, ServiceSpec, TaskSpec};

use super::driver::Driver;
use crate::consensus::Machine as _;
use crate::network::Reports;
use crate::store::{Refusal, Store, Transaction};

fn service(image: &str) -> Service {
    let container = ContainerSpec { image: image.into(), ..Default::default() };
    let spec = ServiceSpec {
        task: Some(TaskSpec { runtime: Some(Runtime::Container(container)), ..Default::default() }),
        mode: Some(Mode::Replicated(ReplicatedService { replicas: 2 })),
        ..Default::default()
    };
    Service { id: "web".into(), spec: Some(spec), ..Default::default() }
}

/// New tasks copy their service's spec: they must not come to be after the user changed it.
#[test]
fn tasks_are_created_only_for_the_service_that_they_were_computed_from() {
    let store = Store::new();
    let mut first = Transaction::new(SystemTime::now());
    first.create(service("nginx:1"));
    assert_eq!(store.apply(1, &first.encode()), None);
    store.flush();

    let config = AllocatorConfig::of_cluster(&Cluster { id: "c".into(), ..Default::default() }).unwrap();
    let mut allocator = Allocator::rebuild(config, [], &InUse::default());
    let mut tasks = Transaction::new(SystemTime::now());
    let dirty = Dirty::service("web");
    Driver::new().compute(&store.view(), &Reports::default(), &mut allocator, &mut tasks, &dirty);
    assert!(!tasks.is_empty());

    let mut changed = Transaction::new(SystemTime::now());
    let meta = store.view().service("web").unwrap().meta;
    changed.update(Service { meta, ..service("nginx:2") });
    assert_eq!(store.apply(2, &changed.encode()), None);
    let refused = store.apply(3, &tasks.encode());
    assert!(matches!(&refused, Some(Refusal::Version { id, .. }) if id == "web"), "{refused:?}");
}
