//! What Docker always sends, as `null` where it has nothing. The models leave out what is `None`; clients such as
//! compose look for the keys.

use serde_json::{Map, Value};

/// Fields of `HostConfig` that are `null` without a value. Lists stay as they were given: the command line sends empty
/// ones, libraries often none.
const HOST_CONFIG: &[&str] = &[
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "PortBindings",
    "Ulimits",
    "Binds",
    "VolumesFrom",
    "CapAdd",
    "CapDrop",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "SecurityOpt",
    "DeviceCgroupRules",
    "DeviceRequests",
    "MemorySwappiness",
    "PidsLimit",
];
/// Fields of `HostConfig` with Go's zero value.
const HOST_CONFIG_TEXTS: &[&str] = &[
    "ContainerIDFile",
    "NetworkMode",
    "VolumeDriver",
    "CgroupnsMode",
    "IpcMode",
    "Cgroup",
    "PidMode",
    "UTSMode",
    "UsernsMode",
    "Isolation",
    "CgroupParent",
    "CpusetCpus",
    "CpusetMems",
];
const HOST_CONFIG_NUMBERS: &[&str] = &[
    "OomScoreAdj",
    "ShmSize",
    "CpuShares",
    "Memory",
    "NanoCpus",
    "BlkioWeight",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "MemoryReservation",
    "MemorySwap",
    "CpuCount",
    "CpuPercent",
    "IOMaximumIOps",
    "IOMaximumBandwidth",
];
const HOST_CONFIG_FLAGS: &[&str] =
    &["AutoRemove", "Privileged", "PublishAllPorts", "ReadonlyRootfs", "OomKillDisable"];

/// Fields of `Config`.
const CONFIG: &[&str] = &["Env", "Cmd", "Entrypoint", "OnBuild", "Volumes"];
const CONFIG_TEXTS: &[&str] = &["Hostname", "Domainname", "User", "Image", "WorkingDir"];
const CONFIG_FLAGS: &[&str] =
    &["AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"];

/// Fields of `NetworkSettings` that Docker keeps for the default bridge's sake.
const SETTINGS_TEXTS: &[&str] = &[
    "Bridge",
    "SandboxID",
    "SandboxKey",
    "LinkLocalIPv6Address",
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "IPAddress",
    "IPv6Gateway",
    "MacAddress",
];
const SETTINGS_NUMBERS: &[&str] = &["LinkLocalIPv6PrefixLen", "GlobalIPv6PrefixLen", "IPPrefixLen"];

/// Fields of one network's endpoint.
const ENDPOINT: &[&str] = &["IPAMConfig", "Links", "Aliases", "DriverOpts", "DNSNames"];
const ENDPOINT_TEXTS: &[&str] =
    &["MacAddress", "NetworkID", "EndpointID", "Gateway", "IPAddress", "IPv6Gateway", "GlobalIPv6Address"];
const ENDPOINT_NUMBERS: &[&str] = &["GwPriority", "IPPrefixLen", "GlobalIPv6PrefixLen"];

fn fill(map: &mut Map<String, Value>, keys: &[&str], value: &Value) {
    for key in keys {
        map.entry(*key).or_insert_with(|| value.clone());
    }
}

fn object<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    value.get_mut(key)?.as_object_mut()
}

/// `GET /containers/{id}/json`.
pub(crate) fn inspect(container: &mut Value) {
    if let Some(map) = container.as_object_mut() {
        fill(map, &["ExecIDs"], &Value::Null);
        fill(map, &["Mounts", "Args"], &Value::Array(Vec::new()));
        fill(map, &["MountLabel", "ProcessLabel", "AppArmorProfile"], &"".into());
        // Fields of later API versions.
        for later in ["ImageManifestDescriptor", "Storage"] {
            map.remove(later);
        }
    }
    if let Some(config) = object(container, "HostConfig") {
        host_config(config);
    }
    if let Some(config) = object(container, "Config") {
        fill(config, CONFIG, &Value::Null);
        fill(config, CONFIG_TEXTS, &"".into());
        fill(config, CONFIG_FLAGS, &false.into());
        fill(config, &["Labels"], &Value::Object(Map::new()));
        if config["Volumes"].as_object().is_some_and(Map::is_empty) {
            config.insert("Volumes".to_owned(), Value::Null);
        }
        if config.get("NetworkDisabled") == Some(&Value::Bool(false)) {
            config.remove("NetworkDisabled");
        }
    }
    if let Some(settings) = object(container, "NetworkSettings") {
        network_settings(settings);
    }
}

fn host_config(config: &mut Map<String, Value>) {
    fill(config, HOST_CONFIG, &Value::Null);
    fill(config, HOST_CONFIG_TEXTS, &"".into());
    fill(config, HOST_CONFIG_NUMBERS, &0.into());
    fill(config, HOST_CONFIG_FLAGS, &false.into());
    fill(config, &["ConsoleSize"], &serde_json::json!([0, 0]));
    fill(config, &["MaskedPaths", "ReadonlyPaths"], &Value::Null);
    // Made anew from what is linked.
    if config["Links"].as_array().is_some_and(Vec::is_empty) {
        config.insert("Links".to_owned(), Value::Null);
    }
}

fn network_settings(settings: &mut Map<String, Value>) {
    fill(settings, SETTINGS_TEXTS, &"".into());
    fill(settings, SETTINGS_NUMBERS, &0.into());
    fill(settings, &["SecondaryIPAddresses", "SecondaryIPv6Addresses"], &Value::Null);
    fill(settings, &["HairpinMode"], &false.into());
    fill(settings, &["Ports", "Networks"], &Value::Object(Map::new()));
    let bridge = settings.get_mut("Networks").and_then(Value::as_object_mut).and_then(|networks| {
        networks.values_mut().filter_map(Value::as_object_mut).for_each(endpoint);
        networks.get("bridge")?.as_object().cloned()
    });
    // Clients from before user-defined networks read the default bridge's values here.
    for (key, value) in bridge.into_iter().flatten() {
        let known = SETTINGS_TEXTS.contains(&key.as_str()) || SETTINGS_NUMBERS.contains(&key.as_str());
        if known {
            settings.insert(key, value);
        }
    }
}

fn endpoint(endpoint: &mut Map<String, Value>) {
    fill(endpoint, ENDPOINT, &Value::Null);
    fill(endpoint, ENDPOINT_TEXTS, &"".into());
    fill(endpoint, ENDPOINT_NUMBERS, &0.into());
}

/// One entry of `GET /containers/json`.
pub(crate) fn summary(container: &mut Value) {
    if let Some(map) = container.as_object_mut() {
        fill(map, &["Ports", "Mounts"], &Value::Array(Vec::new()));
        fill(map, &["Labels"], &Value::Object(Map::new()));
        for later in ["ImageManifestDescriptor", "Health"] {
            map.remove(later);
        }
    }
    let networks = container.pointer_mut("/NetworkSettings/Networks").and_then(Value::as_object_mut);
    if let Some(networks) = networks {
        for one in networks.values_mut().filter_map(Value::as_object_mut) {
            endpoint(one);
            // Docker fills these in on inspect only.
            for later in ["Aliases", "DNSNames", "DriverOpts", "Links"] {
                one.insert(later.to_owned(), Value::Null);
            }
        }
    }
}
