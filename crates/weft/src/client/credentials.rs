//! Passwords for registries, where docker keeps them: `config.json` in `$DOCKER_CONFIG` or `~/.docker`, or a helper program
//! that it names.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Value, json};

use super::error::ClientError;

/// Under which Docker Hub's password is kept.
pub(super) const HUB: &str = "https://index.docker.io/v1/";
/// The user of a helper's answer that is a token.
const TOKEN_USER: &str = "<token>";

/// Docker's configuration, as far as it is about passwords; what else it holds stays as it is.
#[derive(Debug)]
pub(super) struct Credentials {
    path: PathBuf,
    config: Map<String, Value>,
}

impl Credentials {
    /// # Errors
    /// When the file is there and cannot be read or understood.
    pub(super) fn load() -> Result<Self, ClientError> {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
        let folder =
            std::env::var_os("DOCKER_CONFIG").filter(|c| !c.is_empty()).map(PathBuf::from).or_else(home);
        let path = folder.unwrap_or_else(|| "/root/.docker".into()).join("config.json");
        let config = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| ClientError::Usage(format!("{}: {e}: mend or remove it", path.display())))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(source) => return Err(ClientError::File { path, source }),
        };
        Ok(Self { path, config })
    }

    /// What the header `X-Registry-Auth` says for a registry: RFC 4648's base64url of JSON.
    pub(super) fn header(&self, registry: &str) -> Result<String, ClientError> {
        let found = self.find(registry)?.unwrap_or_else(|| json!({}));
        Ok(URL_SAFE.encode(found.to_string()))
    }

    /// The registry's user and password as the API takes them.
    fn find(&self, registry: &str) -> Result<Option<Value>, ClientError> {
        if let Some(helper) = self.helper(registry) {
            return ask_helper(helper, registry);
        }
        let Some(entry) = self.config.get("auths").and_then(|auths| auths.get(registry)) else {
            return Ok(None);
        };
        let mut answer = json!({"serveraddress": registry});
        let coded = entry["auth"].as_str().unwrap_or_default();
        let plain = STANDARD.decode(coded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((user, password)) = plain.as_deref().and_then(|plain| plain.split_once(':')) {
            answer["username"] = user.into();
            answer["password"] = password.trim_end_matches('\0').into();
        }
        if let Some(token) = entry["identitytoken"].as_str() {
            answer["identitytoken"] = token.into();
        }
        Ok(Some(answer))
    }

    fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.config.get("credHelpers").and_then(|helpers| helpers[registry].as_str());
        own.or_else(|| self.config.get("credsStore").and_then(Value::as_str)).filter(|name| !name.is_empty())
    }

    /// Keeps a password; where it is kept now.
    pub(super) fn store(
        &mut self,
        registry: &str,
        user: &str,
        password: &str,
        token: &str,
    ) -> Result<String, ClientError> {
        if let Some(helper) = self.helper(registry).map(str::to_owned) {
            let (user, secret) = if token.is_empty() { (user, password) } else { (TOKEN_USER, token) };
            let entry = json!({"ServerURL": registry, "Username": user, "Secret": secret});
            run_helper(&helper, "store", &entry.to_string())?;
            return Ok(format!("the helper docker-credential-{helper}"));
        }
        let mut entry = json!({"auth": STANDARD.encode(format!("{user}:{password}"))});
        if !token.is_empty() {
            entry = json!({"auth": STANDARD.encode(format!("{user}:")), "identitytoken": token});
        }
        self.change(|auths| auths.insert(registry.to_owned(), entry))?;
        Ok(self.path.display().to_string())
    }

    /// Forgets a password; whether there was one.
    pub(super) fn erase(&mut self, registry: &str) -> Result<bool, ClientError> {
        if let Some(helper) = self.helper(registry) {
            run_helper(helper, "erase", registry)?;
            return Ok(true);
        }
        Ok(self.change(|auths| auths.remove(registry))?.is_some())
    }

    fn change<T>(&mut self, edit: impl FnOnce(&mut Map<String, Value>) -> T) -> Result<T, ClientError> {
        let mut auths = match self.config.remove("auths") {
            Some(Value::Object(auths)) => auths,
            _ => Map::new(),
        };
        let outcome = edit(&mut auths);
        self.config.insert("auths".to_owned(), auths.into());
        self.save()?;
        Ok(outcome)
    }

    /// For its user alone, and never half.
    fn save(&self) -> Result<(), ClientError> {
        let failed = |source| ClientError::File { path: self.path.clone(), source };
        let folder = self.path.parent().unwrap_or_else(|| "/".as_ref());
        std::fs::create_dir_all(folder).map_err(failed)?;
        let text = serde_json::to_string_pretty(&self.config)?;
        weft_durable::replace(&self.path, text.as_bytes(), 0o600).map_err(failed)
    }
}

fn ask_helper(helper: &str, registry: &str) -> Result<Option<Value>, ClientError> {
    // One that knows none ends with an error, which is no mistake of anybody.
    let Ok(answer) = run_helper(helper, "get", registry) else { return Ok(None) };
    let answer: Value = serde_json::from_str(&answer)?;
    let (user, secret) = (&answer["Username"], &answer["Secret"]);
    Ok(Some(match user.as_str() == Some(TOKEN_USER) {
        true => json!({"identitytoken": secret, "serveraddress": registry}),
        false => json!({"username": user, "password": secret, "serveraddress": registry}),
    }))
}

/// docker's protocol with such programs: a word as argument, the request on standard input.
fn run_helper(helper: &str, action: &str, input: &str) -> Result<String, ClientError> {
    let program = format!("docker-credential-{helper}");
    let failed = |source: std::io::Error| ClientError::Usage(format!("run {program}: {source}"));
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(ClientError::Usage(format!("{program} {action}: {}", text.trim()))),
    }
}

/// The registry that an image comes from, as passwords are kept under it.
pub(super) fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => HUB,
            host => host,
        },
        _ => HUB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_says_where_it_comes_from() {
        assert_eq!(registry_of("busybox"), HUB);
        assert_eq!(registry_of("library/busybox"), HUB);
        assert_eq!(registry_of("docker.io/library/busybox"), HUB);
        assert_eq!(registry_of("host:5000/a/b:1"), "host:5000");
        assert_eq!(registry_of("localhost/a"), "localhost");
    }

    #[test]
    fn passwords_are_kept_as_docker_keeps_them_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let config = Map::from_iter([("detachKeys".to_owned(), json!("ctrl-x"))]);
        let mut credentials = Credentials { path: path.clone(), config };
        credentials.store("host:5000", "ann", "se:cret", "").unwrap();
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(file["auths"]["host:5000"]["auth"], STANDARD.encode("ann:se:cret"));
        assert_eq!(file["detachKeys"], "ctrl-x");
        let header = URL_SAFE.decode(credentials.header("host:5000").unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header, json!({"username": "ann", "password": "se:cret", "serveraddress": "host:5000"}));
        assert!(credentials.erase("host:5000").unwrap() && !credentials.erase("host:5000").unwrap());
        assert_eq!(credentials.header("host:5000").unwrap(), URL_SAFE.encode("{}"));
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
