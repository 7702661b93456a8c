//! Networks that are none: they hold settings, which others take over (`--config-only`, `--config-from`).

use std::collections::BTreeMap;
use std::time::SystemTime;

use weft_types::NetworkId;

use crate::error::NetworkError;
use crate::network::{Driver, Network};
use crate::spec::{IpamConfig, NetworkSpec};
use crate::state::State;

/// Docker's rules for who may say what.
pub(super) fn check(spec: &NetworkSpec) -> Result<(), NetworkError> {
    let refused = |text: &str| Err(NetworkError::Configuration(text.to_owned()));
    let is_swarms = !matches!(spec.scope.as_str(), "" | "local");
    if spec.config_only && (spec.ingress || spec.internal || spec.attachable || is_swarms) {
        return refused(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.",
        );
    }
    if spec.config_from.is_none() {
        return Ok(());
    }
    if spec.config_only {
        return refused("a configuration network cannot depend on another configuration network");
    }
    if !spec.options.is_empty() {
        return refused(
            "user specified driver options are not supported if the network depends on a configuration network",
        );
    }
    let is_given = |config: &IpamConfig| *config != IpamConfig::default();
    let plain = spec.labels.is_empty()
        && spec.ipam_options.as_ref().is_none_or(BTreeMap::is_empty)
        && !spec.enable_ipv6;
    if !plain || spec.ipam.iter().any(is_given) {
        return refused(
            "user specified configurations are not supported if the network depends on a configuration network",
        );
    }
    Ok(())
}

/// Keeps settings for others.
pub(super) fn add(state: &mut State, spec: NetworkSpec) -> Result<Network, NetworkError> {
    if state.networks().any(|network| network.name == spec.name) {
        return Err(NetworkError::NameTaken(spec.name));
    }
    let id = NetworkId::random_local(&mut rand::rng());
    let network = Network {
        id: id.clone(),
        name: spec.name,
        created: SystemTime::now(),
        driver: Driver::Config(spec.ipam),
        enable_ipv4: spec.enable_ipv4,
        enable_ipv6: spec.enable_ipv6,
        internal: false,
        attachable: false,
        pools: Vec::new(),
        ipam_options: spec.ipam_options,
        options: spec.options,
        labels: spec.labels,
        config_from: None,
    };
    state.networks_mut().insert(id, network.clone());
    Ok(network)
}

/// What a request asks for, with the settings that it names.
pub(super) fn filled(state: &State, spec: NetworkSpec) -> Result<NetworkSpec, NetworkError> {
    let Some(name) = &spec.config_from else { return Ok(spec) };
    let found = state.networks().find(|network| network.name == *name && network.config().is_some());
    let Some((from, ipam)) = found.and_then(|network| Some((network, network.config()?))) else {
        return Err(NetworkError::NoConfiguration(name.clone()));
    };
    Ok(NetworkSpec {
        enable_ipv4: from.enable_ipv4,
        enable_ipv6: from.enable_ipv6,
        ipam: ipam.to_vec(),
        ipam_options: from.ipam_options.clone(),
        options: from.options.clone(),
        labels: from.labels.clone(),
        ..spec
    })
}

/// Settings stay while a network has them.
pub(super) fn refuse_used(state: &State, network: &Network) -> Result<(), NetworkError> {
    let is_used = |other: &Network| other.config_from.as_deref() == Some(network.name.as_str());
    match network.config() {
        Some(_) if state.networks().any(is_used) => {
            Err(NetworkError::Configuration(format!("configuration network {:?} is in use", network.name)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::state::Lasting;

    fn spec(name: &str) -> NetworkSpec {
        NetworkSpec::bridge(name)
    }

    #[test]
    fn settings_are_taken_over_and_kept_while_they_are_used() {
        let unique_local = "fd00::/48".parse().unwrap();
        let mut state = State {
            lasting: Arc::new(Lasting { unique_local, networks: BTreeMap::new() }),
            sandboxes: Arc::default(),
            swarm: None,
            serving: Arc::default(),
        };
        let ipam = vec![IpamConfig { subnet: Some("10.7.0.0/24".to_owned()), ..IpamConfig::default() }];
        let options = [("parent".to_owned(), "eth0".to_owned())].into();
        let wish = NetworkSpec { config_only: true, ipam: ipam.clone(), options, ..spec("cfg") };
        check(&wish).unwrap();
        let cfg = add(&mut state, wish).unwrap();
        assert_eq!((cfg.driver_name(), cfg.is_predefined()), ("null", false));
        let wish =
            NetworkSpec { config_from: Some("cfg".to_owned()), driver: "macvlan".to_owned(), ..spec("n") };
        check(&wish).unwrap();
        let full = filled(&state, wish).unwrap();
        assert_eq!((full.ipam, full.options["parent"].as_str()), (ipam, "eth0"));
        refuse_used(&state, &cfg).unwrap();
        let id = NetworkId::random_local(&mut rand::rng());
        let user = Network {
            id: id.clone(),
            config_from: Some("cfg".to_owned()),
            driver: Driver::Null,
            ..cfg.clone()
        };
        state.networks_mut().insert(id, user);
        assert_eq!(
            refuse_used(&state, &cfg).unwrap_err().to_string(),
            "configuration network \"cfg\" is in use"
        );
        let absent = NetworkSpec { config_from: Some("x".to_owned()), ..spec("n") };
        assert_eq!(filled(&state, absent).unwrap_err().to_string(), "configuration network \"x\" not found");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let from = Some("cfg".to_owned());
        for (wish, words) in [
            (
                NetworkSpec { config_only: true, internal: true, ..spec("n") },
                "can only contain network specific fields",
            ),
            (
                NetworkSpec { config_only: true, config_from: from.clone(), ..spec("n") },
                "cannot depend on another",
            ),
            (
                NetworkSpec { config_from: from.clone(), enable_ipv6: true, ..spec("n") },
                "user specified configurations",
            ),
            (
                NetworkSpec {
                    config_from: from,
                    options: [("a".to_owned(), "b".to_owned())].into(),
                    ..spec("n")
                },
                "user specified driver options",
            ),
        ] {
            let text = check(&wish).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
    }
}
