//! What users were told, and so what must be there.
//!
//! A command that was acknowledged leaves one possible value. One that failed, or whose answer was lost with its
//! manager, leaves two: the swarm may have carried it out or not, and both are right, until somebody looks.

use std::collections::{BTreeMap, BTreeSet};

/// All that one service may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Possible {
    pub(super) present: BTreeSet<bool>,
    pub(super) replicas: BTreeSet<u64>,
    pub(super) version: BTreeSet<u64>,
}

/// What a service was seen to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) replicas: u64,
    pub(super) version: u64,
}

/// A user's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Create { name: String, replicas: u64, version: u64 },
    Scale { name: String, replicas: u64 },
    Update { name: String, version: u64 },
    Remove { name: String },
}

/// All services.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    services: BTreeMap<String, Possible>,
}

impl Model {
    /// Takes over what came of a command.
    pub(super) fn note(&mut self, wish: &Wish, acknowledged: bool) {
        fn set<T: Ord>(values: &mut BTreeSet<T>, value: T, acknowledged: bool) {
            if acknowledged {
                values.clear();
            }
            values.insert(value);
        }
        if let Wish::Create { name, replicas, version } = wish {
            let mut present = BTreeSet::from([true]);
            if !acknowledged {
                present.insert(false);
            }
            let (replicas, version) = (BTreeSet::from([*replicas]), BTreeSet::from([*version]));
            self.services.insert(name.clone(), Possible { present, replicas, version });
            return;
        }
        let Some(service) = self.services.get_mut(wish.name()) else { return };
        match wish {
            Wish::Create { .. } => {}
            Wish::Scale { replicas, .. } => set(&mut service.replicas, *replicas, acknowledged),
            Wish::Update { version, .. } => set(&mut service.version, *version, acknowledged),
            Wish::Remove { .. } => set(&mut service.present, false, acknowledged),
        }
        // Who was told that a service was changed knows that it was there.
        if acknowledged && !matches!(wish, Wish::Remove { .. }) {
            service.present = BTreeSet::from([true]);
        }
    }

    /// Services that are there for sure: commands about others may fail for a good reason.
    pub(super) fn certain(&self) -> Vec<String> {
        let certain = self.services.iter().filter(|(_, it)| it.present == BTreeSet::from([true]));
        certain.map(|(name, _)| name.clone()).collect()
    }

    /// Compares with what is there; afterwards only that is possible.
    pub(super) fn resolve(&mut self, seen: &BTreeMap<String, Seen>) -> Result<(), String> {
        for (name, possible) in &self.services {
            match seen.get(name) {
                None if !possible.present.contains(&false) => {
                    return Err(format!("service {name} was acknowledged and is not there"));
                }
                Some(_) if !possible.present.contains(&true) => {
                    return Err(format!("service {name} was removed and is there"));
                }
                Some(it)
                    if !possible.replicas.contains(&it.replicas)
                        || !possible.version.contains(&it.version) =>
                {
                    return Err(format!("service {name} is {it:?}, and may only be {possible:?}"));
                }
                _ => {}
            }
        }
        if let Some(foreign) = seen.keys().find(|name| !self.services.contains_key(*name)) {
            return Err(format!("service {foreign} is there, and nobody asked for it"));
        }
        let known = |(name, it): (&String, &Seen)| {
            let possible = Possible {
                present: BTreeSet::from([true]),
                replicas: BTreeSet::from([it.replicas]),
                version: BTreeSet::from([it.version]),
            };
            (name.clone(), possible)
        };
        self.services = seen.iter().map(known).collect();
        Ok(())
    }
}

impl Wish {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Create { name, .. }
            | Self::Scale { name, .. }
            | Self::Update { name, .. }
            | Self::Remove { name } => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(name: &str) -> Wish {
        Wish::Create { name: name.to_owned(), replicas: 2, version: 1 }
    }

    fn seen(name: &str, replicas: u64, version: u64) -> BTreeMap<String, Seen> {
        BTreeMap::from([(name.to_owned(), Seen { replicas, version })])
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_what_failed_may() {
        let mut model = Model::default();
        model.note(&create("a"), true);
        assert!(model.clone().resolve(&BTreeMap::new()).is_err());
        model.note(&Wish::Scale { name: "a".to_owned(), replicas: 5 }, false);
        assert!(model.clone().resolve(&seen("a", 2, 1)).is_ok());
        assert!(model.clone().resolve(&seen("a", 5, 1)).is_ok());
        assert!(model.clone().resolve(&seen("a", 5, 2)).is_err());
        model.note(&Wish::Update { name: "a".to_owned(), version: 7 }, true);
        model.resolve(&seen("a", 5, 7)).unwrap();
        assert!(model.clone().resolve(&seen("a", 2, 7)).is_err(), "what was seen once stays");
        model.note(&Wish::Remove { name: "a".to_owned() }, true);
        assert!(model.clone().resolve(&seen("a", 5, 7)).is_err());
        assert!(model.resolve(&BTreeMap::new()).is_ok());
        model.note(&create("b"), false);
        assert!(model.clone().resolve(&BTreeMap::new()).is_ok());
        assert!(model.resolve(&seen("c", 1, 1)).is_err());
    }
}
