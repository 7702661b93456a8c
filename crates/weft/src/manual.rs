//! Manual pages and completion scripts, made of the grammars of the command lines.

use std::path::Path;

use clap::Command;

/// Section of the manual for what administrators run.
const ADMINISTRATOR: &str = "8";

/// Writes a page for the client and each of its verbs, and one for the daemon, into a folder.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(folder: &Path, client: Command, daemon: Command) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(client, folder)?;
    clap_mangen::Man::new(daemon).section(ADMINISTRATOR).generate_to(folder).map(drop)
}

/// Prints the completion script of a shell.
pub(crate) fn complete(shell: clap_complete::Shell, mut command: Command) {
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_that_names_its_flags() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), crate::client::command(), crate::daemon::command()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let page = read("weft-network-create.1");
        assert!(page.contains("weft network create") && page.contains("subnet"), "{page}");
        assert!(read("weft.1").contains("network"));
        assert!(read("weftd.8").contains("live\\-restore"));
    }
}
