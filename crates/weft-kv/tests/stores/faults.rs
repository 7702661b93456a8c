//! Servers that are away, and one of three that dies.

use weft_kv::StoreError;

use crate::server::loopback;
use crate::{Client, Kind, Server, url, with_each_store};

/// Nobody listens there.
fn nobody() -> String {
    format!("{}:9", loopback())
}

fn the_next_server_is_asked_when_the_first_is_dead(kind: Kind) {
    let server = Server::start(kind);
    let client = Client::new(&url(kind, &format!("{},{}", nobody(), server.endpoint())));
    client.wait_up();
    let version = client.create("k", "1").unwrap();
    client.run(client.store.remove("k", version)).unwrap();
}

fn a_store_that_is_away_is_named(kind: Kind) {
    let nobody = nobody();
    let client = Client::new(&url(kind, &nobody));
    let error = client.create("k", "1").unwrap_err();
    assert!(matches!(error, StoreError::Silent { .. }), "nothing was changed: {error:?}");
    let (text, begin) = (error.to_string(), format!("the key-value store at {}", url(kind, &nobody)));
    assert!(text.starts_with(&format!("{begin} does not answer: ")), "{text}");
    assert!(text.contains("refused"), "{text}");
}

with_each_store!(the_next_server_is_asked_when_the_first_is_dead, a_store_that_is_away_is_named);

#[test]
fn etcd_goes_on_when_one_of_three_members_dies() {
    let mut members = Server::three_of_etcd();
    let endpoints: Vec<String> = members.iter().map(Server::endpoint).collect();
    let client = Client::new(&url(Kind::Etcd, &endpoints.join(",")));
    client.wait_up();
    client.put("f/a", "1");
    let mut watch = client.store.watch("f");
    assert_eq!(client.soon("the folder", watch.next()).len(), 1);
    // The one that is asked first.
    members[0].kill();
    client.put("f/a", "2");
    assert_eq!(client.soon("the change", watch.next()).len(), 1);
    let (_, version) = client.get("f/a").unwrap();
    client.run(client.store.remove("f/a", version)).unwrap();
    assert_eq!(client.soon("the removal", watch.next()).len(), 1);
}
