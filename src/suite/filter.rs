//! Filter expressions: which of the selected scenarios to keep. Parsed by descent; an error points at its place.

use std::path::PathBuf;

use super::glob;
use super::peers;
use crate::scenario::span::Span;
use crate::scenario::suggest::did_you_mean;
use crate::scenario::{Diagnostic, Diagnostics, Plan, SourceFile};

/// The grammar, as the help prints it.
pub const HELP: &str = "\
Filter expressions:
  WORD             the id contains WORD
  id(GLOB)         the id matches, `*` is any run of characters
  tag(GLOB)        one of the scenario's tags matches
  covers(GLOB)     it gives evidence for a requirement, as in covers(VU-CFG-*)
  peer(GLOB)       one of its peers is of this kind: simulated, reference, qemu, ...
  not A, A and B, A or B, ( A )     `not` binds closest, then `and`, then `or`";

/// Bytes of an expression, at most.
const LENGTH_MAX: usize = 4096;

/// Parentheses and `not` inside each other, at most.
const DEPTH_MAX: usize = 64;

const FUNCTIONS: [&str; 4] = ["id", "tag", "covers", "peer"];

/// A parsed expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: String,
    expr: Expr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expr {
    Contains(String),
    Id(String),
    Tag(String),
    Covers(String),
    Peer(String),
    Not(Box<Expr>),
    All(Vec<Expr>),
    Any(Vec<Expr>),
}

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong, with a caret.
    pub fn parse(text: &str) -> Result<Self, Diagnostics> {
        let whole = if text.len() > LENGTH_MAX {
            Err(Problem {
                at: 0,
                len: 1,
                message: format!("longer than {LENGTH_MAX} bytes"),
                help: None,
            })
        } else {
            tokens(text).and_then(|tokens| {
                Parser {
                    tokens,
                    next: 0,
                    end: text.len(),
                }
                .whole()
            })
        };
        match whole {
            Ok(expr) => Ok(Self {
                text: text.to_owned(),
                expr,
            }),
            Err(problem) => Err(problem.diagnostics(text)),
        }
    }

    /// Whether a scenario is kept.
    pub fn matches(&self, plan: &Plan) -> bool {
        self.expr.matches(plan)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Expr {
    fn matches(&self, plan: &Plan) -> bool {
        match self {
            Expr::Contains(word) => plan.id.contains(word.as_str()),
            Expr::Id(pattern) => {
                let family = plan.id.split('[').next().unwrap_or(&plan.id);
                glob::matches(pattern, &plan.id) || glob::matches(pattern, family)
            }
            Expr::Tag(pattern) => plan.scenario.tags.iter().any(|tag| glob::matches(pattern, tag)),
            Expr::Covers(pattern) => {
                let pattern = pattern.to_uppercase();
                plan.scenario
                    .covers
                    .iter()
                    .any(|id| glob::matches(&pattern, &id.to_uppercase()))
            }
            Expr::Peer(pattern) => peers::declared(plan)
                .iter()
                .any(|peer| glob::matches(pattern, &peer.kind)),
            Expr::Not(inner) => !inner.matches(plan),
            Expr::All(parts) => parts.iter().all(|part| part.matches(plan)),
            Expr::Any(parts) => parts.iter().any(|part| part.matches(plan)),
        }
    }
}

#[derive(Debug)]
struct Problem {
    at: usize,
    len: usize,
    message: String,
    help: Option<String>,
}

impl Problem {
    fn diagnostics(self, text: &str) -> Diagnostics {
        // a caret needs something to stand under, also where the expression ends too early
        let shown: String = if self.at >= text.len() {
            format!("{text} ")
        } else {
            text.to_owned()
        };
        let column = shown[..self.at].chars().count() + 1;
        let position = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let span = Span {
            source: 0,
            line: 1,
            column: position(column),
            offset: position(self.at),
            len: position(self.len),
        };
        let help = self
            .help
            .unwrap_or_else(|| "`vuh run --help` shows the grammar".to_owned());
        let item = Diagnostic::error(format!("filter expression: {}", self.message))
            .at(span)
            .help(help);
        let source = SourceFile {
            path: PathBuf::from("--filter"),
            text: shown.into(),
            used_at: None,
        };
        Diagnostics {
            items: vec![item],
            sources: vec![source],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TokenKind {
    Open,
    Close,
    And,
    Or,
    Not,
    Word(String),
    /// Name and argument.
    Call(String, String),
}

#[derive(Debug, Clone)]
struct Token {
    kind: TokenKind,
    at: usize,
    len: usize,
}

fn tokens(text: &str) -> Result<Vec<Token>, Problem> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (kind, len) = match c {
            '(' => (TokenKind::Open, 1),
            ')' => (TokenKind::Close, 1),
            _ => word(text, at)?,
        };
        tokens.push(Token { kind, at, len });
        at += len;
    }
    Ok(tokens)
}

fn word(text: &str, at: usize) -> Result<(TokenKind, usize), Problem> {
    let rest = &text[at..];
    let len = rest
        .find(|c: char| c.is_whitespace() || c == '(' || c == ')')
        .unwrap_or(rest.len());
    let word = &rest[..len];
    match word {
        "and" => return Ok((TokenKind::And, len)),
        "or" => return Ok((TokenKind::Or, len)),
        "not" => return Ok((TokenKind::Not, len)),
        _ => {}
    }
    if !rest[len..].starts_with('(') {
        return Ok((TokenKind::Word(word.to_owned()), len));
    }
    if !FUNCTIONS.contains(&word) {
        let help = did_you_mean(word, FUNCTIONS).unwrap_or_else(|| format!("there are {}", FUNCTIONS.join(", ")));
        return Err(Problem {
            at,
            len,
            message: format!("no predicate is called `{word}`"),
            help: Some(help),
        });
    }
    let Some(close) = rest.find(')') else {
        return Err(Problem {
            at: at + len,
            len: 1,
            message: "this parenthesis is not closed".into(),
            help: None,
        });
    };
    let argument = rest[len + 1..close].trim();
    if argument.is_empty() {
        return Err(Problem {
            at,
            len: close + 1,
            message: format!("`{word}()` needs a pattern"),
            help: None,
        });
    }
    Ok((TokenKind::Call(word.to_owned(), argument.to_owned()), close + 1))
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    end: usize,
}

impl Parser {
    fn whole(mut self) -> Result<Expr, Problem> {
        let expr = self.any(0)?;
        match self.tokens.get(self.next) {
            None => Ok(expr),
            Some(token) => Err(self.unexpected(Some(token.clone()), "`and` or `or`")),
        }
    }

    fn any(&mut self, depth: usize) -> Result<Expr, Problem> {
        let mut parts = vec![self.all(depth)?];
        while self.take(&TokenKind::Or) {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 {
            parts.remove(0)
        } else {
            Expr::Any(parts)
        })
    }

    fn all(&mut self, depth: usize) -> Result<Expr, Problem> {
        let mut parts = vec![self.one(depth)?];
        while self.take(&TokenKind::And) {
            parts.push(self.one(depth)?);
        }
        Ok(if parts.len() == 1 {
            parts.remove(0)
        } else {
            Expr::All(parts)
        })
    }

    fn one(&mut self, depth: usize) -> Result<Expr, Problem> {
        let token = self.tokens.get(self.next).cloned();
        if depth > DEPTH_MAX {
            let at = token.map_or(self.end, |t| t.at);
            return Err(Problem {
                at,
                len: 1,
                message: format!("nested deeper than {DEPTH_MAX}"),
                help: None,
            });
        }
        self.next += 1;
        match token.as_ref().map(|t| &t.kind) {
            Some(TokenKind::Not) => Ok(Expr::Not(Box::new(self.one(depth + 1)?))),
            Some(TokenKind::Word(word)) => Ok(Expr::Contains(word.clone())),
            Some(TokenKind::Call(name, pattern)) => Ok(match name.as_str() {
                "id" => Expr::Id(pattern.clone()),
                "tag" => Expr::Tag(pattern.clone()),
                "covers" => Expr::Covers(pattern.clone()),
                _ => Expr::Peer(pattern.clone()),
            }),
            Some(TokenKind::Open) => {
                let inner = self.any(depth + 1)?;
                if self.take(&TokenKind::Close) {
                    return Ok(inner);
                }
                Err(self.unexpected(self.tokens.get(self.next).cloned(), "`)`"))
            }
            _ => Err(self.unexpected(token, "a word or a predicate")),
        }
    }

    fn take(&mut self, kind: &TokenKind) -> bool {
        let here = self.tokens.get(self.next).is_some_and(|t| t.kind == *kind);
        self.next += usize::from(here);
        here
    }

    fn unexpected(&self, token: Option<Token>, wanted: &str) -> Problem {
        match token {
            Some(token) => Problem {
                at: token.at,
                len: token.len,
                message: format!("expected {wanted} here"),
                help: None,
            },
            None => Problem {
                at: self.end,
                len: 1,
                message: format!("it ends where {wanted} is expected"),
                help: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::testing::plan;

    fn keeps(filter: &str) -> bool {
        Filter::parse(filter).unwrap_or_else(|e| panic!("{e}")).matches(&plan(
            "backend/blk/read[n=2]",
            "qemu",
            "simulated",
        ))
    }

    fn error(filter: &str) -> String {
        Filter::parse(filter).unwrap_err().to_string()
    }

    /// Broken: a filter keeps or drops the wrong scenarios.
    #[test]
    fn predicates_and_precedence() {
        for yes in [
            "blk",
            "id(backend/*)",
            "id(backend/blk/read)",
            "id(*[n=2])",
            "tag(quick)",
            "covers(vu-cfg-*)",
            "peer(qemu) and not peer(reference)",
            "zzz or blk and quick or tag(q*)",
            "not not blk",
            "not (zzz or tag(slow))",
            "zzz and zzz or blk",
        ] {
            assert!(keeps(yes), "{yes}");
        }
        for no in [
            "zzz",
            "id(blk)",
            "tag(slow)",
            "covers(VU-CFG-03)",
            "peer(q)",
            "not blk or zzz",
            "blk and (zzz or zzz)",
        ] {
            assert!(!keeps(no), "{no}");
        }
    }

    /// Broken: a wrong filter is accepted, or its error does not say where.
    #[test]
    fn errors_have_a_caret() {
        assert_eq!(
            error("tag(a) covrs(b)"),
            "error: filter expression: no predicate is called `covrs`\n --> --filter:1:8\n  |\n1 | tag(a) covrs(b)\n  |        ^^^^^\n  |\n  \
             = help: did you mean `covers`?\n"
        );
        for (text, message) in [
            ("", "it ends where a word or a predicate is expected"),
            ("a and", "it ends where a word or a predicate is expected"),
            ("a b", "expected `and` or `or` here"),
            ("(a", "it ends where `)` is expected"),
            ("a)", "expected `and` or `or` here"),
            ("or a", "expected a word or a predicate here"),
            ("tag(a", "this parenthesis is not closed"),
            ("tag( )", "`tag()` needs a pattern"),
        ] {
            assert!(error(text).contains(message), "{text}: {}", error(text));
        }
    }

    /// Broken: a hostile expression overflows the stack.
    #[test]
    fn depth_and_length_are_bounded() {
        assert!(error(&"(".repeat(4000)).contains("nested deeper"));
        assert!(error(&"not ".repeat(1000)).contains("nested deeper"));
        assert!(error(&"a".repeat(5000)).contains("longer than"));
    }
}
