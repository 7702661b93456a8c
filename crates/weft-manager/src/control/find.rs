//! Objects by what users call them.

use std::sync::Arc;

use crate::error::ControlError;

/// What users name by id or prefix of it.
pub(super) trait Named {
    /// In errors.
    const KIND: &'static str;
    fn id(&self) -> &str;
}

/// The object already found by id or name, else the only one whose id begins with `term`.
pub(super) fn object<'a, T: Named + 'a>(
    exact: Option<&Arc<T>>,
    all: impl Iterator<Item = &'a Arc<T>>,
    term: &str,
    missing: impl FnOnce(String) -> ControlError,
) -> Result<Arc<T>, ControlError> {
    if let Some(object) = exact {
        return Ok(Arc::clone(object));
    }
    let found: Vec<_> = all.filter(|object| !term.is_empty() && object.id().starts_with(term)).collect();
    match found.as_slice() {
        [] => Err(missing(term.to_owned())),
        [object] => Ok(Arc::clone(object)),
        several => {
            Err(ControlError::Ambiguous { kind: T::KIND, term: term.to_owned(), matches: several.len() })
        }
    }
}
