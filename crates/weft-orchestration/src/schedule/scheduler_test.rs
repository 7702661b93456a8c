use weft_wire::swarmkit::{
    ContainerSpec, DiscreteGenericResource, Driver, Endpoint, GenericResource, Mount, Network,
    NetworkAttachment, Placement, PlacementPreference, Platform, PortConfig, SpreadOver, Task, TaskSpec,
    TaskState, TaskStatus, Version, generic_resource, mount, node_spec::Availability, node_status::State,
    placement_preference::Preference, port_config::PublishMode, task_spec::Runtime,
};

use super::test_objects::*;
use crate::testing::TestCluster;
use crate::{Scheduled, Scheduler};

#[test]
fn tasks_spread_over_the_nodes_with_the_fewest() {
    let cluster = cluster(["a", "b", "c"].map(node));
    let mut pending = tasks("web", 7, &TaskSpec::default());
    let scheduled = schedule(&cluster, &mut pending);
    assert_eq!(scheduled, Scheduled { changed: (0..7).collect(), placed: 7, waiting: 0 });
    assert_eq!(counts(&cluster, &pending), [3, 2, 2]);
    let status = pending[0].status.as_ref().unwrap();
    assert_eq!(
        (status.state(), status.message.as_str(), status.err.as_str(), status.timestamp),
        (TaskState::Assigned, "scheduler assigned task to node", "", Some(at(0).into()))
    );
}

/// First the tasks of the service count, then all; what has ended or shall end does not count.
#[test]
fn the_service_counts_before_the_total() {
    let mut cluster = cluster(["a", "b", "c"].map(node));
    cluster.put_task(running(task("web", 8, TaskSpec::default()), "a"));
    for slot in 1..=3 {
        cluster.put_task(running(task("other", slot, TaskSpec::default()), "b"));
    }
    cluster.put_task(running(task("other", 4, TaskSpec::default()), "c"));
    cluster.put_task(in_state(task("web", 9, TaskSpec::default()), "c", TaskState::Failed));
    let mut going = running(task("web", 7, TaskSpec::default()), "c");
    going.desired_state = TaskState::Shutdown.into();
    cluster.put_task(going);
    let mut pending = tasks("web", 4, &TaskSpec::default());
    schedule(&cluster, &mut pending);
    let nodes: Vec<&str> = pending.iter().map(|task| task.node_id.as_str()).collect();
    assert_eq!(nodes, ["c", "b", "a", "c"]);
}

#[test]
fn only_ready_and_active_nodes_get_tasks() {
    let mut nodes = ["a", "b", "c", "d", "e"].map(node);
    nodes[1].status.as_mut().unwrap().state = State::Down.into();
    nodes[2].spec.as_mut().unwrap().availability = Availability::Drain.into();
    nodes[3].spec.as_mut().unwrap().availability = Availability::Pause.into();
    nodes[4].status.as_mut().unwrap().state = State::Disconnected.into();
    let mut cluster = cluster(nodes.clone());
    let mut pending = tasks("web", 2, &TaskSpec::default());
    schedule(&cluster, &mut pending);
    assert_eq!(counts(&cluster, &pending), [2, 0, 0, 0, 0]);

    nodes[0].spec.as_mut().unwrap().availability = Availability::Drain.into();
    cluster.put_node(nodes[0].clone());
    cluster.put_service(service("web", TaskSpec::default()));
    let mut pending = tasks("web", 1, &TaskSpec::default());
    schedule(&cluster, &mut pending);
    assert_eq!(err(&pending[0]), "no suitable node (5 nodes not available for new tasks)");
}

/// What a recorded dockerd showed: the message stays, the reason is the error, the task stays pending.
#[test]
fn an_unplaceable_task_says_why_and_only_once() {
    let spec = constrained(&["node.labels.zone==nope"]);
    let mut cluster = cluster(["a", "b", "c"].map(node));
    cluster.put_service(service("unsched", spec.clone()));
    let mut pending = tasks("unsched", 1, &spec);
    assert_eq!(schedule(&cluster, &mut pending), Scheduled { changed: vec![0], placed: 0, waiting: 1 });
    let status = pending[0].status.as_ref().unwrap();
    assert_eq!(status.state(), TaskState::Pending);
    assert_eq!(status.message, "pending task scheduling");
    assert_eq!(status.err, "no suitable node (scheduling constraints not satisfied on 3 nodes)");
    assert_eq!(schedule(&cluster, &mut pending), Scheduled { changed: vec![], placed: 0, waiting: 1 });

    cluster.put_node(with_label(node("b"), "zone", "nope"));
    assert_eq!(schedule(&cluster, &mut pending), Scheduled { changed: vec![0], placed: 1, waiting: 0 });
    assert_eq!((pending[0].node_id.as_str(), err(&pending[0])), ("b", ""));
}

#[test]
fn reasons_are_counted_and_the_most_frequent_is_first() {
    let mut nodes = ["a", "b", "c", "d"].map(node).map(|node| with_label(node, "zone", "x"));
    nodes[0].description.as_mut().unwrap().resources.as_mut().unwrap().nano_cpus = CPU;
    for node in &mut nodes[1..] {
        node.spec.as_mut().unwrap().annotations.as_mut().unwrap().labels.clear();
    }
    let mut cluster = cluster(nodes);
    let spec =
        TaskSpec { placement: constrained(&["node.labels.zone==x"]).placement, ..reserving(2 * CPU, 0) };
    cluster.put_service(service("web", spec.clone()));
    let mut pending = tasks("web", 1, &spec);
    schedule(&cluster, &mut pending);
    assert_eq!(
        err(&pending[0]),
        "no suitable node (scheduling constraints not satisfied on 3 nodes; insufficient resources on 1 node)"
    );
    let mut empty = TestCluster::new();
    empty.put_service(service("web", TaskSpec::default()));
    schedule(&empty, &mut pending);
    assert_eq!(err(&pending[0]), "no suitable node");
}

#[test]
fn reservations_of_all_tasks_on_a_node_count_until_they_end() {
    let mut cluster = cluster(["a", "b"].map(node));
    let spec = reserving(CPU, 1024 * MEBIBYTE);
    cluster.put_service(service("web", spec.clone()));
    // Still running, though it shall not: its memory is in use.
    let mut going = running(task("old", 1, reserving(3 * CPU, 0)), "a");
    going.desired_state = TaskState::Shutdown.into();
    cluster.put_task(going.clone());
    let mut pending = tasks("web", 6, &spec);
    let scheduled = schedule(&cluster, &mut pending);
    assert_eq!((counts(&cluster, &pending), scheduled.waiting), (vec![1, 4], 1));
    assert_eq!(err(&pending[5]), "no suitable node (insufficient resources on 2 nodes)");

    going.status.as_mut().unwrap().state = TaskState::Shutdown.into();
    cluster.put_task(going);
    for task in &pending[..5] {
        cluster.put_task(task.clone());
    }
    schedule(&cluster, &mut pending[5..]);
    assert_eq!(pending[5].node_id, "a");
}

#[test]
fn generic_resources_are_given_by_name_and_refused_when_there_are_none() {
    let counted = |kind: &str, value| GenericResource {
        resource: Some(generic_resource::Resource::DiscreteResourceSpec(DiscreteGenericResource {
            kind: kind.into(),
            value,
        })),
    };
    let mut nodes = ["a", "b"].map(node);
    nodes[1].description.as_mut().unwrap().resources.as_mut().unwrap().generic = vec![counted("gpu", 3)];
    let mut cluster = cluster(nodes);
    let mut spec = reserving(0, 0);
    spec.resources.as_mut().unwrap().reservations.as_mut().unwrap().generic = vec![counted("gpu", 2)];
    cluster.put_service(service("train", spec.clone()));
    let mut pending = tasks("train", 2, &spec);
    schedule(&cluster, &mut pending);
    assert_eq!(pending[0].node_id, "b");
    assert_eq!(pending[0].assigned_generic_resources, [counted("gpu", 2)]);
    assert_eq!(err(&pending[1]), "no suitable node (insufficient resources on 2 nodes)");
    cluster.put_task(pending[0].clone());
    assert_eq!(schedule(&cluster, &mut pending[1..]).placed, 0, "the store says what is taken");
}

#[test]
fn platforms_are_compared_by_gos_names() {
    let mut nodes = ["amd", "arm", "win"].map(node);
    let platform =
        |architecture: &str, os: &str| Platform { architecture: architecture.into(), os: os.into() };
    nodes[1].description.as_mut().unwrap().platform = Some(platform("aarch64", "linux"));
    nodes[2].description.as_mut().unwrap().platform = Some(platform("x86_64", "windows"));
    let cluster = cluster(nodes);
    for (platforms, expected) in [
        (vec![platform("amd64", "linux")], [3, 0, 0]),
        (vec![platform("arm64", "linux")], [0, 3, 0]),
        (vec![platform("", "windows")], [0, 0, 3]),
        (vec![platform("amd64", "")], [2, 0, 1]),
        (vec![platform("arm64", "linux"), platform("x86_64", "linux")], [2, 1, 0]),
        (vec![], [1, 1, 1]),
    ] {
        let mut pending = tasks("web", 3, &placed(Placement { platforms, ..Placement::default() }));
        schedule(&cluster, &mut pending);
        assert_eq!(counts(&cluster, &pending), expected);
    }
    let mut s390 = tasks(
        "web",
        1,
        &placed(Placement { platforms: vec![platform("s390x", "linux")], ..Placement::default() }),
    );
    let mut cluster = cluster;
    cluster.put_service(service("web", TaskSpec::default()));
    schedule(&cluster, &mut s390);
    assert_eq!(err(&s390[0]), "no suitable node (unsupported platform on 3 nodes)");
}

#[test]
fn drivers_must_be_on_the_node() {
    let driver = |name: &str| Driver { name: name.into(), ..Driver::default() };
    let log = |name: &str| TaskSpec { log_driver: Some(driver(name)), ..TaskSpec::default() };
    let volume = |name: &str| {
        let volume_options =
            Some(mount::VolumeOptions { driver_config: Some(driver(name)), ..Default::default() });
        let mount = Mount { r#type: mount::Type::Volume.into(), volume_options, ..Mount::default() };
        let container = ContainerSpec { mounts: vec![mount], ..ContainerSpec::default() };
        TaskSpec { runtime: Some(Runtime::Container(container)), ..TaskSpec::default() }
    };
    let mut nodes = ["a", "b", "c"].map(node);
    let plugins = |node: &mut weft_wire::swarmkit::Node| {
        std::mem::take(&mut node.description.as_mut().unwrap().engine.as_mut().unwrap().plugins)
    };
    let mut with_rex = plugins(&mut nodes[1]);
    with_rex.push(weft_wire::swarmkit::PluginDescription {
        r#type: "Volume".into(),
        name: "rexray:latest".into(),
    });
    nodes[1].description.as_mut().unwrap().engine.as_mut().unwrap().plugins = with_rex;
    plugins(&mut nodes[2]);
    let cluster = cluster(nodes);
    for (spec, expected) in [
        (log("json-file"), [2, 2, 2]),
        (log("none"), [2, 2, 2]),
        // Only the node that lists no log drivers at all may have it.
        (log("gelf"), [0, 0, 6]),
        (volume("local"), [2, 2, 2]),
        (volume("rexray"), [0, 6, 0]),
    ] {
        let mut pending = tasks("web", 6, &spec);
        schedule(&cluster, &mut pending);
        assert_eq!(counts(&cluster, &pending), expected, "{spec:?}");
    }
    let mut overlay = tasks("web", 2, &TaskSpec::default());
    for task in &mut overlay {
        let network = Network { driver_state: Some(driver("overlay")), ..Network::default() };
        task.networks = vec![NetworkAttachment { network: Some(network), ..Default::default() }];
    }
    schedule(&cluster, &mut overlay);
    assert_eq!(counts(&cluster, &overlay), [1, 1, 0]);
}

fn publishing(mut task: Task, port: u32, mode: PublishMode) -> Task {
    let port =
        PortConfig { target_port: 80, published_port: port, publish_mode: mode.into(), ..Default::default() };
    task.endpoint = Some(Endpoint { ports: vec![port], ..Endpoint::default() });
    task
}

#[test]
fn a_host_port_is_given_once_per_node() {
    let mut cluster = cluster(["a", "b"].map(node));
    cluster.put_service(service("web", TaskSpec::default()));
    cluster.put_task(running(publishing(task("old", 1, TaskSpec::default()), 8080, PublishMode::Host), "a"));
    let on = |port, mode| {
        let pending = tasks("web", 3, &TaskSpec::default()).into_iter();
        pending.map(|task| publishing(task, port, mode)).collect::<Vec<Task>>()
    };
    let mut pending = on(8080, PublishMode::Host);
    schedule(&cluster, &mut pending);
    assert_eq!(counts(&cluster, &pending), [0, 1]);
    assert_eq!(err(&pending[2]), "no suitable node (host-mode port already in use on 2 nodes)");
    let mut pending = on(8081, PublishMode::Host);
    schedule(&cluster, &mut pending);
    assert_eq!(counts(&cluster, &pending), [1, 1]);
    for mut free in [on(8080, PublishMode::Ingress), on(0, PublishMode::Host)] {
        assert_eq!(schedule(&cluster, &mut free).placed, 3);
    }
    // Another protocol is another port.
    let mut udp = on(8080, PublishMode::Host);
    udp[0].endpoint.as_mut().unwrap().ports[0].protocol = 1;
    schedule(&cluster, &mut udp[..1]);
    assert_eq!(udp[0].node_id, "b", "fewest tasks overall, not the port");
}

#[test]
fn no_more_replicas_per_node_than_allowed() {
    let spec = placed(Placement { max_replicas: 2, ..constrained(&["node.id!=c"]).placement.unwrap() });
    let mut cluster = cluster(["a", "b", "c"].map(node));
    cluster.put_service(service("web", spec.clone()));
    cluster.put_task(running(task("web", 9, spec.clone()), "a"));
    let mut pending = tasks("web", 5, &spec);
    schedule(&cluster, &mut pending);
    assert_eq!(counts(&cluster, &pending), [1, 2, 0]);
    assert_eq!(
        err(&pending[4]),
        "no suitable node (max replicas per node limit exceed; scheduling constraints not satisfied on 1 node)"
    );
}

fn spread_over(keys: &[&str]) -> TaskSpec {
    let preference = |key: &&str| PlacementPreference {
        preference: Some(Preference::Spread(SpreadOver { spread_descriptor: (*key).to_owned() })),
    };
    placed(Placement { preferences: keys.iter().map(preference).collect(), ..Placement::default() })
}

#[test]
fn preferences_make_branches_even_before_nodes() {
    let zone = |id: &str, zone: &str| with_label(node(id), "zone", zone);
    let mut cluster = cluster([zone("a", "x"), zone("b", "x"), zone("c", "x"), zone("d", "y"), node("e")]);
    let spec = spread_over(&["node.labels.zone"]);
    let mut pending = tasks("web", 9, &spec);
    schedule(&cluster, &mut pending);
    assert_eq!(counts(&cluster, &pending), [1, 1, 1, 3, 3]);
    // What is there already is made up for.
    for slot in 1..=4 {
        cluster.put_task(running(task("db", slot, spec.clone()), "d"));
    }
    let mut pending = tasks("db", 6, &spec);
    schedule(&cluster, &mut pending);
    assert_eq!(counts(&cluster, &pending), [1, 1, 1, 0, 3]);
}

#[test]
fn preferences_nest_and_unknown_ones_are_passed_over() {
    let at = |id: &str, zone: &str, rack: &str| with_label(with_label(node(id), "zone", zone), "rack", rack);
    let cluster = cluster([at("a", "x", "1"), at("b", "x", "2"), at("c", "x", "2"), at("d", "y", "1")]);
    let mut pending = tasks("web", 8, &spread_over(&["node.labels.zone", "node.id", "node.labels.rack"]));
    schedule(&cluster, &mut pending);
    assert_eq!(counts(&cluster, &pending), [2, 1, 1, 4]);
}

/// A branch without room gives its share to the others.
#[test]
fn a_full_branch_is_left_out() {
    let mut small = with_label(node("a"), "zone", "x");
    small.description.as_mut().unwrap().resources.as_mut().unwrap().nano_cpus = CPU;
    let cluster = cluster([small, with_label(node("b"), "zone", "y"), with_label(node("c"), "zone", "y")]);
    let spec = TaskSpec { placement: spread_over(&["node.labels.zone"]).placement, ..reserving(CPU, 0) };
    let mut pending = tasks("web", 7, &spec);
    assert_eq!(schedule(&cluster, &mut pending).placed, 7);
    assert_eq!(counts(&cluster, &pending), [1, 3, 3]);
}

/// Many services of one task each do not all go to the first branch.
#[test]
fn equal_branches_are_chosen_by_their_load() {
    let mut cluster = cluster([with_label(node("a"), "zone", "x"), with_label(node("b"), "zone", "y")]);
    for index in 0..6 {
        let mut pending = tasks(&format!("s{index}"), 1, &spread_over(&["node.labels.zone"]));
        schedule(&cluster, &mut pending);
        cluster.put_task(pending.remove(0));
    }
    let all: Vec<Task> = crate::Snapshot::tasks(&cluster).map(|task| Task::clone(task)).collect();
    assert_eq!(counts(&cluster, &all), [3, 3]);
}

fn failed(slot: u64, node: &str, at_seconds: u64) -> Task {
    let mut task = in_state(task("web", 100 + slot, TaskSpec::default()), node, TaskState::Failed);
    task.desired_state = TaskState::Shutdown.into();
    task.status.as_mut().unwrap().timestamp = Some(at(at_seconds).into());
    task
}

#[test]
fn five_failures_in_five_minutes_put_a_node_last() {
    let mut cluster = cluster(["a", "b"].map(node));
    for slot in 1..=3 {
        cluster.put_task(running(task("other", slot, TaskSpec::default()), "b"));
    }
    let next = |scheduler: &mut Scheduler, cluster: &TestCluster, seconds| {
        let mut pending = tasks("web", 1, &TaskSpec::default());
        scheduler.schedule(cluster, &mut pending, at(seconds));
        pending.remove(0).node_id
    };
    let mut scheduler = Scheduler::new();
    for slot in 0..4 {
        cluster.put_task(failed(slot, "a", slot));
    }
    assert_eq!(next(&mut scheduler, &cluster, 10), "a");
    // The history keeps four of them; the scheduler has seen all five.
    cluster.remove_task("web-0100");
    cluster.put_task(failed(4, "a", 11));
    assert_eq!(next(&mut scheduler, &cluster, 12), "b");
    assert_eq!(next(&mut Scheduler::new(), &cluster, 12), "a", "one that has seen only four");
    // The first ones are five minutes old.
    assert_eq!(next(&mut scheduler, &cluster, 302), "a");
    cluster.put_task(failed(5, "a", 302));
    cluster.put_task(failed(6, "a", 303));
    cluster.put_task(failed(7, "a", 303));
    cluster.put_task(failed(8, "a", 303));
    assert_eq!(next(&mut scheduler, &cluster, 304), "b");
    // A new spec starts afresh.
    let mut pending = tasks("web", 1, &TaskSpec::default());
    pending[0].spec_version = Some(Version { index: 2 });
    scheduler.schedule(&cluster, &mut pending, at(304));
    assert_eq!(pending[0].node_id, "a");
    // It is the last resort, not out.
    let mut pending = tasks("web", 1, &constrained(&["node.id==a"]));
    assert_eq!(scheduler.schedule(&cluster, &mut pending, at(304)).placed, 1);
}

#[test]
fn preassigned_tasks_are_confirmed_first_or_wait_for_their_node() {
    let spec = reserving(4 * CPU, 0);
    let mut drained = node("b");
    drained.spec.as_mut().unwrap().availability = Availability::Drain.into();
    let mut cluster = cluster([node("a"), drained]);
    cluster.put_service(service("web", spec.clone()));
    cluster.put_service(service("agent", spec.clone()));
    let mut pending = tasks("web", 1, &spec);
    for (slot, node) in ["a", "b", "gone"].into_iter().enumerate() {
        let slot = slot as u64;
        pending.push(in_state(task("agent", slot, spec.clone()), node, TaskState::Pending));
    }
    let scheduled = schedule(&cluster, &mut pending);
    assert_eq!(scheduled, Scheduled { changed: vec![0, 1, 2], placed: 1, waiting: 2 });
    let status = pending[1].status.as_ref().unwrap();
    assert_eq!(
        (status.state(), status.message.as_str()),
        (TaskState::Assigned, "scheduler confirmed task can run on preassigned node")
    );
    assert_eq!(err(&pending[2]), "1 node not available for new tasks");
    assert_eq!(
        err(&pending[0]),
        "no suitable node (1 node not available for new tasks; insufficient resources on 1 node)"
    );
    assert_eq!(pending[3].status.as_ref().unwrap().state(), TaskState::Pending);
}

#[test]
fn tasks_that_shall_not_run_end_where_they_are() {
    let cluster = cluster([node("a")]);
    let mut pending = tasks("web", 1, &TaskSpec::default());
    pending[0].desired_state = TaskState::Shutdown.into();
    pending[0].status.as_mut().unwrap().err = "no suitable node".into();
    assert_eq!(schedule(&cluster, &mut pending).changed, [0]);
    let status = pending[0].status.as_ref().unwrap();
    assert_eq!((status.state(), status.err.as_str()), (TaskState::Shutdown, ""));
    assert_eq!(pending[0].node_id, "");
    assert_eq!(schedule(&cluster, &mut pending), Scheduled::default(), "no longer pending");
}

#[test]
fn no_word_about_tasks_of_an_older_spec_or_of_no_service() {
    let mut cluster = TestCluster::new();
    let mut pending = tasks("web", 1, &TaskSpec::default());
    assert_eq!(schedule(&cluster, &mut pending), Scheduled { changed: vec![], placed: 0, waiting: 1 });
    let newer = Version { index: 2 };
    cluster.put_service(weft_wire::swarmkit::Service {
        spec_version: Some(newer),
        ..service("web", TaskSpec::default())
    });
    assert_eq!(schedule(&cluster, &mut pending), Scheduled { changed: vec![], placed: 0, waiting: 1 });
}

#[test]
fn tasks_without_a_spec_version_are_placed_one_by_one() {
    let cluster = cluster(["a", "b"].map(node));
    let mut pending = tasks("web", 2, &constrained(&["node.id==b"]));
    pending[0].spec = Some(TaskSpec::default());
    for task in &mut pending {
        task.spec_version = None;
        task.status = Some(TaskStatus { state: TaskState::Pending.into(), ..TaskStatus::default() });
    }
    schedule(&cluster, &mut pending);
    assert_eq!(counts(&cluster, &pending), [1, 1]);
}
