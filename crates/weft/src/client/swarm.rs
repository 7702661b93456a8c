//! `swarm …` and `node …`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::connection::{Call, Daemon, escape};
use super::error::{ClientError, Outcome};
use super::list::{self, Listing};
use super::system::{for_each, print_all, text};
use super::{inspect, node, node_pretty, tasks};

const NODES: Listing = Listing {
    titles: &[
        ("ID", "ID"),
        ("Self", "SELF"),
        ("Hostname", "HOSTNAME"),
        ("Status", "STATUS"),
        ("Availability", "AVAILABILITY"),
        ("ManagerStatus", "MANAGER STATUS"),
        ("EngineVersion", "ENGINE VERSION"),
    ],
    table: "{{.ID}}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}\t{{.EngineVersion}}",
    quiet: "{{.ID}}",
};

#[derive(Debug, Subcommand)]
pub(super) enum SwarmVerb {
    /// Start a swarm with this node as its manager
    Init(Init),
    /// Join a swarm as worker
    Join(Join),
    /// Show the command with which other nodes join
    JoinToken {
        role: Role,
        /// Only the token
        #[arg(short, long)]
        quiet: bool,
        /// Make a new token; the old one no longer joins
        #[arg(long)]
        rotate: bool,
    },
    /// Take the keys of gossip and of encrypted networks one step on; after three no old one is left
    RotateKeys,
    /// Leave the swarm
    Leave {
        /// Also when this ends the swarm
        #[arg(short, long)]
        force: bool,
    },
    /// Show the swarm as JSON
    Inspect,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Role {
    Worker,
    Manager,
}

#[derive(Debug, Args)]
struct Addresses {
    /// Address that other nodes use: ip, ip:port or interface
    #[arg(long, default_value = "")]
    advertise_addr: String,
    /// Address to listen at: ip:port
    #[arg(long, default_value = "0.0.0.0:2377")]
    listen_addr: String,
    /// Address or interface of data traffic
    #[arg(long, visible_alias = "datapath-addr", default_value = "")]
    data_path_addr: String,
    /// active, pause or drain
    #[arg(long, default_value = "active")]
    availability: String,
}

#[derive(Debug, Args)]
pub(super) struct Init {
    #[command(flatten)]
    addresses: Addresses,
    /// UDP port of data traffic in this swarm, 1024 to 49151
    #[arg(long, default_value_t = 0)]
    data_path_port: u32,
    /// Pool from which overlay networks take their subnets, CIDR (repeatable)
    #[arg(long)]
    default_addr_pool: Vec<String>,
    /// Prefix length of each of these subnets
    #[arg(long, default_value_t = 24)]
    default_addr_pool_mask_length: u32,
    /// Start anew from this node's state
    #[arg(long)]
    force_new_cluster: bool,
    /// Need a key to unlock managers after a restart
    #[arg(long)]
    autolock: bool,
}

#[derive(Debug, Args)]
pub(super) struct Join {
    #[command(flatten)]
    addresses: Addresses,
    /// Join token
    #[arg(long)]
    token: String,
    /// A manager: host or host:port
    manager: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum NodeVerb {
    /// List nodes
    #[command(visible_alias = "list")]
    Ls {
        #[arg(short, long, value_name = "filter")]
        filter: Vec<String>,
        #[command(flatten)]
        shown: list::Shown,
    },
    /// Show nodes as JSON
    Inspect {
        #[arg(required = true)]
        nodes: Vec<String>,
        /// In a form for people
        #[arg(long)]
        pretty: bool,
        #[command(flatten)]
        shown: inspect::Shown,
    },
    /// Remove nodes from the swarm
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Also a node that is up
        #[arg(short, long)]
        force: bool,
    },
    /// Change a node
    Update(node::Update),
    /// Make nodes managers
    Promote {
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Make managers workers
    Demote {
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// List the tasks of nodes
    Ps {
        #[arg(default_value = "self")]
        nodes: Vec<String>,
        #[arg(short, long, value_name = "filter")]
        filter: Vec<String>,
        /// Whole ids and errors
        #[arg(long)]
        no_trunc: bool,
        #[command(flatten)]
        shown: list::Shown,
    },
}

/// SwarmKit's port, added to a manager's address without one.
const MANAGER_PORT: u16 = 2377;

pub(super) async fn execute_swarm(daemon: &Daemon, verb: SwarmVerb) -> Outcome {
    match verb {
        SwarmVerb::Init(init) => self::init(daemon, init).await,
        SwarmVerb::Join(join) => self::join(daemon, join).await,
        SwarmVerb::JoinToken { role, quiet, rotate } => join_token(daemon, role, quiet, rotate).await,
        SwarmVerb::RotateKeys => {
            rotate_secret(daemon, "rotateNetworkKeys").await?;
            println!("Keys rotated.");
            Ok(0)
        }
        SwarmVerb::Leave { force } => {
            daemon.json(Call::post("/swarm/leave").query_if(force, "force", 1)).await?;
            println!("Node left the swarm.");
            Ok(0)
        }
        SwarmVerb::Inspect => {
            println!("{}", serde_json::to_string_pretty(&daemon.json(Call::get("/swarm")).await?)?);
            Ok(0)
        }
    }
}

async fn init(daemon: &Daemon, init: Init) -> Outcome {
    let body = json!({
        "ListenAddr": init.addresses.listen_addr,
        "AdvertiseAddr": init.addresses.advertise_addr,
        "DataPathAddr": init.addresses.data_path_addr,
        "DataPathPort": init.data_path_port,
        "DefaultAddrPool": if init.default_addr_pool.is_empty() { Value::Null } else { json!(init.default_addr_pool) },
        "SubnetSize": init.default_addr_pool_mask_length,
        "ForceNewCluster": init.force_new_cluster,
        "AutoLockManagers": init.autolock,
        "Availability": init.addresses.availability,
        "Spec": {"EncryptionConfig": {"AutoLockManagers": init.autolock}},
    });
    let node = daemon.json(Call::post("/swarm/init").json_body(&body)).await?;
    println!("Swarm initialized: current node ({}) is now a manager.\n", text(&node));
    print_join_command(daemon, Role::Worker).await?;
    println!(
        "To add a manager to this swarm, run 'weft swarm join-token manager' and follow the instructions.\n"
    );
    Ok(0)
}

async fn join(daemon: &Daemon, join: Join) -> Outcome {
    let manager = with_port(&join.manager);
    let body = json!({
        "ListenAddr": join.addresses.listen_addr,
        "AdvertiseAddr": join.addresses.advertise_addr,
        "DataPathAddr": join.addresses.data_path_addr,
        "RemoteAddrs": [manager],
        "JoinToken": join.token,
        "Availability": join.addresses.availability,
    });
    daemon.json(Call::post("/swarm/join").json_body(&body)).await?;
    let info = daemon.json(Call::get("/info")).await?;
    let role = if info["Swarm"]["ControlAvailable"] == true { "manager" } else { "worker" };
    println!("This node joined a swarm as a {role}.");
    Ok(0)
}

/// An address without a port gets SwarmKit's.
fn with_port(manager: &str) -> String {
    let bare_v6 = manager.parse::<std::net::Ipv6Addr>().is_ok();
    let has_port = manager.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match (bare_v6, has_port) {
        (true, _) => format!("[{manager}]:{MANAGER_PORT}"),
        (false, false) => format!("{manager}:{MANAGER_PORT}"),
        (false, true) => manager.to_owned(),
    }
}

async fn join_token(daemon: &Daemon, role: Role, quiet: bool, rotate: bool) -> Outcome {
    if rotate {
        let which = match role {
            Role::Worker => "rotateWorkerToken",
            Role::Manager => "rotateManagerToken",
        };
        rotate_secret(daemon, which).await?;
    }
    if quiet {
        println!("{}", token(daemon, role).await?);
    } else {
        print_join_command(daemon, role).await?;
    }
    Ok(0)
}

/// Makes a secret of the swarm anew.
async fn rotate_secret(daemon: &Daemon, which: &'static str) -> Result<(), ClientError> {
    let swarm = daemon.json(Call::get("/swarm")).await?;
    let call = Call::post("/swarm/update").query("version", &swarm["Version"]["Index"]).query(which, true);
    daemon.json(call.json_body(&swarm["Spec"])).await.map(drop)
}

async fn token(daemon: &Daemon, role: Role) -> Result<String, ClientError> {
    let swarm = daemon.json(Call::get("/swarm")).await?;
    Ok(match role {
        Role::Worker => text(&swarm["JoinTokens"]["Worker"]),
        Role::Manager => text(&swarm["JoinTokens"]["Manager"]),
    })
}

async fn print_join_command(daemon: &Daemon, role: Role) -> Result<(), ClientError> {
    let info = daemon.json(Call::get("/info")).await?;
    let node = daemon.json(Call::get(format!("/nodes/{}", text(&info["Swarm"]["NodeID"])))).await?;
    let role_name = match role {
        Role::Worker => "worker",
        Role::Manager => "manager",
    };
    println!("To add a {role_name} to this swarm, run the following command:\n");
    println!(
        "    weft swarm join --token {} {}\n",
        token(daemon, role).await?,
        text(&node["ManagerStatus"]["Addr"])
    );
    Ok(())
}

pub(super) async fn execute_node(daemon: &Daemon, verb: NodeVerb) -> Outcome {
    match verb {
        NodeVerb::Ls { filter, shown } => list_nodes(daemon, &filter, &shown).await,
        NodeVerb::Inspect { nodes, pretty, shown } => {
            let nodes = with_self(daemon, nodes).await?;
            match pretty {
                true => {
                    let call = |node: &str| Call::get(format!("/nodes/{node}"));
                    print_all(daemon, &nodes, call, node_pretty::pretty).await
                }
                false => inspect::all(daemon, "/nodes/", "", &nodes, &shown).await,
            }
        }
        NodeVerb::Rm { nodes, force } => {
            for_each(daemon, &nodes, |n| Call::delete(format!("/nodes/{n}")).query_if(force, "force", 1))
                .await
        }
        NodeVerb::Update(update) => node::update(daemon, &update).await,
        NodeVerb::Promote { nodes } => node::set_role(daemon, &nodes, "manager").await,
        NodeVerb::Demote { nodes } => node::set_role(daemon, &nodes, "worker").await,
        NodeVerb::Ps { nodes, filter, no_trunc, shown } => {
            let nodes = with_self(daemon, nodes).await?;
            let filter: Vec<String> = nodes.iter().map(|n| format!("node={n}")).chain(filter).collect();
            tasks::list(daemon, &filter, no_trunc, &shown).await
        }
    }
}

/// Replaces `self` by the id of the daemon's own node.
async fn with_self(daemon: &Daemon, nodes: Vec<String>) -> Result<Vec<String>, ClientError> {
    if !nodes.iter().any(|n| n == "self") {
        return Ok(nodes);
    }
    let own = text(&daemon.json(Call::get("/info")).await?["Swarm"]["NodeID"]);
    Ok(nodes.into_iter().map(|n| if n == "self" { escape(&own) } else { n }).collect())
}

async fn list_nodes(daemon: &Daemon, filter: &[String], shown: &list::Shown) -> Outcome {
    let nodes = daemon.json(Call::get("/nodes").filters(filter)?).await?;
    let own = text(&daemon.json(Call::get("/info")).await?["Swarm"]["NodeID"]);
    let marked = !shown.quiet && shown.format.as_deref().is_none_or(|format| format.starts_with("table"));
    let mut rows: Vec<Value> =
        nodes.as_array().into_iter().flatten().map(|node| node_row(node, &own, marked)).collect();
    rows.sort_by_key(|row| text(&row["Hostname"]));
    NODES.print(shown, &rows)
}

fn node_row(node: &Value, own: &str, marked: bool) -> Value {
    let id = text(&node["ID"]);
    let is_own = id == own;
    let mark = if is_own && marked { " *" } else { "" };
    let manager = &node["ManagerStatus"];
    let status = if manager["Leader"] == true {
        "Leader".to_owned()
    } else {
        capitalised(&text(&manager["Reachability"]))
    };
    json!({
        "ID": format!("{id}{mark}"),
        "Self": is_own,
        "Hostname": text(&node["Description"]["Hostname"]),
        "Status": capitalised(&text(&node["Status"]["State"])),
        "Availability": capitalised(&text(&node["Spec"]["Availability"])),
        "ManagerStatus": status,
        "EngineVersion": text(&node["Description"]["Engine"]["EngineVersion"]),
    })
}

pub(super) fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn a_manager_without_a_port_gets_swarmkits() {
        assert_eq!(with_port("10.0.0.1"), "10.0.0.1:2377");
        assert_eq!(with_port("10.0.0.1:99"), "10.0.0.1:99");
        assert_eq!(with_port("fd00::1"), "[fd00::1]:2377");
        assert_eq!(with_port("[fd00::1]:99"), "[fd00::1]:99");
        assert_eq!(with_port("host.example"), "host.example:2377");
    }
}
