//! Command line and `daemon.json` resolved into one typed configuration.
//!
//! Both carry the same keys. As with dockerd a key that is given in both is refused, and an unknown key is
//! refused by name; all mistakes are reported together.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use weft_network::{BalancerChoice, ENCRYPTION_PORT, EncryptionChoice};
use weft_types::{EndpointAddress, Mtu};

use super::flags::{Flags, Settings};
use super::key_value::{KeyValueOptions, RawOptions};

/// Where dockerd looks for its file; Weft reads its own next to it.
const DEFAULT_CONFIG_FILE: &str = "/etc/weft/daemon.json";
const DEFAULT_DATA_ROOT: &str = "/var/lib/weft";
const DEFAULT_EXEC_ROOT: &str = "/run/weft";
const DEFAULT_PIDFILE: &str = "/run/weft.pid";
/// In seconds: 30 days.
const MAX_KEY_ROTATION: u64 = 30 * 24 * 3600;
/// The managers wait no longer.
const MAX_DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_HOST: &str = "unix:///run/weft.sock";

/// Everything the daemon needs to know before it starts.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) hosts: Vec<Listen>,
    pub(super) data_root: PathBuf,
    pub(super) exec_root: PathBuf,
    pub(super) pidfile: PathBuf,
    pub(super) debug: bool,
    pub(super) log_level: tracing::Level,
    pub(super) log_json: bool,
    pub(super) live_restore: bool,
    pub(super) address_pools: Vec<AddressPool>,
    pub(super) bip: Option<EndpointAddress>,
    pub(super) mtu: Option<Mtu>,
    pub(super) dns: Vec<IpAddr>,
    pub(super) dns_search: Vec<String>,
    pub(super) dns_opts: Vec<String>,
    pub(super) insecure_registries: Vec<String>,
    /// Time between two rotations of the swarm's network keys, while this node leads it.
    pub(super) key_rotation: Option<Duration>,
    /// How long nodes that do not answer hold up a task that begins or ends.
    pub(super) drain_timeout: Option<Duration>,
    /// What carries connections to services' virtual IPs.
    pub(super) balancer: BalancerChoice,
    /// None: no part in encrypted networks.
    pub(super) encryption_port: Option<u16>,
    /// What encrypts networks.
    pub(super) encryption_engine: EncryptionChoice,
    /// Where metrics are to be had; none: nowhere.
    pub(super) metrics: Option<SocketAddr>,
    /// Where dockerd finds the network plugin; none: nowhere.
    pub(super) docker_plugin: Option<PathBuf>,
    /// The store of key-value mode; none: another mode.
    pub(super) key_value: Option<KeyValueOptions>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) group: Option<String>,
    pub(super) tls: Option<TlsFiles>,
}

/// One address the API is served at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listen {
    Unix(PathBuf),
    Tcp(String),
}

/// A pool from which networks of this host take their subnets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AddressPool {
    pub(super) base: IpNet,
    /// Prefix length of each subnet, in bits.
    pub(super) size: u8,
}

/// The files that TLS on a TCP address needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsFiles {
    pub(super) verify_client: bool,
    pub(super) ca: Option<PathBuf>,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// A configuration that cannot be used. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("read the configuration file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("unable to configure the daemon with file {path}: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("unable to configure the daemon with file {path}: {}", problems.join("; "))]
    File { path: PathBuf, problems: Vec<String> },
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
}

/// `daemon.json` with dockerd's keys.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    hosts: Option<Vec<String>>,
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    pidfile: Option<PathBuf>,
    debug: Option<bool>,
    log_level: Option<String>,
    log_format: Option<String>,
    live_restore: Option<bool>,
    storage_driver: Option<String>,
    default_address_pools: Option<Vec<FilePool>>,
    bip: Option<String>,
    mtu: Option<u32>,
    dns: Option<Vec<String>>,
    dns_search: Option<Vec<String>>,
    dns_opts: Option<Vec<String>>,
    insecure_registries: Option<Vec<String>>,
    weft_key_rotation: Option<String>,
    weft_drain_timeout: Option<String>,
    weft_service_balancer: Option<String>,
    weft_encryption_port: Option<u16>,
    weft_encryption_engine: Option<String>,
    weft_docker_plugin: Option<PathBuf>,
    metrics_addr: Option<String>,
    cluster_store: Option<String>,
    cluster_advertise: Option<String>,
    cluster_store_opts: Option<BTreeMap<String, String>>,
    labels: Option<Vec<String>>,
    group: Option<String>,
    tls: Option<bool>,
    tlsverify: Option<bool>,
    tlscacert: Option<PathBuf>,
    tlscert: Option<PathBuf>,
    tlskey: Option<PathBuf>,
}

/// The keys of [`File`], for the check against unknown ones.
const FILE_KEYS: &[&str] = &[
    "hosts",
    "data-root",
    "exec-root",
    "pidfile",
    "debug",
    "log-level",
    "log-format",
    "live-restore",
    "storage-driver",
    "default-address-pools",
    "bip",
    "mtu",
    "dns",
    "dns-search",
    "dns-opts",
    "insecure-registries",
    "weft-key-rotation",
    "weft-drain-timeout",
    "weft-service-balancer",
    "weft-encryption-port",
    "weft-encryption-engine",
    "weft-docker-plugin",
    "metrics-addr",
    "cluster-store",
    "cluster-advertise",
    "cluster-store-opts",
    "labels",
    "group",
    "tls",
    "tlsverify",
    "tlscacert",
    "tlscert",
    "tlskey",
];

#[derive(Debug, Clone, Deserialize)]
struct FilePool {
    base: String,
    size: u8,
}

/// Reads the file that the flags name (a missing default file is an empty one) and resolves both.
pub(super) fn load(flags: Flags) -> Result<Config, ConfigError> {
    let path = flags.config_file.clone().unwrap_or_else(|| DEFAULT_CONFIG_FILE.into());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && flags.config_file.is_none() => "{}".to_owned(),
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    resolve(flags, &path, &text)
}

fn resolve(flags: Flags, path: &Path, text: &str) -> Result<Config, ConfigError> {
    let file = parse_file(path, if text.trim().is_empty() { "{}" } else { text })?;
    let Flags { hosts, settings, .. } = flags;
    let conflicts = conflicts(&hosts, &settings, &file);
    if !conflicts.is_empty() {
        let problem = format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            conflicts.join(", ")
        );
        return Err(ConfigError::File { path: path.to_owned(), problems: vec![problem] });
    }
    Resolver::default().finish(merge(hosts, settings, file))
}

fn parse_file(path: &Path, text: &str) -> Result<File, ConfigError> {
    let json = |source| ConfigError::Json { path: path.to_owned(), source };
    let raw: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(json)?;
    let unknown: Vec<&str> = raw.keys().map(String::as_str).filter(|k| !FILE_KEYS.contains(k)).collect();
    if !unknown.is_empty() {
        let problem =
            format!("the following directives don't match any configuration option: {}", unknown.join(", "));
        return Err(ConfigError::File { path: path.to_owned(), problems: vec![problem] });
    }
    serde_json::from_value(raw.into()).map_err(json)
}

/// Names of the keys that are given on the command line and in the file.
fn conflicts(hosts: &[String], flags: &Settings, file: &File) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |name: &str, flag: String, file: Option<String>| {
        if let Some(file) = file {
            found.push(format!("{name}: (from flag: {flag}, from file: {file})"));
        }
    };
    macro_rules! check_all {
        (scalar: $($field:ident),*; list: $($flag:ident as $in_file:ident),*) => {
            $(if let Some(value) = &flags.$field {
                check(&stringify!($field).replace('_', "-"), format!("{value:?}"), file.$field.as_ref().map(|v| format!("{v:?}")));
            })*
            $(if !flags.$flag.is_empty() {
                check(&stringify!($in_file).replace('_', "-"), format!("{:?}", flags.$flag), file.$in_file.as_ref().map(|v| format!("{v:?}")));
            })*
        };
    }
    check_all!(
        scalar: data_root, exec_root, pidfile, debug, log_level, log_format, live_restore, storage_driver, bip, mtu,
            weft_key_rotation, weft_drain_timeout, weft_service_balancer, weft_encryption_port, weft_encryption_engine, weft_docker_plugin, metrics_addr, cluster_store, cluster_advertise, group, tls, tlsverify, tlscacert, tlscert, tlskey;
        list: default_address_pools as default_address_pools, dns as dns, dns_search as dns_search, dns_opts as dns_opts,
            insecure_registries as insecure_registries, cluster_store_opts as cluster_store_opts, labels as labels
    );
    if !hosts.is_empty() {
        check("hosts", format!("{hosts:?}"), file.hosts.as_ref().map(|v| format!("{v:?}")));
    }
    found
}

/// Both sources in one, still as text.
struct Merged {
    hosts: Vec<String>,
    settings: Settings,
}

fn merge(hosts: Vec<String>, flags: Settings, file: File) -> Merged {
    let list = |flag: Vec<String>, file: Option<Vec<String>>| {
        if flag.is_empty() { file.unwrap_or_default() } else { flag }
    };
    let pools = file
        .default_address_pools
        .map(|pools| pools.iter().map(|p| format!("base={},size={}", p.base, p.size)).collect());
    let store_opts = file
        .cluster_store_opts
        .map(|opts| opts.iter().map(|(key, value)| format!("{key}={value}")).collect());
    let settings = Settings {
        data_root: flags.data_root.or(file.data_root),
        exec_root: flags.exec_root.or(file.exec_root),
        pidfile: flags.pidfile.or(file.pidfile),
        debug: flags.debug.or(file.debug),
        log_level: flags.log_level.or(file.log_level),
        log_format: flags.log_format.or(file.log_format),
        live_restore: flags.live_restore.or(file.live_restore),
        storage_driver: flags.storage_driver.or(file.storage_driver),
        default_address_pools: list(flags.default_address_pools, pools),
        bip: flags.bip.or(file.bip),
        mtu: flags.mtu.or(file.mtu),
        dns: list(flags.dns, file.dns),
        dns_search: list(flags.dns_search, file.dns_search),
        dns_opts: list(flags.dns_opts, file.dns_opts),
        insecure_registries: list(flags.insecure_registries, file.insecure_registries),
        weft_key_rotation: flags.weft_key_rotation.or(file.weft_key_rotation),
        weft_drain_timeout: flags.weft_drain_timeout.or(file.weft_drain_timeout),
        weft_service_balancer: flags.weft_service_balancer.or(file.weft_service_balancer),
        weft_encryption_port: flags.weft_encryption_port.or(file.weft_encryption_port),
        weft_encryption_engine: flags.weft_encryption_engine.or(file.weft_encryption_engine),
        weft_docker_plugin: flags.weft_docker_plugin.or(file.weft_docker_plugin),
        metrics_addr: flags.metrics_addr.or(file.metrics_addr),
        cluster_store: flags.cluster_store.or(file.cluster_store),
        cluster_advertise: flags.cluster_advertise.or(file.cluster_advertise),
        cluster_store_opts: list(flags.cluster_store_opts, store_opts),
        labels: list(flags.labels, file.labels),
        group: flags.group.or(file.group),
        tls: flags.tls.or(file.tls),
        tlsverify: flags.tlsverify.or(file.tlsverify),
        tlscacert: flags.tlscacert.or(file.tlscacert),
        tlscert: flags.tlscert.or(file.tlscert),
        tlskey: flags.tlskey.or(file.tlskey),
    };
    Merged { hosts: list(hosts, file.hosts), settings }
}

/// Turns text into values and collects every mistake on the way.
#[derive(Default)]
struct Resolver {
    mistakes: Vec<String>,
}

impl Resolver {
    fn finish(mut self, merged: Merged) -> Result<Config, ConfigError> {
        let Merged { hosts, settings } = merged;
        let hosts = if hosts.is_empty() { vec![DEFAULT_HOST.to_owned()] } else { hosts };
        let hosts: Vec<Listen> = hosts.iter().filter_map(|h| self.listen(h)).collect();
        self.storage_driver(settings.storage_driver.as_deref());
        let tls = self.tls(&settings);
        let key_value = self.key_value(&settings);
        let config = Config {
            data_root: absolute(settings.data_root.unwrap_or_else(|| DEFAULT_DATA_ROOT.into())),
            exec_root: absolute(settings.exec_root.unwrap_or_else(|| DEFAULT_EXEC_ROOT.into())),
            pidfile: absolute(settings.pidfile.unwrap_or_else(|| DEFAULT_PIDFILE.into())),
            debug: settings.debug.unwrap_or(false),
            log_level: self.log_level(settings.log_level.as_deref()),
            log_json: self.log_format(settings.log_format.as_deref()),
            live_restore: settings.live_restore.unwrap_or(false),
            address_pools: settings.default_address_pools.iter().filter_map(|p| self.pool(p)).collect(),
            bip: settings.bip.and_then(|text| {
                self.parse("bip", &text, "an address with prefix, for example 172.20.0.1/16")
            }),
            mtu: settings
                .mtu
                .and_then(|mtu| Mtu::try_from(mtu).map_err(|e| self.mistakes.push(e.to_string())).ok()),
            dns: settings.dns.iter().filter_map(|text| self.parse("dns", text, "an IP address")).collect(),
            dns_search: settings.dns_search,
            dns_opts: settings.dns_opts,
            insecure_registries: settings.insecure_registries,
            key_rotation: settings.weft_key_rotation.and_then(|text| self.rotation(&text)),
            drain_timeout: settings.weft_drain_timeout.and_then(|text| self.drain_timeout(&text)),
            balancer: settings
                .weft_service_balancer
                .and_then(|text| self.parse("weft-service-balancer", &text, "auto, nftables or ipvs"))
                .unwrap_or_default(),
            encryption_port: match settings.weft_encryption_port {
                Some(port) => Some(port).filter(|port| *port != 0),
                None => Some(ENCRYPTION_PORT),
            },
            encryption_engine: settings
                .weft_encryption_engine
                .and_then(|text| self.parse("weft-encryption-engine", &text, "auto, kernel or userspace"))
                .unwrap_or_default(),
            docker_plugin: settings.weft_docker_plugin.map(absolute),
            metrics: settings.metrics_addr.and_then(|text| {
                self.parse("metrics-addr", &text, "an address with port, for example 127.0.0.1:9323")
            }),
            labels: settings.labels.iter().filter_map(|l| self.label(l)).collect(),
            group: settings.group,
            key_value,
            tls,
            hosts,
        };
        if self.mistakes.is_empty() { Ok(config) } else { Err(ConfigError::Values(self.mistakes)) }
    }

    fn parse<T: std::str::FromStr>(&mut self, key: &str, text: &str, want: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.mistakes.push(format!("{key}: {text:?} is not {want}"));
        }
        value
    }

    /// A period such as `30s`, `10m` or `12h`, of a second at least.
    fn rotation(&mut self, text: &str) -> Option<Duration> {
        let unit = |suffix: char| match suffix {
            's' => Some(1),
            'm' => Some(60),
            'h' => Some(3600),
            _ => None,
        };
        let seconds = text.chars().last().and_then(unit).and_then(|unit| {
            let count: u64 = text[..text.len() - 1].parse().ok()?;
            count.checked_mul(unit).filter(|seconds| (1..=MAX_KEY_ROTATION).contains(seconds))
        });
        if seconds.is_none() {
            self.mistakes.push(format!(
                "weft-key-rotation: {text:?} is no period such as 30s, 10m or 12h, of 30 days at most"
            ));
        }
        seconds.map(Duration::from_secs)
    }

    fn drain_timeout(&mut self, text: &str) -> Option<Duration> {
        let limit = weft_types::parse_duration(text).filter(|limit| *limit <= MAX_DRAIN_TIMEOUT);
        if limit.is_none() {
            self.mistakes.push(format!(
                "weft-drain-timeout: {text:?} is no duration such as 5s or 500ms, of a minute at most"
            ));
        }
        limit
    }

    fn listen(&mut self, host: &str) -> Option<Listen> {
        if let Some(path) = host.strip_prefix("unix://").filter(|p| !p.is_empty()) {
            return Some(Listen::Unix(absolute(path.into())));
        }
        if let Some(address) = host.strip_prefix("tcp://").filter(|a| a.contains(':')) {
            return Some(Listen::Tcp(address.to_owned()));
        }
        self.mistakes.push(format!("hosts: {host:?} is not unix:///path/to/socket or tcp://address:port"));
        None
    }

    fn storage_driver(&mut self, driver: Option<&str>) {
        if let Some(other) = driver.filter(|d| !matches!(*d, "overlay2" | "overlay" | "overlayfs")) {
            self.mistakes.push(format!(
                "storage-driver: {other:?} is not supported: Weft keeps images and containers on overlay2"
            ));
        }
    }

    fn log_level(&mut self, level: Option<&str>) -> tracing::Level {
        match level.unwrap_or("info") {
            "trace" => tracing::Level::TRACE,
            "debug" => tracing::Level::DEBUG,
            "info" => tracing::Level::INFO,
            "warn" | "warning" => tracing::Level::WARN,
            "error" | "fatal" | "panic" => tracing::Level::ERROR,
            other => {
                self.mistakes.push(format!("log-level: {other:?} is not debug, info, warn, error or fatal"));
                tracing::Level::INFO
            }
        }
    }

    fn log_format(&mut self, format: Option<&str>) -> bool {
        match format.unwrap_or("text") {
            "text" => false,
            "json" => true,
            other => {
                self.mistakes.push(format!("log-format: {other:?} is not text or json"));
                false
            }
        }
    }

    fn pool(&mut self, text: &str) -> Option<AddressPool> {
        let mut base = None;
        let mut size = None;
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("base", value)) => base = value.parse::<IpNet>().ok(),
                Some(("size", value)) => size = value.parse::<u8>().ok(),
                _ => {}
            }
        }
        match (base, size) {
            (Some(base), Some(size)) if size >= base.prefix_len() && size <= base.max_prefix_len() => {
                Some(AddressPool { base: base.trunc(), size })
            }
            _ => {
                self.mistakes.push(format!(
                    "default-address-pools: {text:?} is not base=CIDR,size=PREFIX with a size inside the base, for example base=10.10.0.0/16,size=24"
                ));
                None
            }
        }
    }

    fn label(&mut self, text: &str) -> Option<(String, String)> {
        match text.split_once('=').filter(|(key, _)| !key.is_empty()) {
            Some((key, value)) => Some((key.to_owned(), value.to_owned())),
            None => {
                self.mistakes.push(format!("bad attribute format: {text}"));
                None
            }
        }
    }

    fn key_value(&mut self, settings: &Settings) -> Option<KeyValueOptions> {
        let raw = RawOptions {
            store: settings.cluster_store.as_deref(),
            advertise: settings.cluster_advertise.as_deref(),
            options: &settings.cluster_store_opts,
        };
        KeyValueOptions::resolve(&raw).unwrap_or_else(|mistakes| {
            self.mistakes.extend(mistakes);
            None
        })
    }

    fn tls(&mut self, settings: &Settings) -> Option<TlsFiles> {
        let verify_client = settings.tlsverify.unwrap_or(false);
        if !verify_client && !settings.tls.unwrap_or(false) {
            return None;
        }
        let (Some(certificate), Some(key)) = (settings.tlscert.clone(), settings.tlskey.clone()) else {
            self.mistakes.push("tls: --tlscert and --tlskey are needed".to_owned());
            return None;
        };
        if verify_client && settings.tlscacert.is_none() {
            self.mistakes.push("tlsverify: --tlscacert is needed to verify clients".to_owned());
        }
        Some(TlsFiles { verify_client, ca: settings.tlscacert.clone(), certificate, key })
    }
}

/// The daemon changes its directory nowhere, but its children do.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::super::flags;
    use super::*;

    fn config(words: &[&str], file: &str) -> Result<Config, ConfigError> {
        let args = std::iter::once("weftd").chain(words.iter().copied()).map(str::to_owned);
        resolve(flags::parse(args).unwrap(), "daemon.json".as_ref(), file)
    }

    #[test]
    fn file_and_flags_add_up() {
        let config = config(
            &["--bip", "172.30.0.1/16", "--label", "zone=a"],
            r#"{"live-restore": true, "default-address-pools": [{"base": "10.10.0.0/16", "size": 24}], "dns": ["10.0.0.53"]}"#,
        )
        .unwrap();
        assert!(config.live_restore);
        assert_eq!(config.address_pools, [AddressPool { base: "10.10.0.0/16".parse().unwrap(), size: 24 }]);
        assert_eq!(config.labels["zone"], "a");
        assert_eq!(config.hosts, [Listen::Unix("/run/weft.sock".into())]);
    }

    #[test]
    fn a_stores_options_are_an_object_in_the_file_and_words_on_the_command_line() {
        let file = config(
            &[],
            r#"{"cluster-store": "etcd://h:1", "cluster-store-opts": {"discovery.ttl": "9", "kv.path": "n"}}"#,
        );
        let words = ["--cluster-store=etcd://h:1", "--cluster-store-opt=kv.path=n"];
        let flags = config(&[&words[..], &["--cluster-store-opt", "discovery.ttl=9"]].concat(), "");
        assert_eq!(file.unwrap().key_value.unwrap(), flags.unwrap().key_value.unwrap());
        let both =
            config(&words[1..], r#"{"cluster-store-opts": {"kv.path": "n"}}"#).unwrap_err().to_string();
        assert!(both.contains("and in the configuration file: cluster-store-opts:"), "{both}");
        let alone = config(&["--cluster-advertise", "eth0:2375"], "").unwrap_err().to_string();
        assert_eq!(
            alone,
            "invalid cluster configuration. --cluster-advertise must be accompanied by --cluster-store configuration"
        );
    }

    #[test]
    fn a_key_in_both_places_is_refused() {
        let error = config(&["--debug"], r#"{"debug": false}"#).unwrap_err().to_string();
        assert!(error.contains("specified both as a flag and in the configuration file: debug:"), "{error}");
    }

    #[test]
    fn unknown_keys_are_named() {
        let error = config(&[], r#"{"live-restor": true, "x": 1}"#).unwrap_err().to_string();
        assert!(error.contains("don't match any configuration option: live-restor, x"), "{error}");
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let error = config(
            &[
                "--dns",
                "x",
                "--bip",
                "y",
                "-s",
                "zfs",
                "--label",
                "q",
                "-H",
                "http://z",
                "--weft-service-balancer",
                "bpf",
                "--weft-encryption-engine",
                "tap",
                "--metrics-addr",
                "localhost",
            ],
            "",
        )
        .unwrap_err()
        .to_string();
        assert_eq!(error.lines().count(), 8, "{error}");
    }

    #[test]
    fn every_key_of_the_file_is_known() {
        let all = r#"{"hosts": [], "data-root": "/d", "exec-root": "/e", "pidfile": "/p", "debug": true, "log-level": "warn",
            "log-format": "json", "live-restore": true, "storage-driver": "overlay2", "default-address-pools": [], "bip": "10.9.0.1/24",
            "mtu": 1400, "dns": [], "dns-search": [], "dns-opts": [], "weft-key-rotation": "30s", "weft-drain-timeout": "2s", "weft-service-balancer": "nftables", "weft-encryption-port": 4501, "weft-encryption-engine": "userspace", "weft-docker-plugin": "/p", "metrics-addr": "[::1]:9323", "cluster-store": "etcd://h:2379",
            "cluster-advertise": "eth0:2375", "cluster-store-opts": {"kv.path": "my/nodes"}, "insecure-registries": [], "labels": [], "group": "docker", "tls": false,
            "tlsverify": false, "tlscacert": "/a", "tlscert": "/b", "tlskey": "/c"}"#;
        let raw: serde_json::Map<String, serde_json::Value> = serde_json::from_str(all).unwrap();
        assert_eq!(raw.len(), FILE_KEYS.len());
        assert!(config(&[], all).is_ok());
    }
}
