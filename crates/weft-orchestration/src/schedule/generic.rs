//! Generic resources: things that a node counts ("ssd=4") or names ("gpu=UUID1"), and tasks reserve a number of.

use std::collections::{BTreeMap, BTreeSet};

use weft_wire::swarmkit::{
    DiscreteGenericResource, GenericResource, NamedGenericResource, generic_resource::Resource,
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stock {
    Counted(i64),
    Named(BTreeSet<String>),
}

/// What is left of a node's generic resources, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GenericStock {
    kinds: BTreeMap<String, Stock>,
}

impl GenericStock {
    /// All that a node has. A kind that is both counted and named is what its first entry is.
    pub(super) fn of_node(resources: &[GenericResource]) -> Self {
        let mut stock = Self::default();
        for resource in resources.iter().filter_map(|entry| entry.resource.as_ref()) {
            match resource {
                Resource::DiscreteResourceSpec(counted) => {
                    let empty = Stock::Counted(0);
                    if let Stock::Counted(value) = stock.kinds.entry(counted.kind.clone()).or_insert(empty) {
                        *value += counted.value;
                    }
                }
                Resource::NamedResourceSpec(named) => {
                    let empty = Stock::Named(BTreeSet::new());
                    if let Stock::Named(names) = stock.kinds.entry(named.kind.clone()).or_insert(empty) {
                        names.insert(named.value.clone());
                    }
                }
            }
        }
        stock
    }

    /// Takes out what a task was given.
    pub(super) fn consume(&mut self, given: &[GenericResource]) {
        for resource in given.iter().filter_map(|entry| entry.resource.as_ref()) {
            match (resource, self.kinds.get_mut(kind_of(resource))) {
                (Resource::DiscreteResourceSpec(counted), Some(Stock::Counted(left))) => {
                    *left -= counted.value
                }
                (Resource::NamedResourceSpec(named), Some(Stock::Named(names))) => {
                    names.remove(&named.value);
                }
                // The node changed its mind about this kind since.
                _ => {}
            }
        }
    }

    /// Whether all of this can be given. A task asks for numbers only; a name asked for is never there.
    pub(super) fn has(&self, wanted: &[GenericResource]) -> bool {
        wanted.iter().filter_map(|entry| entry.resource.as_ref()).all(|resource| match resource {
            Resource::NamedResourceSpec(_) => false,
            Resource::DiscreteResourceSpec(counted) => match self.kinds.get(&counted.kind) {
                None => false,
                Some(Stock::Counted(left)) => counted.value <= *left,
                Some(Stock::Named(names)) => counted.value <= names.len() as i64,
            },
        })
    }

    /// Whether what a task was given is still there.
    pub(super) fn still_has(&self, given: &[GenericResource]) -> bool {
        given.iter().filter_map(|entry| entry.resource.as_ref()).all(|resource| {
            match (resource, self.kinds.get(kind_of(resource))) {
                (Resource::DiscreteResourceSpec(counted), Some(Stock::Counted(left))) => {
                    counted.value <= *left
                }
                (Resource::NamedResourceSpec(named), Some(Stock::Named(names))) => {
                    names.contains(&named.value)
                }
                _ => false,
            }
        })
    }

    /// Takes out what is wanted: a number of counted things, or as many names. The caller asked [`Self::has`].
    pub(super) fn take(&mut self, wanted: &[GenericResource]) -> Vec<GenericResource> {
        let mut given = Vec::new();
        for resource in wanted.iter().filter_map(|entry| entry.resource.as_ref()) {
            let Resource::DiscreteResourceSpec(counted) = resource else { continue };
            match self.kinds.get(&counted.kind) {
                Some(Stock::Counted(_)) if counted.value > 0 => {
                    given.push(Resource::DiscreteResourceSpec(DiscreteGenericResource::clone(counted)));
                }
                Some(Stock::Named(names)) => {
                    let count = usize::try_from(counted.value).unwrap_or(0);
                    given.extend(names.iter().take(count).map(|name| {
                        let kind = counted.kind.clone();
                        Resource::NamedResourceSpec(NamedGenericResource { kind, value: name.clone() })
                    }));
                }
                _ => {}
            }
        }
        let given: Vec<_> =
            given.into_iter().map(|resource| GenericResource { resource: Some(resource) }).collect();
        self.consume(&given);
        given
    }
}

fn kind_of(resource: &Resource) -> &str {
    match resource {
        Resource::DiscreteResourceSpec(counted) => &counted.kind,
        Resource::NamedResourceSpec(named) => &named.kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(kind: &str, value: i64) -> GenericResource {
        let spec = DiscreteGenericResource { kind: kind.into(), value };
        GenericResource { resource: Some(Resource::DiscreteResourceSpec(spec)) }
    }

    fn named(kind: &str, value: &str) -> GenericResource {
        let spec = NamedGenericResource { kind: kind.into(), value: value.into() };
        GenericResource { resource: Some(Resource::NamedResourceSpec(spec)) }
    }

    #[test]
    fn counted_and_named_ones_are_given_until_none_is_left() {
        let mut stock = GenericStock::of_node(&[
            counted("ssd", 3),
            named("gpu", "b"),
            named("gpu", "a"),
            named("gpu", "c"),
        ]);
        let wanted = [counted("ssd", 2), counted("gpu", 2)];
        assert!(stock.has(&wanted));
        assert_eq!(stock.take(&wanted), [counted("ssd", 2), named("gpu", "a"), named("gpu", "b")]);
        assert!(!stock.has(&wanted) && stock.has(&[counted("ssd", 1), counted("gpu", 1)]));
        assert!(!stock.has(&[counted("fpga", 1)]) && !stock.has(&[named("gpu", "c")]));
    }

    #[test]
    fn what_was_given_is_missed_when_the_node_no_longer_has_it() {
        let stock = GenericStock::of_node(&[counted("ssd", 1), named("gpu", "a")]);
        assert!(stock.still_has(&[counted("ssd", 1), named("gpu", "a")]));
        assert!(!stock.still_has(&[counted("ssd", 2)]) && !stock.still_has(&[named("gpu", "b")]));
        assert!(!stock.still_has(&[counted("gpu", 1)]), "counted before, named now");
    }
}
