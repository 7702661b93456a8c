//! A registry of our own for what a real one does not do on demand: tokens, damage, interruptions, counting.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::SampleImage;
use super::sample::{MANIFEST, digest};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What it does wrong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knobs {
    /// Wants a token, which it gives to everybody; what it is worth then: `true` a pull.
    pub(crate) token: Option<bool>,
    /// Changes a byte in the middle of this blob.
    pub(crate) damage: Option<String>,
    /// Breaks off this blob after half of it, once.
    pub(crate) interrupt: Option<String>,
    /// Goes away in the middle of the first upload.
    pub(crate) drop_upload: bool,
}

#[derive(Default)]
struct State {
    knobs: Knobs,
    address: Option<SocketAddr>,
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    /// Requests by path.
    asked: BTreeMap<String, usize>,
    /// What tokens were asked for, as the queries have it.
    token_queries: Vec<String>,
}

/// Serves one repository, `app`, until dropped.
pub(crate) struct FakeRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _server: AbortOnDropHandle<()>,
}

impl FakeRegistry {
    pub(crate) async fn start(image: &SampleImage, knobs: Knobs) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut state = State { knobs, address: Some(address), ..State::default() };
        state.blobs.extend(image.blobs().map(|blob| (digest(blob), blob.clone())));
        for name in ["1".to_owned(), digest(&image.manifest)] {
            state.manifests.insert(name, image.manifest.clone());
        }
        let state = Arc::new(Mutex::new(state));
        let server = tokio::spawn(serve(listener, state.clone()));
        Self { address, state, _server: AbortOnDropHandle::new(server) }
    }

    /// The image's name.
    pub(crate) fn name(&self) -> String {
        format!("{}/app:1", self.address)
    }

    /// What tokens were asked for, as the queries have it.
    pub(crate) fn token_queries(&self) -> Vec<String> {
        self.state.lock().unwrap().token_queries.clone()
    }

    /// The manifest under a tag.
    pub(crate) fn manifest(&self, tag: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().manifests.get(tag).cloned()
    }

    /// Whether it has a blob of this digest, and the blob is that.
    pub(crate) fn has(&self, blob: &str) -> bool {
        self.state.lock().unwrap().blobs.get(blob).is_some_and(|bytes| digest(bytes) == blob)
    }

    /// Another name of the image, which is not there yet.
    pub(crate) fn repository(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// How often a blob was asked for.
    pub(crate) fn asked_for(&self, blob: &str) -> usize {
        self.state.lock().unwrap().asked.get(&format!("/v2/app/blobs/{blob}")).copied().unwrap_or(0)
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = state.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let state = state.clone();
            async move {
                let (head, body) = request.into_parts();
                let is_upload = head.method == Method::PUT && head.uri.path().contains("/uploads/");
                if is_upload && std::mem::take(&mut state.lock().unwrap().knobs.drop_upload) {
                    return Err(std::io::Error::other("gone"));
                }
                let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                Ok(state.lock().unwrap().answer(&Request::from_parts(head, body)))
            }
        });
        // Connections that the other side ends are no failure.
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
        );
    }
}

impl State {
    fn answer(&mut self, request: &Request<Bytes>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        *self.asked.entry(path.clone()).or_default() += 1;
        if path == "/token" {
            self.token_queries.push(request.uri().query().unwrap_or_default().to_owned());
            return document(StatusCode::OK, "application/json", br#"{"token":"let-me"}"#);
        }
        if let Some(worth) = self.knobs.token
            && let Some(refusal) = self.check_token(request, worth, &path)
        {
            return refusal;
        }
        let last = path.rsplit('/').next().unwrap().to_owned();
        let last = last.as_str();
        if path == "/v2/" {
            return document(StatusCode::OK, "application/json", b"{}");
        }
        if let Some(answer) = self.take(request, &path, last) {
            return answer;
        }
        if path.contains("/manifests/")
            && let Some(manifest) = self.manifests.get(last)
        {
            return document(StatusCode::OK, MANIFEST, manifest);
        }
        match self.blobs.get(last).cloned() {
            Some(blob) => self.blob(last, blob, request),
            None => document(
                StatusCode::NOT_FOUND,
                "application/json",
                br#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#,
            ),
        }
    }

    /// What is pushed. Nothing is checked: that is what the test looks at.
    fn take(&mut self, request: &Request<Bytes>, path: &str, last: &str) -> Option<Response<Body>> {
        let bytes = request.body().to_vec();
        let mut answer = document(StatusCode::CREATED, "application/json", b"");
        if request.method() == Method::PUT && path.contains("/manifests/") {
            self.manifests.insert(last.to_owned(), bytes);
        } else if request.method() == Method::PUT {
            let query = request.uri().query().unwrap().replace("%3A", ":");
            let id = query.split('&').find_map(|part| part.strip_prefix("digest=")).unwrap();
            self.blobs.insert(id.to_owned(), bytes);
        } else if request.method() == Method::POST {
            // As some registries do: elsewhere, and with a query of its own.
            let place = format!("{path}here?state=1");
            answer.headers_mut().insert(LOCATION, place.parse().unwrap());
            *answer.status_mut() = StatusCode::ACCEPTED;
        } else {
            return None;
        }
        Some(answer)
    }

    fn check_token(&self, request: &Request<Bytes>, worth: bool, path: &str) -> Option<Response<Body>> {
        let given = request.headers().get(AUTHORIZATION).is_some_and(|value| value == "Bearer let-me");
        if given && (worth || path == "/v2/") {
            return None;
        }
        let mut refusal = document(
            StatusCode::UNAUTHORIZED,
            "application/json",
            br#"{"errors":[{"code":"UNAUTHORIZED"}]}"#,
        );
        let error = if given { ",error=\"insufficient_scope\"" } else { "" };
        let challenge = format!(
            "Bearer realm=\"http://{}/token\",service=\"test\",scope=\"repository:app:pull\"{error}",
            self.address.unwrap()
        );
        refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        Some(refusal)
    }

    fn blob(&mut self, id: &str, mut blob: Vec<u8>, request: &Request<Bytes>) -> Response<Body> {
        if self.knobs.damage.as_deref() == Some(id) {
            let middle = blob.len() / 2;
            blob[middle] ^= 1;
        }
        let range = request.headers().get(RANGE).and_then(|range| range.to_str().ok());
        let from =
            range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        if self.knobs.interrupt.as_deref() == Some(id) {
            self.knobs.interrupt = None;
            return broken_off(blob);
        }
        let mut answer = document(StatusCode::OK, "application/octet-stream", &blob[from.unwrap_or(0)..]);
        if from.is_some() {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        answer
    }
}

fn document(status: StatusCode, content_type: &'static str, bytes: &[u8]) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(bytes)).map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
    answer
}

/// Half of it, then an error: the connection ends before its time.
fn broken_off(mut blob: Vec<u8>) -> Response<Body> {
    blob.truncate(blob.len() / 2);
    let half = futures_util::stream::iter([Ok(Frame::data(Bytes::from(blob)))]);
    // The error waits until the half is on its way.
    let cut = futures_util::stream::once(async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut"))
    });
    Response::new(StreamBody::new(half.chain(cut)).boxed_unsync())
}
