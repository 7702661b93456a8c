//! The rules of a network's spec that need no allocation, in Docker's words.

use weft_wire::swarmkit::NetworkSpec;

use super::name_of;
use crate::error::{ControlError, SpecProblem};
use crate::store::View;

/// Docker's limit (a DNS label, RFC 1035 section 2.3.4).
const MAX_NAME: usize = 63;

/// Refuses what breaks a rule or is there already.
pub(super) fn check(view: &View, spec: &NetworkSpec) -> Result<(), ControlError> {
    let name = name_of(spec);
    check_name(name).map_err(ControlError::InvalidSpec)?;
    if spec.ingress && spec.attachable {
        return Err(ControlError::InvalidSpec(SpecProblem::IngressAttachable));
    }
    if view.network_named(name).is_some() {
        return Err(ControlError::NetworkExists(name.to_owned()));
    }
    let is_ingress = |spec: &NetworkSpec| spec.ingress;
    if spec.ingress
        && let Some(present) = view.networks().find(|network| network.spec.as_ref().is_some_and(is_ingress))
    {
        return Err(ControlError::IngressExists(present.id.clone()));
    }
    Ok(())
}

/// SwarmKit's order: form first, then length.
pub(crate) fn check_name(name: &str) -> Result<(), SpecProblem> {
    if name.is_empty() {
        return Err(SpecProblem::NameMissing);
    }
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let form = ends(name.bytes().next())
        && ends(name.bytes().next_back())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    match form {
        false => Err(SpecProblem::Name),
        true if name.len() > MAX_NAME => Err(SpecProblem::NameLength),
        true => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers of a dockerd.
    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web", "a", "A1", "my-net_2", &"x".repeat(63)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["a b", "_x", "-x", "x-", "a/b", ".x", "ä", "a.b"] {
            assert_eq!(check_name(bad), Err(SpecProblem::Name), "{bad}");
        }
        assert_eq!(check_name(&"x".repeat(64)), Err(SpecProblem::NameLength));
        assert_eq!(check_name(""), Err(SpecProblem::NameMissing));
    }
}
