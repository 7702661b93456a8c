//! Another root certificate for the swarm, without a moment in which two nodes do not trust each other.
//!
//! ```text
//! asked for --> old root, next root, next cross-signed by old: certificates are signed by next and carry the cross-signed
//!               one, so that both roots vouch for them; nodes are told to renew, some at a time
//!           --> every node says that next is its issuer --> next is the root; join tokens change with it
//! ```
//! A node that is away holds the end of a rotation up, until it comes back or is removed, as with Docker.

use std::sync::Weak;
use std::time::{Duration, SystemTime};

use weft_identity::{CertificateError, IssuerInfo, RootCa};
use weft_wire::swarmkit::issuance_status::State;
use weft_wire::swarmkit::{self, CaConfig, Cluster, IssuanceStatus, Node, RootRotation};

use crate::authority::root_object;
use crate::brain::Brain;
use crate::error::{ControlError, SpecProblem};
use crate::store::{Transaction, View};

/// Nodes told to renew at once (SwarmKit's `IssuanceStateRotateMaxBatchSize`).
const BATCH: usize = 30;
/// Between two looks at a rotation.
const LOOK: Duration = Duration::from_secs(1);
/// A root given by the user must last this long (SwarmKit's value).
const MIN_VALIDITY: Duration = Duration::from_secs(8760 * 3600);

/// What the root becomes by a new CA setting: as it was, in rotation, or with a rotation given up.
pub(crate) fn next_root(root: &swarmkit::RootCa, config: &CaConfig) -> Result<swarmkit::RootCa, SpecProblem> {
    if !config.external_cas.is_empty() {
        return Err(SpecProblem::ExternalCa);
    }
    if config.signing_ca_cert.is_empty() {
        if !config.signing_ca_key.is_empty() {
            return Err(SpecProblem::SigningKeyAlone);
        }
        if root.last_forced_rotation == config.force_rotate {
            return Ok(root.clone());
        }
        let next = RootCa::generate(SystemTime::now()).map_err(problem)?;
        return begin(root, &next, config.force_rotate);
    }
    if config.signing_ca_key.is_empty() {
        return Err(SpecProblem::ExternalCa);
    }
    let next = RootCa::from_pem(
        &String::from_utf8_lossy(&config.signing_ca_cert),
        &String::from_utf8_lossy(&config.signing_ca_key),
    )
    .map_err(problem)?;
    if next.not_after().map_err(problem)? < SystemTime::now() + MIN_VALIDITY {
        return Err(SpecProblem::RootExpiresSoon);
    }
    let wanted = next.certificate_pem().as_bytes();
    let target = root.root_rotation.as_ref().map_or(&root.ca_cert, |rotation| &rotation.ca_cert);
    if wanted == target.as_slice() && root.last_forced_rotation == config.force_rotate {
        return Ok(root.clone());
    }
    if wanted == root.ca_cert.as_slice() {
        // Back to the root that all trust: nothing to wait for.
        return Ok(swarmkit::RootCa {
            root_rotation: None,
            last_forced_rotation: config.force_rotate,
            ..root.clone()
        });
    }
    begin(root, &next, config.force_rotate)
}

fn problem(error: CertificateError) -> SpecProblem {
    SpecProblem::SigningCertificate(error.to_string())
}

fn begin(root: &swarmkit::RootCa, next: &RootCa, forced: u64) -> Result<swarmkit::RootCa, SpecProblem> {
    let old =
        RootCa::from_pem(&String::from_utf8_lossy(&root.ca_cert), &String::from_utf8_lossy(&root.ca_key))
            .map_err(problem)?;
    let cross_signed = old.cross_sign(next, SystemTime::now()).map_err(problem)?;
    Ok(swarmkit::RootCa {
        root_rotation: Some(RootRotation {
            ca_cert: next.certificate_pem().as_bytes().to_vec(),
            ca_key: next.key_pem().into_bytes(),
            cross_signed_ca_cert: cross_signed.into_bytes(),
        }),
        last_forced_rotation: forced,
        ..root.clone()
    })
}

/// Carries a rotation on while this manager leads.
pub(crate) async fn converge(brain: Weak<Brain>) {
    loop {
        let Some(now) = brain.upgrade() else { return };
        let changed: Result<(), ControlError> = now.core.change(step).await;
        if let Err(error) = changed {
            tracing::error!(%error, "the rotation of the root certificate does not go on");
        }
        drop(now);
        tokio::time::sleep(LOOK).await;
    }
}

fn step(view: &View, transaction: &mut Transaction) -> Result<(), ControlError> {
    let Some(cluster) = view.cluster() else { return Ok(()) };
    let Some(rotation) = cluster.root_ca.as_ref().and_then(|root| root.root_rotation.as_ref()) else {
        return Ok(());
    };
    let Ok(next) = next_of(rotation) else { return Ok(()) };
    let Ok(issuer) = next.issuer_info() else { return Ok(()) };
    let mut waiting = view.nodes().filter(|node| !is_issued_by(node, &issuer)).peekable();
    if waiting.peek().is_none() {
        transaction.update(finish(cluster, &next));
        return Ok(());
    }
    for node in waiting.filter(|node| !is_told(node)).take(BATCH) {
        let mut told = Node::clone(node);
        let certificate = told.certificate.get_or_insert_default();
        certificate.status = Some(IssuanceStatus { state: State::Rotate.into(), ..Default::default() });
        transaction.update(told);
    }
    Ok(())
}

/// The root that a rotation leads to.
pub(crate) fn next_of(rotation: &RootRotation) -> Result<RootCa, CertificateError> {
    RootCa::from_pem(&String::from_utf8_lossy(&rotation.ca_cert), &String::from_utf8_lossy(&rotation.ca_key))
}

fn is_issued_by(node: &Node, issuer: &IssuerInfo) -> bool {
    let info = node.description.as_ref().and_then(|description| description.tls_info.as_ref());
    info.is_some_and(|info| {
        info.cert_issuer_subject == issuer.subject && info.cert_issuer_public_key == issuer.public_key
    })
}

fn is_told(node: &Node) -> bool {
    let status = node.certificate.as_ref().and_then(|certificate| certificate.status.as_ref());
    status.is_some_and(|status| matches!(status.state(), State::Renew | State::Pending | State::Rotate))
}

/// Everybody trusts the next root: it is the root. Tokens prove the root, so they change too.
fn finish(cluster: &Cluster, next: &RootCa) -> Cluster {
    let mut root = root_object(next);
    let old = cluster.root_ca.clone().unwrap_or_default();
    root.last_forced_rotation = old.last_forced_rotation;
    tracing::info!("every node has a certificate of the new root: the rotation is complete");
    Cluster { root_ca: Some(root), ..cluster.clone() }
}
