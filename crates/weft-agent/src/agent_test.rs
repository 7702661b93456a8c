//! The agent against a real manager in this process, over mutual TLS on loopback; only the networks are pretended.

use std::collections::BTreeSet;
use std::sync::Mutex;

use futures_util::StreamExt as _;
use tempfile::TempDir;
use weft_identity::{ChannelMode, bootstrap, channel};
use weft_manager::{InitOptions, Manager, ManagerConfig, Timing};
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::resource_allocator_client::ResourceAllocatorClient;
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::task_spec::Runtime;
use weft_wire::swarmkit::task_status::RuntimeStatus;
use weft_wire::swarmkit::{
    Annotations, AssignmentsMessage, AttachNetworkRequest, ContainerSpec, Driver, FileTarget, LogSelector,
    LogSubscriptionOptions, NetworkAttachmentConfig, NetworkSpec, Placement, ReplicatedService,
    SecretReference, SecretSpec, ServiceSpec, Task, TaskSpec, TaskState, node_status, secret_reference,
};
use weft_wire::weft_v1::Endpoint;

use super::*;
use crate::network::{LocalView, NodeNetwork, Programmed, SwarmInputs};
use crate::outlook::Outlook;
use crate::task::pretended::PretendedRuntime;

const DEADLINE: Duration = Duration::from_secs(30);
const MTU: u32 = 1500;

/// Waits until `condition` gives something.
async fn eventually<T>(what: &str, condition: impl Fn() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// What the managers said last, and what this node pretends to have.
struct PretendedNetwork {
    outlook: Mutex<Option<Outlook>>,
    key_count: Mutex<usize>,
    local: watch::Sender<LocalView>,
    programmed: watch::Sender<Programmed>,
    /// Why nothing can be carried out.
    trouble: Mutex<String>,
    served: watch::Sender<BTreeSet<String>>,
}

impl PretendedNetwork {
    fn new(data_path: &str) -> Arc<Self> {
        let view = LocalView { data_path: data_path.to_owned(), mtu: MTU, ..LocalView::default() };
        Arc::new(Self {
            outlook: Mutex::default(),
            key_count: Mutex::default(),
            local: watch::Sender::new(view),
            programmed: watch::Sender::default(),
            trouble: Mutex::default(),
            served: watch::Sender::default(),
        })
    }

    fn endpoint_ids(&self) -> Option<BTreeSet<String>> {
        let outlook = self.outlook.lock().unwrap();
        let networks = &outlook.as_ref()?.networks;
        Some(networks.values().flat_map(|network| network.endpoints.keys().cloned()).collect())
    }

    fn is_managed(&self) -> bool {
        self.outlook.lock().unwrap().is_some()
    }
}

impl NodeNetwork for PretendedNetwork {
    fn set_swarm(&self, inputs: Option<SwarmInputs<'_>>) {
        let inputs = inputs.unwrap();
        *self.outlook.lock().unwrap() = inputs.outlook.cloned();
        *self.key_count.lock().unwrap() = inputs.keys.len();
        let index = inputs.outlook.map_or(0, |outlook| outlook.index);
        let error = self.trouble.lock().unwrap().clone();
        self.programmed.send_replace(Programmed { index, error });
    }

    fn local(&self) -> watch::Receiver<LocalView> {
        self.local.subscribe()
    }

    fn programmed(&self) -> watch::Receiver<Programmed> {
        self.programmed.subscribe()
    }

    fn set_serving(&self, tasks: BTreeSet<String>) {
        self.served.send_replace(tasks);
    }

    fn served(&self) -> watch::Receiver<BTreeSet<String>> {
        self.served.subscribe()
    }
}

struct Swarm {
    dir: TempDir,
    manager: Arc<Manager>,
    identity: IdentityHandle,
    config: ManagerConfig,
}

impl Swarm {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let timing = Timing { rate_limit_count: 100, helper_port: None, ..Timing::default() };
        let mut config = ManagerConfig { timing, ..ManagerConfig::new(dir.path().join("manager"), any, any) };
        let (manager, identity) = Manager::init(config.clone(), InitOptions::new("m1")).await.unwrap();
        config.listen = manager.local_addr();
        config.advertise = manager.local_addr();
        let identity = IdentityHandle::in_memory(identity).unwrap();
        drop(manager.serve(identity.clone()));
        Self { dir, manager, identity, config }
    }

    async fn stop(&self) {
        self.manager.stop().await;
    }

    /// At the same address as before.
    async fn open(&mut self) {
        self.manager = Manager::open(self.config.clone(), self.identity.clone()).await.unwrap();
        drop(self.manager.serve(self.identity.clone()));
    }

    async fn identity_of_new_worker(&self) -> IdentityHandle {
        let tokens = self.manager.control().cluster().root_ca.clone().unwrap().join_tokens.unwrap();
        let token = tokens.worker.parse().unwrap();
        let identity = bootstrap(self.manager.local_addr(), &token, Availability::Active).await.unwrap();
        IdentityHandle::in_memory(identity).unwrap()
    }

    async fn overlay(&self, name: &str, attachable: bool) -> String {
        let spec = NetworkSpec {
            annotations: Some(Annotations { name: name.to_owned(), ..Default::default() }),
            driver_config: Some(Driver { name: "overlay".to_owned(), ..Default::default() }),
            attachable,
            ..Default::default()
        };
        self.manager.control().create_network(spec).await.unwrap().id.clone()
    }

    fn task_state(&self, id: &str) -> Option<TaskState> {
        self.manager.control().task(id).ok().and_then(|task| Some(task.status.as_ref()?.state()))
    }
}

/// An agent without a controller.
struct Node {
    core: Arc<Core>,
    network: Arc<PretendedNetwork>,
    runtime: Arc<PretendedRuntime>,
    identity: IdentityHandle,
    tasks: JoinSet<()>,
}

impl Node {
    async fn start(swarm: &Swarm, hostname: &str, data_path: &str) -> Self {
        let identity = swarm.identity_of_new_worker().await;
        Self::start_as(swarm, identity, PretendedNetwork::new(data_path), hostname).await
    }

    async fn start_as(
        swarm: &Swarm,
        identity: IdentityHandle,
        network: Arc<PretendedNetwork>,
        hostname: &str,
    ) -> Self {
        let store = Arc::new(Store::open(&swarm.dir.path().join(hostname)).unwrap());
        let managers = [swarm.config.advertise];
        let core = Arc::new(Core::new(identity.clone(), network.clone(), &managers, recall(&store).unwrap()));
        let host = HostDescription::of_this_machine(hostname.into(), BTreeMap::new(), ENGINE_VERSION.into());
        let mut tasks = JoinSet::new();
        let keeper = core.clone();
        tasks.spawn(async move { keeper.keep_memory(store).await });
        tasks.spawn(renewal::run(core.clone()));
        let runtime = Arc::new(PretendedRuntime::default());
        let worker = Worker::open(core.clone(), runtime.clone(), facts(&core, &host)).await;
        tasks.spawn(worker.run());
        tasks.spawn(sessions(core.clone(), runtime.clone(), host));
        Self { core, network, runtime, identity, tasks }
    }

    async fn ready(&self) {
        eventually("a session", || self.core.status().borrow().ready.then_some(())).await;
    }

    /// Ends as by a crash: nothing is said to anybody.
    async fn crash(mut self) -> (IdentityHandle, Arc<PretendedNetwork>) {
        self.tasks.shutdown().await;
        (self.identity, self.network)
    }
}

fn endpoint(id: &str, network: &str, task: &Task) -> Endpoint {
    Endpoint {
        id: id.repeat(64),
        network_id: network.to_owned(),
        attachment_id: task.id.clone(),
        address: task.networks[0].addresses[0].clone(),
        mac: "02:42:0a:00:01:05".to_owned(),
        name: "web".to_owned(),
        healthy: true,
        ..Endpoint::default()
    }
}

#[tokio::test]
async fn a_node_becomes_ready_and_knows_managers_and_keys() {
    let swarm = Swarm::start().await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    node.ready().await;
    let id = node.identity.identity().node_id.to_string();
    let seen = eventually("the node Ready", || {
        let seen = swarm.manager.control().node(&id).unwrap();
        (seen.status.as_ref()?.state() == node_status::State::Ready).then_some(seen)
    })
    .await;
    let description = seen.description.as_ref().unwrap();
    assert_eq!(description.hostname, "w1");
    assert_eq!(description.engine.as_ref().unwrap().engine_version, ENGINE_VERSION);
    let status = node.core.status().borrow().clone();
    assert_eq!(status.node.unwrap().id, id);
    assert_eq!(status.managers[0].1, swarm.config.advertise);
    assert_eq!(*node.network.key_count.lock().unwrap(), 6);
    eventually("the managers' word", || node.network.is_managed().then_some(())).await;
}

#[tokio::test]
async fn what_could_not_be_carried_out_is_acknowledged_once_it_is() {
    let swarm = Swarm::start().await;
    let network = swarm.overlay("web", true).await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    let id = node.identity.identity().node_id.to_string();
    *node.network.trouble.lock().unwrap() = "no such device".to_owned();
    attachments::attach(&node.core, "web", &"a".repeat(64), vec![]).await.unwrap();
    let word = || swarm.manager.control().programmed(&id, &network);
    eventually("the failure", || word().filter(|word| word.error == "no such device")).await;
    node.network.trouble.lock().unwrap().clear();
    node.network.programmed.send_modify(|programmed| programmed.error.clear());
    eventually("the acknowledgement", || word().filter(|word| word.error.is_empty())).await;
}

#[tokio::test]
async fn an_attachment_gives_addresses_runs_and_is_seen_elsewhere() {
    let swarm = Swarm::start().await;
    let network = swarm.overlay("web", true).await;
    let one = Node::start(&swarm, "w1", "127.0.0.2").await;
    let two = Node::start(&swarm, "w2", "127.0.0.3").await;
    let first = attachments::attach(&one.core, "web", &"a".repeat(64), vec![]).await.unwrap();
    let second = attachments::attach(&two.core, &network, &"b".repeat(64), vec![]).await.unwrap();
    assert_ne!(first.networks[0].addresses, second.networks[0].addresses);
    assert_eq!(first.networks[0].network.as_ref().unwrap().id, network);
    for task in [&first, &second] {
        eventually("the attachment running", || {
            (swarm.task_state(&task.id) == Some(TaskState::Running)).then_some(())
        })
        .await;
    }
    one.network.local.send_modify(|view| view.endpoints = vec![endpoint("c", &network, &first)]);
    let far = BTreeSet::from(["c".repeat(64)]);
    eventually("the endpoint seen by the other node", || (two.network.endpoint_ids()? == far).then_some(()))
        .await;
    let id = two.identity.identity().node_id.to_string();
    eventually("the acknowledgement", || swarm.manager.control().programmed(&id, &network)).await;

    one.network.local.send_modify(|view| view.endpoints.clear());
    attachments::detach(&one.core, &first.id).await;
    eventually("the endpoint gone", || two.network.endpoint_ids()?.is_empty().then_some(())).await;
    eventually("the task gone", || swarm.task_state(&first.id).is_none().then_some(())).await;
    assert_eq!(swarm.task_state(&second.id), Some(TaskState::Running));
}

#[tokio::test]
async fn an_attachment_that_is_taken_away_in_use_is_reported_once() {
    let swarm = Swarm::start().await;
    swarm.overlay("web", true).await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    let used = attachments::attach(&node.core, "web", &"a".repeat(64), vec![]).await.unwrap();
    let given_back = attachments::attach(&node.core, "web", &"b".repeat(64), vec![]).await.unwrap();
    attachments::detach(&node.core, &given_back.id).await;
    // The managers' word is that this node has no tasks at all.
    node.core.on_assignments(AssignmentsMessage::default()).unwrap();
    assert_eq!(node.core.withdrawn().await, [used.id]);
    assert!(tokio::time::timeout(Duration::from_millis(50), node.core.withdrawn()).await.is_err());
}

#[tokio::test]
async fn refusals_are_in_dockers_words() {
    let swarm = Swarm::start().await;
    swarm.overlay("closed", false).await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    let refused = attachments::attach(&node.core, "closed", &"a".repeat(64), vec![]).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Could not attach to network closed: rpc error: code = PermissionDenied desc = network closed not manually \
         attachable"
    );
    let refused = attachments::attach(&node.core, "nosuch", &"a".repeat(64), vec![]).await.unwrap_err();
    assert!(refused.to_string().ends_with("code = NotFound desc = network nosuch not found"), "{refused}");
}

#[tokio::test]
async fn a_manager_that_comes_back_finds_its_node_and_attachment() {
    let mut swarm = Swarm::start().await;
    swarm.overlay("web", true).await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    let task = attachments::attach(&node.core, "web", &"a".repeat(64), vec![]).await.unwrap();
    swarm.stop().await;
    eventually("the loss noticed", || (!node.core.status().borrow().ready).then_some(())).await;
    assert!(node.network.is_managed(), "the last word stands");
    swarm.open().await;
    node.ready().await;
    eventually("the attachment running again", || {
        (swarm.task_state(&task.id) == Some(TaskState::Running)).then_some(())
    })
    .await;
    let other = attachments::attach(&node.core, "web", &"b".repeat(64), vec![]).await.unwrap();
    assert_ne!(other.networks[0].addresses, task.networks[0].addresses);
}

#[tokio::test]
async fn after_a_crash_what_no_container_uses_is_given_back_and_the_rest_kept() {
    let swarm = Swarm::start().await;
    let network = swarm.overlay("web", true).await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    let kept = attachments::attach(&node.core, "web", &"a".repeat(64), vec![]).await.unwrap();
    let lost = attachments::attach(&node.core, "web", &"b".repeat(64), vec![]).await.unwrap();
    node.network.local.send_modify(|view| view.endpoints = vec![endpoint("c", &network, &kept)]);
    let (identity, networks) = node.crash().await;
    let again = Node::start_as(&swarm, identity, networks, "w1").await;
    again.ready().await;
    eventually("the orphan given back", || swarm.task_state(&lost.id).is_none().then_some(())).await;
    assert_eq!(swarm.task_state(&kept.id), Some(TaskState::Running));
}

#[tokio::test]
async fn an_agent_that_starts_without_its_manager_knows_what_it_knew() {
    let mut swarm = Swarm::start().await;
    let network = swarm.overlay("web", true).await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    let task = attachments::attach(&node.core, "web", &"a".repeat(64), vec![]).await.unwrap();
    let dir = swarm.dir.path().join("w1");
    eventually("the memory on disk", || {
        let memory = Store::open(&dir).unwrap().load().unwrap();
        (memory.tasks.len() == 1 && !memory.tasks[0].networks.is_empty() && memory.keys.len() == 6)
            .then_some(())
    })
    .await;
    node.network.local.send_modify(|view| view.endpoints = vec![endpoint("c", &network, &task)]);
    let (identity, networks) = node.crash().await;
    swarm.stop().await;
    *networks.key_count.lock().unwrap() = 0;
    let again = Node::start_as(&swarm, identity, networks, "w1").await;
    assert_eq!(*again.network.key_count.lock().unwrap(), 6);
    assert!(again.core.granted(&task.id).is_some());
    assert!(!again.core.status().borrow().ready);
    swarm.open().await;
    again.ready().await;
}

#[tokio::test]
async fn a_renewal_on_demand_keeps_the_node_and_opens_a_new_session() {
    let swarm = Swarm::start().await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    node.ready().await;
    let before = node.identity.identity();
    let demand = || weft_wire::swarmkit::SessionMessage {
        node: Some(weft_wire::swarmkit::Node { role: 1, ..Default::default() }),
        ..Default::default()
    };
    // Twice, as when the managers say it again before it is done.
    node.core.on_session_message(demand());
    node.core.on_session_message(demand());
    let after = eventually("another certificate", || {
        let now = node.identity.identity();
        (now.certificate_pem != before.certificate_pem).then_some(now)
    })
    .await;
    assert_eq!(after.node_id, before.node_id);
    node.ready().await;
}

#[tokio::test]
async fn what_is_granted_too_late_or_to_nobody_is_given_back() {
    let swarm = Swarm::start().await;
    swarm.overlay("web", true).await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    node.ready().await;
    // As by a request whose caller went away before the answer came.
    let channel = channel(swarm.config.advertise, ChannelMode::Node(&node.identity)).unwrap();
    let config = NetworkAttachmentConfig { target: "web".to_owned(), ..Default::default() };
    let request = AttachNetworkRequest { config: Some(config), container_id: "d".repeat(64) };
    let id = ResourceAllocatorClient::new(channel)
        .attach_network(request)
        .await
        .unwrap()
        .into_inner()
        .attachment_id;
    eventually("the assignment", || node.core.granted(&id)).await;
    let session = node.core.session().borrow().clone().unwrap();
    attachments::return_orphans(&node.core, &session).await;
    eventually("the attachment given back", || swarm.task_state(&id).is_none().then_some(())).await;
}

fn service(name: &str, secrets: Vec<SecretReference>) -> ServiceSpec {
    let container = ContainerSpec { image: "busybox".to_owned(), secrets, ..ContainerSpec::default() };
    ServiceSpec {
        annotations: Some(Annotations { name: name.to_owned(), ..Annotations::default() }),
        task: Some(TaskSpec {
            runtime: Some(Runtime::Container(container)),
            // The manager of these tests has no agent beside it.
            placement: Some(Placement {
                constraints: vec!["node.role == worker".to_owned()],
                ..Placement::default()
            }),
            ..TaskSpec::default()
        }),
        mode: Some(Mode::Replicated(ReplicatedService { replicas: 2 })),
        ..ServiceSpec::default()
    }
}

/// The tasks of a service in a state.
fn in_state(swarm: &Swarm, service: &str, state: TaskState) -> Vec<Arc<Task>> {
    let tasks = swarm.manager.control().tasks_of_service(service);
    let there = |task: &Arc<Task>| task.status.as_ref().is_some_and(|status| status.state() == state);
    tasks.into_iter().filter(there).collect()
}

#[tokio::test]
async fn a_services_tasks_run_fail_and_go() {
    let swarm = Swarm::start().await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    node.ready().await;
    let control = swarm.manager.control();
    let service = control.create_service(service("web", Vec::new())).await.unwrap().id.clone();
    let running = eventually("two tasks running", || {
        let running = in_state(&swarm, &service, TaskState::Running);
        (running.len() == 2).then_some(running)
    })
    .await;
    let status = running[0].status.clone().unwrap();
    let Some(RuntimeStatus::Container(container)) = status.runtime_status else { panic!("{status:?}") };
    assert_eq!((container.container_id, container.pid), (format!("c-{}", running[0].id), 7));
    assert_eq!(node.core.serving().borrow().len(), 2);

    node.runtime.end(&running[0].id, 3);
    let failed = eventually("the failure told", || in_state(&swarm, &service, TaskState::Failed).pop()).await;
    assert_eq!(failed.id, running[0].id);
    assert_eq!(failed.status.as_ref().unwrap().err, "task: non-zero exit (3)");

    control.remove_service(&service).await.unwrap();
    let both: BTreeSet<String> = running.iter().map(|task| task.id.clone()).collect();
    eventually("the containers removed", || {
        let removed: BTreeSet<String> = node.runtime.removed.lock().unwrap().iter().cloned().collect();
        both.is_subset(&removed).then_some(())
    })
    .await;
    assert!(node.core.serving().borrow().is_empty());
}

#[tokio::test]
async fn a_secret_comes_with_its_task_and_is_not_kept_on_disk() {
    const HUSH: &[u8] = b"correct-horse-battery-staple";
    let swarm = Swarm::start().await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    let control = swarm.manager.control();
    let annotations = Annotations { name: "password".to_owned(), ..Annotations::default() };
    let spec = SecretSpec { annotations: Some(annotations), data: HUSH.to_vec(), ..SecretSpec::default() };
    let secret = control.create_secret(spec).await.unwrap().id.clone();
    let reference = SecretReference {
        secret_id: secret,
        secret_name: "password".to_owned(),
        target: Some(secret_reference::Target::File(FileTarget {
            name: "password".to_owned(),
            uid: "0".to_owned(),
            gid: "0".to_owned(),
            mode: 0o444,
        })),
    };
    let service = control.create_service(service("web", vec![reference])).await.unwrap().id.clone();
    let running = eventually("running", || in_state(&swarm, &service, TaskState::Running).pop()).await;
    let here = node.core.dependencies(&running).unwrap();
    assert_eq!(&here.secrets[0].1.data[..], HUSH);
    eventually("the memory on disk", || {
        let memory = Store::open(&swarm.dir.path().join("w1")).unwrap().load().unwrap();
        (!memory.statuses.is_empty()).then_some(())
    })
    .await;
    let file = std::fs::read(swarm.dir.path().join("w1/agent.json")).unwrap();
    assert!(!String::from_utf8_lossy(&file).contains(&hex::encode(HUSH)));
}

#[tokio::test]
async fn logs_of_a_service_reach_the_manager() {
    let swarm = Swarm::start().await;
    let node = Node::start(&swarm, "w1", "127.0.0.2").await;
    node.ready().await;
    let control = swarm.manager.control();
    let service = control.create_service(service("web", Vec::new())).await.unwrap().id.clone();
    eventually("two tasks running", || {
        (in_state(&swarm, &service, TaskState::Running).len() == 2).then_some(())
    })
    .await;
    let selector = LogSelector { service_ids: vec![service.clone()], ..LogSelector::default() };
    let mut logs = control.subscribe_logs(selector, LogSubscriptionOptions::default()).await.unwrap();
    let mut lines = BTreeSet::new();
    let read = async {
        while let Some(message) = logs.next().await {
            let message = message.unwrap();
            let context = message.context.clone().unwrap();
            assert_eq!(context.node_id, node.identity.identity().node_id.to_string());
            assert_eq!(context.service_id, service);
            let text = String::from_utf8(message.data).unwrap();
            assert_eq!(text, format!("hello of c-{}\n", context.task_id));
            lines.insert(context.task_id);
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("the logs end");
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_damaged_memory_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&Memory { managers: vec!["10.0.0.1:2377".parse().unwrap()], ..Memory::default() }).unwrap();
    assert_eq!(recall(&store).unwrap().managers.len(), 1);
    let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, b"\0\0\0").unwrap();
    assert_eq!(recall(&store).unwrap(), Memory::default());
}
