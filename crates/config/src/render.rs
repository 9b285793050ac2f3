//! The settings written down: `--print-config` for one run, the reference page
//! for all.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::settings::Settings;
use crate::table::{ABSENT, COMMANDS, Row, TABLE};

impl Settings {
    /// What `--print-config` shows: one line per setting, with where its value
    /// came from. The output is itself a config file in Python.
    pub fn print(&self) -> String {
        let values = self.to_value();
        let name_width = TABLE.iter().map(|row| row.name.len()).max().unwrap_or_default();
        let mut page = String::new();
        for row in TABLE {
            let (value, origin) = (python(&values[row.name]), self.origin(row.name));
            let _infallible = writeln!(page, "{:name_width$} = {value:24}  # {origin}", row.name);
        }
        page
    }

    /// What a reload to `new` changes, in the order of the table: one
    /// `name: old -> new` each. Where a value comes from does not matter.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let (old, new) = (self.to_value(), new.to_value());
        let changed = TABLE.iter().filter(|row| old[row.name] != new[row.name]);
        changed
            .map(|row| {
                format!("{}: {} -> {}", row.name, python(&old[row.name]), python(&new[row.name]))
            })
            .collect()
    }
}

/// A canonical value as Python writes it.
fn python(value: &Json) -> String {
    match value {
        Json::Null => "None".into(),
        Json::Bool(true) => "True".into(),
        Json::Bool(false) => "False".into(),
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(python).collect();
            format!("[{}]", items.join(","))
        }
        Json::Object(table) => {
            let member = |(name, value): (&String, &Json)| {
                format!("{}:{}", Json::from(name.as_str()), python(value))
            };
            let members: Vec<_> = table.iter().map(member).collect();
            format!("{{{}}}", members.join(","))
        }
        // JSON's numbers and texts are Python's.
        other => other.to_string(),
    }
}

const INTRODUCTION: &str = "\
# Settings

<!-- Generated from the rows in crates/config/src/table by `make gen`. -->

A setting can be given in several places. The strongest first:

1. the command line, `--timeout 30`;
2. the environment, `SERVE_TIMEOUT=30`;
3. gunicorn's variable, `GUNICORN_CMD_ARGS=\"--timeout 30\"`;
4. the config file, `timeout = 30`;
5. the variables that platforms set, `PORT` and `WEB_CONCURRENCY`;
6. the default.

A stronger place replaces the value of a weaker one, also when it is a
list. A variable that is empty, and an empty text or a `None` in the
config file, count as not set. `serve --print-config` shows every value
and where it came from. A wrong value ends the start with exit code 2
and one sentence that says where the mistake is. The headings below are
the names in a config file; [its forms](../guides/configuration.md) have
a page of their own.
";

/// The page `docs/reference/settings.md`.
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_string();
    let mut group = "";
    for row in TABLE {
        if row.group != group {
            group = row.group;
            page.push_str(&format!("\n## {group}\n"));
        }
        page.push_str(&section(row));
    }
    page.push_str("\n## Only on the command line\n\n| | |\n|---|---|\n");
    for (short, long, value, summary) in COMMANDS {
        let short = short.map(|short| format!("`-{short}`, ")).unwrap_or_default();
        let value = value.map(|value| format!(" {value}")).unwrap_or_default();
        page.push_str(&format!("| {short}`--{long}{value}` | {summary} |\n"));
    }
    page.push_str(ABSENCE);
    for row in ABSENT {
        let flags: String = row.flags.iter().map(|flag| format!(", `{flag}`")).collect();
        page.push_str(&format!("| `{}`{flags} | {} |\n", row.name, row.sentence()));
    }
    page
}

const ABSENCE: &str = "
## Only in gunicorn

These are read wherever a setting is, and the log says once what comes
of each that asks for something. A setting that cannot be had ends the
start.

| setting | |
|---|---|
";

fn section(row: &Row) -> String {
    let code = |words: Vec<String>| {
        words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    };
    let flags = row.flags.iter().map(|flag| match row.flag() {
        shown if *flag == shown && flag.starts_with('-') => format!("{flag} {}", row.value),
        _ => flag.to_string(),
    });
    let variables = [Some(row.variable()), row.platform_variable.map(String::from)];
    let default = match row.default {
        None => "not set".into(),
        Some("") => "none".into(),
        Some(default) => format!("`{default}`"),
    };
    let mut section = format!("\n### `{}`\n\n{}\n\n", row.name, wrap(row.details));
    for (title, text) in [
        ("Command line", code(flags.map(|flag| flag.trim_end().to_string()).collect())),
        ("Environment", code(variables.into_iter().flatten().collect())),
        ("Value", row.kind.expected()),
        ("Default", default),
    ] {
        section.push_str(&format!("- {title}: {text}\n"));
    }
    if !row.gunicorn.is_empty() {
        section.push_str(&format!("\n{}\n", wrap(row.gunicorn)));
    }
    section
}

/// Breaks a paragraph into lines of at most 72 columns.
fn wrap(paragraph: &str) -> String {
    let mut lines = vec![String::new()];
    for word in paragraph.split(' ') {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.len() + 1 + word.len() > 72 {
            lines.push(word.into());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Map;

    use super::*;
    use crate::merge::{from_json, resolve};

    #[test]
    fn the_committed_page_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/settings.md");
        let committed = fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == reference(),
            "docs/reference/settings.md is not up to date: `make gen`"
        );
    }

    #[test]
    fn the_page_has_prose_of_72_columns() {
        let long = |line: &&str| line.len() > 72 && !line.starts_with(['-', '|', '<']);
        let page = reference();
        assert_eq!(page.lines().filter(long).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn print_tells_where_each_value_is_from() {
        let vars = |name: &str| (name == "WEB_CONCURRENCY").then(|| "3".to_string());
        let platform = crate::from_env(vars).unwrap().platform;
        let (file, _) = from_json("serve.conf.py", r#"{"max_body_size": 10485760}"#).unwrap();
        let cli = crate::parse_args(["serve", "--preload"].map(Into::into)).unwrap();
        let page = resolve(&[platform, file, cli.layer]).unwrap().print();
        for line in [
            "wsgi_app                          = None                      # default",
            "preload_app                       = True                      # command line (--preload)",
            "bind                              = [\"127.0.0.1:8000\"]        # default",
            "workers                           = 3                         # environment (WEB_CONCURRENCY)",
            "max_body_size                     = \"10M\"                     # serve.conf.py",
        ] {
            assert!(page.lines().any(|printed| printed == line), "{line}\n{page}");
        }
    }

    #[test]
    fn changes_are_told_in_the_words_of_the_config_file() {
        let settings = |json| resolve(&[from_json("x", json).unwrap().0]).unwrap();
        let old = settings(r#"{"timeout": 30, "backlog": 2048}"#);
        let new = settings(r#"{"timeout": "1m", "accesslog": "-", "preload_app": true}"#);
        assert_eq!(
            old.changes(&new),
            ["preload_app: False -> True", "timeout: 30 -> 60", "accesslog: None -> \"-\""]
        );
        assert_eq!(new.changes(&new), [""; 0]);
    }

    /// As Python would evaluate what was printed.
    fn evaluate(page: &str) -> String {
        let values: Map<_, _> = page
            .lines()
            .map(|line| {
                let (name, rest) = line.split_once(" = ").unwrap();
                let value = in_json(rest.rsplit_once("  # ").unwrap().0);
                (name.trim_end().to_string(), serde_json::from_str(&value).unwrap())
            })
            .collect();
        Json::Object(values).to_string()
    }

    /// Python's words outside of texts become those of JSON.
    fn in_json(value: &str) -> String {
        let mut inside = false;
        let parts = value.replace("\\\\", "\u{1}").replace("\\\"", "\u{2}");
        let parts = parts.split('"').map(|part| {
            inside = !inside;
            if !inside {
                return part.to_owned();
            }
            part.replace("None", "null").replace("True", "true").replace("False", "false")
        });
        let joined = parts.collect::<Vec<_>>().join("\"");
        joined.replace('\u{2}', "\\\"").replace('\u{1}', "\\\\")
    }

    #[test]
    fn what_is_printed_is_a_config_file_that_means_the_same() {
        for nth in 0..5 {
            let sample = |row: &Row| {
                let mut samples = row.kind.samples();
                let at = nth % samples.len();
                (row.name.to_string(), Json::from(samples.swap_remove(at)))
            };
            let json = Json::Object(TABLE.iter().map(sample).collect()).to_string();
            let settings = resolve(&[from_json("x", &json).unwrap().0]).unwrap();
            let (again, warnings) = from_json("x", &evaluate(&settings.print())).unwrap();
            assert_eq!(warnings, [""; 0]);
            assert_eq!(resolve(&[again]).unwrap(), settings);
        }
        let defaults = resolve(&[]).unwrap().print();
        let (again, _) = from_json("x", &evaluate(&defaults)).unwrap();
        assert_eq!(evaluate(&resolve(&[again]).unwrap().print()), evaluate(&defaults));
    }
}
