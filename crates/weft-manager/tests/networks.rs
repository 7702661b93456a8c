//! Networks and attachments: allocation in the transaction, refusals, assignments, the MTU.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::*;
use tonic::Code;
use weft_manager::{InitOptions, Timing};
use weft_types::{Classified, ErrorKind};
use weft_wire::swarmkit::assignment_change::AssignmentAction;
use weft_wire::swarmkit::assignments_message::Type;
use weft_wire::swarmkit::update_task_status_request::TaskStatusUpdate;
use weft_wire::swarmkit::*;

const VNIS: &str = "com.docker.network.driver.overlay.vxlanid_list";
const MTU: &str = "com.docker.network.driver.mtu";

fn option(network: &Network, key: &str) -> Option<String> {
    network.driver_state.as_ref().unwrap().options.get(key).cloned()
}

fn subnet(network: &Network) -> String {
    network.ipam.as_ref().unwrap().configs[0].subnet.clone()
}

async fn refusal(swarm: &Swarm, spec: NetworkSpec) -> (ErrorKind, String) {
    let error = swarm.control().create_network(spec).await.unwrap_err();
    (error.kind(), error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_get_subnets_and_vnis_as_dockers_do() {
    let swarm = Swarm::start().await;
    let first = swarm.overlay("one").await;
    assert_eq!((subnet(&first).as_str(), option(&first, VNIS).as_deref()), ("10.0.1.0/24", Some("4097")));
    assert_eq!(option(&first, MTU), None);
    swarm.control().remove_network("one").await.unwrap();
    // The subnet is used again at once, the VNI is not.
    let second = swarm.overlay("two").await;
    assert_eq!((subnet(&second).as_str(), option(&second, VNIS).as_deref()), ("10.0.1.0/24", Some("4098")));
    let third = swarm.control().create_network(with_subnet("three", "10.50.0.0/16")).await.unwrap();
    assert_eq!((subnet(&third).as_str(), option(&third, VNIS).as_deref()), ("10.50.0.0/16", Some("4099")));

    let control = swarm.control();
    assert_eq!(control.network("two").unwrap().id, second.id);
    assert_eq!(control.network(&second.id[..10]).unwrap().id, second.id);
    assert_eq!(control.network("nosuch").unwrap_err().to_string(), "network nosuch not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_networks_are_refused_in_dockers_words() {
    let swarm = Swarm::start().await;
    swarm.control().create_network(with_subnet("web", "10.50.0.0/24")).await.unwrap();
    let bad = ErrorKind::InvalidParameter;
    let name = |name: &str| refusal(&swarm, overlay_spec(name));
    let rpc = |text: &str| (bad, format!("rpc error: code = InvalidArgument desc = {text}"));
    assert_eq!(name("web").await, (ErrorKind::Conflict, "network with name web already exists".to_owned()));
    assert_eq!(name("ingress").await.1, "network with name ingress already exists");
    assert_eq!(name("a b").await, rpc("name must be valid as a DNS name component"));
    assert_eq!(name(&"x".repeat(64)).await, rpc("name must be 63 characters or fewer"));

    let ingress = NetworkSpec { ingress: true, attachable: false, ..overlay_spec("ing2") };
    let present = swarm.control().network("ingress").unwrap().id.clone();
    assert_eq!(
        refusal(&swarm, ingress.clone()).await,
        (
            ErrorKind::Conflict,
            format!("rpc error: code = AlreadyExists desc = ingress network ({present}) is already present")
        )
    );
    let attachable = NetworkSpec { attachable: true, ..ingress };
    assert_eq!(refusal(&swarm, attachable).await, rpc("ingress network cannot be attachable"));

    let config = |text: &str| (bad, format!("invalid network config:\n{text}"));
    assert_eq!(
        refusal(&swarm, with_subnet("n", "10.55.0.0/33")).await,
        config("invalid subnet 10.55.0.0/33: invalid CIDR block notation")
    );
    assert_eq!(
        refusal(&swarm, with_subnet("n", "10.55.0.7/24")).await,
        config("invalid subnet 10.55.0.7/24: it should be 10.55.0.0/24")
    );
    let (kind, overlap) = refusal(&swarm, with_subnet("n", "10.50.0.0/16")).await;
    assert_eq!(kind, ErrorKind::Forbidden);
    assert!(overlap.contains("Pool overlaps with other one on this address space"), "{overlap}");

    for (key, value) in [(MTU, "abc"), (MTU, "-1"), (VNIS, "4096"), (VNIS, "x"), (VNIS, "16777216")] {
        let mut spec = overlay_spec("n");
        let options = &mut spec.driver_config.as_mut().unwrap().options;
        options.insert(key.to_owned(), value.to_owned());
        let (kind, text) = refusal(&swarm, spec).await;
        assert!(matches!(kind, ErrorKind::InvalidParameter | ErrorKind::Forbidden), "{key}={value}: {text}");
    }
    assert_eq!(swarm.control().view().subnets().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_pool_is_named_with_its_size() {
    let mut options = InitOptions::new("m1");
    options.default_addr_pool = vec!["10.97.0.0/28".parse().unwrap()];
    options.subnet_size = 29;
    let swarm = Swarm::with(fast(), options).await;
    let network = swarm.overlay("web").await;
    assert_eq!(subnet(&network), "10.97.0.8/29");
    let (_, full) = refusal(&swarm, overlay_spec("more")).await;
    assert!(full.contains("network more") && full.contains("all 2 subnets of size /29"), "{full}");

    let node = swarm.weft_node("w1").await;
    for _ in 0..5 {
        node.attach("web", &[]).await.unwrap();
    }
    let full = node.attach("web", &[]).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(
        full.message().contains("web") && full.message().contains("all 5 addresses"),
        "{}",
        full.message()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_become_tasks_with_everything_a_node_needs() {
    let swarm = Swarm::start().await;
    let network = swarm.overlay("web").await;
    let node = swarm.weft_node("w1").await;
    let mut assignments = node.assignments().await;
    let first = next(&mut assignments).await;
    assert_eq!(
        (first.r#type(), first.applies_to.as_str(), first.results_in.as_str()),
        (Type::Complete, "", "1")
    );
    assert!(first.changes.is_empty());

    let id = node.attach("web", &[]).await.unwrap();
    let second = next(&mut assignments).await;
    assert_eq!(
        (second.r#type(), second.applies_to.as_str(), second.results_in.as_str()),
        (Type::Incremental, "1", "2")
    );
    let task = &tasks_in(&second, AssignmentAction::Update)[0];
    assert_eq!((task.id.as_str(), task.node_id.as_str()), (id.as_str(), node.id().as_str()));
    assert_eq!(task.status.as_ref().unwrap().state(), TaskState::Assigned);
    assert_eq!(task.desired_state(), TaskState::Running);
    let Some(task_spec::Runtime::Attachment(attachment)) = task.spec.clone().unwrap().runtime else {
        panic!("not an attachment")
    };
    assert_eq!(attachment.container_id, "c0ffee");
    assert_eq!(task.spec.as_ref().unwrap().networks[0].target, network.id);
    assert_eq!(task.networks[0].addresses, ["10.0.1.2/24"]);
    let carried = task.networks[0].network.as_ref().unwrap();
    assert_eq!((carried.id.as_str(), subnet(carried).as_str()), (network.id.as_str(), "10.0.1.0/24"));
    assert_eq!(carried.spec.as_ref().unwrap().annotations.as_ref().unwrap().name, "web");

    let in_use = swarm.control().remove_network("web").await.unwrap_err();
    assert_eq!(
        in_use.to_string(),
        format!("rpc error: code = FailedPrecondition desc = network {} is in use by task {id}", network.id)
    );
    assert_eq!(in_use.kind(), ErrorKind::InvalidParameter);

    node.detach(&id).await.unwrap();
    let third = next(&mut assignments).await;
    assert_eq!((third.applies_to.as_str(), third.results_in.as_str()), ("2", "3"));
    let removed = &tasks_in(&third, AssignmentAction::Remove)[0];
    assert_eq!(removed.id, id);
    assert!(removed.node_id.is_empty() && removed.networks.is_empty());
    swarm.control().remove_network("web").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_are_refused_in_swarmkits_words() {
    let swarm = Swarm::start().await;
    swarm.overlay("web").await;
    swarm.control().create_network(NetworkSpec { attachable: false, ..overlay_spec("svc") }).await.unwrap();
    let (a, b) = (swarm.weft_node("w1").await, swarm.weft_node("w2").await);
    let refused = async |target: &str, addresses: &[&str]| {
        let status = a.attach(target, addresses).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    assert_eq!(refused("nosuch", &[]).await, (Code::NotFound, "network nosuch not found".to_owned()));
    for name in ["svc", "ingress"] {
        assert_eq!(
            refused(name, &[]).await,
            (Code::PermissionDenied, format!("network {name} not manually attachable"))
        );
    }
    assert_eq!(refused("web", &["10.77.0.1"]).await.0, Code::InvalidArgument);
    assert_eq!(refused("web", &["nonsense"]).await.0, Code::InvalidArgument);
    assert_eq!(refused("web", &["10.0.1.1"]).await.0, Code::FailedPrecondition);
    let id = a.attach("web", &["10.0.1.77"]).await.unwrap();
    assert_eq!(swarm.control().task(&id).unwrap().networks[0].addresses, ["10.0.1.77/24"]);
    let (code, text) = refused("web", &["10.0.1.77/24"]).await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(text.contains("Address already in use: 10.0.1.77"), "{text}");

    assert_eq!(b.detach(&id).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(b.detach("nosuch").await.unwrap_err().code(), Code::NotFound);
    a.detach(&id).await.unwrap();
    assert_eq!(a.detach(&id).await.unwrap_err().code(), Code::NotFound);
    // Free again.
    a.attach("web", &["10.0.1.77"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_get_different_addresses_and_freed_ones_rest() {
    let swarm = Swarm::start().await;
    let network = swarm.overlay("web").await;
    let node = swarm.weft_node("w1").await;
    let ids = futures_util::future::join_all((0..40).map(|_| node.attach("web", &[]))).await;
    let ids: Vec<String> = ids.into_iter().map(Result::unwrap).collect();
    let address = |id: &str| swarm.control().task(id).unwrap().networks[0].addresses[0].clone();
    let addresses: BTreeSet<String> = ids.iter().map(|id| address(id)).collect();
    assert_eq!(addresses.len(), 40);
    let freed = address(&ids[7]);
    node.detach(&ids[7]).await.unwrap();
    let next_id = node.attach("web", &[]).await.unwrap();
    assert_ne!(address(&next_id), freed);
    assert_eq!(swarm.control().view().addresses(&network.id).count(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_nodes_get_balancer_addresses_first_and_weft_nodes_none() {
    let swarm = Swarm::start().await;
    let network = swarm.overlay("web").await;
    let mut docker = swarm.docker_node("d1").await;
    let weft = swarm.weft_node("w1").await;
    let on = |message: &SessionMessage| -> Vec<String> {
        let attachments = message.node.as_ref().unwrap().attachments.iter();
        attachments.map(|attachment| attachment.network.as_ref().unwrap().id.clone()).collect()
    };
    let ingress = swarm.control().network("ingress").unwrap().id.clone();
    assert_eq!(on(&docker.first), std::slice::from_ref(&ingress));

    let mut assignments = docker.assignments().await;
    next(&mut assignments).await;
    let id = docker.attach("web", &[]).await.unwrap();
    // The session knows of the network no later than the assignment comes.
    let update = docker.session_until(|message| on(message).contains(&network.id)).await;
    let attachment = &update.node.as_ref().unwrap().attachments[1];
    assert_eq!(attachment.addresses, ["10.0.1.3/24"]);
    let task = &tasks_in(&next(&mut assignments).await, AssignmentAction::Update)[0];
    assert_eq!((task.id.as_str(), task.networks[0].addresses[0].as_str()), (id.as_str(), "10.0.1.2/24"));

    let second = docker.attach("web", &[]).await.unwrap();
    docker.detach(&id).await.unwrap();
    docker.detach(&second).await.unwrap();
    docker.session_until(|message| on(message) == [ingress.clone()]).await;
    assert_eq!(swarm.control().view().addresses(&network.id).count(), 1, "only the gateway is left");

    weft.attach("web", &[]).await.unwrap();
    let own = swarm.control().node("w1").unwrap().attachments.clone();
    assert!(own.iter().all(|attachment| attachment.network.as_ref().unwrap().id == ingress), "{own:?}");
    docker.attach("web", &[]).await.unwrap();
    assert!(swarm.control().remove_network("web").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn weft_nodes_have_an_ingress_address_while_a_docker_node_is_in_the_swarm() {
    let swarm = Swarm::start().await;
    let mut weft = swarm.weft_node("w1").await;
    let ingress = swarm.control().network("ingress").unwrap().id.clone();
    let held = |message: &SessionMessage| -> Vec<(String, usize)> {
        let attachments = message.node.as_ref().unwrap().attachments.iter();
        attachments.map(|it| (it.network.as_ref().unwrap().id.clone(), it.addresses.len())).collect()
    };
    assert_eq!(held(&weft.first), [(ingress.clone(), 0)], "the network is known without an address");

    let docker = swarm.docker_node("d1").await;
    weft.session_until(|message| held(message) == [(ingress.clone(), 1)]).await;
    let late = swarm.weft_node("w2").await;
    assert_eq!(held(&late.first), [(ingress.clone(), 1)]);

    // A network that takes the place of the first: all nodes follow, and nothing of the old one is left.
    swarm.control().remove_network("ingress").await.unwrap();
    weft.session_until(|message| held(message).is_empty()).await;
    let spec = NetworkSpec { ingress: true, attachable: false, ..overlay_spec("my-ingress") };
    let other = swarm.control().create_network(spec).await.unwrap().id.clone();
    weft.session_until(|message| held(message) == [(other.clone(), 1)]).await;
    assert!(swarm.control().view().addresses(&ingress).next().is_none());

    swarm.control().remove_node(&docker.id(), true).await.unwrap();
    weft.session_until(|message| held(message) == [(other.clone(), 0)]).await;
    eventually("only the gateway is held", || swarm.control().view().addresses(&other).count() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_ingress_network_is_said_on_the_nodes_that_wait() {
    let swarm = Swarm::start().await;
    let control = swarm.control();
    control.remove_network("ingress").await.unwrap();
    let mut spec = NetworkSpec { ingress: true, attachable: false, ..overlay_spec("small") };
    spec.ipam.get_or_insert_default().configs =
        vec![IpamConfig { subnet: "10.77.0.0/30".into(), ..Default::default() }];
    let network = control.create_network(spec).await.unwrap();
    // One address beside the gateway.
    let docker = swarm.docker_node("d1").await;
    let _weft = swarm.weft_node("w1").await;
    let message = |node: &str| control.node(node).unwrap().status.as_ref().unwrap().message.clone();
    eventually("the node says what it lacks", || message("w1").contains("10.77.0.0/30 are in use")).await;
    assert_eq!(message("d1"), "");
    control.remove_node(&docker.id(), true).await.unwrap();
    eventually("nothing is lacking any more", || message("w1").is_empty()).await;
    assert_eq!(control.view().addresses(&network.id).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_batched() {
    let timing = Timing { assignment_quiet: Duration::from_millis(150), assignment_batch: 5, ..fast() };
    let swarm = Swarm::with(timing, InitOptions::new("m1")).await;
    swarm.overlay("web").await;
    let node = swarm.docker_node("d1").await;
    let mut assignments = node.assignments().await;
    next(&mut assignments).await;
    let attached = futures_util::future::join_all((0..12).map(|_| node.attach("web", &[]))).await;
    assert!(attached.iter().all(Result::is_ok));
    let (mut count, mut expected) = (0, 1);
    while count < 12 {
        let message = next(&mut assignments).await;
        assert_eq!(message.applies_to, expected.to_string());
        assert!(message.changes.len() <= 5);
        count += message.changes.len();
        expected += 1;
    }
    assert_eq!(count, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn task_statuses_only_grow_and_are_the_owners() {
    let swarm = Swarm::start().await;
    swarm.overlay("web").await;
    let (a, b) = (swarm.weft_node("w1").await, swarm.weft_node("w2").await);
    let id = a.attach("web", &[]).await.unwrap();
    let update = async |node: &Member, id: &str, state: TaskState| {
        let status = TaskStatus { state: state.into(), message: "said".to_owned(), ..Default::default() };
        let update = TaskStatusUpdate { task_id: id.to_owned(), status: Some(status) };
        let request = UpdateTaskStatusRequest { session_id: node.session_id.clone(), updates: vec![update] };
        node.dispatcher().update_task_status(request).await.map(drop)
    };
    let state = || swarm.control().task(&id).unwrap().status.clone().unwrap();
    update(&a, &id, TaskState::Running).await.unwrap();
    assert_eq!(state().state(), TaskState::Running);
    assert_eq!(state().applied_by, swarm.control().node("m1").unwrap().id);
    let index = swarm.control().view().index();
    update(&a, &id, TaskState::Running).await.unwrap();
    update(&a, &id, TaskState::Preparing).await.unwrap();
    update(&a, "nosuch", TaskState::Running).await.unwrap();
    assert_eq!(state().state(), TaskState::Running);
    assert_eq!(swarm.control().view().index(), index, "nothing new was stored");
    let refused = update(&b, &id, TaskState::Failed).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    // An attachment that ended holds no address any more.
    update(&a, &id, TaskState::Failed).await.unwrap();
    assert!(swarm.control().task(&id).is_err());
    let network = swarm.control().network("web").unwrap();
    assert_eq!(swarm.control().view().addresses(&network.id).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_nodes_addresses_come_back() {
    let timing = Timing {
        heartbeat_period: Some(Duration::from_millis(100)),
        orphan_after: Duration::from_millis(200),
        ..fast()
    };
    let swarm = Swarm::with(timing, InitOptions::new("m1")).await;
    swarm.overlay("web").await;
    let node = swarm.weft_node("w1").await;
    node.attach("web", &[]).await.unwrap();
    eventually("the attachment is given up", || swarm.control().tasks().is_empty()).await;
    swarm.control().remove_network("web").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mtu_follows_the_nodes() {
    let swarm = Swarm::start().await;
    let network = swarm.overlay("web").await;
    let mut fixed = overlay_spec("fixed");
    fixed.driver_config.as_mut().unwrap().options.insert(MTU.to_owned(), "1400".to_owned());
    let fixed = swarm.control().create_network(fixed).await.unwrap();
    let control = swarm.control();
    let carried = |id: &str| option(&control.network(id).unwrap(), MTU);
    assert_eq!(carried(&fixed.id).as_deref(), Some("1400"));

    let (a, b) = (swarm.weft_node("w1").await, swarm.weft_node("w2").await);
    a.network_state().report(a.report("127.0.0.2", 9000, vec![])).await.unwrap();
    b.network_state().report(b.report("127.0.0.3", 8900, vec![])).await.unwrap();
    eventually("the least wins", || carried(&network.id).as_deref() == Some("8900")).await;
    assert_eq!(control.network_mtu(&network.id), Some(8850));
    assert!(control.network_warnings(&fixed.id).is_empty());

    let _docker = swarm.docker_node("d1").await;
    eventually("Docker's default is left unsaid", || carried(&network.id).is_none()).await;
    assert_eq!(control.network_mtu(&network.id), Some(1450));

    b.network_state().report(b.report("127.0.0.3", 1300, vec![])).await.unwrap();
    eventually("a smaller underlay lowers it", || carried(&network.id).as_deref() == Some("1300")).await;
    assert_eq!(carried(&fixed.id).as_deref(), Some("1400"));
    let warnings = control.network_warnings(&fixed.id);
    assert!(warnings[0].contains("fixed") && warnings[0].contains(&b.id()), "{warnings:?}");
    assert_eq!(control.network_mtu(&fixed.id), Some(1350));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_turns_out_to_be_ours_gives_its_balancer_addresses_back() {
    let swarm = Swarm::start().await;
    let ingress = swarm.control().network("ingress").unwrap();
    let node = swarm.docker_node("w1").await;
    assert_eq!(swarm.control().node("w1").unwrap().attachments.len(), 1);
    node.network_state().report(node.report("127.0.0.2", 1500, vec![])).await.unwrap();
    eventually("the address is free", || swarm.control().node("w1").unwrap().attachments.is_empty()).await;
    assert_eq!(swarm.control().view().addresses(&ingress.id).count(), 1, "only the gateway is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn automatic_subnets_step_over_what_nodes_route() {
    let swarm = Swarm::start().await;
    let control = swarm.control();
    let early = swarm.overlay("early").await;
    assert_eq!(subnet(&early), "10.0.1.0/24");
    let node = swarm.weft_node("w1").await;
    let mut report = node.report("127.0.0.2", 1500, vec![]);
    report.node_subnets = vec!["10.0.0.0/22".into(), "192.168.7.0/24".into()];
    node.network_state().report(report.clone()).await.unwrap();
    let late = swarm.overlay("late").await;
    assert_eq!(subnet(&late), "10.0.4.0/24");
    let warnings = control.network_warnings(&early.id);
    let expected = format!(
        "subnet 10.0.1.0/24 of network early overlaps 10.0.0.0/22, which node {} uses outside of the swarm: \
         containers on it do not reach those hosts",
        node.id()
    );
    assert_eq!(warnings, [expected]);
    report.node_subnets = vec!["10.0.0.0/22".into(); 257];
    let refused = node.network_state().report(report).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
