//! What monitoring reads (OpenMetrics 1.0), at an address of its own: `--metrics-addr`, as with dockerd. Only figures
//! are to be had there, no names of containers, networks or services.

use std::sync::atomic::AtomicU64;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::network_backend::{EncryptedPath, NetworkFigures};
use crate::response::{Body, empty, full};
use crate::state::ApiState;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds, which have fractions.
type Seconds = Gauge<f64, AtomicU64>;

/// Another node, by the address that it has in the data path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    peer: String,
    /// `weft` or `docker`.
    scheme: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    peer: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Answers one request.
pub(crate) async fn handle(state: &ApiState, method: &Method, path: &str) -> Response<Body> {
    if path != "/metrics" {
        return empty(StatusCode::NOT_FOUND);
    }
    if method != Method::GET {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    match text(&state.system.version, &state.networks.figures().await) {
        Ok(text) => {
            let mut response = Response::new(full(text));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
            response
        }
        Err(std::fmt::Error) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn text(version: &str, figures: &NetworkFigures) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("weft");
    registry.register("build", "This program", Info::new(vec![("version", version.to_owned())]));
    paths(&mut registry, &figures.encrypted_paths);
    let dropped = Family::<Reason, Counter>::default();
    for (reason, count) in &figures.encryption_drops {
        dropped.get_or_create(&Reason { reason: reason.clone() }).inc_by(*count);
    }
    registry.register(
        "encryption_dropped_packets",
        "Packets of encrypted networks that were dropped",
        dropped,
    );
    let repairs = Family::<Kind, Counter>::default();
    for (kind, count) in &figures.repairs {
        repairs.get_or_create(&Kind { kind }).inc_by(*count);
    }
    registry.register("repairs", "Kernel objects that somebody changed and that were put right", repairs);
    let frames = Family::<Outcome, Counter>::default();
    for (outcome, count) in &figures.fast_path {
        frames.get_or_create(&Outcome { outcome }).inc_by(*count);
    }
    let help = "Frames that the programs of overlay networks saw, by what became of them";
    registry.register("fast_path_frames", help, frames);
    let failed = Counter::<u64>::default();
    failed.inc_by(figures.failed_repairs);
    registry.register("failed_repairs", "Repairs that the kernel refused", failed);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn paths(registry: &mut Registry, paths: &[EncryptedPath]) {
    let (up, refused) = (Family::<Peer, Gauge>::default(), Family::<Refused, Counter>::default());
    let (key_age, received) = (Family::<Peer, Seconds>::default(), Family::<Peer, Seconds>::default());
    for path in paths {
        let peer = Peer { peer: path.address.to_string(), scheme: path.scheme };
        up.get_or_create(&peer).set(path.trouble.is_none().into());
        if let Some(age) = path.key_age {
            key_age.get_or_create(&peer).set(age.as_secs_f64());
        }
        if let Some(ago) = path.last_received {
            received.get_or_create(&peer).set(ago.as_secs_f64());
        }
        for (reason, count) in [("replayed", path.replayed), ("not_authentic", path.not_authentic)] {
            refused.get_or_create(&Refused { peer: peer.peer.clone(), reason }).inc_by(count);
        }
    }
    registry.register(
        "encryption_path_up",
        "Whether encrypted networks reach the other node (1) or not (0)",
        up,
    );
    let unit = || Unit::Seconds;
    registry.register_with_unit("encryption_key_age", "Age of the keys that are sent with", unit(), key_age);
    let help = "Since something authentic came from the other node";
    registry.register_with_unit("encryption_last_received", help, unit(), received);
    let help = "Packets of the other node that were refused: replayed, or altered or forged";
    registry.register("encryption_refused_packets", help, refused);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn figures_have_names_units_and_labels() {
        let path = EncryptedPath {
            address: "192.0.2.7".parse().unwrap(),
            scheme: "weft",
            key_age: Some(Duration::from_millis(2500)),
            last_received: None,
            replayed: 3,
            not_authentic: 0,
            trouble: Some("nothing comes back"),
        };
        let figures = NetworkFigures {
            encrypted_paths: vec![path],
            encryption_drops: [("no_keys".to_owned(), 5)].into(),
            repairs: [("link", 1)].into(),
            failed_repairs: 2,
            fast_path: [("encapsulated", 9)].into(),
        };
        let text = text("1.2.3", &figures).unwrap();
        for line in [
            "weft_build_info{version=\"1.2.3\"} 1",
            "weft_encryption_path_up{peer=\"192.0.2.7\",scheme=\"weft\"} 0",
            "weft_encryption_key_age_seconds{peer=\"192.0.2.7\",scheme=\"weft\"} 2.5",
            "weft_encryption_refused_packets_total{peer=\"192.0.2.7\",reason=\"replayed\"} 3",
            "weft_encryption_dropped_packets_total{reason=\"no_keys\"} 5",
            "weft_repairs_total{kind=\"link\"} 1",
            "weft_failed_repairs_total 2",
            "weft_fast_path_frames_total{outcome=\"encapsulated\"} 9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(
            !text.contains("weft_encryption_last_received_seconds{"),
            "what never came has no age\n{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
