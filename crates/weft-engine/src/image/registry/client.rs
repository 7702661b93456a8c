//! One repository of one registry: asks, and proves who asks when told to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::{BodyExt as _, BodyStream, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, RANGE, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::auth::RegistryAuth;
use super::challenge::Challenge;
use super::endpoint::{Registries, RepositoryPath};
use super::error::{RefusalCode, RegistryError};
use super::tls;
use super::transport::{TransportError, send};
use crate::image::Digest;

type Result<T> = std::result::Result<T, RegistryError>;

/// Manifests that are understood, for the `Accept` header.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Larger documents are an attack; the distribution's own registry refuses manifests above 4 MiB.
const DOCUMENT_MAX: usize = 4 << 20;
const REDIRECTS_MAX: usize = 5;
/// A blob whose sender is silent so long is asked for again.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A manifest or index as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
}

/// A repository to pull from.
pub(crate) struct Registry {
    /// `https://host:port`.
    base: String,
    repository: String,
    tls: Arc<ClientConfig>,
    auth: RegistryAuth,
    challenge: Option<Challenge>,
    /// Value of the `Authorization` header, once a token was got.
    token: Mutex<Option<String>>,
}

impl Registry {
    /// Finds out how the registry is spoken to.
    pub(crate) async fn open(
        registries: &Registries,
        repository: &RepositoryPath,
        auth: &RegistryAuth,
    ) -> Result<Self> {
        let authority = &repository.authority;
        let insecure = registries.is_insecure(authority).await;
        let tls = if insecure { tls::unverified() } else { tls::verified(authority) };
        let tls = tls.map_err(|error| RegistryError::Unreachable {
            method: "Get",
            url: format!("https://{authority}/v2/"),
            source: TransportError::Tls(std::io::Error::other(error)),
        })?;
        let mut registry = Self {
            base: format!("https://{authority}"),
            repository: repository.path.clone(),
            tls,
            auth: auth.clone(),
            challenge: None,
            token: Mutex::new(None),
        };
        match registry.ping().await {
            Err(RegistryError::Unreachable { .. }) if insecure => {
                registry.base = format!("http://{authority}");
                registry.ping().await?;
            }
            result => result?,
        }
        Ok(registry)
    }

    async fn ping(&mut self) -> Result<()> {
        let url = format!("{}/v2/", self.base);
        let answer = self.follow(Method::GET, &url, HeaderMap::new()).await?;
        match answer.status() {
            StatusCode::UNAUTHORIZED => self.challenge = challenge_of(&answer),
            status if status.is_success() => {}
            _ => return Err(failure("GET", &url, answer).await),
        }
        Ok(())
    }

    /// The manifest behind a tag or digest; what was asked for by digest has it.
    pub(crate) async fn manifest(&self, reference: &str) -> Result<Manifest> {
        let url = self.url("manifests", reference);
        let answer = self.ask(Method::GET, &url, accept(MANIFEST_TYPES)).await?;
        let media_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or_default().to_owned();
        let bytes = document(&url, answer).await?;
        let digest = Digest::of(&bytes);
        match reference.parse::<Digest>() {
            Ok(wanted) if wanted != digest => Err(RegistryError::ManifestDigest(wanted)),
            _ => Ok(Manifest { bytes, media_type, digest }),
        }
    }

    /// All tags of the repository.
    pub(crate) async fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let url = format!("{}/v2/{}/tags/list", self.base, self.repository);
        let bytes = document(&url, self.ask(Method::GET, &url, HeaderMap::new()).await?).await?;
        let tags: Tags = serde_json::from_slice(&bytes)
            .map_err(|error| RegistryError::Malformed { url, detail: error.to_string() })?;
        Ok(tags.tags.unwrap_or_default())
    }

    /// A small blob, whole. Its digest is for the caller to check.
    pub(crate) async fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let url = self.url("blobs", &digest.to_string());
        document(&url, self.ask(Method::GET, &url, HeaderMap::new()).await?).await
    }

    /// A blob from byte `from` on, if the registry can do that: else from the start. Answers where it begins.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        from: u64,
    ) -> Result<(u64, impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>)> {
        let url = self.url("blobs", &digest.to_string());
        let mut headers = HeaderMap::new();
        if from > 0
            && let Ok(range) = format!("bytes={from}-").parse()
        {
            headers.insert(RANGE, range);
        }
        let answer = self.ask(Method::GET, &url, headers).await?;
        let start = if answer.status() == StatusCode::PARTIAL_CONTENT { from } else { 0 };
        Ok((start, chunks(url, answer.into_body())))
    }

    fn url(&self, kind: &str, reference: &str) -> String {
        format!("{}/v2/{}/{kind}/{reference}", self.base, self.repository)
    }

    /// Asks with what the registry accepts as proof; a refused token is renewed once.
    async fn ask(&self, method: Method, url: &str, headers: HeaderMap) -> Result<Response<Incoming>> {
        let mut challenge = self.challenge.clone();
        for renewed in [false, true] {
            let mut headers = headers.clone();
            let proof = self.authorization(challenge.as_ref(), url, renewed).await?;
            if let Some(value) = proof.and_then(|value| value.parse().ok()) {
                headers.insert(AUTHORIZATION, value);
            }
            let answer = self.follow(method.clone(), url, headers).await?;
            let renewable = answer.status() == StatusCode::UNAUTHORIZED && !renewed;
            match challenge_of(&answer) {
                Some(bearer @ Challenge::Bearer(_)) if renewable && !bearer.is_insufficient_scope() => {
                    challenge = Some(bearer);
                }
                _ if answer.status().is_success() => return Ok(answer),
                _ => return Err(failure(method.as_str(), url, answer).await),
            }
        }
        Err(RegistryError::refused(RefusalCode::Unauthorized))
    }

    async fn authorization(
        &self,
        challenge: Option<&Challenge>,
        url: &str,
        renew: bool,
    ) -> Result<Option<String>> {
        if !self.auth.registry_token.is_empty() {
            return Ok(Some(format!("Bearer {}", self.auth.registry_token)));
        }
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => {
                self.auth.basic().map(Some).ok_or_else(|| RegistryError::NoCredentials(url.to_owned()))
            }
            Some(Challenge::Bearer(parameters)) => {
                let mut token = self.token.lock().await;
                if renew {
                    *token = None;
                }
                if token.is_none() {
                    let realm = parameters.get("realm").map(String::as_str).unwrap_or_default();
                    let service = parameters.get("service").map(String::as_str).unwrap_or_default();
                    *token = Some(format!("Bearer {}", self.fetch_token(realm, service).await?));
                }
                Ok(token.clone())
            }
        }
    }

    /// A token that may pull from the repository (distribution token specification).
    async fn fetch_token(&self, realm: &str, service: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
        }
        let scope = format!("repository:{}:pull", self.repository);
        let mut headers = HeaderMap::new();
        let (method, url, body) = if self.auth.identity_token.is_empty() {
            if let Some(value) = self.auth.basic().and_then(|value| value.parse().ok()) {
                headers.insert(AUTHORIZATION, value);
            }
            let separator = if realm.contains('?') { '&' } else { '?' };
            let query = format!("{separator}service={}&scope={}", escape(service), escape(&scope));
            (Method::GET, format!("{realm}{query}"), String::new())
        } else {
            let form = "application/x-www-form-urlencoded".parse();
            headers.extend(form.ok().map(|value| (CONTENT_TYPE, value)));
            let token = escape(&self.auth.identity_token);
            let (service, scope) = (escape(service), escape(&scope));
            let body = format!(
                "grant_type=refresh_token&client_id=weft&service={service}&scope={scope}&refresh_token={token}"
            );
            (Method::POST, realm.to_owned(), body)
        };
        let answer = self.once(method.clone(), &url, headers, body.into()).await?;
        if !answer.status().is_success() {
            return Err(failure(method.as_str(), &url, answer).await);
        }
        let bytes = document(&url, answer).await?;
        let token: Token = serde_json::from_slice(&bytes)
            .map_err(|error| RegistryError::Malformed { url: url.clone(), detail: error.to_string() })?;
        match [token.token, token.access_token].into_iter().find(|token| !token.is_empty()) {
            Some(token) => Ok(token),
            None => Err(RegistryError::Malformed { url, detail: "no token in it".to_owned() }),
        }
    }

    /// Follows redirections; proof of who asks is for the registry itself only.
    async fn follow(&self, method: Method, url: &str, headers: HeaderMap) -> Result<Response<Incoming>> {
        let (mut target, mut headers) = (url.to_owned(), headers);
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.once(method.clone(), &target, headers.clone(), Bytes::new()).await?;
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let (true, Some(location)) = (answer.status().is_redirection(), location) else {
                return Ok(answer);
            };
            let next = resolve(&target, location);
            if origin(&next) != origin(&target) {
                headers.remove(AUTHORIZATION);
            }
            target = next;
        }
        Err(RegistryError::Malformed { url: url.to_owned(), detail: "too many redirections".to_owned() })
    }

    async fn once(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let name = match method {
            Method::HEAD => "Head",
            Method::POST => "Post",
            _ => "Get",
        };
        let failed = |source| RegistryError::Unreachable { method: name, url: url.to_owned(), source };
        let uri: Uri = url.parse().map_err(|_| failed(TransportError::Url))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        send(request, &self.tls).await.map_err(failed)
    }
}

fn accept(types: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, hyper::header::HeaderValue::from_static(types))])
}

fn challenge_of(answer: &Response<Incoming>) -> Option<Challenge> {
    let values = answer.headers().get_all(WWW_AUTHENTICATE);
    Challenge::choose(values.iter().filter_map(|value| value.to_str().ok()))
}

/// Why a registry said no.
async fn failure(method: &str, url: &str, answer: Response<Incoming>) -> RegistryError {
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
            method: if method == "HEAD" { "HEAD" } else { "GET" },
            url: url.to_owned(),
            status: status.to_string(),
        },
    }
}

async fn document(url: &str, answer: Response<Incoming>) -> Result<Vec<u8>> {
    let body = Limited::new(answer.into_body(), DOCUMENT_MAX);
    match tokio::time::timeout(SILENCE_MAX, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) => Err(RegistryError::Malformed { url: url.to_owned(), detail: error.to_string() }),
        Err(_) => Err(silent(url)),
    }
}

fn chunks(url: String, body: Incoming) -> impl Stream<Item = Result<Bytes>> + Send + Unpin {
    let frames = BodyStream::new(body);
    Box::pin(futures_util::stream::unfold(Some(frames), move |frames| {
        let url = url.clone();
        async move {
            let mut frames = frames?;
            loop {
                return match tokio::time::timeout(SILENCE_MAX, frames.next()).await {
                    Ok(None) => None,
                    Ok(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => Some((Ok(data), Some(frames))),
                        Err(_trailers) => continue,
                    },
                    Ok(Some(Err(error))) => {
                        let error = RegistryError::Unreachable { method: "Get", url, source: error.into() };
                        Some((Err(error), None))
                    }
                    Err(_) => Some((Err(silent(&url)), None)),
                };
            }
        }
    }))
}

fn silent(url: &str) -> RegistryError {
    RegistryError::Unreachable { method: "Get", url: url.to_owned(), source: TransportError::AnswerTimeout }
}

/// Scheme, host and port.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    &url[..end]
}

/// RFC 3986 section 5, as far as registries use it: whole URLs and absolute paths.
fn resolve(base: &str, location: &str) -> String {
    if location.contains("://") {
        location.to_owned()
    } else {
        format!("{}/{}", origin(base), location.trim_start_matches('/'))
    }
}

/// Percent-encoding of everything but unreserved characters (RFC 3986 section 2.3).
fn escape(text: &str) -> String {
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
    use super::*;

    #[test]
    fn redirections_are_resolved() {
        assert_eq!(resolve("http://a:1/v2/x", "https://cdn/b?c"), "https://cdn/b?c");
        assert_eq!(resolve("http://a:1/v2/x", "/y"), "http://a:1/y");
        assert_eq!(origin("http://a:1/y"), "http://a:1");
        assert_eq!(origin("http://a:1"), "http://a:1");
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escape("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }
}
