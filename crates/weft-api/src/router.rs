//! From a request to its handler: version prefix, gate, dispatch by method and path, common headers.
//!
//! As with Docker an unknown path and a known path with another method are the same: 404, without the common headers.

use std::pin::Pin;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use hyper::{Method, Request, Response, StatusCode};

use crate::error::{ApiError, ApiResult};
use crate::hijack::BareHeaders;
use crate::query::{Query, decode};
use crate::request::Call;
use crate::response::{Body, full};
use crate::state::ApiState;
use crate::version::{self, ApiVersion};
use crate::{
    containers, distribution, exec, images, networks, nodes, plugins, services, stored, swarm, system, tasks,
    volumes,
};

/// A handler at work. Boxed, so that a connection holds one handler's state and not the largest of all.
type Handling = Pin<Box<dyn Future<Output = ApiResult> + Send>>;

/// Answers one request.
pub(crate) async fn handle(state: ApiState, mut request: Request<Incoming>) -> Response<Body> {
    let path = decode(request.uri().path(), false);
    let (version, path) = split_version(&path);
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let Some(route) = route(request.method(), &segments) else { return page_not_found() };
    let mut response = match version::check(version) {
        Err(unserved) => unserved.into_response(),
        Ok(()) => {
            let upgrade = Some(hyper::upgrade::on(&mut request));
            let query = Query::parse(request.uri().query().unwrap_or_default());
            let (head, body) = request.into_parts();
            tracing::trace!(method = %head.method, uri = %head.uri, "request");
            let call = Call { state: state.clone(), version, query, headers: head.headers, body, upgrade };
            let mut response = route(call).await.unwrap_or_else(ApiError::into_response);
            response
                .headers_mut()
                .insert(HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false"));
            response
        }
    };
    if response.extensions().get::<BareHeaders>().is_some() {
        response.headers_mut().remove("docker-experimental");
    } else {
        common_headers(&mut response, &state.system.version);
    }
    response
}

fn common_headers(response: &mut Response<Body>, program_version: &str) {
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("api-version"), HeaderValue::from_static("1.51"));
    headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
    if let Ok(server) = HeaderValue::from_str(&format!("Weft/{program_version} (linux)")) {
        headers.insert(SERVER, server);
    }
}

fn page_not_found() -> Response<Body> {
    let mut response = Response::new(full("{\"message\":\"page not found\"}\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// `/v1.47/info` is `/info` of 1.47; without a prefix the newest version answers.
fn split_version(path: &str) -> (ApiVersion, &str) {
    let prefixed = || {
        let (prefix, rest) =
            path.strip_prefix("/v")?.split_at_checked(path.strip_prefix("/v")?.find('/')?)?;
        Some((ApiVersion::parse(prefix)?, rest))
    };
    prefixed().unwrap_or((ApiVersion::MAX, path))
}

/// The handler with its path arguments bound.
type Route = Box<dyn FnOnce(Call) -> Handling + Send>;

fn bind<F>(handler: impl FnOnce(Call) -> F + Send + 'static) -> Option<Route>
where
    F: Future<Output = ApiResult> + Send + 'static,
{
    Some(Box::new(move |call| Box::pin(handler(call))))
}

/// Binds a handler's only path argument.
fn bind1<F>(handler: impl FnOnce(Call, String) -> F + Send + 'static, argument: &str) -> Option<Route>
where
    F: Future<Output = ApiResult> + Send + 'static,
{
    let argument = argument.to_owned();
    Some(Box::new(move |call| Box::pin(handler(call, argument))))
}

fn route(method: &Method, segments: &[&str]) -> Option<Route> {
    let (first, rest) = segments.split_first()?;
    let method = match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => return None,
    };
    match *first {
        "containers" => containers_route(method, rest),
        "exec" => exec_route(method, rest),
        "images" => images_route(method, rest),
        "networks" => networks_route(method, rest),
        "volumes" => volumes_route(method, rest),
        "swarm" => swarm_route(method, rest),
        "nodes" => nodes_route(method, rest),
        "services" => services_route(method, rest),
        "tasks" => tasks_route(method, rest),
        "secrets" => stored_route(method, rest, stored::Kind::Secret),
        "configs" => stored_route(method, rest, stored::Kind::Config),
        "plugins" => plugins_route(method, rest),
        "distribution" => distribution_route(method, rest),
        _ => system_route(method, segments),
    }
}

fn system_route(method: &str, segments: &[&str]) -> Option<Route> {
    match (method, segments) {
        ("GET", ["_ping"]) => bind(|call| system::ping(call, true)),
        ("HEAD", ["_ping"]) => bind(|call| system::ping(call, false)),
        ("GET", ["version"]) => bind(system::version),
        ("GET", ["info"]) => bind(system::info),
        ("GET", ["events"]) => bind(system::events),
        ("GET", ["system", "df"]) => bind(system::disk_usage),
        ("POST", ["auth"]) => bind(distribution::auth),
        ("POST", ["build"]) => bind(distribution::build),
        ("POST", ["build", "prune"]) => bind(distribution::build_prune),
        ("POST", ["build", "cancel"]) => bind(distribution::build),
        ("POST", ["session"]) => bind(distribution::session),
        ("POST", ["commit"]) => bind(images::commit),
        _ => None,
    }
}

fn containers_route(method: &str, rest: &[&str]) -> Option<Route> {
    match (method, rest) {
        ("GET", ["json"]) => bind(containers::list),
        ("POST", ["create"]) => bind(containers::create),
        ("POST", ["prune"]) => bind(containers::prune),
        ("GET", [id, "json"]) => bind1(containers::inspect, id),
        ("POST", [id, "start"]) => bind1(containers::start, id),
        ("POST", [id, "stop"]) => bind1(containers::stop, id),
        ("POST", [id, "restart"]) => bind1(containers::restart, id),
        ("POST", [id, "kill"]) => bind1(containers::kill, id),
        ("POST", [id, "pause"]) => bind1(containers::pause, id),
        ("POST", [id, "unpause"]) => bind1(containers::unpause, id),
        ("POST", [id, "wait"]) => bind1(containers::wait, id),
        ("POST", [id, "rename"]) => bind1(containers::rename, id),
        ("POST", [id, "resize"]) => bind1(containers::resize, id),
        ("POST", [id, "update"]) => bind1(containers::update, id),
        ("POST", [id, "attach"]) => bind1(containers::attach, id),
        ("GET", [id, "attach", "ws"]) => bind1(containers::attach_websocket, id),
        ("POST", [id, "exec"]) => bind1(exec::create, id),
        ("GET", [id, "logs"]) => bind1(containers::logs, id),
        ("GET", [id, "top"]) => bind1(containers::top, id),
        ("GET", [id, "stats"]) => bind1(containers::stats, id),
        ("GET", [id, "changes"]) => bind1(containers::changes, id),
        ("GET", [id, "export"]) => bind1(containers::export, id),
        ("HEAD", [id, "archive"]) => bind1(containers::path_stat, id),
        ("GET", [id, "archive"]) => bind1(containers::archive, id),
        ("PUT", [id, "archive"]) => bind1(containers::extract, id),
        ("DELETE", [id]) => bind1(containers::remove, id),
        _ => None,
    }
}

fn exec_route(method: &str, rest: &[&str]) -> Option<Route> {
    match (method, rest) {
        ("POST", [id, "start"]) => bind1(exec::start, id),
        ("POST", [id, "resize"]) => bind1(exec::resize, id),
        ("GET", [id, "json"]) => bind1(exec::inspect, id),
        _ => None,
    }
}

fn images_route(method: &str, rest: &[&str]) -> Option<Route> {
    match (method, rest) {
        ("GET", ["json"]) => bind(images::list),
        ("GET", ["get"]) => bind(images::save_many),
        ("GET", ["search"]) => bind(distribution::search),
        ("POST", ["create"]) => bind(images::create),
        ("POST", ["load"]) => bind(images::load),
        ("POST", ["prune"]) => bind(images::prune),
        ("GET", [name @ .., "json"]) => bind1(images::inspect, &name.join("/")),
        ("GET", [name @ .., "history"]) => bind1(images::history, &name.join("/")),
        ("GET", [name @ .., "get"]) => bind1(images::save, &name.join("/")),
        ("POST", [name @ .., "tag"]) => bind1(images::tag, &name.join("/")),
        ("POST", [name @ .., "push"]) => bind1(images::push, &name.join("/")),
        ("DELETE", [_, ..]) => bind1(images::remove, &rest.join("/")),
        _ => None,
    }
}

fn networks_route(method: &str, rest: &[&str]) -> Option<Route> {
    match (method, rest) {
        ("GET", []) => bind(networks::list),
        ("POST", ["create"]) => bind(networks::create),
        ("POST", ["prune"]) => bind(networks::prune),
        ("GET", [id]) => bind1(networks::inspect, id),
        ("DELETE", [id]) => bind1(networks::remove, id),
        ("POST", [id, "connect"]) => bind1(networks::connect, id),
        ("POST", [id, "disconnect"]) => bind1(networks::disconnect, id),
        _ => None,
    }
}

fn volumes_route(method: &str, rest: &[&str]) -> Option<Route> {
    match (method, rest) {
        ("GET", []) => bind(volumes::list),
        ("POST", ["create"]) => bind(volumes::create),
        ("POST", ["prune"]) => bind(volumes::prune),
        ("GET", [name]) => bind1(volumes::inspect, name),
        ("DELETE", [name]) => bind1(volumes::remove, name),
        _ => None,
    }
}

fn swarm_route(method: &str, rest: &[&str]) -> Option<Route> {
    match (method, rest) {
        ("GET", []) => bind(swarm::inspect),
        ("POST", ["init"]) => bind(swarm::init),
        ("POST", ["join"]) => bind(swarm::join),
        ("POST", ["leave"]) => bind(swarm::leave),
        ("POST", ["update"]) => bind(swarm::update),
        ("GET", ["unlockkey"]) => bind(swarm::unlock_key),
        ("POST", ["unlock"]) => bind(swarm::unlock),
        _ => None,
    }
}

fn nodes_route(method: &str, rest: &[&str]) -> Option<Route> {
    match (method, rest) {
        ("GET", []) => bind(nodes::list),
        ("GET", [id]) => bind1(nodes::inspect, id),
        ("DELETE", [id]) => bind1(nodes::remove, id),
        ("POST", [id, "update"]) => bind1(nodes::update, id),
        _ => None,
    }
}

fn services_route(method: &str, rest: &[&str]) -> Option<Route> {
    match (method, rest) {
        ("GET", []) => bind(services::list),
        ("POST", ["create"]) => bind(services::create),
        ("GET", [id]) => bind1(services::inspect, id),
        ("DELETE", [id]) => bind1(services::remove, id),
        ("POST", [id, "update"]) => bind1(services::update, id),
        ("GET", [id, "logs"]) => bind1(services::logs, id),
        _ => None,
    }
}

fn tasks_route(method: &str, rest: &[&str]) -> Option<Route> {
    match (method, rest) {
        ("GET", []) => bind(tasks::list),
        ("GET", [id]) => bind1(tasks::inspect, id),
        ("GET", [id, "logs"]) => bind1(services::task_logs, id),
        _ => None,
    }
}

fn stored_route(method: &str, rest: &[&str], kind: stored::Kind) -> Option<Route> {
    match (method, rest) {
        ("GET", []) => bind(move |call| stored::list(call, kind)),
        ("POST", ["create"]) => bind(move |call| stored::create(call, kind)),
        ("GET", [id]) => bind1(move |call, id| stored::inspect(call, kind, id), id),
        ("DELETE", [id]) => bind1(move |call, id| stored::remove(call, kind, id), id),
        ("POST", [id, "update"]) => bind1(move |call, id| stored::update(call, kind, id), id),
        _ => None,
    }
}

fn plugins_route(method: &str, rest: &[&str]) -> Option<Route> {
    match (method, rest) {
        ("GET", []) => bind(plugins::list),
        ("GET", [name @ .., "json"]) => bind1(plugins::inspect, &name.join("/")),
        _ => None,
    }
}

fn distribution_route(method: &str, rest: &[&str]) -> Option<Route> {
    match (method, rest) {
        ("GET", [name @ .., "json"]) => bind1(distribution::inspect, &name.join("/")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(method: Method, path: &str) -> bool {
        let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        route(&method, &segments).is_some()
    }

    #[test]
    fn unknown_paths_and_wrong_methods_have_no_route() {
        assert!(known(Method::GET, "/containers/json"));
        assert!(known(Method::GET, "/images/library/alpine:3/json"));
        assert!(known(Method::DELETE, "/images/host:5000/a/b"));
        for (method, path) in [
            (Method::GET, "/nope"),
            (Method::GET, "/"),
            (Method::DELETE, "/info"),
            (Method::GET, "/auth"),
            (Method::GET, "/build/prune"),
            (Method::POST, "/containers/json"),
            (Method::PATCH, "/containers/json"),
        ] {
            assert!(!known(method.clone(), path), "{method} {path}");
        }
    }

    #[test]
    fn versions_are_prefixes() {
        assert_eq!(split_version("/v1.24/info"), (ApiVersion(1, 24), "/info"));
        assert_eq!(split_version("/info"), (ApiVersion::MAX, "/info"));
        assert_eq!(split_version("/volumes"), (ApiVersion::MAX, "/volumes"));
        assert_eq!(split_version("/v1.x/info"), (ApiVersion::MAX, "/v1.x/info"));
    }

    proptest! {
        #[test]
        fn any_path_is_routed_or_not(path in "[/a-z0-9.%v_:]{0,60}") {
            let path = decode(&path, false);
            let (_, path) = split_version(&path);
            let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
            let _ = route(&Method::GET, &segments);
        }
    }
}
