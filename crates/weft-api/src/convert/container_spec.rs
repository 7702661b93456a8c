//! What runs in a task's container.

use prost_types::Duration;
use serde_json::{Map, Value, json};
use weft_wire::swarmkit::container_spec::{DnsConfig, Isolation, Ulimit};
use weft_wire::swarmkit::{
    ConfigReference, ContainerSpec, FileTarget, HealthConfig, RuntimeTarget, SecretReference,
    config_reference, secret_reference,
};

use super::fields::Fields;
use super::{mount, privileges, put_filled, put_number, put_text, put_true, time};
use crate::error::ApiError;

pub(super) fn to_json(spec: &ContainerSpec) -> Value {
    let mut map = Map::new();
    put_text(&mut map, "Image", &spec.image);
    put_filled(&mut map, "Labels", json!(spec.labels));
    put_filled(&mut map, "Command", json!(spec.command));
    put_filled(&mut map, "Args", json!(spec.args));
    put_text(&mut map, "Hostname", &spec.hostname);
    put_filled(&mut map, "Env", json!(spec.env));
    put_text(&mut map, "Dir", &spec.dir);
    put_text(&mut map, "User", &spec.user);
    put_filled(&mut map, "Groups", json!(spec.groups));
    if let Some(privileges) = &spec.privileges {
        map.insert("Privileges".to_owned(), privileges::to_json(privileges));
    }
    if let Some(init) = spec.init {
        map.insert("Init".to_owned(), init.into());
    }
    put_text(&mut map, "StopSignal", &spec.stop_signal);
    put_true(&mut map, "TTY", spec.tty);
    put_true(&mut map, "OpenStdin", spec.open_stdin);
    put_true(&mut map, "ReadOnly", spec.read_only);
    put_filled(&mut map, "Mounts", spec.mounts.iter().map(mount::to_json).collect());
    if let Some(period) = &spec.stop_grace_period {
        map.insert("StopGracePeriod".to_owned(), time::nanos(Some(period)).into());
    }
    if let Some(health) = &spec.healthcheck {
        map.insert("Healthcheck".to_owned(), health_json(health));
    }
    put_filled(&mut map, "Hosts", json!(spec.hosts));
    if let Some(dns) = &spec.dns_config {
        map.insert("DNSConfig".to_owned(), dns_json(dns));
    }
    put_filled(&mut map, "Secrets", spec.secrets.iter().map(secret_json).collect());
    put_filled(&mut map, "Configs", spec.configs.iter().map(config_json).collect());
    let isolation = match spec.isolation() {
        Isolation::Default => "default",
        Isolation::Process => "process",
        Isolation::Hyperv => "hyperv",
    };
    map.insert("Isolation".to_owned(), isolation.into());
    put_filled(&mut map, "Sysctls", json!(spec.sysctls));
    put_filled(&mut map, "CapabilityAdd", json!(spec.capability_add));
    put_filled(&mut map, "CapabilityDrop", json!(spec.capability_drop));
    let ulimit = |u: &Ulimit| json!({ "Name": u.name, "Hard": u.hard, "Soft": u.soft });
    put_filled(&mut map, "Ulimits", spec.ulimits.iter().map(ulimit).collect());
    put_number(&mut map, "OomScoreAdj", spec.oom_score_adj);
    map.into()
}

fn health_json(health: &HealthConfig) -> Value {
    let mut map = Map::new();
    put_filled(&mut map, "Test", json!(health.test));
    let mut put = |key: &str, duration: &Option<Duration>| {
        put_number(&mut map, key, time::nanos(duration.as_ref()));
    };
    put("Interval", &health.interval);
    put("Timeout", &health.timeout);
    put("StartPeriod", &health.start_period);
    put("StartInterval", &health.start_interval);
    put_number(&mut map, "Retries", health.retries);
    map.into()
}

fn dns_json(dns: &DnsConfig) -> Value {
    let mut map = Map::new();
    put_filled(&mut map, "Nameservers", json!(dns.nameservers));
    put_filled(&mut map, "Search", json!(dns.search));
    put_filled(&mut map, "Options", json!(dns.options));
    map.into()
}

fn file_json(file: &FileTarget) -> Value {
    json!({ "Name": file.name, "UID": file.uid, "GID": file.gid, "Mode": file.mode })
}

fn secret_json(secret: &SecretReference) -> Value {
    let file = secret.target.as_ref().map(|secret_reference::Target::File(file)| file_json(file));
    json!({ "File": file, "SecretID": secret.secret_id, "SecretName": secret.secret_name })
}

fn config_json(config: &ConfigReference) -> Value {
    let mut map = Map::new();
    match &config.target {
        Some(config_reference::Target::File(file)) => map.insert("File".to_owned(), file_json(file)),
        Some(config_reference::Target::Runtime(_)) => map.insert("Runtime".to_owned(), json!({})),
        None => None,
    };
    map.insert("ConfigID".to_owned(), config.config_id.clone().into());
    map.insert("ConfigName".to_owned(), config.config_name.clone().into());
    map.into()
}

pub(super) fn from_fields(fields: &Fields<'_>) -> Result<ContainerSpec, ApiError> {
    Ok(ContainerSpec {
        image: fields.text("Image")?,
        labels: fields.get("Labels")?,
        command: fields.get("Command")?,
        args: fields.get("Args")?,
        hostname: fields.text("Hostname")?,
        env: fields.get("Env")?,
        dir: fields.text("Dir")?,
        user: fields.text("User")?,
        groups: fields.get("Groups")?,
        privileges: fields.object("Privileges")?.map(|f| privileges::from_fields(&f)).transpose()?,
        init: fields.some("Init")?,
        stop_signal: fields.text("StopSignal")?,
        tty: fields.get("TTY")?,
        open_stdin: fields.get("OpenStdin")?,
        read_only: fields.get("ReadOnly")?,
        mounts: fields.objects("Mounts", mount::from_fields)?,
        stop_grace_period: fields.duration("StopGracePeriod")?,
        healthcheck: fields.object("Healthcheck")?.map(|f| health(&f)).transpose()?,
        hosts: fields.get("Hosts")?,
        dns_config: fields.object("DNSConfig")?.map(|f| dns(&f)).transpose()?,
        secrets: fields.objects("Secrets", secret)?,
        configs: fields.objects("Configs", config)?,
        isolation: isolation(&fields.text("Isolation")?).into(),
        sysctls: fields.get("Sysctls")?,
        capability_add: fields.get("CapabilityAdd")?,
        capability_drop: fields.get("CapabilityDrop")?,
        ulimits: fields.objects("Ulimits", ulimit)?,
        oom_score_adj: fields.get("OomScoreAdj")?,
        pull_options: None,
        pids_limit: 0,
    })
}

/// Windows knows others; what is not known is the default.
fn isolation(word: &str) -> Isolation {
    match word {
        "process" => Isolation::Process,
        "hyperv" => Isolation::Hyperv,
        _ => Isolation::Default,
    }
}

fn health(fields: &Fields<'_>) -> Result<HealthConfig, ApiError> {
    let duration = |key: &str| Ok::<_, ApiError>(Some(fields.duration(key)?.unwrap_or_default()));
    Ok(HealthConfig {
        test: fields.get("Test")?,
        interval: duration("Interval")?,
        timeout: duration("Timeout")?,
        retries: fields.get("Retries")?,
        start_period: duration("StartPeriod")?,
        start_interval: duration("StartInterval")?,
    })
}

fn dns(fields: &Fields<'_>) -> Result<DnsConfig, ApiError> {
    Ok(DnsConfig {
        nameservers: fields.get("Nameservers")?,
        search: fields.get("Search")?,
        options: fields.get("Options")?,
    })
}

fn file(fields: &Fields<'_>) -> Result<FileTarget, ApiError> {
    Ok(FileTarget {
        name: fields.text("Name")?,
        uid: fields.text("UID")?,
        gid: fields.text("GID")?,
        mode: fields.get("Mode")?,
    })
}

fn secret(fields: &Fields<'_>) -> Result<SecretReference, ApiError> {
    let target = fields.object("File")?.map(|f| file(&f)).transpose()?;
    Ok(SecretReference {
        secret_id: fields.text("SecretID")?,
        secret_name: fields.text("SecretName")?,
        target: target.map(secret_reference::Target::File),
    })
}

fn config(fields: &Fields<'_>) -> Result<ConfigReference, ApiError> {
    let file = fields.object("File")?.map(|f| file(&f)).transpose()?;
    let runtime = fields.object("Runtime")?.map(|_| RuntimeTarget {});
    if file.is_some() && runtime.is_some() {
        return Err(ApiError::invalid(
            "invalid Config: cannot specify both File and Runtime for a config".to_owned(),
        ));
    }
    Ok(ConfigReference {
        config_id: fields.text("ConfigID")?,
        config_name: fields.text("ConfigName")?,
        target: file.map(config_reference::Target::File).or(runtime.map(config_reference::Target::Runtime)),
    })
}

fn ulimit(fields: &Fields<'_>) -> Result<Ulimit, ApiError> {
    Ok(Ulimit { name: fields.text("Name")?, soft: fields.get("Soft")?, hard: fields.get("Hard")? })
}
