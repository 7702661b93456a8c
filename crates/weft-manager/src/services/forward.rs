//! A manager that does not lead passes what only the leader can answer on to it, whole: requests and streams both
//! ways. Nodes, Docker's too, may so talk to any manager, as they may with SwarmKit's.
//!
//! The leader learns from the headers below who really calls. It believes them only from a connection with a
//! manager's certificate, and passes nothing on a second time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tower::{Layer, Service};
use weft_identity::{ConnectInfo, NodeRole, PeerCertificate};

use crate::brain::Brain;
use crate::core::Core;

const NODE: &str = "weft-forwarded-node";
const SWARM: &str = "weft-forwarded-swarm";
const ROLE: &str = "weft-forwarded-role";
const REMOTE: &str = "weft-forwarded-remote";
/// Services that only the leader answers.
const OF_THE_LEADER: [&str; 6] = [
    "/docker.swarmkit.v1.Dispatcher/",
    "/docker.swarmkit.v1.LogBroker/",
    "/docker.swarmkit.v1.ResourceAllocator/",
    "/docker.swarmkit.v1.NodeCA/",
    "/weft.v1.NetworkState/",
    "/weft.v1.Witness/",
];
/// A request waits this long for a leader to be elected and to take office.
const ELECTION: Duration = Duration::from_secs(4);

/// Puts [`Forward`] before the services.
#[derive(Clone)]
pub(super) struct ForwardLayer(pub(super) Arc<Brain>);

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward { brain: Arc::clone(&self.0), inner }
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct Forward<S> {
    brain: Arc<Brain>,
    inner: S,
}

impl<S> Service<Request<Body>> for Forward<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        let brain = Arc::clone(&self.brain);
        async move {
            let forwarded = match take_forwarded(&brain.core, &mut request) {
                Ok(forwarded) => forwarded,
                Err(status) => return Ok(status.into_http()),
            };
            if !OF_THE_LEADER.iter().any(|service| request.uri().path().starts_with(service)) {
                return ready.call(request).await;
            }
            match leader(&brain.core, forwarded).await {
                Ok(Place::Here) => ready.call(request).await,
                Ok(Place::At(address)) => Ok(pass_on(&brain.core, &address, request).await),
                Err(status) => Ok(status.into_http()),
            }
        }
        .boxed()
    }
}

enum Place {
    Here,
    At(String),
}

/// Where the request is to be answered. Waits out an election.
async fn leader(core: &Core, forwarded: bool) -> Result<Place, Status> {
    let mut office = core.in_office();
    let mut leadership = core.leadership();
    let search = async {
        loop {
            if *office.borrow_and_update() {
                return Some(Place::Here);
            }
            let leads = leadership.borrow_and_update().leading;
            match core.raft.leader() {
                // A request that was passed on already found no leader here: the sender asks again.
                _ if forwarded && !leads => return None,
                Some((id, address)) if id != core.raft.raft_id() => return Some(Place::At(address)),
                _ => {}
            }
            tokio::select! {
                changed = office.changed() => changed.ok()?,
                changed = leadership.changed() => changed.ok()?,
            }
        }
    };
    match timeout(ELECTION, search).await {
        Ok(Some(place)) => Ok(place),
        Ok(None) | Err(_) => {
            Err(Status::unavailable(super::consensus_text(&crate::consensus::ConsensusError::NoLeader)))
        }
    }
}

async fn pass_on(core: &Core, address: &str, mut request: Request<Body>) -> Response<Body> {
    let unavailable =
        |why: String| Status::unavailable(format!("the leader of the swarm does not answer: {why}"));
    if let Some(info) = request.extensions().get::<ConnectInfo>().cloned() {
        describe(core, &info, request.headers_mut());
    }
    let mut channel = match core.peers.channel(address) {
        Ok(channel) => channel,
        Err(error) => return unavailable(error.to_string()).into_http(),
    };
    if let Err(error) = std::future::poll_fn(|cx| channel.poll_ready(cx)).await {
        return unavailable(error.to_string()).into_http();
    }
    match channel.call(request).await {
        Ok(response) => response,
        Err(error) => unavailable(error.to_string()).into_http(),
    }
}

/// Says who calls. A node on this host may come over loopback: others are told the address of the host.
fn describe(core: &Core, info: &ConnectInfo, headers: &mut HeaderMap) {
    let mut remote = info.remote;
    if remote.ip().to_canonical().is_loopback() {
        remote.set_ip(core.advertise.ip());
    }
    let mut put = |name: &'static str, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    put(REMOTE, &remote.to_string());
    if let Some(peer) = &info.peer {
        put(NODE, peer.node_id.as_str());
        put(SWARM, peer.swarm_id.as_str());
        put(ROLE, peer.role.as_str());
    }
}

/// Puts the real caller in the place of the manager that passed the request on. Whether one did.
#[allow(clippy::result_large_err, reason = "tonic's own error type; it is answered as it is")]
fn take_forwarded(core: &Core, request: &mut Request<Body>) -> Result<bool, Status> {
    let headers = request.headers();
    if ![NODE, SWARM, ROLE, REMOTE].iter().any(|name| headers.contains_key(*name)) {
        return Ok(false);
    }
    let refused = || Status::permission_denied("Permission denied: only managers speak for other nodes");
    let info = request.extensions().get::<ConnectInfo>().ok_or_else(refused)?;
    let manager = info.authorize(&core.swarm_id, &[NodeRole::Manager])?;
    crate::auth::check_not_removed(core, manager.node_id.as_str())?;
    let caller = caller(headers).ok_or_else(refused)?;
    for name in [NODE, SWARM, ROLE, REMOTE] {
        request.headers_mut().remove(name);
    }
    request.extensions_mut().insert(caller);
    Ok(true)
}

fn caller(headers: &HeaderMap) -> Option<ConnectInfo> {
    let text = |name: &str| headers.get(name).map(HeaderValue::to_str).transpose().ok();
    let remote: SocketAddr = text(REMOTE)??.parse().ok()?;
    let peer = match text(NODE)? {
        Some(node) => Some(Arc::new(PeerCertificate {
            node_id: node.parse().ok()?,
            swarm_id: text(SWARM)??.parse().ok()?,
            role: text(ROLE)??.parse().ok()?,
        })),
        None => None,
    };
    Some(ConnectInfo { remote, peer })
}
