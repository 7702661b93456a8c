//! The profile `bulk`: packets that come in by the data path's interface are shared among all processors. What was set
//! there before is kept in a file from before the change until it is given back.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weft_kernel::{Netns, Steering, SteeringError, all_processors, same_processors};
use weft_plan::LinkName;
use weft_types::error_chain;

use super::Controller;
use super::dataplane::blocking;
use crate::profile::Profile;
use crate::store::MODE;

/// An interface that is steered, and what it was like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    link: LinkName,
    was: Steering,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Queues(#[from] SteeringError),
    #[error("{0}")]
    Processors(#[source] std::io::Error),
    #[error("write {path}: {source}")]
    Record { path: String, source: std::io::Error },
}

impl Controller {
    /// Has the data path's interface follow the profile. A failure costs speed alone.
    pub(super) async fn follow_profile(&self) {
        let wanted = (self.config.profile == Profile::Bulk).then(|| self.data_path_link()).flatten();
        self.steer(wanted).await;
    }

    /// The interface is as it was.
    pub(super) async fn end_profile(&self) {
        self.steer(None).await;
    }

    async fn steer(&self, wanted: Option<LinkName>) {
        let (netns, record) = (self.dataplane.host().netns().clone(), self.around.paths.steering());
        let steered = blocking(move || steer(&netns, &record, wanted.as_ref())).await;
        if let Err(error) = steered {
            tracing::warn!(error = error_chain(&error), "profile of the data path not brought about");
        }
    }
}

fn steer(netns: &Netns, record: &Path, wanted: Option<&LinkName>) -> Result<(), Failure> {
    let kept: Option<Kept> = std::fs::read(record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let same = kept.as_ref().map(|kept| &kept.link) == wanted;
    if let Some(kept) = kept.filter(|_| !same) {
        match netns.set_steering(&kept.link, &kept.was) {
            Ok(()) => tracing::info!(link = %kept.link, "receive queues as they were"),
            // An interface that is gone has nothing to be given back.
            Err(error) => tracing::debug!(link = %kept.link, %error, "receive queues not given back"),
        }
        std::fs::remove_file(record).map_err(failed(record))?;
    }
    let Some(link) = wanted else { return Ok(()) };
    let all = all_processors().map_err(Failure::Processors)?;
    let now = netns.steering(link)?;
    if now.values().all(|processors| same_processors(processors, &all)) {
        return Ok(());
    }
    if !same {
        let kept = serde_json::to_vec(&Kept { link: link.clone(), was: now.clone() });
        let bytes = kept.map_err(std::io::Error::from).map_err(failed(record))?;
        weft_durable::replace_unsynced(record, &bytes, MODE).map_err(failed(record))?;
    }
    let want = now.into_keys().map(|queue| (queue, all.clone())).collect();
    netns.set_steering(link, &want)?;
    tracing::info!(%link, processors = all, "receive queues are shared among processors");
    Ok(())
}

fn failed(record: &Path) -> impl Fn(std::io::Error) -> Failure {
    let path: PathBuf = record.to_owned();
    move |source| Failure::Record { path: path.display().to_string(), source }
}
