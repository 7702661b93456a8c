//! How an object says that it is Weft's.
//!
//! The marks live in the kernel beside the object, so they survive the daemon and need no file: a link has a group,
//! routes, rules, addresses and neighbours have a protocol number, nftables tables a name prefix.

/// Group number of Weft's links (`IFLA_GROUP`): the letters `weft` as a big-endian number, 2^31 not exceeded.
pub const LINK_GROUP: u32 = 0x7765_6674;

/// Protocol number of Weft's routes, rules, addresses and neighbours (`RTA_PROTOCOL`, `FRA_PROTOCOL`, `IFA_PROTO`,
/// `NDA_PROTOCOL`). Unassigned in iproute2's `rt_protos`.
pub const PROTOCOL: u8 = 119;

/// Number of Weft's security associations and policies (`reqid`): the letters `weft`, as those of links.
pub const XFRM_REQID: u32 = LINK_GROUP;

/// Every nftables table of Weft begins with this.
pub const TABLE_PREFIX: &str = "weft-";

/// The table whose chains Weft makes and whose rules are the user's (see [`crate::user_table`]): the one that begins
/// so and is never replaced or removed.
pub const USER_TABLE: &str = "weft-user";

/// The bit of packet and connection marks, in the host's namespace, of connections that enter by a published port. Only
/// this bit is set and asked for: the others belong to whoever else marks packets.
pub const INGRESS_BIT: u32 = 0x0800_0000;

/// The host's routing table for those packets: a number that nobody else is likely to use.
pub const INGRESS_TABLE: u32 = 0x7767_0001;
