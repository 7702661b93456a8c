//! The plugin's process: one call of a runtime.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::config::NetworkConfig;
use super::environment::{Command, Environment, Target};
use super::error::{CniError, Code};
use super::protocol::{
    AddAnswer, AddRequest, AttachmentKey, CheckRequest, Dns, Done, GcRequest, PREFIX, StatusRequest,
};
use super::result::{CniResult, Interface, Ip, Route};
use super::version::{SUPPORTED, SpecVersion};
use crate::http::{self, CallError};

/// A configuration takes some kilobytes; more is a mistake.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// The daemon waits for its swarm for 20 seconds at most, and then for the managers' answer for as long again.
const DEADLINE: Duration = Duration::from_secs(60);
/// The variable that makes a call of it.
const COMMAND: &str = "CNI_COMMAND";

/// Whether this process was started by a runtime: without a word on its command line, and with a call in its environment.
pub fn is_call(arguments: &[String]) -> bool {
    arguments.len() <= 1 && std::env::var_os(COMMAND).is_some()
}

/// Carries out the call in the environment and prints what comes of it.
pub fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let environment = Environment(&variable);
    let mut input = Vec::new();
    let outcome = environment.command().and_then(|command| {
        // Not before there is a call: who tries it by hand does not want to wait for the end of his typing.
        let read = std::io::stdin().take(MAX_CONFIG_BYTES).read_to_end(&mut input);
        read.map_err(|error| CniError::new(Code::Io, format!("read standard input: {error}")))?;
        run(command, environment, &input)
    });
    match outcome {
        Ok(Some(value)) => print(&value, ExitCode::SUCCESS),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => print(&error.render(&version_of(&input)), ExitCode::FAILURE),
    }
}

fn print(value: &Value, code: ExitCode) -> ExitCode {
    match writeln!(std::io::stdout(), "{value}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The version that an answer follows: the configuration's where it names one that is spoken.
fn version_of(input: &[u8]) -> String {
    let value: Value = serde_json::from_slice(input).unwrap_or_default();
    let known = SUPPORTED.iter().find(|version| value["cniVersion"].as_str() == Some(version));
    known.copied().unwrap_or(SpecVersion::NEWEST.text()).to_owned()
}

fn run(command: Command, environment: Environment<'_>, input: &[u8]) -> Result<Option<Value>, CniError> {
    if command == Command::Version {
        return Ok(Some(json!({ "cniVersion": version_of(input), "supportedVersions": SUPPORTED })));
    }
    let config = NetworkConfig::parse(input)?;
    let since_1_1 = matches!(command, Command::Gc | Command::Status);
    if since_1_1 && config.version < SpecVersion::V1_1_0 {
        let msg = format!("the configuration follows {}, which has no such call", config.version.text());
        return Err(CniError::new(Code::IncompatibleVersion, msg));
    }
    match command {
        Command::Add => add(&config, environment.target(command)?).map(Some),
        Command::Del => {
            let target = environment.target(command)?;
            ask::<_, Done>(&config, "del", &key(&config, &target)).map(|_| None)
        }
        Command::Check => check(&config, &environment.target(command)?).map(|()| None),
        Command::Gc => {
            let valid = config.valid.clone().ok_or_else(|| {
                let msg = "cni.dev/valid-attachments is missing: nothing is collected without it";
                CniError::new(Code::InvalidConfig, msg)
            })?;
            let request = GcRequest { network: config.name.clone(), valid };
            ask::<_, Done>(&config, "gc", &request).map(|_| None)
        }
        Command::Status => {
            let request = StatusRequest { network: config.network.clone() };
            let unavailable = |error: CniError| match error.code {
                code if code == Code::TryAgainLater as u32 => {
                    CniError { code: Code::NotAvailable as u32, ..error }
                }
                _ => error,
            };
            ask::<_, Done>(&config, "status", &request).map(|_| None).map_err(unavailable)
        }
        Command::Version => Ok(None),
    }
}

fn key(config: &NetworkConfig, target: &Target) -> AttachmentKey {
    AttachmentKey {
        network: config.name.clone(),
        container: target.container.clone(),
        interface: target.interface.clone(),
    }
}

fn add(config: &NetworkConfig, target: Target) -> Result<Value, CniError> {
    if config.previous.is_some() {
        let msg = "weft makes the interface: it has to be the first plugin of its list";
        return Err(CniError::new(Code::InvalidConfig, msg));
    }
    let either = |first: &Vec<_>, second: Vec<_>| if first.is_empty() { second } else { first.clone() };
    let request = AddRequest {
        key: key(config, &target),
        netns: target.netns.clone(),
        network: config.network.clone(),
        name: target.args.name.unwrap_or_default(),
        aliases: config.aliases.clone(),
        addresses: either(&config.addresses, target.args.addresses),
        mac: config.mac.or(target.args.mac),
        ports: config.ports.clone(),
        dns: config.dns.clone(),
    };
    let answer: AddAnswer = ask(config, "add", &request)?;
    result(config, &request, answer).render(config.version)
}

fn result(config: &NetworkConfig, request: &AddRequest, answer: AddAnswer) -> CniResult {
    let router = |of: &weft_types::EndpointAddress| {
        answer.gateways.iter().find(|gateway| of.subnet().contains(*gateway)).copied()
    };
    let ips = answer.addresses.iter().map(|address| Ip {
        version: None,
        interface: Some(0),
        address: *address,
        gateway: router(address),
    });
    CniResult {
        interfaces: vec![Interface {
            name: request.key.interface.clone(),
            mac: Some(answer.mac),
            mtu: answer.mtu,
            sandbox: request.netns.to_string_lossy().into_owned(),
        }],
        ips: ips.collect(),
        routes: answer.default_routes.iter().map(|router| Route::default_via(*router)).collect(),
        // Those of the configuration are asked by Weft's resolver, where there is one.
        dns: match answer.nameservers.is_empty() {
            true => config.dns.clone(),
            false => Dns { nameservers: answer.nameservers, ..config.dns.clone() },
        },
    }
}

fn check(config: &NetworkConfig, target: &Target) -> Result<(), CniError> {
    let missing = |msg: &str| CniError::new(Code::InvalidConfig, msg);
    let previous = config.previous.as_ref().ok_or_else(|| missing("prevResult is missing"))?;
    let (interface, addresses) = previous
        .interface(&target.interface)
        .ok_or_else(|| missing("prevResult does not have the interface of CNI_IFNAME"))?;
    let request =
        CheckRequest { key: key(config, target), netns: target.netns.clone(), addresses, mac: interface.mac };
    ask::<_, Done>(config, "check", &request).map(|_| ())
}

/// One request to the daemon.
fn ask<Q: Serialize, A: DeserializeOwned>(
    config: &NetworkConfig,
    verb: &str,
    request: &Q,
) -> Result<A, CniError> {
    let io = |error: std::io::Error| CniError::new(Code::Io, error.to_string());
    let body = serde_json::to_vec(request).map_err(|error| CniError::new(Code::Io, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
    let path = format!("{PREFIX}{verb}");
    let talk = async { tokio::time::timeout(DEADLINE, http::post(&config.socket, &path, body)).await };
    let socket = config.socket.display();
    let later = |msg: String| CniError::new(Code::TryAgainLater, msg);
    let (status, body) = match runtime.block_on(talk) {
        Ok(Ok(answer)) => answer,
        Ok(Err(CallError::Connect(error))) => {
            return Err(later(format!("weftd does not answer at {socket}: {error}")));
        }
        Ok(Err(CallError::Talk(error))) => {
            return Err(later(format!("weftd went away before it answered at {socket}: {error}")));
        }
        Err(_) => return Err(later(format!("weftd did not answer at {socket} in time"))),
    };
    let unreadable = || {
        let msg = format!("weftd at {socket} is of another version than this program: restart it");
        CniError::new(Code::TryAgainLater, msg)
    };
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(|_| unreadable()),
        _ => Err(serde_json::from_slice::<CniError>(&body).unwrap_or_else(|_| unreadable())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(command: &str, input: &Value) -> Result<Option<Value>, CniError> {
        let variable = |name: &str| match name {
            "CNI_COMMAND" => Some(command.to_owned()),
            "CNI_CONTAINERID" => Some("c1".to_owned()),
            "CNI_IFNAME" => Some("eth0".to_owned()),
            "CNI_NETNS" => Some("/nowhere".to_owned()),
            _ => None,
        };
        let environment = Environment(&variable);
        run(environment.command()?, environment, input.to_string().as_bytes())
    }

    fn config(version: &str) -> Value {
        json!({"cniVersion": version, "name": "web", "type": "weft", "socket": "/nonexistent/cni.sock"})
    }

    #[test]
    fn versions_are_told_without_a_daemon() {
        let told = call("VERSION", &json!({"cniVersion": "1.0.0"})).unwrap().unwrap();
        assert_eq!(told, json!({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}));
        assert_eq!(call("VERSION", &json!({})).unwrap().unwrap()["cniVersion"], "1.1.0");
    }

    #[test]
    fn without_a_daemon_there_is_nothing_but_later() {
        let mut checked = config("1.1.0");
        checked["prevResult"] = json!({"interfaces": [{"name": "eth0", "sandbox": "/n"}]});
        let mut collected = config("1.1.0");
        collected["cni.dev/valid-attachments"] = json!([]);
        for (command, config, code) in [
            ("ADD", &config("0.4.0"), 11),
            ("DEL", &config("1.0.0"), 11),
            ("CHECK", &checked, 11),
            ("GC", &collected, 11),
            ("STATUS", &config("1.1.0"), 50),
        ] {
            let error = call(command, config).unwrap_err();
            assert_eq!(error.code, code, "{command}: {error:?}");
            assert!(error.msg.starts_with("weftd does not answer at /nonexistent/cni.sock"), "{error:?}");
        }
    }

    #[test]
    fn calls_that_make_no_sense_are_refused() {
        let mut chained = config("1.0.0");
        chained["prevResult"] = json!({});
        for (command, config, code) in [
            ("ADD", &chained, 7),
            ("CHECK", &config("1.0.0"), 7),
            ("CHECK", &chained, 7),
            ("GC", &config("1.1.0"), 7),
            ("GC", &config("1.0.0"), 1),
            ("STATUS", &config("0.4.0"), 1),
            ("ADD", &config("0.2.0"), 1),
            ("UPDATE", &config("1.0.0"), 4),
        ] {
            assert_eq!(call(command, config).unwrap_err().code, code, "{command} {config}");
        }
    }
}
