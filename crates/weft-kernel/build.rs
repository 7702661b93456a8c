//! Compiles the BPF programs, or takes the objects that are kept for machines without clang.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// One object for each namespace that programs are for.
const OBJECTS: [&str; 3] = ["connect", "host", "segment"];

fn main() -> io::Result<()> {
    let sources = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("bpf");
    let out = PathBuf::from(variable("OUT_DIR")?);
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-env-changed=BPF_CLANG");
    let clang = env::var("BPF_CLANG").unwrap_or_else(|_| "clang".to_owned());
    for object in OBJECTS {
        let target = out.join(format!("{object}.bpf.o"));
        if !compile(&clang, &sources, object, &target) {
            println!(
                "cargo:warning={clang} cannot compile bpf/{object}.bpf.c: taking the object kept for that"
            );
            fs::copy(sources.join(format!("prebuilt/{object}.bpf.o")), &target)?;
        }
    }
    Ok(())
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(|e| io::Error::other(format!("{name}: {e}")))
}

/// Whether it worked. The object holds no path of this machine.
fn compile(clang: &str, sources: &Path, object: &str, target: &Path) -> bool {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let compiled = Command::new(clang)
        .current_dir(sources)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
        .args(["-fdebug-compilation-dir", "."])
        .arg(format!("-I/usr/include/{architecture}-linux-gnu"))
        .arg("-c")
        .arg(format!("{object}.bpf.c"))
        .arg("-o")
        .arg(target)
        .status();
    let compiled = compiled.is_ok_and(|status| status.success());
    if compiled {
        // BTF, which the loader reads, stays. Without the program the object is only larger.
        let _ = Command::new("llvm-strip").arg("-g").arg(target).status();
    }
    compiled
}
