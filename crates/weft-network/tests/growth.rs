//! One change on a network with a thousand services: what it costs the node that hears of it. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::time::Duration;

use common::many::{Node, TASKS, services};
use common::{dns, dns_result, eventually};
use weft_kernel::Netns;

const SERVICES: usize = 1000;
const CHANGES: usize = 10;

#[test]
#[ignore = "not a test: the helper process of the other tests"]
fn helper_entry() {
    common::helper_entry();
}

/// Waits until the service that changes has so many tasks by name.
async fn named(inside: &Netns, tasks: usize) {
    eventually("names follow", || {
        dns(inside, "127.0.0.11:53", "tasks.s500", 1)
            .is_ok_and(|answer| dns_result(&answer, "tasks.s500").1.len() == tasks)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_among_a_thousand_services() {
    if let Ok(filter) = std::env::var("WEFT_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
    let node = Node::start().await;
    let inside = node.container("ann").await;
    let mut network = services(SERVICES);
    let all = node.tell(&network).await;
    named(&inside, TASKS).await;
    let mut took = Vec::new();
    for change in 0..CHANGES {
        network.endpoints[1500].healthy = change % 2 == 1;
        network.index += 1;
        took.push(node.tell(&network).await);
        named(&inside, TASKS - 1 + change % 2).await;
    }
    took.sort();
    let median = took[CHANGES / 2];
    println!(
        "{SERVICES} services at once: {all:?}; one change of them: median {median:?}, worst {:?}",
        took[CHANGES - 1]
    );
    // Unoptimised builds on busy machines: what matters is that it is no whole start.
    assert!(median < Duration::from_secs(1), "{took:?}");
    node.controller.shutdown(false).await;
}
