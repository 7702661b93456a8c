//! Bearer tokens (distribution token specification, and its OAuth form).

use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;
use std::collections::BTreeMap;

use super::error::RegistryError;
use super::payload::Payload;
use super::session::{Result, Session, document, failure};

/// Who asks for a token.
const CLIENT: &str = "weft";

/// What an authorization service gave.
pub(super) struct Token {
    pub(super) access: String,
    /// Gets further ones without the password; empty unless it was asked for and is given.
    pub(super) refresh: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    refresh_token: String,
}

impl Session {
    /// A token that allows what the scopes say; without any it only proves who asks, and a refresh token is wanted too.
    pub(super) async fn fetch_token(
        &self,
        challenge: &BTreeMap<String, String>,
        scopes: &[String],
    ) -> Result<Token> {
        let parameter = |name: &str| challenge.get(name).map(String::as_str).unwrap_or_default();
        let (realm, service) = (parameter("realm"), escape(parameter("service")));
        let mut headers = HeaderMap::new();
        let (method, url, payload) = if self.auth.identity_token.is_empty() {
            let separator = if realm.contains('?') { '&' } else { '?' };
            let mut url = format!("{realm}{separator}service={service}");
            if let Some(value) = self.auth.basic().and_then(|value| value.parse().ok()) {
                headers.insert(AUTHORIZATION, value);
                url.push_str(&format!("&account={}", escape(&self.auth.username)));
            }
            scopes.iter().for_each(|scope| url.push_str(&format!("&scope={}", escape(scope))));
            if scopes.is_empty() {
                url.push_str(&format!("&client_id={CLIENT}&offline_token=true"));
            }
            (Method::GET, url, Payload::Empty)
        } else {
            let (token, scope) = (escape(&self.auth.identity_token), escape(&scopes.join(" ")));
            let form = format!(
                "grant_type=refresh_token&client_id={CLIENT}&service={service}&scope={scope}&refresh_token={token}"
            );
            let payload = Payload::document("application/x-www-form-urlencoded", form.into_bytes());
            (Method::POST, realm.to_owned(), payload)
        };
        let answer = self.once(method.clone(), &url, headers, &payload).await?;
        if !answer.status().is_success() {
            return Err(failure(method.as_str(), &url, answer).await);
        }
        parse(&document(&url, answer).await?)
            .map_err(|detail| RegistryError::Malformed { url: url.clone(), detail })
    }
}

fn parse(bytes: &[u8]) -> std::result::Result<Token, String> {
    let answer: Answer = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match [answer.token, answer.access_token].into_iter().find(|token| !token.is_empty()) {
        Some(access) => Ok(Token { access, refresh: answer.refresh_token }),
        None => Err("no token in it".to_owned()),
    }
}

/// Percent-encoding of everything but unreserved characters (RFC 3986 section 2.3).
pub(super) fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escape("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }

    #[test]
    fn either_field_may_hold_the_token() {
        assert_eq!(parse(br#"{"token":"a"}"#).unwrap().access, "a");
        let token = parse(br#"{"access_token":"b","refresh_token":"r"}"#).unwrap();
        assert_eq!((token.access.as_str(), token.refresh.as_str()), ("b", "r"));
        assert!(parse(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
