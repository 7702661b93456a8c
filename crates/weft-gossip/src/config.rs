//! Settings of one gossip node.

use std::net::SocketAddr;
use std::time::Duration;

/// Who this node is and how it behaves. [`Config::docker`] is what every Docker node runs with; other values are for
/// tests, because all nodes of a cluster should agree.
#[derive(Debug, Clone)]
pub struct Config {
    /// Gossip endpoint that peers shall use. A node that restarts with its snapshot keeps it.
    pub advertise: SocketAddr,
    /// Largest UDP payload in bytes, encryption included. Docker: 1400, or control-plane MTU − 100.
    pub packet_limit: usize,
    /// Durations and counts of the failure detector and of gossip.
    pub timing: Timing,
}

impl Config {
    /// Docker's settings.
    pub fn docker(advertise: SocketAddr) -> Self {
        Self { advertise, packet_limit: 1400, timing: Timing::default() }
    }
}

/// Durations and counts; the defaults are memberlist's `DefaultLANConfig` and NetworkDB's constants.
#[derive(Debug, Clone)]
pub struct Timing {
    /// One member is probed per interval; grows with this node's own bad health.
    pub probe_interval: Duration,
    /// Wait for a direct answer before others are asked. Below `probe_interval`.
    pub probe_timeout: Duration,
    /// How many others are asked.
    pub indirect_checks: usize,
    /// Times log10 of the cluster's size and `probe_interval`: the least time to refute a suspicion.
    pub suspicion_multiplier: u32,
    /// Times the least time: the time to refute when nobody confirms.
    pub suspicion_max_multiplier: u32,
    /// Worst health: probing slows down up to this factor.
    pub awareness_max: u32,
    /// Between two rounds of gossip while there is news.
    pub gossip_interval: Duration,
    /// Receivers of a round.
    pub gossip_fanout: usize,
    /// Dead members are told so for this long, so that they can refute.
    pub gossip_to_dead: Duration,
    /// Times ceil(log10(n + 1)): how often each piece of news is sent.
    pub retransmit_multiplier: u32,
    /// Between exchanges of whole membership; stretched above 32 members.
    pub push_pull_interval: Duration,
    /// Between exchanges of tables.
    pub bulk_sync_interval: Duration,
    /// For a network's first exchange, after which relaying starts anyway.
    pub network_sync_wait: Duration,
    /// For a request on a stream.
    pub stream_timeout: Duration,
    /// Between attempts on failed members.
    pub reconnect_interval: Duration,
    /// Between attempts to find the cluster.
    pub join_interval: Duration,
    /// Between attempts on the given addresses when other members are known but none of these.
    pub rejoin_interval: Duration,
    /// Between searches for what can be forgotten.
    pub reap_interval: Duration,
    /// Deleted entries, and entries of failed members, are remembered this long.
    pub entry_lifetime: Duration,
    /// Left networks are remembered this much longer than deleted entries.
    pub network_grace: Duration,
    /// Failed and left members are remembered this long.
    pub member_lifetime: Duration,
    /// To spread the word that this node leaves.
    pub leave_wait: Duration,
    /// To spread the word that this node is gone.
    pub goodbye_wait: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            indirect_checks: 3,
            suspicion_multiplier: 4,
            suspicion_max_multiplier: 6,
            awareness_max: 8,
            gossip_interval: Duration::from_millis(200),
            gossip_fanout: 3,
            gossip_to_dead: Duration::from_secs(30),
            retransmit_multiplier: 4,
            push_pull_interval: Duration::from_secs(30),
            bulk_sync_interval: Duration::from_secs(30),
            network_sync_wait: Duration::from_secs(30),
            stream_timeout: Duration::from_secs(10),
            reconnect_interval: Duration::from_secs(1),
            join_interval: Duration::from_secs(1),
            rejoin_interval: Duration::from_secs(60),
            reap_interval: Duration::from_secs(5),
            entry_lifetime: Duration::from_secs(30 * 60),
            network_grace: Duration::from_secs(25),
            member_lifetime: Duration::from_secs(24 * 60 * 60),
            leave_wait: Duration::from_secs(5),
            goodbye_wait: Duration::from_secs(1),
        }
    }
}
