//! Devices of a container: which nodes it has and which the cgroup lets it use.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use bollard_stubs::models::HostConfig;
use serde_json::{Value, json};

use crate::error::EngineError;

/// Directories below `/dev` that belong to the host alone.
const HOST_ONLY: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
/// How deep `/dev` is searched.
const DEPTH_MAX: usize = 4;

/// Rules of the device cgroup: nothing but making nodes and the harmless devices; everything when privileged.
pub(crate) fn rules(host: &HostConfig) -> Result<Vec<Value>, EngineError> {
    if host.privileged == Some(true) {
        return Ok(vec![json!({ "allow": true, "access": "rwm" })]);
    }
    let mut rules = vec![
        json!({ "allow": false, "access": "rwm" }),
        json!({ "allow": true, "type": "c", "access": "m" }),
        json!({ "allow": true, "type": "b", "access": "m" }),
    ];
    // null, zero, full, random, urandom, tty, console, ptmx, pts
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" }));
    }
    rules.push(json!({ "allow": true, "type": "c", "major": 136, "access": "rwm" }));
    for device in host.devices.iter().flatten() {
        let node = node(device.path_on_host.as_deref().unwrap_or_default(), "")?;
        let access =
            device.cgroup_permissions.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
        rules.push(json!({
            "allow": true, "type": node["type"], "major": node["major"], "minor": node["minor"], "access": access,
        }));
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        rules.push(
            parse_rule(rule).ok_or_else(|| {
                EngineError::Invalid(format!("invalid device cgroup rule format: '{rule}'"))
            })?,
        );
    }
    Ok(rules)
}

/// `c 1:3 rwm`, `a *:* m`.
fn parse_rule(text: &str) -> Option<Value> {
    let mut words = text.split_whitespace();
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let good = matches!(kind, "a" | "b" | "c") && access.chars().all(|c| "rwm".contains(c));
    if !good || words.next().is_some() {
        return None;
    }
    let mut rule = json!({ "allow": true, "type": kind, "access": access });
    for (name, text) in [("major", major), ("minor", minor)] {
        if text != "*" {
            rule[name] = json!(text.parse::<u32>().ok()?);
        }
    }
    Some(rule)
}

/// `--device`.
pub(crate) fn mapped(host: &HostConfig) -> Result<Vec<Value>, EngineError> {
    let devices = host.devices.iter().flatten().map(|device| {
        let from = device.path_on_host.as_deref().unwrap_or_default();
        let to = device.path_in_container.as_deref().filter(|path| !path.is_empty()).unwrap_or(from);
        node(from, to)
    });
    devices.collect()
}

/// One device node of the host, named `to` inside.
fn node(from: &str, to: &str) -> Result<Value, EngineError> {
    let missing = |reason: &str| {
        EngineError::Refused(format!(
            "error gathering device information while adding custom device \"{from}\": {reason}"
        ))
    };
    let metadata = std::fs::metadata(from).map_err(|_| missing("no such file or directory"))?;
    describe(&metadata, to).ok_or_else(|| missing("not a device node"))
}

fn describe(metadata: &std::fs::Metadata, path: &str) -> Option<Value> {
    let kind = if metadata.file_type().is_char_device() {
        "c"
    } else if metadata.file_type().is_block_device() {
        "b"
    } else {
        return None;
    };
    let device = metadata.rdev();
    Some(json!({
        "path": path,
        "type": kind,
        "major": rustix::fs::major(device),
        "minor": rustix::fs::minor(device),
        "fileMode": metadata.mode() & 0o7777,
        "uid": metadata.uid(),
        "gid": metadata.gid(),
    }))
}

/// All devices of the host, for `--privileged`.
pub(crate) fn of_host() -> Vec<Value> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), 0, &mut found);
    found
}

fn collect(dir: &Path, depth: usize, found: &mut Vec<Value>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            if depth < DEPTH_MAX && !HOST_ONLY.iter().any(|own| name == *own) {
                collect(&path, depth + 1, found);
            }
            continue;
        }
        // The container has its own of these.
        let own = depth == 0
            && ["console", "null", "zero", "full", "random", "urandom", "tty", "ptmx"]
                .iter()
                .any(|own| name == *own);
        if let (Some(path), false) = (path.to_str(), own) {
            found.extend(describe(&metadata, path));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_are_parsed_or_refused() {
        assert_eq!(parse_rule("c 42:* rmw").unwrap()["major"], 42);
        for bad in ["", "c", "x 1:1 r", "c 1 r", "c 1:x r", "c 1:1 rx", "c 1:1 r more"] {
            assert!(parse_rule(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_missing_device_is_named() {
        assert_eq!(
            node("/dev/nosuch", "").unwrap_err().to_string(),
            "error gathering device information while adding custom device \"/dev/nosuch\": no such file or directory"
        );
    }

    proptest! {
        #[test]
        fn any_rule_is_read_or_refused(text in "[abc] [0-9*]{0,12}:[0-9*]{0,4} [rwmx]{0,4}|\\PC{0,16}") {
            let _ = parse_rule(&text);
        }
    }
}
