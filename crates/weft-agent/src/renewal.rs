//! Renewal of the node's certificate: in good time, or when the managers ask for it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_identity::{ChannelMode, JoinError, channel, renew};

use crate::core::Core;

/// First pause after a failure, doubled up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Renews until the agent stops.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        let at = core.identity.identity().renewal_time(rand::random());
        let wait = at.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = core.renew_now.notified() => {
                // Asked for twice before it was done once.
                if !core.is_to_renew() {
                    continue;
                }
                tracing::info!("the managers want this node's certificate renewed");
            }
        }
        let mut pause = FIRST_PAUSE;
        while let Err(error) = attempt(&core).await {
            tracing::warn!(%error, ?pause, "the certificate could not be renewed");
            tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        core.renewed();
    }
}

async fn attempt(core: &Core) -> Result<(), JoinError> {
    // Without a session there is still the list of managers: a long absence must not end in an expired certificate.
    let Some(address) = core.choose_manager() else { return Err(JoinError::Timeout) };
    renew(&core.identity, channel(address, ChannelMode::Node(&core.identity))?).await
}
