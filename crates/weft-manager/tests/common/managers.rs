//! Several managers in this process, over real TCP and TLS on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;
use weft_identity::{IdentityHandle, JoinToken, bootstrap};
use weft_manager::{Control, InitOptions, Manager, ManagerConfig, Timing};
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::raft_member_status::Reachability;
use weft_wire::swarmkit::{Node, NodeRole, NodeSpec};

use super::{DEADLINE, fast};

/// One manager, running or stopped, with its folder.
pub struct Seat {
    pub dir: TempDir,
    pub identity: IdentityHandle,
    pub manager: Option<Arc<Manager>>,
    pub timing: Timing,
}

impl Seat {
    pub fn config(&self) -> ManagerConfig {
        super::config(&self.dir, self.timing)
    }

    pub fn manager(&self) -> &Arc<Manager> {
        self.manager.as_ref().expect("this manager runs")
    }

    pub fn control(&self) -> Control {
        self.manager().control()
    }

    pub fn address(&self) -> SocketAddr {
        self.manager().local_addr()
    }

    pub fn id(&self) -> String {
        self.identity.identity().node_id.to_string()
    }

    pub async fn stop(&mut self) {
        self.manager.take().expect("this manager runs").stop().await;
    }

    /// Comes back, at another port than before.
    pub async fn restart(&mut self) {
        let manager = Manager::open(self.config(), self.identity.clone()).await.unwrap();
        drop(manager.serve(self.identity.clone()));
        self.manager = Some(manager);
    }

    pub fn leads(&self) -> bool {
        self.manager.as_ref().is_some_and(|manager| manager.leads())
    }
}

/// The managers of a swarm. The first founded it.
pub struct Managers(pub Vec<Seat>);

impl Managers {
    pub async fn start(count: usize) -> Self {
        Self::with(count, fast()).await
    }

    pub async fn with(count: usize, timing: Timing) -> Self {
        logging();
        let dir = tempfile::tempdir().unwrap();
        let (manager, identity) =
            Manager::init(super::config(&dir, timing), InitOptions::new("m1")).await.unwrap();
        let identity = IdentityHandle::in_memory(identity).unwrap();
        drop(manager.serve(identity.clone()));
        let mut managers = Self(vec![Seat { dir, identity, manager: Some(manager), timing }]);
        for _ in 1..count {
            managers.join().await;
        }
        managers
    }

    /// One more, over the last one that runs: mostly not the leader.
    pub async fn join(&mut self) -> usize {
        let (timing, over) = (self.0[0].timing, self.running().last().unwrap().address());
        let identity = bootstrap(over, &self.manager_token(), Availability::Active).await.unwrap();
        let identity = IdentityHandle::in_memory(identity).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = super::config(&dir, timing);
        let manager = Manager::join(config, identity.clone(), &[over]).await.unwrap();
        self.0.push(Seat { dir, identity, manager: Some(manager), timing });
        self.0.len() - 1
    }

    pub fn manager_token(&self) -> JoinToken {
        let cluster = self.running().next().unwrap().control().cluster();
        cluster.root_ca.clone().unwrap().join_tokens.unwrap().manager.parse().unwrap()
    }

    pub fn worker_token(&self) -> JoinToken {
        let cluster = self.running().next().unwrap().control().cluster();
        cluster.root_ca.clone().unwrap().join_tokens.unwrap().worker.parse().unwrap()
    }

    pub fn running(&self) -> impl Iterator<Item = &Seat> {
        self.0.iter().filter(|seat| seat.manager.is_some())
    }

    /// Which one leads, once one does.
    pub async fn leader(&self) -> usize {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.0.iter().position(Seat::leads) {
                return at;
            }
            assert!(Instant::now() < end, "nobody leads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One that runs and does not lead.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (0..self.0.len())
            .find(|&at| at != leader && self.0[at].manager.is_some())
            .expect("there is a follower")
    }
}

/// Logs of a failing test, with `RUST_LOG` set.
fn logging() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// What `node ls` shows of a manager: whether it leads, and whether it can be reached.
pub fn status(control: &Control, id: &str) -> Option<(bool, bool)> {
    let status = control.node(id).ok()?.manager_status.clone()?;
    Some((status.leader, status.reachability() == Reachability::Reachable))
}

pub async fn set_role(control: &Control, id: &str, role: NodeRole) -> Result<(), weft_manager::ControlError> {
    control.barrier().await?;
    let node: Arc<Node> = control.node(id)?;
    let version = node.meta.as_ref().unwrap().version.unwrap().index;
    let spec = NodeSpec { desired_role: role.into(), ..node.spec.clone().unwrap() };
    control.update_node(id, version, spec).await.map(drop)
}
