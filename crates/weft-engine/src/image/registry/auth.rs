//! What a client says about itself to a registry.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

/// Base64url with or without padding: clients send both.
const HEADER: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials for a registry, in the fields of Docker's `X-Registry-Auth` header. All empty means none.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "lowercase")]
pub struct RegistryAuth {
    /// User name.
    pub username: String,
    /// Password or access token.
    pub password: String,
    /// A refresh token: exchanged for access tokens.
    #[serde(rename = "identitytoken")]
    pub identity_token: String,
    /// A bearer token that is sent as it is.
    #[serde(rename = "registrytoken")]
    pub registry_token: String,
    /// Whose credentials these are, where that does not follow from an image's name.
    #[serde(rename = "serveraddress")]
    pub server_address: String,
}

impl RegistryAuth {
    /// Decodes the header's value; `None` if it is not what Docker sends. An empty value means no credentials.
    pub fn from_header(value: &str) -> Option<Self> {
        if value.is_empty() {
            return Some(Self::default());
        }
        serde_json::from_slice(&HEADER.decode(value.trim()).ok()?).ok()
    }

    pub(super) fn basic(&self) -> Option<String> {
        let given = !self.username.is_empty() || !self.password.is_empty();
        let pair = format!("{}:{}", self.username, self.password);
        given.then(|| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
    }
}

/// Secrets stay out of logs.
impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_docker_sends_it() {
        assert_eq!(RegistryAuth::from_header("e30="), Some(RegistryAuth::default()));
        assert_eq!(RegistryAuth::from_header("e30"), Some(RegistryAuth::default()));
        let sent = base64::engine::general_purpose::URL_SAFE
            .encode(r#"{"username":"ann","password":"p","serveraddress":"r:5000"}"#);
        let auth = RegistryAuth::from_header(&sent).unwrap();
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("ann", "p"));
        assert_eq!(auth.basic().as_deref(), Some("Basic YW5uOnA="));
        assert_eq!(RegistryAuth::from_header("{}"), None);
    }
}
