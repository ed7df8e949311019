//! The generated half of `docs/reference/scenario.md`: every step, field and value, written from the JSON Schema and so
//! from the types. Reads the schema only; the hand-written half stands above [`MARK`] in the page itself.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::model::Scenario;

/// What follows this line of the page is generated.
pub const MARK: &str = "<!-- Written from the types in src/scenario/. VUH_BLESS=1 cargo test --lib scenario::reference writes it anew. -->";
const TAKES: &str = "a String takes any text";

/// Definitions that have a section of their own: name in the schema, heading. Other structs stand where they are used.
const SECTIONS: &[(&str, &str)] = &[
    ("PeerDecl", "Peer"),
    ("FeatureChoice", "Feature choice"),
    ("MemoryDecl", "Memory"),
    ("DeliveryFault", "Delivery fault"),
    ("Answer", "Answer"),
    ("HeaderDecl", "Header"),
    ("RetryDecl", "Retry"),
    ("PciDecl", "vhost-pci peer"),
    ("ExitRule", "Exit rule"),
    ("ExpectedFail", "Expected fail"),
    ("Parameter", "Parameter"),
    ("Fragment", "Fragment"),
    ("Step", "Steps"),
    ("Check", "Checks"),
    ("Pattern", "Pattern"),
    ("Against", "Baseline"),
    ("NegotiatedCheck", "Negotiated"),
    ("News", "News"),
    ("Room", "Room"),
    ("FieldMatch", "Condition"),
];

/// Scalars: name in the schema, and how a table calls them.
const SCALARS: &[(&str, &str)] = &[
    ("Number", "number"),
    ("Duration", "duration"),
    ("Size", "size"),
    ("Decimal", "decimal"),
    ("Bytes", "hex bytes"),
    ("Value", "value"),
    ("Resends", "number or `unbounded`"),
];

/// The generated half, in Markdown.
pub fn reference_markdown() -> String {
    let schema = schemars::schema_for!(Scenario).to_value();
    let nothing = Map::new();
    let mut page = Page {
        text: String::new(),
        defs: schema["$defs"].as_object().unwrap_or(&nothing),
        shown: BTreeSet::new(),
    };
    page.heading(2, "The file");
    page.paragraph(text_of(&schema, "description"));
    page.fields(&schema);
    for name in ["ExpectedFail", "Parameter", "Fragment"] {
        page.section(3, name);
    }
    page.section(2, "PeerDecl");
    for name in [
        "FeatureChoice",
        "MemoryDecl",
        "DeliveryFault",
        "Answer",
        "HeaderDecl",
        "RetryDecl",
        "PciDecl",
        "ExitRule",
    ] {
        page.section(3, name);
    }
    page.choices("Step");
    page.choices("Check");
    page.section(2, "Pattern");
    page.section(2, "Against");
    page.section(2, "NegotiatedCheck");
    page.section(2, "News");
    page.section(2, "Room");
    page.section(2, "FieldMatch");
    page.scalars();
    page.text
}

struct Page<'a> {
    text: String,
    defs: &'a Map<String, Value>,
    /// Definitions that the page shows, for the test that none is missing.
    shown: BTreeSet<String>,
}

impl<'a> Page<'a> {
    fn heading(&mut self, level: usize, text: &str) {
        write!(self.text, "\n{} {text}\n", "#".repeat(level)).expect(TAKES);
    }

    fn paragraph(&mut self, text: &str) {
        if !text.is_empty() {
            write!(self.text, "\n{text}\n").expect(TAKES);
        }
    }

    fn definition(&mut self, name: &str) -> &'a Value {
        self.shown.insert(name.to_owned());
        self.defs.get(name).unwrap_or(&Value::Null)
    }

    /// A struct under a heading of its own.
    fn section(&mut self, level: usize, name: &str) {
        let definition = self.definition(name);
        self.heading(level, title(name));
        self.paragraph(text_of(definition, "description"));
        let fields = definition["anyOf"].as_array().and_then(|forms| forms.last());
        self.fields(fields.unwrap_or(definition));
    }

    /// A map with one key: each of its keys is a section.
    fn choices(&mut self, name: &str) {
        let definition = self.definition(name);
        self.heading(2, title(name));
        self.paragraph(text_of(definition, "description"));
        for choice in definition["oneOf"].as_array().into_iter().flatten() {
            for (key, value) in choice["properties"].as_object().into_iter().flatten() {
                self.heading(3, &format!("`{key}`"));
                self.paragraph(text_of(choice, "description"));
                self.body(value);
            }
        }
    }

    /// What stands after a step's or check's key.
    fn body(&mut self, value: &'a Value) {
        let Some(name) = reference(value) else {
            let kind = self.kind(value);
            let kind = if kind == "text" { "name" } else { &kind };
            return self.paragraph(&format!("Takes a {kind}."));
        };
        let definition = self.defs.get(name).unwrap_or(&Value::Null);
        if definition["properties"].is_object() && !is_section(name) {
            self.shown.insert(name.to_owned());
            self.fields(definition);
        } else if definition["oneOf"].is_array() && !is_section(name) {
            self.words("", name);
        } else {
            let kind = self.kind(value);
            self.paragraph(&format!("Takes a {kind}."));
        }
    }

    /// The table of a struct's fields, the needed ones first, and the words that its choices may be.
    fn fields(&mut self, definition: &'a Value) {
        let nothing = Map::new();
        let properties = definition["properties"].as_object().unwrap_or(&nothing);
        let required: Vec<&str> = definition["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut rows: Vec<(&String, &Value)> = properties.iter().collect();
        rows.sort_by_key(|(name, _)| (!required.contains(&name.as_str()), name.as_str()));
        self.text
            .push_str("\n| field | type | default | meaning |\n|---|---|---|---|\n");
        for (name, value) in &rows {
            let kind = self.kind(value);
            let need = match &value["default"] {
                _ if required.contains(&name.as_str()) => "required".to_owned(),
                Value::Null => String::new(),
                default => format!("`{default}`"),
            };
            let meaning = text_of(value, "description").replace('|', "\\|").replace('\n', " ");
            writeln!(self.text, "| `{name}` | {kind} | {need} | {meaning} |").expect(TAKES);
        }
        for (name, value) in rows {
            let choice = inner(value).filter(|inner| self.defs.get(*inner).is_some_and(|d| d["oneOf"].is_array()));
            if let Some(choice) = choice.filter(|choice| !is_section(choice)) {
                self.words(name, choice);
            }
        }
    }

    /// The words of an enumeration.
    fn words(&mut self, field: &str, name: &str) {
        let definition = self.definition(name);
        let about = text_of(definition, "description");
        match field {
            "" => self.paragraph(&format!("{about} One of:")),
            field => self.paragraph(&format!("`{field}` is one of:")),
        }
        self.text.push('\n');
        for word in definition["oneOf"].as_array().into_iter().flatten() {
            let (word, about) = (text_of(word, "const"), text_of(word, "description"));
            writeln!(self.text, "- `{word}`: {about}").expect(TAKES);
        }
    }

    /// The type of a value, in words.
    fn kind(&mut self, value: &Value) -> String {
        if let Some(forms) = value["anyOf"].as_array() {
            let form = forms.iter().find(|form| form["type"] != "null");
            return form.map_or_else(|| "value".to_owned(), |form| self.kind(form));
        }
        if let Some(name) = reference(value) {
            return self.named(name);
        }
        match simple(value) {
            "array" => format!("list of {}", self.kind(&value["items"])),
            "string" => "text".to_owned(),
            "boolean" => "true or false".to_owned(),
            other => other.to_owned(),
        }
    }

    fn named(&mut self, name: &str) -> String {
        if let Some((_, word)) = SCALARS.iter().find(|(scalar, _)| *scalar == name) {
            return format!("[{word}](#values)");
        }
        if is_section(name) {
            let heading = title(name);
            return format!(
                "[{}](#{})",
                heading.to_lowercase(),
                heading.to_lowercase().replace(' ', "-")
            );
        }
        let definition = self.definition(name);
        if name == "PatternRef" {
            return "[pattern](#pattern), or its short form `NAME` or `reply to NAME`".to_owned();
        }
        if definition["oneOf"].is_array() {
            return "word, see below".to_owned();
        }
        if let Some(value) = definition.get("additionalProperties").filter(|v| v.is_object()) {
            return format!("map of names, each to {}", with_article(&self.kind(value)));
        }
        "map".to_owned()
    }

    fn scalars(&mut self) {
        self.heading(2, "Values");
        self.text.push('\n');
        for (name, word) in SCALARS {
            let about = text_of(self.definition(name), "description");
            writeln!(self.text, "- **{word}**: {about}").expect(TAKES);
        }
    }
}

fn text_of<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn with_article(kind: &str) -> String {
    if kind.starts_with("list") {
        format!("a {kind}")
    } else {
        kind.to_owned()
    }
}

/// The definition that a value refers to.
fn reference(value: &Value) -> Option<&str> {
    value["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// The same, also behind `anyOf` with null, and for the items of a list.
fn inner(value: &Value) -> Option<&str> {
    let forms = value["anyOf"].as_array().into_iter().flatten();
    let items = value["items"].as_object().and(Some(&value["items"]));
    let items = items.or_else(|| value["anyOf"].as_array()?.iter().find_map(|form| form.get("items")));
    reference(value)
        .or_else(|| forms.filter_map(reference).next())
        .or_else(|| items.and_then(reference))
}

/// The type word, without null.
fn simple(value: &Value) -> &str {
    match &value["type"] {
        Value::String(word) => word,
        Value::Array(words) => words
            .iter()
            .filter_map(Value::as_str)
            .find(|w| *w != "null")
            .unwrap_or("value"),
        _ => "value",
    }
}

fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|(section, _)| *section == name)
}

fn title(name: &str) -> &str {
    SECTIONS
        .iter()
        .find(|(section, _)| *section == name)
        .map_or(name, |(_, title)| title)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::golden;

    /// Broken: the language reference describes a language that is no longer this one.
    #[test]
    fn the_page_is_fresh() {
        let path = "docs/reference/scenario.md";
        let page = std::fs::read_to_string(path).unwrap();
        let (by_hand, generated) = page
            .split_once(MARK)
            .expect("the page has the line that the generated half follows");
        let fresh = reference_markdown();
        if golden::blesses() {
            std::fs::write(path, format!("{by_hand}{MARK}\n{fresh}")).unwrap();
        } else {
            let said = generated.strip_prefix('\n').unwrap_or(generated);
            assert!(
                said == fresh,
                "VUH_BLESS=1 cargo test --lib scenario::reference rewrites {path}"
            );
        }
    }

    /// Broken: a part of the language is missing from its reference.
    #[test]
    fn every_definition_is_shown() {
        let schema = schemars::schema_for!(Scenario).to_value();
        let page = reference_markdown();
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            let Some(properties) = definition["properties"].as_object() else {
                continue;
            };
            for field in properties.keys() {
                assert!(page.contains(&format!("| `{field}` |")), "{name}.{field}");
            }
        }
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            for word in definition["oneOf"].as_array().into_iter().flatten() {
                if let Some(word) = word["const"].as_str() {
                    assert!(page.contains(&format!("- `{word}`: ")), "{name}: {word}");
                }
            }
        }
    }
}
