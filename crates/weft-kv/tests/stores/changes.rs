//! Reading, and changes by compare-and-swap.

use weft_kv::StoreError;

use crate::{Client, Kind, Server, with_each_store};

fn conflict(key: &str) -> StoreError {
    StoreError::Conflict { key: key.to_owned() }
}

fn a_change_needs_the_version_that_was_read(kind: Kind) {
    let server = Server::start(kind);
    let client = Client::of(&server);
    let (store, key) = (&client.store, "net/[fd00::1]:2375 ü/x");
    assert_eq!(client.get(key), None);
    let first = client.create(key, "one").unwrap();
    assert_eq!(client.create(key, "two"), Err(conflict(key)));
    assert_eq!(client.get(key), Some((b"one".to_vec(), first)));

    let second = client.run(store.replace(key, first, b"\x00\xff")).unwrap();
    assert_eq!(client.run(store.replace(key, first, b"three")), Err(conflict(key)));
    assert_eq!(client.get(key), Some((b"\x00\xff".to_vec(), second)));

    assert_eq!(client.run(store.remove(key, first)), Err(conflict(key)));
    client.run(store.remove(key, second)).unwrap();
    assert_eq!(client.run(store.remove(key, second)), Err(conflict(key)), "it is gone already");
    assert_eq!(client.run(store.replace(key, second, b"four")), Err(conflict(key)));
    assert_eq!(client.get(key), None);
}

fn a_folder_holds_the_keys_below_it(kind: Kind) {
    let server = Server::start(kind);
    let client = Client::of(&server);
    for key in ["a/1", "a/b/2", "ab/3", "a"] {
        client.create(key, "v").unwrap();
    }
    let keys = |folder: &str| {
        let mut keys: Vec<_> =
            client.run(client.store.list(folder)).unwrap().into_iter().map(|e| e.key).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys("a"), ["a/1", "a/b/2"]);
    assert_eq!(keys("a/b"), ["a/b/2"]);
    assert_eq!(keys("c"), [""; 0]);
    // The prefix of the address is part of every key, and of none that callers see.
    let outside = Client::new(&server.url().replace("/some/prefix", ""));
    assert!(outside.get("some/prefix/a/1").is_some());
}

/// Many at once: as many changes as were answered are made, none is lost.
fn concurrent_changes_are_all_made(kind: Kind) {
    const WRITERS: usize = 4;
    const EACH: usize = 10;
    let server = Server::start(kind);
    let client = Client::of(&server);
    client.create("counter", "0").unwrap();
    let count = |store: weft_kv::Store| async move {
        for _ in 0..EACH {
            loop {
                let entry = store.get("counter").await.unwrap().unwrap();
                let next = String::from_utf8(entry.value).unwrap().parse::<usize>().unwrap() + 1;
                match store.replace("counter", entry.version, next.to_string().as_bytes()).await {
                    Ok(_) => break,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    client.soon("counting", async {
        let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(count(client.store.clone()))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
    assert_eq!(client.get("counter").unwrap().0, (WRITERS * EACH).to_string().as_bytes());
}

with_each_store!(
    a_change_needs_the_version_that_was_read,
    a_folder_holds_the_keys_below_it,
    concurrent_changes_are_all_made,
);
