//! Tables of nftables as values.
//!
//! A rule is a line of nft's own language, which is what people read in golden tests and in `nft list ruleset`. The
//! kernel's listing of a rule differs from its source (and between versions of `nft`), so a rule is recognised by a
//! fingerprint of its text that travels in its comment, and its place by its order in the chain.

mod render;
mod rule;
mod set;
mod table;

pub use render::{change_elements_script, delete_table_script, set_table_script};
pub use rule::NftRule;
pub use set::{Learnt, NftSet};
pub use table::{Chain, Family, Hook, HookKind, Table, TableId};
