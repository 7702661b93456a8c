//! Tokens as a tree.

use std::collections::VecDeque;

use serde_json::Value;

use super::lexer::Token;
use super::number;

/// Actions within one another, and parentheses: deeper ones are nobody's intention, and would use up the stack.
const MAX_DEPTH: usize = 100;

/// A part of a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    /// Prints its value, or only sets a variable.
    Print(Pipeline),
    If {
        when: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        of: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipeline,
        each: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// Commands of which each gets the value of the one before as its last argument.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// `$i, $x := …`
    pub(super) variables: Vec<String>,
    /// `=` instead of `:=`.
    pub(super) is_assignment: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

/// A value and the fields of it.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Function(String),
    Literal(Value),
    Group(Box<Pipeline>),
}

/// Builds the tree.
pub(super) fn parse(tokens: Vec<Token>) -> Result<Vec<Node>, String> {
    let mut parser = Parser { tokens: tokens.into(), depth: 0 };
    let (nodes, end) = parser.list()?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::Else => Err("unexpected {{else}}".to_owned()),
        Stop::End => Err("unexpected {{end}}".to_owned()),
    }
}

/// What a list of nodes ended with.
enum Stop {
    Text,
    Else,
    End,
}

struct Parser {
    tokens: VecDeque<Token>,
    depth: usize,
}

impl Parser {
    fn list(&mut self) -> Result<(Vec<Node>, Stop), String> {
        self.deeper()?;
        let mut nodes = Vec::new();
        let end = loop {
            match self.tokens.pop_front() {
                None => break Stop::Text,
                Some(Token::Text(text)) => nodes.push(Node::Text(text)),
                Some(_) => match self.keyword().as_deref() {
                    Some("end") => {
                        self.close("end")?;
                        break Stop::End;
                    }
                    // What follows decides whether it is an `else if`.
                    Some("else") => break Stop::Else,
                    Some("if") => {
                        nodes.push(self.branch(|when, then, otherwise| Node::If { when, then, otherwise })?)
                    }
                    Some("with") => {
                        nodes.push(self.branch(|of, then, otherwise| Node::With { of, then, otherwise })?)
                    }
                    Some("range") => {
                        nodes.push(self.branch(|over, each, otherwise| Node::Range {
                            over,
                            each,
                            otherwise,
                        })?);
                    }
                    Some(word) => return Err(format!("{{{{{word}}}}} is not supported")),
                    None => {
                        let pipeline = self.pipeline("command")?;
                        self.close("command")?;
                        nodes.push(Node::Print(pipeline));
                    }
                },
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err("too many levels within one another".to_owned()) } else { Ok(()) }
    }

    fn keyword(&mut self) -> Option<String> {
        const KEYWORDS: [&str; 10] =
            ["if", "else", "end", "range", "with", "define", "template", "block", "break", "continue"];
        match self.tokens.front() {
            Some(Token::Word(word)) if KEYWORDS.contains(&word.as_str()) => {
                let word = word.clone();
                self.tokens.pop_front();
                Some(word)
            }
            _ => None,
        }
    }

    fn close(&mut self, context: &str) -> Result<(), String> {
        match self.tokens.pop_front() {
            Some(Token::Close) => Ok(()),
            other => Err(format!("unexpected {} in {context}", shown(other.as_ref()))),
        }
    }

    fn branch(&mut self, node: fn(Pipeline, Vec<Node>, Vec<Node>) -> Node) -> Result<Node, String> {
        let pipeline = self.pipeline("action")?;
        self.close("action")?;
        let (then, end) = self.list()?;
        let otherwise = match end {
            Stop::End => Vec::new(),
            Stop::Text => return Err("unexpected EOF".to_owned()),
            Stop::Else => self.otherwise()?,
        };
        Ok(node(pipeline, then, otherwise))
    }

    /// Behind `{{else`.
    fn otherwise(&mut self) -> Result<Vec<Node>, String> {
        self.deeper()?;
        let nodes = match self.keyword().as_deref() {
            Some("if") => vec![self.branch(|when, then, otherwise| Node::If { when, then, otherwise })?],
            Some("with") => vec![self.branch(|of, then, otherwise| Node::With { of, then, otherwise })?],
            Some(word) => return Err(format!("unexpected {{{{else {word}}}}}")),
            None => {
                self.close("else")?;
                let (nodes, end) = self.list()?;
                if !matches!(end, Stop::End) {
                    return Err("expected end; found {{else}} or EOF".to_owned());
                }
                nodes
            }
        };
        self.depth -= 1;
        Ok(nodes)
    }

    fn pipeline(&mut self, context: &str) -> Result<Pipeline, String> {
        self.deeper()?;
        let (variables, is_assignment) = self.declaration();
        let mut commands = vec![self.command()?];
        while self.tokens.front() == Some(&Token::Sign("|")) {
            self.tokens.pop_front();
            commands.push(self.command()?);
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(format!("missing value for {context}"));
        }
        if commands.iter().skip(1).any(|command| !matches!(command[0].base, Base::Function(_))) {
            return Err("non executable command in pipeline".to_owned());
        }
        self.depth -= 1;
        Ok(Pipeline { variables, is_assignment, commands })
    }

    /// `$x :=`, `$i, $x :=`, `$x =`; nothing is taken if it is none.
    fn declaration(&mut self) -> (Vec<String>, bool) {
        let sign = |token: Option<&Token>| match token {
            Some(Token::Sign(sign @ (":=" | "="))) => Some(*sign == "="),
            _ => None,
        };
        let variable = |token: Option<&Token>| match token {
            Some(Token::Variable(name)) => Some(name.clone()),
            _ => None,
        };
        let at = |index| self.tokens.get(index);
        let (names, is_assignment) = match (variable(at(0)), variable(at(2))) {
            (Some(first), Some(second)) if at(1) == Some(&Token::Sign(",")) => match sign(at(3)) {
                Some(is_assignment) => (vec![first, second], is_assignment),
                None => return (Vec::new(), false),
            },
            (Some(first), _) => match sign(at(1)) {
                Some(is_assignment) => (vec![first], is_assignment),
                None => return (Vec::new(), false),
            },
            _ => return (Vec::new(), false),
        };
        self.tokens.drain(..names.len() * 2);
        (names, is_assignment)
    }

    fn command(&mut self) -> Result<Vec<Operand>, String> {
        let mut operands = Vec::new();
        while !matches!(self.tokens.front(), None | Some(Token::Close | Token::Sign("|" | ")"))) {
            operands.push(self.operand()?);
        }
        Ok(operands)
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let mut fields = Vec::new();
        let base = match self.tokens.pop_front() {
            Some(Token::Field { name, .. }) => {
                fields.extend(Some(name).filter(|name| !name.is_empty()));
                Base::Dot
            }
            Some(Token::Variable(name)) => Base::Variable(name),
            Some(Token::Quoted(text)) => Base::Literal(Value::String(text)),
            Some(Token::Number(digits)) => Base::Literal(number::parse(&digits)?),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Null),
                _ => Base::Function(word),
            },
            Some(Token::Sign("(")) => {
                let group = self.pipeline("parenthesized pipeline")?;
                match self.tokens.pop_front() {
                    Some(Token::Sign(")")) => Base::Group(Box::new(group)),
                    _ => return Err("unclosed left paren".to_owned()),
                }
            }
            other => return Err(format!("unexpected {} in operand", shown(other.as_ref()))),
        };
        while let Some(Token::Field { name, joined: true }) = self.tokens.front() {
            if name.is_empty() {
                return Err("unexpected <.> in operand".to_owned());
            }
            fields.push(name.clone());
            self.tokens.pop_front();
        }
        Ok(Operand { base, fields })
    }
}

fn shown(token: Option<&Token>) -> String {
    match token {
        None => "EOF".to_owned(),
        Some(Token::Text(text) | Token::Quoted(text)) => format!("{text:?}"),
        Some(Token::Open) => "\"{{\"".to_owned(),
        Some(Token::Close) => "\"}}\"".to_owned(),
        Some(Token::Field { name, .. }) => format!("<.{name}>"),
        Some(Token::Variable(name)) => format!("<${name}>"),
        Some(Token::Word(word) | Token::Number(word)) => format!("<{word}>"),
        Some(Token::Sign(sign)) => format!("{sign:?}"),
    }
}
