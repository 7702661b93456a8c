//! One request on its way to its handler.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, UPGRADE};
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ApiError;
use crate::go_json;
use crate::query::Query;
use crate::state::ApiState;
use crate::version::ApiVersion;

/// Most bytes of a JSON body. Docker's largest are service specs with configs of some hundred kilobytes.
const JSON_LIMIT_BYTES: usize = 4 << 20;

/// Why Docker's parser calls an absent body EOF only where a body is a must.
const NO_BODY: &str = "invalid JSON: got EOF while reading request body";

/// A request whose path is already resolved.
pub(crate) struct Call {
    pub(crate) state: ApiState,
    pub(crate) version: ApiVersion,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    pub(crate) upgrade: Option<OnUpgrade>,
}

impl Call {
    /// Whether the client asks to turn the connection into a byte stream.
    pub(crate) fn wants_upgrade(&self) -> bool {
        let mentions = |name: HeaderName, word: &str| {
            self.headers
                .get_all(name)
                .iter()
                .filter_map(|v| v.to_str().ok())
                .any(|v| v.to_ascii_lowercase().split(',').any(|part| part.trim() == word))
        };
        mentions(UPGRADE, "tcp") || (mentions(CONNECTION, "upgrade") && self.headers.contains_key(UPGRADE))
    }

    /// The JSON body; `None` without one.
    pub(crate) async fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        check_content_type(&self.headers)?;
        decode(&bytes).map(Some)
    }

    /// The JSON body; the zero value without one.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, ApiError> {
        Ok(self.optional_json().await?.unwrap_or_default())
    }

    /// The JSON body, which must be there.
    pub(crate) async fn required_json(&mut self) -> Result<Value, ApiError> {
        check_content_type(&self.headers)?;
        self.optional_json().await?.ok_or_else(|| ApiError::invalid(NO_BODY))
    }

    async fn bytes(&mut self) -> Result<Bytes, ApiError> {
        let limited = http_body_util::Limited::new(&mut self.body, JSON_LIMIT_BYTES);
        match limited.collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => {
                Err(ApiError::invalid(format!("invalid JSON: error while reading request body: {error}")))
            }
        }
    }

    /// The body as it comes.
    pub(crate) fn into_byte_stream(
        self,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static {
        body_stream(self.body)
    }
}

/// The data of a body as it comes.
pub(crate) fn body_stream(
    body: Incoming,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static {
    Box::pin(body.into_data_stream().map(|chunk| chunk.map_err(std::io::Error::other)))
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(CONTENT_TYPE).map_or("", |v| v.to_str().unwrap_or("?"));
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") || given.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(format!("unsupported Content-Type header ({given}): must be 'application/json'")))
}

/// One JSON value and nothing after it; mistakes in Go's words.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let value = match values.next() {
        Some(Ok(value)) => value,
        Some(Err(_)) => {
            return Err(ApiError::invalid(format!("invalid JSON: {}", go_json::syntax_complaint(bytes))));
        }
        None => return Err(ApiError::invalid(NO_BODY)),
    };
    if !bytes[values.byte_offset()..].trim_ascii().is_empty() {
        return Err(ApiError::invalid("unexpected content after JSON"));
    }
    typed(value)
}

/// A JSON value as a type of ours. To Go `null` is the zero value of anything.
pub(crate) fn typed<T: DeserializeOwned>(mut value: Value) -> Result<T, ApiError> {
    drop_nulls(&mut value);
    serde_json::from_value(value).map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))
}

/// Removes members that are `null`: absent and `null` mean the same to Go, but not to every field of ours. Values of
/// maps such as `PortBindings` keep their key, for it carries meaning there; they are told by their name's form.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| !value.is_null() || is_map_key(key));
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Fields of the API start with a capital letter and hold letters and digits only; keys of maps (`80/tcp`, network
/// names, paths) mostly do not, and a map's value that is `null` matters only there.
fn is_map_key(key: &str) -> bool {
    !key.starts_with(|c: char| c.is_ascii_uppercase()) || !key.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use bollard_stubs::models::{ContainerCreateBody, NetworkCreateRequest};
    use proptest::prelude::*;

    use super::*;

    fn complaint(text: &str) -> String {
        decode::<NetworkCreateRequest>(text.as_bytes()).unwrap_err().message().to_owned()
    }

    #[test]
    fn mistakes_are_told_in_dockers_words() {
        assert_eq!(
            complaint("{bad"),
            "invalid JSON: invalid character 'b' looking for beginning of object key string"
        );
        assert_eq!(complaint("{\"Name\":\"a\"} {}"), "unexpected content after JSON");
    }

    #[test]
    fn nulls_mean_absent_except_as_values_of_maps() {
        let text = r#"{"Name":"a","Labels":null,"Options":null,"IPAM":{"Config":null}}"#;
        let request: NetworkCreateRequest = decode(text.as_bytes()).unwrap();
        assert_eq!(request.name, "a");
        let text = r#"{"HostConfig":{"PortBindings":{"80/tcp":null}}}"#;
        let body: ContainerCreateBody = decode(text.as_bytes()).unwrap();
        assert!(body.host_config.unwrap().port_bindings.unwrap().contains_key("80/tcp"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<ContainerCreateBody>(&bytes);
            let _ = decode::<NetworkCreateRequest>(&bytes);
        }
    }
}
