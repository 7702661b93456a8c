//! Nothing is left of containers that are gone; the same a thousand and two hundred times is `cargo xtask soak leaks` and
//! `crashes`.

use weft_e2e::slices::Game as _;
use weft_e2e::soaks::{Crashes, Leaks};

/// Labs that are not those of the soaks.
const LABS: [u64; 2] = [2, 3];

#[test]
fn containers_leave_nothing_behind() {
    let game = Leaks { containers: 20 };
    let mut arena = game.up(LABS[0]);
    for round in 0..2 {
        game.play(&mut arena, round, round);
    }
}

#[test]
fn killed_daemons_and_shims_leave_nothing_behind() {
    let game = Crashes;
    let mut arena = game.up(LABS[1]);
    for round in 0..4 {
        game.play(&mut arena, round, round);
    }
}
