//! Keys that are there as long as somebody cares.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_kv::{Leased, LeasedKeys, StoreError, Timing};

use crate::{Client, Kind, SOON, Server, UP, with_each_store};

const KEY: &str = "docker/nodes/10.0.0.1:2375";
const TIMING: Timing = Timing { heartbeat: Duration::from_secs(1), ttl: Duration::from_secs(4) };
/// Consul's shortest lease is 20 seconds; both look for leases that have ended only now and then.
const ENDED: Duration = Duration::from_secs(40);

fn keep(client: &Client) -> LeasedKeys {
    let _guard = client.runtime.enter();
    LeasedKeys::keep(client.store.clone(), keys(&[(KEY, "10.0.0.1:2375")]), TIMING)
}

fn keys(pairs: &[(&str, &str)]) -> Leased {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
        .collect::<BTreeMap<_, _>>()
}

fn what_nobody_renews_vanishes(kind: Kind) {
    let server = Server::start(kind);
    let client = Client::of(&server);
    let lease = client.run(client.store.grant(TIMING.ttl)).unwrap();
    client.run(client.store.put_leased(KEY, b"x", &lease)).unwrap();
    assert!(client.get(KEY).is_some());
    client.wait_for(KEY, false, ENDED);
    assert_eq!(client.run(client.store.renew(&lease)), Err(StoreError::LeaseGone));
    assert_eq!(client.run(client.store.put_leased(KEY, b"x", &lease)), Err(StoreError::LeaseGone));
}

/// A daemon that was killed comes back while the lease of its earlier life still holds the key.
fn a_new_lease_takes_the_key_over(kind: Kind) {
    let server = Server::start(kind);
    let client = Client::of(&server);
    let first = client.run(client.store.grant(TIMING.ttl)).unwrap();
    client.run(client.store.put_leased(KEY, b"x", &first)).unwrap();
    let second = client.run(client.store.grant(TIMING.ttl)).unwrap();
    client.run(client.store.put_leased(KEY, b"x", &second)).unwrap();
    client.run(client.store.revoke(&first)).unwrap();
    assert!(client.get(KEY).is_some(), "the end of the first lease does not matter any more");
    client.run(client.store.revoke(&second)).unwrap();
    assert_eq!(client.get(KEY), None);
}

fn a_key_is_kept_until_it_is_released(kind: Kind) {
    let server = Server::start(kind);
    let client = Client::of(&server);
    let kept = keep(&client);
    client.wait_for(KEY, true, SOON);
    let (_, version) = client.get(KEY).unwrap();
    client.run(client.store.remove(KEY, version)).unwrap();
    client.wait_for(KEY, true, SOON);
    client.run(kept.release());
    assert_eq!(client.get(KEY), None, "at once");
}

fn keys_come_and_go_under_one_lease(kind: Kind) {
    let server = Server::start(kind);
    let client = Client::of(&server);
    // Nothing is due by itself for a long time.
    let slow = Timing { heartbeat: Duration::from_secs(500), ttl: Duration::from_secs(1000) };
    let guard = client.runtime.enter();
    let kept = LeasedKeys::keep(client.store.clone(), keys(&[("a/1", "x"), ("a/2", "x")]), slow);
    drop(guard);
    client.wait_for("a/1", true, SOON);
    client.wait_for("a/2", true, SOON);
    let (_, untouched) = client.get("a/2").unwrap();
    kept.set(keys(&[("a/2", "x"), ("a/3", "y")]));
    client.wait_for("a/1", false, SOON);
    client.wait_for("a/3", true, SOON);
    assert_eq!(client.get("a/2").unwrap().1, untouched, "it was not written again");
    client.run(client.store.remove("a/2", untouched)).unwrap();
    kept.doubt();
    client.wait_for("a/2", true, SOON);
    client.run(kept.release());
    assert_eq!((client.get("a/2"), client.get("a/3")), (None, None), "at once");
}

fn a_store_that_comes_late_or_forgets_is_told_again(kind: Kind) {
    let mut server = Server::prepare(kind);
    let client = Client::new(&server.url());
    let kept = keep(&client);
    server.run();
    client.wait_for(KEY, true, UP);
    server.kill();
    server.wipe();
    server.run();
    client.wait_for(KEY, true, UP);
    // And it does not keep whoever stops from stopping.
    server.kill();
    client.soon("the release", kept.release());
}

with_each_store!(
    what_nobody_renews_vanishes,
    a_new_lease_takes_the_key_over,
    a_key_is_kept_until_it_is_released,
    keys_come_and_go_under_one_lease,
    a_store_that_comes_late_or_forgets_is_told_again,
);
