//! Services over the real protocol: tasks on nodes in one commit, updates, rollback, files, lost nodes, logs, refusals.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../common/mod.rs"]
mod common;
mod logs;
mod refusals;
mod worker;

use std::collections::BTreeSet;
use std::time::Duration;

use common::*;
use tonic::Streaming;
use weft_manager::{Control, InitOptions, Timing};
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::update_status::UpdateState;
use weft_wire::swarmkit::*;
use weft_wire::weft_v1::witness_client::WitnessClient;
use weft_wire::weft_v1::{GossipWord, ListenRequest, Question, TestifyRequest};
use worker::Worker;

fn spec(name: &str, image: &str, replicas: u64) -> ServiceSpec {
    let container = ContainerSpec { image: image.to_owned(), ..Default::default() };
    let restart = RestartPolicy {
        condition: restart_policy::RestartCondition::Any.into(),
        delay: Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }),
        ..Default::default()
    };
    ServiceSpec {
        annotations: Some(Annotations { name: name.to_owned(), ..Default::default() }),
        task: Some(TaskSpec {
            runtime: Some(task_spec::Runtime::Container(container)),
            restart: Some(restart),
            ..Default::default()
        }),
        mode: Some(Mode::Replicated(ReplicatedService { replicas })),
        update: Some(UpdateConfig {
            parallelism: 0,
            monitor: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn with_networks(spec: ServiceSpec, networks: &[&str]) -> ServiceSpec {
    let networks = networks
        .iter()
        .map(|target| NetworkAttachmentConfig { target: (*target).to_owned(), ..Default::default() });
    let task = TaskSpec { networks: networks.collect(), ..spec.task.unwrap() };
    ServiceSpec { task: Some(task), ..spec }
}

fn published(spec: ServiceSpec, ports: &[(u32, u32)]) -> ServiceSpec {
    let ports = ports.iter().map(|(published, target)| PortConfig {
        published_port: *published,
        target_port: *target,
        ..Default::default()
    });
    ServiceSpec { endpoint: Some(EndpointSpec { ports: ports.collect(), ..Default::default() }), ..spec }
}

fn container(spec: &mut ServiceSpec) -> &mut ContainerSpec {
    match spec.task.as_mut().unwrap().runtime.as_mut().unwrap() {
        task_spec::Runtime::Container(container) => container,
        other => panic!("{other:?}"),
    }
}

/// A manager that runs nothing itself: it has no agent here.
fn drained() -> InitOptions {
    InitOptions { availability: Availability::Drain, ..InitOptions::new("m1") }
}

async fn start() -> Swarm {
    Swarm::with(fast(), drained()).await
}

async fn runs(swarm: &Swarm, service: &str, replicas: u64) {
    let control = swarm.control();
    eventually("all tasks of the service run", || {
        let status = control.service_status(service);
        status.running == replicas && status.desired == replicas
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_reaches_its_nodes_in_one_commit() {
    let swarm = start().await;
    swarm.overlay("net").await;
    let (one, two) = (Worker::weft(&swarm, "one").await, Worker::weft(&swarm, "two").await);
    let mut commits = swarm.control().events();
    let created =
        swarm.control().create_service(with_networks(spec("web", "nginx", 10), &["net"])).await.unwrap();
    // VIP at once, with the service itself.
    let vip = created.endpoint.as_ref().unwrap().virtual_ips[0].addr.clone();
    assert_eq!(vip, "10.0.1.2/24");
    runs(&swarm, &created.id, 10).await;
    let mut assigning = 0;
    while let Ok(commit) = commits.try_recv() {
        let assigned = commit.changes.iter().filter(|change| {
            let is_new = change.before.is_none();
            matches!(&change.after, Some(weft_manager::Object::Task(task)) if is_new && !task.node_id.is_empty())
        });
        match assigned.count() {
            0 => {}
            10 => assigning += 1,
            other => panic!("{other} tasks in one commit"),
        }
    }
    assert_eq!(assigning, 1);
    // Spread, each told in one message, with addresses of their own.
    let tasks: Vec<Task> = [&one, &two].into_iter().flat_map(|worker| worker.running()).collect();
    assert_eq!((one.running().len(), two.running().len()), (5, 5));
    assert!(one.seen().messages.iter().any(|message| message.len() == 5));
    let addresses: BTreeSet<&str> = tasks.iter().map(|task| task.networks[0].addresses[0].as_str()).collect();
    assert_eq!(addresses.len(), 10);
    assert!(!addresses.contains(vip.as_str()));
    assert!(tasks.iter().all(|task| task.endpoint.as_ref().unwrap().virtual_ips[0].addr == vip));

    // What is removed is stopped first, then gone, with all that it held.
    swarm.control().remove_service("web").await.unwrap();
    eventually("the tasks are gone", || swarm.control().tasks().is_empty()).await;
    eventually("the nodes forget them", || one.seen().tasks.is_empty() && two.seen().tasks.is_empty()).await;
    let net = swarm.control().network("net").unwrap().id.clone();
    assert_eq!(swarm.control().view().addresses(&net).count(), 1, "only the gateway");
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_replace_tasks_and_roll_back() {
    let swarm = start().await;
    let worker = Worker::weft(&swarm, "one").await;
    let control = swarm.control();
    let service = control.create_service(spec("web", "old", 3)).await.unwrap();
    runs(&swarm, &service.id, 3).await;
    let version = |id: &str| control.service(id).unwrap().meta.as_ref().unwrap().version.unwrap().index;
    let at = version(&service.id);
    control.update_service(&service.id, at, spec("web", "new", 3), false).await.unwrap();
    let stale = control.update_service(&service.id, at, spec("web", "newer", 3), false).await.unwrap_err();
    assert_eq!(stale.to_string(), "rpc error: code = Unknown desc = update out of sequence");
    let image = |task: &Task| match task.spec.as_ref().unwrap().runtime.as_ref().unwrap() {
        task_spec::Runtime::Container(container) => container.image.clone(),
        other => panic!("{other:?}"),
    };
    let all_are = |wanted: &str| {
        let tasks = worker.running();
        tasks.len() == 3 && tasks.iter().all(|task| image(task) == wanted)
    };
    let state = || control.service("web").unwrap().update_status.as_ref().map(UpdateStatus::state);
    eventually("all tasks are new", || all_are("new")).await;
    eventually("the update is complete", || state() == Some(UpdateState::Completed)).await;

    let current = control.service("web").unwrap();
    let spec_now = current.spec.clone().unwrap();
    control.update_service(&service.id, version(&service.id), spec_now, true).await.unwrap();
    eventually("all tasks are old again", || all_are("old")).await;
    eventually("the rollback is complete", || state() == Some(UpdateState::RollbackCompleted)).await;

    // Scaling touches no task that stays.
    let before: BTreeSet<String> = worker.running().into_iter().map(|task| task.id).collect();
    control.update_service(&service.id, version(&service.id), spec("web", "old", 5), false).await.unwrap();
    runs(&swarm, &service.id, 5).await;
    let after: BTreeSet<String> = worker.running().into_iter().map(|task| task.id).collect();
    assert!(before.is_subset(&after));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_reach_only_the_nodes_that_need_them() {
    let swarm = start().await;
    let control = swarm.control();
    let (one, two) = (Worker::weft(&swarm, "one").await, Worker::weft(&swarm, "two").await);
    let named = |name: &str| Some(Annotations { name: name.to_owned(), ..Default::default() });
    let secret = SecretSpec { annotations: named("key"), data: b"hidden".to_vec(), ..Default::default() };
    let secret = control.create_secret(secret).await.unwrap();
    let config = ConfigSpec { annotations: named("conf"), data: b"seen".to_vec(), ..Default::default() };
    let config = control.create_config(config).await.unwrap();

    let mut wanted = spec("web", "nginx", 1);
    wanted.task.as_mut().unwrap().placement =
        Some(Placement { constraints: vec!["node.hostname==one".to_owned()], ..Default::default() });
    let file = FileTarget { name: "file".to_owned(), ..Default::default() };
    container(&mut wanted).secrets.push(SecretReference {
        secret_id: secret.id.clone(),
        secret_name: "key".to_owned(),
        target: Some(secret_reference::Target::File(file.clone())),
    });
    container(&mut wanted).configs.push(ConfigReference {
        config_id: config.id.clone(),
        config_name: "conf".to_owned(),
        target: Some(config_reference::Target::File(file)),
    });
    let service = control.create_service(wanted).await.unwrap();
    control.create_service(spec("other", "nginx", 4)).await.unwrap();
    runs(&swarm, &service.id, 1).await;
    eventually("the other service is on two", || !two.running().is_empty()).await;
    assert_eq!(one.seen().secrets[&secret.id].spec.as_ref().unwrap().data, b"hidden");
    assert_eq!(one.seen().configs[&config.id].spec.as_ref().unwrap().data, b"seen");
    assert!(one.seen().too_early.is_empty(), "files come before tasks");
    assert!(two.seen().secrets.is_empty() && two.seen().configs.is_empty());

    let refused = control.remove_secret("key").await.unwrap_err().to_string();
    let text =
        "rpc error: code = InvalidArgument desc = secret 'key' is in use by the following service: web";
    assert_eq!(refused, text);
    control.remove_service("web").await.unwrap();
    eventually("the files are taken away", || one.seen().secrets.is_empty() && one.seen().configs.is_empty())
        .await;
    control.remove_secret("key").await.unwrap();
    control.remove_config("conf").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_lost_node_come_up_elsewhere() {
    let timing =
        Timing { heartbeat_period: Some(Duration::from_millis(300)), heartbeat_jitter: 0.0, ..fast() };
    let swarm = Swarm::with(timing, drained()).await;
    let (mut one, two) = (Worker::weft(&swarm, "one").await, Worker::weft(&swarm, "two").await);
    let service = swarm.control().create_service(spec("web", "nginx", 4)).await.unwrap();
    let beating = async {
        loop {
            two.beat().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let lost = async {
        runs(&swarm, &service.id, 4).await;
        one.die();
        eventually("all four run on the node that is left", || two.running().len() == 4).await;
        let control = swarm.control();
        eventually("the old ones shall stop", || {
            let tasks = control.tasks_of_service(&service.id);
            let lost = tasks.iter().filter(|task| task.node_id == one.id);
            lost.clone().count() == 2 && { lost }.all(|task| task.desired_state() == TaskState::Shutdown)
        })
        .await;
    };
    tokio::select! { () = beating => {}, () = lost => {} }
}

/// Questions to a node about its neighbours.
async fn listen(worker: &Worker) -> Streaming<Question> {
    let request = ListenRequest { session_id: worker.session_id.clone() };
    WitnessClient::new(worker.channel.clone()).listen(request).await.unwrap().into_inner()
}

fn testimony(session_id: &str, question: &Question, accepted: bool, gossip: GossipWord) -> TestifyRequest {
    TestifyRequest {
        session_id: session_id.to_owned(),
        number: question.number,
        accepted,
        gossip: gossip.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_down_at_once_and_a_killed_daemon_never() {
    let helper = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timing = Timing { helper_port: Some(helper.local_addr().unwrap().port()), ..fast() };
    let swarm = Swarm::with(timing, drained()).await;
    let control = swarm.control();
    let (mut one, two) = (Worker::weft(&swarm, "one").await, Worker::weft(&swarm, "two").await);
    // A neighbour that does not reach it, and whose gossip has given it up.
    let mut questions = listen(&two).await;
    let (mut client, session_id) = (WitnessClient::new(two.channel.clone()), two.session_id.clone());
    tokio::spawn(async move {
        while let Ok(Some(question)) = questions.message().await {
            let _ = client.testify(testimony(&session_id, &question, false, GossipWord::Gone)).await;
        }
    });
    let service = control.create_service(spec("web", "nginx", 4)).await.unwrap();
    runs(&swarm, &service.id, 4).await;
    let before: BTreeSet<String> = control.tasks().iter().map(|task| task.id.clone()).collect();
    one.die();
    // Its helper answers: nothing moves for as long as this looks.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after: BTreeSet<String> = control.tasks().iter().map(|task| task.id.clone()).collect();
    assert_eq!(before, after);
    let killed = std::time::Instant::now();
    drop(helper);
    eventually("all four run on the node that is left", || two.running().len() == 4).await;
    assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_a_neighbour_reaches_is_not_down() {
    let helper = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timing = Timing { helper_port: Some(helper.local_addr().unwrap().port()), ..fast() };
    let swarm = Swarm::with(timing, drained()).await;
    let (mut one, two) = (Worker::weft(&swarm, "one").await, Worker::weft(&swarm, "two").await);
    let mut questions = listen(&two).await;
    let mut client = WitnessClient::new(two.channel.clone());
    drop(helper);
    one.die();
    let state = || swarm.control().node("one").unwrap().status.as_ref().unwrap().state();
    // The first question only makes the neighbour's gossip look after the node.
    for (accepted, gossip) in [
        (true, GossipWord::Gone),
        (true, GossipWord::Gone),
        (false, GossipWord::Alive),
        (false, GossipWord::Unknown),
        (false, GossipWord::Gone),
    ] {
        let question = next(&mut questions).await;
        assert_eq!(state(), node_status::State::Ready);
        client.testify(testimony(&two.session_id, &question, accepted, gossip)).await.unwrap();
    }
    eventually("the node is down", || state() == node_status::State::Down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_says_why_and_goes_on_when_it_can() {
    let swarm = start().await;
    let control = swarm.control();
    let service = control.create_service(spec("web", "nginx", 2)).await.unwrap();
    let explained = |text: &'static str| {
        let control = swarm.control();
        let id = service.id.clone();
        move || {
            let tasks = control.tasks_of_service(&id);
            tasks.len() == 2
                && tasks.iter().all(|task| {
                    let status = task.status.as_ref().unwrap();
                    status.state() == TaskState::Pending && status.err.contains(text)
                })
        }
    };
    eventually("the tasks say that there is no node", explained("no suitable node")).await;
    let worker = Worker::weft(&swarm, "one").await;
    runs(&swarm, &service.id, 2).await;

    // A full network: a /29 holds the gateway, the service's own address and four more.
    control.create_network(with_subnet("tiny", "10.77.0.0/29")).await.unwrap();
    let full = control.create_service(with_networks(spec("full", "nginx", 6), &["tiny"])).await.unwrap();
    let waiting = || {
        let tasks = control.tasks_of_service(&full.id);
        let err = |task: &Task| task.status.as_ref().unwrap().err.clone();
        tasks.iter().filter(|task| err(task).contains("tiny")).count()
    };
    eventually("one or more tasks name the full network", || waiting() >= 1).await;
    let running = || control.service_status(&full.id).running;
    eventually("the others run", || running() >= 3).await;
    let version = control.service("full").unwrap().meta.as_ref().unwrap().version.unwrap().index;
    let smaller = with_networks(spec("full", "nginx", 3), &["tiny"]);
    control.update_service(&full.id, version, smaller, false).await.unwrap();
    runs(&swarm, &full.id, 3).await;
    assert!(!worker.running().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn dockers_nodes_get_an_address_with_their_first_task() {
    let swarm = start().await;
    let net = swarm.overlay("net").await;
    let worker = Worker::docker(&swarm, "one").await;
    let service =
        swarm.control().create_service(with_networks(spec("web", "nginx", 2), &["net"])).await.unwrap();
    runs(&swarm, &service.id, 2).await;
    let balances = || {
        let on =
            |attachment: &NetworkAttachment| attachment.network.as_ref().is_some_and(|it| it.id == net.id);
        worker.seen().attachments.iter().any(on)
    };
    eventually("the node balances from an address of its own", balances).await;
    // The gateway, two tasks, the service, the node.
    assert_eq!(swarm.control().view().addresses(&net.id).count(), 5);
    swarm.control().remove_service("web").await.unwrap();
    eventually("the address is taken back", || !balances()).await;
    eventually("only the gateway is held", || swarm.control().view().addresses(&net.id).count() == 1).await;
    swarm.control().remove_network("net").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_held_until_the_container_that_had_to_go_has_stopped() {
    let swarm = start().await;
    let control = swarm.control();
    // One address beside the gateway's.
    let network = control.create_network(with_subnet("net", "10.90.0.0/30")).await.unwrap();
    let mut worker = Worker::weft(&swarm, "one").await;
    label(&control, &worker.id, "zone", "a").await;
    let on_net = |name: &str, constraints: &[&str]| {
        let mut spec = with_networks(spec(name, "nginx", 1), &[network.id.as_str()]);
        let constraints = constraints.iter().map(|text| (*text).to_owned()).collect();
        spec.task.as_mut().unwrap().placement = Some(Placement { constraints, ..Default::default() });
        spec.endpoint =
            Some(EndpointSpec { mode: endpoint_spec::ResolutionMode::Dnsrr.into(), ports: Vec::new() });
        spec
    };
    let first = control.create_service(on_net("first", &["node.labels.zone==a"])).await.unwrap();
    runs(&swarm, &first.id, 1).await;
    worker.die();
    let old = control.tasks_of_service(&first.id).remove(0);
    label(&control, &worker.id, "zone", "b").await;
    eventually("the task is taken off its node", || state_of(&control, &old.id) == TaskState::Rejected).await;
    let second = control.create_service(on_net("second", &[])).await.unwrap();
    let waiting = |control: &Control| {
        let tasks = control.tasks_of_service(&second.id);
        tasks.iter().any(|task| task.status.as_ref().is_some_and(|status| status.err.contains("address")))
    };
    eventually("the next task waits for its address", || waiting(&control)).await;
    worker.report(&old, TaskState::Shutdown).await;
    eventually("the next task has the address", || {
        control.tasks_of_service(&second.id).iter().any(|task| !task.networks.is_empty())
            || control
                .tasks_of_service(&first.id)
                .iter()
                .any(|task| task.id != old.id && !task.networks.is_empty())
    })
    .await;
    // Once more is no news.
    worker.report(&old, TaskState::Shutdown).await;
}

fn state_of(control: &Control, id: &str) -> TaskState {
    control.tasks().iter().find(|task| task.id == id).map_or(TaskState::Remove, |task| {
        task.status.as_ref().map_or(TaskState::New, |status| status.state())
    })
}

async fn label(control: &Control, node: &str, key: &str, value: &str) {
    let node = control.node(node).unwrap();
    let mut spec = node.spec.clone().unwrap();
    spec.annotations.get_or_insert_default().labels.insert(key.to_owned(), value.to_owned());
    let version = node.meta.as_ref().unwrap().version.unwrap().index;
    control.update_node(&node.id, version, spec).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_to_their_end() {
    let swarm = start().await;
    let _worker = Worker::weft(&swarm, "one").await;
    let control = swarm.control();
    let job = ReplicatedJob { max_concurrent: 2, total_completions: 5 };
    let job = ServiceSpec { mode: Some(Mode::ReplicatedJob(job)), update: None, ..spec("job", "job", 0) };
    let service = control.create_service(job.clone()).await.unwrap();
    eventually("all are done", || control.service_status(&service.id).completed == 5).await;
    assert_eq!(control.service_status(&service.id).running, 0);
    let version = control.service("job").unwrap().meta.as_ref().unwrap().version.unwrap().index;
    control.update_service(&service.id, version, job, false).await.unwrap();
    let again = || control.service("job").unwrap().job_status.unwrap().job_iteration.unwrap().index == 1;
    assert!(again());
    eventually("all are done again", || control.service_status(&service.id).completed == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_go_on_after_a_restart_of_the_manager() {
    let mut swarm = start().await;
    let service = swarm.control().create_service(spec("web", "nginx", 3)).await.unwrap();
    swarm.restart().await;
    let _worker = Worker::weft(&swarm, "one").await;
    runs(&swarm, &service.id, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of cargo xtask bench"]
#[allow(clippy::print_stderr, reason = "says what it measured")]
async fn measured_growth() {
    let swarm = Swarm::with(Timing { rate_limit_count: 100, ..fast() }, drained()).await;
    swarm.control().create_network(with_subnet("net", "10.90.0.0/16")).await.unwrap();
    let mut workers = Vec::new();
    for number in 0..10 {
        workers.push(Worker::weft(&swarm, &format!("w{number}")).await);
    }
    for replicas in [10, 100, 1000, 4000] {
        let began = std::time::Instant::now();
        let service = swarm
            .control()
            .create_service(with_networks(spec("web", "nginx", replicas), &["net"]))
            .await
            .unwrap();
        let control = swarm.control();
        while control.service_status(&service.id).running < replicas && began.elapsed().as_secs() < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        eprintln!("{replicas} tasks run after {:?}", began.elapsed());
        swarm.control().remove_service("web").await.unwrap();
        while !swarm.control().tasks().is_empty() && began.elapsed().as_secs() < 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        eprintln!("{replicas} tasks gone after {:?}", began.elapsed());
    }
}
