//! What comes of flags and files.

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
    let both = config(&words[1..], r#"{"cluster-store-opts": {"kv.path": "n"}}"#).unwrap_err().to_string();
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
            "iptables",
            "--overlay-engine",
            "xdp",
            "--weft-profile",
            "fast",
            "--weft-encryption-engine",
            "tap",
            "--metrics-addr",
            "localhost",
        ],
        "",
    )
    .unwrap_err()
    .to_string();
    assert_eq!(error.lines().count(), 10, "{error}");
}

#[test]
fn every_key_of_the_file_is_known() {
    let all = r#"{"hosts": [], "data-root": "/d", "exec-root": "/e", "pidfile": "/p", "debug": true, "log-level": "warn",
        "log-format": "json", "live-restore": true, "storage-driver": "overlay2", "default-address-pools": [], "bip": "10.9.0.1/24",
        "mtu": 1400, "dns": [], "dns-search": [], "dns-opts": [], "weft-key-rotation": "30s", "weft-drain-timeout": "2s", "weft-service-balancer": "nftables", "overlay-engine": "bridge", "weft-profile": "bulk", "weft-encryption-port": 4501, "weft-encryption-engine": "userspace", "weft-docker-plugin": "/p", "metrics-addr": "[::1]:9323", "cluster-store": "etcd://h:2379",
        "cluster-advertise": "eth0:2375", "cluster-store-opts": {"kv.path": "my/nodes"}, "insecure-registries": [], "labels": [], "group": "docker", "tls": false,
        "tlsverify": false, "tlscacert": "/a", "tlscert": "/b", "tlskey": "/c"}"#;
    let raw: serde_json::Map<String, serde_json::Value> = serde_json::from_str(all).unwrap();
    assert_eq!(raw.len(), file::KEYS.len());
    assert!(config(&[], all).is_ok());
}
