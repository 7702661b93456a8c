//! What containers use, asked of the kernel.

use futures_util::StreamExt;
use weft_engine::{ContainerStats, RemoveOptions};

use crate::Test;
use crate::support::{Lab, host, run, timeout};

pub(crate) const TESTS: &[Test] = &[
    ("stats_tell_what_a_container_uses", || run(what_a_container_uses)),
    ("stats_of_what_does_not_run_are_zero", || run(zero_when_stopped)),
    ("stats_end_with_the_container", || run(end_with_the_container)),
];

const BUSY: &str = "dd if=/dev/zero of=/dev/shm/held bs=1M count=8 2>/dev/null; while :; do :; done";

async fn what_a_container_uses(lab: Lab) {
    let id = lab
        .start(BUSY, |body| {
            host(body).memory = Some(64 << 20);
            host(body).pids_limit = Some(50);
        })
        .await;
    let stats = until(&lab, &id, |stats| stats.memory_stats.usage > 8 << 20).await;
    assert_eq!(stats.name, Some(lab.engine.inspect(&id, false).unwrap().name.unwrap()));
    assert_eq!((stats.memory_stats.limit, stats.pids_stats.limit), (64 << 20, 50));
    assert!(stats.memory_stats.usage <= 64 << 20 && !stats.memory_stats.stats.is_empty(), "{stats:?}");
    assert!(stats.pids_stats.current >= 1, "{stats:?}");
    let used = stats.cpu_stats.cpu_usage.total_usage - stats.precpu_stats.cpu_usage.total_usage;
    let all = stats.cpu_stats.system_cpu_usage - stats.precpu_stats.system_cpu_usage;
    assert!(used > 10_000_000 && used <= all + 100_000_000, "{used} of {all}");
    assert!(stats.preread < stats.read && stats.cpu_stats.online_cpus > 0);
    let at_once = lab.engine.stats_once(&id, true).await.unwrap();
    assert_eq!((at_once.preread.as_str(), at_once.name), ("0001-01-01T00:00:00Z", None));
    assert!(at_once.cpu_stats.cpu_usage.total_usage > 0);
}

/// Looks at it until `wanted`.
async fn until(lab: &Lab, id: &str, wanted: impl Fn(&ContainerStats) -> bool) -> ContainerStats {
    timeout(async {
        loop {
            let stats = lab.engine.stats_once(id, false).await.unwrap();
            if wanted(&stats) {
                return stats;
            }
        }
    })
    .await
}

async fn zero_when_stopped(lab: Lab) {
    let id = lab.create("true", |_| {}).await;
    let stats = lab.engine.stats_once(&id, false).await.unwrap();
    assert_eq!((stats.read.as_str(), stats.memory_stats.limit), ("0001-01-01T00:00:00Z", 0));
    assert!(lab.engine.stats_once("nosuch", false).await.is_err());
}

async fn end_with_the_container(lab: Lab) {
    let id = lab.start("sleep 1000", |_| {}).await;
    let mut looks = lab.engine.stats(&id).unwrap();
    let first = timeout(looks.next()).await.unwrap();
    assert_eq!((first.preread.as_str(), first.precpu_stats.system_cpu_usage), ("0001-01-01T00:00:00Z", 0));
    let second = timeout(looks.next()).await.unwrap();
    assert_eq!(second.preread, first.read);
    lab.engine.kill(&id, None).await.unwrap();
    timeout(async { while looks.next().await.is_some_and(|look| look.pids_stats.current > 0) {} }).await;
    lab.engine.remove(&id, RemoveOptions::default()).await.unwrap();
    timeout(async { while looks.next().await.is_some() {} }).await;
}
