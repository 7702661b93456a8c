//! Command line and `daemon.json` resolved into one typed configuration.
//!
//! Both carry the same keys. As with dockerd a key that is given in both is refused, and an unknown key is
//! refused by name; all mistakes are reported together.

mod file;
mod hosts;
mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use weft_network::{BalancerChoice, ENCRYPTION_PORT, EncryptionChoice, OverlayEngineChoice, Profile};
use weft_types::{EndpointAddress, Mtu};

pub(super) use self::hosts::{Inherited, Listen};
pub(super) use self::tls::TlsFiles;
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
    pub(super) overlay_engine: OverlayEngineChoice,
    /// What the data path's interface is tuned for.
    pub(super) profile: Profile,
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

/// A pool from which networks of this host take their subnets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AddressPool {
    pub(super) base: IpNet,
    /// Prefix length of each subnet, in bits.
    pub(super) size: u8,
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
    let file = file::parse(path, if text.trim().is_empty() { "{}" } else { text })?;
    let Flags { hosts, settings, .. } = flags;
    let conflicts = file::conflicts(&hosts, &settings, &file);
    if !conflicts.is_empty() {
        let problem = format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            conflicts.join(", ")
        );
        return Err(ConfigError::File { path: path.to_owned(), problems: vec![problem] });
    }
    Resolver::default().finish(file::merge(hosts, settings, file))
}

/// Turns text into values and collects every mistake on the way.
#[derive(Default)]
struct Resolver {
    mistakes: Vec<String>,
}

impl Resolver {
    fn finish(mut self, merged: file::Merged) -> Result<Config, ConfigError> {
        let file::Merged { hosts, settings } = merged;
        let tls = tls::resolve(&settings, &tls::default_dir());
        let hosts = hosts::resolve(&hosts, tls.is_some(), &mut self.mistakes);
        self.storage_driver(settings.storage_driver.as_deref());
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
                .and_then(|text| self.parse("weft-service-balancer", &text, "auto, nftables, ipvs or bpf"))
                .unwrap_or_default(),
            overlay_engine: settings
                .overlay_engine
                .and_then(|text| self.parse("overlay-engine", &text, "auto, bpf or bridge"))
                .unwrap_or_default(),
            profile: settings
                .weft_profile
                .and_then(|text| self.parse("weft-profile", &text, "default or bulk"))
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
}

/// The daemon changes its directory nowhere, but its children do.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
mod tests;
