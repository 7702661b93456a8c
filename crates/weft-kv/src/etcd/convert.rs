//! etcd's messages from and to ours.

use super::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use super::proto::event::EventType;
use super::proto::request_op::Request as Step;
use super::proto::watch_request::RequestUnion;
use super::proto::{
    Compare, DeleteRangeRequest, Event, KeyValue, PutRequest, RangeRequest, RangeResponse, RequestOp,
    ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use crate::error::Failure;
use crate::{Change, Entry, Version};

/// The end of the range of all keys that begin with `prefix`: the first key behind them. One byte 0, if there is none:
/// etcd then goes to the end.
pub(super) fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Writes if the key is of this revision; 0: if it is not there.
pub(super) fn put_if(key: &str, revision: u64, value: &[u8]) -> TxnRequest {
    let put = PutRequest { key: key.into(), value: value.to_vec(), lease: 0 };
    TxnRequest { compare: vec![is_of(key, revision)], success: vec![step(Step::RequestPut(put))] }
}

pub(super) fn delete_if(key: &str, revision: u64) -> TxnRequest {
    let delete = DeleteRangeRequest { key: key.into() };
    TxnRequest { compare: vec![is_of(key, revision)], success: vec![step(Step::RequestDeleteRange(delete))] }
}

pub(super) fn put_leased(key: &str, value: &[u8], lease: i64) -> TxnRequest {
    let put = PutRequest { key: key.into(), value: value.to_vec(), lease };
    TxnRequest { compare: Vec::new(), success: vec![step(Step::RequestPut(put))] }
}

pub(super) fn watch(range: RangeRequest, start_revision: i64) -> WatchRequest {
    let RangeRequest { key, range_end } = range;
    let create = WatchCreateRequest { key, range_end, start_revision };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// The version of what a transaction wrote.
pub(super) fn written(answer: &TxnResponse) -> Result<Version, Failure> {
    if !answer.succeeded {
        return Err(Failure::Conflict);
    }
    let revision = revision(answer.header.as_ref())?;
    u64::try_from(revision).map(Version).map_err(|_| Failure::Malformed(format!("revision {revision}")))
}

pub(super) fn revision(header: Option<&ResponseHeader>) -> Result<i64, Failure> {
    header
        .map(|header| header.revision)
        .ok_or_else(|| Failure::Malformed("an answer without header".to_owned()))
}

/// Keys that are no text are not ours.
pub(super) fn entries(answer: RangeResponse) -> Vec<Entry> {
    answer.kvs.into_iter().filter_map(entry).collect()
}

/// What happened, unless the watch was ended.
pub(super) fn changes(answer: WatchResponse) -> Result<Vec<Change>, Failure> {
    if answer.canceled || answer.compact_revision != 0 {
        return Err(Failure::Lost(format!("the watch was ended: {}", answer.cancel_reason)));
    }
    Ok(answer.events.into_iter().filter_map(change).collect())
}

fn change(event: Event) -> Option<Change> {
    let (kind, entry) = (event.r#type(), entry(event.kv?)?);
    Some(match kind {
        EventType::Put => Change::Put(entry),
        EventType::Delete => Change::Removed(entry.key),
    })
}

fn entry(pair: KeyValue) -> Option<Entry> {
    let version = Version(u64::try_from(pair.mod_revision).ok()?);
    Some(Entry { key: String::from_utf8(pair.key).ok()?, value: pair.value, version })
}

/// A key that is not there has the revision 0.
fn is_of(key: &str, revision: u64) -> Compare {
    let revision = i64::try_from(revision).unwrap_or(i64::MAX);
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
    }
}

fn step(step: Step) -> RequestOp {
    RequestOp { request: Some(step) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn pair(key: &[u8], value: &[u8], mod_revision: i64) -> KeyValue {
        KeyValue { key: key.to_vec(), value: value.to_vec(), mod_revision }
    }

    #[test]
    fn a_range_ends_behind_its_prefix() {
        assert_eq!(end_of_prefix(b"a/"), b"a0");
        assert_eq!(end_of_prefix(b"a\xff\xff"), b"b");
        assert_eq!(end_of_prefix(b"\xff"), b"\0");
        assert_eq!(end_of_prefix(b""), b"\0");
    }

    #[test]
    fn a_watch_that_was_ended_is_an_error() {
        let compacted = WatchResponse { compact_revision: 7, ..WatchResponse::default() };
        assert!(matches!(changes(compacted), Err(Failure::Lost(_))));
        let ended =
            WatchResponse { canceled: true, cancel_reason: "no".to_owned(), ..WatchResponse::default() };
        assert_eq!(changes(ended), Err(Failure::Lost("the watch was ended: no".to_owned())));
    }

    #[test]
    fn keys_that_are_no_text_are_passed_over() {
        let kvs = vec![pair(b"\xff", b"", 1), pair(b"k", b"v", 2), pair(b"n", b"", -1)];
        let found = entries(RangeResponse { header: None, kvs });
        assert_eq!(found, [Entry { key: "k".to_owned(), value: b"v".to_vec(), version: Version(2) }]);
    }

    #[test]
    fn a_transaction_that_did_not_hold_is_a_conflict() {
        assert_eq!(written(&TxnResponse { header: None, succeeded: false }), Err(Failure::Conflict));
        let header = Some(ResponseHeader { revision: 9 });
        assert_eq!(written(&TxnResponse { header, succeeded: true }), Ok(Version(9)));
        assert!(matches!(
            written(&TxnResponse { header: None, succeeded: true }),
            Err(Failure::Malformed(_))
        ));
    }

    proptest! {
        #[test]
        fn entries_are_read_as_they_were_written(pairs in proptest::collection::vec((any::<String>(), any::<Vec<u8>>(), 0..i64::MAX), 0..5)) {
            let kvs = pairs.iter().map(|(key, value, revision)| pair(key.as_bytes(), value, *revision)).collect();
            let bytes = RangeResponse { header: None, kvs }.encode_to_vec();
            let read = entries(RangeResponse::decode(bytes.as_slice()).unwrap());
            let read: Vec<_> = read.into_iter().map(|e| (e.key, e.value, e.version.0 as i64)).collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn no_bytes_make_the_decoders_fall_over(bytes in any::<Vec<u8>>()) {
            let _ = RangeResponse::decode(bytes.as_slice()).map(entries);
            let _ = WatchResponse::decode(bytes.as_slice()).map(changes);
            let _ = TxnResponse::decode(bytes.as_slice()).map(|answer| written(&answer));
        }

        #[test]
        fn every_key_with_the_prefix_is_in_its_range(prefix in any::<Vec<u8>>(), rest in any::<Vec<u8>>(), other in any::<Vec<u8>>()) {
            let end = end_of_prefix(&prefix);
            let is_in = |key: &[u8]| key >= prefix.as_slice() && (end == [0] || key < end.as_slice());
            prop_assert!(is_in(&[prefix.clone(), rest].concat()));
            prop_assert_eq!(is_in(&other), other.starts_with(&prefix) || (end == [0] && other >= prefix));
        }
    }
}
