//! What references stand for at run time: bindings by name, and the values of numbers, nodes, texts and conditions.

use std::collections::BTreeMap;

use super::diagnostic::Diagnostic;
use super::refs::{self, Expr, Piece, Segment};
use super::scalar::{FieldMatch, Node, Num, Ordered, Size};
use super::span::{At, Span};
use super::suggest::did_you_mean;

/// What steps have bound so far with `as:`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bindings {
    values: BTreeMap<String, Binding>,
}

#[derive(Debug, Clone, PartialEq)]
struct Binding {
    value: Node,
    fields: Option<Node>,
}

impl Bindings {
    /// Binds a value: `${name}`, and `${name.path}` into it.
    pub fn bind(&mut self, name: &str, value: Node) {
        self.values.insert(name.to_owned(), Binding { value, fields: None });
    }

    /// Binds a message: `${name}` is its main field, `${name.path}` goes into its fields.
    pub fn bind_message(&mut self, name: &str, main: Node, fields: Ordered<At<Node>>) {
        let fields = Some(Node::Map(fields));
        self.values.insert(name.to_owned(), Binding { value: main, fields });
    }

    /// The value of a name alone.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.values.get(name).map(|binding| &binding.value)
    }

    fn eval(&self, expr: &Expr, span: Span) -> Result<Node, Diagnostic> {
        let Some(binding) = self.values.get(&expr.name) else {
            let names = self.values.keys().map(String::as_str);
            return Err(Diagnostic::error(format!("nothing is bound to `{}`", expr.name))
                .at(span)
                .maybe_help(did_you_mean(&expr.name, names)));
        };
        match (&binding.fields, expr.path.is_empty()) {
            (Some(fields), false) => pick(fields, expr, span),
            _ => pick(&binding.value, expr, span),
        }
    }
}

/// Follows an expression's path into a value and adds its number.
pub(super) fn pick(value: &Node, expr: &Expr, span: Span) -> Result<Node, Diagnostic> {
    let mut node = value;
    for segment in &expr.path {
        let next = match (segment, node) {
            (Segment::Field(name), Node::Map(map)) => map.get(name).map(|at| &at.value),
            (Segment::Index(index), Node::List(items)) => items.get(*index).map(|at| &at.value),
            _ => None,
        };
        node = next.ok_or_else(|| {
            let what = match segment {
                Segment::Field(name) => format!("no field `{name}`"),
                Segment::Index(index) => format!("no element {index}"),
            };
            let known = match node {
                Node::Map(map) => map.keys().collect::<Vec<_>>().join(", "),
                _ => String::new(),
            };
            let error = Diagnostic::error(format!("{what} in `{expr}`")).at(span);
            match known.is_empty() {
                true => error.footer(format!("it is {node}")),
                false => error.help(format!("fields here: {known}")),
            }
        })?;
    }
    if expr.offset == 0 {
        return Ok(node.clone());
    }
    let number = as_u64(node).ok_or_else(|| {
        Diagnostic::error(format!("`{expr}` needs a number, and `{}` is `{node}`", expr.name)).at(span)
    })?;
    let sum = i128::from(number) + expr.offset;
    u64::try_from(sum)
        .map(Node::Number)
        .map_err(|_| Diagnostic::error(format!("`{expr}` is {sum}, which is not a 64-bit number")).at(span))
}

/// The number that a node is: `true` counts as 1, text in decimal or hex as its number.
pub fn as_u64(node: &Node) -> Option<u64> {
    match node {
        Node::Number(n) => Some(*n),
        Node::Bool(b) => Some(u64::from(*b)),
        Node::Text(text) => super::scalar::parse_u64(text),
        _ => None,
    }
}

/// The number.
///
/// # Errors
/// A name that is not bound, a path that leads nowhere, something that is no number; each at the number's place.
pub fn eval_num(num: &At<Num>, bindings: &Bindings) -> Result<u64, Diagnostic> {
    match &num.value {
        Num::Literal(n) => Ok(*n),
        Num::Reference(text) => {
            let node = eval_template(text, num.span, bindings)?;
            as_u64(&node)
                .ok_or_else(|| Diagnostic::error(format!("`{text}` is `{node}`, which is not a number")).at(num.span))
        }
    }
}

/// The size in bytes.
///
/// # Errors
/// As [`eval_num`].
pub fn eval_size(size: &At<Size>, bindings: &Bindings) -> Result<u64, Diagnostic> {
    let num = At {
        value: size.value.0.clone(),
        span: size.span,
    };
    eval_num(&num, bindings)
}

/// The text, its references replaced.
///
/// # Errors
/// A name that is not bound, or a path that leads nowhere.
pub fn eval_text(text: &At<String>, bindings: &Bindings) -> Result<String, Diagnostic> {
    eval_template(&text.value, text.span, bindings).map(|node| node.to_string())
}

/// The node, the references in all its texts replaced. A text that is one reference becomes what it refers to.
///
/// # Errors
/// A name that is not bound, or a path that leads nowhere.
pub fn eval_node(node: &At<Node>, bindings: &Bindings) -> Result<Node, Diagnostic> {
    let span = node.span;
    Ok(match &node.value {
        Node::Text(text) => eval_template(text, span, bindings)?,
        Node::List(items) => Node::List(items.iter().map(|n| eval_at(n, bindings)).collect::<Result<_, _>>()?),
        Node::Map(map) => {
            let entry = |(key, value): (&At<String>, &At<Node>)| Ok((key.clone(), eval_at(value, bindings)?));
            Node::Map(Ordered(map.iter().map(entry).collect::<Result<_, Diagnostic>>()?))
        }
        plain => plain.clone(),
    })
}

/// The condition, with literals in the place of references.
///
/// # Errors
/// A name that is not bound, a path that leads nowhere, a bound that is no number.
pub fn eval_match(condition: &FieldMatch, bindings: &Bindings) -> Result<FieldMatch, Diagnostic> {
    let node = |n: &Option<At<Node>>| n.as_ref().map(|n| eval_at(n, bindings)).transpose();
    let num = |n: &Option<At<Num>>| -> Result<Option<At<Num>>, Diagnostic> {
        let Some(at) = n else { return Ok(None) };
        let value = Num::Literal(eval_num(at, bindings)?);
        Ok(Some(At { value, span: at.span }))
    };
    Ok(FieldMatch {
        is: node(&condition.is)?,
        not: node(&condition.not)?,
        min: num(&condition.min)?,
        max: num(&condition.max)?,
        mask: num(&condition.mask)?,
        has: condition.has.clone(),
        lacks: condition.lacks.clone(),
        one_of: condition
            .one_of
            .iter()
            .map(|n| eval_at(n, bindings))
            .collect::<Result<_, _>>()?,
    })
}

fn eval_at(node: &At<Node>, bindings: &Bindings) -> Result<At<Node>, Diagnostic> {
    Ok(At {
        value: eval_node(node, bindings)?,
        span: node.span,
    })
}

fn eval_template(text: &str, span: Span, bindings: &Bindings) -> Result<Node, Diagnostic> {
    if !text.contains("${") {
        return Ok(Node::Text(text.to_owned()));
    }
    let pieces = refs::parse(text).map_err(|e| Diagnostic::error(e.to_string()).at(span))?;
    if let [Piece::Expr(expr)] = pieces.as_slice() {
        return bindings.eval(expr, span);
    }
    let mut out = String::new();
    for piece in &pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Expr(expr) => out.push_str(&bindings.eval(expr, span)?.to_string()),
        }
    }
    Ok(Node::Text(out))
}
