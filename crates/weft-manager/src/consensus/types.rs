//! What openraft is made of here.

use openraft::Raft;
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::machine::StateMachine;
use super::member::MemberNode;
use super::runtime::Runtime;

/// A command in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Command(pub(super) Vec<u8>);

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

openraft::declare_raft_types!(
    pub(super) RaftTypes:
        D = Command,
        R = Verdict,
        Node = MemberNode,
        LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

pub(super) type Instance = Raft<RaftTypes, StateMachine>;
