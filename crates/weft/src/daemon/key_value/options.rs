//! The options of key-value mode: `cluster-store`, `cluster-advertise`, `cluster-store-opt`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use weft_kv::{StoreAddress, Timing, TlsFiles};

/// As Docker's, without the prefix of the store's address.
const DEFAULT_NODES: &str = "docker/nodes";
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(20);
/// As Docker derives one from the other when only one is given.
const TTL_FACTOR: u32 = 3;

/// A store, and what this node says of itself there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct KeyValueOptions {
    /// As it was given, for users.
    pub(in crate::daemon) store: String,
    pub(super) address: StoreAddress,
    pub(super) advertise: Option<Advertise>,
    pub(super) tls: Option<TlsFiles>,
    /// Folder of the nodes' keys.
    pub(super) nodes: String,
    pub(super) timing: Timing,
}

/// Where other nodes find this one. Nothing is opened there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advertise {
    pub(super) host: AdvertiseHost,
    pub(super) port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AdvertiseHost {
    Address(IpAddr),
    Interface(String),
}

/// The options as text.
#[derive(Debug, Default)]
pub(in crate::daemon) struct RawOptions<'a> {
    pub(in crate::daemon) store: Option<&'a str>,
    pub(in crate::daemon) advertise: Option<&'a str>,
    /// `key=value`
    pub(in crate::daemon) options: &'a [String],
}

impl KeyValueOptions {
    /// None without a store; else all that is wrong.
    pub(in crate::daemon) fn resolve(raw: &RawOptions<'_>) -> Result<Option<Self>, Vec<String>> {
        let Some(store) = raw.store.filter(|store| !store.is_empty()) else {
            return without_store(raw);
        };
        let mut mistakes = Vec::new();
        let mut note = |problem: String| mistakes.push(problem);
        let address = store.parse().map_err(|e| note(format!("cluster-store: {e}"))).ok();
        let advertise = raw.advertise.filter(|text| !text.is_empty()).and_then(|text| {
            let parsed = Advertise::parse(text);
            if parsed.is_none() {
                note(format!(
                    "invalid --cluster-advertise configuration: {text}: want ADDRESS:PORT or INTERFACE:PORT"
                ));
            }
            parsed
        });
        let options = StoreOptions::parse(raw.options, &mut note);
        let tls = options.tls(&mut note);
        let timing = options.timing(&mut note);
        let nodes = options.path.unwrap_or_else(|| DEFAULT_NODES.to_owned());
        match (address, mistakes.is_empty()) {
            (Some(address), true) => {
                Ok(Some(Self { store: store.to_owned(), address, advertise, tls, nodes, timing }))
            }
            _ => Err(mistakes),
        }
    }
}

/// Docker's words, as far as Docker minds.
fn without_store(raw: &RawOptions<'_>) -> Result<Option<KeyValueOptions>, Vec<String>> {
    if raw.advertise.is_some_and(|text| !text.is_empty()) {
        return Err(vec![
            "invalid cluster configuration. --cluster-advertise must be accompanied by --cluster-store configuration"
                .to_owned(),
        ]);
    }
    match raw.options {
        [] => Ok(None),
        _ => Err(vec!["cluster-store-opts: there is no --cluster-store that they could be of".to_owned()]),
    }
}

impl Advertise {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (bare.unwrap_or(host).parse::<IpAddr>(), bare) {
            // Without brackets nobody knows where an IPv6 address ends.
            (Ok(address), bracketed) if address.is_ipv6() == bracketed.is_some() => {
                Some(AdvertiseHost::Address(address)).filter(|_| !address.is_unspecified())
            }
            (Err(_), None) if !host.is_empty() && !host.contains(':') => {
                Some(AdvertiseHost::Interface(host.to_owned()))
            }
            _ => None,
        };
        Some(Self { host: host?, port })
    }
}

/// The store's options by their names.
#[derive(Default)]
struct StoreOptions {
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    path: Option<String>,
    heartbeat: Option<Duration>,
    ttl: Option<Duration>,
}

impl StoreOptions {
    fn parse(options: &[String], note: &mut impl FnMut(String)) -> Self {
        let mut found = Self::default();
        for option in options {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if value.is_empty() {
                note(format!("cluster-store-opts: {option:?} is not key=value"));
                continue;
            }
            match name {
                "kv.cacertfile" => found.authority = Some(value.into()),
                "kv.certfile" => found.certificate = Some(value.into()),
                "kv.keyfile" => found.key = Some(value.into()),
                "kv.path" => found.path = folder(value, note),
                "discovery.heartbeat" => found.heartbeat = period(name, value, note),
                "discovery.ttl" => found.ttl = period(name, value, note),
                other => note(format!(
                    "cluster-store-opts: unknown option {other}; there are kv.cacertfile, kv.certfile, kv.keyfile, \
                     kv.path, discovery.heartbeat and discovery.ttl"
                )),
            }
        }
        found
    }

    fn tls(&self, note: &mut impl FnMut(String)) -> Option<TlsFiles> {
        let identity = self.certificate.clone().zip(self.key.clone());
        if self.certificate.is_some() != self.key.is_some() {
            note("cluster-store-opts: kv.certfile and kv.keyfile need each other".to_owned());
        } else if self.authority.is_none() && identity.is_some() {
            note("cluster-store-opts: kv.cacertfile is needed to verify the store".to_owned());
        }
        Some(TlsFiles { authority: self.authority.clone()?, identity })
    }

    fn timing(&self, note: &mut impl FnMut(String)) -> Timing {
        let heartbeat = self.heartbeat.or(self.ttl.map(|ttl| ttl / TTL_FACTOR)).unwrap_or(DEFAULT_HEARTBEAT);
        let ttl = self.ttl.unwrap_or(heartbeat.saturating_mul(TTL_FACTOR));
        if ttl <= heartbeat {
            note("discovery.ttl timer must be greater than discovery.heartbeat".to_owned());
        }
        Timing { heartbeat, ttl }
    }
}

/// A path in the store without slashes at its ends.
fn folder(value: &str, note: &mut impl FnMut(String)) -> Option<String> {
    let parts: Vec<&str> = value.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        note(format!("cluster-store-opts: kv.path: {value:?} names no folder, such as {DEFAULT_NODES}"));
    }
    Some(parts.join("/"))
}

/// Whole seconds, as Docker wants them, or a duration with its unit.
fn period(name: &str, value: &str, note: &mut impl FnMut(String)) -> Option<Duration> {
    let period = value.parse().map(Duration::from_secs).ok().or_else(|| weft_types::parse_duration(value));
    match period {
        Some(period) if period.is_zero() => {
            note(format!("{name} must be positive"));
            None
        }
        Some(period) if period > Duration::from_secs(24 * 3600) => {
            note(format!("{name}: {value} is longer than a day"));
            None
        }
        None => {
            note(format!("{name}: {value:?} is no number of seconds and no duration such as 20s"));
            None
        }
        Some(period) => Some(period),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(
        store: &str,
        advertise: &str,
        options: &[&str],
    ) -> Result<Option<KeyValueOptions>, Vec<String>> {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        KeyValueOptions::resolve(&RawOptions {
            store: Some(store),
            advertise: Some(advertise),
            options: &options,
        })
    }

    fn seconds(options: &[&str]) -> (u64, u64) {
        let timing = resolve("etcd://h:1", "", options).unwrap().unwrap().timing;
        (timing.heartbeat.as_secs(), timing.ttl.as_secs())
    }

    #[test]
    fn a_store_is_all_that_is_needed() {
        let found = resolve("consul://h:8500", "", &[]).unwrap().unwrap();
        assert_eq!((found.nodes.as_str(), found.tls, found.advertise), ("docker/nodes", None, None));
        assert_eq!(resolve("", "", &[]), Ok(None));
    }

    #[test]
    fn heartbeat_and_ttl_follow_each_other_as_dockers() {
        assert_eq!(seconds(&[]), (20, 60));
        assert_eq!(seconds(&["discovery.heartbeat=5"]), (5, 15));
        assert_eq!(seconds(&["discovery.ttl=30s"]), (10, 30));
        assert_eq!(seconds(&["discovery.heartbeat=2", "discovery.ttl=7"]), (2, 7));
    }

    #[test]
    fn hosts_are_addresses_or_interfaces_and_have_a_port() {
        let host = |text: &str| Advertise::parse(text).map(|advertise| advertise.host);
        assert_eq!(host("10.0.0.1:2375"), Some(AdvertiseHost::Address("10.0.0.1".parse().unwrap())));
        assert_eq!(host("[fd00::1]:2375"), Some(AdvertiseHost::Address("fd00::1".parse().unwrap())));
        assert_eq!(host("eth0:2375"), Some(AdvertiseHost::Interface("eth0".to_owned())));
        for wrong in
            ["eth0", "10.0.0.1", "eth0:", "eth0:0", ":2375", "fd00::1:2375", "[eth0]:1", "0.0.0.0:1", ""]
        {
            assert_eq!(host(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn mistakes_are_named_all_together() {
        let mistakes = resolve(
            "zk://h:1",
            "eth0",
            &[
                "kv.certfile=/c",
                "kv.pth=x",
                "discovery.ttl=0",
                "discovery.heartbeat=x",
                "kv.path=/",
                "kv.keyfile",
            ],
        )
        .unwrap_err();
        assert_eq!(mistakes.len(), 8, "{mistakes:#?}");
        assert!(mistakes[2].contains("unknown option kv.pth"), "{mistakes:#?}");
        let needs = resolve("etcd://h:1", "", &["discovery.ttl=5", "discovery.heartbeat=5"]).unwrap_err();
        assert_eq!(needs, ["discovery.ttl timer must be greater than discovery.heartbeat"]);
        let needs = resolve("etcd://h:1", "", &["kv.certfile=/c", "kv.keyfile=/k"]).unwrap_err();
        assert_eq!(needs, ["cluster-store-opts: kv.cacertfile is needed to verify the store"]);
        let alone = resolve("", "eth0:1", &[]).unwrap_err();
        assert!(alone[0].ends_with("must be accompanied by --cluster-store configuration"), "{alone:?}");
        assert!(resolve("", "", &["kv.path=x"]).is_err());
    }
}
