//! The daemon of a worker is away; the same for ten minutes is `cargo xtask soak outage`.

use std::time::Duration;

use weft_e2e::slices::Game as _;
use weft_e2e::soaks::Outage;

/// A node whose daemon is silent for three of these is known to be away: the outage is longer.
const HEARTBEAT: Duration = Duration::from_secs(2);
const AWAY: Duration = Duration::from_secs(9);

#[test]
fn a_node_whose_daemon_is_away_is_reached_and_reaches_all() {
    let game = Outage { away: AWAY, heartbeat: HEARTBEAT };
    let mut arena = game.up(0);
    for round in 0..Outage::KINDS {
        game.play(&mut arena, round, round);
    }
}
