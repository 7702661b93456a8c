//! A swarm in memory: the store, the loops, a scheduler that spreads, and nodes that do as they are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::SeedableRng;
use rand::rngs::StdRng;
use weft_orchestration::testing::TestCluster;
use weft_orchestration::{Change, Orchestrator, Snapshot};
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::node_status::State;
use weft_wire::swarmkit::restart_policy::RestartCondition;
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::task_spec::Runtime;
use weft_wire::swarmkit::update_status::UpdateState;
use weft_wire::swarmkit::{
    Annotations, Cluster, ClusterSpec, ContainerSpec, GlobalJob, GlobalService, JobStatus, Node, NodeSpec,
    NodeStatus, OrchestrationConfig, ReplicatedJob, ReplicatedService, RestartPolicy, Service, ServiceSpec,
    Task, TaskSpec, TaskState, TaskStatus, UpdateConfig, UpdateStatus, Version,
};

pub(crate) const SERVICE: &str = "web";
/// What a commit takes: no two are at the same time.
const COMMIT: Duration = Duration::from_micros(1);
/// More looks than any situation needs to come to rest.
const MANY: usize = 400;

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn stored(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

pub(crate) fn replicated(replicas: u64) -> Mode {
    Mode::Replicated(ReplicatedService { replicas })
}

pub(crate) fn global() -> Mode {
    Mode::Global(GlobalService {})
}

pub(crate) fn replicated_job(total_completions: u64, max_concurrent: u64) -> Mode {
    Mode::ReplicatedJob(ReplicatedJob { max_concurrent, total_completions })
}

pub(crate) fn global_job() -> Mode {
    Mode::GlobalJob(GlobalJob {})
}

/// A spec with image `v1` and no rules of its own.
pub(crate) fn spec(mode: Mode) -> ServiceSpec {
    ServiceSpec {
        annotations: Some(Annotations { name: SERVICE.to_owned(), ..Annotations::default() }),
        task: Some(TaskSpec { runtime: container("v1"), ..TaskSpec::default() }),
        mode: Some(mode),
        ..ServiceSpec::default()
    }
}

fn container(image: &str) -> Option<Runtime> {
    Some(Runtime::Container(ContainerSpec { image: image.to_owned(), ..ContainerSpec::default() }))
}

pub(crate) fn with_image(mut spec: ServiceSpec, image: &str) -> ServiceSpec {
    spec.task.get_or_insert_default().runtime = container(image);
    spec
}

pub(crate) fn with_update(mut spec: ServiceSpec, update: UpdateConfig) -> ServiceSpec {
    spec.update = Some(update);
    spec
}

pub(crate) fn with_restart(
    mut spec: ServiceSpec,
    condition: RestartCondition,
    delay: Duration,
    max_attempts: u64,
    window: Option<Duration>,
) -> ServiceSpec {
    spec.task.get_or_insert_default().restart = Some(RestartPolicy {
        condition: condition.into(),
        delay: stored(delay),
        max_attempts,
        window: window.and_then(stored),
    });
    spec
}

pub(crate) fn state(task: &Task) -> TaskState {
    task.status.as_ref().map_or(TaskState::New, TaskStatus::state)
}

pub(crate) fn image(task: &Task) -> &str {
    match task.spec.as_ref().and_then(|spec| spec.runtime.as_ref()) {
        Some(Runtime::Container(container)) => &container.image,
        _ => "",
    }
}

pub(crate) fn is_wanted(task: &Task) -> bool {
    task.desired_state() <= TaskState::Complete
}

pub(crate) struct World {
    pub(crate) store: TestCluster,
    pub(crate) orchestrator: Orchestrator,
    pub(crate) now: SystemTime,
    rng: StdRng,
    wake: Option<SystemTime>,
    /// The next proposals are refused.
    pub(crate) refusals: usize,
    /// The next proposal is written in part: its first changes, as when it is too large for one transaction.
    pub(crate) cut: Option<usize>,
    /// Containers of this image do not start.
    pub(crate) broken: String,
}

impl World {
    pub(crate) fn new(nodes: usize) -> Self {
        Self::with_seed(nodes, 1)
    }

    pub(crate) fn with_seed(nodes: usize, seed: u64) -> Self {
        let mut world = Self {
            store: TestCluster::new(),
            orchestrator: Orchestrator::new(),
            now: SystemTime::UNIX_EPOCH + seconds(1_800_000_000),
            rng: StdRng::seed_from_u64(seed),
            wake: None,
            refusals: 0,
            cut: None,
            broken: "broken".to_owned(),
        };
        world.store.set_now(world.now);
        world.history_limit(5);
        for number in 1..=nodes {
            world.set_node(&format!("n{number}"), State::Ready, Availability::Active);
        }
        world
    }

    pub(crate) fn history_limit(&mut self, limit: i64) {
        self.store.put_cluster(Cluster {
            id: "swarm".to_owned(),
            spec: Some(ClusterSpec {
                orchestration: Some(OrchestrationConfig { task_history_retention_limit: limit }),
                ..ClusterSpec::default()
            }),
            ..Cluster::default()
        });
    }

    pub(crate) fn set_node(&mut self, id: &str, state: State, availability: Availability) {
        let mut node = self.store.node(id).map(|node| Node::clone(node)).unwrap_or_default();
        node.id = id.to_owned();
        node.status = Some(NodeStatus { state: state.into(), ..NodeStatus::default() });
        node.spec = Some(NodeSpec { availability: availability.into(), ..NodeSpec::default() });
        self.store.put_node(node);
    }

    /// As the control API does.
    pub(crate) fn create(&mut self, spec: ServiceSpec) {
        let is_job = matches!(spec.mode, Some(Mode::ReplicatedJob(_) | Mode::GlobalJob(_)));
        self.store.put_service(Service {
            id: SERVICE.to_owned(),
            spec: Some(spec),
            spec_version: Some(Version { index: self.store.index() }),
            job_status: is_job.then(JobStatus::default),
            ..Service::default()
        });
    }

    /// As the control API does.
    pub(crate) fn update(&mut self, spec: ServiceSpec) {
        let mut service = self.service();
        service.previous_spec = service.spec.replace(spec);
        service.previous_spec_version = service.spec_version;
        service.spec_version = Some(Version { index: self.store.index() });
        service.update_status = None;
        if let Some(status) = &mut service.job_status {
            status.job_iteration.get_or_insert_default().index += 1;
        }
        self.store.put_service(service);
    }

    /// As the control API does; false if there is nothing to go back to.
    pub(crate) fn roll_back(&mut self) -> bool {
        let mut service = self.service();
        if service.previous_spec.is_none() {
            return false;
        }
        std::mem::swap(&mut service.spec, &mut service.previous_spec);
        std::mem::swap(&mut service.spec_version, &mut service.previous_spec_version);
        service.update_status = Some(UpdateStatus {
            state: UpdateState::RollbackStarted.into(),
            message: "manually requested rollback".to_owned(),
            started_at: Some(self.now.into()),
            ..UpdateStatus::default()
        });
        self.store.put_service(service);
        true
    }

    pub(crate) fn scale(&mut self, replicas: u64) {
        let mut spec = self.spec();
        spec.mode = Some(replicated(replicas));
        self.update(spec);
    }

    pub(crate) fn service(&self) -> Service {
        self.store.service(SERVICE).map(|service| Service::clone(service)).unwrap()
    }

    pub(crate) fn spec(&self) -> ServiceSpec {
        self.service().spec.unwrap()
    }

    pub(crate) fn update_state(&self) -> (UpdateState, String) {
        let status = self.service().update_status.unwrap_or_default();
        (status.state(), status.message)
    }

    /// By slot or node, and age.
    pub(crate) fn tasks(&self) -> Vec<Arc<Task>> {
        let is_everywhere = self
            .store
            .service(SERVICE)
            .and_then(|it| it.spec.as_ref())
            .is_some_and(|spec| matches!(spec.mode, Some(Mode::Global(_) | Mode::GlobalJob(_))));
        let mut tasks: Vec<Arc<Task>> = self.store.tasks_of_service(SERVICE).cloned().collect();
        tasks.sort_by_key(|task| {
            let created = task.meta.as_ref().and_then(|meta| meta.created_at).unwrap_or_default();
            let node = if is_everywhere { task.node_id.clone() } else { String::new() };
            (task.slot, node, created.seconds, created.nanos, task.id.clone())
        });
        tasks
    }

    pub(crate) fn wanted(&self) -> Vec<Arc<Task>> {
        self.tasks().into_iter().filter(|task| is_wanted(task)).collect()
    }

    /// `slot: state → desired (image)` of each task, for exact comparison.
    pub(crate) fn picture(&self) -> Vec<String> {
        let line = |task: &Arc<Task>| {
            let place = if task.slot == 0 && !task.node_id.is_empty() {
                task.node_id.clone()
            } else {
                task.slot.to_string()
            };
            format!("{place}: {} → {} ({})", name(state(task)), name(task.desired_state()), image(task))
        };
        self.tasks().iter().map(line).collect()
    }

    /// One look; what it asked for, applied unless refused.
    pub(crate) fn look(&mut self) -> Vec<Change> {
        let dirty = self.store.take_dirty();
        let mut changes = Vec::new();
        self.wake = self.orchestrator.reconcile(&self.store, &dirty, self.now, &mut self.rng, &mut changes);
        if changes.is_empty() {
            return changes;
        }
        if self.refusals > 0 {
            self.refusals -= 1;
            return changes;
        }
        if let Some(first) = self.cut.take() {
            changes.truncate(first);
        }
        self.tick();
        self.store.apply(&changes).unwrap();
        changes
    }

    /// Looks until nothing more is asked for.
    pub(crate) fn reconcile(&mut self) {
        for _ in 0..MANY {
            if self.look().is_empty() {
                return;
            }
        }
        panic!("the loops do not come to rest: {:#?}", self.picture());
    }

    pub(crate) fn new_leader(&mut self) {
        self.orchestrator = Orchestrator::new();
    }

    /// Gives tasks without node the ready node with fewest, as the scheduler would.
    pub(crate) fn place(&mut self) {
        let ready: Vec<String> =
            self.store.nodes().filter(|node| is_ready(node)).map(|node| node.id.clone()).collect();
        let mut load: BTreeMap<String, usize> = ready.iter().map(|node| (node.clone(), 0)).collect();
        for task in self.store.tasks().filter(|task| is_wanted(task)) {
            if let Some(count) = load.get_mut(&task.node_id) {
                *count += 1;
            }
        }
        let is_pending = |task: &Arc<Task>| state(task) < TaskState::Assigned && is_wanted(task);
        let pending: Vec<Arc<Task>> = self.tasks().into_iter().filter(is_pending).collect();
        for task in pending {
            let node = match task.node_id.as_str() {
                "" => load.iter().min_by_key(|(_, count)| **count).map(|(node, _)| node.clone()),
                given => ready.iter().find(|node| *node == given).cloned(),
            };
            let Some(node) = node else { continue };
            *load.entry(node.clone()).or_default() += 1;
            self.report_at(&task.id, TaskState::Assigned, &node);
        }
    }

    /// A task's state becomes known.
    pub(crate) fn report(&mut self, id: &str, state: TaskState) {
        let node = self.store.task(id).map(|task| task.node_id.clone()).unwrap();
        self.report_at(id, state, &node);
    }

    fn report_at(&mut self, id: &str, new: TaskState, node: &str) {
        let mut task = self.store.task(id).map(|task| Task::clone(task)).unwrap();
        // The dispatcher drops what would go back.
        if new <= state(&task) {
            return;
        }
        task.node_id = node.to_owned();
        task.status = Some(TaskStatus {
            state: new.into(),
            timestamp: Some(self.now.into()),
            applied_at: Some(self.now.into()),
            ..TaskStatus::default()
        });
        self.tick();
        self.store.put_task(task);
    }

    fn tick(&mut self) {
        self.now += COMMIT;
        self.store.set_now(self.now);
    }

    /// What a node would report next of a task; none if there is nothing.
    pub(crate) fn next_state(&self, task: &Task) -> Option<TaskState> {
        let desired = task.desired_state();
        let now = state(task);
        if desired >= TaskState::Shutdown {
            return (TaskState::Assigned..TaskState::Complete).contains(&now).then_some(TaskState::Shutdown);
        }
        match now {
            TaskState::Assigned => Some(TaskState::Accepted),
            TaskState::Accepted => Some(TaskState::Preparing),
            TaskState::Preparing => Some(TaskState::Ready),
            TaskState::Ready if desired > TaskState::Ready => Some(TaskState::Starting),
            TaskState::Starting if image(task) == self.broken => Some(TaskState::Failed),
            TaskState::Starting => Some(TaskState::Running),
            _ => None,
        }
    }

    /// Every node that is up takes each of its tasks one step on. False if there was none to take.
    pub(crate) fn work(&mut self) -> bool {
        let up =
            |task: &Task| self.store.node(&task.node_id).is_some_and(|node| status_of(node) == State::Ready);
        let steps: Vec<(String, TaskState)> = (self.store.tasks())
            .filter(|task| up(task))
            .filter_map(|task| Some((task.id.clone(), self.next_state(task)?)))
            .collect();
        for (id, state) in &steps {
            self.report(id, *state);
        }
        !steps.is_empty()
    }

    /// Loops, scheduler and nodes, until nothing moves without time passing.
    pub(crate) fn settle(&mut self) {
        for _ in 0..MANY {
            self.reconcile();
            self.place();
            if !self.work() {
                self.reconcile();
                return;
            }
        }
        panic!("the swarm does not come to rest: {:#?}", self.picture());
    }

    /// Lets time pass, with everything at work.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.settle();
        while let Some(at) = self.wake.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.settle();
        }
        // Commits have taken time, too.
        self.now = self.now.max(end);
        self.settle();
    }

    /// In how many seconds, rounded, the loops want to look again.
    pub(crate) fn wake_in(&self) -> Option<Duration> {
        let left = |at: SystemTime| at.duration_since(self.now).unwrap_or_default().as_secs_f64();
        self.wake.map(|at| Duration::from_secs(left(at).round() as u64))
    }
}

pub(crate) fn status_of(node: &Node) -> State {
    node.status.as_ref().map_or(State::Unknown, |status| status.state())
}

pub(crate) fn availability_of(node: &Node) -> Availability {
    node.spec.as_ref().map_or(Availability::Active, |spec| spec.availability())
}

fn is_ready(node: &Node) -> bool {
    status_of(node) == State::Ready && availability_of(node) == Availability::Active
}

fn name(state: TaskState) -> String {
    state.as_str_name().to_lowercase()
}
