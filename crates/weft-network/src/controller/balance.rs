//! Virtual IPs in containers' namespaces: only what changed, worked out once for all containers that it is the same for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use weft_kernel::{Change, ConntrackFilter, Kernel, KernelError};
use weft_plan::{BalanceEngine, ConnectReach, ConnectWish, NamespaceRef, NamespaceState};
use weft_types::{ContainerId, NetworkId};

use crate::balance::{self, Balanced, Reach};
use crate::controller::Controller;
use crate::controller::dataplane::in_parallel;
use crate::error::NetworkError;
use crate::helper::protocol::BalancedPlaces;
use crate::plans;
use crate::sandbox::Sandbox;
use crate::state::State;

/// What containers hold for virtual IPs, by the networks that they are on.
#[derive(Debug)]
pub(super) struct Balances {
    pub(super) engine: BalanceEngine,
    pub(super) sockets: bool,
    plans: Mutex<BTreeMap<Reach, Balanced>>,
}

impl Balances {
    pub(super) fn new(engine: BalanceEngine, sockets: bool) -> Self {
        Self { engine, sockets, plans: Mutex::default() }
    }
}

/// A change of what containers of one reach hold.
pub(super) struct Move {
    reach: Reach,
    change: Arc<Change>,
    forget: Arc<[ConntrackFilter]>,
}

/// One container's part in it.
struct Job<'a> {
    sandbox: &'a Sandbox,
    kernel: Kernel,
    /// None: it follows as a whole.
    change: Option<Arc<Change>>,
    forget: Arc<[ConntrackFilter]>,
}

/// Brings a change into one namespace; says whether that is all there is to do.
fn move_one(
    kernel: &Kernel,
    change: Option<Arc<Change>>,
    forget: &[ConntrackFilter],
) -> Result<bool, KernelError> {
    if let Some(change) = change
        && !kernel.advance_blocking(&change)?
    {
        return Ok(false);
    }
    if !forget.is_empty() {
        let forgotten = kernel.forget_any_blocking(forget)?;
        tracing::debug!(netns = %kernel.netns().path().display(), forgotten, "connections of tasks that are gone");
    }
    Ok(true)
}

impl Controller {
    /// What carries flows to virtual IPs on this node.
    pub fn balance_engine(&self) -> BalanceEngine {
        self.balances.engine
    }

    /// Lets plans follow the services of these networks; gives what changed. To be called before any namespace is made to
    /// follow.
    pub(super) fn follow_services(&self, state: &State, changed: &BTreeSet<NetworkId>) -> Vec<Move> {
        let services = self.services.load_full();
        let mut plans = self.balances.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let reaches = balance::reaches(state);
        plans.retain(|reach, _| reaches.contains(reach));
        let mut moves = Vec::new();
        let mesh = balance::mesh(state);
        for reach in reaches {
            let before = plans.get(&reach);
            if before.is_some_and(|before| before.balancer.tracked == mesh) && reach.is_disjoint(changed) {
                continue;
            }
            let Balances { engine, sockets, .. } = self.balances;
            let after = balance::balanced(state, &services, &reach, before, engine, sockets);
            if let Some(before) = before.filter(|before| before.balancer != after.balancer) {
                let change = Change::between((*before.state).clone(), (*after.state).clone());
                let forget = balance::left_behind(&before.balancer, &after.balancer).into();
                moves.push(Move { reach: reach.clone(), change: Arc::new(change), forget });
            }
            plans.insert(reach, after);
        }
        moves
    }

    /// Carries changes out in the containers that they concern, but for `done`, which follow as a whole.
    pub(super) async fn move_balancers(
        &self,
        state: &State,
        moves: &[Move],
        done: &BTreeSet<ContainerId>,
    ) -> Result<(), NetworkError> {
        let mut outcome = Ok(());
        let mut jobs = Vec::new();
        for sandbox in state.sandboxes.values().filter(|sandbox| sandbox.has_namespace()) {
            let reach = balance::reach(state, sandbox);
            let Some(step) = moves.iter().find(|step| step.reach == reach) else { continue };
            let change = (!done.contains(&sandbox.spec.container)).then(|| step.change.clone());
            match self.dataplane.at(&self.around.paths.sandbox_netns(&sandbox.id)).await {
                Ok(kernel) => jobs.push(Job { sandbox, kernel, change, forget: step.forget.clone() }),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        let work = jobs.iter().map(|job| (job.kernel.clone(), job.change.clone(), job.forget.clone()));
        let moved =
            in_parallel(work.collect(), |(kernel, change, forget)| move_one(&kernel, change, &forget));
        for (job, moved) in jobs.iter().zip(moved.await) {
            if let Err(error) = self.complete(state, job, moved).await {
                tracing::debug!(%error, sandbox = job.sandbox.id, "services not brought into the container's network");
                outcome = outcome.and(Err(error));
            }
        }
        self.reset_connections(jobs.iter().map(|job| (job.kernel.netns().clone(), job.forget.clone()))).await;
        outcome
    }

    /// Where a change did not fit, the namespace does not hold what it should: it follows as a whole.
    async fn complete(
        &self,
        state: &State,
        job: &Job<'_>,
        moved: Result<bool, KernelError>,
    ) -> Result<(), NetworkError> {
        if moved? {
            return Ok(());
        }
        let want = self.sandbox_state(state, job.sandbox);
        self.dataplane.reconcile("the container's network", &job.kernel, &want).await?;
        if !job.forget.is_empty() {
            job.kernel.forget_any(&job.forget).await?;
        }
        Ok(())
    }

    /// What a container's namespace shall hold, services included.
    pub(super) fn sandbox_state(&self, state: &State, sandbox: &Sandbox) -> NamespaceState {
        let mut plan = plans::sandbox(state, &self.around, sandbox);
        plan.balance = self.balanced(state, sandbox).map(|balanced| balanced.state);
        plan.plan()
    }

    fn balanced(&self, state: &State, sandbox: &Sandbox) -> Option<Balanced> {
        let reach = balance::reach(state, sandbox);
        if reach.is_empty() {
            return None;
        }
        let mut plans = self.balances.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(balanced) = plans.get(&reach) {
            return Some(balanced.clone());
        }
        let Balances { engine, sockets, .. } = self.balances;
        let balanced = balance::balanced(state, &self.services.load(), &reach, None, engine, sockets);
        plans.insert(reach, balanced.clone());
        Some(balanced)
    }

    /// What the helper adds to the wishes for containers' namespaces: services once, not once a container.
    pub(super) fn balanced_places(&self, state: &State) -> Vec<BalancedPlaces> {
        self.places_by_reach(state).into_values().collect()
    }

    /// What programs at the sockets shall know: the same.
    pub(super) fn connect_wish(&self, state: &State) -> ConnectWish {
        let reaches = balance::numbered(self.places_by_reach(state)).into_iter();
        let reach = |BalancedPlaces { balancer, places }| ConnectReach {
            namespaces: places.into_iter().collect(),
            balancer,
        };
        ConnectWish { reaches: reaches.map(|(number, of_reach)| (number, reach(of_reach))).collect() }
    }

    /// Containers' namespaces that have services.
    fn places_by_reach(&self, state: &State) -> BTreeMap<Reach, BalancedPlaces> {
        let mut places: BTreeMap<Reach, BalancedPlaces> = BTreeMap::new();
        for sandbox in state.sandboxes.values().filter(|sandbox| sandbox.has_namespace()) {
            let Some(balanced) = self.balanced(state, sandbox) else { continue };
            if balanced.balancer.services.is_empty() {
                continue;
            }
            let of_reach = places.entry(balance::reach(state, sandbox));
            let of_reach = of_reach.or_insert_with(|| BalancedPlaces {
                balancer: balanced.balancer.clone(),
                places: Vec::new(),
            });
            of_reach.places.push(NamespaceRef::at(self.around.paths.sandbox_netns(&sandbox.id)));
        }
        places
    }
}
