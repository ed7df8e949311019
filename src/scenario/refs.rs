//! References in text: `${name}`, `${name + 1}`, `${name.field[0].size}`. Parses; looks nothing up.

use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// `.name`.
    Field(String),
    /// `[3]`.
    Index(usize),
}

/// What stands between `${` and `}`: a name, a path into it, and a number added or subtracted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expr {
    /// The parameter or binding.
    pub name: String,
    /// The path into its value.
    pub path: Vec<Segment>,
    /// Added to the number found there.
    pub offset: i128,
}

/// A piece of a text with references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// To be replaced.
    Expr(Expr),
}

/// Why a text with `${` is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    /// No closing brace.
    #[error("`${{` without `}}`")]
    Unclosed,
    /// Nothing or not a name where one must be.
    #[error("`{text}` is not a reference; write `${{name}}`, `${{name + 1}}` or `${{name.field[0]}}`")]
    Malformed {
        /// The reference as written.
        text: String,
    },
}

/// Longest path of one reference.
pub const MAX_SEGMENTS: usize = 16;

/// Splits a text into plain pieces and references.
pub fn parse(text: &str) -> Result<Vec<Piece>, RefError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if start > 0 {
            pieces.push(Piece::Text(rest[..start].to_owned()));
        }
        let inside = &rest[start + 2..];
        let end = inside.find('}').ok_or(RefError::Unclosed)?;
        pieces.push(Piece::Expr(Expr::parse(&inside[..end])?));
        rest = &inside[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

impl Expr {
    /// Reads what stands between the braces.
    pub fn parse(text: &str) -> Result<Self, RefError> {
        let wrong = || RefError::Malformed {
            text: format!("${{{text}}}"),
        };
        let (path, offset) = match text.find(['+', '-']).filter(|at| is_operator(text, *at)) {
            Some(at) => {
                let number = super::scalar::parse_u64(&text[at + 1..]).ok_or_else(wrong)?;
                let sign = if text[at..].starts_with('-') { -1 } else { 1 };
                (&text[..at], sign * i128::from(number))
            }
            None => (text, 0),
        };
        let mut chars = path.trim();
        let name = take_name(&mut chars).ok_or_else(wrong)?;
        let mut segments = Vec::new();
        while !chars.is_empty() {
            if segments.len() == MAX_SEGMENTS {
                return Err(wrong());
            }
            if let Some(rest) = chars.strip_prefix('.') {
                chars = rest;
                segments.push(Segment::Field(take_name(&mut chars).ok_or_else(wrong)?));
            } else {
                let rest = chars.strip_prefix('[').ok_or_else(wrong)?;
                let (index, rest) = rest.split_once(']').ok_or_else(wrong)?;
                segments.push(Segment::Index(index.trim().parse().map_err(|_| wrong())?));
                chars = rest;
            }
        }
        Ok(Self {
            name,
            path: segments,
            offset,
        })
    }
}

/// A `-` inside a name (`ring-size`) is no operator: an operator has a space before it or a digit right behind it, and
/// no letter.
fn is_operator(text: &str, at: usize) -> bool {
    text[..at].ends_with(char::is_whitespace) || text[at..].starts_with('+')
}

fn take_name(text: &mut &str) -> Option<String> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    *text = rest;
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        .then(|| name.to_owned())
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "${{{}", self.name)?;
        for segment in &self.path {
            match segment {
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        match self.offset {
            0 => {}
            n if n > 0 => write!(f, " + {n}")?,
            n => write!(f, " - {}", n.unsigned_abs())?,
        }
        f.write_str("}")
    }
}
