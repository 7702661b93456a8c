//! How Raft's own records look on disk: our layout, so that a new openraft does not change old files.
//!
//! ```text
//! log id    term u64, node u64, index u64        (little endian)
//! vote      term u64, node u64, committed u8
//! entry     log id, kind u8 (0 blank, 1 command, 2 membership), payload
//! seat      raft id u64, group u64
//! membership: JSON of openraft's type; verdict: JSON of ours
//! ```

use openraft::EntryPayload;
use openraft::type_config::alias::{EntryOf, LogIdOf, StoredMembershipOf, VoteOf};

use super::Verdict;
use super::types::{Command, RaftTypes};

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;
const LOG_ID_LEN: usize = 24;
const VOTE_LEN: usize = 17;
const SEAT_LEN: usize = 16;

/// A record that opened but does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("{what}: want {want} bytes, found {found}")]
    Length { what: &'static str, want: usize, found: usize },
    #[error("unknown kind of entry {0}")]
    Kind(u8),
    #[error("membership: {0}")]
    Membership(String),
    #[error("verdict: {0}")]
    Verdict(String),
}

type LogId = LogIdOf<RaftTypes>;
type Vote = VoteOf<RaftTypes>;
type Entry = EntryOf<RaftTypes>;
type LeaderId = openraft::type_config::alias::LeaderIdOf<RaftTypes>;

pub(super) fn encode_log_id(id: &LogId) -> Vec<u8> {
    let mut out = Vec::with_capacity(LOG_ID_LEN);
    out.extend_from_slice(&id.leader_id.term.to_le_bytes());
    out.extend_from_slice(&id.leader_id.node_id.to_le_bytes());
    out.extend_from_slice(&id.index.to_le_bytes());
    out
}

pub(super) fn decode_log_id(bytes: &[u8]) -> Result<LogId, WireError> {
    let wrong = || WireError::Length { what: "log id", want: LOG_ID_LEN, found: bytes.len() };
    let [term, node_id, index] = words(bytes).filter(|_| bytes.len() == LOG_ID_LEN).ok_or_else(wrong)?;
    Ok(LogId { leader_id: LeaderId { term, node_id }, index })
}

pub(super) fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut out = Vec::with_capacity(VOTE_LEN);
    out.extend_from_slice(&vote.leader_id.term.to_le_bytes());
    out.extend_from_slice(&vote.leader_id.node_id.to_le_bytes());
    out.push(u8::from(vote.committed));
    out
}

pub(super) fn decode_vote(bytes: &[u8]) -> Result<Vote, WireError> {
    let wrong = || WireError::Length { what: "vote", want: VOTE_LEN, found: bytes.len() };
    let [term, node_id] = words(bytes).filter(|_| bytes.len() == VOTE_LEN).ok_or_else(wrong)?;
    Ok(Vote { leader_id: LeaderId { term, node_id }, committed: bytes[VOTE_LEN - 1] != 0 })
}

pub(super) fn encode_seat([raft_id, group]: [u64; 2]) -> Vec<u8> {
    [raft_id.to_le_bytes(), group.to_le_bytes()].concat()
}

pub(super) fn decode_seat(bytes: &[u8]) -> Result<[u64; 2], WireError> {
    let wrong = || WireError::Length { what: "seat", want: SEAT_LEN, found: bytes.len() };
    words(bytes).filter(|_| bytes.len() == SEAT_LEN).ok_or_else(wrong)
}

pub(super) fn encode_membership(membership: &StoredMembershipOf<RaftTypes>) -> Vec<u8> {
    serde_json::to_vec(membership).expect("a membership is plain data")
}

pub(super) fn decode_membership(bytes: &[u8]) -> Result<StoredMembershipOf<RaftTypes>, WireError> {
    serde_json::from_slice(bytes).map_err(|error| WireError::Membership(error.to_string()))
}

pub(super) fn encode_verdict(verdict: &Verdict) -> Vec<u8> {
    serde_json::to_vec(verdict).expect("a verdict is plain data")
}

pub(super) fn decode_verdict(bytes: &[u8]) -> Result<Verdict, WireError> {
    serde_json::from_slice(bytes).map_err(|error| WireError::Verdict(error.to_string()))
}

pub(super) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut out = encode_log_id(&entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => out.push(BLANK),
        EntryPayload::Normal(command) => {
            out.push(COMMAND);
            out.extend_from_slice(&command.0);
        }
        EntryPayload::Membership(membership) => {
            out.push(MEMBERSHIP);
            out.extend_from_slice(&serde_json::to_vec(membership).expect("a membership is plain data"));
        }
    }
    out
}

pub(super) fn decode_entry(bytes: &[u8]) -> Result<Entry, WireError> {
    let short = || WireError::Length { what: "entry", want: LOG_ID_LEN + 1, found: bytes.len() };
    let (id, rest) = bytes.split_at_checked(LOG_ID_LEN).ok_or_else(short)?;
    let log_id = decode_log_id(id)?;
    let (kind, payload) = rest.split_first().ok_or_else(short)?;
    let payload = match *kind {
        BLANK => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(Command(payload.to_vec())),
        MEMBERSHIP => EntryPayload::Membership(
            serde_json::from_slice(payload).map_err(|error| WireError::Membership(error.to_string()))?,
        ),
        other => return Err(WireError::Kind(other)),
    };
    Ok(Entry { log_id, payload })
}

fn words<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut out = [0; N];
    for (word, chunk) in out.iter_mut().zip(bytes.chunks(8).map(Some).chain(std::iter::repeat(None))) {
        *word = u64::from_le_bytes(chunk?.try_into().ok()?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_come_back(term: u64, node_id: u64, index: u64, committed: bool, body: Vec<u8>) {
            let leader_id = LeaderId { term, node_id };
            let vote = Vote { leader_id, committed };
            prop_assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
            let log_id = LogId { leader_id, index };
            prop_assert_eq!(decode_log_id(&encode_log_id(&log_id)).unwrap(), log_id);
            let entry = Entry { log_id, payload: EntryPayload::Normal(Command(body)) };
            let decoded = decode_entry(&encode_entry(&entry)).unwrap();
            prop_assert_eq!(encode_entry(&decoded), encode_entry(&entry));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode_entry(&bytes);
            let _ = decode_vote(&bytes);
            let _ = decode_log_id(&bytes);
        }
    }
}
