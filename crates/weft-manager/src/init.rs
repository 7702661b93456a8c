//! The first transaction of a swarm: the cluster with its CA, tokens and keys; this node as its manager; ingress.

use std::net::SocketAddr;
use std::time::SystemTime;

use weft_identity::{CertificateError, NodeIdentity, NodeKey, NodeRole, RootCa};
use weft_orchestration::AddressPools;
use weft_types::{NodeId, SwarmId};
use weft_wire::swarmkit::node_spec::Membership;
use weft_wire::swarmkit::{
    self, Annotations, Cluster, ManagerStatus, Node, NodeSpec, NodeStatus, node_status,
    raft_member_status::Reachability,
};

use crate::authority::{issued, root_object, to_wire, validity_of};
use crate::autolock;
use crate::config::InitOptions;
use crate::control::{check_cluster_spec, cluster_defaults};
use crate::error::{ControlError, ManagerError, SpecProblem};
use crate::keys::first_keys;

/// Docker's range for the data-path port (moby daemon/cluster).
const DATA_PATH_PORTS: std::ops::RangeInclusive<u16> = 1024..=49151;
/// IANA's port of VXLAN (RFC 7348 section 5).
const VXLAN_PORT: u16 = 4789;
/// Docker's default.
const SUBNET_SIZE: u32 = 24;

/// The objects of a new swarm.
pub(crate) struct Genesis {
    pub(crate) cluster: Cluster,
    pub(crate) node: Node,
    pub(crate) identity: NodeIdentity,
}

/// Checks the options and makes the objects; nothing is stored.
pub(crate) fn genesis(options: InitOptions, advertise: SocketAddr) -> Result<Genesis, ManagerError> {
    let spec = cluster_defaults(options.spec);
    check_cluster_spec(&spec).map_err(|problem| match problem {
        SpecProblem::ClusterName => ManagerError::SpecName,
        other => ManagerError::Settings(Box::new(ControlError::InvalidSpec(other))),
    })?;
    check_pools(&options.default_addr_pool, options.subnet_size)?;
    let vxlan_port = match options.data_path_port {
        0 => VXLAN_PORT,
        port if DATA_PATH_PORTS.contains(&port) => port,
        port => return Err(ManagerError::DataPathPort(port.into())),
    };
    let mut rng = rand::rng();
    let swarm_id = SwarmId::random(&mut rng);
    let root = RootCa::generate(SystemTime::now()).map_err(ManagerError::Certificate)?;
    let (network_bootstrap_keys, encryption_key_lamport_clock) = first_keys(&mut rng);
    let unlock_keys = autolock::next_keys(&Cluster::default(), &spec, false);
    let cluster = Cluster {
        id: swarm_id.to_string(),
        spec: Some(spec),
        root_ca: Some(root_object(&root)),
        network_bootstrap_keys,
        encryption_key_lamport_clock,
        unlock_keys,
        default_address_pool: options.default_addr_pool.iter().map(ToString::to_string).collect(),
        subnet_size: if options.subnet_size == 0 { SUBNET_SIZE } else { options.subnet_size },
        vxlanudp_port: vxlan_port.into(),
        ..Default::default()
    };
    let (identity, certificate) =
        first_identity(&root, &swarm_id, &cluster).map_err(ManagerError::Certificate)?;
    let node = Node {
        id: identity.node_id.to_string(),
        spec: Some(NodeSpec {
            annotations: Some(Annotations::default()),
            desired_role: swarmkit::NodeRole::Manager.into(),
            membership: Membership::Accepted.into(),
            availability: options.availability.into(),
        }),
        description: Some(options.description),
        status: Some(NodeStatus {
            state: node_status::State::Ready.into(),
            addr: advertise.ip().to_string(),
            ..Default::default()
        }),
        certificate: Some(certificate),
        role: to_wire(NodeRole::Manager).into(),
        vxlanudp_port: vxlan_port.into(),
        ..Default::default()
    };
    Ok(Genesis { cluster, node, identity })
}

/// What the first node object says of its manager.
pub(crate) fn manager_status(advertise: SocketAddr, raft_id: u64) -> ManagerStatus {
    ManagerStatus {
        raft_id,
        addr: advertise.to_string(),
        leader: true,
        reachability: Reachability::Reachable.into(),
    }
}

fn check_pools(pools: &[ipnet::IpNet], subnet_size: u32) -> Result<(), ManagerError> {
    AddressPools::new(pools, subnet_size)?;
    for (at, pool) in pools.iter().enumerate() {
        if let Some(other) = pools[..at].iter().find(|other| other.contains(pool) || pool.contains(*other)) {
            return Err(ManagerError::PoolsOverlap(*other, *pool));
        }
    }
    Ok(())
}

fn first_identity(
    root: &RootCa,
    swarm: &SwarmId,
    cluster: &Cluster,
) -> Result<(NodeIdentity, swarmkit::Certificate), CertificateError> {
    let node = NodeId::random(&mut rand::rng());
    let key = NodeKey::generate()?;
    let csr = key.csr_pem()?;
    let leaf = root.issue(&csr, NodeRole::Manager, &node, swarm, SystemTime::now(), validity_of(cluster))?;
    let certificate = issued(&node, NodeRole::Manager, csr.into_bytes(), leaf.clone());
    let identity = NodeIdentity::from_pem(leaf, key.key_pem(), root.certificate_pem().to_owned())?;
    Ok((identity, certificate))
}
