//! Programs at sockets follow the services that containers reach. The rules of nftables below carry whatever they do
//! not, so that nothing waits for them and a failure is a matter of speed alone.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use weft_kernel::{Capabilities, ConnectEngine, ConnectError, ConnectReport, ConntrackFilter, Netns};
use weft_plan::{BalanceEngine, ConnectWish};
use weft_types::error_chain;

use super::Controller;
use super::dataplane::blocking;
use crate::balance::BalancerChoice;
use crate::error::NetworkError;
use crate::state::State;

/// What a change is looked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Only in what shall be.
    AtTheWish,
    /// Also in what is there.
    AtTheKernel,
}

/// The programs of this node, once they are needed.
#[derive(Debug)]
pub(super) struct ConnectLink {
    /// Where they outlive the daemon.
    folder: PathBuf,
    programs: Arc<Mutex<Programs>>,
}

#[derive(Debug, Default)]
struct Programs {
    engine: Option<ConnectEngine>,
    /// What was brought about last.
    wished: ConnectWish,
}

/// The engine that a choice comes to on this kernel.
pub(super) async fn balance_engine(
    choice: BalancerChoice,
    found: &Capabilities,
) -> Result<BalanceEngine, NetworkError> {
    let engine = choice.engine(found).ok_or(match choice {
        BalancerChoice::Ipvs => NetworkError::NoBalancer("ipvs"),
        _ => NetworkError::NoBalancer("nftables"),
    })?;
    if engine != BalanceEngine::Bpf {
        return Ok(engine);
    }
    match blocking(ConnectEngine::probe_blocking).await {
        Ok(()) => Ok(engine),
        Err(error) if choice == BalancerChoice::Auto => {
            tracing::info!(reason = %error, "virtual IPs are left to nftables");
            Ok(found.balance_engine())
        }
        Err(error) => Err(NetworkError::NoConnect(error)),
    }
}

impl Programs {
    /// Nothing is made before there is a service. Later on what shows older connections their virtual IP stays.
    fn follow(
        &mut self,
        folder: &Path,
        wish: ConnectWish,
        look: Look,
    ) -> Result<ConnectReport, ConnectError> {
        let unneeded = wish.reaches.is_empty() && self.engine.is_none() && !folder.exists();
        if unneeded || (look == Look::AtTheWish && self.engine.is_some() && self.wished == wish) {
            return Ok(ConnectReport::default());
        }
        match self.bring(folder, wish, look) {
            // Left as they are, programs would go on with tasks that are gone. Without them the rules have it all, and
            // the next audit begins anew.
            Err(error) => {
                let report = self.remove(folder)?;
                Ok(ConnectReport { failed: vec![error_chain(&error)], ..report })
            }
            done => done,
        }
    }

    fn bring(&mut self, folder: &Path, wish: ConnectWish, look: Look) -> Result<ConnectReport, ConnectError> {
        let mut engine = match self.engine.take() {
            Some(engine) => engine,
            None => ConnectEngine::open_blocking(folder)?,
        };
        let report = engine.reconcile_blocking(&wish, look == Look::AtTheKernel)?;
        *self = Self { engine: Some(engine), wished: wish };
        Ok(report)
    }

    fn remove(&mut self, folder: &Path) -> Result<ConnectReport, ConnectError> {
        *self = Self::default();
        ConnectEngine::remove_blocking(folder).map(|()| ConnectReport::default())
    }
}

impl ConnectLink {
    pub(super) fn new(run_dir: &Path) -> Self {
        Self { folder: run_dir.join("connect"), programs: Arc::default() }
    }

    /// None: another engine has the services.
    async fn follow(&self, wish: Option<ConnectWish>, look: Look) -> Result<ConnectReport, ConnectError> {
        let (folder, programs) = (self.folder.clone(), self.programs.clone());
        blocking(move || {
            let mut programs = programs.lock().unwrap_or_else(PoisonError::into_inner);
            match wish {
                Some(wish) => programs.follow(&folder, wish, look),
                None => programs.remove(&folder),
            }
        })
        .await
    }

    /// Resets connections to tasks that are gone, in these namespaces.
    async fn reset(&self, places: Vec<(Netns, Vec<(IpAddr, IpAddr)>)>) {
        let programs = self.programs.clone();
        blocking(move || {
            let programs = programs.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(engine) = &programs.engine else { return };
            for (netns, gone) in places {
                match engine.reset_blocking(&netns, gone) {
                    Ok(0) => {}
                    Ok(count) => {
                        tracing::debug!(netns = %netns.path().display(), count, "connections to tasks that are gone reset");
                    }
                    Err(error) => tracing::debug!(%error, "connections to tasks that are gone not reset"),
                }
            }
        })
        .await;
    }

    /// This node's containers are gone.
    pub(super) async fn end(&self) {
        if let Err(error) = self.follow(None, Look::AtTheWish).await {
            tracing::warn!(%error, "programs at sockets left behind");
        }
    }
}

impl Controller {
    /// Has programs know what the containers of `state` reach. Says how much of it somebody else had damaged. An error:
    /// they may still take flows to where these shall not go any more.
    pub(super) async fn follow_connect(&self, state: &State, look: Look) -> Result<usize, NetworkError> {
        let programs = self.balance_engine() == BalanceEngine::Bpf;
        if !programs && look == Look::AtTheWish {
            return Ok(0);
        }
        let wish = programs.then(|| self.connect_wish(state));
        let report = self.connect.follow(wish, look).await.map_err(NetworkError::Connect)?;
        Ok(self.note_connect(&report))
    }

    /// Resets the connections by programs among those that have to be forgotten.
    pub(super) async fn reset_connections(
        &self,
        forgotten: impl Iterator<Item = (Netns, Arc<[ConntrackFilter]>)>,
    ) {
        if self.balance_engine() != BalanceEngine::Bpf {
            return;
        }
        let gone = |filters: &[ConntrackFilter]| -> Vec<_> {
            let whole = filters.iter().filter(|filter| filter.protocol.is_none());
            whole.filter_map(|filter| filter.original_destination.zip(filter.reply_source)).collect()
        };
        let places = forgotten.map(|(netns, filters)| (netns, gone(&filters)));
        let places: Vec<_> = places.filter(|(_, gone)| !gone.is_empty()).collect();
        if !places.is_empty() {
            self.connect.reset(places).await;
        }
    }

    fn note_connect(&self, report: &ConnectReport) -> usize {
        for failure in &report.failed {
            tracing::warn!(%failure, "left to nftables");
        }
        if report.changed > 0 {
            tracing::debug!(steps = report.changed, "services at connect time");
        }
        self.note_programs(&report.repaired)
    }
}
