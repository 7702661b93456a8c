//! `CA`: the root certificate, for anyone.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use weft_wire::swarmkit::ca_server;
use weft_wire::swarmkit::{
    GetRootCaCertificateRequest, GetRootCaCertificateResponse, GetUnlockKeyRequest, GetUnlockKeyResponse,
};

use crate::auth::{MANAGERS, authorize};
use crate::autolock;
use crate::brain::Brain;

pub(super) struct Ca(pub(super) Arc<Brain>);

#[async_trait]
impl ca_server::Ca for Ca {
    async fn get_root_ca_certificate(
        &self,
        _: Request<GetRootCaCertificateRequest>,
    ) -> Result<Response<GetRootCaCertificateResponse>, Status> {
        let certificate = self.0.core.cluster().root_ca.as_ref().map(|root| root.ca_cert.clone());
        let certificate = certificate
            .ok_or_else(|| Status::unavailable("this manager does not have the swarm's state yet"))?;
        Ok(Response::new(GetRootCaCertificateResponse { certificate }))
    }

    /// For SwarmKit's managers; ours learn it from the store.
    async fn get_unlock_key(
        &self,
        request: Request<GetUnlockKeyRequest>,
    ) -> Result<Response<GetUnlockKeyResponse>, Status> {
        authorize(&self.0.core, &request, MANAGERS)?;
        let cluster = self.0.core.cluster();
        let version = cluster.meta.as_ref().and_then(|meta| meta.version);
        let unlock_key = autolock::key_of(&cluster).map(|key| key.key.clone()).unwrap_or_default();
        Ok(Response::new(GetUnlockKeyResponse { unlock_key, version }))
    }
}
