//! `filters=`: a JSON map of lists, or of maps to `true` as the docker command line sends it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::ApiError;

/// What a list is narrowed to. Values of one key are alternatives, keys are conditions that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let refused = || ApiError::invalid("invalid filter");
        let map: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| refused())?;
        let values = |value| values(value).ok_or_else(refused);
        let map = map.into_iter().map(|(key, value)| Ok((key, values(value)?)));
        map.collect::<Result<_, ApiError>>().map(Self)
    }

    /// Refuses the first key that is not known.
    pub(crate) fn check_keys(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(ApiError::invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    pub(crate) fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        !self.get(key).is_empty()
    }

    /// Whether no value is asked for, or one that `matches`.
    pub(crate) fn any(&self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        let wanted = self.get(key);
        wanted.is_empty() || wanted.iter().any(|v| matches(v))
    }

    /// Whether all wished labels (`key` or `key=value`) are there, and none of the unwished (`label!`).
    pub(crate) fn labels_match(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(wanted),
        };
        self.get("label").iter().all(has) && !self.get("label!").iter().any(has)
    }

    /// A boolean filter such as `dangling`. Docker's wording is that of the `dangling` filter.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ApiError> {
        let mut found = None;
        for value in self.get(key) {
            found = Some(match value.as_str() {
                "1" | "true" => true,
                "0" | "false" => false,
                _ => {
                    return Err(ApiError::invalid(format!(
                        "invalid value for filter '{key}', must be \"true\" (or \"1\"), or \"false\" (or \"0\")"
                    )));
                }
            });
        }
        Ok(found)
    }

    /// A boolean filter, refused in the words of all but networks' `dangling`.
    pub(crate) fn switch(&self, key: &str) -> Result<Option<bool>, ApiError> {
        let Some(values) = self.0.get(key) else { return Ok(None) };
        let any = |words: [&str; 2]| values.iter().any(|value| words.contains(&value.as_str()));
        match (any(["1", "true"]), any(["0", "false"])) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => Err(ApiError::invalid(format!("invalid filter '{key}=[{}]'", values.join(" ")))),
        }
    }

    pub(crate) fn into_map(self) -> BTreeMap<String, Vec<String>> {
        self.0
    }
}

/// Both forms; a value that is mapped to `false` is not asked for.
fn values(value: Value) -> Option<Vec<String>> {
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        _ => None,
    };
    match value {
        Value::Array(list) => list.into_iter().map(text).collect(),
        Value::Object(map) => {
            let wanted = map.into_iter().map(|(key, on)| Some((key, on.as_bool()?)));
            let wanted: Vec<(String, bool)> = wanted.collect::<Option<_>>()?;
            Some(wanted.into_iter().filter(|(_, on)| *on).map(|(key, _)| key).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let map = Filters::parse(r#"{"name":{"x":true,"y":false}}"#).unwrap();
        let list = Filters::parse(r#"{"name":["x"]}"#).unwrap();
        assert_eq!(map, list);
    }

    #[test]
    fn what_is_no_filter_is_refused_as_docker_does() {
        for bad in ["x", "[]", r#"{"name":"x"}"#, r#"{"name":[1]}"#, r#"{"name":{"x":1}}"#] {
            assert_eq!(Filters::parse(bad).unwrap_err().message(), "invalid filter", "{bad}");
        }
        let unknown = Filters::parse(r#"{"bogus":["1"]}"#).unwrap();
        assert_eq!(unknown.check_keys(&["name"]).unwrap_err().message(), "invalid filter 'bogus'");
    }

    #[test]
    fn switches_are_on_or_off() {
        let switch = |text| Filters::parse(text).unwrap().switch("all");
        assert_eq!(switch(r#"{"all":["1"]}"#).unwrap(), Some(true));
        assert_eq!(switch(r#"{"all":{"false":true}}"#).unwrap(), Some(false));
        assert_eq!(switch("{}").unwrap(), None);
        assert_eq!(switch(r#"{"all":["x"]}"#).unwrap_err().message(), "invalid filter 'all=[x]'");
        assert_eq!(switch(r#"{"all":["1","0"]}"#).unwrap_err().message(), "invalid filter 'all=[1 0]'");
    }

    #[test]
    fn labels_match_by_key_or_by_value() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let at = |text| Filters::parse(text).unwrap().labels_match(&labels);
        assert!(at(r#"{"label":["a"]}"#) && at(r#"{"label":["a=1"]}"#));
        assert!(!at(r#"{"label":["a=2"]}"#) && !at(r#"{"label":["a","b"]}"#) && !at(r#"{"label!":["a"]}"#));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = Filters::parse(&text);
        }

        #[test]
        fn lists_come_back(map in proptest::collection::btree_map("[a-z]{1,8}", proptest::collection::vec(".{0,8}", 0..4), 0..4)) {
            let text = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(Filters::parse(&text).unwrap().into_map(), map);
        }
    }
}
