//! One binary, several lives: the daemon, the daemon's own processes, the CNI plugin, the lab, and otherwise the client.

mod client;
mod daemon;
mod lab;
mod manual;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let program = args.first().and_then(|a| a.rsplit('/').next()).unwrap_or_default();
    // The daemon's own processes come first: they must stay single-threaded and start fast.
    match args.get(1).map(String::as_str) {
        Some("shim") => weft_engine::shim_main(args[2..].to_vec()),
        Some("runtime") => weft_engine::runtime_main(args[2..].to_vec()),
        Some("helper") => weft_network::helper_main(args[2..].to_vec()),
        Some("daemon") => daemon::run(without_verb(args)),
        Some("cni") if args.len() == 2 => weft_plugin::cni::main(),
        _ if program == "weftd" => daemon::run(args),
        // Runtimes start what has the name that a configuration gives as type, `weft` or `weft-cni`.
        _ if program == "weft-cni" || weft_plugin::cni::is_call(&args) => weft_plugin::cni::main(),
        _ => talk(args),
    }
}

/// The lives that print for their user.
fn talk(args: Vec<String>) -> ExitCode {
    output::end_quietly_when_closed();
    match args.get(1).map(String::as_str) {
        Some("lab") => lab::run(args[1..].to_vec()),
        _ => client::run(args, vec![lab::command()], daemon::command()),
    }
}

/// `weft daemon --flag` reads as `weftd --flag`.
fn without_verb(mut args: Vec<String>) -> Vec<String> {
    args.remove(1);
    args
}
