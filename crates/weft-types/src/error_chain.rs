//! Errors in words, with what is behind them.

use std::error::Error;

/// An error with all its sources, after colons; a source that the words before end with is not said twice.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Said(&'static str, Option<Box<Said>>);

    impl std::fmt::Display for Said {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Said {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|source| source as &dyn Error)
        }
    }

    #[test]
    fn sources_follow_and_none_is_said_twice() {
        let cause = Said("full", None);
        let repeats = Said("write: full", Some(Box::new(cause)));
        let whole = Said("save", Some(Box::new(repeats)));
        assert_eq!(error_chain(&whole), "save: write: full");
    }
}
