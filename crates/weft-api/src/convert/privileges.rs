//! Security options of a task's container.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use weft_wire::swarmkit::Privileges;
use weft_wire::swarmkit::privileges::app_armor_opts::AppArmorMode;
use weft_wire::swarmkit::privileges::credential_spec::Source;
use weft_wire::swarmkit::privileges::seccomp_opts::SeccompMode;
use weft_wire::swarmkit::privileges::{AppArmorOpts, CredentialSpec, SeLinuxContext, SeccompOpts};

use super::fields::Fields;
use super::put_text;
use crate::error::ApiError;

pub(super) fn to_json(privileges: &Privileges) -> Value {
    let mut map = Map::new();
    // Docker's type writes these two even when there are none.
    map.insert("CredentialSpec".to_owned(), json!(privileges.credential_spec.as_ref().map(credential_json)));
    map.insert("SELinuxContext".to_owned(), json!(privileges.selinux_context.as_ref().map(selinux_json)));
    if let Some(seccomp) = &privileges.seccomp {
        let mut options = Map::new();
        let mode = match seccomp.mode() {
            SeccompMode::Default => "default",
            SeccompMode::Unconfined => "unconfined",
            SeccompMode::Custom => "custom",
        };
        put_text(&mut options, "Mode", mode);
        put_text(&mut options, "Profile", &STANDARD.encode(&seccomp.profile));
        map.insert("Seccomp".to_owned(), options.into());
    }
    if let Some(apparmor) = &privileges.apparmor {
        let mode = match apparmor.mode() {
            AppArmorMode::Default => "default",
            AppArmorMode::Disabled => "disabled",
        };
        map.insert("AppArmor".to_owned(), json!({ "Mode": mode }));
    }
    map.insert("NoNewPrivileges".to_owned(), privileges.no_new_privileges.into());
    map.into()
}

fn credential_json(spec: &CredentialSpec) -> Value {
    let (mut config, mut file, mut registry) = ("", "", "");
    match &spec.source {
        Some(Source::Config(text)) => config = text,
        Some(Source::File(text)) => file = text,
        Some(Source::Registry(text)) => registry = text,
        None => {}
    }
    json!({ "Config": config, "File": file, "Registry": registry })
}

fn selinux_json(context: &SeLinuxContext) -> Value {
    json!({
        "Disable": context.disable,
        "User": context.user,
        "Role": context.role,
        "Type": context.r#type,
        "Level": context.level,
    })
}

pub(super) fn from_fields(fields: &Fields<'_>) -> Result<Privileges, ApiError> {
    Ok(Privileges {
        credential_spec: fields.object("CredentialSpec")?.map(|f| credential(&f)).transpose()?,
        selinux_context: fields.object("SELinuxContext")?.map(|f| selinux(&f)).transpose()?,
        seccomp: fields.object("Seccomp")?.map(|f| seccomp(&f)).transpose()?,
        apparmor: fields.object("AppArmor")?.map(|f| apparmor(&f)).transpose()?,
        no_new_privileges: fields.get("NoNewPrivileges")?,
    })
}

fn credential(fields: &Fields<'_>) -> Result<CredentialSpec, ApiError> {
    let (config, file, registry) = (fields.text("Config")?, fields.text("File")?, fields.text("Registry")?);
    let given = [&config, &file, &registry].into_iter().filter(|text| !text.is_empty()).count();
    if given != 1 {
        return Err(ApiError::invalid(
            "invalid CredentialSpec: must specify exactly one of \"Config\", \"File\", or \"Registry\"",
        ));
    }
    let source = if !config.is_empty() {
        Source::Config(config)
    } else if !file.is_empty() {
        Source::File(file)
    } else {
        Source::Registry(registry)
    };
    Ok(CredentialSpec { source: Some(source) })
}

fn selinux(fields: &Fields<'_>) -> Result<SeLinuxContext, ApiError> {
    Ok(SeLinuxContext {
        disable: fields.get("Disable")?,
        user: fields.text("User")?,
        role: fields.text("Role")?,
        r#type: fields.text("Type")?,
        level: fields.text("Level")?,
    })
}

fn seccomp(fields: &Fields<'_>) -> Result<SeccompOpts, ApiError> {
    let word = fields.text("Mode")?;
    let mode = match word.as_str() {
        "" | "default" => SeccompMode::Default,
        "unconfined" => SeccompMode::Unconfined,
        "custom" => SeccompMode::Custom,
        _ => return Err(ApiError::invalid(format!("invalid seccomp mode: {word:?}"))),
    };
    let profile = STANDARD.decode(fields.text("Profile")?).map_err(|error| {
        ApiError::invalid(format!("invalid JSON: illegal base64 data in a seccomp profile: {error}"))
    })?;
    Ok(SeccompOpts { mode: mode.into(), profile })
}

fn apparmor(fields: &Fields<'_>) -> Result<AppArmorOpts, ApiError> {
    let word = fields.text("Mode")?;
    let mode = match word.as_str() {
        "" | "default" => AppArmorMode::Default,
        "disabled" => AppArmorMode::Disabled,
        _ => return Err(ApiError::invalid(format!("invalid AppArmor mode: {word:?}"))),
    };
    Ok(AppArmorOpts { mode: mode.into() })
}
