//! What containers use, once or every second.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Interval, MissedTickBehavior};

use super::{Engine, Result, blocking, now};
use crate::container::live::Container;
use crate::container::record::Phase;
use crate::error::EngineError;
use crate::stats::{ContainerStats, CpuStats, Source};

/// Docker's.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks at a container, one a second.
pub type StatsStream = Pin<Box<dyn Stream<Item = ContainerStats> + Send>>;

impl Engine {
    /// One look after a second of watching, so that it tells how busy the container is; `one_shot`: at once, without
    /// that. Zeros at once where the container does not run.
    pub async fn stats_once(self: &Arc<Self>, term: &str, one_shot: bool) -> Result<ContainerStats> {
        let container = self.find(term)?;
        let mut watch = Watch::new(self.clone(), container);
        if watch.container.state().phase != Phase::Running {
            return Ok(watch.nothing());
        }
        // At once; the next pause lasts its second.
        watch.pause().await;
        let first = watch.look().await?;
        if one_shot {
            return Ok(ContainerStats { name: None, id: None, ..first });
        }
        watch.pause().await;
        watch.look().await
    }

    /// A look every second, the first one now; ends when the container is removed.
    pub fn stats(self: &Arc<Self>, term: &str) -> Result<StatsStream> {
        let watch = Watch::new(self.clone(), self.find(term)?);
        Ok(Box::pin(futures_util::stream::unfold(watch, |mut watch| async move {
            if !watch.pause().await {
                return None;
            }
            let stats = match watch.look().await {
                Ok(stats) => stats,
                Err(error) => {
                    tracing::warn!(container = %watch.container.id, %error, "statistics not read");
                    watch.nothing()
                }
            };
            Some((stats, watch))
        })))
    }
}

/// Looks at one container again and again.
struct Watch {
    engine: Arc<Engine>,
    container: Arc<Container>,
    previous: Option<(String, CpuStats)>,
    ticks: Interval,
}

impl Watch {
    fn new(engine: Arc<Engine>, container: Arc<Container>) -> Self {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { engine, container, previous: None, ticks }
    }

    /// Waits for the next second, not at all the first time; false if the container has gone instead.
    async fn pause(&mut self) -> bool {
        let mut life = self.container.life.subscribe();
        tokio::select! {
            biased;
            _ = life.wait_for(|life| life.removed) => false,
            _ = self.ticks.tick() => true,
        }
    }

    fn nothing(&self) -> ContainerStats {
        ContainerStats::none(&self.container.name(), self.container.id.as_str())
    }

    async fn look(&mut self) -> Result<ContainerStats> {
        let state = self.container.state();
        if state.phase != Phase::Running {
            self.previous = None;
            return Ok(self.nothing());
        }
        let on_host = self.container.with(|record| record.network_mode() == "host");
        let source = Source {
            hierarchies: self.engine.hierarchies.clone(),
            cgroup: self.container.cgroup(&self.engine.config.cgroup_parent),
            network_of: (!on_host).then_some(state.pid),
        };
        let mut stats = self.nothing();
        let read = blocking(move || match source.read(&mut stats) {
            Ok(()) => Ok(Some(stats)),
            // It has ended since we looked; a process that is being reaped has no network any more.
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(EngineError::file("read statistics of", source.cgroup)(error)),
        });
        let Some(mut stats) = read.await? else {
            self.previous = None;
            return Ok(self.nothing());
        };
        stats.read = now();
        let this = (stats.read.clone(), stats.cpu_stats.clone());
        if let Some((read, cpu)) = self.previous.replace(this) {
            (stats.preread, stats.precpu_stats) = (read, cpu);
        }
        Ok(stats)
    }
}

fn is_gone(error: &io::Error) -> bool {
    let no_such_process = rustix::io::Errno::SRCH.raw_os_error();
    let invalid = rustix::io::Errno::INVAL.raw_os_error();
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error().is_some_and(|code| code == no_such_process || code == invalid)
}
