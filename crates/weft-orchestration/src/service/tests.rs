//! What the loops ask for in exact situations.
