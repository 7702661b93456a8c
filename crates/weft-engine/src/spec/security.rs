//! `--security-opt`.

use crate::error::EngineError;
use crate::spec::seccomp::Profile;

/// What the options say.
#[derive(Debug, Default)]
pub(crate) struct SecurityOptions {
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: Seccomp,
    /// `systempaths=unconfined`: nothing is masked.
    pub(crate) unmasked: bool,
    /// `apparmor=…`: a profile that is loaded, or `unconfined`.
    pub(crate) apparmor: Option<String>,
}

/// Which filter.
#[derive(Debug, Default)]
pub(crate) enum Seccomp {
    #[default]
    Default,
    Unconfined,
    Custom(Profile),
}

impl SecurityOptions {
    pub(crate) fn parse(options: &[String]) -> Result<Self, EngineError> {
        let mut parsed = Self::default();
        let wrong = |option: &str| EngineError::Invalid(format!("invalid --security-opt: \"{option}\""));
        for option in options {
            let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (key, value) {
                ("no-new-privileges", "" | "true") => parsed.no_new_privileges = true,
                ("no-new-privileges", "false") => parsed.no_new_privileges = false,
                ("seccomp", "unconfined") => parsed.seccomp = Seccomp::Unconfined,
                ("seccomp", "builtin") => parsed.seccomp = Seccomp::Default,
                ("seccomp", profile) => {
                    parsed.seccomp = Seccomp::Custom(Profile::parse(profile).map_err(EngineError::Invalid)?);
                }
                ("systempaths", "unconfined") => parsed.unmasked = true,
                ("apparmor", profile) => parsed.apparmor = Some(profile.to_owned()),
                // There is nothing to disable.
                ("label", "disable") => {}
                ("label", _) => {
                    return Err(EngineError::NotImplemented(
                        "SELinux labels are not implemented yet".to_owned(),
                    ));
                }
                _ => return Err(wrong(option)),
            }
        }
        Ok(parsed)
    }
}
