//! `network …`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::connection::{Call, Daemon, escape};
use super::error::{ClientError, Outcome};
use super::list::{ListFlags, Listing, labels};
use super::prune::{self, Prune};
use super::system::{for_each, text};
use super::{inspect, table};

const LISTING: Listing = Listing {
    titles: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create a network
    Create(Create),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    /// Show networks as JSON
    Inspect {
        #[arg(required = true)]
        networks: Vec<String>,
        /// Also show what the swarm knows of services and peers
        #[arg(short, long)]
        verbose: bool,
        #[command(flatten)]
        shown: inspect::Shown,
    },
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true)]
        networks: Vec<String>,
        /// A network that is not there is no mistake
        #[arg(short, long)]
        force: bool,
    },
    /// Connect a container to a network
    Connect(Connect),
    /// Disconnect a container from a network
    Disconnect {
        network: String,
        container: String,
        /// Also when the container is not to be found
        #[arg(short, long)]
        force: bool,
    },
    /// Remove all networks that no container uses
    Prune(Prune),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    name: String,
    /// Driver: bridge, overlay, macvlan or ipvlan
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// Subnet in CIDR form (repeatable)
    #[arg(long)]
    subnet: Vec<String>,
    /// Gateway of the subnet (repeatable)
    #[arg(long)]
    gateway: Vec<String>,
    /// Part of the subnet from which containers get addresses (repeatable)
    #[arg(long)]
    ip_range: Vec<String>,
    /// Address that is used elsewhere, name=address (repeatable)
    #[arg(long)]
    aux_address: Vec<String>,
    /// Also give IPv6 addresses
    #[arg(long)]
    ipv6: bool,
    /// No way out of this network
    #[arg(long)]
    internal: bool,
    /// Single containers may use this swarm network
    #[arg(long)]
    attachable: bool,
    /// The network of the routing mesh
    #[arg(long)]
    ingress: bool,
    /// Label key=value (repeatable)
    #[arg(long)]
    label: Vec<String>,
    /// Option of the driver key=value (repeatable)
    #[arg(short, long)]
    opt: Vec<String>,
    /// Driver of addresses
    #[arg(long, default_value = "default")]
    ipam_driver: String,
    /// Option of that driver key=value (repeatable)
    #[arg(long)]
    ipam_opt: Vec<String>,
    /// local or swarm
    #[arg(long, default_value = "")]
    scope: String,
    /// No network, but settings for others
    #[arg(long)]
    config_only: bool,
    /// With the settings of such a one
    #[arg(long, value_name = "network")]
    config_from: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Connect {
    network: String,
    container: String,
    /// IPv4 address
    #[arg(long)]
    ip: Option<String>,
    /// IPv6 address
    #[arg(long)]
    ip6: Option<String>,
    /// Further name on this network (repeatable)
    #[arg(long)]
    alias: Vec<String>,
    /// Another container under a further name, CONTAINER or CONTAINER:ALIAS (repeatable)
    #[arg(long)]
    link: Vec<String>,
    /// Option of the driver key=value (repeatable)
    #[arg(long)]
    driver_opt: Vec<String>,
    /// Of the container's networks the one with the highest is the way out
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    gw_priority: i64,
}

pub(super) async fn execute(daemon: &Daemon, verb: Verb) -> Outcome {
    match verb {
        Verb::Create(create) => self::create(daemon, create).await,
        Verb::Ls(flags) => list(daemon, &flags).await,
        Verb::Inspect { networks, verbose, shown } => {
            let suffix = if verbose { "?verbose=true" } else { "" };
            inspect::all(daemon, "/networks/", suffix, &networks, &shown).await
        }
        Verb::Rm { mut networks, force } => {
            if force {
                networks = there(daemon, networks).await?;
            }
            for_each(daemon, &networks, |n| Call::delete(format!("/networks/{n}"))).await
        }
        Verb::Connect(connect) => self::connect(daemon, connect).await,
        Verb::Disconnect { network, container, force } => {
            let body = json!({"Container": container, "Force": force});
            daemon
                .json(Call::post(format!("/networks/{}/disconnect", escape(&network))).json_body(&body))
                .await?;
            Ok(0)
        }
        Verb::Prune(prune) => prune::networks(daemon, &prune).await,
    }
}

/// Those that the daemon knows.
async fn there(daemon: &Daemon, networks: Vec<String>) -> Result<Vec<String>, ClientError> {
    let mut known = Vec::new();
    for network in networks {
        match daemon.json(Call::get(format!("/networks/{}", escape(&network)))).await {
            Err(ClientError::Daemon { status: 404, .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => known.push(network),
        }
    }
    Ok(known)
}

async fn create(daemon: &Daemon, create: Create) -> Outcome {
    let body = json!({
        "Name": create.name,
        "Driver": create.driver,
        "Scope": create.scope,
        "EnableIPv6": create.ipv6,
        "Internal": create.internal,
        "Attachable": create.attachable,
        "Ingress": create.ingress,
        "ConfigOnly": create.config_only,
        "ConfigFrom": create.config_from.as_ref().map(|from| json!({"Network": from})),
        "IPAM": {"Driver": create.ipam_driver, "Options": pairs(&create.ipam_opt), "Config": ipam_config(&create)?},
        "Options": pairs(&create.opt),
        "Labels": pairs(&create.label),
    });
    let answer = daemon.json(Call::post("/networks/create").json_body(&body)).await?;
    if let Some(warning) = answer["Warning"].as_str().filter(|w| !w.is_empty()) {
        eprintln!("WARNING: {warning}");
    }
    println!("{}", text(&answer["Id"]));
    Ok(0)
}

/// Gives each gateway, range and auxiliary address to the subnet that contains it.
fn ipam_config(create: &Create) -> Result<Vec<Value>, ClientError> {
    let bad = |what: &str| ClientError::Usage(what.to_owned());
    let mut configs = Vec::new();
    for subnet in &create.subnet {
        let net: ipnet::IpNet = subnet
            .parse()
            .map_err(|_| bad(&format!("invalid subnet {subnet}: want CIDR form, for example 10.0.9.0/24")))?;
        configs.push((net, Map::from_iter([("Subnet".to_owned(), json!(subnet))])));
    }
    let home = |configs: &mut Vec<(ipnet::IpNet, Map<String, Value>)>,
                what: &str,
                text: &str,
                ip: std::net::IpAddr| {
        configs
            .iter()
            .position(|(net, _)| net.contains(&ip))
            .ok_or_else(|| bad(&format!("no matching subnet for {what} {text}")))
    };
    for gateway in &create.gateway {
        let ip = gateway.parse().map_err(|_| bad(&format!("invalid gateway address: {gateway}")))?;
        let i = home(&mut configs, "gateway", gateway, ip)?;
        configs[i].1.insert("Gateway".into(), json!(gateway));
    }
    for range in &create.ip_range {
        let net: ipnet::IpNet = range.parse().map_err(|_| bad(&format!("invalid ip-range: {range}")))?;
        let i = home(&mut configs, "range", range, net.addr())?;
        configs[i].1.insert("IPRange".into(), json!(range));
    }
    for aux in &create.aux_address {
        let (name, address) = aux
            .split_once('=')
            .ok_or_else(|| bad(&format!("invalid aux-address {aux}: want name=address")))?;
        let ip = address.parse().map_err(|_| bad(&format!("invalid aux-address: {address}")))?;
        let i = home(&mut configs, "aux-address", address, ip)?;
        configs[i].1.entry("AuxiliaryAddresses").or_insert_with(|| json!({}))[name] = json!(address);
    }
    Ok(configs.into_iter().map(|(_, config)| Value::Object(config)).collect())
}

/// `key=value` words as an object; a word without `=` has an empty value.
pub(super) fn pairs(words: &[String]) -> Value {
    let pair = |word: &String| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        (key.to_owned(), json!(value))
    };
    Value::Object(words.iter().map(pair).collect())
}

async fn list(daemon: &Daemon, flags: &ListFlags) -> Outcome {
    let networks = daemon.json(Call::get("/networks").filters(&flags.filter)?).await?;
    let mut rows: Vec<Value> =
        networks.as_array().into_iter().flatten().map(|network| row(network, flags.no_trunc)).collect();
    rows.sort_by_key(|row| text(&row["Name"]));
    LISTING.print(&flags.shown, &rows)
}

fn row(network: &Value, no_trunc: bool) -> Value {
    let id = text(&network["Id"]);
    let is = |key: &str| network[key].as_bool().unwrap_or_default().to_string();
    json!({
        "ID": if no_trunc { id } else { table::short(&id) },
        "Name": text(&network["Name"]), "Driver": text(&network["Driver"]), "Scope": text(&network["Scope"]),
        "IPv4": network["EnableIPv4"].as_bool().unwrap_or(true).to_string(), "IPv6": is("EnableIPv6"),
        "Internal": is("Internal"), "Labels": labels(&network["Labels"]), "CreatedAt": text(&network["Created"]),
    })
}

async fn connect(daemon: &Daemon, connect: Connect) -> Outcome {
    let body = json!({
        "Container": connect.container,
        "EndpointConfig": {
            "IPAMConfig": {"IPv4Address": connect.ip.unwrap_or_default(), "IPv6Address": connect.ip6.unwrap_or_default()},
            "Aliases": connect.alias,
            "Links": connect.link,
            "DriverOpts": pairs(&connect.driver_opt),
            "GwPriority": connect.gw_priority,
        },
    });
    daemon
        .json(Call::post(format!("/networks/{}/connect", escape(&connect.network))).json_body(&body))
        .await?;
    Ok(0)
}
