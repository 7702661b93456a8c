//! Carrying out operations.

use weft_plan::Op;

use crate::ApplyError;

/// What became of a list of operations.
#[derive(Debug, Default)]
pub struct Report {
    /// Those done.
    pub done: Vec<Op>,
    /// Those that failed, with the reason.
    pub failed: Vec<ApplyError>,
}

impl Report {
    /// Whether the namespace now is as wanted.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }

    /// The first failure, if any.
    pub fn into_result(self) -> Result<Vec<Op>, ApplyError> {
        match self.failed.into_iter().next() {
            None => Ok(self.done),
            Some(error) => Err(error),
        }
    }
}
