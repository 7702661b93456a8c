//! `daemon.json`: dockerd's keys, what it shares with the command line, and both in one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::flags::Settings;
use super::ConfigError;

/// `daemon.json` with dockerd's keys.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct File {
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
    overlay_engine: Option<String>,
    weft_profile: Option<String>,
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
pub(super) const KEYS: &[&str] = &[
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
    "overlay-engine",
    "weft-profile",
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

/// Reads the file; unknown keys are refused by name.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    let json = |source| ConfigError::Json { path: path.to_owned(), source };
    let raw: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(json)?;
    let unknown: Vec<&str> = raw.keys().map(String::as_str).filter(|k| !KEYS.contains(k)).collect();
    if !unknown.is_empty() {
        let problem =
            format!("the following directives don't match any configuration option: {}", unknown.join(", "));
        return Err(ConfigError::File { path: path.to_owned(), problems: vec![problem] });
    }
    serde_json::from_value(raw.into()).map_err(json)
}

/// Names of the keys that are given on the command line and in the file.
pub(super) fn conflicts(hosts: &[String], flags: &Settings, file: &File) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |name: &str, flag: String, file: Option<String>| {
        if let Some(file) = file {
            found.push(format!("{name}: (from flag: {flag}, from file: {file})"));
        }
    };
    macro_rules! check_all {
        (scalar: $($field:ident),*; list: $($flag:ident as $in_file:ident),*) => {
            $(if let Some(value) = &flags.$field {
                check(&stringify!($field).replace('_', "-"), value.shown(), file.$field.as_ref().map(Shown::shown));
            })*
            $(if !flags.$flag.is_empty() {
                check(&stringify!($in_file).replace('_', "-"), flags.$flag.shown(), file.$in_file.as_ref().map(Shown::shown));
            })*
        };
    }
    check_all!(
        scalar: data_root, exec_root, pidfile, debug, log_level, log_format, live_restore, storage_driver, bip, mtu,
            weft_key_rotation, weft_drain_timeout, weft_service_balancer, overlay_engine, weft_profile, weft_encryption_port, weft_encryption_engine, weft_docker_plugin, metrics_addr, cluster_store, cluster_advertise, group, tls, tlsverify, tlscacert, tlscert, tlskey;
        list: default_address_pools as default_address_pools, dns as dns, dns_search as dns_search, dns_opts as dns_opts,
            insecure_registries as insecure_registries, cluster_store_opts as cluster_store_opts, labels as labels
    );
    if !hosts.is_empty() {
        check("hosts", hosts.shown(), file.hosts.as_ref().map(Shown::shown));
    }
    found
}

/// Both sources in one, still as text.
pub(super) struct Merged {
    pub(super) hosts: Vec<String>,
    pub(super) settings: Settings,
}

pub(super) fn merge(hosts: Vec<String>, flags: Settings, file: File) -> Merged {
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
        overlay_engine: flags.overlay_engine.or(file.overlay_engine),
        weft_profile: flags.weft_profile.or(file.weft_profile),
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

/// A value as dockerd shows it in a message (Go's `%v`).
trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown_by_display {
    ($($kind:ty),*) => { $(impl Shown for $kind {
        fn shown(&self) -> String {
            self.to_string()
        }
    })* };
}
shown_by_display!(String, bool, u16, u32);

impl Shown for PathBuf {
    fn shown(&self) -> String {
        self.display().to_string()
    }
}

impl Shown for FilePool {
    fn shown(&self) -> String {
        format!("{{{} {}}}", self.base, self.size)
    }
}

impl<T: Shown> Shown for [T] {
    fn shown(&self) -> String {
        format!("[{}]", self.iter().map(Shown::shown).collect::<Vec<_>>().join(" "))
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(&self) -> String {
        self.as_slice().shown()
    }
}

impl Shown for BTreeMap<String, String> {
    fn shown(&self) -> String {
        let pairs: Vec<String> = self.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        format!("map[{}]", pairs.join(" "))
    }
}
