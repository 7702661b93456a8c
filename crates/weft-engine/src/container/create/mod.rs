//! From a create request to a record: defaults of the image here, checks and mounts in the submodules.

mod checks;
mod log;
mod missing;
mod mounts;
mod network_mode;
#[cfg(test)]
mod requests_test;
mod resources;

use std::collections::{BTreeMap, HashMap};

use bollard_stubs::models::{ContainerConfig, ContainerCreateBody, EndpointSettings, HostConfig};

pub(crate) use self::checks::{checked_policy, parse_size};
pub(crate) use self::mounts::{VolumeMaker, mounts};
pub(crate) use self::resources::{check_resources, check_swap};
use super::health;
use crate::error::EngineError;
use crate::image::document::RunConfig;

type Result<T> = std::result::Result<T, EngineError>;

fn invalid<T>(text: impl Into<String>) -> Result<T> {
    Err(EngineError::Invalid(text.into()))
}

/// The parts of a request.
pub(crate) struct Request {
    pub(crate) config: ContainerConfig,
    pub(crate) host: HostConfig,
    pub(crate) endpoints: BTreeMap<String, EndpointSettings>,
}

impl Request {
    pub(crate) fn split(body: ContainerCreateBody) -> Self {
        let config = ContainerConfig {
            hostname: body.hostname,
            domainname: body.domainname,
            user: body.user,
            attach_stdin: body.attach_stdin,
            attach_stdout: body.attach_stdout,
            attach_stderr: body.attach_stderr,
            exposed_ports: body.exposed_ports,
            tty: body.tty,
            open_stdin: body.open_stdin,
            stdin_once: body.stdin_once,
            env: body.env,
            cmd: body.cmd,
            healthcheck: body.healthcheck,
            args_escaped: body.args_escaped,
            image: body.image,
            volumes: body.volumes,
            working_dir: body.working_dir,
            entrypoint: body.entrypoint,
            network_disabled: body.network_disabled,
            on_build: body.on_build,
            labels: body.labels,
            stop_signal: body.stop_signal,
            stop_timeout: body.stop_timeout,
            shell: body.shell,
        };
        let endpoints: HashMap<String, EndpointSettings> =
            body.networking_config.and_then(|networking| networking.endpoints_config).unwrap_or_default();
        Self {
            config,
            host: body.host_config.unwrap_or_default(),
            endpoints: endpoints.into_iter().collect(),
        }
    }

    /// Fills in what the image says and the request leaves open (Docker's `merge` of configurations).
    pub(crate) fn merge_image(&mut self, image: &RunConfig) -> Result<()> {
        let config = &mut self.config;
        let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
        if empty(&config.user) {
            config.user = image.user.clone();
        }
        if config.entrypoint.as_deref().is_none_or(<[String]>::is_empty) {
            // An entrypoint of `[""]` resets the image's; a new entrypoint drops the image's command.
            if config.cmd.as_deref().is_none_or(<[String]>::is_empty) {
                config.cmd = image.cmd.clone();
            }
            if config.entrypoint.is_none() {
                config.entrypoint = image.entrypoint.clone();
            }
        }
        if config.entrypoint.as_deref() == Some(&[String::new()]) {
            config.entrypoint = None;
        }
        if empty(&config.working_dir) {
            config.working_dir = image.working_dir.clone();
        }
        if empty(&config.stop_signal) {
            config.stop_signal = image.stop_signal.clone();
        }
        config.healthcheck = health::merge(config.healthcheck.take(), image);
        if config.shell.as_deref().is_none_or(<[String]>::is_empty) {
            config.shell = image.shell.clone();
        }
        let mut env = image.env.clone().unwrap_or_default();
        let own = config.env.clone().unwrap_or_default();
        env.retain(|entry| !own.iter().any(|o| o.split('=').next() == entry.split('=').next()));
        let env: Vec<String> = own.into_iter().chain(env).collect();
        config.env = (!env.is_empty()).then_some(env);
        let mut labels: HashMap<String, String> =
            image.labels.clone().unwrap_or_default().into_iter().collect();
        labels.extend(config.labels.take().unwrap_or_default());
        config.labels = Some(labels);
        let mut ports = config.exposed_ports.take().unwrap_or_default();
        ports.extend(image.exposed_ports.iter().flat_map(|ports| ports.keys().cloned()));
        ports.sort();
        ports.dedup();
        config.exposed_ports = (!ports.is_empty()).then_some(ports);
        let mut volumes = config.volumes.take().unwrap_or_default();
        volumes.extend(image.volumes.iter().flat_map(|volumes| volumes.keys().cloned()));
        volumes.sort();
        volumes.dedup();
        config.volumes = (!volumes.is_empty()).then_some(volumes);
        Ok(())
    }

    /// Program and arguments.
    pub(crate) fn command(&self) -> Result<(String, Vec<String>)> {
        let mut words = self.config.entrypoint.clone().unwrap_or_default();
        words.extend(self.config.cmd.clone().unwrap_or_default());
        if words.is_empty() || words[0].is_empty() && words.len() == 1 {
            return invalid("no command specified");
        }
        let args = words.split_off(1);
        Ok((words.remove(0), args))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_fills_what_the_request_leaves_open() {
        let image = RunConfig {
            cmd: Some(vec!["sh".into()]),
            entrypoint: Some(vec!["/entry".into()]),
            env: Some(vec!["A=image".into(), "B=image".into()]),
            ..RunConfig::default()
        };
        let merged = |body: ContainerCreateBody| {
            let mut request = Request::split(body);
            request.merge_image(&image).unwrap();
            request
        };
        let plain = merged(ContainerCreateBody::default());
        assert_eq!(plain.command().unwrap(), ("/entry".to_owned(), vec!["sh".to_owned()]));
        let own = merged(ContainerCreateBody {
            entrypoint: Some(vec!["mine".into()]),
            env: Some(vec!["A=own".into()]),
            ..ContainerCreateBody::default()
        });
        assert_eq!(own.command().unwrap(), ("mine".to_owned(), vec![]));
        assert_eq!(own.config.env.unwrap(), ["A=own", "B=image"]);
        let reset =
            merged(ContainerCreateBody { entrypoint: Some(vec![String::new()]), ..Default::default() });
        assert!(reset.command().is_err());
    }
}
