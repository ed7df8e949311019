//! `vuh schema`: the JSON Schema of scenario files. The same text is checked in for editors.

use super::exit::Exit;
use crate::report::Console;
use crate::scenario::model::Scenario;

/// The schema, ending in a newline.
fn text() -> String {
    let schema = schemars::schema_for!(Scenario);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is a tree of plain values");
    text.push('\n');
    text
}

pub(super) fn run(out: &mut Console) -> Exit {
    out.text(text());
    Exit::Passed
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Broken: the checked-in schema is not the one of the types; VUH_BLESS=1 writes it anew.
    #[test]
    fn the_checked_in_schema_is_fresh() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/scenario.schema.json");
        crate::report::golden::check_file(&path, &super::text());
    }
}
