//! From sources to settings: layers of checked values, and their
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

use crate::command::{Action, gunicorn_args};
use crate::error::Error;
use crate::file::Document;
use crate::settings::Settings;
use crate::suggest::{nearest, slip};
use crate::table::{ABSENT, Absent, Fate, HOOKS, Row, TABLE};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Nowhere: it is the table's default.
    Default,
    /// In a config file.
    File {
        /// The file's name.
        name: String,
        /// The line, from 1, if that is known.
        line: Option<usize>,
    },
    /// In this environment variable.
    Environment(String),
    /// On the command line, with this flag.
    CommandLine(String),
}

impl Origin {
    /// Where to look for the setting called `name`, to begin a message.
    pub(crate) fn place(&self, name: &str) -> String {
        match self {
            Origin::Default => format!("the default of {name}"),
            Origin::File { .. } => format!("{self}: {name}"),
            Origin::Environment(variable) => variable.clone(),
            Origin::CommandLine(flag) => flag.clone(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line: Some(line) } => write!(f, "{name}, line {line}"),
            Origin::File { name, line: None } => f.write_str(name),
            Origin::Environment(variable) => write!(f, "environment ({variable})"),
            Origin::CommandLine(flag) => write!(f, "command line ({flag})"),
        }
    }
}

/// Something odd that is no mistake, in one sentence for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// What was asked for does not happen.
    Warning(String),
    /// What was written can go.
    Note(String),
}

/// What one source says: canonical values by the setting's name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    values: BTreeMap<&'static str, (Json, Origin)>,
    remarks: Vec<Remark>,
}

impl Layer {
    /// What is odd about the source.
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }

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

    /// Says what comes of a setting that only gunicorn has.
    pub(crate) fn miss(
        &mut self,
        row: &Absent,
        origin: &Origin,
        value: &Json,
    ) -> Result<(), Error> {
        if !row.asks(value) {
            return Ok(());
        }
        let sentence = format!("{} {}", origin.place(row.name), row.sentence());
        match row.fate {
            Fate::Needless => self.remarks.push(Remark::Note(sentence)),
            Fate::Missing => self.remarks.push(Remark::Warning(sentence)),
            Fate::Refused => return Err(Error::Usage(sentence)),
        }
        Ok(())
    }
}

/// What the environment says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Environment {
    /// The variables that platforms set (`PORT`, `WEB_CONCURRENCY`): another
    /// default, weaker than a config file.
    pub platform: Layer,
    /// `SERVE_<NAME>` for every setting, and below it `GUNICORN_CMD_ARGS`:
    /// stronger than a config file.
    pub layer: Layer,
    /// The config file that it names.
    pub config: Option<String>,
    /// What `GUNICORN_CMD_ARGS` asks for.
    pub action: Option<Action>,
}

impl Environment {
    /// Looks for settings that are misspelt among the names of all variables. Only
    /// what is near one is remarked on: others, too, may begin theirs with `SERVE_`.
    pub fn look_for_slips(&mut self, names: impl IntoIterator<Item = String>) {
        let slips = names.into_iter().filter_map(|name| {
            let meant = misspelt(&name)?.variable();
            Some(Remark::Warning(format!(
                "environment: '{name}' is not a setting of this version and is ignored; did you \
                 mean '{meant}'?"
            )))
        });
        self.layer.remarks.extend(slips);
    }
}

/// The setting that a variable is probably meant for, if it is not one's own.
fn misspelt(variable: &str) -> Option<&'static Row> {
    // SERVE_BIN is what our tests run.
    let name = variable.strip_prefix("SERVE_").filter(|name| *name != "BIN")?;
    let name = name.to_ascii_lowercase();
    let by_name = |name: &str| TABLE.iter().find(|row| row.name == name);
    if by_name(&name).is_some_and(|row| row.variable() == variable) {
        return None;
    }
    let near = slip(&name, TABLE.iter().map(|row| row.name)).and_then(by_name);
    // A flag of one word may be the name of anything: SERVE_ENV.
    let counts = name.contains('_') || near.is_some();
    let flag = format!("--{}", name.replace('_', "-"));
    let by_flag = TABLE.iter().find(|row| counts && row.flags.contains(&&*flag));
    by_flag.or(near)
}

/// Reads the environment. A variable that is empty counts as not set.
///
/// # Errors
/// The first value that its setting does not take.
pub fn from_env(vars: impl Fn(&str) -> Option<String>) -> Result<Environment, Error> {
    let vars = |name: &str| vars(name).filter(|value| !value.is_empty());
    let mut environment = Environment::default();
    if let Some(text) = vars("GUNICORN_CMD_ARGS") {
        let cli = gunicorn_args(&text)?;
        environment.layer = cli.layer;
        environment.config = cli.config;
        environment.action = Some(cli.action).filter(|action| *action != Action::Run);
    }
    environment.config = vars("SERVE_CONFIG").or(environment.config);
    for row in TABLE {
        if let Some(name) = row.platform_variable
            && let Some(text) = vars(name)
        {
            let value = if name == "PORT" { any_address(text)? } else { Json::from(text) };
            environment.platform.set(row, Origin::Environment(name.into()), &value)?;
        }
        let name = row.variable();
        if let Some(text) = vars(&name) {
            environment.layer.set(row, Origin::Environment(name), &Json::from(text))?;
        }
    }
    Ok(environment)
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

/// Reads what a config file says. `null` counts as not set, and so does an empty
/// text, which is what a program gets from a variable that is not set.
///
/// A name that is no setting is no error. It is remarked on, save in a program:
/// that may have variables of its own, and only what looks like a slip counts.
///
/// # Errors
/// The first value that its setting does not take.
pub fn from_file(document: &Document) -> Result<Layer, Error> {
    let mut layer = Layer::default();
    for name in document.annotated.iter().filter(|name| is_known(name)) {
        let origin = document.origin_of(name);
        layer.remarks.push(Remark::Warning(format!(
            "{origin}: '{name}' is annotated and has no value: an equals sign gives it one, as in \
             {name} = ..."
        )));
    }
    let mut values: Vec<_> = document.values.iter().collect();
    values.sort_by_key(|(name, _)| document.lines.get(*name));
    for (name, value) in values {
        let origin = document.origin_of(name);
        if name == "python" {
            layer.remarks.extend(too_late(document, &origin, value));
        } else if let Some(row) = TABLE.iter().find(|row| row.name == name) {
            if !value.is_null() && value != "" {
                layer.set(row, origin, value)?;
            }
        } else if let Some(row) = ABSENT.iter().find(|row| row.name == name) {
            layer.miss(row, &origin, value)?;
        } else if is_hook(name) {
            hook(name, &origin, value)?;
        } else if is_wrapped(document, name, value) {
            layer.remarks.push(Remark::Warning(format!(
                "{origin}: '{name}' is not a setting of this version and is ignored; settings \
                 stand at the top level of this file, and [tool.serve] is for pyproject.toml"
            )));
        } else {
            layer.remarks.extend(unknown(document, name, &origin, meant(name)));
        }
    }
    for name in document.functions.iter().filter(|name| !is_hook(name)) {
        let origin = document.origin_of(name);
        if let Some(row) = ABSENT.iter().find(|row| row.name == name) {
            layer.miss(row, &origin, &Json::Bool(true))?;
        } else {
            let meant = nearest(name, HOOKS.iter().map(|hook| hook.name));
            layer.remarks.extend(unknown(document, name, &origin, meant));
        }
    }
    Ok(layer)
}

/// Of the interpreter that a file names, which is read by one.
fn too_late(document: &Document, origin: &Origin, value: &Json) -> Option<Remark> {
    let is_own = document.helpers.as_ref().is_some_and(|own| own.contains("python"));
    (!is_own && !value.is_null() && value != "").then(|| {
        Remark::Warning(format!(
            "{origin}: python has no effect in a file, which is read by that Python: use --python \
             or SERVE_PYTHON"
        ))
    })
}

/// Whether it is a table around the settings, as `pyproject.toml` has one.
fn is_wrapped(document: &Document, name: &str, value: &Json) -> bool {
    let table = match name {
        "serve" => Some(value),
        "tool" => value.get("serve"),
        _ => None,
    };
    document.helpers.is_none() && table.is_some_and(Json::is_object)
}

fn is_known(name: &str) -> bool {
    is_hook(name)
        || TABLE.iter().any(|row| row.name == name)
        || ABSENT.iter().any(|row| row.name == name)
}

fn is_hook(name: &str) -> bool {
    HOOKS.iter().any(|hook| hook.name == name)
}

/// What it gives is imported elsewhere.
fn hook(name: &str, origin: &Origin, value: &Json) -> Result<(), Error> {
    if value.is_null() || value.is_string() {
        return Ok(());
    }
    Err(Error::Value {
        place: format!("{origin}: {name}"),
        value: value.clone(),
        complaint: "is neither a function nor the path of one, as in module:function".into(),
    })
}

fn unknown(
    document: &Document,
    name: &str,
    origin: &Origin,
    meant: Option<&str>,
) -> Option<Remark> {
    let hint = meant.map(|known| format!("; did you mean '{known}'?"));
    let counts = document.helpers.as_ref().is_none_or(|own| hint.is_some() && !own.contains(name));
    let hint = hint.unwrap_or_default();
    counts.then(|| {
        let sentence =
            format!("{origin}: '{name}' is not a setting of this version and is ignored");
        Remark::Warning(sentence + &hint)
    })
}

/// The setting that whoever wrote `name` may have meant: one with that flag, or
/// else one with such a name.
fn meant(name: &str) -> Option<&'static str> {
    let flag = format!("--{}", name.replace('_', "-").to_ascii_lowercase());
    let by_flag = TABLE.iter().find(|row| row.flags.contains(&flag.as_str()));
    let others = ABSENT.iter().map(|row| row.name).chain(HOOKS.iter().map(|hook| hook.name));
    let names = || TABLE.iter().map(|row| row.name).chain(others);
    by_flag.map(|row| row.name).or_else(|| nearest(name, names()))
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

/// The settings of a program called `origin`, and its warnings.
#[cfg(test)]
pub(crate) fn from_json(origin: &str, json: &str) -> Result<(Layer, Vec<String>), Error> {
    let values = serde_json::from_str(json).expect("a test's own JSON");
    let helpers = Some(["own".to_string()].into());
    let document = Document { origin: origin.into(), values, helpers, ..Document::default() };
    let layer = from_file(&document)?;
    let warnings = layer.remarks.iter().map(|remark| match remark {
        Remark::Warning(text) | Remark::Note(text) => text.clone(),
    });
    let warnings = warnings.collect();
    Ok((layer, warnings))
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
        file: Document,
        expected: BTreeMap<&'static str, (Json, Origin)>,
    }

    impl Script {
        fn new(random: &mut Random) -> Self {
            let mut script = Script::default();
            script.file.origin = "x.py".into();
            for row in TABLE {
                script.expected.insert(row.name, (row.default_value(), Origin::Default));
                // Weakest first: what is written last is what is expected.
                if let Some(variable) = row.platform_variable.filter(|_| random.maybe()) {
                    let (text, meant) = match variable {
                        "PORT" => ("5000", json!(["0.0.0.0:5000"])),
                        "FORWARDED_ALLOW_IPS" => ("10.0.0.0/8", json!(["10.0.0.0/8"])),
                        _ => ("3", json!(3)),
                    };
                    script.vars.insert(variable.into(), text.into());
                    script.expected.insert(row.name, (meant, Origin::Environment(variable.into())));
                }
                if random.maybe() && row.name != "python" {
                    script.write_file(row, random.pick(&row.kind.samples()), random.below(99));
                }
                if row.flag().starts_with('-') && random.maybe() {
                    let (flag, sample) = (random.pick(row.flags), random.pick(&row.kind.samples()));
                    script.write_gunicorn_argument(row, flag, sample);
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

        fn write_file(&mut self, row: &Row, sample: String, line: usize) {
            let origin = Origin::File { name: "x.py".into(), line: Some(line) };
            self.expect(row, &json!(sample), origin);
            self.file.lines.insert(row.name.into(), line);
            self.file.values.insert(row.name.into(), json!(sample));
        }

        fn write_gunicorn_argument(&mut self, row: &Row, flag: &str, sample: String) {
            let (args, value, told) = argument(row, flag, sample);
            let origin = Origin::Environment(format!("GUNICORN_CMD_ARGS {told}"));
            self.expect(row, &value, origin);
            let words = args.iter().map(|word| shlex::try_quote(word).unwrap());
            let text = self.vars.entry("GUNICORN_CMD_ARGS".into()).or_default();
            text.extend(words.map(|word| format!("{word} ")));
        }

        fn write_variable(&mut self, row: &Row, sample: String) {
            self.expect(row, &json!(sample), Origin::Environment(row.variable()));
            self.vars.insert(row.variable(), sample);
        }

        fn write_argument(&mut self, row: &Row, flag: &str, sample: String) {
            let (args, value, told) = argument(row, flag, sample);
            self.expect(row, &value, Origin::CommandLine(told));
            self.args.extend(args);
        }

        fn run(&self) -> Settings {
            let environment = from_env(|name| self.vars.get(name).cloned()).unwrap();
            let file = from_file(&self.file).unwrap();
            assert_eq!(file.remarks(), []);
            let args = ["serve".to_string()].into_iter().chain(self.args.clone());
            let cli = parse_args(args.map(OsString::from)).unwrap();
            resolve(&[environment.platform, file, environment.layer, cli.layer]).unwrap()
        }
    }

    /// The words of an argument, the value it gives, and the flag that is told.
    fn argument(row: &Row, flag: &str, sample: String) -> (Vec<String>, Json, String) {
        match row.kind {
            Kind::Switch => {
                // A short flag is told by the long one that it stands for.
                let told = if flag.starts_with("--") { flag } else { row.flag() };
                (vec![flag.into()], json!(!flag.starts_with("--no-")), told.into())
            }
            _ => {
                let words = flag.starts_with('-').then(|| flag.into()).into_iter();
                (words.chain([sample.clone()]).collect(), json!(sample), row.flag().into())
            }
        }
    }

    /// Command line > our variables > GUNICORN_CMD_ARGS > file > the platform's
    /// variables > defaults, for each setting by itself.
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
        let read = from_env(|name| vars.get(name).map(ToString::to_string));
        let read = read.map_err(|error| error.to_string())?;
        resolve(&[read.platform, read.layer]).map_err(|error| error.to_string())
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
        assert_eq!(settings.origin("timeout").to_string(), "serve.conf.py");
    }

    #[test]
    fn a_wrong_file_is_named_with_the_setting() {
        for (json, message) in [
            (
                r#"{"workers": [2]}"#,
                "c.py: workers: [2] is not a whole number from 1 to 500 or \"auto\"",
            ),
            (r#"{"chdir": " "}"#, "c.py: chdir: ' ' is not a non-empty text"),
            (
                r#"{"protocol": "uwsgi"}"#,
                "c.py: protocol cannot be had: requests are read as HTTP only; use proxy_pass in \
                 nginx instead of uwsgi_pass",
            ),
        ] {
            let error = from_json("c.py", json).unwrap_err();
            assert_eq!(error.to_string(), message, "{json}");
        }
        let document = Document::toml("c.toml", "\n\nworkers = [2]\n").unwrap().unwrap();
        let error = from_file(&document).unwrap_err().to_string();
        assert!(error.starts_with("c.toml, line 3: workers: [2] is not"), "{error}");
        // Of several, the first.
        let document = Document::toml("c.toml", "workers = 0\nbacklog = 0\n").unwrap().unwrap();
        let error = from_file(&document).unwrap_err().to_string();
        assert!(error.starts_with("c.toml, line 1: workers: 0 is not"), "{error}");
    }

    #[test]
    fn a_file_cannot_choose_the_python_that_reads_it() {
        let (layer, warnings) = from_json("c.py", r#"{"python": ".venv"}"#).unwrap();
        assert_eq!(layer.values, BTreeMap::new());
        assert_eq!(
            warnings,
            [
                "c.py: python has no effect in a file, which is read by that Python: use --python or \
              SERVE_PYTHON"
            ]
        );
        let (_, warnings) = from_json("c.py", r#"{"python": null}"#).unwrap();
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn an_empty_text_in_a_file_counts_as_not_set() {
        let (layer, warnings) = from_json("c.py", r#"{"accesslog": "", "workers": ""}"#).unwrap();
        assert_eq!((layer, warnings), (Layer::default(), Vec::new()));
    }

    #[test]
    fn unknown_names_in_a_file_are_warnings() {
        let text = "wrokers = 9\nregion = 'eu'\nlog-level = 'info'\nown = 1\n";
        let layer = from_file(&Document::toml("c.toml", text).unwrap().unwrap()).unwrap();
        let ignored = "is not a setting of this version and is ignored";
        assert_eq!(
            layer.remarks(),
            [
                format!("c.toml, line 1: 'wrokers' {ignored}; did you mean 'workers'?"),
                format!("c.toml, line 2: 'region' {ignored}"),
                format!("c.toml, line 3: 'log-level' {ignored}; did you mean 'loglevel'?"),
                format!("c.toml, line 4: 'own' {ignored}"),
            ]
            .map(Remark::Warning)
        );
    }

    #[test]
    fn settings_in_a_table_are_told_where_they_belong() {
        let told = |text: &str| {
            let document = Document::toml("serve.toml", text).unwrap().unwrap();
            from_file(&document).unwrap().remarks().to_vec()
        };
        for (text, name) in
            [("[serve]\nworkers = 2\n", "serve"), ("[tool.serve]\nworkers = 2\n", "tool")]
        {
            let sentence = format!(
                "serve.toml, line 1: '{name}' is not a setting of this version and is ignored; \
                 settings stand at the top level of this file, and [tool.serve] is for \
                 pyproject.toml"
            );
            assert_eq!(told(text), [Remark::Warning(sentence)]);
        }
        for other in ["serve = 1\n", "[tool.x]\na = 1\n"] {
            let [Remark::Warning(sentence)] = &told(other)[..] else { panic!("{other}") };
            assert!(!sentence.contains("top level"), "{sentence}");
        }
        assert_eq!(from_json("c.py", r#"{"serve": {}}"#).unwrap().1, [""; 0]);
    }

    #[test]
    fn a_variable_that_is_nearly_a_setting_is_told() {
        let told = |name: &str| {
            let mut environment = Environment::default();
            environment.look_for_slips([name.to_owned()]);
            environment.layer.remarks
        };
        for (name, meant) in [
            ("SERVE_TIMOUT", "SERVE_TIMEOUT"),
            ("SERVE_WROKERS", "SERVE_WORKERS"),
            ("SERVE_LOG_LEVEL", "SERVE_LOGLEVEL"),
            ("SERVE_ACCESS_LOGFILE", "SERVE_ACCESSLOG"),
            ("SERVE_Workers", "SERVE_WORKERS"),
            ("SERVE_PRELOAD", "SERVE_PRELOAD_APP"),
        ] {
            let sentence = format!(
                "environment: '{name}' is not a setting of this version and is ignored; did you \
                 mean '{meant}'?"
            );
            assert_eq!(told(name), [Remark::Warning(sentence)]);
        }
        // Kubernetes makes some for a service that is called serve.
        for other in [
            "SERVE_TIMEOUT",
            "SERVE_CONFIG",
            "SERVE_UPGRADE",
            "SERVE_BIN",
            "SERVE_SERVICE_HOST",
            "SERVE_SERVICE_PORT",
            "SERVE_PORT",
            "SERVE_PORT_80_TCP_ADDR",
            "SERVE_STATIC_ROOT",
            "SERVE_ENV",
            "SERVE_",
            "TIMOUT",
        ] {
            assert_eq!(told(other), [], "{other}");
        }
    }

    #[test]
    fn a_program_may_have_names_of_its_own() {
        let json = r#"{"wrokers": 9, "region": "eu", "access_logfile": "-", "own": 1}"#;
        let (layer, warnings) = from_json("c.py", json).unwrap();
        assert_eq!(layer.values, BTreeMap::new());
        assert_eq!(
            warnings,
            [
                "c.py: 'access_logfile' is not a setting of this version and is ignored; \
                 did you mean 'accesslog'?",
                "c.py: 'wrokers' is not a setting of this version and is ignored; \
                 did you mean 'workers'?",
            ]
        );
        let helper = Document {
            values: [("worker".to_string(), json!(1))].into_iter().collect(),
            helpers: Some(["worker".to_string()].into()),
            ..Document::default()
        };
        assert_eq!(from_file(&helper).unwrap().remarks(), []);
    }

    #[test]
    fn what_only_gunicorn_has_is_told_unless_it_asks_for_nothing() {
        for row in ABSENT {
            let asking = json!({ row.name: "asked" }).to_string();
            let told = match from_json("c.py", &asking) {
                Ok((_, mut remarks)) => remarks.remove(0),
                Err(error) => error.to_string(),
            };
            assert_eq!(told, format!("c.py: {} {}", row.name, row.sentence()));
            for silent in [json!(null), json!(false), json!(""), json!([]), json!(row.harmless)] {
                let json = json!({ row.name: silent }).to_string();
                assert_eq!(from_json("c.py", &json), Ok((Layer::default(), vec![])), "{json}");
            }
        }
        let function = Document { functions: ["ssl_context".into()].into(), ..Document::default() };
        assert_eq!(from_file(&function).unwrap().remarks().len(), 1);
    }

    #[test]
    fn gunicorns_variable_is_read_as_a_shell_would() {
        let vars = |text: &str| {
            let text = text.to_string();
            from_env(move |name| (name == "GUNICORN_CMD_ARGS").then(|| text.clone()))
        };
        let read = vars(r#"--bind=":80" -c 'my conf.py' --check-config -e "A=b c""#).unwrap();
        assert_eq!(read.config.as_deref(), Some("my conf.py"));
        assert_eq!(read.action, Some(Action::CheckConfig));
        let settings = resolve(&[read.layer]).unwrap();
        assert_eq!((settings.bind, settings.raw_env), (vec![":80".into()], vec!["A=b c".into()]));
        for (text, message) in [
            ("-w many", "GUNICORN_CMD_ARGS --workers: 'many' is not a whole number"),
            ("--wrokers 2", "GUNICORN_CMD_ARGS: unknown option '--wrokers'; did you mean"),
            ("-n 'a", "GUNICORN_CMD_ARGS: a quotation mark is not closed"),
        ] {
            let error = vars(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
