//! Query strings, with Docker's rules for booleans and numbers.

use std::collections::BTreeMap;

use crate::error::ApiError;
use crate::filters::Filters;

/// A parsed query string. A key may come several times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.entry(decode(key, true)).or_default().push(decode(value, true));
        }
        Self(values)
    }

    /// The first value; empty if there is none.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.all(key).first().map_or("", String::as_str)
    }

    /// The first value unless absent or empty.
    pub(crate) fn some(&self, key: &str) -> Option<&str> {
        Some(self.get(key)).filter(|v| !v.is_empty())
    }

    pub(crate) fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Docker's usual rule: everything but empty, 0, no, false and none is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        let value = self.get(key).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// An integer as Go's `strconv.Atoi` reads it; its complaint otherwise, which Docker answers with a 500.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.some(key) else { return Ok(None) };
        value
            .parse()
            .map(Some)
            .map_err(|_| ApiError::system(format!("strconv.Atoi: parsing {value:?}: invalid syntax")))
    }

    /// The object version that an update is based on. `what` is `swarm`, `node`, …
    pub(crate) fn object_version(&self, what: &str) -> Result<u64, ApiError> {
        let value = self.get("version");
        value.parse().map_err(|_| {
            ApiError::invalid(format!(
                "invalid {what} version '{value}': strconv.ParseUint: parsing {value:?}: invalid syntax"
            ))
        })
    }

    /// Docker's filters, empty if absent.
    pub(crate) fn filters(&self, known: &[&str]) -> Result<Filters, ApiError> {
        let filters = Filters::parse(self.get("filters"))?;
        filters.check_keys(known)?;
        Ok(filters)
    }
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Percent decoding. Malformed escapes stay as they are; invalid UTF-8 is replaced.
pub(crate) fn decode(text: &str, plus_is_blank: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match (byte, bytes.get(at).copied().and_then(hex), bytes.get(at + 1).copied().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (b'+', ..) if plus_is_blank => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn booleans_follow_docker() {
        let query = Query::parse("a=1&b=true&c=True&d=0&e=False&f=none&g=&h=x");
        for key in ["a", "b", "c", "h"] {
            assert!(query.flag(key), "{key}");
        }
        for key in ["d", "e", "f", "g", "missing"] {
            assert!(!query.flag(key), "{key}");
        }
    }

    #[test]
    fn escapes_are_decoded_and_broken_ones_kept() {
        assert_eq!(decode("a%20b+c%2Fd", true), "a b c/d");
        assert_eq!(decode("a+b%2", false), "a+b%2");
        assert_eq!(decode("%zz%", true), "%zz%");
    }

    proptest! {
        #[test]
        fn any_text_is_a_query(text in ".{0,200}") {
            let query = Query::parse(&text);
            let _ = (query.flag("a"), query.integer("b"), query.filters(&["c"]));
        }

        #[test]
        fn encoded_values_come_back(value in ".{0,40}") {
            let encoded: String = value.bytes().map(|b| format!("%{b:02X}")).collect();
            let query = Query::parse(&format!("k={encoded}"));
            prop_assert_eq!(query.get("k"), value.as_str());
        }
    }
}
