//! What a config file says, whatever it is written in, before anything of it is
//! checked: names, values, and the lines they stand on.
//!
//! TOML and JSON are read here. A Python file is evaluated elsewhere and comes
//! as the JSON of a [`Document`], which is also how a mold tells its master.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Error;
use crate::merge::Origin;
use crate::table::HOOKS;

/// What a config file says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The file's name, as messages shall show it; empty: there is no file.
    #[serde(default)]
    pub origin: String,
    /// Its names and values; a function is not among them.
    #[serde(default)]
    pub values: Map<String, Json>,
    /// The functions it defines.
    #[serde(default)]
    pub functions: BTreeSet<String>,
    /// Where each name was written last, from 1, if that is known.
    #[serde(default)]
    pub lines: BTreeMap<String, usize>,
    /// In a program: names that it reads itself, which are its own business.
    /// `None`: it is no program, and all names are meant for us.
    #[serde(default)]
    pub helpers: Option<BTreeSet<String>>,
    /// In a program: names that it annotates without giving them a value.
    #[serde(default)]
    pub annotated: BTreeSet<String>,
}

impl Document {
    /// Where each hook that it gives was written.
    pub fn hooks(&self) -> BTreeMap<String, String> {
        let names = HOOKS.iter().map(|hook| hook.name);
        let given =
            names.filter(|name| self.functions.contains(*name) || self.values.contains_key(*name));
        given.map(|name| (name.to_owned(), self.origin_of(name).to_string())).collect()
    }

    /// Where a name was written.
    pub(crate) fn origin_of(&self, name: &str) -> Origin {
        Origin::File { name: self.origin.clone(), line: self.lines.get(name).copied() }
    }

    /// Reads a TOML file; of `pyproject.toml`, the table `[tool.serve]`. `None`
    /// if that is not there.
    ///
    /// # Errors
    /// It is not TOML.
    pub fn toml(origin: &str, text: &str) -> Result<Option<Self>, Error> {
        let wrong = |error: &toml::de::Error| {
            let line = error.span().map(|span| line_at(text, span.start));
            let message = error.message();
            // What it says of an address without quotes.
            let hint =
                if message.starts_with("invalid float") { "; a text needs quotes" } else { "" };
            Error::file(origin, line, format!("not valid TOML: {message}{hint}"))
        };
        let whole = DeTable::parse(text).map_err(|error| wrong(&error))?;
        let mut table = whole.get_ref();
        if origin.rsplit('/').next() == Some("pyproject.toml") {
            for name in ["tool", "serve"] {
                match table.get(name).map(Spanned::get_ref) {
                    Some(DeValue::Table(inner)) => table = inner,
                    _ => return Ok(None),
                }
            }
        }
        let mut document = Self { origin: origin.into(), ..Self::default() };
        for (name, value) in table {
            let json = toml_value(value.get_ref()).ok_or_else(|| {
                let line = Some(line_at(text, value.span().start));
                Error::file(origin, line, format!("{}: a number is too large", name.get_ref()))
            })?;
            document.add(text, name.get_ref(), name.span(), json);
        }
        Ok(Some(document))
    }

    /// Reads a JSON file.
    ///
    /// # Errors
    /// It is not a JSON object.
    pub fn json(origin: &str, text: &str) -> Result<Self, Error> {
        let wrong = |error: serde_json::Error| {
            Error::file(origin, None, format!("not a JSON object of settings: {error}"))
        };
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(wrong)?;
        let mut document = Self { origin: origin.into(), ..Self::default() };
        for (name, value) in members {
            // The value is a part of the text.
            let start = value.get().as_ptr() as usize - text.as_ptr() as usize;
            let json = serde_json::from_str(value.get()).map_err(wrong)?;
            document.add(text, &name, start..start, json);
        }
        Ok(document)
    }

    /// The other end of [`Document::to_json`], and what the evaluation of a
    /// Python file gives.
    ///
    /// # Errors
    /// `json` was made by anything else.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        serde_json::from_str(json).map_err(|error| Error::Foreign(error.to_string()))
    }

    /// For another process of the same program.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers, lists and text keys always serialise")
    }

    fn add(&mut self, text: &str, name: &str, at: Range<usize>, value: Json) {
        self.lines.insert(name.into(), line_at(text, at.start));
        self.values.insert(name.into(), value);
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// `None`: a number that JSON cannot hold.
fn toml_value(value: &DeValue<'_>) -> Option<Json> {
    Some(match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Boolean(on) => Json::from(*on),
        DeValue::Integer(number) => {
            Json::from(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::Float(number) => Json::from(number.as_str().parse::<f64>().ok()?),
        // No setting is one: it is refused as the text that it is.
        DeValue::Datetime(time) => Json::from(time.to_string()),
        DeValue::Array(items) => {
            items.iter().map(|item| toml_value(item.get_ref())).collect::<Option<Vec<_>>>()?.into()
        }
        DeValue::Table(table) => {
            let members = table.iter();
            let members = members.map(|(name, value)| {
                Some((name.get_ref().to_string(), toml_value(value.get_ref())?))
            });
            Json::Object(members.collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOML: &str = "# ours\nworkers = 4\nbind = [\"a:1\", 'b:2']\n\ntimeout = 0x1f\n\
                        keepalive = 1.5\npreload_app = true\n[logconfig_dict]\nversion = 1\n";

    #[test]
    fn toml_gives_values_and_lines() {
        let document = Document::toml("serve.toml", TOML).unwrap().unwrap();
        assert_eq!(
            Json::Object(document.values),
            json!({"workers": 4, "bind": ["a:1", "b:2"], "timeout": 31, "keepalive": 1.5,
                   "preload_app": true, "logconfig_dict": {"version": 1}})
        );
        assert_eq!(document.lines["workers"], 2);
        assert_eq!(document.lines["timeout"], 5);
        assert_eq!(document.helpers, None);
    }

    #[test]
    fn of_a_project_file_only_our_table_is_read() {
        let text = "[project]\nname = 'x'\n[tool.serve]\nworkers = 2\n";
        let document = Document::toml("a/pyproject.toml", text).unwrap().unwrap();
        assert_eq!(Json::Object(document.values), json!({"workers": 2}));
        assert_eq!(document.lines["workers"], 4);
        for without in ["", "[tool.ruff]\nline = 1\n", "[tool]\nserve = 1\n"] {
            assert_eq!(Document::toml("pyproject.toml", without), Ok(None), "{without}");
        }
    }

    #[test]
    fn json_gives_values_and_lines() {
        let text = "{\n  \"workers\": 4,\n\n  \"bind\":\n    [\"a:1\"]\n}\n";
        let document = Document::json("serve.json", text).unwrap();
        assert_eq!(Json::Object(document.values), json!({"workers": 4, "bind": ["a:1"]}));
        assert_eq!((document.lines["workers"], document.lines["bind"]), (2, 5));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        for (text, message) in [
            ("workers = \n", "c.toml, line 1: not valid TOML: "),
            (
                "bind = 127.0.0.1:80\n",
                "c.toml, line 1: not valid TOML: invalid float, expected nothing; a text needs quotes",
            ),
            ("a = 1\nb = [\n", "c.toml, line 2: not valid TOML: "),
            ("a = 1\na = 2\n", "c.toml, line 2: not valid TOML: duplicate key"),
            ("a = 99999999999999999999\n", "c.toml, line 1: a: a number is too large"),
        ] {
            let error = Document::toml("c.toml", text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        for text in ["[1]", "{", "{\"a\": 1,}", "{\"a\": tru}"] {
            let error = Document::json("c.json", text).unwrap_err().to_string();
            assert!(error.starts_with("c.json: not a JSON object of settings: "), "{error}");
            assert!(error.contains(" line 1 "), "{error}");
        }
    }

    #[test]
    fn a_document_survives_the_way_to_another_process() {
        let document = Document::toml("serve.toml", TOML).unwrap().unwrap();
        assert_eq!(Document::from_json(&document.to_json()), Ok(document));
        assert_eq!(Document::from_json("{}"), Ok(Document::default()));
        assert!(matches!(Document::from_json("[1]"), Err(Error::Foreign(_))));
    }
}
