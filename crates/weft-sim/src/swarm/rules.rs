//! What must hold after every transaction, and what when all is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_orchestration::{Claim, Snapshot as _};
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::{Service, Task, TaskState};

use super::objects::{image, is_wanted, state};
use super::world::World;

pub(super) fn is_job(service: &Service) -> bool {
    matches!(mode(service), Some(Mode::ReplicatedJob(_) | Mode::GlobalJob(_)))
}

fn mode(service: &Service) -> Option<&Mode> {
    service.spec.as_ref()?.mode.as_ref()
}

/// After every transaction.
pub(super) fn check(world: &World) -> Result<(), String> {
    addresses_are_held(world)?;
    world.store.objects.services().try_for_each(|service| slots_are_single(world, service))
}

/// Who lives has what it shows, so no two show the same.
fn addresses_are_held(world: &World) -> Result<(), String> {
    let holders = world.store.holders();
    let mut shown: BTreeMap<(&str, IpAddr), &str> = BTreeMap::new();
    let lives =
        |task: &&std::sync::Arc<Task>| (TaskState::Pending..=TaskState::Running).contains(&state(task));
    for task in world.store.objects.tasks().filter(lives) {
        for (network, address) in addresses(task) {
            let claim = Claim::Address { network: network.to_owned(), address };
            let holder = holders.get(&claim).map_or("nobody", String::as_str);
            if holder != task.id {
                return Err(format!("{address} of task {} is held by {holder}", task.id));
            }
            if let Some(other) = shown.insert((network, address), &task.id) {
                return Err(format!("tasks {} and {other} both have {address}", task.id));
            }
        }
    }
    Ok(())
}

fn addresses(task: &Task) -> impl Iterator<Item = (&str, IpAddr)> {
    task.networks.iter().flat_map(|attachment| {
        let network = attachment.network.as_ref().map_or("", |network| network.id.as_str());
        let texts = attachment.addresses.iter().filter_map(|text| text.split('/').next()?.parse().ok());
        texts.map(move |address| (network, address))
    })
}

/// Wanted tasks of one slot: the one that is there, and the next where that is started first. The rules of updates
/// change in the middle of updates here, so every slot may be in that state.
const MOST_PER_SLOT: usize = 2;

fn slots_are_single(world: &World, service: &Service) -> Result<(), String> {
    if is_job(service) {
        return Ok(());
    }
    let mut slots: BTreeMap<(u64, &str), usize> = BTreeMap::new();
    let is_everywhere = matches!(mode(service), Some(Mode::Global(_)));
    for task in world.store.objects.tasks_of_service(&service.id).filter(|task| is_wanted(task)) {
        let place = if is_everywhere { task.node_id.as_str() } else { "" };
        *slots.entry((task.slot, place)).or_default() += 1;
    }
    match slots.iter().find(|(_, count)| **count > MOST_PER_SLOT) {
        Some((slot, count)) => Err(format!("slot {slot:?} of {} has {count} wanted tasks", service.id)),
        None => Ok(()),
    }
}

/// What is not yet as users wish; none when all is.
pub(super) fn unfinished(world: &World) -> Option<String> {
    let objects = &world.store.objects;
    objects
        .services()
        .find_map(|service| service_unfinished(world, service))
        .or_else(|| orphans(world))
        .or_else(|| containers(world))
        .or_else(|| held_for_nothing(world))
}

fn service_unfinished(world: &World, service: &Service) -> Option<String> {
    let tasks = || world.store.objects.tasks_of_service(&service.id);
    let problem = |what: String| Some(format!("service {}: {what}", service.id));
    if service.pending_delete {
        return problem("still there".to_owned());
    }
    let (wanted, is_there): (usize, fn(&Task) -> bool) = match mode(service)? {
        Mode::Replicated(replicated) => (replicated.replicas as usize, is_running),
        Mode::Global(_) => (world.workers.len(), is_running),
        Mode::ReplicatedJob(job) => {
            (job.total_completions as usize, |task| state(task) == TaskState::Complete)
        }
        Mode::GlobalJob(_) => return None,
    };
    let is_newest = |task: &&std::sync::Arc<Task>| image(task) == "last" && is_there(task);
    let there = tasks().filter(is_newest).filter(|task| iteration(task) == job_iteration(service)).count();
    if there != wanted {
        let picture: Vec<String> = tasks().map(|task| describe(task)).collect();
        return problem(format!(
            "{there} of {wanted} tasks: {}; {:?}",
            picture.join(", "),
            service.update_status
        ));
    }
    let is_old = |task: &&std::sync::Arc<Task>| image(task) != "last" && lives(task);
    tasks().find(is_old).and_then(|task| problem(format!("old task {}", describe(task))))
}

fn job_iteration(service: &Service) -> u64 {
    service.job_status.as_ref().and_then(|status| status.job_iteration).map_or(0, |version| version.index)
}

fn iteration(task: &Task) -> u64 {
    task.job_iteration.map_or(0, |version| version.index)
}

fn is_running(task: &Task) -> bool {
    state(task) == TaskState::Running && task.desired_state() == TaskState::Running
}

fn lives(task: &Task) -> bool {
    (TaskState::Assigned..=TaskState::Running).contains(&state(task))
}

fn describe(task: &Task) -> String {
    let err = task.status.as_ref().map_or("", |status| status.err.as_str());
    format!(
        "{}@{} {} {:?}->{:?} {err}",
        task.slot,
        task.node_id,
        image(task),
        state(task),
        task.desired_state()
    )
}

/// Tasks of services that are gone.
fn orphans(world: &World) -> Option<String> {
    let objects = &world.store.objects;
    let task = objects.tasks().find(|task| objects.service(&task.service_id).is_none())?;
    Some(format!("task of a removed service: {}", describe(task)))
}

/// Nodes run what the store says.
fn containers(world: &World) -> Option<String> {
    for (id, worker) in &world.workers {
        let running: BTreeSet<&str> = (worker.work.iter())
            .filter(|(_, work)| work.state == TaskState::Running)
            .map(|(task, _)| task.as_str())
            .collect();
        let wanted: BTreeSet<&str> = (world.store.objects.tasks_of_node(id))
            .filter(|task| is_running(task))
            .map(|task| task.id.as_str())
            .collect();
        if running != wanted {
            return Some(format!("node {id} runs {running:?} instead of {wanted:?}"));
        }
    }
    None
}

/// Addresses and ports of what ended.
fn held_for_nothing(world: &World) -> Option<String> {
    let objects = &world.store.objects;
    let (claim, holder) = world.store.holders().iter().find(|(_, holder)| {
        let is_live_task = objects.task(holder).is_some_and(|task| state(task) <= TaskState::Running);
        !is_live_task && objects.service(holder).is_none() && objects.network(holder).is_none()
    })?;
    Some(format!("{holder} is gone and holds {claim:?}"))
}
