//! Reads the members of a request's object as Go's decoder does: absent and `null` are the zero value, another kind of
//! value is refused in Go's words.

use std::collections::BTreeMap;

use prost_types::Duration;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::time;
use crate::error::ApiError;

/// A type of a request's member, by Go's name.
pub(super) trait GoType: DeserializeOwned {
    const NAME: &'static str;
}

macro_rules! go_types {
    ($($rust:ty => $go:literal),* $(,)?) => {
        $(impl GoType for $rust {
            const NAME: &'static str = $go;
        })*
    };
}

go_types!(
    String => "string", bool => "bool", u64 => "uint64", i64 => "int64", u32 => "uint32", i32 => "int32",
    f32 => "float32", Vec<String> => "[]string", Vec<Vec<String>> => "[][]string",
    BTreeMap<String, String> => "map[string]string",
);

/// One object of a request, or nothing in its place.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    /// The request itself; `name` is Go's name of its type.
    pub(super) fn of(name: &str, value: &'a Value) -> Result<Self, ApiError> {
        Self::at(name.to_owned(), Some(value))
    }

    fn at(path: String, value: Option<&'a Value>) -> Result<Self, ApiError> {
        match value {
            None | Some(Value::Null) => Ok(Self { path, map: None }),
            Some(Value::Object(map)) => Ok(Self { path, map: Some(map) }),
            Some(other) => Err(mismatch(other, &path, "object")),
        }
    }

    /// Go's decoder does not mind a key's case, and docker-py relies on that.
    fn raw(&self, key: &str) -> Option<&'a Value> {
        let map = self.map?;
        let in_any_case = || map.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        map.get(key).or_else(in_any_case).filter(|value| !value.is_null())
    }

    fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// `None` when absent or `null`.
    pub(super) fn some<T: GoType>(&self, key: &str) -> Result<Option<T>, ApiError> {
        let Some(value) = self.raw(key) else { return Ok(None) };
        T::deserialize(value).map(Some).map_err(|_| mismatch(value, &self.path_of(key), T::NAME))
    }

    /// The zero value when absent or `null`.
    pub(super) fn get<T: GoType + Default>(&self, key: &str) -> Result<T, ApiError> {
        Ok(self.some(key)?.unwrap_or_default())
    }

    pub(super) fn text(&self, key: &str) -> Result<String, ApiError> {
        self.get(key)
    }

    /// A duration in nanoseconds.
    pub(super) fn duration(&self, key: &str) -> Result<Option<Duration>, ApiError> {
        Ok(self.some::<i64>(key)?.map(time::duration))
    }

    /// An object's members; `None` when it is absent or `null`.
    pub(super) fn object(&self, key: &str) -> Result<Option<Self>, ApiError> {
        self.raw(key).map(|value| Self::at(self.path_of(key), Some(value))).transpose()
    }

    /// An object's members, none when it is absent.
    pub(super) fn object_or_empty(&self, key: &str) -> Result<Self, ApiError> {
        Self::at(self.path_of(key), self.raw(key))
    }

    /// A list of objects.
    pub(super) fn objects<T>(
        &self,
        key: &str,
        convert: impl Fn(&Self) -> Result<T, ApiError>,
    ) -> Result<Vec<T>, ApiError> {
        let path = self.path_of(key);
        match self.raw(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => {
                list.iter().map(|value| convert(&Self::at(path.clone(), Some(value))?)).collect()
            }
            Some(other) => Err(mismatch(other, &path, "array")),
        }
    }
}

fn mismatch(value: &Value, path: &str, wanted: &str) -> ApiError {
    let kind = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        // Go names the number when only its range or form is wrong.
        Value::Number(number) if wanted.contains("int") || wanted.contains("float") => {
            format!("number {number}")
        }
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    ApiError::invalid(format!(
        "invalid JSON: json: cannot unmarshal {kind} into Go struct field {path} of type {wanted}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_null_and_zero_are_told_apart_only_where_asked() {
        let value = json!({ "A": null, "B": 0, "C": "x", "D": { "E": true } });
        let fields = Fields::of("T", &value).unwrap();
        assert_eq!(fields.some::<u64>("A").unwrap(), None);
        assert_eq!(fields.some::<u64>("B").unwrap(), Some(0));
        assert_eq!(fields.text("C").unwrap(), "x");
        assert!(fields.object("D").unwrap().unwrap().get::<bool>("E").unwrap());
        assert!(fields.object("F").unwrap().is_none());
        let fields =
            Fields::of("T", &json!({ "replicated": 1 })).map(|f| f.some::<u64>("Replicated").unwrap());
        assert_eq!(fields.unwrap(), Some(1), "docker-py");
    }

    #[test]
    fn other_kinds_are_refused_in_gos_words() {
        let value = json!({ "A": "x", "B": { "C": 1.5 } });
        let fields = Fields::of("T", &value).unwrap();
        assert_eq!(
            fields.get::<u64>("A").unwrap_err().message(),
            "invalid JSON: json: cannot unmarshal string into Go struct field T.A of type uint64"
        );
        assert_eq!(
            fields.object("B").unwrap().unwrap().get::<i64>("C").unwrap_err().message(),
            "invalid JSON: json: cannot unmarshal number 1.5 into Go struct field T.B.C of type int64"
        );
    }
}
