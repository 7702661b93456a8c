//! Networks of a task, with an address on each.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::SystemTime;

use weft_wire::swarmkit::{
    Network, NetworkAttachment, NetworkAttachmentConfig, Service, Task, TaskState, TaskStatus,
};

use super::networks::{find, has_addresses, ingress, needs_ingress, task_networks};
use super::{AllocateError, Allocated};
use crate::{Allocator, Claim, Snapshot, Taken};

const ALLOCATED: &str = "pending task scheduling";

/// Puts a NEW task on its networks, the ingress network first if its service publishes ports there, and makes it
/// PENDING. A task beyond NEW is left as it is.
///
/// The service must have what its spec asks for already: the task carries a copy of its endpoint. `taken` must
/// include what was claimed before in the same transaction. On an error, [`note_failure`] shows it to users.
pub fn allocate_task(
    snapshot: &dyn Snapshot,
    allocator: &mut Allocator,
    taken: &dyn Taken,
    service: Option<&Service>,
    task: &mut Task,
    now: SystemTime,
) -> Result<Allocated, AllocateError> {
    if task.status.as_ref().is_some_and(|status| status.state() != TaskState::New) {
        return Ok(Allocated::default());
    }
    let mut claims = Vec::new();
    let mut attachments = Vec::new();
    for (network, config) in wanted(snapshot, task, service)? {
        attachments.push(attach(allocator, taken, network, config, &mut claims)?);
    }
    task.networks = attachments;
    task.endpoint = service.and_then(|service| service.endpoint.clone());
    task.status = Some(TaskStatus {
        state: TaskState::Pending.into(),
        timestamp: Some(now.into()),
        message: ALLOCATED.to_owned(),
        ..TaskStatus::default()
    });
    Ok(Allocated { is_changed: true, claims, releases: Vec::new() })
}

/// Writes into a task's status why it could not be completed. Whether that is news.
pub fn note_failure(task: &mut Task, error: &AllocateError, now: SystemTime) -> bool {
    let status = task.status.get_or_insert_default();
    let text = error.to_string();
    if status.err == text {
        return false;
    }
    status.err = text;
    status.timestamp = Some(now.into());
    true
}

/// All that a task holds. It holds nothing once it has ended, although it still shows what it had.
pub fn task_claims(task: &Task) -> Vec<Claim> {
    let mut claims = Vec::new();
    for attachment in &task.networks {
        if let Some(network) = attachment.network.as_ref() {
            claims.extend(attachment.addresses.iter().filter_map(|text| claim(&network.id, text)));
        }
    }
    claims
}

/// The claim of an address with prefix length; none of an empty text.
pub(super) fn claim(network: &str, text: &str) -> Option<Claim> {
    Some(Claim::Address { network: network.to_owned(), address: address(text)? })
}

/// An address with prefix length, without that; none of an empty text.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

type Wanted<'a> = (Cow<'a, Network>, Option<&'a NetworkAttachmentConfig>);

/// Each network once, with how the spec wants the task to be on it.
fn wanted<'a>(
    snapshot: &'a dyn Snapshot,
    task: &'a Task,
    service: Option<&'a Service>,
) -> Result<Vec<Wanted<'a>>, AllocateError> {
    let mut wanted: Vec<Wanted<'a>> = Vec::new();
    if service.is_some_and(needs_ingress) {
        wanted.push((ingress(snapshot)?, None));
    }
    for config in task_networks(task, service) {
        let network = find(snapshot, &config.target)?;
        if wanted.iter().all(|(other, _)| other.id != network.id) {
            wanted.push((network, Some(config)));
        }
    }
    Ok(wanted)
}

fn attach(
    allocator: &mut Allocator,
    taken: &dyn Taken,
    network: Cow<'_, Network>,
    config: Option<&NetworkAttachmentConfig>,
    claims: &mut Vec<Claim>,
) -> Result<NetworkAttachment, AllocateError> {
    let config = config.cloned().unwrap_or_default();
    let mut addresses = Vec::new();
    if has_addresses(&network) {
        let given = allocator.addresses(&network, &config.addresses, taken)?;
        addresses = given.to_texts();
        claims.extend(given.claims);
    }
    Ok(NetworkAttachment {
        network: Some(network.into_owned()),
        addresses,
        aliases: config.aliases,
        driver_attachment_opts: config.driver_attachment_opts,
    })
}
