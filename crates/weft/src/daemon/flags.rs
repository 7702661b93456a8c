//! dockerd's command line, as far as it matters to Weft.

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser};

/// Weft's daemon: containers, networks and swarm of this host behind the Docker Engine API.
#[derive(Debug, Parser)]
#[command(name = "weftd", version, about, disable_help_subcommand = true)]
pub(super) struct Flags {
    /// Where to listen: unix:///path, tcp://address:port, or fd:// for the sockets of systemd (repeatable)
    #[arg(short = 'H', long = "host", value_name = "list")]
    pub(super) hosts: Vec<String>,

    /// Daemon configuration file
    #[arg(long, value_name = "file")]
    pub(super) config_file: Option<PathBuf>,

    /// Check flags and configuration file, and end
    #[arg(long)]
    pub(super) validate: bool,

    #[command(flatten)]
    pub(super) settings: Settings,
}

/// What may stand on the command line or, under the same name, in `daemon.json`; never in both.
#[derive(Debug, Default, Clone, Args)]
pub(super) struct Settings {
    /// Root directory of persistent state
    #[arg(long, value_name = "dir")]
    pub(super) data_root: Option<PathBuf>,

    /// Root directory of state that a reboot may lose
    #[arg(long, value_name = "dir")]
    pub(super) exec_root: Option<PathBuf>,

    /// Path of the daemon's PID file
    #[arg(short = 'p', long, value_name = "file")]
    pub(super) pidfile: Option<PathBuf>,

    /// Log at level debug
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "bool")]
    pub(super) debug: Option<bool>,

    /// Logging level: debug, info, warn, error or fatal
    #[arg(short = 'l', long, value_name = "level")]
    pub(super) log_level: Option<String>,

    /// Logging format: text or json
    #[arg(long, value_name = "format")]
    pub(super) log_format: Option<String>,

    /// Keep containers running while the daemon is away
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "bool")]
    pub(super) live_restore: Option<bool>,

    /// Storage driver: only overlay2
    #[arg(short = 's', long, value_name = "driver")]
    pub(super) storage_driver: Option<String>,

    /// Pool for networks of this host: base=CIDR,size=N (repeatable)
    #[arg(long = "default-address-pool", value_name = "pool-options")]
    pub(super) default_address_pools: Vec<String>,

    /// Address and prefix of the default bridge
    #[arg(long, value_name = "cidr")]
    pub(super) bip: Option<String>,

    /// MTU of containers on the default bridge
    #[arg(long, value_name = "bytes")]
    pub(super) mtu: Option<u32>,

    /// DNS server to use (repeatable)
    #[arg(long, value_name = "address")]
    pub(super) dns: Vec<String>,

    /// DNS search domain to use (repeatable)
    #[arg(long, value_name = "domain")]
    pub(super) dns_search: Vec<String>,

    /// DNS option to use (repeatable)
    #[arg(long = "dns-opt", value_name = "option")]
    pub(super) dns_opts: Vec<String>,

    /// Registry that may be used without verified TLS, host:port or CIDR (repeatable)
    #[arg(long = "insecure-registry", value_name = "list")]
    pub(super) insecure_registries: Vec<String>,

    /// Time between two rotations of the swarm's network keys while this node leads it, for example 30s or 12h
    #[arg(long, value_name = "period")]
    pub(super) weft_key_rotation: Option<String>,

    /// How long nodes that do not answer hold up a service's task of this node that begins or ends, for example 5s;
    /// a service may have its own in its label weft.drain.timeout
    #[arg(long, value_name = "duration")]
    pub(super) weft_drain_timeout: Option<String>,

    /// What carries connections to services' virtual IPs: auto, nftables, ipvs or bpf
    #[arg(long, value_name = "engine")]
    pub(super) weft_service_balancer: Option<String>,

    /// What carries overlay networks' frames: auto, bpf or bridge
    #[arg(long, value_name = "engine")]
    pub(super) overlay_engine: Option<String>,

    /// What the data path's interface is tuned for: default, or bulk, which shares its packets among all processors
    /// (one stream gets faster; connections and answers slower)
    #[arg(long, value_name = "profile")]
    pub(super) weft_profile: Option<String>,

    /// UDP port of encrypted networks, the same on all nodes; 0: this node takes no part in them
    #[arg(long, value_name = "port")]
    pub(super) weft_encryption_port: Option<u16>,

    /// What encrypts networks: auto, kernel or userspace
    #[arg(long, value_name = "engine")]
    pub(super) weft_encryption_engine: Option<String>,

    /// Where to serve Docker's plugin protocol, so that a dockerd of this host has networks of the driver weft, mostly
    /// /run/docker/plugins/weft.sock; nowhere unless given
    #[arg(long, value_name = "path")]
    pub(super) weft_docker_plugin: Option<PathBuf>,

    /// Address and port to serve metrics at, in the clear to whoever reaches it, for example 127.0.0.1:9323
    #[arg(long, value_name = "address")]
    pub(super) metrics_addr: Option<String>,

    /// Key-value store that all hosts share: consul://host:port[,host:port][/prefix] or etcd://...; not with swarm mode
    #[arg(long, value_name = "url")]
    pub(super) cluster_store: Option<String>,

    /// Where other hosts of the key-value store find this one, address:port or interface:port; no port is opened
    #[arg(long, value_name = "address")]
    pub(super) cluster_advertise: Option<String>,

    /// Option of the key-value store, key=value (repeatable): kv.cacertfile, kv.certfile, kv.keyfile, kv.path,
    /// discovery.heartbeat, discovery.ttl
    #[arg(long = "cluster-store-opt", value_name = "key=value")]
    pub(super) cluster_store_opts: Vec<String>,

    /// Label of the daemon, key=value (repeatable)
    #[arg(long = "label", value_name = "key=value")]
    pub(super) labels: Vec<String>,

    /// Group that owns the unix socket
    #[arg(short = 'G', long, value_name = "group")]
    pub(super) group: Option<String>,

    /// Use TLS on TCP addresses and verify clients, unless --tlsverify=false; implied by --tlsverify
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "bool")]
    pub(super) tls: Option<bool>,

    /// Use TLS and verify the client
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "bool")]
    pub(super) tlsverify: Option<bool>,

    /// Trust client certificates signed by this CA; ~/.docker/ca.pem unless given
    #[arg(long, value_name = "file")]
    pub(super) tlscacert: Option<PathBuf>,

    /// The daemon's TLS certificate; ~/.docker/cert.pem unless given
    #[arg(long, value_name = "file")]
    pub(super) tlscert: Option<PathBuf>,

    /// The daemon's TLS key; ~/.docker/key.pem unless given
    #[arg(long, value_name = "file")]
    pub(super) tlskey: Option<PathBuf>,
}

/// The grammar, for whoever wants to describe it.
pub(super) fn grammar() -> clap::Command {
    Flags::command()
}

/// Parses the command line; on error or `--help` clap's error says what to print and how to exit.
pub(super) fn parse(args: impl IntoIterator<Item = String>) -> Result<Flags, clap::Error> {
    let matches = Flags::command().try_get_matches_from(args).map_err(with_hint)?;
    Flags::from_arg_matches(&matches)
}

/// dockerd has many more flags: say so, instead of leaving the user to guess whether it was misspelt.
fn with_hint(error: clap::Error) -> clap::Error {
    if error.kind() != clap::error::ErrorKind::UnknownArgument {
        return error;
    }
    let unknown =
        error.get(clap::error::ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    let mut text = format!("unknown flag: {unknown}");
    if let Some(near) = error.get(clap::error::ContextKind::SuggestedArg) {
        text.push_str(&format!(" (did you mean {near}?)"));
    }
    text.push_str(
        "\n\nweftd takes the flags of dockerd that matter to it, not all of them.\n\
         Leave this one out, or see 'weftd --help' for those it knows.\n",
    );
    Flags::command().error(clap::error::ErrorKind::UnknownArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<String> {
        std::iter::once("weftd").chain(words.iter().copied()).map(str::to_owned).collect()
    }

    #[test]
    fn takes_what_docker_hosts_gives_dockerd() {
        let flags = parse(args(&[
            "--data-root",
            "/d",
            "-H",
            "unix:///d/docker.sock",
            "-p",
            "/d/pid",
            "--storage-driver",
            "overlay2",
        ]))
        .unwrap();
        assert_eq!(flags.hosts, ["unix:///d/docker.sock"]);
        assert_eq!(flags.settings.pidfile.as_deref(), Some("/d/pid".as_ref()));
        assert_eq!(flags.settings.debug, None, "an absent switch must not override daemon.json");
        let flags = parse(args(&["-D", "--tlsverify=false", "--tls"])).unwrap().settings;
        assert_eq!((flags.debug, flags.tlsverify, flags.tls), (Some(true), Some(false), Some(true)));
    }

    #[test]
    fn an_unknown_flag_is_refused_with_a_hint() {
        let text = parse(args(&["--userland-proxy=false"])).unwrap_err().to_string();
        assert!(text.contains("unknown flag: --userland-proxy"), "{text}");
        assert!(text.contains("weftd --help"), "{text}");
        let near = parse(args(&["--live-restor"])).unwrap_err().to_string();
        assert!(near.contains("did you mean --live-restore?"), "{near}");
    }
}
