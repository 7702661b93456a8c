//! Why a store did not do what it was asked for.

/// A call came to nothing, or nobody knows what came of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// None of its servers could be asked. Nothing was changed.
    #[error("the key-value store at {store} does not answer: {reason}")]
    Silent {
        /// Its address.
        store: String,
        /// What the last server that was tried came to.
        reason: String,
    },
    /// The request was sent and its answer lost. The change may have been made: read, and decide again.
    #[error(
        "the key-value store at {store} may or may not have made a change, its answer was lost: {reason}"
    )]
    Lost {
        /// Its address.
        store: String,
        /// How the answer was lost.
        reason: String,
    },
    /// The store said no, for a reason of its own. Nothing was changed.
    #[error("the key-value store at {store} refuses: {reason}")]
    Refused {
        /// Its address.
        store: String,
        /// In its words.
        reason: String,
    },
    /// What answers there does not speak as that store does.
    #[error("the key-value store at {store} gave an answer that is not understood: {reason}")]
    Malformed {
        /// Its address.
        store: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// Somebody else changed the key since it was read. Nothing was changed: read, and decide again.
    #[error("the key {key} of the key-value store was changed by somebody else")]
    Conflict {
        /// Without the store's prefix.
        key: String,
    },
    /// The lease has ended, or the store lost its data. Nothing was changed: take a new one.
    #[error("the key-value store has forgotten the lease")]
    LeaseGone,
}

/// The same of one server, before it is known whose and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It does not know of the request.
    NotSent(String),
    /// It may have acted on it.
    Lost(String),
    Refused(String),
    Malformed(String),
    /// A precondition does not hold.
    Conflict,
    LeaseGone,
}

impl Failure {
    /// Whether another server may do better; `repeatable` says that the request does no harm when done twice.
    pub(crate) fn is_for_another(&self, repeatable: bool) -> bool {
        match self {
            Self::NotSent(_) => true,
            Self::Lost(_) => repeatable,
            Self::Refused(_) | Self::Malformed(_) | Self::Conflict | Self::LeaseGone => false,
        }
    }

    /// Whether the server is well: it said no.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Conflict | Self::LeaseGone)
    }

    /// As users see it. A request that does no harm when done twice was not done, as far as anybody cares.
    pub(crate) fn of(self, store: &str, key: &str, repeatable: bool) -> StoreError {
        let store = store.to_owned();
        match self {
            Self::NotSent(reason) => StoreError::Silent { store, reason },
            Self::Lost(reason) if repeatable => StoreError::Silent { store, reason },
            Self::Lost(reason) => StoreError::Lost { store, reason },
            Self::Refused(reason) => StoreError::Refused { store, reason },
            Self::Malformed(reason) => StoreError::Malformed { store, reason },
            Self::Conflict => StoreError::Conflict { key: key.to_owned() },
            Self::LeaseGone => StoreError::LeaseGone,
        }
    }
}

/// An error with all that lies below it: transports say the reason last.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(source) = below {
        let words = source.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        below = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_no_harm_twice_is_repeated_after_a_lost_answer() {
        let lost = Failure::Lost("reset".to_owned());
        assert!(lost.is_for_another(true) && !lost.is_for_another(false));
        assert!(Failure::NotSent(String::new()).is_for_another(false));
        assert!(!Failure::Conflict.is_for_another(true));
        let error = lost.clone().of("consul://h:1", "k", false).to_string();
        assert!(error.contains("may or may not have made a change"), "{error}");
        let error = lost.of("consul://h:1", "k", true).to_string();
        assert_eq!(error, "the key-value store at consul://h:1 does not answer: reset");
    }
}
