//! Limits that no container can have, whether it is made with them or given them later.

use std::path::{Component, Path};

use bollard_stubs::models::HostConfig;

use super::{Result, invalid};
use crate::error::EngineError;

/// Docker's least memory limit.
const MEMORY_MIN: i64 = 6 << 20;
/// More processors and memory nodes than any machine has; lists are not unrolled beyond it.
const NUMBER_MAX: u32 = 8192;

/// Refuses what is wrong whatever else is set, in Docker's words.
pub(crate) fn check_resources(host: &HostConfig) -> Result<()> {
    check_memory(host)?;
    check_processors(host)?;
    check_realtime(host)?;
    check_parent(host.cgroup_parent.as_deref().unwrap_or_default())?;
    check_list("CPUs", "cpus", host.cpuset_cpus.as_deref(), "/sys/devices/system/cpu/online")?;
    check_list("memory nodes", "mems", host.cpuset_mems.as_deref(), "/sys/devices/system/node/online")?;
    match host.blkio_weight.unwrap_or(0) {
        0 | 10..=1000 => Ok(()),
        _ => invalid("Range of blkio weight is from 10 to 1000"),
    }
}

/// Refuses a limit of memory and swap below the one of memory.
pub(crate) fn check_swap(host: &HostConfig) -> Result<()> {
    let (memory, swap) = (host.memory.unwrap_or(0), host.memory_swap.unwrap_or(0));
    if memory > 0 && swap > 0 && swap < memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    Ok(())
}

fn check_memory(host: &HostConfig) -> Result<()> {
    let memory = host.memory.unwrap_or(0);
    if memory != 0 && memory < MEMORY_MIN {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    check_swap(host)?;
    let reservation = host.memory_reservation.unwrap_or(0);
    if reservation != 0 && reservation < MEMORY_MIN {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && memory < reservation {
        return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    Ok(())
}

fn check_processors(host: &HostConfig) -> Result<()> {
    let (nano, period, quota) =
        (host.nano_cpus.unwrap_or(0), host.cpu_period.unwrap_or(0), host.cpu_quota.unwrap_or(0));
    if nano > 0 && period > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if nano > 0 && quota > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    if nano < 0 || nano > available as i64 * 1_000_000_000 {
        return invalid(format!(
            "range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available"
        ));
    }
    if period != 0 && !(1000..=1_000_000).contains(&period) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if (1..1000).contains(&quota) {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    Ok(())
}

/// The cgroup above the container's own stays inside the hierarchy.
fn check_parent(parent: &str) -> Result<()> {
    let inside = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if Path::new(parent).components().all(inside) && !parent.contains('\0') {
        return Ok(());
    }
    invalid(format!("invalid cgroup parent '{parent}': give a path without '.' and '..', for example /batch"))
}

fn check_realtime(host: &HostConfig) -> Result<()> {
    if [host.cpu_realtime_period, host.cpu_realtime_runtime].iter().flatten().all(|micros| *micros == 0) {
        return Ok(());
    }
    Err(EngineError::NotImplemented(
        "realtime limits of processors are not implemented: leave CpuRealtimePeriod and CpuRealtimeRuntime out"
            .to_owned(),
    ))
}

/// Refuses a list of processors or memory nodes that is none, or that names what the machine does not have.
fn check_list(what: &str, file: &str, list: Option<&str>, online: &str) -> Result<()> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(()) };
    let Some(wanted) = ranges(list) else {
        return invalid(format!("Invalid value {list} for cpuset {file}"));
    };
    // A machine that does not say what it has is asked when the container starts.
    let Ok(text) = std::fs::read_to_string(online) else { return Ok(()) };
    let Some(available) = ranges(text.trim()) else { return Ok(()) };
    let has = |number: u32| available.iter().any(|(first, last)| (*first..=*last).contains(&number));
    if wanted.iter().all(|(first, last)| (*first..=*last).all(has)) {
        return Ok(());
    }
    invalid(format!("Requested {what} are not available - requested {list}, available: {}", text.trim()))
}

/// `0-2,7`: first and last numbers.
fn ranges(list: &str) -> Option<Vec<(u32, u32)>> {
    let number = |text: &str| text.parse().ok().filter(|number| *number < NUMBER_MAX);
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last)
    };
    list.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cgroup_parent_stays_inside_the_hierarchy() {
        let with =
            |parent: &str| HostConfig { cgroup_parent: Some(parent.to_owned()), ..HostConfig::default() };
        for fine in ["", "/batch", "batch/night", "/a/b/"] {
            assert!(check_resources(&with(fine)).is_ok(), "{fine}");
        }
        for wrong in ["../other", "/a/../../b", "./a"] {
            assert!(check_resources(&with(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_no_container_can_have_is_refused_in_dockers_words() {
        let none = HostConfig::default;
        for (host, words) in [
            (HostConfig { memory: Some(4096), ..none() }, "Minimum memory limit allowed is 6MB"),
            (
                HostConfig { memory: Some(64 << 20), memory_swap: Some(32 << 20), ..none() },
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                HostConfig { memory_reservation: Some(1), ..none() },
                "Minimum memory reservation allowed is 6MB",
            ),
            (
                HostConfig { nano_cpus: Some(1), cpu_quota: Some(5000), ..none() },
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            ),
            (
                HostConfig { cpu_period: Some(999), ..none() },
                "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            ),
            (
                HostConfig { cpu_quota: Some(999), ..none() },
                "CPU cfs quota can not be less than 1ms (i.e. 1000)",
            ),
            (HostConfig { blkio_weight: Some(9), ..none() }, "Range of blkio weight is from 10 to 1000"),
            (HostConfig { cpuset_cpus: Some("a".into()), ..none() }, "Invalid value a for cpuset cpus"),
            (HostConfig { cpuset_mems: Some("2-1".into()), ..none() }, "Invalid value 2-1 for cpuset mems"),
        ] {
            assert_eq!(check_resources(&host).unwrap_err().to_string(), words);
        }
        let far = HostConfig { cpuset_cpus: Some("0,4000-4001".into()), ..none() };
        let text = check_resources(&far).unwrap_err().to_string();
        let words = "Requested CPUs are not available - requested 0,4000-4001, available: ";
        assert!(text.starts_with(words) && text.len() > words.len(), "{text}");
        let realtime = HostConfig { cpu_realtime_runtime: Some(1), ..none() };
        assert!(matches!(check_resources(&realtime), Err(EngineError::NotImplemented(_))));
        let good = HostConfig {
            cpu_realtime_period: Some(0),
            cpuset_cpus: Some("0".into()),
            cpu_quota: Some(-1),
            blkio_weight: Some(10),
            memory_swap: Some(-1),
            ..none()
        };
        check_resources(&good).unwrap();
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(ranges("0-2,7"), Some(vec![(0, 2), (7, 7)]));
        for bad in ["", ",", "1-", "-1", "8192", "0 ", "1-2-3"] {
            assert_eq!(ranges(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_list_does_harm(list in "[0-9,-]{0,40}|\\PC*") {
            if let Some(ranges) = ranges(&list) {
                prop_assert!(ranges.iter().all(|(first, last)| first <= last && *last < NUMBER_MAX));
            }
        }
    }
}
