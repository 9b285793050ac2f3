//! The JSON schema of a config file in TOML or JSON, for editors.

use serde_json::{Map, Value as Json, json};

use crate::kind::Kind;
use crate::table::{ABSENT, HOOKS, TABLE};

/// The schema, draft 7, as indented JSON.
pub fn schema() -> String {
    let settings = TABLE.iter().map(|row| {
        let mut property = shape(row.kind);
        property["description"] = row.details.into();
        if !row.default.is_none_or(str::is_empty) {
            property["default"] = row.default_value();
        }
        (row.name.to_string(), property)
    });
    let absent = ABSENT.iter().map(|row| {
        let property = json!({ "description": row.sentence(), "deprecated": true });
        (row.name.to_string(), property)
    });
    let hooks = HOOKS.iter().map(|hook| {
        let property = json!({
            "type": "string",
            "description": "The import path of a function, as in module:function.",
        });
        (hook.name.to_string(), property)
    });
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Settings of serve",
        "type": "object",
        "properties": settings.chain(hooks).chain(absent).collect::<Map<_, _>>(),
        "additionalProperties": false,
    });
    format!("{schema:#}\n")
}

fn shape(kind: Kind) -> Json {
    let text = json!({ "type": "string", "minLength": 1 });
    let number =
        |least: u64, most: u64| json!({ "type": "integer", "minimum": least, "maximum": most });
    let texts = json!({ "type": "array", "items": text });
    match kind {
        Kind::Text => text,
        Kind::List | Kind::Items => json!({ "anyOf": [text, texts] }),
        Kind::Pairs => {
            let pair = json!({ "type": "string", "pattern": "^[^=]+=" });
            json!({ "anyOf": [pair, { "type": "array", "items": pair }] })
        }
        Kind::Table => {
            let table = json!({ "type": "object", "additionalProperties": text });
            json!({ "anyOf": [text, texts, table] })
        }
        Kind::Object => json!({ "type": "object" }),
        Kind::Switch => json!({ "type": "boolean" }),
        Kind::Count { least, most } => number(least, most),
        Kind::Workers => {
            let most = crate::settings::Workers::MOST.into();
            json!({ "anyOf": [number(1, most), { "const": "auto" }] })
        }
        Kind::Seconds { least } => {
            let seconds = json!({ "type": "number", "minimum": least.as_secs_f64() });
            let with_unit = "^ *[0-9.]+ *(ms|s|m|h)? *$";
            json!({ "anyOf": [seconds, { "type": "string", "pattern": with_unit }] })
        }
        Kind::Size => {
            let bytes = json!({ "type": "integer", "minimum": 0 });
            json!({ "anyOf": [bytes, { "type": "string", "pattern": "^ *[0-9]+ *[kKmMgG]? *$" }] })
        }
        Kind::Mode => {
            let octal = json!({ "type": "string", "pattern": "^ *(0o)?[0-7]+ *$" });
            json!({ "anyOf": [octal, number(0, 0o777)] })
        }
        Kind::Account => json!({ "anyOf": [text, number(0, u32::MAX.into())] }),
        Kind::Class | Kind::Choice { .. } => json!({ "enum": kind.words() }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_committed_schema_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/serve.schema.json");
        let committed = fs::read_to_string(path).unwrap_or_default();
        assert!(committed == schema(), "docs/reference/serve.schema.json: `make gen`");
    }

    #[test]
    fn every_setting_has_a_shape() {
        let schema: Json = serde_json::from_str(&schema()).unwrap();
        for row in TABLE {
            let property = &schema["properties"][row.name];
            let shaped = ["type", "anyOf", "enum"].iter().any(|key| property.get(key).is_some());
            assert!(shaped, "{}: {property}", row.name);
        }
        assert_eq!(schema["properties"]["workers"]["default"], "auto");
    }
}
