//! What a field of a payload is: its name, its place, and how it is written.

use std::fmt::Write as _;

use super::fields::{FieldError, Value};
use super::scalar::Scalar;

/// How a field's value is written in the notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// Indexes and counts.
    Decimal,
    /// Addresses, masks, flags, sizes.
    Hex,
    /// Hex digits, two a byte.
    Bytes,
    /// Records in brackets.
    List,
}

/// One field of a payload layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldSpec {
    /// The specification's name of the field.
    pub name: &'static str,
    /// Its first bit, counted from the start of the payload (of the item, in a list).
    pub offset_bits: u32,
    /// Its width; 0 when the payload's size decides.
    pub bits: u32,
    /// How it is written.
    pub base: Base,
    /// Whether it is left out of the notation while it is zero (padding, reserved bits).
    pub quiet: bool,
    /// What it means.
    pub doc: &'static str,
    /// The fields of one item, when this is a list.
    pub items: &'static [FieldSpec],
}

/// How the declaration of a layout says [`Base`] and `quiet` in one word.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Dec,
    Hex,
    Pad,
}

impl FieldSpec {
    /// A field that holds a `T`, at byte `offset`.
    pub(crate) const fn of<T: Scalar>(name: &'static str, offset: u32, style: Style, doc: &'static str) -> Self {
        let base = match style {
            _ if T::IS_BYTES => Base::Bytes,
            Style::Dec => Base::Decimal,
            Style::Hex | Style::Pad => Base::Hex,
        };
        let quiet = matches!(style, Style::Pad);
        Self {
            name,
            offset_bits: offset * 8,
            bits: T::BITS,
            base,
            quiet,
            doc,
            items: &[],
        }
    }

    /// A list of records from byte `offset` on.
    pub(crate) const fn list(name: &'static str, offset: u32, doc: &'static str, items: &'static [FieldSpec]) -> Self {
        Self {
            name,
            offset_bits: offset * 8,
            bits: 0,
            base: Base::List,
            quiet: false,
            doc,
            items,
        }
    }

    /// The bytes from byte `offset` to the end of the payload.
    pub(crate) const fn rest(name: &'static str, offset: u32, doc: &'static str) -> Self {
        Self {
            name,
            offset_bits: offset * 8,
            bits: 0,
            base: Base::Bytes,
            quiet: false,
            doc,
            items: &[],
        }
    }

    /// A number that stands in no payload.
    pub(crate) const fn number(name: &'static str) -> Self {
        Self {
            name,
            offset_bits: 0,
            bits: 64,
            base: Base::Hex,
            quiet: false,
            doc: "",
            items: &[],
        }
    }

    /// Reads `text` as this field's value: a number, or hex digits. Lists have no such form.
    pub fn parse(&self, text: &str) -> Result<Value, FieldError> {
        let (value, expected) = match self.base {
            Base::Decimal | Base::Hex => (parse_number(text).map(Value::U64), "a number"),
            Base::Bytes => (parse_bytes(text).map(Value::Bytes), "bytes as pairs of hex digits"),
            Base::List => (None, "a list in brackets"),
        };
        value.ok_or_else(|| FieldError::Text {
            field: self.name,
            text: text.to_owned(),
            expected,
        })
    }

    /// Writes `value` in this field's base.
    pub fn show(&self, value: &Value) -> String {
        let mut text = String::new();
        self.show_to(&mut text, value);
        text
    }

    /// The same, at the end of a text.
    fn show_to(&self, text: &mut String, value: &Value) {
        match (self.base, value) {
            (Base::Decimal, Value::U64(value)) => push_decimal(text, *value),
            (_, Value::U64(value)) => push_hex(text, *value),
            (_, Value::Bytes(bytes)) => {
                let end = match self.quiet {
                    true => bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1),
                    false => bytes.len(),
                };
                for byte in &bytes[..end] {
                    let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]];
                    push_ascii(text, &digits);
                }
            }
            (_, Value::List(items)) => {
                text.push('[');
                for (i, item) in items.iter().enumerate() {
                    text.push_str(if i == 0 { "{" } else { " {" });
                    show_all(text, "", self.items, item);
                    text.push('}');
                }
                text.push(']');
            }
        }
    }
}

/// Writes `name=value` for every field at the end of a text, leaving out quiet ones that are zero. `before` goes before
/// the first.
pub(crate) fn show_all<N: AsRef<str>>(text: &mut String, before: &str, specs: &[FieldSpec], fields: &[(N, Value)]) {
    let mut space = before;
    for (name, value) in fields {
        let name = name.as_ref();
        let spec = specs.iter().find(|spec| spec.name == name);
        if spec.is_some_and(|spec| spec.quiet) && value.is_zero() {
            continue;
        }
        text.push_str(space);
        text.push_str(name);
        text.push('=');
        match spec {
            Some(spec) => spec.show_to(text, value),
            None => write!(text, "{value}").expect("a String takes any text"),
        }
        space = " ";
    }
}

/// `0x1f` at the end of a text. The formatter of the standard library takes several times as long, and a recording prints
/// every message.
pub(crate) fn push_hex(text: &mut String, value: u64) {
    let mut digits = [0; 18];
    let mut at = digits.len();
    let mut rest = value;
    while at == digits.len() || rest > 0 {
        at -= 1;
        digits[at] = HEX[(rest & 0xf) as usize];
        rest >>= 4;
    }
    digits[at - 2..at].copy_from_slice(b"0x");
    push_ascii(text, &digits[at - 2..]);
}

/// `31`, likewise.
pub(crate) fn push_decimal(text: &mut String, value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    while at == digits.len() || rest > 0 {
        at -= 1;
        digits[at] = HEX[(rest % 10) as usize];
        rest /= 10;
    }
    push_ascii(text, &digits[at..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn push_ascii(text: &mut String, digits: &[u8]) {
    text.push_str(str::from_utf8(digits).expect("digits are ASCII"));
}

/// `256`, `0x100`, `0b1_0000_0000`; `None` for anything else.
fn parse_number(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    let (digits, radix) = match digits.get(..2) {
        Some("0x" | "0X") => (&digits[2..], 16),
        Some("0b" | "0B") => (&digits[2..], 2),
        _ => (&digits[..], 10),
    };
    // The standard parser would take a sign.
    digits
        .chars()
        .all(|c| c.is_digit(radix))
        .then(|| u64::from_str_radix(digits, radix).ok())?
}

/// `0011aabb`, `00:11:aa:bb`, `0011-aabb`; `None` for anything else.
fn parse_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !"-:_".contains(*c))
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits?;
    let (pairs, odd) = digits.as_chunks::<2>();
    odd.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: a number in a trace is another one.
    #[test]
    fn numbers_are_written_as_the_standard_library_does() {
        let edges = (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) - 1, !(1 << bit)]);
        for value in edges.chain([9, 10, 99, 100, 12_345, u64::MAX]) {
            let (mut hex, mut decimal) = (String::new(), String::new());
            push_hex(&mut hex, value);
            push_decimal(&mut decimal, value);
            assert_eq!((hex, decimal), (format!("{value:#x}"), value.to_string()));
        }
    }
}
