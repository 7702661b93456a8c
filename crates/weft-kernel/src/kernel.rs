//! A connection to the kernel for one namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use netlink_sys::protocols::NETLINK_ROUTE;
use weft_plan::{Ipvs, NamespaceState, Observed, Op, Table, TableId};

use crate::ipvs::{self, IpvsSocket};
use crate::netfilter::{self, Generation};
use crate::socket::NetlinkSocket;
use crate::{Change, ConntrackFilter, KernelError, Netns, Report, apply, nft, observe, sysctl};

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
    /// Opened when first needed; most namespaces never do.
    pub(crate) ipvs: Option<IpvsSocket>,
    /// The last listing of our tables, and the generation of the ruleset it shows.
    pub(crate) tables: Option<(Generation, BTreeMap<TableId, Arc<Table>>)>,
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
        let sockets = Sockets { route, netfilter, ipvs: None, tables: None };
        Ok(Self { netns, inner: Arc::new(Mutex::new(sockets)) })
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Reads what is there. `interest` says which settings to read.
    pub async fn observe(&self, interest: &NamespaceState) -> Result<Observed, KernelError> {
        let (kernel, interest) = (self.clone(), Interest::of(interest));
        on_pool(move || kernel.observe_interest(&interest)).await
    }

    /// [`Kernel::observe`], blocking.
    pub fn observe_blocking(&self, interest: &NamespaceState) -> Result<Observed, KernelError> {
        self.observe_interest(&Interest::of(interest))
    }

    fn observe_interest(&self, interest: &Interest) -> Result<Observed, KernelError> {
        self.inside(|sockets| observe_all(sockets, &self.netns, interest))
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
        let applied = self.inside(|sockets| apply_all(sockets, &self.netns, ops, None));
        applied.unwrap_or_else(|error| Report::not_entered(ops, error))
    }

    /// Observe, diff, apply.
    pub async fn reconcile(&self, desired: &NamespaceState) -> Result<Report, KernelError> {
        let (kernel, desired) = (self.clone(), desired.clone());
        on_pool(move || kernel.reconcile_blocking(&desired)).await
    }

    /// [`Kernel::reconcile`], blocking.
    pub fn reconcile_blocking(&self, desired: &NamespaceState) -> Result<Report, KernelError> {
        let interest = Interest::of(desired);
        self.inside(|sockets| {
            let observed = observe_all(sockets, &self.netns, &interest)?;
            apply_all(sockets, &self.netns, &weft_plan::diff(&observed, desired), Some(desired))
        })
    }

    /// Carries out a change, if the namespace holds what it starts from, as Weft left or found it. False: it does not, or
    /// the kernel refused; then only [`Kernel::reconcile`] helps.
    pub fn advance_blocking(&self, change: &Change) -> Result<bool, KernelError> {
        let work = |sockets: &mut Sockets| change.carry_out(sockets, &self.netns);
        if change.needs_thread() { self.inside(|sockets| Ok(work(sockets))) } else { Ok(self.with(work)) }
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

    /// Chains of others that drop forwarded packets by their policy, as `family table chain`.
    pub async fn foreign_forward_drops(&self) -> Result<BTreeSet<String>, KernelError> {
        let kernel = self.clone();
        on_pool(move || kernel.inside(|_| nft::foreign_forward_drops())).await
    }

    /// Whether bridged packets pass the IP hooks, for [`weft_plan::HostPlan::bridge_netfilter`].
    pub async fn bridge_netfilter(&self) -> Result<bool, KernelError> {
        Ok(self.sysctl("net/bridge/bridge-nf-call-iptables").await?.as_deref() == Some("1"))
    }

    /// Forgets the tracked connections that match, so that their next packet meets the rules anew; says how many.
    pub async fn forget_connections(&self, filter: &ConntrackFilter) -> Result<usize, KernelError> {
        self.forget_any(std::slice::from_ref(filter)).await
    }

    /// [`Kernel::forget_connections`] for those that match any of the filters.
    pub async fn forget_any(&self, filters: &[ConntrackFilter]) -> Result<usize, KernelError> {
        let (kernel, filters) = (self.clone(), filters.to_vec());
        on_pool(move || kernel.forget_any_blocking(&filters)).await
    }

    /// [`Kernel::forget_any`], blocking.
    pub fn forget_any_blocking(&self, filters: &[ConntrackFilter]) -> Result<usize, KernelError> {
        self.with(|sockets| netfilter::forget(&mut sockets.netfilter, filters))
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

/// What to read beside what is always read.
struct Interest {
    sysctls: Vec<String>,
    ipvs: bool,
}

impl Interest {
    fn of(state: &NamespaceState) -> Self {
        Self { sysctls: state.sysctls.keys().cloned().collect(), ipvs: state.ipvs.is_some() }
    }
}

fn observe_all(sockets: &mut Sockets, netns: &Netns, interest: &Interest) -> Result<Observed, KernelError> {
    let mut observed = observe::observe(&mut sockets.route, &interest.sysctls)?;
    observed.ipvs = match interest.ipvs {
        true => ipvs::observe(&mut sockets.ipvs, netns)?,
        false => Ipvs::default(),
    };
    for key in &interest.sysctls {
        if observed.sysctls.contains_key(key) {
            continue;
        }
        if let Some(value) = sysctl::read(key)? {
            observed.sysctls.insert(key.clone(), value);
        }
    }
    observed.tables = tables(sockets)?;
    Ok(observed)
}

/// `desired` is what the operations lead to, if that is known.
fn apply_all(
    sockets: &mut Sockets,
    netns: &Netns,
    ops: &[Op],
    desired: Option<&NamespaceState>,
) -> Result<Report, KernelError> {
    let report = apply::apply(sockets, netns, ops);
    if report.done.iter().any(Op::is_nft) {
        remember(sockets, &report, desired)?;
    } else if let (true, Some(desired), Some((_, tables))) = (report.is_clean(), desired, &mut sockets.tables)
    {
        share(tables, desired);
    }
    Ok(report)
}

/// What our own transactions changed need not be listed again, if nothing else happened since the last listing.
fn remember(
    sockets: &mut Sockets,
    report: &Report,
    desired: Option<&NamespaceState>,
) -> Result<(), KernelError> {
    let now = netfilter::generation(&mut sockets.netfilter)?;
    sockets.tables = match (sockets.tables.take(), now) {
        (Some((listed, tables)), Some(now)) if listed.is_followed_by(report.transactions, now) => {
            let mut model = Observed { tables, ..Observed::default() };
            let desired = desired.filter(|_| report.is_clean());
            // Elements are those that were wished for, and need not be worked out.
            let counts =
                |op: &&Op| op.is_nft() && (desired.is_none() || !matches!(op, Op::ChangeElements { .. }));
            report.done.iter().filter(counts).for_each(|op| weft_plan::model::apply(&mut model, op));
            if let Some(desired) = desired {
                share(&mut model.tables, desired);
            }
            Some((now, model.tables))
        }
        _ => None,
    };
    Ok(())
}

/// After a change that went well, tables are those that were wished for: one copy of each large one does for all
/// namespaces, and comparing it costs nothing.
pub(crate) fn share(tables: &mut BTreeMap<TableId, Arc<Table>>, desired: &NamespaceState) {
    for (id, table) in desired.tables.iter().filter(|(id, _)| !id.is_users()) {
        tables.insert(id.clone(), table.clone());
    }
}

pub(crate) fn holds(tables: &BTreeMap<TableId, Arc<Table>>, id: &TableId, table: &Arc<Table>) -> bool {
    tables.get(id).is_some_and(|seen| Arc::ptr_eq(seen, table) || seen.is_like(table))
}

/// Listing costs a process; the generation tells whether the last listing still holds.
fn tables(sockets: &mut Sockets) -> Result<BTreeMap<TableId, Arc<Table>>, KernelError> {
    let Some(generation) = netfilter::generation(&mut sockets.netfilter)? else { return Ok(BTreeMap::new()) };
    match &sockets.tables {
        Some((listed, tables)) if *listed == generation => return Ok(tables.clone()),
        _ => {}
    }
    let listed = if generation.is_first() { Vec::new() } else { nft::list()? };
    let tables: BTreeMap<_, _> =
        listed.into_iter().map(|table| (table.id.clone(), Arc::new(table))).collect();
    sockets.tables = Some((generation, tables.clone()));
    Ok(tables)
}
