//! Following a folder.

use std::collections::BTreeMap;

use weft_kv::{Change, Watch};

use crate::{Client, Kind, Server, with_each_store};

/// What a follower makes of the changes: keys and values.
struct Follower<'a> {
    client: &'a Client,
    watch: Watch,
    seen: BTreeMap<String, String>,
}

impl<'a> Follower<'a> {
    fn new(client: &'a Client, folder: &str) -> Self {
        Self { client, watch: client.store.watch(folder), seen: BTreeMap::new() }
    }

    /// Takes the next changes; how many there were.
    fn step(&mut self) -> usize {
        let changes = self.client.soon("news", self.watch.next());
        let count = changes.len();
        for change in changes {
            match change {
                Change::Put(entry) => {
                    self.seen.insert(entry.key, String::from_utf8(entry.value).unwrap());
                }
                Change::Removed(key) => assert!(self.seen.remove(&key).is_some(), "{key} was not known"),
            }
        }
        count
    }

    /// Takes changes until these are all keys with their values.
    fn until(&mut self, want: &[(&str, &str)]) {
        let want = want.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        while self.seen != want {
            self.step();
        }
    }
}

fn a_folder_is_told_whole_and_then_what_changes(kind: Kind) {
    let server = Server::start(kind);
    let client = Client::of(&server);
    let mut empty = Follower::new(&client, "f");
    assert_eq!(empty.step(), 0, "an empty folder is news, too");
    client.put("f/a", "1");
    client.put("f/b", "1");
    client.put("g/a", "1");
    empty.until(&[("f/a", "1"), ("f/b", "1")]);
    let mut late = Follower::new(&client, "f");
    assert_eq!(late.step(), 2);
    client.put("f/a", "2");
    let (_, version) = client.get("f/b").unwrap();
    client.run(client.store.remove("f/b", version)).unwrap();
    for follower in [&mut empty, &mut late] {
        follower.until(&[("f/a", "2")]);
    }
}

fn a_watch_survives_the_stores_restart_and_its_loss_of_data(kind: Kind) {
    let mut server = Server::start(kind);
    let client = Client::of(&server);
    client.put("f/a", "1");
    client.put("f/b", "1");
    let mut follower = Follower::new(&client, "f");
    follower.until(&[("f/a", "1"), ("f/b", "1")]);
    server.kill();
    server.run();
    client.wait_up();
    client.put("f/c", "1");
    assert_eq!(follower.step(), 1, "what was known is not told again");
    follower.until(&[("f/a", "1"), ("f/b", "1"), ("f/c", "1")]);
    server.kill();
    server.wipe();
    server.run();
    client.wait_up();
    client.put("f/b", "1");
    follower.until(&[("f/b", "1")]);
}

with_each_store!(
    a_folder_is_told_whole_and_then_what_changes,
    a_watch_survives_the_stores_restart_and_its_loss_of_data,
);
