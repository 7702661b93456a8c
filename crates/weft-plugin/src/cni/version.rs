//! Versions of the specification.

use super::error::{CniError, Code};

/// The versions that the plugin speaks, oldest first.
pub(crate) const SUPPORTED: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

/// A version that the plugin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SpecVersion {
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl SpecVersion {
    /// The newest one.
    pub(crate) const NEWEST: Self = Self::V1_1_0;

    /// As it is written.
    pub(crate) fn text(self) -> &'static str {
        SUPPORTED[self as usize]
    }

    /// Reads what a configuration says; without a word it follows the first version of all.
    pub(crate) fn of(text: Option<&str>) -> Result<Self, CniError> {
        let text = text.filter(|text| !text.is_empty()).unwrap_or("0.1.0");
        let known = [Self::V0_4_0, Self::V1_0_0, Self::V1_1_0].into_iter().find(|v| v.text() == text);
        known.ok_or_else(|| {
            let details = format!("the configuration follows {text}, weft speaks {}", SUPPORTED.join(", "));
            CniError::new(Code::IncompatibleVersion, "incompatible CNI versions").with_details(details)
        })
    }

    /// Whether results name the family of each address, as they did before 1.0.0.
    pub(crate) fn names_families(self) -> bool {
        self < Self::V1_0_0
    }

    /// Whether interfaces have an MTU in results.
    pub(crate) fn tells_mtu(self) -> bool {
        self >= Self::V1_1_0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_others_refused() {
        for text in SUPPORTED {
            assert_eq!(SpecVersion::of(Some(text)).unwrap().text(), text);
        }
        for other in [None, Some(""), Some("0.3.1"), Some("1.2.0"), Some("x")] {
            let error = SpecVersion::of(other).unwrap_err();
            assert_eq!(error.code, 1, "{other:?}");
            assert!(error.details.ends_with("weft speaks 0.4.0, 1.0.0, 1.1.0"), "{error:?}");
        }
    }
}
