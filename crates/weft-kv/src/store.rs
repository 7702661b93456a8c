//! A store, whichever it is.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::{Prefix, StoreKind};
use crate::consul::Consul;
use crate::error::Failure;
use crate::etcd::{Etcd, Follow};
use crate::{AddressError, Change, Entry, StoreAddress, StoreError, TlsError, TlsFiles, Version, Watch};

/// A client of one store; copies share what it knows of the servers.
///
/// Keys are paths without a slash at the beginning. The prefix of the store's address is put before them and taken off
/// again. A folder is named without a slash at its end and holds the keys below it, at any depth.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    /// For errors.
    name: String,
    tls: Option<TlsFiles>,
    prefix: Prefix,
    backend: Backend,
}

enum Backend {
    Consul(Consul),
    Etcd(Etcd),
}

/// Keys written under it vanish when nobody has renewed it in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease(LeaseId);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum LeaseId {
    Consul(String),
    Etcd(i64),
}

/// Where a store is, to be told to another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    address: String,
    tls: Option<TlsFiles>,
}

/// There is no such store, as far as anybody can tell without asking it.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// Not the address of a store.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Location {
    /// As [`Store::open`].
    pub fn open(&self) -> Result<Store, LocationError> {
        Ok(Store::open(&self.address.parse()?, self.tls.as_ref())?)
    }
}

/// Where the news of a folder come from next.
#[derive(Default)]
pub(crate) enum Position {
    /// Look at all of it.
    #[default]
    Begin,
    ConsulIndex(u64),
    EtcdStream(Follow),
}

/// News of a folder, keys without prefix.
pub(crate) enum News {
    /// All that is there.
    Whole(Vec<Entry>),
    Happened(Vec<Change>),
}

impl Store {
    /// Reads the TLS files; asks nobody yet. Needs a tokio runtime around it.
    pub fn open(address: &StoreAddress, tls: Option<&TlsFiles>) -> Result<Self, TlsError> {
        let config = |protocol: &[u8]| tls.map(|files| files.load(protocol)).transpose();
        let servers = address.endpoints.clone();
        let backend = match address.kind {
            StoreKind::Consul => Backend::Consul(Consul::new(servers, config(b"http/1.1")?)),
            StoreKind::Etcd => Backend::Etcd(Etcd::new(servers, config(b"h2")?)),
        };
        let (name, prefix) = (address.to_string(), address.prefix.clone());
        Ok(Self(Arc::new(Inner { name, tls: tls.cloned(), prefix, backend })))
    }

    /// What another process of this host opens the same store by.
    pub fn location(&self) -> Location {
        Location { address: self.0.name.clone(), tls: self.0.tls.clone() }
    }

    /// Its address, as users know it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The entry, as the store's servers agree on it.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let full = self.full(key);
        let found = match &self.0.backend {
            Backend::Consul(consul) => consul.get(&full).await,
            Backend::Etcd(etcd) => etcd.get(&full).await,
        };
        Ok(found.map_err(self.on_reading(key))?.map(|entry| Entry { key: key.to_owned(), ..entry }))
    }

    /// All entries of a folder.
    pub async fn list(&self, folder: &str) -> Result<Vec<Entry>, StoreError> {
        let full = self.full(&format!("{folder}/"));
        let found = match &self.0.backend {
            Backend::Consul(consul) => consul.list(&full).await,
            Backend::Etcd(etcd) => etcd.list(&full).await,
        };
        Ok(self.inside(folder, found.map_err(self.on_reading(folder))?))
    }

    /// Writes a key that must not be there yet.
    pub async fn create(&self, key: &str, value: &[u8]) -> Result<Version, StoreError> {
        let full = self.full(key);
        let written = match &self.0.backend {
            Backend::Consul(consul) => consul.create(&full, value).await,
            Backend::Etcd(etcd) => etcd.create(&full, value).await,
        };
        written.map_err(self.on_change(key))
    }

    /// Writes a key that must be of this version.
    pub async fn replace(&self, key: &str, version: Version, value: &[u8]) -> Result<Version, StoreError> {
        let full = self.full(key);
        let written = match &self.0.backend {
            Backend::Consul(consul) => consul.replace(&full, version, value).await,
            Backend::Etcd(etcd) => etcd.replace(&full, version, value).await,
        };
        written.map_err(self.on_change(key))
    }

    /// Removes a key that must be of this version.
    pub async fn remove(&self, key: &str, version: Version) -> Result<(), StoreError> {
        let full = self.full(key);
        let removed = match &self.0.backend {
            Backend::Consul(consul) => consul.remove(&full, version).await,
            Backend::Etcd(etcd) => etcd.remove(&full, version).await,
        };
        removed.map_err(self.on_change(key))
    }

    /// Takes a lease that ends when it was not renewed for `ttl`. Consul's last 20 seconds at least.
    pub async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        let granted = match &self.0.backend {
            Backend::Consul(consul) => consul.grant(ttl).await.map(LeaseId::Consul),
            Backend::Etcd(etcd) => etcd.grant(ttl).await.map(LeaseId::Etcd),
        };
        granted.map(Lease).map_err(self.on_reading(""))
    }

    /// Keeps a lease; [`StoreError::LeaseGone`] if it has ended already.
    pub async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        let renewed = match (&self.0.backend, &lease.0) {
            (Backend::Consul(consul), LeaseId::Consul(session)) => consul.renew(session).await,
            (Backend::Etcd(etcd), LeaseId::Etcd(id)) => etcd.renew(*id).await,
            _ => Ok(false),
        };
        if renewed.map_err(self.on_reading(""))? { Ok(()) } else { Err(StoreError::LeaseGone) }
    }

    /// Ends a lease: what was written under it is gone at once.
    pub async fn revoke(&self, lease: &Lease) -> Result<(), StoreError> {
        let revoked = match (&self.0.backend, &lease.0) {
            (Backend::Consul(consul), LeaseId::Consul(session)) => consul.revoke(session).await,
            (Backend::Etcd(etcd), LeaseId::Etcd(id)) => etcd.revoke(*id).await,
            _ => Err(Failure::LeaseGone),
        };
        revoked.map_err(self.on_reading(""))
    }

    /// Writes a key under a lease, whoever wrote it before.
    pub async fn put_leased(&self, key: &str, value: &[u8], lease: &Lease) -> Result<(), StoreError> {
        let full = self.full(key);
        let written = match (&self.0.backend, &lease.0) {
            (Backend::Consul(consul), LeaseId::Consul(session)) => {
                consul.put_leased(&full, value, session).await
            }
            (Backend::Etcd(etcd), LeaseId::Etcd(id)) => etcd.put_leased(&full, value, *id).await,
            _ => Err(Failure::LeaseGone),
        };
        written.map_err(self.on_reading(key))
    }

    /// Follows a folder: all of it first, then what changes.
    pub fn watch(&self, folder: &str) -> Watch {
        Watch::new(self.clone(), folder)
    }

    /// The next news of a folder, and the position after them. On an error begin again.
    pub(crate) async fn news(&self, folder: &str, position: &mut Position) -> Result<News, StoreError> {
        let full = self.full(&format!("{folder}/"));
        let outcome = match (&self.0.backend, &mut *position) {
            (Backend::Etcd(_), Position::EtcdStream(stream)) => stream.next().await.map(News::Happened),
            (Backend::Etcd(etcd), _) => etcd.list_and_follow(&full).await.map(|(entries, stream)| {
                *position = Position::EtcdStream(stream);
                News::Whole(entries)
            }),
            (Backend::Consul(consul), before) => {
                let after = if let Position::ConsulIndex(index) = before { Some(*index) } else { None };
                consul.list_after(&full, after).await.map(|(entries, index)| {
                    *before = index.map_or(Position::Begin, Position::ConsulIndex);
                    News::Whole(entries)
                })
            }
        };
        Ok(match outcome.map_err(self.on_reading(folder))? {
            News::Whole(entries) => News::Whole(self.inside(folder, entries)),
            News::Happened(changes) => {
                News::Happened(changes.into_iter().filter_map(|c| self.change_inside(folder, c)).collect())
            }
        })
    }

    fn full(&self, key: &str) -> String {
        self.0.prefix.full(key)
    }

    /// Entries with their keys as callers know them.
    fn inside(&self, folder: &str, entries: Vec<Entry>) -> Vec<Entry> {
        let inside = |entry: Entry| Some(Entry { key: self.key_inside(folder, &entry.key)?, ..entry });
        entries.into_iter().filter_map(inside).collect()
    }

    fn change_inside(&self, folder: &str, change: Change) -> Option<Change> {
        Some(match change {
            Change::Put(entry) => Change::Put(Entry { key: self.key_inside(folder, &entry.key)?, ..entry }),
            Change::Removed(key) => Change::Removed(self.key_inside(folder, &key)?),
        })
    }

    /// None for the folder itself: some tools write an entry for it.
    fn key_inside(&self, folder: &str, full: &str) -> Option<String> {
        let key = self.0.prefix.strip(full)?;
        let rest = key.strip_prefix(folder)?.strip_prefix('/')?;
        (!rest.is_empty()).then(|| key.to_owned())
    }

    fn on_reading<'a>(&'a self, key: &'a str) -> impl FnOnce(Failure) -> StoreError + 'a {
        move |failure| failure.of(&self.0.name, key, true)
    }

    fn on_change<'a>(&'a self, key: &'a str) -> impl FnOnce(Failure) -> StoreError + 'a {
        move |failure| failure.of(&self.0.name, key, false)
    }
}
