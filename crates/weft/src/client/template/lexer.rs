//! Text in tokens: what stands between the braces, and what does not.

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// What is printed as it is.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `.`, `.a` and each further `.b` of a chain; empty is the dot alone. `joined`: directly behind what came before.
    Field {
        name: String,
        joined: bool,
    },
    /// `$x`; empty is `$` alone.
    Variable(String),
    /// A function or a keyword.
    Word(String),
    /// A string.
    Quoted(String),
    Number(String),
    /// `|`, `(`, `)`, `,`, `:=`, `=`
    Sign(&'static str),
}

const SIGNS: [&str; 6] = [":=", "=", "|", "(", ")", ","];

/// Splits a template.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let before = if trim { before.trim_start() } else { before };
        let trims_left = after.is_some_and(|a| a.starts_with('-') && a[1..].starts_with(char::is_whitespace));
        let before = if trims_left { before.trim_end() } else { before };
        if !before.is_empty() {
            found.push(Token::Text(before.to_owned()));
        }
        let Some(after) = after else { return Ok(found) };
        let (left, trims_right) = action(if trims_left { &after[1..] } else { after }, &mut found)?;
        (rest, trim) = (left, trims_right);
    }
}

/// One action up to its end; what follows, and whether blanks before that go.
fn action<'a>(text: &'a str, found: &mut Vec<Token>) -> Result<(&'a str, bool), String> {
    if let Some(comment) = text.trim_start().strip_prefix("/*") {
        let (_, after) = comment.split_once("*/").ok_or("unclosed comment")?;
        return end(after.trim_start()).ok_or_else(|| "comment ends before closing delimiter".to_owned());
    }
    found.push(Token::Open);
    let mut rest = text;
    loop {
        let here = rest.trim_start();
        let blank = here.len() < rest.len();
        let closing = if blank { end(here) } else { here.strip_prefix("}}").map(|after| (after, false)) };
        if let Some(closing) = closing {
            found.push(Token::Close);
            return Ok(closing);
        }
        let joined = !blank && !matches!(found.last(), Some(Token::Open));
        rest = token(here, joined, found)?;
    }
}

/// What follows an action's end, and whether blanks go.
fn end(text: &str) -> Option<(&str, bool)> {
    match text.strip_prefix("-}}") {
        Some(after) => Some((after, true)),
        None => text.strip_prefix("}}").map(|after| (after, false)),
    }
}

fn token<'a>(text: &'a str, joined: bool, found: &mut Vec<Token>) -> Result<&'a str, String> {
    let first = text.chars().next().ok_or("unclosed action")?;
    let name_of = |text: &'a str| {
        let length = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        text.split_at(length)
    };
    if let Some(sign) = SIGNS.iter().find(|sign| text.starts_with(**sign)) {
        found.push(Token::Sign(sign));
        return Ok(&text[sign.len()..]);
    }
    let (token, rest) = match first {
        '"' => quoted(text)?,
        '`' => {
            let (raw, rest) = text[1..].split_once('`').ok_or("unterminated raw quoted string")?;
            (Token::Quoted(raw.to_owned()), rest)
        }
        '.' => {
            let (name, rest) = name_of(&text[1..]);
            (Token::Field { name: name.to_owned(), joined }, rest)
        }
        '$' => {
            let (name, rest) = name_of(&text[1..]);
            (Token::Variable(name.to_owned()), rest)
        }
        '0'..='9' | '+' | '-' => {
            let length = text[1..].find(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_'));
            let (number, rest) = text.split_at(length.map_or(text.len(), |length| length + 1));
            (Token::Number(number.to_owned()), rest)
        }
        c if c.is_alphabetic() || c == '_' => {
            let (name, rest) = name_of(text);
            (Token::Word(name.to_owned()), rest)
        }
        other => return Err(format!("unexpected {other:?} in command")),
    };
    found.push(token);
    Ok(rest)
}

/// A string with Go's escapes.
fn quoted(text: &str) -> Result<(Token, &str), String> {
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((Token::Quoted(value), &text[at + 1..])),
            '\n' => break,
            '\\' => match letters.next().map(|(_, escaped)| escaped) {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some('r') => value.push('\r'),
                Some(c @ ('"' | '\\' | '\'')) => value.push(c),
                other => return Err(format!("bad escape in a quoted string: \\{}", other.unwrap_or(' '))),
            },
            other => value.push(other),
        }
    }
    Err("unterminated quoted string".to_owned())
}
