//! A set of changes that happens wholly or not at all.

use std::time::SystemTime;

use prost::Message;
use weft_wire::swarmkit::{StoreAction, StoreActionKind};

use super::{Claim, Object, ObjectKind};

/// Format of an encoded transaction.
const FORMAT: u32 = 1;

/// Why a transaction changed nothing. Compute it again from a newer view.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
pub enum Refusal {
    /// An object is not at the version the transaction was computed from.
    #[error("{kind} {id} changed meanwhile (expected version {expected}, found {found})")]
    Version {
        /// Its kind.
        kind: String,
        /// Its id.
        id: String,
        /// 0: expected not to exist.
        expected: u64,
        /// 0: does not exist.
        found: u64,
    },
    /// Something wanted is held by another object.
    #[error("{claim} is held by {holder}")]
    Taken {
        /// What.
        claim: String,
        /// By whom.
        holder: String,
    },
    /// The command cannot be read; the same on every manager.
    #[error("malformed transaction: {0}")]
    Malformed(String),
}

/// Changes with their preconditions and claims.
#[derive(Debug, Clone)]
pub struct Transaction {
    encoded: Encoded,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Encoded {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    /// The leader's clock: stamps of created and updated objects.
    #[prost(message, optional, tag = "2")]
    pub(super) time: Option<prost_types::Timestamp>,
    #[prost(message, repeated, tag = "3")]
    pub(super) changes: Vec<EncodedChange>,
    #[prost(message, repeated, tag = "4")]
    pub(super) requirements: Vec<EncodedRequirement>,
    /// Freed before anything is claimed.
    #[prost(string, repeated, tag = "5")]
    pub(super) releases: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(super) claims: Vec<EncodedClaim>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EncodedChange {
    #[prost(message, optional, tag = "1")]
    pub(super) action: Option<StoreAction>,
    /// Version the change was computed from; 0 for a creation.
    #[prost(uint64, tag = "2")]
    pub(super) base: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EncodedRequirement {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) id: String,
    #[prost(uint64, tag = "3")]
    pub(super) version: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EncodedClaim {
    #[prost(string, tag = "1")]
    pub(super) claim: String,
    /// Id of the object that holds it, freed with it.
    #[prost(string, tag = "2")]
    pub(super) holder: String,
}

impl Transaction {
    /// An empty transaction stamped with the proposer's clock.
    pub fn new(now: SystemTime) -> Self {
        Self { encoded: Encoded { format: FORMAT, time: Some(now.into()), ..Default::default() } }
    }

    /// The proposer's clock: what the transaction creates or updates carries it.
    pub(crate) fn time(&self) -> SystemTime {
        self.encoded.time.and_then(|time| SystemTime::try_from(time).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Whether it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.encoded.changes.is_empty() && self.encoded.releases.is_empty() && self.encoded.claims.is_empty()
    }

    /// Adds an object that must not exist yet.
    pub fn create(&mut self, object: impl Into<Object>) -> &mut Self {
        self.change(StoreActionKind::StoreActionCreate, object.into(), 0)
    }

    /// Replaces an object, if it still is at the version that `object` carries.
    pub fn update(&mut self, object: impl Into<Object>) -> &mut Self {
        let object = object.into();
        let base = object.version();
        self.change(StoreActionKind::StoreActionUpdate, object, base)
    }

    /// Removes an object at a version, and frees what it holds.
    pub fn remove(&mut self, kind: ObjectKind, id: &str, version: u64) -> &mut Self {
        self.change(StoreActionKind::StoreActionRemove, Object::id_only(kind, id), version)
    }

    /// Demands that an object that is only read has not changed.
    pub fn require(&mut self, kind: ObjectKind, id: &str, version: u64) -> &mut Self {
        self.encoded.requirements.push(EncodedRequirement {
            kind: kind.as_str().to_owned(),
            id: id.to_owned(),
            version,
        });
        self
    }

    /// Takes something for an object.
    pub fn claim(&mut self, claim: &Claim, holder: &str) -> &mut Self {
        self.encoded.claims.push(EncodedClaim { claim: claim.to_text(), holder: holder.to_owned() });
        self
    }

    /// Frees something.
    pub fn release(&mut self, claim: &Claim) -> &mut Self {
        self.encoded.releases.push(claim.to_text());
        self
    }

    /// The bytes to propose.
    pub fn encode(&self) -> Vec<u8> {
        self.encoded.encode_to_vec()
    }

    fn change(&mut self, kind: StoreActionKind, object: Object, base: u64) -> &mut Self {
        self.encoded.changes.push(EncodedChange { action: Some(object.into_action(kind)), base });
        self
    }
}

impl Encoded {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let encoded = Self::decode(bytes).map_err(|error| Refusal::Malformed(error.to_string()))?;
        match encoded.format {
            FORMAT => Ok(encoded),
            other => {
                Err(Refusal::Malformed(format!("transaction format {other}, this version reads {FORMAT}")))
            }
        }
    }
}
