//! Filters of system calls, compiled once for all containers with the same rules.
//!
//! Building Docker's filter takes libseccomp some 11 ms, a quarter of a container's start. Containers with equal rules
//! share one program; only a profile that asks for flags or a listener is left to the runtime library.

use std::collections::HashMap;
use std::io::{Read, Seek};
use std::sync::{Arc, Mutex, PoisonError};

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;
use serde_json::Value;

use super::seccomp::{Argument, Profile, Rule};
use crate::error::EngineError;

/// More kinds of filters than a host has containers with profiles of their own, hopefully.
const KEPT: usize = 64;
/// What a refused call answers unless the profile says otherwise.
const EPERM: u32 = 1;

/// Compiled programs by the rules they are made of.
#[derive(Debug, Default)]
pub(crate) struct SyscallFilters(Mutex<HashMap<String, Arc<[u8]>>>);

impl SyscallFilters {
    /// The program for a specification; none where it has no rules, or the runtime library has to build it.
    pub(crate) fn of(&self, spec: &Value) -> Result<Option<Arc<[u8]>>, EngineError> {
        let rules = &spec["linux"]["seccomp"];
        if rules.is_null() {
            return Ok(None);
        }
        let key = rules.to_string();
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = lock().get(&key) {
            return Ok(Some(program.clone()));
        }
        let malformed = |error: serde_json::Error| EngineError::Malformed {
            what: "system call filter",
            detail: error.to_string(),
        };
        let profile = Profile::deserialize(rules).map_err(malformed)?;
        let program = match compile(&profile) {
            Ok(Some(program)) => Arc::<[u8]>::from(program),
            Ok(None) => return Ok(None),
            Err(error) => {
                // The library meets the same, and has words for it that users know.
                tracing::debug!(%error, "filter of system calls not compiled");
                return Ok(None);
            }
        };
        let mut known = lock();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(key, program.clone());
        Ok(Some(program))
    }
}

/// Why a profile makes no program.
#[derive(Debug, thiserror::Error)]
enum CompileError {
    #[error(transparent)]
    Library(#[from] SeccompError),
    #[error("operator {0:?} is not known")]
    Operator(String),
    #[error("read the program: {0}")]
    Read(#[from] std::io::Error),
}

/// The same rules as libcontainer 0.7 understands them: it takes mask and value of `SCMP_CMP_MASKED_EQ` the other way round
/// than the OCI specification and runc, and so lets every call pass that the mask shall hold back.
pub(crate) fn for_library(spec: &mut Value) {
    let rules =
        spec.pointer_mut("/linux/seccomp/syscalls").and_then(Value::as_array_mut).into_iter().flatten();
    let arguments = rules.filter_map(|rule| rule.get_mut("args")?.as_array_mut()).flatten();
    for argument in arguments.filter(|argument| argument["op"] == "SCMP_CMP_MASKED_EQ") {
        let (mask, value) = (argument["value"].take(), argument["valueTwo"].take());
        (argument["value"], argument["valueTwo"]) = (value, mask);
    }
}

fn compile(profile: &Profile) -> Result<Option<Vec<u8>>, CompileError> {
    let listens = profile.syscalls.iter().any(|rule| rule.action == "SCMP_ACT_NOTIFY");
    if listens || !profile.flags.is_empty() {
        return Ok(None);
    }
    let fallback = action(&profile.default_action, profile.default_errno_ret)?;
    let mut context = ScmpFilterContext::new(fallback)?;
    for architecture in &profile.architectures {
        context.add_arch(architecture.parse::<ScmpArch>()?)?;
    }
    for rule in &profile.syscalls {
        add_rule(&mut context, rule, fallback)?;
    }
    let mut file =
        std::fs::File::from(memfd_create("filter", MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?);
    context.export_bpf(&file)?;
    file.rewind()?;
    let mut program = Vec::new();
    file.read_to_end(&mut program)?;
    Ok(Some(program))
}

fn action(name: &str, errno: Option<u32>) -> Result<ScmpAction, SeccompError> {
    ScmpAction::from_str(name, i32::try_from(errno.unwrap_or(EPERM)).ok())
}

/// As runc does it: unknown calls are left out, and of several conditions on one argument each is a rule of its own.
fn add_rule(context: &mut ScmpFilterContext, rule: &Rule, fallback: ScmpAction) -> Result<(), CompileError> {
    let action = action(&rule.action, rule.errno_ret)?;
    if action == fallback {
        return Ok(());
    }
    let arguments = rule.args.as_deref().unwrap_or_default();
    let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let indices: std::collections::BTreeSet<u32> = arguments.iter().map(|argument| argument.index).collect();
    let names = rule.names.iter().flatten();
    for call in names.filter_map(|name| ScmpSyscall::from_name(name).ok()) {
        if conditions.is_empty() {
            context.add_rule(action, call)?;
        } else if indices.len() == conditions.len() {
            context.add_rule_conditional(action, call, &conditions)?;
        } else {
            for condition in &conditions {
                context.add_rule_conditional(action, call, std::slice::from_ref(condition))?;
            }
        }
    }
    Ok(())
}

fn condition(argument: &Argument) -> Result<ScmpArgCompare, CompileError> {
    let operator = match argument.op.as_str() {
        "SCMP_CMP_NE" => ScmpCompareOp::NotEqual,
        "SCMP_CMP_LT" => ScmpCompareOp::Less,
        "SCMP_CMP_LE" => ScmpCompareOp::LessOrEqual,
        "SCMP_CMP_EQ" => ScmpCompareOp::Equal,
        "SCMP_CMP_GE" => ScmpCompareOp::GreaterEqual,
        "SCMP_CMP_GT" => ScmpCompareOp::Greater,
        // Of this one the first value is the mask.
        "SCMP_CMP_MASKED_EQ" => {
            let masked = ScmpCompareOp::MaskedEqual(argument.value);
            return Ok(ScmpArgCompare::new(argument.index, masked, argument.value_two));
        }
        other => return Err(CompileError::Operator(other.to_owned())),
    };
    Ok(ScmpArgCompare::new(argument.index, operator, argument.value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::capabilities::CapabilitySet;

    fn of_default_profile() -> Value {
        let capabilities = CapabilitySet::of_container(false, &[], &[]).unwrap();
        json!({ "linux": { "seccomp": Profile::default_profile().resolve(&capabilities) } })
    }

    /// What a process below the filter gets for `clone` with these flags: 0, or the error.
    fn clone_below(program: Option<Arc<[u8]>>, flags: u32) -> i32 {
        let script = format!("exit(syscall(56, {flags} | 17, 0, 0, 0, 0) == -1 ? $! + 0 : 0)");
        // Filters are a thread's own; it ends with this one.
        let run = move || {
            program.iter().for_each(|program| weft_kernel::load_syscall_filter(program).unwrap());
            std::process::Command::new("perl").args(["-e", &script]).status().unwrap().code().unwrap()
        };
        std::thread::spawn(run).join().unwrap()
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn new_namespaces_are_refused_and_new_processes_are_not() {
        const CLONE_NEWUSER: u32 = 0x1000_0000;
        let program = SyscallFilters::default().of(&of_default_profile()).unwrap();
        assert_eq!(clone_below(None, CLONE_NEWUSER), 0, "on this machine anybody may");
        assert_eq!(clone_below(program.clone(), CLONE_NEWUSER), EPERM as i32);
        assert_eq!(clone_below(program, 0), 0);
    }

    #[test]
    fn equal_rules_share_a_program() {
        let filters = SyscallFilters::default();
        let mut spec = of_default_profile();
        let first = filters.of(&spec).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &filters.of(&spec).unwrap().unwrap()));
        assert!(filters.of(&json!({ "linux": {} })).unwrap().is_none());
        spec["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]);
        assert!(filters.of(&spec).unwrap().is_none(), "left to the library");
        spec["linux"]["seccomp"]["flags"] = json!([]);
        spec["linux"]["seccomp"]["architectures"] = json!(["SCMP_ARCH_ABACUS"]);
        assert!(filters.of(&spec).unwrap().is_none());
    }

    #[test]
    fn the_library_gets_mask_and_value_as_it_takes_them() {
        let rule = |value: u64, two: u64| {
            json!({ "linux": { "seccomp": { "syscalls": [
                { "names": ["clone"], "args": [{ "index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": value, "valueTwo": two }] },
                { "names": ["personality"], "args": [{ "index": 0, "op": "SCMP_CMP_EQ", "value": 8, "valueTwo": 9 }] },
                { "names": ["read"] },
            ] } } })
        };
        let mut spec = rule(5, 7);
        for_library(&mut spec);
        assert_eq!(spec, rule(7, 5));
        let mut without = json!({ "linux": {} });
        for_library(&mut without);
        assert_eq!(without, json!({ "linux": {} }));
    }
}
