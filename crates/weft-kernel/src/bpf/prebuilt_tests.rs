//! The objects that are kept for machines without clang.

use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

use super::connect::CONNECT;
use super::programs::{HOST, SEGMENT};

/// The object that is kept for machines without clang is this source's. Compared are the programs themselves, as they
/// are when the same compiler made both.
#[test]
fn the_kept_objects_are_of_these_sources() {
    let kept: [(&str, &[u8], &[u8]); 3] = [
        ("connect", include_bytes!("../../bpf/prebuilt/connect.bpf.o"), CONNECT),
        ("host", include_bytes!("../../bpf/prebuilt/host.bpf.o"), HOST),
        ("segment", include_bytes!("../../bpf/prebuilt/segment.bpf.o"), SEGMENT),
    ];
    let here = compiler().expect("clang is needed to check the kept objects (apt-get install clang)");
    let made_by = include_str!("../../bpf/prebuilt/compiler").trim();
    for (name, kept, built) in kept {
        assert!(!kept.is_empty() && !built.is_empty());
        let advice = format!(
            "bpf/prebuilt/{name}.bpf.o is stale: copy {}/*.bpf.o there, and the first line of \"clang --version\" to compiler",
            env!("OUT_DIR")
        );
        if here == made_by {
            assert!(instructions(kept) == instructions(built), "{advice}");
        }
        // With another compiler the functions at least are the same ones.
        assert_eq!(names(kept), names(built), "{advice}");
    }
}

fn compiler() -> Option<String> {
    let output = std::process::Command::new("clang").arg("--version").output().ok()?;
    String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
}

fn instructions(object: &[u8]) -> Vec<u8> {
    let file = object::File::parse(object).unwrap();
    let programs = file.sections().filter(|section| section.kind() == SectionKind::Text);
    programs.flat_map(|section| section.data().unwrap().to_vec()).collect()
}

fn names(object: &[u8]) -> Vec<String> {
    let file = object::File::parse(object).unwrap();
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_global());
    let mut names: Vec<String> = functions.map(|symbol| symbol.name().unwrap().to_owned()).collect();
    names.sort();
    names
}
