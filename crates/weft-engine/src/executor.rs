//! The last steps inside the new process, before the user's program takes over: find the program, forget what shim and
//! daemon do on signals, load the system call filter, enter the working directory.
//!
//! Runs in the forked child inside the container; its errors travel to the user as text, between [`FAILURE_MARK`]s.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcontainer::syscall::syscall::create_syscall;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use oci_spec::runtime::{LinuxCapabilities, LinuxSeccomp, Spec};

/// Surrounds `code|text` in an error of the executor.
pub(crate) const FAILURE_MARK: &str = "\u{1}weft\u{1}";

/// Runs the program of a container or an exec.
#[derive(Debug, Clone)]
pub(crate) struct WeftExecutor {
    /// The filter to load; none where there is none, or libcontainer loads it.
    filter: Option<Filter>,
    /// Capabilities to keep after the filter is loaded.
    capabilities: Option<LinuxCapabilities>,
    /// Working directory to enter; libcontainer does it for the container itself.
    cwd: Option<PathBuf>,
}

/// A filter of system calls.
#[derive(Debug, Clone)]
pub(crate) enum Filter {
    /// Ready to be loaded: building it takes ten times as long.
    Compiled(Vec<u8>),
    /// To be built here.
    Rules(LinuxSeccomp),
}

impl WeftExecutor {
    pub(crate) fn new(filter: Option<Filter>, capabilities: Option<LinuxCapabilities>) -> Self {
        Self { filter, capabilities, cwd: None }
    }

    /// Of one that enters its working directory itself.
    pub(crate) fn in_directory(self, cwd: PathBuf) -> Self {
        Self { cwd: Some(cwd), ..self }
    }

    fn enter_cwd(&self) -> Result<(), ExecutorValidationError> {
        let Some(cwd) = &self.cwd else { return Ok(()) };
        std::env::set_current_dir(cwd).map_err(|error| {
            refused(127, &format!("chdir to cwd ({cwd:?}) set in config.json failed: {}", words(&error)))
        })
    }

    fn load_filter(&self) -> Result<(), ExecutorValidationError> {
        let failed =
            |error: &dyn std::error::Error| refused(128, &format!("error loading seccomp filter: {error}"));
        match &self.filter {
            Some(Filter::Compiled(program)) => {
                weft_kernel::load_syscall_filter(program).map_err(|error| failed(&error))?
            }
            Some(Filter::Rules(rules)) => {
                libcontainer::seccomp::initialize_seccomp(rules).map_err(|error| failed(&error))?;
            }
            None => {}
        }
        if let Some(capabilities) = &self.capabilities {
            libcontainer::capabilities::drop_privileges(capabilities, create_syscall().as_ref())
                .map_err(|error| refused(128, &format!("unable to apply caps: {error}")))?;
        }
        Ok(())
    }
}

impl Executor for WeftExecutor {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        self.enter_cwd()?;
        let process = spec.process().as_ref();
        let arguments = process.and_then(|process| process.args().as_deref()).unwrap_or_default();
        let program = arguments.first().map(String::as_str).unwrap_or_default();
        let environment = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
        let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
        find_program(program, path).map_err(|(code, text)| refused(code, &text))?;
        // Before the filter, which may refuse it.
        weft_kernel::reset_signals().map_err(|error| refused(128, &format!("reset signals: {error}")))?;
        self.load_filter()
    }

    fn setup_envs(
        &self,
        _: HashMap<String, String>,
    ) -> Result<(), libcontainer::workload::ExecutorSetEnvsError> {
        // The environment is given to execve: order and duplicates stay as the user wrote them.
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let arguments = process.args().as_deref().unwrap_or_default();
        let environment = process.env().as_deref().unwrap_or_default();
        let program = arguments.first().map(String::as_str).unwrap_or_default();
        let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
        let file = find_program(program, path).map_err(|(_, text)| ExecutorError::Other(text))?;
        let strings = |texts: &[String]| {
            texts.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>()
        };
        let (Ok(arguments), Ok(environment)) = (strings(arguments), strings(environment)) else {
            return Err(ExecutorError::InvalidArg);
        };
        let file_name =
            CString::new(file.as_os_str().as_encoded_bytes()).map_err(|_| ExecutorError::InvalidArg)?;
        let Err(error) = nix::unistd::execve(&file_name, &arguments, &environment);
        // Nobody listens for errors after the start but the container's own standard error.
        let text = format!("exec {}: {}", file.display(), words(&error.into()));
        let _ = writeln!(std::io::stderr(), "{text}");
        Err(ExecutorError::Other(text))
    }
}

fn refused(code: i64, text: &str) -> ExecutorValidationError {
    ExecutorValidationError::ArgValidationError(format!("{FAILURE_MARK}{code}|{text}|{FAILURE_MARK}"))
}

/// The message of an errno as Go prints it: lower case, without the number.
fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_lowercase()
        }
    }
}

/// Finds a program as execvp(3) does; errors carry the exit code of a shell and the wording of runc.
fn find_program(program: &str, path: &str) -> Result<PathBuf, (i64, String)> {
    if program.contains('/') {
        return check_program(Path::new(program)).map(|()| PathBuf::from(program)).map_err(
            |error| match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    (126, format!("exec: \"{program}\": permission denied"))
                }
                std::io::ErrorKind::IsADirectory => {
                    (126, format!("exec: \"{program}\": is a directory: permission denied"))
                }
                _ => (127, format!("exec: \"{program}\": stat {program}: {}", words(&error))),
            },
        );
    }
    let mut denied = false;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(program);
        match check_program(&candidate) {
            Ok(()) if !program.is_empty() => return Ok(candidate),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => denied = true,
            _ => {}
        }
    }
    if denied {
        return Err((126, format!("exec: \"{program}\": permission denied")));
    }
    Err((127, format!("exec: \"{program}\": executable file not found in $PATH")))
}

fn check_program(path: &Path) -> std::io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_does() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let path = format!("/nowhere:{}", dir.path().display());
        assert_eq!(find_program("plain", &path).unwrap_err().0, 126);
        std::fs::set_permissions(&plain, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find_program("plain", &path), Ok(plain.clone()));
        assert_eq!(
            find_program("nosuch", &path),
            Err((127, "exec: \"nosuch\": executable file not found in $PATH".to_owned()))
        );
        assert_eq!(
            find_program("/no/such", ""),
            Err((127, "exec: \"/no/such\": stat /no/such: no such file or directory".to_owned()))
        );
        assert_eq!(find_program(dir.path().to_str().unwrap(), "").unwrap_err().0, 126);
        assert_eq!(find_program("", &path).unwrap_err().0, 127);
    }
}
