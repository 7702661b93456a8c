//! etcd's gRPC API v3: ranges, transactions, leases, watches.
//!
//! The client is generated from the part of etcd's protocol that is used here: the crate `etcd-client` wants `protoc`
//! on the machine that builds, and the rest of the workspace does not (`docs/dependencies.md`).

mod convert;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio_stream::StreamExt as _;
use tonic::{Request, Status, Streaming};

use self::proto::kv_client::KvClient;
use self::proto::lease_client::LeaseClient;
use self::proto::watch_client::WatchClient;
use self::servers::Servers;
use crate::address::Endpoint;
use crate::error::Failure;
use crate::{Change, Entry, Version};

/// Generated from `proto/etcd.proto`.
#[allow(
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod proto {
    tonic::include_proto!("etcdserverpb");
}

/// For a whole folder; tonic's own limit is 4 MiB.
const ANSWER_MAX: usize = 64 << 20;

/// A client of etcd's servers.
pub(crate) struct Etcd(Servers);

/// News of a folder, beginning where a listing ended.
pub(crate) struct Follow(Box<Streaming<proto::WatchResponse>>);

impl Etcd {
    /// Needs a tokio runtime around it.
    pub(crate) fn new(servers: Vec<Endpoint>, tls: Option<Arc<ClientConfig>>) -> Self {
        Self(Servers::new(servers, tls))
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Entry>, Failure> {
        let request = proto::RangeRequest { key: key.into(), range_end: Vec::new() };
        Ok(convert::entries(self.range(request).await?).pop())
    }

    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<Entry>, Failure> {
        Ok(convert::entries(self.range(of_folder(folder)).await?))
    }

    /// The folder, and a stream of what happens to it from then on.
    pub(crate) async fn list_and_follow(&self, folder: &str) -> Result<(Vec<Entry>, Follow), Failure> {
        let answer = self.range(of_folder(folder)).await?;
        let revision = convert::revision(answer.header.as_ref())?;
        let request = convert::watch(of_folder(folder), revision.saturating_add(1));
        let stream = self.0.ask(true, |channel| {
            // The stream of requests stays open: its end would end the watch.
            let requests = tokio_stream::once(request.clone()).chain(tokio_stream::pending());
            let mut call = Request::new(requests);
            // A member that is cut off from the others ends the watch instead of keeping silent.
            call.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
            async move { Ok(WatchClient::new(channel).watch(call).await?.into_inner()) }
        });
        Ok((convert::entries(answer), Follow(Box::new(stream.await?))))
    }

    pub(crate) async fn create(&self, key: &str, value: &[u8]) -> Result<Version, Failure> {
        self.transact(convert::put_if(key, 0, value)).await
    }

    pub(crate) async fn replace(
        &self,
        key: &str,
        version: Version,
        value: &[u8],
    ) -> Result<Version, Failure> {
        self.transact(convert::put_if(key, version.0, value)).await
    }

    pub(crate) async fn remove(&self, key: &str, version: Version) -> Result<(), Failure> {
        self.transact(convert::delete_if(key, version.0)).await.map(drop)
    }

    pub(crate) async fn grant(&self, ttl: Duration) -> Result<i64, Failure> {
        // Whole seconds, rounded up.
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let request = proto::LeaseGrantRequest { ttl: i64::try_from(seconds).unwrap_or(i64::MAX) };
        // A lease too many goes by itself.
        let granted = self.0.ask(true, |channel| async move {
            Ok(LeaseClient::new(channel).lease_grant(request).await?.into_inner())
        });
        Ok(granted.await?.id)
    }

    /// False: there is no such lease.
    pub(crate) async fn renew(&self, lease: i64) -> Result<bool, Failure> {
        let answer = self.0.ask(true, |channel| async move {
            let requests = tokio_stream::once(proto::LeaseKeepAliveRequest { id: lease });
            let answers = LeaseClient::new(channel).lease_keep_alive(requests).await?;
            let answer = answers.into_inner().message().await?;
            answer.ok_or_else(|| Status::unavailable("the renewal of a lease was not answered"))
        });
        Ok(answer.await?.ttl > 0)
    }

    pub(crate) async fn revoke(&self, lease: i64) -> Result<(), Failure> {
        let request = proto::LeaseRevokeRequest { id: lease };
        let revoked = self.0.ask(true, |channel| async move {
            Ok(LeaseClient::new(channel).lease_revoke(request).await?.into_inner())
        });
        revoked.await.map(drop)
    }

    /// Writes the key under the lease, whoever held it before.
    pub(crate) async fn put_leased(&self, key: &str, value: &[u8], lease: i64) -> Result<(), Failure> {
        self.answered(convert::put_leased(key, value, lease), true).await.map(drop)
    }

    async fn range(&self, request: proto::RangeRequest) -> Result<proto::RangeResponse, Failure> {
        let answer = self.0.ask(true, |channel| {
            let request = request.clone();
            async move {
                let mut client = KvClient::new(channel).max_decoding_message_size(ANSWER_MAX);
                Ok(client.range(request).await?.into_inner())
            }
        });
        answer.await
    }

    /// The revision in which the change was made.
    async fn transact(&self, request: proto::TxnRequest) -> Result<Version, Failure> {
        convert::written(&self.answered(request, false).await?)
    }

    async fn answered(
        &self,
        request: proto::TxnRequest,
        repeatable: bool,
    ) -> Result<proto::TxnResponse, Failure> {
        let answer = self.0.ask(repeatable, |channel| {
            let request = request.clone();
            async move { Ok(KvClient::new(channel).txn(request).await?.into_inner()) }
        });
        answer.await
    }
}

impl Follow {
    /// The next things that happened; an error ends it. Nothing is lost when this is dropped while it waits.
    pub(crate) async fn next(&mut self) -> Result<Vec<Change>, Failure> {
        match self.0.message().await {
            Ok(Some(answer)) => convert::changes(answer),
            Ok(None) => Err(Failure::Lost("the watch was ended".to_owned())),
            Err(status) => Err(servers::failure(&status)),
        }
    }
}

/// All keys that begin with the folder's name, which ends in a slash.
fn of_folder(folder: &str) -> proto::RangeRequest {
    proto::RangeRequest { key: folder.into(), range_end: convert::end_of_prefix(folder.as_bytes()) }
}
