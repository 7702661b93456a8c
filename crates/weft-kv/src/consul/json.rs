//! Consul's documents.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::Failure;
use crate::{Entry, Version};

/// A pair as `GET /v1/kv` gives it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    key: String,
    /// In base64; null where nothing was written.
    #[serde(default)]
    value: Option<String>,
    modify_index: u64,
}

/// One step of a transaction.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Operation {
    verb: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
}

impl Operation {
    /// Writes if the key has this index; 0: if it is not there.
    pub(super) fn cas(key: &str, value: &[u8], index: u64) -> Self {
        Self { value: Some(STANDARD.encode(value)), index: Some(index), ..Self::new("cas", key) }
    }

    /// Goes on if the key has this index.
    pub(super) fn check(key: &str, index: u64) -> Self {
        Self { index: Some(index), ..Self::new("check-index", key) }
    }

    pub(super) fn delete(key: &str) -> Self {
        Self::new("delete", key)
    }

    /// Writes for a session that then holds the key; fails if another one does.
    pub(super) fn lock(key: &str, value: &[u8], session: &str) -> Self {
        let session = Some(session.to_owned());
        Self { value: Some(STANDARD.encode(value)), session, ..Self::new("lock", key) }
    }

    fn new(verb: &'static str, key: &str) -> Self {
        Self { verb, key: key.to_owned(), value: None, index: None, session: None }
    }
}

/// The body of `PUT /v1/txn`.
pub(super) fn transaction(operations: &[Operation]) -> Bytes {
    let steps: Vec<_> = operations.iter().map(|operation| json!({ "KV": operation })).collect();
    serde_json::Value::from(steps).to_string().into()
}

/// The index of a transaction's last write, if it wrote anything.
pub(super) fn transaction_result(body: &[u8]) -> Result<Option<u64>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Done {
        #[serde(default)]
        results: Option<Vec<Outcome>>,
    }
    #[derive(Deserialize)]
    struct Outcome {
        #[serde(rename = "KV")]
        pair: Pair,
    }
    let done: Done = parse(body)?;
    Ok(done.results.unwrap_or_default().last().map(|outcome| outcome.pair.modify_index))
}

/// Why a transaction was not carried out: a precondition, or the session that shall hold the key is gone.
pub(super) fn transaction_refused(body: &[u8]) -> Failure {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Undone {
        #[serde(default)]
        errors: Option<Vec<Problem>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Problem {
        what: String,
    }
    match parse::<Undone>(body) {
        Err(failure) => failure,
        Ok(undone) if undone.errors.iter().flatten().any(|e| e.what.starts_with("invalid session")) => {
            Failure::LeaseGone
        }
        Ok(_) => Failure::Conflict,
    }
}

/// The body of `PUT /v1/session/create`. Only time ends the session, not what Consul thinks of the agent that was
/// asked; what it held may be written again at once.
pub(super) fn session(ttl: Duration) -> Bytes {
    let ttl = format!("{}ms", ttl.as_millis());
    let session =
        json!({ "Name": "weft", "TTL": ttl, "Behavior": "delete", "LockDelay": "0s", "NodeChecks": [] });
    session.to_string().into()
}

pub(super) fn session_id(body: &[u8]) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Created {
        #[serde(rename = "ID")]
        id: String,
    }
    parse::<Created>(body).map(|created| created.id)
}

/// The pairs of `GET /v1/kv`.
pub(super) fn entries(body: &[u8]) -> Result<Vec<Entry>, Failure> {
    parse::<Vec<Pair>>(body)?.into_iter().map(Pair::entry).collect()
}

impl Pair {
    fn entry(self) -> Result<Entry, Failure> {
        let value = STANDARD.decode(self.value.unwrap_or_default());
        let value = value.map_err(|e| Failure::Malformed(format!("the value of {}: {e}", self.key)))?;
        Ok(Entry { key: self.key, value, version: Version(self.modify_index) })
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Consul 1.8.7 wrote it.
    #[test]
    fn captured_answers_are_understood() {
        let body = br#"[{"LockIndex": 1, "Key": "n/1", "Flags": 0, "Value": "eA==", "Session": "c217",
            "CreateIndex": 19, "ModifyIndex": 21}, {"LockIndex": 0, "Key": "n/", "Flags": 0, "Value": null,
            "CreateIndex": 3, "ModifyIndex": 3}]"#;
        let found = entries(body).unwrap();
        assert_eq!(found[0], Entry { key: "n/1".to_owned(), value: b"x".to_vec(), version: Version(21) });
        assert_eq!(found[1].value, b"");
        let done = br#"{"Results": [{"KV": {"LockIndex": 0, "Key": "a", "Flags": 0, "Value": null,
            "CreateIndex": 14, "ModifyIndex": 15}}], "Errors": null}"#;
        assert_eq!(transaction_result(done), Ok(Some(15)));
        assert_eq!(transaction_result(br#"{"Results": [], "Errors": null}"#), Ok(None));
        let stale = br#"{"Results": null, "Errors": [{"OpIndex": 0, "What": "failed to set key \"a\", index is stale"}]}"#;
        assert_eq!(transaction_refused(stale), Failure::Conflict);
        let gone = br#"{"Results": null, "Errors": [{"OpIndex": 1, "What": "invalid session \"0000\""}]}"#;
        assert_eq!(transaction_refused(gone), Failure::LeaseGone);
        assert_eq!(session_id(br#"{ "ID": "c217" }"#).unwrap(), "c217");
    }

    #[test]
    fn steps_carry_only_what_they_need() {
        let body = transaction(&[
            Operation::delete("k"),
            Operation::lock("k", b"x", "s"),
            Operation::cas("k", b"", 0),
        ]);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let want = json!([
            { "KV": { "Verb": "delete", "Key": "k" } },
            { "KV": { "Verb": "lock", "Key": "k", "Value": "eA==", "Session": "s" } },
            { "KV": { "Verb": "cas", "Key": "k", "Value": "", "Index": 0 } },
        ]);
        assert_eq!(body, want);
    }

    fn pairs() -> impl Strategy<Value = Vec<(String, Vec<u8>, u64)>> {
        proptest::collection::vec((any::<String>(), any::<Vec<u8>>(), any::<u64>()), 0..5)
    }

    proptest! {
        #[test]
        fn entries_are_read_as_they_were_written(pairs in pairs()) {
            let written: Vec<_> = pairs.iter().map(|(key, value, index)| {
                json!({ "Key": key, "Value": STANDARD.encode(value), "ModifyIndex": index, "Flags": 0 })
            }).collect();
            let read = entries(serde_json::Value::from(written).to_string().as_bytes()).unwrap();
            let read: Vec<_> = read.into_iter().map(|e| (e.key, e.value, e.version.0)).collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn no_bytes_make_the_decoders_fall_over(body in any::<Vec<u8>>()) {
            decode_all(&body);
        }

        /// Documents that are nearly right come further than bytes do.
        #[test]
        fn no_document_makes_the_decoders_fall_over(
            body in r#"(\[?\{"(Key|Results|Errors|ID)": ?("[a-z=]{0,4}"|null|\[\{"(KV|What)": ?(\{\}|"x"|1)\}\]|[0-9]{0,25})(, ?"(Value|ModifyIndex)": ?("[A-Za-z=]{0,5}"|-?[0-9]{1,22}))*\}\]?)"#
        ) {
            decode_all(body.as_bytes());
        }
    }

    fn decode_all(body: &[u8]) {
        let _ = entries(body);
        let _ = transaction_result(body);
        let _ = transaction_refused(body);
        let _ = session_id(body);
    }
}
