//! `/secrets` and `/configs`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_wire::swarmkit::Annotations;

use crate::convert;
use crate::error::{ApiError, ApiResult};
use crate::filters::Filters;
use crate::request::Call;
use crate::response::{created, no_content, ok, ok_empty};
use crate::version::ApiVersion;

/// The version that brought templates.
const TEMPLATES_SINCE: ApiVersion = ApiVersion(1, 37);

/// What is kept in the swarm's store for services.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Secret,
    Config,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }
}

pub(crate) async fn list(call: Call, kind: Kind) -> ApiResult {
    let filters = call.query.filters(&["id", "label", "name", "names"])?;
    let swarm = &call.state.swarm;
    let shown: Vec<Value> = match kind {
        Kind::Secret => {
            let secrets = swarm.secrets().await?;
            let named = |s: &weft_wire::swarmkit::Secret| s.spec.clone().and_then(|s| s.annotations);
            secrets
                .iter()
                .filter(|s| matches(&s.id, named(s), &filters))
                .map(|s| convert::secret(s))
                .collect()
        }
        Kind::Config => {
            let configs = swarm.configs().await?;
            let named = |c: &weft_wire::swarmkit::Config| c.spec.clone().and_then(|s| s.annotations);
            configs
                .iter()
                .filter(|c| matches(&c.id, named(c), &filters))
                .map(|c| convert::config(c))
                .collect()
        }
    };
    ok(&shown)
}

/// `name` is a beginning, `names` is exact.
fn matches(id: &str, annotations: Option<Annotations>, filters: &Filters) -> bool {
    let Annotations { name, labels, .. } = annotations.unwrap_or_default();
    let labels: BTreeMap<String, String> = labels;
    filters.any("id", |wanted| id.starts_with(wanted))
        && filters.any("name", |wanted| name.starts_with(wanted))
        && filters.any("names", |wanted| name == wanted)
        && filters.labels_match(&labels)
}

pub(crate) async fn create(mut call: Call, kind: Kind) -> ApiResult {
    let request: Value = call.json().await?;
    check_templating(call.version, kind, &request)?;
    let swarm = &call.state.swarm;
    let id = match kind {
        Kind::Secret => swarm.create_secret(convert::secret_spec(&request)?).await?,
        Kind::Config => swarm.create_config(convert::config_spec(&request)?).await?,
    };
    created(&json!({ "ID": id }))
}

fn check_templating(version: ApiVersion, kind: Kind, request: &Value) -> Result<(), ApiError> {
    if version < TEMPLATES_SINCE && request.get("Templating").is_some_and(|t| !t.is_null()) {
        return Err(ApiError::invalid(format!(
            "{} templating is not supported on the specified API version: {version}",
            kind.word()
        )));
    }
    Ok(())
}

pub(crate) async fn inspect(call: Call, kind: Kind, term: String) -> ApiResult {
    match kind {
        Kind::Secret => ok(&convert::secret(&*call.state.swarm.secret(&term).await?)),
        Kind::Config => ok(&convert::config(&*call.state.swarm.config(&term).await?)),
    }
}

pub(crate) async fn update(mut call: Call, kind: Kind, term: String) -> ApiResult {
    let request: Value = call.json().await?;
    let version = call.query.get("version").parse();
    let version = version.map_err(|_| ApiError::invalid(format!("invalid {} version", kind.word())))?;
    let swarm = &call.state.swarm;
    match kind {
        Kind::Secret => {
            let id = swarm.secret(&term).await?.id.clone();
            swarm.update_secret(&id, version, convert::secret_spec(&request)?).await?;
        }
        Kind::Config => {
            let id = swarm.config(&term).await?.id.clone();
            swarm.update_config(&id, version, convert::config_spec(&request)?).await?;
        }
    }
    ok_empty()
}

pub(crate) async fn remove(call: Call, kind: Kind, term: String) -> ApiResult {
    match kind {
        Kind::Secret => call.state.swarm.remove_secret(&term).await?,
        Kind::Config => call.state.swarm.remove_config(&term).await?,
    }
    no_content()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_by_their_beginning_or_exactly() {
        let named = Annotations { name: "st_s1".to_owned(), ..Annotations::default() };
        let at = |text: &str| matches("abc", Some(named.clone()), &Filters::parse(text).unwrap());
        assert!(at("") && at(r#"{"name":["st"]}"#) && at(r#"{"names":["st_s1"]}"#) && at(r#"{"id":["ab"]}"#));
        assert!(!at(r#"{"names":["st"]}"#) && !at(r#"{"name":["s1"]}"#) && !at(r#"{"label":["x"]}"#));
    }
}
