//! The call as the runtime puts it into the environment.

use std::net::IpAddr;
use std::path::PathBuf;

use weft_types::MacAddr;

use super::error::{CniError, Code};

/// Length that the kernel allows an interface's name.
const INTERFACE_MAX: usize = 15;

/// What the runtime wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// The container's side of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) container: String,
    pub(crate) interface: String,
    /// Empty where the runtime knows it no more.
    pub(crate) netns: PathBuf,
    pub(crate) args: Args,
}

/// `CNI_ARGS`, as far as it matters here; keys of others are left to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Args {
    /// `K8S_POD_NAME`: by that Podman passes a container's name, too.
    pub(crate) name: Option<String>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) mac: Option<MacAddr>,
}

/// Reads variables of the environment.
#[derive(Clone, Copy)]
pub(crate) struct Environment<'a>(pub(crate) &'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &str) -> Result<String, CniError> {
        self.text(name).ok_or_else(|| invalid(format!("{name} is not set")))
    }

    /// What is to be done.
    pub(crate) fn command(&self) -> Result<Command, CniError> {
        match self.required("CNI_COMMAND")?.as_str() {
            "ADD" => Ok(Command::Add),
            "DEL" => Ok(Command::Del),
            "CHECK" => Ok(Command::Check),
            "GC" => Ok(Command::Gc),
            "STATUS" => Ok(Command::Status),
            "VERSION" => Ok(Command::Version),
            other => Err(invalid(format!("unknown CNI_COMMAND {other:?}"))),
        }
    }

    /// Whose attachment it is about; only DEL may do without the namespace.
    pub(crate) fn target(&self, command: Command) -> Result<Target, CniError> {
        let container = self.required("CNI_CONTAINERID")?;
        if !is_name(&container) {
            return Err(invalid(format!("CNI_CONTAINERID {container:?} is no container id")));
        }
        let interface = self.required("CNI_IFNAME")?;
        let fits = interface.len() <= INTERFACE_MAX && interface != "." && interface != "..";
        if !fits || interface.bytes().any(|b| b == b'/' || b == b':' || b.is_ascii_whitespace()) {
            return Err(invalid(format!("CNI_IFNAME {interface:?} is no name of an interface")));
        }
        let netns = match command {
            Command::Del => self.text("CNI_NETNS").unwrap_or_default(),
            _ => self.required("CNI_NETNS")?,
        };
        let args = Args::parse(&self.text("CNI_ARGS").unwrap_or_default())?;
        Ok(Target { container, interface, netns: netns.into(), args })
    }
}

impl Args {
    fn parse(text: &str) -> Result<Self, CniError> {
        let mut args = Self::default();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let wrong = || invalid(format!("CNI_ARGS: {pair:?} cannot be understood"));
            let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
            match key {
                "K8S_POD_NAME" => args.name = Some(value.to_owned()).filter(|name| !name.is_empty()),
                "IP" => {
                    for ip in value.split(',') {
                        args.addresses.push(address(ip).ok_or_else(wrong)?);
                    }
                }
                "MAC" => args.mac = Some(value.parse().map_err(|_| wrong())?),
                _ => {}
            }
        }
        Ok(args)
    }
}

/// An address, with or without the length of its prefix, which the network has.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    let bare = text.split_once('/').map_or(text, |(ip, _)| ip);
    bare.parse().ok()
}

/// Whether a text is a name by the specification: it begins with a letter or digit, dots, dashes and underscores follow.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn invalid(msg: String) -> CniError {
    CniError::new(Code::InvalidEnvironment, msg)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        move |name| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn a_call_is_read_with_podmans_arguments() {
        let vars = environment(&[
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "default-0a"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=ann;IP=10.0.1.7;MAC=02:42:0a:00:01:07;OTHER=x"),
        ]);
        let environment = Environment(&vars);
        assert_eq!(environment.command(), Ok(Command::Add));
        let target = environment.target(Command::Add).unwrap();
        assert_eq!(target.args.name.as_deref(), Some("ann"));
        assert_eq!(target.args.addresses, ["10.0.1.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(target.args.mac, Some("02:42:0a:00:01:07".parse().unwrap()));
        assert_eq!(target.netns, PathBuf::from("/run/netns/x"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let base = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/n")];
        for (key, value, words) in [
            ("CNI_CONTAINERID", "-x", "is no container id"),
            ("CNI_CONTAINERID", "", "CNI_CONTAINERID is not set"),
            ("CNI_IFNAME", "a/b", "is no name of an interface"),
            ("CNI_IFNAME", "sixteen-letters-", "is no name of an interface"),
            ("CNI_NETNS", "", "CNI_NETNS is not set"),
            ("CNI_ARGS", "IP=x", "cannot be understood"),
            ("CNI_ARGS", "alone", "cannot be understood"),
        ] {
            let mut pairs: Vec<_> = base.iter().copied().filter(|(name, _)| *name != key).collect();
            pairs.push((key, value));
            let error = Environment(&environment(&pairs)).target(Command::Add).unwrap_err();
            assert!(error.code == 4 && error.msg.contains(words), "{key}={value}: {error:?}");
        }
        let gone = environment(&[("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")]);
        assert!(Environment(&gone).target(Command::Del).is_ok(), "DEL does without the namespace");
        assert_eq!(Environment(&gone).command().unwrap_err().msg, "CNI_COMMAND is not set");
    }

    proptest! {
        #[test]
        fn any_arguments_are_read_or_refused(text in ".{0,80}") {
            if let Err(error) = Args::parse(&text) {
                prop_assert_eq!(error.code, 4);
            }
        }
    }
}
