//! Whatever a create request says, it is refused or becomes mounts and limits; nothing panics.

use std::path::{Component, PathBuf};

use bollard_stubs::models::ContainerCreateBody;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;
use crate::container::record::MountRecord;

struct Anywhere;

impl VolumeMaker for Anywhere {
    fn volume(&self, name: Option<&str>, _: crate::volumes::VolumeWish) -> Result<(String, PathBuf)> {
        Ok((name.unwrap_or("anonymous").to_owned(), PathBuf::from("/volumes")))
    }
}

/// A field of a request and a value that it may have by its type.
fn field() -> impl Strategy<Value = (&'static str, Value)> {
    let text = "[-a-zA-Z0-9/:.=,*+%]{0,20}|\\PC{0,8}";
    let texts = select(vec![
        "/WorkingDir",
        "/StopSignal",
        "/HostConfig/NetworkMode",
        "/HostConfig/Runtime",
        "/HostConfig/UsernsMode",
        "/HostConfig/CpusetCpus",
        "/HostConfig/CpusetMems",
        "/HostConfig/IpcMode",
        "/HostConfig/PidMode",
        "/HostConfig/LogConfig/Config/max-size",
        "/HostConfig/LogConfig/Type",
        "/HostConfig/Ulimits/0/Name",
        "/HostConfig/PortBindings/80~1tcp/0/HostPort",
        "/HostConfig/PortBindings/80~1tcp/0/HostIp",
        "/HostConfig/Mounts/0/Source",
        "/HostConfig/Mounts/0/Target",
        "/HostConfig/Mounts/1/Target",
        "/HostConfig/BlkioDeviceReadBps/0/Path",
        "/HostConfig/Devices/0/PathOnHost",
    ]);
    let lists = select(vec![
        "/Cmd",
        "/Entrypoint",
        "/Env",
        "/Healthcheck/Test",
        "/HostConfig/Binds",
        "/HostConfig/CapAdd",
        "/HostConfig/CapDrop",
        "/HostConfig/SecurityOpt",
        "/HostConfig/DeviceCgroupRules",
        "/HostConfig/ExtraHosts",
        "/HostConfig/Dns",
        "/HostConfig/GroupAdd",
    ]);
    let numbers = select(vec![
        "/StopTimeout",
        "/Healthcheck/Interval",
        "/Healthcheck/Retries",
        "/HostConfig/Memory",
        "/HostConfig/MemorySwap",
        "/HostConfig/MemoryReservation",
        "/HostConfig/MemorySwappiness",
        "/HostConfig/NanoCpus",
        "/HostConfig/CpuPeriod",
        "/HostConfig/CpuQuota",
        "/HostConfig/CpuShares",
        "/HostConfig/PidsLimit",
        "/HostConfig/ShmSize",
        "/HostConfig/OomScoreAdj",
        "/HostConfig/BlkioWeight",
        "/HostConfig/RestartPolicy/MaximumRetryCount",
        "/HostConfig/Ulimits/0/Soft",
        "/HostConfig/Ulimits/0/Hard",
        "/HostConfig/Mounts/1/TmpfsOptions/SizeBytes",
    ]);
    let keys = select(vec!["/ExposedPorts", "/Volumes"]).prop_map(|at| (at, json!({})));
    let keys = prop_oneof![keys, Just(("/HostConfig/Tmpfs", json!("")))];
    let number = prop_oneof![any::<i64>(), -9_i64..9, Just(i64::MAX), Just(i64::MIN)];
    prop_oneof![
        (texts, text).prop_map(|(at, text)| (at, text.into())),
        (lists, vec(text, 0..3)).prop_map(|(at, list)| (at, list.into())),
        (keys, vec(text, 0..3)).prop_map(|((at, value), names)| {
            (at, names.into_iter().map(|name| (name, value.clone())).collect::<Value>())
        }),
        (numbers, number).prop_map(|(at, number)| (at, number.into())),
    ]
}

/// Every field that is changed above.
const BODY: &str = r#"{
    "Image": "a", "Cmd": ["x"], "Entrypoint": [], "Env": ["A=b"], "WorkingDir": "/", "StopSignal": "TERM", "StopTimeout": 1,
    "ExposedPorts": {}, "Volumes": {}, "Healthcheck": { "Test": ["CMD", "true"], "Interval": 0, "Retries": 1 },
    "HostConfig": {
        "NetworkMode": "n", "Runtime": "", "UsernsMode": "", "CpusetCpus": "", "CpusetMems": "", "IpcMode": "", "PidMode": "",
        "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m" } }, "Binds": [], "Tmpfs": {}, "CapAdd": [], "CapDrop": [],
        "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "" }] }, "Ulimits": [{ "Name": "nofile", "Soft": 1, "Hard": 2 }],
        "SecurityOpt": [], "DeviceCgroupRules": [], "ExtraHosts": [], "Dns": [], "GroupAdd": [], "Memory": 0,
        "MemorySwap": 0, "MemoryReservation": 0, "MemorySwappiness": 0, "NanoCpus": 0, "CpuPeriod": 0, "CpuQuota": 0,
        "CpuShares": 0, "PidsLimit": 0, "ShmSize": 0, "OomScoreAdj": 0, "BlkioWeight": 0,
        "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 0 },
        "BlkioDeviceReadBps": [{ "Path": "/dev/sda", "Rate": 1 }],
        "Devices": [{ "PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r" }],
        "Mounts": [
            { "Type": "volume", "Source": "v", "Target": "/v" },
            { "Type": "tmpfs", "Target": "/t", "TmpfsOptions": { "SizeBytes": 1 } }
        ]
    }
}"#;

fn made(body: ContainerCreateBody) -> Result<Vec<MountRecord>> {
    let mut request = Request::split(body);
    request.merge_image(&RunConfig::default())?;
    request.command()?;
    request.check(1 << 20)?;
    mounts(&request, Vec::new(), &Anywhere)
}

#[test]
fn the_request_itself_can_be_made() {
    assert_eq!(made(serde_json::from_str(BODY).unwrap()).unwrap().len(), 2);
}

proptest! {
    #[test]
    fn any_request_is_refused_or_can_be_made(changes in vec(field(), 0..5)) {
        let mut body: Value = serde_json::from_str(BODY).map_err(|e| TestCaseError::fail(e.to_string()))?;
        for (at, value) in changes {
            let place = body.pointer_mut(at);
            prop_assert!(place.is_some(), "no {at}");
            place.into_iter().for_each(|place| *place = value.clone());
        }
        // What the type has no room for is refused with the body.
        let Ok(body) = serde_json::from_value(body) else { return Ok(()) };
        for mount in made(body).into_iter().flatten() {
            prop_assert!(mount.destination.is_absolute());
            prop_assert!(!mount.destination.components().any(|part| part == Component::ParentDir));
        }
    }
}
