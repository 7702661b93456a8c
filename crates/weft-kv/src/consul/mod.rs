//! Consul's HTTP API v1: key-value pairs, transactions of them, sessions, blocking queries.
//!
//! Changes are transactions, because their answers carry the new index; a plain write would have to be read again.
//! A lease is a session whose end deletes what it holds.

mod http;
mod json;

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use rustls::ClientConfig;

use self::http::{Answer, Http, Request};
use self::json::Operation;
use crate::address::Endpoint;
use crate::error::Failure;
use crate::{Entry, Version};

/// How long a blocking query may stay without news; the server adds up to a sixteenth. A server that lost its data in
/// between, and is behind the index that it is asked about, is found out after this time.
const WATCH_WAIT: Duration = Duration::from_secs(15);
/// Consul's `session_ttl_min` and the limit above, unless its configuration says otherwise.
const SESSION_TTL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(24 * 3600);

/// A client of Consul's servers.
pub(crate) struct Consul(Http);

impl Consul {
    pub(crate) fn new(servers: Vec<Endpoint>, tls: Option<Arc<ClientConfig>>) -> Self {
        Self(Http::new(servers, tls))
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Entry>, Failure> {
        let target = format!("/v1/kv/{}?consistent", escape(key));
        let answer = self.0.ask(&Request::get(target)).await?;
        Ok(entries(&answer)?.pop())
    }

    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<Entry>, Failure> {
        let target = format!("/v1/kv/{}?recurse&consistent", escape(folder));
        entries(&self.0.ask(&Request::get(target)).await?)
    }

    /// The folder as soon as its index is another one than `after`, or after a while; with the index.
    pub(crate) async fn list_after(
        &self,
        folder: &str,
        after: Option<u64>,
    ) -> Result<(Vec<Entry>, Option<u64>), Failure> {
        let wait = WATCH_WAIT.as_secs();
        let target = match after {
            None => format!("/v1/kv/{}?recurse&consistent", escape(folder)),
            Some(index) => {
                format!("/v1/kv/{}?recurse&consistent&index={index}&wait={wait}s", escape(folder))
            }
        };
        let mut request = Request::get(target);
        request.patience += after.map_or(Duration::ZERO, |_| WATCH_WAIT + WATCH_WAIT / 16);
        let answer = self.0.ask(&request).await?;
        Ok((entries(&answer)?, next_index(after, answer.index)))
    }

    pub(crate) async fn create(&self, key: &str, value: &[u8]) -> Result<Version, Failure> {
        self.written(&[Operation::cas(key, value, 0)]).await
    }

    pub(crate) async fn replace(
        &self,
        key: &str,
        version: Version,
        value: &[u8],
    ) -> Result<Version, Failure> {
        self.written(&[Operation::cas(key, value, version.0)]).await
    }

    pub(crate) async fn remove(&self, key: &str, version: Version) -> Result<(), Failure> {
        // Deleting by index is content with a key that somebody else has deleted.
        let operations = [Operation::check(key, version.0), Operation::delete(key)];
        self.transact(&operations, false).await.map(drop)
    }

    pub(crate) async fn grant(&self, ttl: Duration) -> Result<String, Failure> {
        let body = json::session(session_ttl(ttl));
        // A session too many goes by itself.
        let request = Request { body, repeatable: true, ..Request::put("/v1/session/create".to_owned()) };
        json::session_id(&self.0.ask(&request).await?.success()?.body)
    }

    /// False: there is no such session.
    pub(crate) async fn renew(&self, session: &str) -> Result<bool, Failure> {
        let target = format!("/v1/session/renew/{}", escape(session));
        let answer = self.0.ask(&Request { repeatable: true, ..Request::put(target) }).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(false),
            _ => answer.success().map(|_| true),
        }
    }

    pub(crate) async fn revoke(&self, session: &str) -> Result<(), Failure> {
        let target = format!("/v1/session/destroy/{}", escape(session));
        self.0.ask(&Request { repeatable: true, ..Request::put(target) }).await?.success().map(drop)
    }

    /// Writes the key for the session, whoever held it before: an earlier life of this process may have.
    pub(crate) async fn put_leased(&self, key: &str, value: &[u8], session: &str) -> Result<(), Failure> {
        let operations = [Operation::delete(key), Operation::lock(key, value, session)];
        self.transact(&operations, true).await.map(drop)
    }

    async fn written(&self, operations: &[Operation]) -> Result<Version, Failure> {
        let index = self.transact(operations, false).await?;
        index.map(Version).ok_or_else(|| Failure::Malformed("a write without its result".to_owned()))
    }

    /// The index of the last write, if one was made.
    async fn transact(&self, operations: &[Operation], repeatable: bool) -> Result<Option<u64>, Failure> {
        let body = json::transaction(operations);
        let answer = self.0.ask(&Request { body, repeatable, ..Request::put("/v1/txn".to_owned()) }).await?;
        match answer.status {
            StatusCode::CONFLICT => Err(json::transaction_refused(&answer.body)),
            _ => json::transaction_result(&answer.success()?.body),
        }
    }
}

fn entries(answer: &Answer) -> Result<Vec<Entry>, Failure> {
    match answer.status {
        StatusCode::NOT_FOUND => Ok(Vec::new()),
        StatusCode::OK => json::entries(&answer.body),
        _ => Err(answer.refused()),
    }
}

/// Consul's rules for blocking queries: an index that is missing, zero or went back means to begin anew.
fn next_index(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    now.filter(|now| *now > 0 && before.is_none_or(|before| *now >= before))
}

/// Consul ends a session between once and twice its time: half of it ends in time.
fn session_ttl(ttl: Duration) -> Duration {
    (ttl / 2).clamp(*SESSION_TTL.start(), *SESSION_TTL.end())
}

/// Percent-encoding of everything but unreserved characters and slashes (RFC 3986 section 2.3).
fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_escaped_and_stay_paths() {
        assert_eq!(escape("docker/nodes/[fd00::1]:2375"), "docker/nodes/%5Bfd00%3A%3A1%5D%3A2375");
    }

    #[test]
    fn an_index_that_went_back_begins_anew() {
        assert_eq!(next_index(None, Some(7)), Some(7));
        assert_eq!(next_index(Some(7), Some(7)), Some(7));
        assert_eq!(next_index(Some(7), Some(6)), None);
        assert_eq!(next_index(None, Some(0)), None);
        assert_eq!(next_index(Some(7), None), None);
    }

    #[test]
    fn sessions_last_half_as_long_within_consuls_limits() {
        let seconds = |ttl| session_ttl(Duration::from_secs(ttl)).as_secs();
        assert_eq!((seconds(60), seconds(3), seconds(500_000)), (30, 10, 86_400));
    }
}
