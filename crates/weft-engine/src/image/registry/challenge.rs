//! `WWW-Authenticate` (RFC 9110 section 11.6.1): how a registry wants to be asked.

use std::collections::BTreeMap;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer(BTreeMap<String, String>),
}

impl Challenge {
    /// The best of the challenges in the header's values: a token before a password.
    pub(super) fn choose<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut chosen = None;
        for value in values {
            match Self::parse(value) {
                Some(bearer @ Self::Bearer(_)) => return Some(bearer),
                Some(basic) => chosen = Some(basic),
                None => {}
            }
        }
        chosen
    }

    fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            Some(Self::Basic)
        } else if scheme.eq_ignore_ascii_case("bearer") {
            Some(Self::Bearer(parameters(rest)))
        } else {
            None
        }
    }

    /// Whether it says that the token it got does not reach far enough.
    pub(super) fn is_insufficient_scope(&self) -> bool {
        matches!(self, Self::Bearer(values) if values.get("error").is_some_and(|error| error == "insufficient_scope"))
    }
}

/// `key="value",key=value`; what does not look like that ends the list.
fn parameters(mut text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    loop {
        text = text.trim_start_matches([' ', ',', '\t']);
        let Some((key, rest)) = text.split_once('=') else { return found };
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_string(quoted),
            None => {
                let end = rest.find([',', ' ']).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        found.insert(key.trim().to_ascii_lowercase(), value);
        text = rest;
    }
}

/// Up to the closing quote, and what is behind it.
fn quoted_string(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_of_real_registries() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#;
        let Some(Challenge::Bearer(values)) = Challenge::choose([hub].into_iter()) else {
            panic!("no bearer")
        };
        assert_eq!(values["realm"], "https://auth.docker.io/token");
        assert_eq!(values["scope"], "repository:library/x:pull,push");
        assert_eq!(Challenge::choose([r#"Basic realm="r""#].into_iter()), Some(Challenge::Basic));
        assert!(matches!(Challenge::choose(["basic", "bearer a=b"].into_iter()), Some(Challenge::Bearer(_))));
        assert_eq!(Challenge::choose(["Negotiate"].into_iter()), None);
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(value in "(?i)(bearer|basic)? ?[ -~é]{0,60}") {
            let _ = Challenge::choose([value.as_str()].into_iter());
        }
    }
}
