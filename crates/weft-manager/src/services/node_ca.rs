//! `NodeCA`: certificates for nodes that show a token, or a certificate to renew.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use weft_identity::USER_AGENT;
use weft_wire::swarmkit::node_ca_server;
use weft_wire::swarmkit::node_spec::Membership;
use weft_wire::swarmkit::{
    IssueNodeCertificateRequest, IssueNodeCertificateResponse, NodeCertificateStatusRequest,
    NodeCertificateStatusResponse,
};

use crate::auth::{MEMBERS, authorize, connection};
use crate::authority::{self, IssueError};
use crate::brain::Brain;

pub(super) struct NodeCa(pub(super) Arc<Brain>);

#[async_trait]
impl node_ca_server::NodeCa for NodeCa {
    async fn issue_node_certificate(
        &self,
        request: Request<IssueNodeCertificateRequest>,
    ) -> Result<Response<IssueNodeCertificateResponse>, Status> {
        let core = &self.0.core;
        // With a certificate it is a renewal, whatever the token says.
        let renewing = match connection(&request)?.peer {
            Some(_) => Some(authorize(core, &request, MEMBERS)?),
            None => None,
        };
        let remote = connection(&request)?.remote;
        let is_ours = is_ours(&request);
        let request = request.into_inner();
        let node_id = match renewing {
            Some(caller) => authority::renew(core, &caller.node_id, &request).await,
            None => authority::admit(core, &request, remote, is_ours).await,
        }
        .map_err(|error| status(&error))?;
        Ok(Response::new(IssueNodeCertificateResponse {
            node_id,
            node_membership: Membership::Accepted.into(),
        }))
    }

    async fn node_certificate_status(
        &self,
        request: Request<NodeCertificateStatusRequest>,
    ) -> Result<Response<NodeCertificateStatusResponse>, Status> {
        let request = request.into_inner();
        if request.node_id.is_empty() {
            return Err(Status::invalid_argument("InvalidArgument"));
        }
        // Certificates are signed in the transaction that asks for them: the state found is always final.
        let view = self.0.core.view();
        let node = view.node(&request.node_id).ok_or_else(|| Status::not_found("NotFound"))?;
        let certificate = node.certificate.clone();
        let status = certificate.as_ref().and_then(|certificate| certificate.status.clone());
        Ok(Response::new(NodeCertificateStatusResponse { status, certificate }))
    }
}

/// Whether Weft asks. Docker's engines say `grpc-go`.
fn is_ours<T>(request: &Request<T>) -> bool {
    let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with(USER_AGENT))
}

fn status(error: &IssueError) -> Status {
    let text = error.to_string();
    match error {
        IssueError::NoRequest | IssueError::BadRequest(_) | IssueError::Token => {
            Status::invalid_argument(text)
        }
        IssueError::NoSuchNode(_) => Status::not_found(text),
        IssueError::ForeignManager => Status::failed_precondition(text),
        IssueError::Authority(_) | IssueError::Contention => Status::aborted(text),
        IssueError::Consensus(error) => super::consensus_status(error),
    }
}
