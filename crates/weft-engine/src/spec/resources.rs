//! Limits of a container in the words of the OCI specification.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use bollard_stubs::models::{HostConfig, ThrottleDevice};
use serde_json::{Map, Value, json};

use super::{CPU_PERIOD, SpecInput, devices};
use crate::error::EngineError;

fn positive(number: Option<i64>) -> Option<i64> {
    number.filter(|number| *number > 0)
}

/// The limits of a container; an error names a device that is not there.
pub(super) fn of(input: &SpecInput<'_>) -> Result<Value, EngineError> {
    let host = &input.record.host;
    let mut memory = Map::new();
    if let Some(limit) = positive(host.memory) {
        memory.insert("limit".to_owned(), json!(limit));
    }
    if let Some(reservation) = positive(host.memory_reservation) {
        memory.insert("reservation".to_owned(), json!(reservation));
    }
    // Kernels without accounting of swap have no such limit.
    let swap_is_counted = input.hierarchies.is_pure_v2()
        || input
            .hierarchies
            .controller("memory")
            .is_some_and(|root| root.join("memory.memsw.limit_in_bytes").exists());
    if let (Some(swap), true) = (host.memory_swap.filter(|swap| *swap != 0), swap_is_counted) {
        memory.insert("swap".to_owned(), json!(swap));
    }
    if let Some(swappiness) = host.memory_swappiness.filter(|number| (0..=100).contains(number)) {
        memory.insert("swappiness".to_owned(), json!(swappiness));
    }
    let mut resources = json!({ "devices": devices::rules(host)? });
    if !memory.is_empty() {
        resources["memory"] = Value::Object(memory);
    }
    let cpu = processors(host);
    if !cpu.is_empty() {
        resources["cpu"] = Value::Object(cpu);
    }
    if let Some(limit) = positive(host.pids_limit) {
        resources["pids"] = json!({ "limit": limit });
    }
    let blocks = block_devices(host)?;
    if !blocks.is_empty() {
        resources["blockIO"] = Value::Object(blocks);
    }
    Ok(resources)
}

fn processors(host: &HostConfig) -> Map<String, Value> {
    let mut cpu = Map::new();
    if let Some(shares) = positive(host.cpu_shares) {
        cpu.insert("shares".to_owned(), json!(shares));
    }
    if let Some(nano) = positive(host.nano_cpus) {
        cpu.insert("period".to_owned(), json!(CPU_PERIOD));
        cpu.insert("quota".to_owned(), json!(nano * CPU_PERIOD / 1_000_000_000));
    } else {
        if let Some(period) = positive(host.cpu_period) {
            cpu.insert("period".to_owned(), json!(period));
        }
        if let Some(quota) = positive(host.cpu_quota) {
            cpu.insert("quota".to_owned(), json!(quota));
        }
    }
    for (key, value) in [("cpus", &host.cpuset_cpus), ("mems", &host.cpuset_mems)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            cpu.insert(key.to_owned(), json!(value));
        }
    }
    cpu
}

fn block_devices(host: &HostConfig) -> Result<Map<String, Value>, EngineError> {
    let mut blocks = Map::new();
    if let Some(weight) = host.blkio_weight.filter(|weight| *weight > 0) {
        blocks.insert("weight".to_owned(), json!(weight));
    }
    for (key, wishes) in [
        ("throttleReadBpsDevice", &host.blkio_device_read_bps),
        ("throttleWriteBpsDevice", &host.blkio_device_write_bps),
        ("throttleReadIOPSDevice", &host.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", &host.blkio_device_write_iops),
    ] {
        let limits = wishes.iter().flatten().map(throttle).collect::<Result<Vec<_>, _>>()?;
        if !limits.is_empty() {
            blocks.insert(key.to_owned(), Value::Array(limits));
        }
    }
    Ok(blocks)
}

/// Bytes or operations in a second of one device.
fn throttle(wish: &ThrottleDevice) -> Result<Value, EngineError> {
    let path = wish.path.as_deref().unwrap_or_default();
    let refused = |reason: &str| EngineError::Refused(format!("limit of device \"{path}\": {reason}"));
    let metadata = std::fs::metadata(path).map_err(|_| refused("no such file or directory"))?;
    if !metadata.file_type().is_block_device() {
        return Err(refused("not a block device"));
    }
    let device = metadata.rdev();
    Ok(json!({
        "major": rustix::fs::major(device),
        "minor": rustix::fs::minor(device),
        "rate": wish.rate.unwrap_or(0).max(0),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_block_device_has_no_limits() {
        for (path, words) in [("/dev/nosuch", "no such file"), ("/dev/null", "not a block device")] {
            let wish = ThrottleDevice { path: Some(path.to_owned()), rate: Some(1) };
            let host = HostConfig { blkio_device_read_bps: Some(vec![wish]), ..HostConfig::default() };
            let text = block_devices(&host).unwrap_err().to_string();
            assert!(text.contains(path) && text.contains(words), "{text}");
        }
        let host = HostConfig { blkio_weight: Some(10), ..HostConfig::default() };
        assert_eq!(Value::Object(block_devices(&host).unwrap()), json!({ "weight": 10 }));
        assert!(block_devices(&HostConfig::default()).unwrap().is_empty());
    }
}
