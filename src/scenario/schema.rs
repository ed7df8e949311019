//! The JSON Schema of scenario files, for editors; checked in at `docs/reference/scenario.schema.json`.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::model::Scenario;

/// The schema as JSON text.
pub fn scenario_schema() -> String {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Scenario>().to_value();
    without_null(&mut schema);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}

/// A field that may be left out is not one that may be `null`, which the generator takes for the same.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(map) => {
            map.retain(|key, value| key != "default" || !value.is_null());
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    map.extend(only);
                }
            }
            map.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::sys::golden;

    /// An editor accepts a key without a value, which the harness refuses.
    #[test]
    fn nothing_may_be_null() {
        let schema = super::scenario_schema();
        let nulls: Vec<_> = schema
            .lines()
            .filter(|line| line.contains("null"))
            .map(str::trim)
            .collect();
        // the name of a kind of descriptor
        assert_eq!(nulls, ["\"const\": \"null\",", "\"description\": \"/dev/null.\","]);
    }

    /// Editors check scenarios against a language that is no longer this one.
    #[test]
    fn the_checked_in_schema_is_fresh() {
        golden::check(
            "docs/reference/scenario.schema.json",
            &super::scenario_schema(),
            "--lib scenario::",
        );
    }
}
