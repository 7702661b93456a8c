//! Names for containers and services that nobody has named: `adjective_noun`.

use rand::Rng;

const ADJECTIVES: [&str; 40] = [
    "amber", "bold", "brisk", "calm", "clever", "cosy", "crisp", "deft", "eager", "early", "fair", "fine",
    "fond", "gentle", "glad", "golden", "grand", "happy", "hardy", "keen", "kind", "light", "lively",
    "lucid", "merry", "mild", "neat", "noble", "plain", "proud", "quick", "quiet", "rapid", "ready",
    "silver", "steady", "swift", "tidy", "warm", "wise",
];

const NOUNS: [&str; 40] = [
    "bobbin", "braid", "canvas", "carder", "cloth", "comb", "cotton", "damask", "denim", "distaff", "fibre",
    "flannel", "fleece", "fringe", "gauze", "heddle", "hemp", "jacquard", "lace", "linen", "loom", "muslin",
    "needle", "pattern", "reed", "ribbon", "satin", "selvage", "shuttle", "silk", "skein", "spindle",
    "spool", "thread", "treadle", "tweed", "twill", "velvet", "warp", "yarn",
];

/// A random name; a number makes collisions rare.
pub fn random_name(rng: &mut impl Rng) -> String {
    let adjective = ADJECTIVES[rng.random_range(0..ADJECTIVES.len())];
    let noun = NOUNS[rng.random_range(0..NOUNS.len())];
    format!("{adjective}_{noun}{}", rng.random_range(0..1000))
}
