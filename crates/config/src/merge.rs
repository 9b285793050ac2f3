//! From what was written to what it means: layers of checked values, and their
//! merge.
//!
//! A [`Layer`] is one source (the command line, the environment, a file). A
//! value is checked when it enters a layer, also if a stronger layer hides it
//! later: a mistake is told wherever it is. A stronger layer replaces the whole
//! value of a weaker one; lists are not joined.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::error::Error;
use crate::settings::Settings;
use crate::suggest::nearest;
use crate::table::{Row, TABLE};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Nowhere: it is the table's default.
    Default,
    /// In the config file of this name.
    File(String),
    /// In this environment variable.
    Environment(String),
    /// On the command line, with this flag.
    CommandLine(String),
}

impl Origin {
    /// Where to look for the setting called `name`, to begin an error message.
    fn place(&self, name: &str) -> String {
        match self {
            Origin::Default => format!("the default of {name}"),
            Origin::File(file) => format!("{file}: {name}"),
            Origin::Environment(variable) => variable.clone(),
            Origin::CommandLine(flag) => flag.clone(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(file) => f.write_str(file),
            Origin::Environment(variable) => write!(f, "environment ({variable})"),
            Origin::CommandLine(flag) => write!(f, "command line ({flag})"),
        }
    }
}

/// What one source says: canonical values by the setting's name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    values: BTreeMap<&'static str, (Json, Origin)>,
}

impl Layer {
    /// Checks a value and keeps it, in place of an earlier one.
    pub(crate) fn set(&mut self, row: &Row, origin: Origin, value: &Json) -> Result<(), Error> {
        match row.kind.check(value) {
            Ok(canonical) => {
                self.values.insert(row.name, (canonical, origin));
                Ok(())
            }
            Err(complaint) => {
                Err(Error::Value { place: origin.place(row.name), value: value.clone(), complaint })
            }
        }
    }
}

/// Reads the environment: `SERVE_<NAME>` for every setting, and the variables
/// that platforms set (`PORT`, `WEB_CONCURRENCY`), which count less. A variable
/// that is empty counts as not set.
///
/// # Errors
/// The first value that its setting does not take.
pub fn from_env(vars: impl Fn(&str) -> Option<String>) -> Result<Layer, Error> {
    let vars = |name: &str| vars(name).filter(|value| !value.is_empty());
    let mut layer = Layer::default();
    for row in TABLE {
        if let Some(name) = row.platform_variable
            && let Some(text) = vars(name)
        {
            let value = if name == "PORT" { any_address(text)? } else { Json::from(text) };
            layer.set(row, Origin::Environment(name.into()), &value)?;
        }
        let name = row.variable();
        if let Some(text) = vars(&name) {
            layer.set(row, Origin::Environment(name), &Json::from(text))?;
        }
    }
    Ok(layer)
}

/// What a platform means by `PORT`: listen there, where its router can reach it.
fn any_address(port: String) -> Result<Json, Error> {
    match port.trim().parse::<u16>() {
        Ok(port) if port > 0 => Ok(json!([format!("0.0.0.0:{port}")])),
        _ => Err(Error::Value {
            place: "PORT".into(),
            value: Json::from(port),
            complaint: "is not a port number from 1 to 65535".into(),
        }),
    }
}

/// Reads what a config file gave: a JSON object of names and values. `origin`
/// is the file's name, as messages shall show it. `null` counts as not set.
///
/// The texts beside the layer are warnings, one for each name that is no
/// setting: such a name is no error, because a config file is a program and
/// may have variables of its own.
///
/// # Errors
/// `json` is not a JSON object, or the first value that its setting does not take.
pub fn from_json(origin: &str, json: &str) -> Result<(Layer, Vec<String>), Error> {
    let file = |reason: String| Error::File { origin: origin.into(), reason };
    let value: Json =
        serde_json::from_str(json).map_err(|error| file(format!("not valid JSON: {error}")))?;
    let Json::Object(given) = value else {
        return Err(file("not a set of settings: expected names with values".into()));
    };
    let mut layer = Layer::default();
    let mut warnings = Vec::new();
    for (name, value) in given {
        match TABLE.iter().find(|row| row.name == name) {
            Some(_) if value.is_null() => {}
            Some(row) => layer.set(row, Origin::File(origin.into()), &value)?,
            None => warnings.push(format!("{origin}: {}", unknown(&name))),
        }
    }
    Ok((layer, warnings))
}

fn unknown(name: &str) -> String {
    let hint = match nearest(name, TABLE.iter().map(|row| row.name)) {
        Some(known) => format!("; did you mean '{known}'?"),
        None => String::new(),
    };
    format!("'{name}' is not a setting of this version and is ignored{hint}")
}

/// Merges the layers, weakest first, over the defaults.
///
/// # Errors
/// None today, since layers hold only checked values; it is the place for
/// rules between settings.
pub fn resolve(layers: &[Layer]) -> Result<Settings, Error> {
    let mut merged = Map::new();
    let mut origins = BTreeMap::new();
    for row in TABLE {
        let written = layers.iter().rev().find_map(|layer| layer.values.get(row.name));
        let value = match written {
            Some((value, origin)) => {
                origins.insert(row.name, origin);
                value.clone()
            }
            None => row.default_value(),
        };
        merged.insert(row.name.into(), value);
    }
    merged.insert("origins".into(), json!(origins));
    serde_json::from_value(Json::Object(merged)).map_err(|error| Error::Foreign(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::ffi::OsString;

    use super::*;
    use crate::command::parse_args;
    use crate::kind::Kind;

    /// xorshift64*: small, and the same on every machine.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
            usize::try_from(bits).unwrap() % bound
        }

        fn pick<T: Clone>(&mut self, of: &[T]) -> T {
            of[self.below(of.len())].clone()
        }

        /// One time in three.
        fn maybe(&mut self) -> bool {
            self.below(3) == 0
        }
    }

    /// Every source at once, filled at random, and what must come of it.
    #[derive(Default)]
    struct Script {
        args: Vec<String>,
        vars: HashMap<String, String>,
        file: Map<String, Json>,
        expected: BTreeMap<&'static str, (Json, Origin)>,
    }

    impl Script {
        fn new(random: &mut Random) -> Self {
            let mut script = Script::default();
            for row in TABLE {
                script.expected.insert(row.name, (row.default_value(), Origin::Default));
                // Weakest first: what is written last is what is expected.
                if random.maybe() {
                    script.write_file(row, random.pick(&row.kind.samples()));
                }
                if let Some(variable) = row.platform_variable.filter(|_| random.maybe()) {
                    let (text, meant) = match variable {
                        "PORT" => ("5000", json!(["0.0.0.0:5000"])),
                        _ => ("3", json!(3)),
                    };
                    script.vars.insert(variable.into(), text.into());
                    script.expected.insert(row.name, (meant, Origin::Environment(variable.into())));
                }
                if random.maybe() {
                    script.write_variable(row, random.pick(&row.kind.samples()));
                }
                if random.maybe() {
                    let (flag, sample) = (random.pick(row.flags), random.pick(&row.kind.samples()));
                    script.write_argument(row, flag, sample);
                }
            }
            script
        }

        fn expect(&mut self, row: &Row, value: &Json, origin: Origin) {
            self.expected.insert(row.name, (row.kind.check(value).unwrap(), origin));
        }

        fn write_file(&mut self, row: &Row, sample: String) {
            self.expect(row, &json!(sample), Origin::File("x.py".into()));
            self.file.insert(row.name.into(), json!(sample));
        }

        fn write_variable(&mut self, row: &Row, sample: String) {
            self.expect(row, &json!(sample), Origin::Environment(row.variable()));
            self.vars.insert(row.variable(), sample);
        }

        fn write_argument(&mut self, row: &Row, flag: &str, sample: String) {
            match row.kind {
                Kind::Switch => {
                    let on = json!(!flag.starts_with("--no-"));
                    // A short flag is told by the long one that it stands for.
                    let told = if flag.starts_with("--") { flag } else { row.flag() };
                    self.expect(row, &on, Origin::CommandLine(told.into()));
                    self.args.push(flag.into());
                }
                _ => {
                    self.expect(row, &json!(sample), Origin::CommandLine(row.flag().into()));
                    self.args.extend(flag.starts_with('-').then(|| flag.into()));
                    self.args.push(sample);
                }
            }
        }

        fn run(&self) -> Settings {
            let environment = from_env(|name| self.vars.get(name).cloned()).unwrap();
            let (file, warnings) = from_json("x.py", &json!(self.file).to_string()).unwrap();
            assert_eq!(warnings, [""; 0]);
            let args = ["serve".to_string()].into_iter().chain(self.args.clone());
            let cli = parse_args(args.map(OsString::from)).unwrap();
            resolve(&[file, environment, cli.layer]).unwrap()
        }
    }

    /// Command line > environment > platform's variables > file > defaults, for
    /// each setting by itself.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "SERVE_SEED replays one failure")]
    fn the_strongest_source_wins() {
        let seeds = match std::env::var("SERVE_SEED") {
            Ok(seed) => vec![seed.parse().unwrap()],
            Err(_) => (1..=300).collect::<Vec<u64>>(),
        };
        for seed in seeds {
            let script = Script::new(&mut Random(seed));
            let settings = script.run();
            let values = settings.to_value();
            for (name, (value, origin)) in &script.expected {
                assert_eq!(&values[*name], value, "{name}, SERVE_SEED={seed}");
                assert_eq!(settings.origin(name), origin, "{name}, SERVE_SEED={seed}");
            }
        }
    }

    fn environment(vars: &[(&str, &str)]) -> Result<Settings, String> {
        let vars: HashMap<_, _> = vars.iter().copied().collect();
        let layer = from_env(|name| vars.get(name).map(ToString::to_string));
        resolve(&[layer.map_err(|error| error.to_string())?]).map_err(|error| error.to_string())
    }

    #[test]
    fn platform_variables_count_less_than_ours() {
        let both = [("PORT", "5000"), ("SERVE_BIND", "a:1,b:2")];
        assert_eq!(environment(&both).unwrap().bind, ["a:1", "b:2"]);
        assert_eq!(environment(&both[..1]).unwrap().bind, ["0.0.0.0:5000"]);
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let settings = environment(&[("PORT", ""), ("WEB_CONCURRENCY", ""), ("SERVE_CHDIR", "")]);
        assert_eq!(settings, Ok(resolve(&[]).unwrap()));
    }

    #[test]
    fn a_wrong_variable_is_named() {
        for (name, value, message) in [
            ("PORT", "80x", "PORT: '80x' is not a port number from 1 to 65535"),
            ("PORT", "0", "PORT: '0' is not a port number from 1 to 65535"),
            ("PORT", "70000", "PORT: '70000' is not a port number from 1 to 65535"),
            (
                "WEB_CONCURRENCY",
                "many",
                "WEB_CONCURRENCY: 'many' is not a whole number from 1 to 500 or \"auto\"",
            ),
            ("SERVE_PRELOAD_APP", "perhaps", "SERVE_PRELOAD_APP: 'perhaps' is not true or false"),
        ] {
            assert_eq!(environment(&[(name, value)]), Err(message.into()));
        }
    }

    #[test]
    fn a_mistake_is_told_also_where_a_stronger_source_hides_it() {
        let hidden = environment(&[("WEB_CONCURRENCY", "many"), ("SERVE_WORKERS", "2")]);
        assert!(hidden.unwrap_err().starts_with("WEB_CONCURRENCY: "));
    }

    #[test]
    fn a_file_may_use_the_types_of_python() {
        let json = r#"{"bind": ["a:1"], "workers": 3, "timeout": 1.5, "preload_app": true,
                       "unix_socket_mode": 432, "max_body_size": 1024, "accesslog": null}"#;
        let (layer, warnings) = from_json("serve.conf.py", json).unwrap();
        assert_eq!(warnings, [""; 0]);
        assert!(!layer.values.contains_key("accesslog"));
        let settings = resolve(&[layer]).unwrap();
        assert_eq!(settings.unix_socket_mode, 0o660);
        assert_eq!(settings.max_body_size, Some(1024));
        assert_eq!(settings.origin("timeout"), &Origin::File("serve.conf.py".into()));
    }

    #[test]
    fn a_wrong_file_is_named_with_the_setting() {
        for (json, message) in [
            (
                r#"{"workers": [2]}"#,
                "c.py: workers: [2] is not a whole number from 1 to 500 or \"auto\"",
            ),
            (r#"{"chdir": ""}"#, "c.py: chdir: '' is not a non-empty text"),
            ("[1]", "c.py: not a set of settings: expected names with values"),
            ("{", "c.py: not valid JSON: EOF while parsing an object at line 1 column 1"),
        ] {
            let error = from_json("c.py", json).unwrap_err();
            assert_eq!(error.to_string(), message, "{json}");
        }
    }

    #[test]
    fn unknown_names_in_a_file_are_warnings() {
        let (layer, warnings) = from_json("c.py", r#"{"wrokers": 9, "region": "eu"}"#).unwrap();
        assert_eq!(layer, Layer::default());
        assert_eq!(
            warnings,
            [
                "c.py: 'region' is not a setting of this version and is ignored",
                "c.py: 'wrokers' is not a setting of this version and is ignored; \
                 did you mean 'workers'?",
            ]
        );
    }
}
