//! Channels to etcd's servers, asked in turn.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tonic::transport::{Channel, Uri};
use tonic::{Code, ConnectError, Status};

use crate::address::Endpoint;
use crate::dial::{Connection, dial};
use crate::error::{Failure, chain};
use crate::rotation::Rotation;

/// For one server's answer, connecting included.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// While calls are under way, among them watches. etcd ends connections that ask oftener than every 5 s
/// (`--grpc-keepalive-min-time`), or that ask without a call.
const PING: Duration = Duration::from_secs(10);
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// A channel for each server. It connects at the first call and again after each loss.
pub(super) struct Servers {
    channels: Vec<(Endpoint, Channel)>,
    rotation: Rotation,
}

impl Servers {
    pub(super) fn new(servers: Vec<Endpoint>, tls: Option<Arc<ClientConfig>>) -> Self {
        let rotation = Rotation::new(servers.len());
        let channels = servers.into_iter().map(|server| {
            let channel = channel(server.clone(), tls.clone());
            (server, channel)
        });
        Self { channels: channels.collect(), rotation }
    }

    pub(super) async fn ask<T, F>(&self, repeatable: bool, call: impl Fn(Channel) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let attempt = |server: usize| {
            let (endpoint, channel) = &self.channels[server];
            let call = tokio::time::timeout(ANSWER_DEADLINE, call(channel.clone()));
            async move {
                match call.await {
                    Ok(outcome) => outcome.map_err(|status| failure(&status)),
                    Err(_) => Err(Failure::Lost(format!("{endpoint}: no answer within {ANSWER_DEADLINE:?}"))),
                }
            }
        };
        self.rotation.ask(repeatable, attempt).await
    }
}

fn channel(server: Endpoint, tls: Option<Arc<ClientConfig>>) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let (server, tls) = (server.clone(), tls.clone());
        async move { dial(&server, tls.as_ref()).await as io::Result<Connection> }
    });
    // The authority in the requests; etcd does not look at it.
    tonic::transport::Endpoint::from_static("http://etcd")
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING_DEADLINE)
        .connect_with_connector_lazy(connector)
}

/// What an error means for the request.
pub(super) fn failure(status: &Status) -> Failure {
    if let Some(error) = connect_error(status) {
        return Failure::NotSent(chain(error));
    }
    match status.code() {
        Code::NotFound if status.message().contains("lease not found") => Failure::LeaseGone,
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Aborted
        | Code::Internal
        | Code::Unknown => Failure::Lost(status.message().to_owned()),
        _ => Failure::Refused(status.message().to_owned()),
    }
}

/// The error of a connection that never stood, if that is what lies below.
fn connect_error(status: &Status) -> Option<&(dyn std::error::Error + 'static)> {
    let mut error = std::error::Error::source(status);
    while let Some(found) = error {
        if found.is::<ConnectError>() {
            return found.source();
        }
        error = found.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_gone_is_told_from_other_refusals() {
        let gone = Status::not_found("etcdserver: requested lease not found");
        assert_eq!(failure(&gone), Failure::LeaseGone);
        let full = Status::resource_exhausted("etcdserver: mvcc: database space exceeded");
        assert_eq!(failure(&full), Failure::Refused("etcdserver: mvcc: database space exceeded".to_owned()));
        let lost = Status::unavailable("etcdserver: leader changed");
        assert_eq!(failure(&lost), Failure::Lost("etcdserver: leader changed".to_owned()));
    }
}
