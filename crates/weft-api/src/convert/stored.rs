//! Secrets and configs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use weft_wire::swarmkit::{Annotations, Config, ConfigSpec, Driver, Secret, SecretSpec};

use super::fields::Fields;
use super::{annotations, network, object_head, task_spec};
use crate::error::ApiError;

/// `GET /secrets/{id}`: never its data.
pub(crate) fn secret(secret: &Secret) -> Value {
    let spec = secret.spec.clone().unwrap_or_default();
    let mut map = annotations(spec.annotations.as_ref());
    put_driver(&mut map, "Driver", spec.driver.as_ref());
    put_driver(&mut map, "Templating", spec.templating.as_ref());
    let mut head = object_head(&secret.id, secret.meta.as_ref());
    head.insert("Spec".to_owned(), map.into());
    head.into()
}

/// `GET /configs/{id}`.
pub(crate) fn config(config: &Config) -> Value {
    let spec = config.spec.clone().unwrap_or_default();
    let mut map = annotations(spec.annotations.as_ref());
    super::put_text(&mut map, "Data", &STANDARD.encode(&spec.data));
    put_driver(&mut map, "Templating", spec.templating.as_ref());
    let mut head = object_head(&config.id, config.meta.as_ref());
    head.insert("Spec".to_owned(), map.into());
    head.into()
}

fn put_driver(map: &mut Map<String, Value>, key: &str, driver: Option<&Driver>) {
    if let Some(driver) = driver {
        map.insert(key.to_owned(), network::driver_json(driver));
    }
}

pub(crate) fn secret_spec(request: &Value) -> Result<SecretSpec, ApiError> {
    let fields = Fields::of("SecretSpec", request)?;
    Ok(SecretSpec {
        annotations: Some(named(&fields)?),
        data: data(&fields)?,
        templating: fields.object("Templating")?.map(|f| task_spec::driver(&f)).transpose()?,
        driver: fields.object("Driver")?.map(|f| task_spec::driver(&f)).transpose()?,
    })
}

pub(crate) fn config_spec(request: &Value) -> Result<ConfigSpec, ApiError> {
    let fields = Fields::of("ConfigSpec", request)?;
    Ok(ConfigSpec {
        annotations: Some(named(&fields)?),
        data: data(&fields)?,
        templating: fields.object("Templating")?.map(|f| task_spec::driver(&f)).transpose()?,
    })
}

fn named(fields: &Fields<'_>) -> Result<Annotations, ApiError> {
    Ok(Annotations { name: fields.text("Name")?, labels: fields.get("Labels")?, indices: Vec::new() })
}

fn data(fields: &Fields<'_>) -> Result<Vec<u8>, ApiError> {
    let text = fields.text("Data")?;
    STANDARD.decode(&text).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            _ => text.len(),
        };
        ApiError::invalid(format!("invalid JSON: illegal base64 data at input byte {at}"))
    })
}
