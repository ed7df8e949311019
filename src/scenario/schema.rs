//! The JSON Schema of scenario files, for editors; checked in at `docs/reference/scenario.schema.json`.

use super::model::Scenario;

/// The schema as JSON text.
pub fn scenario_schema() -> String {
    let schema = schemars::schema_for!(Scenario);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    /// Editors check scenarios against a language that is no longer this one.
    #[test]
    fn the_checked_in_schema_is_fresh() {
        let path = "docs/reference/scenario.schema.json";
        let schema = super::scenario_schema();
        if std::env::var_os("VUH_BLESS").is_some() {
            std::fs::create_dir_all("docs/reference").unwrap();
            std::fs::write(path, &schema).unwrap();
        }
        let fresh = std::fs::read_to_string(path).unwrap_or_default() == schema;
        assert!(fresh, "VUH_BLESS=1 cargo test rewrites {path}");
    }
}
