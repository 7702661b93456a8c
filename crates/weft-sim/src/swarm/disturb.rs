//! Faults, and users who change their minds.

use rand::Rng as _;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};
use weft_orchestration::Snapshot as _;
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::update_config::{FailureAction, UpdateOrder};
use weft_wire::swarmkit::{
    GlobalService, JobStatus, ReplicatedJob, ReplicatedService, Service, ServiceSpec, UpdateConfig, Version,
};

use super::objects::{self, BROKEN, at, container, node_state};
use super::rules::is_job;
use super::world::World;

/// Chance of a disturbance in each tick: about two a second.
const CHANCE: f64 = 0.1;
/// Tasks for which the network has addresses, those of services and of tasks that are still to stop aside.
const ROOM: u64 = 20;
/// Services ask for ports from here on.
const FIRST_PORT: u32 = 8000;

impl World {
    /// Something happens, or nothing.
    pub(super) fn disturb(&mut self) -> Result<(), String> {
        if !self.rng.random_bool(CHANCE) {
            return Ok(());
        }
        match self.rng.random_range(0..20) {
            0 => self.depose()?,
            1..=4 => self.hurt(),
            5..=7 => self.heal(),
            8..=9 => self.change_availability(),
            10..=12 => self.create(),
            13 => self.remove(),
            _ => self.change(),
        }
        Ok(())
    }

    /// The end of all disturbances: everything works, and every service gets a spec that can be reached, as long as
    /// there is room on the network; the others go.
    pub(super) fn calm(&mut self) -> Result<(), String> {
        self.is_calm = true;
        for worker in self.workers.values_mut() {
            (worker.is_up, worker.is_cut) = (true, false);
        }
        let ids: Vec<String> = self.workers.keys().cloned().collect();
        for id in ids {
            self.set_availability(&id, Availability::Active);
        }
        let services: Vec<Service> = self.store.objects.services().map(|it| Service::clone(it)).collect();
        let mut room = ROOM;
        for service in services.into_iter().filter(|service| !service.pending_delete) {
            let mut spec = service.spec.clone().unwrap_or_default();
            spec.task.get_or_insert_default().runtime = container("last");
            spec.update = None;
            if let Some(Mode::Replicated(replicated)) = &mut spec.mode {
                replicated.replicas = replicated.replicas.min(3);
            }
            match room.checked_sub(self.most_tasks(&spec)) {
                Some(left) => {
                    room = left;
                    self.update(service, spec);
                }
                None => self.write(Service { pending_delete: true, ..service }),
            }
        }
        Ok(())
    }

    /// Tasks of a service that run at the same time.
    fn most_tasks(&self, spec: &ServiceSpec) -> u64 {
        match &spec.mode {
            Some(Mode::Replicated(replicated)) => replicated.replicas,
            Some(Mode::ReplicatedJob(job)) => job.max_concurrent,
            _ => self.workers.len() as u64,
        }
    }

    fn hurt(&mut self) {
        let Some(worker) = self.workers.values_mut().choose(&mut self.rng) else { return };
        if self.rng.random_bool(0.5) {
            self.counts.crashes += u64::from(worker.is_up);
            worker.crash();
        } else {
            self.counts.cuts += u64::from(!worker.is_cut);
            worker.is_cut = true;
        }
    }

    fn heal(&mut self) {
        let hurt = self.workers.values_mut().filter(|worker| !worker.is_connected());
        if let Some(worker) = hurt.choose(&mut self.rng) {
            (worker.is_up, worker.is_cut) = (true, false);
        }
    }

    fn change_availability(&mut self) {
        let all = [Availability::Active, Availability::Active, Availability::Pause, Availability::Drain];
        let availability = *all.choose(&mut self.rng).unwrap_or(&Availability::Active);
        if let Some(id) = self.workers.keys().choose(&mut self.rng).cloned() {
            self.set_availability(&id, availability);
        }
    }

    fn set_availability(&mut self, id: &str, availability: Availability) {
        let Some(state) = self.store.objects.node(id).map(|node| node_state(node)) else { return };
        self.store.objects.set_now(at(self.now));
        self.store.objects.put_node(objects::node(id, state, availability));
    }

    fn create(&mut self) {
        if self.store.objects.services().count() >= self.plan.services {
            return;
        }
        let id = format!("s{}", self.counts.wishes);
        let replicas = self.rng.random_range(0..=self.plan.replicas);
        let mode = match self.rng.random_range(0..6) {
            0 => Mode::Global(GlobalService {}),
            1 => Mode::ReplicatedJob(ReplicatedJob { max_concurrent: 2, total_completions: replicas }),
            _ => Mode::Replicated(ReplicatedService { replicas }),
        };
        let is_job = matches!(mode, Mode::ReplicatedJob(_));
        let port = (!is_job && self.rng.random_bool(0.5)).then(|| FIRST_PORT + self.counts.wishes as u32);
        let spec = ServiceSpec { update: Some(self.update_rules()), ..objects::spec(&id, mode, port) };
        self.write(Service {
            id,
            spec: Some(spec),
            spec_version: Some(Version::default()),
            job_status: is_job.then(JobStatus::default),
            ..Service::default()
        });
    }

    fn update_rules(&mut self) -> UpdateConfig {
        let action = [FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback];
        let order = [UpdateOrder::StopFirst, UpdateOrder::StartFirst];
        UpdateConfig {
            parallelism: self.rng.random_range(0..3),
            failure_action: action[self.rng.random_range(0..3)].into(),
            order: order[self.rng.random_range(0..2)].into(),
            ..UpdateConfig::default()
        }
    }

    fn any_service(&mut self) -> Option<Service> {
        let services = self.store.objects.services().filter(|service| !service.pending_delete);
        services.choose(&mut self.rng).map(|service| Service::clone(service))
    }

    fn remove(&mut self) {
        if let Some(service) = self.any_service() {
            self.write(Service { pending_delete: true, ..service });
        }
    }

    fn change(&mut self) {
        let Some(service) = self.any_service() else { return };
        let mut spec = service.spec.clone().unwrap_or_default();
        match self.rng.random_range(0..8) {
            0..=3 => {
                if let Some(Mode::Replicated(replicated)) = &mut spec.mode {
                    replicated.replicas = self.rng.random_range(0..=self.plan.replicas);
                }
            }
            4 => spec.task.get_or_insert_default().force_update += 1,
            5 => spec.task.get_or_insert_default().runtime = container(BROKEN),
            6 if service.previous_spec.is_some() && !is_job(&service) => return self.roll_back(service),
            _ => {
                let image = format!("v{}", self.rng.random_range(1..4));
                spec.task.get_or_insert_default().runtime = container(&image);
            }
        }
        spec.update = Some(self.update_rules());
        self.update(service, spec);
    }

    /// As the control API does.
    fn update(&mut self, mut service: Service, spec: ServiceSpec) {
        service.previous_spec = service.spec.replace(spec);
        service.previous_spec_version = service.spec_version;
        service.spec_version = service.meta.as_ref().and_then(|meta| meta.version);
        service.update_status = None;
        if let Some(status) = &mut service.job_status {
            status.job_iteration.get_or_insert_default().index += 1;
        }
        self.write(service);
    }

    /// As the control API does.
    fn roll_back(&mut self, mut service: Service) {
        std::mem::swap(&mut service.spec, &mut service.previous_spec);
        std::mem::swap(&mut service.spec_version, &mut service.previous_spec_version);
        service.update_status = Some(weft_wire::swarmkit::UpdateStatus {
            state: weft_wire::swarmkit::update_status::UpdateState::RollbackStarted.into(),
            message: "manually requested rollback".to_owned(),
            started_at: Some(at(self.now).into()),
            ..Default::default()
        });
        self.write(service);
    }
}
