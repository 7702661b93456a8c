//! The client against real servers of both stores: what it promises holds through their death, restart and loss of data.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod faults;
mod leases;
mod server;
mod tls;
mod watching;

use std::time::Duration;

use tokio::runtime::Runtime;
use weft_kv::{Store, StoreError, Version};
use weft_lab::{eventually, patient};

use server::{Kind, Server, url};

/// A server that was started answers within this time.
const UP: Duration = Duration::from_secs(30);
/// What the store does at once is seen within this time.
const SOON: Duration = Duration::from_secs(10);

/// Each test beside each of the stores.
macro_rules! with_each_store {
    ($($test:ident),* $(,)?) => {
        mod consul {
            $(#[test] fn $test() { super::$test(crate::server::Kind::Consul); })*
        }
        mod etcd {
            $(#[test] fn $test() { super::$test(crate::server::Kind::Etcd); })*
        }
    };
}
pub(crate) use with_each_store;

/// A client with a runtime of its own, so that tests wait by looks from outside.
struct Client {
    runtime: Runtime,
    store: Store,
}

impl Client {
    fn new(url: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let guard = runtime.enter();
        let store = Store::open(&url.parse().unwrap(), None).unwrap();
        drop(guard);
        Self { runtime, store }
    }

    /// Of a server that answers.
    fn of(server: &Server) -> Self {
        let client = Self::new(&server.url());
        client.wait_up();
        client
    }

    fn wait_up(&self) {
        eventually("the store answers", UP, || self.run(self.store.get("up")).map(drop));
    }

    fn run<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// The same with a limit.
    fn soon<T>(&self, what: &str, call: impl Future<Output = T>) -> T {
        let limit = patient(UP);
        self.run(async { tokio::time::timeout(limit, call).await })
            .unwrap_or_else(|_| panic!("{what} takes too long"))
    }

    fn get(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        self.run(self.store.get(key)).unwrap().map(|entry| (entry.value, entry.version))
    }

    fn create(&self, key: &str, value: &str) -> Result<Version, StoreError> {
        self.run(self.store.create(key, value.as_bytes()))
    }

    /// A write that nobody disputes, again when its answer was lost.
    fn put(&self, key: &str, value: &str) {
        eventually("the write", UP, || match self.run(self.store.get(key))? {
            Some(entry) if entry.value == value.as_bytes() => Ok::<_, StoreError>(()),
            Some(entry) => self.run(self.store.replace(key, entry.version, value.as_bytes())).map(drop),
            None => self.create(key, value).map(drop),
        });
    }

    /// Waits until a key is there, or not.
    fn wait_for(&self, key: &str, present: bool, limit: Duration) {
        eventually(&format!("{key} present: {present}"), limit, || match self.run(self.store.get(key)) {
            Ok(found) if found.is_some() == present => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}
