//! `docker login`: whether a registry takes a password.

use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, StatusCode};

use super::auth::RegistryAuth;
use super::challenge::Challenge;
use super::endpoint::{Registries, login_authority};
use super::error::RegistryError;
use super::payload::Payload;
use super::session::{Result, Session};

/// Shows the credentials to the registry that they name. Answers with a token to use in their place, empty if the
/// registry gives none.
pub(crate) async fn login(registries: &Registries, auth: &RegistryAuth) -> Result<String> {
    let session = Session::open(registries, &login_authority(&auth.server_address), auth).await?;
    let url = format!("{}/v2/", session.base);
    let mut headers = HeaderMap::new();
    let mut identity = String::new();
    let proof = match &session.challenge {
        None => None,
        Some(Challenge::Basic) => session.auth.basic(),
        Some(Challenge::Bearer(parameters)) => {
            let token = session.fetch_token(parameters, &[]).await;
            let token = token
                .map_err(|source| RegistryError::NoToken { url: url.clone(), source: Box::new(source) })?;
            identity = token.refresh;
            Some(format!("Bearer {}", token.access))
        }
    };
    headers.extend(proof.and_then(|value| value.parse().ok()).map(|value| (AUTHORIZATION, value)));
    let answer = session.once(Method::GET, &url, headers, &Payload::Empty).await?;
    match answer.status() {
        StatusCode::OK => Ok(identity),
        status => Err(RegistryError::Login { url, status: status.to_string() }),
    }
}
