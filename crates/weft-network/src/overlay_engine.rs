//! What carries the frames of overlay networks.

use std::fmt;
use std::str::FromStr;

use crate::choice;

/// What the option says about carrying frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OverlayEngineChoice {
    /// Programs where the kernel can, else bridges alone.
    #[default]
    Auto,
    /// Programs, or nothing.
    Bpf,
    /// Bridges alone.
    Bridge,
}

impl fmt::Display for OverlayEngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Bpf => "bpf",
            Self::Bridge => "bridge",
        })
    }
}

impl FromStr for OverlayEngineChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        choice::parse(text, &[Self::Auto, Self::Bpf, Self::Bridge])
    }
}
