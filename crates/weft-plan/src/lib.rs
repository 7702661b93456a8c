//! Desired kernel state of a namespace as values, and the difference to what is there.
//!
//! ```text
//! specs (overlay, bridge, sandbox, guard) --> NamespaceState --diff(Observed)--> Vec<Op> --> weft-kernel
//! ```
//!
//! Nothing here talks to a kernel. What the kernel calls objects (links, FDB entries, nftables tables) are plain
//! values; `diff` is total, ordered and idempotent: applying its operations to the observed state gives the desired
//! one, and the difference of equal states is empty.
//!
//! Invariant: what does not carry Weft's mark (link group, protocol number, table prefix; see [`mark`]) is never
//! changed or removed.

mod balance;
mod bridge;
mod connect;
mod diff;
mod fast_path;
#[cfg(test)]
mod golden;
mod guard;
mod ingress;
mod ipvs;
mod link;
pub mod mark;
pub mod model;
mod nft;
mod observed;
mod op;
mod overlay;
mod parent;
mod resolver;
mod route;
mod sandbox;
mod state;
mod sub_interface;

pub use balance::{BalanceEngine, BalancedService, Balancer, MAX_SLOTS};
pub use bridge::{BridgeEndpoint, BridgeNetwork, HostPlan, Published, user_table};
pub use connect::{
    ConnectChange, ConnectReach, ConnectTables, ConnectTarget, ConnectWish, MAX_NAMESPACES,
    MAX_SERVICE_SLOTS, MAX_SERVICES, ServiceKey, SlotsOf,
};
pub use diff::diff;
pub use fast_path::{FastPath, FastSegment, WayOut};
pub use guard::{EncryptedPath, VxlanGuard};
pub use ingress::{EntryNode, INGRESS_LINK, IngressBackend, IngressHost, IngressTask, MeshPort, TaskPort};
pub use ipvs::{Ipvs, IpvsScheduler, IpvsService, IpvsServiceId, IpvsTimeouts};
pub use link::{
    BridgeOptions, BridgePort, EncryptionEngine, Link, LinkKind, LinkName, LinkNameError, NamespaceRef,
    SourcePorts, VethPeer, Vxlan,
};
pub use nft::{
    Chain, Family, Hook, HookKind, Learnt, NftRule, NftSet, Table, TableId, change_elements_script,
    delete_table_script, set_table_script,
};
pub use observed::{Observed, Owner, SeenLink, SeenNeighbour};
pub use op::{LinkChange, Op};
pub use overlay::{Entries, LocalEndpoint, OverlayNetwork, RemoteEndpoint, Segment, port_name};
pub use parent::ParentLink;
pub use resolver::{RESOLVER_ADDRESS, ResolverHook, ResolverRedirect};
pub use route::{PolicyRule, Route, RouteTarget, RuleSelector};
pub use sandbox::{Sandbox, SandboxDevice, SandboxInterface};
pub use state::{Address, FdbEntry, FdbTarget, NamespaceState, Neighbour};
pub use sub_interface::{IpvlanFlag, IpvlanMode, MacvlanMode, Sharing, SubInterface, Vlan};
