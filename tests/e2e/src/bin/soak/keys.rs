//! Twenty rotations of the keys of gossip beside a real Docker engine.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use weft_e2e::rotations::rotate;

/// As many as the issue asks for.
const ROTATIONS: u64 = 20;
/// Keys reach the nodes with their managers' next word, well within a second.
const PERIOD: Duration = Duration::from_secs(5);

/// Twenty rotations beside a real Docker engine. Takes three minutes; a node that drops out ends it with a panic.
pub(crate) fn keys(record: Option<PathBuf>, commit: &str) -> ExitCode {
    let began = std::time::Instant::now();
    let rotated = rotate("keysoak", ROTATIONS, PERIOD);
    let text = format!(
        "# Rotations of the keys of gossip beside a real Docker engine\n\n\
         | what | value |\n|---|---|\n\
         | commit | `{commit}` |\n\
         | nodes | a manager and a worker of Weft, a worker of Docker's engine |\n\
         | rotations, one every 5 s | {} |\n\
         | containers made meanwhile, on either engine | {} |\n\
         | longest until the others knew the name and reached it | {:.1} s |\n\
         | Weft's worker slept through three more, back after | {:.1} s |\n\
         | Docker's worker slept through three more, back after | {:.1} s |\n\
         | real time | {:.0} s |\n\
         | result | passed |\n\n\
         After every rotation each engine's containers must be known to the other by name, which only gossip tells, and \
         be reached. Then every process of one worker after the other is stopped for three rotations, after which no key \
         that it has is in use; it must come back by itself.\n\nRepeat: `cargo xtask soak keys`\n",
        rotated.rotations,
        rotated.names,
        rotated.slowest.as_secs_f64(),
        rotated.woken[0].as_secs_f64(),
        rotated.woken[1].as_secs_f64(),
        began.elapsed().as_secs_f64(),
    );
    println!("{text}");
    match record.map(|record| std::fs::write(record, &text)) {
        Some(Err(error)) => {
            println!("soak: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
