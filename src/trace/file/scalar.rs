//! Text as a YAML scalar on one line, within braces: plain where that is safe, otherwise in double quotes.

use std::fmt::Write as _;

/// Characters of a text that did not come off the wire; longer ones are cut.
const TEXT_CHARS_MAX: usize = 2000;

/// Words that YAML of one version or another takes for something else than text.
const RESERVED: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// `text` as it stands in a flow mapping.
pub(super) fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// The same of a text that somebody else chose the length of.
pub(super) fn bounded(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => scalar(&format!("{} …", &text[..end])),
        None => scalar(text),
    }
}

/// Makes a scalar of what stands in `line` from `start` on.
pub(super) fn finish(line: &mut String, start: usize) {
    if !is_plain(&line[start..]) {
        let quoted = quoted(&line[start..]);
        line.truncate(start);
        line.push_str(&quoted);
    }
}

/// The bytes that may stand anywhere in a plain scalar.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] = matches!(byte as u8, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
            || matches!(
                byte as u8,
                b' ' | b'_' | b'-' | b'.' | b'/' | b'=' | b'+' | b'!' | b'%' | b'(' | b')' | b'<' | b'>'
            );
        byte += 1;
    }
    plain
};

fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_word = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
    // a colon within a word is harmless, one at its end makes a key
    let fits = |(at, byte): (usize, &u8)| match byte {
        b':' => is_word(at + 1),
        byte => PLAIN[usize::from(*byte)],
    };
    let is_reserved = || RESERVED.iter().any(|word| word.eq_ignore_ascii_case(text));
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && bytes.iter().enumerate().all(fits)
        && !is_reserved()
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            _ if (c as u32) < 0x1_0000 => write!(out, "\\u{:04x}", c as u32).expect("a String takes any text"),
            _ => write!(out, "\\U{:08x}", c as u32).expect("a String takes any text"),
        }
    }
    out.push('"');
    out
}

/// Bytes as pairs of hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes any text");
            text
        })
}

/// The bytes that [`hex`] wrote.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits?;
    let (pairs, odd) = digits.as_chunks::<2>();
    odd.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
