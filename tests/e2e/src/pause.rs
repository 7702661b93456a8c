//! Time that has to pass because it is what is played: the pace of a client, the length of a fault. Whoever waits for
//! something waits for that.

use std::time::Duration;

#[allow(clippy::disallowed_methods, reason = "see the module")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
