//! Requests to one registry, with proof of who asks where it wants one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap, LOCATION, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use rustls::ClientConfig;
use tokio::sync::Mutex;

use super::auth::RegistryAuth;
use super::challenge::Challenge;
use super::endpoint::Registries;
use super::error::{RefusalCode, RegistryError};
use super::payload::Payload;
use super::tls;
use super::transport::{TransportError, send};

pub(super) type Result<T> = std::result::Result<T, RegistryError>;

/// Larger documents are an attack; the distribution's own registry refuses manifests above 4 MiB.
const DOCUMENT_MAX: usize = 4 << 20;
const REDIRECTS_MAX: usize = 5;
/// A sender that is silent so long is given up.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A registry that answered.
pub(super) struct Session {
    /// `https://host:port`.
    pub(super) base: String,
    tls: Arc<ClientConfig>,
    pub(super) auth: RegistryAuth,
    pub(super) challenge: Option<Challenge>,
    /// Values of the `Authorization` header by what they allow.
    tokens: Mutex<BTreeMap<String, String>>,
}

/// One request.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    /// What a token has to allow, `repository:a/b:pull`.
    pub(super) scopes: &'a [String],
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, url: &'a str, scopes: &'a [String]) -> Self {
        Self { method, url, headers: HeaderMap::new(), payload: Payload::Empty, scopes }
    }
}

impl Session {
    /// Finds out how the registry at `authority` (`host[:port]`) is spoken to.
    pub(super) async fn open(registries: &Registries, authority: &str, auth: &RegistryAuth) -> Result<Self> {
        let insecure = registries.is_insecure(authority).await;
        let tls = if insecure { tls::unverified() } else { tls::verified(authority) };
        let tls = tls.map_err(|error| RegistryError::Unreachable {
            method: "Get",
            url: format!("https://{authority}/v2/"),
            source: TransportError::Tls(std::io::Error::other(error)),
        })?;
        let mut session = Self {
            base: format!("https://{authority}"),
            tls,
            auth: auth.clone(),
            challenge: None,
            tokens: Mutex::default(),
        };
        match session.ping().await {
            Err(RegistryError::Unreachable { .. }) if insecure => {
                session.base = format!("http://{authority}");
                session.ping().await?;
            }
            result => result?,
        }
        Ok(session)
    }

    async fn ping(&mut self) -> Result<()> {
        let url = format!("{}/v2/", self.base);
        let answer = self.follow(Ask::new(Method::GET, &url, &[])).await?;
        match answer.status() {
            StatusCode::UNAUTHORIZED => self.challenge = challenge_of(&answer),
            status if status.is_success() => {}
            _ => return Err(failure("GET", &url, answer).await),
        }
        Ok(())
    }

    /// Asks with what the registry accepts as proof; an answer that is no success is an error.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Response<Incoming>> {
        let (method, url) = (ask.method.clone(), ask.url);
        let answer = self.answer(ask).await?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(failure(method.as_str(), url, answer).await),
        }
    }

    /// The same, whatever the answer is. A refused token is renewed once.
    pub(super) async fn answer(&self, ask: Ask<'_>) -> Result<Response<Incoming>> {
        let mut challenge = self.challenge.clone();
        // Elsewhere, for example where a registry keeps its blobs, the URL is the proof.
        let ours = origin(ask.url) == self.base;
        for renewed in [false, true] {
            let mut ask = ask.clone();
            if ours {
                let proof = self.authorization(challenge.as_ref(), &ask, renewed).await?;
                let value = proof.and_then(|value| value.parse().ok());
                ask.headers.extend(value.map(|value| (AUTHORIZATION, value)));
            }
            let answer = self.follow(ask).await?;
            let renewable = ours && answer.status() == StatusCode::UNAUTHORIZED && !renewed;
            match challenge_of(&answer) {
                Some(bearer @ Challenge::Bearer(_)) if renewable && !bearer.is_insufficient_scope() => {
                    challenge = Some(bearer);
                }
                _ => return Ok(answer),
            }
        }
        Err(RegistryError::refused(RefusalCode::Unauthorized))
    }

    async fn authorization(
        &self,
        challenge: Option<&Challenge>,
        ask: &Ask<'_>,
        renew: bool,
    ) -> Result<Option<String>> {
        if !self.auth.registry_token.is_empty() {
            return Ok(Some(format!("Bearer {}", self.auth.registry_token)));
        }
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => {
                self.auth.basic().map(Some).ok_or_else(|| RegistryError::NoCredentials(ask.url.to_owned()))
            }
            Some(Challenge::Bearer(parameters)) => {
                let mut tokens = self.tokens.lock().await;
                let key = ask.scopes.join(" ");
                if let Some(token) = tokens.get(&key).filter(|_| !renew) {
                    return Ok(Some(token.clone()));
                }
                let value = format!("Bearer {}", self.fetch_token(parameters, ask.scopes).await?.access);
                tokens.insert(key, value.clone());
                Ok(Some(value))
            }
        }
    }

    /// Follows redirections; proof of who asks is for the registry itself only.
    async fn follow(&self, mut ask: Ask<'_>) -> Result<Response<Incoming>> {
        let mut target = ask.url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.once(ask.method.clone(), &target, ask.headers.clone(), &ask.payload).await?;
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let (true, Some(location)) = (answer.status().is_redirection(), location) else {
                return Ok(answer);
            };
            let next = resolve(&target, location);
            if origin(&next) != origin(&target) {
                ask.headers.remove(AUTHORIZATION);
            }
            target = next;
        }
        Err(RegistryError::Malformed { url: ask.url.to_owned(), detail: "too many redirections".to_owned() })
    }

    pub(super) async fn once(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        payload: &Payload,
    ) -> Result<Response<Incoming>> {
        let name = match method {
            Method::HEAD => "Head",
            Method::POST => "Post",
            Method::PUT => "Put",
            _ => "Get",
        };
        let failed = |source| RegistryError::Unreachable { method: name, url: url.to_owned(), source };
        let uri: Uri = url.parse().map_err(|_| failed(TransportError::Url))?;
        let body = payload.body().await.map_err(|source| failed(TransportError::Read(source)))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        payload.describe(request.headers_mut());
        // Boxed: a handshake is large, and every call of a registry holds one.
        Box::pin(send(request, &self.tls, payload.moved())).await.map_err(failed)
    }
}

pub(super) fn challenge_of(answer: &Response<Incoming>) -> Option<Challenge> {
    let values = answer.headers().get_all(WWW_AUTHENTICATE);
    Challenge::choose(values.iter().filter_map(|value| value.to_str().ok()))
}

/// Why a registry said no.
pub(super) async fn failure(method: &str, url: &str, answer: Response<Incoming>) -> RegistryError {
    let (status, challenge) = (answer.status(), challenge_of(&answer));
    if challenge.is_some_and(|challenge| challenge.is_insufficient_scope()) {
        return RegistryError::refused(RefusalCode::Denied);
    }
    if let Ok(body) = document(url, answer).await
        && let Some(refused) = RegistryError::from_body(&body)
    {
        return refused;
    }
    match status {
        StatusCode::UNAUTHORIZED => RegistryError::refused(RefusalCode::Unauthorized),
        StatusCode::NOT_FOUND if url.contains("/manifests/") => {
            RegistryError::refused(RefusalCode::ManifestUnknown)
        }
        StatusCode::TOO_MANY_REQUESTS => RegistryError::refused(RefusalCode::TooManyRequests),
        _ => RegistryError::Status {
            method: match method {
                "HEAD" => "HEAD",
                "POST" => "POST",
                "PUT" => "PUT",
                _ => "GET",
            },
            url: url.to_owned(),
            status: status.to_string(),
        },
    }
}

/// The whole body of an answer.
pub(super) async fn document(url: &str, answer: Response<Incoming>) -> Result<Vec<u8>> {
    let body = Limited::new(answer.into_body(), DOCUMENT_MAX);
    match tokio::time::timeout(SILENCE_MAX, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) => Err(RegistryError::Malformed { url: url.to_owned(), detail: error.to_string() }),
        Err(_) => Err(silent(url)),
    }
}

pub(super) fn silent(url: &str) -> RegistryError {
    RegistryError::Unreachable { method: "Get", url: url.to_owned(), source: TransportError::AnswerTimeout }
}

/// Scheme, host and port.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    &url[..end]
}

/// RFC 3986 section 5, as far as registries use it: whole URLs and absolute paths.
pub(super) fn resolve(base: &str, location: &str) -> String {
    if location.contains("://") {
        location.to_owned()
    } else {
        format!("{}/{}", origin(base), location.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_resolved() {
        assert_eq!(resolve("http://a:1/v2/x", "https://cdn/b?c"), "https://cdn/b?c");
        assert_eq!(resolve("http://a:1/v2/x", "/y"), "http://a:1/y");
        assert_eq!(origin("http://a:1/y"), "http://a:1");
        assert_eq!(origin("http://a:1"), "http://a:1");
    }
}
