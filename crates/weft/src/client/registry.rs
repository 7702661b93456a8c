//! `login`, `logout`, `push`.

use std::io::{IsTerminal as _, Read as _, Write as _};

use clap::{Args, Subcommand};
use serde_json::json;

use super::connection::{Call, Daemon};
use super::credentials::{Credentials, HUB, registry_of};
use super::error::{ClientError, Outcome};
use super::image::split_tag;
use super::layers;
use super::system::text;
use super::terminal::without_echo;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Keep the password for a registry
    Login(Login),
    /// Forget the password for a registry
    Logout {
        /// Docker Hub if none is named
        server: Option<String>,
    },
    /// Send an image to its registry
    Push(Push),
}

#[derive(Debug, Args)]
pub(super) struct Login {
    /// Docker Hub if none is named
    server: Option<String>,
    #[arg(short, long)]
    username: Option<String>,
    /// Others can see it in the list of processes
    #[arg(short, long)]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
}

#[derive(Debug, Args)]
pub(super) struct Push {
    /// NAME or NAME:TAG
    image: String,
    /// All tags of the name
    #[arg(short, long)]
    all_tags: bool,
    /// Only the image's name at the end
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn execute(daemon: &Daemon, verb: Verb) -> Outcome {
    match verb {
        Verb::Login(login) => self::login(daemon, login).await,
        Verb::Logout { server } => logout(&address(server)),
        Verb::Push(push) => self::push(daemon, push).await,
    }
}

/// As passwords are kept: a host without scheme and path, or Docker Hub.
fn address(server: Option<String>) -> String {
    let server = server.unwrap_or_default();
    let host = server.trim_start_matches("https://").trim_start_matches("http://");
    match host.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

async fn login(daemon: &Daemon, login: Login) -> Outcome {
    let server = address(login.server);
    let username = match login.username {
        Some(name) => name,
        None if login.password_stdin => {
            return Err(ClientError::Usage("Must provide --username with --password-stdin".to_owned()));
        }
        None => ask("Username: ", false)?,
    };
    let password = match login.password {
        Some(password) => {
            eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            password
        }
        None if login.password_stdin => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => ask("Password: ", true)?,
    };
    let body = json!({"username": username, "password": password, "serveraddress": server});
    let answer = daemon.json(Call::post("/auth").json_body(&body)).await?;
    let token = text(&answer["IdentityToken"]);
    let place = Credentials::load()?.store(&server, &username, &password, &token)?;
    if place.ends_with(".json") {
        eprintln!(
            "WARNING! The password is kept unencrypted in {place}. A credential helper (credsStore there) keeps it better."
        );
    }
    println!("{}", answer["Status"].as_str().unwrap_or("Login Succeeded"));
    Ok(0)
}

/// Asks at the terminal.
fn ask(question: &str, is_secret: bool) -> Result<String, ClientError> {
    if !std::io::stdin().is_terminal() {
        return Err(ClientError::Usage(
            "Cannot perform an interactive login from a non TTY device".to_owned(),
        ));
    }
    eprint!("{question}");
    std::io::stderr().flush()?;
    let _hidden = is_secret.then(without_echo);
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if is_secret {
        eprintln!();
    }
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}

fn logout(server: &str) -> Outcome {
    match Credentials::load()?.erase(server)? {
        true => println!("Removing login credentials for {server}"),
        false => println!("Not logged in to {server}"),
    }
    Ok(0)
}

async fn push(daemon: &Daemon, push: Push) -> Outcome {
    let (name, tag) = split_tag(&push.image);
    if push.all_tags && !tag.is_empty() {
        return Err(ClientError::Usage("tag can't be used with --all-tags/-a".to_owned()));
    }
    let tag = match tag {
        "" if !push.all_tags => {
            if !push.quiet {
                println!("Using default tag: latest");
            }
            "latest"
        }
        tag => tag,
    };
    let auth = Credentials::load()?.header(registry_of(name))?;
    let call = Call::post(format!("/images/{name}/push")).query_if(!tag.is_empty(), "tag", tag);
    let response = daemon.call(call.header("X-Registry-Auth", auth)).await?;
    if !push.quiet {
        println!("The push refers to repository [{}]", whole_name(name));
    }
    layers::follow(response, push.quiet).await?;
    if push.quiet {
        println!("{}:{tag}", whole_name(name));
    }
    Ok(0)
}

/// With the registry that is left out of names of Docker Hub.
fn whole_name(name: &str) -> String {
    match registry_of(name) {
        HUB if name.starts_with("docker.io/") => name.to_owned(),
        HUB if name.contains('/') => format!("docker.io/{name}"),
        HUB => format!("docker.io/library/{name}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_as_passwords_are_kept() {
        assert_eq!(address(None), HUB);
        assert_eq!(address(Some("https://host:5000/v2/".to_owned())), "host:5000");
        assert_eq!(address(Some("docker.io".to_owned())), HUB);
        assert_eq!(whole_name("busybox"), "docker.io/library/busybox");
        assert_eq!(whole_name("host:5000/b"), "host:5000/b");
    }
}
