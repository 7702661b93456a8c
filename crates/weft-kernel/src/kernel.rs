//! A connection to the kernel for one namespace.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use netlink_sys::protocols::NETLINK_ROUTE;
use weft_plan::{NamespaceState, Observed, Op, Table, TableId};

use crate::netfilter::{self, Generation};
use crate::socket::NetlinkSocket;
use crate::{ConntrackFilter, KernelError, Netns, Report, apply, nft, observe, sysctl};

/// Reads and changes one namespace. Cheap to clone; one request at a time.
///
/// Each call has a `_blocking` twin for callers without a runtime. The others run it on the runtime's blocking pool,
/// where a fresh thread of its own enters the namespace.
#[derive(Debug, Clone)]
pub struct Kernel {
    netns: Netns,
    inner: Arc<Mutex<Sockets>>,
}

/// What is open towards the kernel.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) route: NetlinkSocket,
    pub(crate) netfilter: NetlinkSocket,
    /// The last listing of our tables, and the generation of the ruleset it shows.
    tables: Option<(Generation, BTreeMap<TableId, Arc<Table>>)>,
}

impl Kernel {
    /// Connects. The sockets are made inside the namespace and stay there, whatever happens to its file.
    pub async fn open(netns: Netns) -> Result<Self, KernelError> {
        on_pool(move || Self::open_blocking(netns)).await
    }

    /// [`Kernel::open`], blocking.
    pub fn open_blocking(netns: Netns) -> Result<Self, KernelError> {
        let route = NetlinkSocket::open(&netns, NETLINK_ROUTE)?;
        let netfilter = netfilter::open(&netns)?;
        let sockets = Sockets { route, netfilter, tables: None };
        Ok(Self { netns, inner: Arc::new(Mutex::new(sockets)) })
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Reads what is there. `interest` says which settings to read.
    pub async fn observe(&self, interest: &NamespaceState) -> Result<Observed, KernelError> {
        let (kernel, keys) = (self.clone(), keys(interest));
        on_pool(move || kernel.observe_keys(&keys)).await
    }

    /// [`Kernel::observe`], blocking.
    pub fn observe_blocking(&self, interest: &NamespaceState) -> Result<Observed, KernelError> {
        self.observe_keys(&keys(interest))
    }

    fn observe_keys(&self, keys: &[String]) -> Result<Observed, KernelError> {
        self.inside(|sockets| observe_all(sockets, keys))
    }

    /// Carries out operations in order. Goes on after a failure: what does not depend on it still stands.
    pub async fn apply(&self, ops: &[Op]) -> Report {
        let (kernel, ops) = (self.clone(), ops.to_vec());
        on_pool(move || kernel.apply_blocking(&ops)).await
    }

    /// [`Kernel::apply`], blocking.
    pub fn apply_blocking(&self, ops: &[Op]) -> Report {
        if ops.is_empty() {
            return Report::default();
        }
        let netns = self.netns.clone();
        let applied = self.inside(|sockets| apply_all(sockets, &netns, ops));
        applied.unwrap_or_else(|error| Report::not_entered(ops, error))
    }

    /// Observe, diff, apply.
    pub async fn reconcile(&self, desired: &NamespaceState) -> Result<Report, KernelError> {
        let (kernel, desired) = (self.clone(), desired.clone());
        on_pool(move || kernel.reconcile_blocking(&desired)).await
    }

    /// [`Kernel::reconcile`], blocking.
    pub fn reconcile_blocking(&self, desired: &NamespaceState) -> Result<Report, KernelError> {
        let netns = self.netns.clone();
        let keys = keys(desired);
        self.inside(|sockets| {
            let observed = observe_all(sockets, &keys)?;
            apply_all(sockets, &netns, &weft_plan::diff(&observed, desired))
        })
    }

    /// A network setting of the namespace (`net/ipv4/ip_forward`); none where the kernel does not have it.
    pub async fn sysctl(&self, key: &str) -> Result<Option<String>, KernelError> {
        let (kernel, key) = (self.clone(), key.to_owned());
        on_pool(move || kernel.sysctl_blocking(&key)).await
    }

    /// [`Kernel::sysctl`], blocking.
    pub fn sysctl_blocking(&self, key: &str) -> Result<Option<String>, KernelError> {
        self.inside(|_| sysctl::read(key))
    }

    /// Whether bridged packets pass the IP hooks, for [`weft_plan::HostPlan::bridge_netfilter`].
    pub async fn bridge_netfilter(&self) -> Result<bool, KernelError> {
        Ok(self.sysctl("net/bridge/bridge-nf-call-iptables").await?.as_deref() == Some("1"))
    }

    /// Forgets the tracked connections that match, so that their next packet meets the rules anew; says how many.
    pub async fn forget_connections(&self, filter: &ConntrackFilter) -> Result<usize, KernelError> {
        let (kernel, filter) = (self.clone(), filter.clone());
        on_pool(move || kernel.with(|sockets| netfilter::forget(&mut sockets.netfilter, &filter))).await
    }

    /// Runs work that needs the sockets only.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Sockets) -> T) -> T {
        // A panic between request and answer leaves at worst an unread answer, which is skipped by its number.
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs work that also needs a thread inside: for settings and for `nft`.
    pub(crate) fn inside<T: Send>(
        &self,
        work: impl FnOnce(&mut Sockets) -> Result<T, KernelError> + Send,
    ) -> Result<T, KernelError> {
        self.with(|sockets| self.netns.run_in(|| work(sockets))).map_err(KernelError::from).flatten()
    }
}

/// Runs blocking work on the runtime's pool.
pub(crate) async fn on_pool<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is only cancelled before it starts, when the runtime shuts down: nobody awaits then.
            Err(_) => std::future::pending().await,
        },
    }
}

fn keys(interest: &NamespaceState) -> Vec<String> {
    interest.sysctls.keys().cloned().collect()
}

fn observe_all(sockets: &mut Sockets, keys: &[String]) -> Result<Observed, KernelError> {
    let mut observed = observe::observe(&mut sockets.route)?;
    for key in keys {
        if let Some(value) = sysctl::read(key)? {
            observed.sysctls.insert(key.clone(), value);
        }
    }
    observed.tables = tables(sockets)?;
    Ok(observed)
}

fn apply_all(sockets: &mut Sockets, netns: &Netns, ops: &[Op]) -> Result<Report, KernelError> {
    let report = apply::apply(&mut sockets.route, netns, ops);
    if report.done.iter().any(Op::is_nft) {
        remember(sockets, &report.done)?;
    }
    Ok(report)
}

/// What our own transaction changed need not be listed again, if nothing else happened since the last listing.
fn remember(sockets: &mut Sockets, done: &[Op]) -> Result<(), KernelError> {
    let now = netfilter::generation(&mut sockets.netfilter)?;
    sockets.tables = match (sockets.tables.take(), now) {
        (Some((listed, tables)), Some(now)) if listed.is_followed_by(now) => {
            let mut model = Observed { tables, ..Observed::default() };
            done.iter().filter(|op| op.is_nft()).for_each(|op| weft_plan::model::apply(&mut model, op));
            Some((now, model.tables))
        }
        _ => None,
    };
    Ok(())
}

/// Listing costs a process; the generation tells whether the last listing still holds.
fn tables(sockets: &mut Sockets) -> Result<BTreeMap<TableId, Arc<Table>>, KernelError> {
    let Some(generation) = netfilter::generation(&mut sockets.netfilter)? else { return Ok(BTreeMap::new()) };
    match &sockets.tables {
        Some((listed, tables)) if *listed == generation => return Ok(tables.clone()),
        _ => {}
    }
    let listed = if generation.is_first() { Vec::new() } else { nft::list()? };
    let tables: BTreeMap<_, _> = listed.into_iter().map(|table| (table.id.clone(), Arc::new(table))).collect();
    sockets.tables = Some((generation, tables.clone()));
    Ok(tables)
}
