//! Applying a transaction: compares versions, looks for taken claims, then writes. Deterministic and dumb.

use weft_wire::swarmkit::{Meta, StoreActionKind, Version};

use super::claim::Claim;
use super::transaction::{Encoded, EncodedChange, EncodedClaim};
use super::{Change, Object, ObjectKind, Refusal, View};

/// Applies an encoded transaction as Raft index `index`, or leaves the view as it was.
pub(super) fn apply(view: &mut View, index: u64, command: &[u8]) -> Result<Vec<Change>, Refusal> {
    let transaction = Encoded::parse(command)?;
    for requirement in &transaction.requirements {
        let kind = requirement
            .kind
            .parse()
            .map_err(|()| Refusal::Malformed(format!("unknown kind {:?}", requirement.kind)))?;
        check_version(view, kind, &requirement.id, requirement.version)?;
    }
    // On a copy: a refusal half-way leaves nothing behind. Tables are shared until written.
    let mut next = view.clone();
    let mut changes = Vec::with_capacity(transaction.changes.len());
    for claim in &transaction.releases {
        next.claims_mut().remove(&parse_claim(claim)?);
    }
    for change in transaction.changes {
        changes.push(write(&mut next, index, transaction.time, change)?);
    }
    for claim in transaction.claims {
        take(&mut next, claim)?;
    }
    next.set_index(index);
    *view = next;
    Ok(changes)
}

fn write(
    view: &mut View,
    index: u64,
    time: Option<prost_types::Timestamp>,
    change: EncodedChange,
) -> Result<Change, Refusal> {
    let malformed = |what: &str| Refusal::Malformed(what.to_owned());
    let action = change.action.ok_or_else(|| malformed("a change without action"))?;
    let kind = action.action();
    let object = (action.target.and_then(Object::from_target))
        .ok_or_else(|| malformed("a change of no known kind"))?;
    if object.id().is_empty() {
        return Err(malformed("an object without id"));
    }
    check_version(view, object.kind(), object.id(), change.base)?;
    let before = view.object(object.kind(), object.id());
    let after = match kind {
        StoreActionKind::StoreActionCreate | StoreActionKind::StoreActionUpdate => {
            if (kind == StoreActionKind::StoreActionCreate) != before.is_none() {
                return Err(malformed("created what exists, or updated what does not"));
            }
            let created_at = before.as_ref().and_then(Object::meta).and_then(|meta| meta.created_at).or(time);
            let meta = Meta { version: Some(Version { index }), created_at, updated_at: time };
            let object = object.with_meta(meta);
            view.put(object.clone());
            Some(object)
        }
        StoreActionKind::StoreActionRemove => {
            if before.is_none() {
                return Err(malformed("removed what does not exist"));
            }
            view.claims_mut().remove_holder(object.id());
            check_unused(view, &object)?;
            view.delete(object.kind(), object.id());
            None
        }
        StoreActionKind::Unknown => return Err(malformed("a change of no known action")),
    };
    Ok(Change { before, after })
}

fn take(view: &mut View, wanted: EncodedClaim) -> Result<(), Refusal> {
    let claim = parse_claim(&wanted.claim)?;
    if let Some((held, holder)) = view.claims().conflicting(&claim) {
        // Claiming again what one holds is no change.
        if holder == wanted.holder && *held == claim {
            return Ok(());
        }
        return Err(Refusal::Taken { claim: held.to_text(), holder: holder.to_owned() });
    }
    view.claims_mut().insert(claim, &wanted.holder);
    Ok(())
}

/// A network goes only when nobody else holds an address of it.
fn check_unused(view: &View, object: &Object) -> Result<(), Refusal> {
    if object.kind() != ObjectKind::Network {
        return Ok(());
    }
    match view.addresses(object.id()).next() {
        None => Ok(()),
        Some((address, holder)) => {
            let claim = Claim::Address { network: object.id().to_owned(), address };
            Err(Refusal::Taken { claim: claim.to_text(), holder: holder.to_owned() })
        }
    }
}

fn check_version(view: &View, kind: ObjectKind, id: &str, expected: u64) -> Result<(), Refusal> {
    let found = view.object(kind, id).map_or(0, |object| object.version());
    if found == expected {
        return Ok(());
    }
    Err(Refusal::Version { kind: kind.to_string(), id: id.to_owned(), expected, found })
}

fn parse_claim(text: &str) -> Result<Claim, Refusal> {
    Claim::from_text(text).ok_or_else(|| Refusal::Malformed(format!("unknown claim {text:?}")))
}
