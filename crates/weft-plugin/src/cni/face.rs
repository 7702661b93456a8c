//! The daemon's end: calls of runtimes by the controller.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use hyper::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_network::{
    Controller, EndpointSpec, EndpointView, ForeignPlace, NetworkError, SandboxKind, SandboxSpec,
};
use weft_types::{Classified as _, ContainerId, EndpointAddress, ErrorKind};

use super::error::{CniError, Code};
use super::protocol::{
    AddAnswer, AddRequest, AttachmentKey, CheckRequest, Done, GcRequest, PREFIX, StatusRequest,
};
use crate::server::{Answer, Face};

/// Where names are asked for inside, as in containers of Weft's own.
const RESOLVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 11));

/// Answers the plugin's processes.
pub struct CniFace {
    controller: Arc<Controller>,
}

#[async_trait::async_trait]
impl Face for CniFace {
    async fn answer(&self, path: &str, body: &[u8]) -> Answer {
        match path.strip_prefix(PREFIX) {
            Some("add") => reply(match read::<AddRequest>(body) {
                Ok(request) => Box::pin(self.add(request)).await,
                Err(error) => Err(error),
            }),
            Some("del") => reply(match read::<AttachmentKey>(body) {
                Ok(key) => self.del(&key).await,
                Err(error) => Err(error),
            }),
            Some("check") => reply(match read::<CheckRequest>(body) {
                Ok(request) => self.check(&request).await,
                Err(error) => Err(error),
            }),
            Some("gc") => reply(match read::<GcRequest>(body) {
                Ok(request) => self.gc(&request).await,
                Err(error) => Err(error),
            }),
            Some("status") => reply(read::<StatusRequest>(body).and_then(|request| self.status(&request))),
            _ => Answer { status: StatusCode::NOT_FOUND, body: Vec::new() },
        }
    }
}

fn read<Q: DeserializeOwned>(body: &[u8]) -> Result<Q, CniError> {
    serde_json::from_slice(body).map_err(|error| CniError::new(Code::Decode, error.to_string()))
}

fn reply<A: Serialize>(outcome: Result<A, CniError>) -> Answer {
    let (status, body) = match outcome {
        Ok(answer) => (StatusCode::OK, serde_json::to_vec(&answer)),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, serde_json::to_vec(&error)),
    };
    match body {
        Ok(body) => Answer { status, body },
        Err(error) => {
            Answer { status: StatusCode::INTERNAL_SERVER_ERROR, body: error.to_string().into_bytes() }
        }
    }
}

impl CniFace {
    /// A face over a controller.
    pub fn new(controller: Arc<Controller>) -> Self {
        Self { controller }
    }

    async fn add(&self, request: AddRequest) -> Result<AddAnswer, CniError> {
        let container = container_id(&request.key.container)?;
        let is_new = self.ready_sandbox(&container, &request).await?;
        let routes = self.controller.default_routes(&container);
        let joined = self.join(&container, &request).await;
        let joined = match joined {
            Ok(view) => view,
            Err(error) => {
                if is_new {
                    self.give_up(&container).await;
                }
                return Err(refusal(&error));
            }
        };
        let came = |route: &(IpAddr, String)| !routes.contains(route);
        let default_routes = self.controller.default_routes(&container).into_iter().filter(came);
        let resolved = !joined.dns_names.is_empty();
        Ok(AddAnswer {
            mac: joined.mac,
            mtu: self.controller.interface_mtu(&container, &joined.interface),
            addresses: addresses(&joined),
            gateways: joined.gateway.into_iter().chain(joined.gateway6).collect(),
            default_routes: default_routes.map(|(router, _)| router).collect(),
            nameservers: if resolved { vec![RESOLVER] } else { Vec::new() },
        })
    }

    /// Makes the container known, unless another of its networks did; says whether it is new.
    async fn ready_sandbox(&self, container: &ContainerId, request: &AddRequest) -> Result<bool, CniError> {
        if let Some(netns) = self.controller.foreign_netns(container) {
            return match netns == request.netns {
                true => Ok(false),
                false => Err(CniError::new(
                    Code::Refused,
                    format!(
                        "the container is known with another namespace, {}: call DEL first",
                        netns.display()
                    ),
                )),
            };
        }
        check_netns(&request.netns)?;
        let dns = &request.dns;
        let spec = SandboxSpec {
            container: container.clone(),
            name: request.name.clone(),
            kind: SandboxKind::Foreign(request.netns.clone()),
            hostname: String::new(),
            domainname: String::new(),
            dns: dns.nameservers.iter().map(ToString::to_string).collect(),
            dns_search: dns.search.clone(),
            dns_options: dns.options.clone(),
            extra_hosts: Vec::new(),
            ports: request.ports.clone(),
        };
        self.controller.create_sandbox(spec).await.map_err(|error| refusal(&error))?;
        Ok(true)
    }

    /// Joins the network and publishes ports; undone if either fails.
    async fn join(
        &self,
        container: &ContainerId,
        request: &AddRequest,
    ) -> Result<EndpointView, NetworkError> {
        let wished = |ipv6: bool| {
            let of = request.addresses.iter().find(|ip| ip.is_ipv6() == ipv6);
            of.map(ToString::to_string)
        };
        let spec = EndpointSpec {
            ipv4: wished(false),
            ipv6: wished(true),
            mac: request.mac,
            aliases: request.aliases.clone(),
            interface: Some(request.key.interface.clone()),
            claim: request.key.network.clone(),
            ..EndpointSpec::default()
        };
        let view = self.controller.connect(container, &request.network, spec).await?;
        if let Err(error) = self.controller.publish(container).await {
            if let Err(error) = self.controller.disconnect(container, view.network_id.as_str()).await {
                tracing::warn!(%container, %error, "what could not be published is still attached");
            }
            return Err(error);
        }
        Ok(view)
    }

    async fn give_up(&self, container: &ContainerId) {
        if let Err(error) = self.controller.remove_sandbox(container).await {
            tracing::warn!(%container, %error, "what was begun for another engine's container is not undone");
        }
    }

    async fn del(&self, key: &AttachmentKey) -> Result<Done, CniError> {
        let container = container_id(&key.container)?;
        if self.controller.foreign_netns(&container).is_none() {
            return Ok(Done {});
        }
        let of = |place: &ForeignPlace| place.endpoint.container == container;
        let places: Vec<ForeignPlace> = self.controller.foreign_places().into_iter().filter(of).collect();
        let (gone, kept): (Vec<_>, Vec<_>) = places.into_iter().partition(|place| is_it(place, key));
        let removed = match (gone.first(), kept.is_empty()) {
            (_, true) => self.controller.remove_sandbox(&container).await,
            (Some(place), false) => {
                self.controller.disconnect(&container, place.endpoint.network_id.as_str()).await
            }
            (None, false) => Ok(()),
        };
        match removed {
            // Somebody else was faster.
            Ok(()) | Err(NetworkError::NotConnected { .. } | NetworkError::NotFound(_)) => Ok(Done {}),
            Err(error) => Err(refusal(&error)),
        }
    }

    async fn check(&self, request: &CheckRequest) -> Result<Done, CniError> {
        let differs = |msg: String| CniError::new(Code::Differs, msg);
        let container = container_id(&request.key.container)?;
        let mut places = self.controller.foreign_places().into_iter();
        let place = places
            .find(|place| place.endpoint.container == container && is_it(place, &request.key))
            .ok_or_else(|| differs("the container is not attached to the network".to_owned()))?;
        let netns = self.controller.foreign_netns(&container).unwrap_or_default();
        if netns != request.netns {
            return Err(differs(format!(
                "the container is attached in another namespace, {}",
                netns.display()
            )));
        }
        let have = addresses(&place.endpoint);
        if let Some(lost) = request.addresses.iter().find(|address| !have.contains(address)) {
            return Err(differs(format!("{} does not have the address {lost}", request.key.interface)));
        }
        if let Some(mac) = request.mac.filter(|mac| *mac != place.endpoint.mac) {
            return Err(differs(format!("{} does not have the MAC address {mac}", request.key.interface)));
        }
        let missing = self.controller.missing(&container).await.map_err(|error| refusal(&error))?;
        if missing.is_empty() {
            return Ok(Done {});
        }
        Err(differs("the container's network is not as it was made".to_owned())
            .with_details(missing.join("; ")))
    }

    async fn gc(&self, request: &GcRequest) -> Result<Done, CniError> {
        let valid = request.valid.iter().map(|key| Ok((container_id(&key.container)?, key)));
        let valid = valid.collect::<Result<Vec<_>, CniError>>()?;
        let is_valid = |place: &ForeignPlace| {
            valid.iter().any(|(container, key)| *container == place.endpoint.container && is_it(place, key))
        };
        let all = self.controller.foreign_places().into_iter();
        let stale = all.filter(|place| place.claim == request.network && !is_valid(place));
        let mut outcome = Ok(Done {});
        for place in stale {
            let endpoint = &place.endpoint;
            tracing::info!(container = %endpoint.container, network = endpoint.network, "attachment collected");
            let key = AttachmentKey {
                network: place.claim.clone(),
                container: endpoint.container.to_string(),
                interface: endpoint.interface.clone(),
            };
            let removed = self.del(&key).await;
            outcome = outcome.and(removed);
        }
        outcome
    }

    fn status(&self, request: &StatusRequest) -> Result<Done, CniError> {
        if self.controller.find(&request.network).is_ok() || self.controller.reaches_swarm() {
            return Ok(Done {});
        }
        let msg = format!("this node is in no swarm, and has no network {} of its own", request.network);
        Err(CniError::new(Code::NotAvailable, msg))
    }
}

/// Whether a place of the right container is the one of the key.
fn is_it(place: &ForeignPlace, key: &AttachmentKey) -> bool {
    place.claim == key.network && place.endpoint.interface == key.interface
}

fn addresses(view: &EndpointView) -> Vec<EndpointAddress> {
    view.address.into_iter().chain(view.address6).collect()
}

fn check_netns(netns: &Path) -> Result<(), CniError> {
    match std::fs::metadata(netns) {
        Ok(_) => Ok(()),
        Err(error) => Err(CniError::new(Code::UnknownContainer, format!("{}: {error}", netns.display()))),
    }
}

/// Weft's id for a runtime's: its own where it has the form, as Podman's and containerd's have; else one made of it.
fn container_id(text: &str) -> Result<ContainerId, CniError> {
    if let Ok(own) = text.parse() {
        return Ok(own);
    }
    let made: Result<ContainerId, _> = hex::encode(digest::digest(&digest::SHA256, text.as_bytes())).parse();
    made.map_err(|error| CniError::new(Code::InvalidEnvironment, error.to_string()))
}

fn refusal(error: &NetworkError) -> CniError {
    let code = match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidParameter => Code::InvalidConfig,
        ErrorKind::Unavailable => Code::TryAgainLater,
        _ => Code::Refused,
    };
    let mut chain = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        chain.push(cause.to_string());
        source = cause.source();
    }
    CniError::new(code, error.to_string()).with_details(chain.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_dockers_form_stay_and_others_get_one() {
        let own = "0123456789abcdef".repeat(4);
        assert_eq!(container_id(&own).unwrap().as_str(), own);
        let made = container_id("default-1").unwrap();
        assert_eq!(made, container_id("default-1").unwrap());
        assert_ne!(made, container_id("default-2").unwrap());
    }
}
