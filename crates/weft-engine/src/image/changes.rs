//! Dockerfile instructions that `docker import --change` may carry.

use super::document::RunConfig;
use crate::error::EngineError;

/// Applies the instructions to a configuration.
pub(crate) fn apply(config: &mut RunConfig, changes: &[String]) -> Result<(), EngineError> {
    changes.iter().filter(|line| !line.trim().is_empty()).try_for_each(|line| apply_one(config, line.trim()))
}

fn apply_one(config: &mut RunConfig, line: &str) -> Result<(), EngineError> {
    let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let need = |condition: bool| {
        if condition {
            Ok(())
        } else {
            Err(EngineError::Invalid(format!(
                "{} requires at least one argument",
                instruction.to_uppercase()
            )))
        }
    };
    match instruction.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            need(!rest.is_empty())?;
            let env = config.env.get_or_insert_default();
            for (key, value) in pairs(rest) {
                env.retain(|entry| entry.split('=').next() != Some(key.as_str()));
                env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => {
            need(!rest.is_empty())?;
            config.labels.get_or_insert_default().extend(pairs(rest));
        }
        "EXPOSE" => {
            need(!rest.is_empty())?;
            for port in words(rest) {
                let port = if port.contains('/') { port } else { format!("{port}/tcp") };
                config.exposed_ports.get_or_insert_default().insert(port, serde_json::json!({}));
            }
        }
        "VOLUME" => {
            need(!rest.is_empty())?;
            let paths = serde_json::from_str::<Vec<String>>(rest).unwrap_or_else(|_| words(rest));
            for path in paths {
                config.volumes.get_or_insert_default().insert(path, serde_json::json!({}));
            }
        }
        "USER" => {
            need(!rest.is_empty())?;
            config.user = Some(rest.to_owned());
        }
        "WORKDIR" => {
            need(!rest.is_empty())?;
            config.working_dir = Some(rest.to_owned());
        }
        "STOPSIGNAL" => {
            need(!rest.is_empty())?;
            config.stop_signal = Some(rest.to_owned());
        }
        "ONBUILD" => config.on_build.get_or_insert_default().push(rest.to_owned()),
        other => {
            return Err(EngineError::Invalid(format!(
                "{} is not a valid change command",
                other.to_lowercase()
            )));
        }
    }
    Ok(())
}

/// `["a","b"]` is exec form, everything else goes through the shell.
fn command(text: &str) -> Vec<String> {
    serde_json::from_str(text)
        .unwrap_or_else(|_| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

/// `a=b c="d e"`, or the old form `a b c`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let words = words(text);
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (key, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        return vec![(key.to_owned(), value.trim().to_owned())];
    }
    words
        .iter()
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Splits at blanks outside quotes and removes the quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', _) => word.extend(characters.next()),
            ('"' | '\'', None) => quote = Some(character),
            (mark, Some(open)) if mark == open => quote = None,
            (blank, None) if blank.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(character),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn instructions_change_the_configuration() {
        let mut config = RunConfig::default();
        let changes = [
            "CMD [\"/bin/sh\"]",
            "ENV A=1 B=\"two words\"",
            "env A 3",
            "EXPOSE 80 53/udp",
            "LABEL a=b",
            "ENTRYPOINT echo hi",
            "USER nobody",
        ]
        .map(str::to_owned);
        apply(&mut config, &changes).unwrap();
        assert_eq!(config.cmd, Some(vec!["/bin/sh".to_owned()]));
        assert_eq!(config.env, Some(vec!["B=two words".to_owned(), "A=3".to_owned()]));
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "echo hi"]);
        let ports: Vec<_> = config.exposed_ports.unwrap().into_keys().collect();
        assert_eq!(ports, ["53/udp", "80/tcp"]);
        assert_eq!(config.user.as_deref(), Some("nobody"));
    }

    #[test]
    fn other_instructions_are_refused() {
        let error = apply(&mut RunConfig::default(), &["BOGUS x".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "bogus is not a valid change command");
    }

    proptest! {
        #[test]
        fn any_line_is_an_instruction_or_refused(line in "(?i)(cmd|entrypoint|env|label|expose|volume|user|onbuild)? ?[ -~é]{0,40}") {
            let _ = apply(&mut RunConfig::default(), &[line]);
        }
    }
}
