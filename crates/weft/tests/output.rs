//! The client beside programs that do not read all it says.

use std::process::{Command, Stdio};

#[test]
fn a_closed_output_ends_the_client_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["lab", "ls"])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), errors.as_ref()), (Some(141), ""));
}
