//! One rule.

use serde::{Deserialize, Serialize};

/// A rule in nft's language, without its comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NftRule {
    /// The rule. Empty for an observed one: only the fingerprint is known then.
    pub text: String,
    /// What the rule's comment says: its purpose and a fingerprint of its text.
    pub comment: String,
}

impl NftRule {
    /// A rule for a purpose (one word or a few, shown in `nft list ruleset`).
    pub fn new(purpose: &str, text: impl Into<String>) -> Self {
        let text = text.into();
        debug_assert!(!purpose.contains(['"', '\\']), "{purpose}");
        let comment = format!("{purpose} #{:016x}", fingerprint(&text));
        Self { text, comment }
    }

    /// A rule that is there, with this comment. One without a comment is nobody's we know.
    pub fn seen(comment: Option<&str>) -> Self {
        Self { text: String::new(), comment: comment.unwrap_or_default().to_owned() }
    }

    /// Whether both are the same rule, by their fingerprints.
    pub fn is(&self, other: &Self) -> bool {
        !self.comment.is_empty() && self.comment == other.comment
    }
}

/// FNV-1a, 64 bits: stable over versions and platforms, which the standard library's hasher does not promise.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_is_fnv_1a() {
        assert_eq!(fingerprint(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint("a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn an_unmarked_rule_is_no_rule_of_ours() {
        assert!(!NftRule::seen(None).is(&NftRule::seen(None)));
        let rule = NftRule::new("drop strangers", "drop");
        assert!(NftRule::seen(Some(&rule.comment)).is(&rule));
        assert!(!NftRule::new("drop strangers", "accept").is(&rule));
    }
}
