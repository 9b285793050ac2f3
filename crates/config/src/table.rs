//! The table: one row per setting, in the order of `--help` and of the
//! reference page. The rows themselves are in the files below.
//!
//! A row is plain data. To add a setting, add its row there and a field of the
//! same name to [`crate::Settings`], of a type that fits the row's kind; every
//! source, `--help`, `--print-config` and the reference page then have it.
//! Names and flags are gunicorn's wherever the meaning is the same; what
//! gunicorn has and this server has not is in `absent`.

mod absent;
mod classes;
mod development;
mod hooks;
mod logs;
mod requests;
mod server;
mod tls;
mod trust;

use std::time::Duration;

use serde_json::Value as Json;

use crate::kind::Kind;

pub(crate) use absent::{ABSENT, Absent, Fate};
pub(crate) use hooks::HOOKS;
pub(crate) use logs::FACILITIES;

/// One setting.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Its name in config files; in capitals after `SERVE_`, its variable.
    pub(crate) name: &'static str,
    /// How the command line spells it: `-x`, `--xyz`, or a bare word for the
    /// positional argument. The first `--xyz` is the one that is shown, more
    /// are aliases; `--no-xyz` turns a switch off.
    pub(crate) flags: &'static [&'static str],
    /// A variable that platforms set, and that `SERVE_<NAME>` outweighs.
    pub(crate) platform_variable: Option<&'static str>,
    /// What to call the value in `--help`; empty for a switch.
    pub(crate) value: &'static str,
    /// What the value may be.
    pub(crate) kind: Kind,
    /// As one would write it on the command line; `None`: not set.
    pub(crate) default: Option<&'static str>,
    /// The heading it stands under.
    pub(crate) group: &'static str,
    /// For `--help`: a few words, no full stop.
    pub(crate) summary: &'static str,
    /// For the reference page: a paragraph.
    pub(crate) details: &'static str,
    /// How gunicorn differs, for the reference page; empty: not at all.
    pub(crate) gunicorn: &'static str,
}

impl Row {
    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("SERVE_{}", self.name.to_ascii_uppercase())
    }

    /// The flag to show: the first long one, or the positional argument's name.
    pub(crate) fn flag(&self) -> &'static str {
        let long = self.flags.iter().find(|flag| flag.starts_with("--"));
        long.or(self.flags.first()).expect("every row has a flag: tests::rows_are_well_formed")
    }

    /// The default in canonical form; null when there is none.
    pub(crate) fn default_value(&self) -> Json {
        self.default.map_or(Json::Null, |text| {
            let checked = self.kind.check(&Json::from(text));
            checked.expect("every default suits its kind: tests::rows_are_well_formed")
        })
    }
}

/// What a command line can ask for that is no setting: short and long flag, the
/// name of its value if it takes one, what it does.
pub(crate) const COMMANDS: &[(Option<char>, &str, Option<&str>, &str)] = &[
    (
        Some('c'),
        "config",
        Some("FILE"),
        "Read settings from this config file, or from python:MODULE",
    ),
    (None, "check-config", None, "Load the configuration and the application, then stop"),
    (
        None,
        "print-config",
        None,
        "Show every setting, its value and where that came from, then stop",
    ),
    (Some('v'), "version", None, "Show the version"),
    (Some('h'), "help", None, "Show the options that most need"),
    (None, "help-all", None, "Show all options"),
];

const APPLICATION: &str = "Application";
const SOCKETS: &str = "Sockets";
const WORKERS: &str = "Processes";
const PRIVILEGES: &str = "Privileges";
const RECYCLING: &str = "Recycling";
const TIMEOUTS: &str = "Timeouts";
const LIMITS: &str = "Limits";
const TLS: &str = "TLS";
const PROXIES: &str = "Proxies";
const LOGS: &str = "Logs";
const DEVELOPMENT: &str = "Development";

/// A time that may be 0, and one that may not.
const FROM_ZERO: Kind = Kind::Seconds { least: Duration::ZERO };
const ABOVE_ZERO: Kind = Kind::Seconds { least: Duration::from_millis(1) };

/// The rows, by file.
const FILES: &[&[Row]] = &[
    server::ROWS,
    classes::ROWS,
    requests::ROWS,
    tls::ROWS,
    trust::ROWS,
    logs::ROWS,
    development::ROWS,
];

/// The headings, in the order of `--help`.
const GROUPS: &[&str] = &[
    APPLICATION,
    SOCKETS,
    WORKERS,
    RECYCLING,
    PRIVILEGES,
    TIMEOUTS,
    LIMITS,
    TLS,
    PROXIES,
    LOGS,
    DEVELOPMENT,
];

/// All rows, by heading; under one, in the order of the files.
pub(crate) static TABLE: &[Row] = &by_group::<{ count() }>();

const fn count() -> usize {
    let (mut file, mut rows) = (0, 0);
    while file < FILES.len() {
        rows += FILES[file].len();
        file += 1;
    }
    rows
}

const fn by_group<const N: usize>() -> [Row; N] {
    let mut rows = [FILES[0][0]; N];
    let (mut group, mut at) = (0, 0);
    while group < GROUPS.len() {
        let mut file = 0;
        while file < FILES.len() {
            let mut row = 0;
            while row < FILES[file].len() {
                if same(FILES[file][row].group, GROUPS[group]) {
                    rows[at] = FILES[file][row];
                    at += 1;
                }
                row += 1;
            }
            file += 1;
        }
        group += 1;
    }
    assert!(at == N, "a row stands under a heading that is not in GROUPS");
    rows
}

/// `==`, which a constant cannot use on texts.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_well_formed() {
        for row in TABLE {
            assert!(!row.flags.is_empty(), "{} has no flag", row.name);
            row.flag();
            row.default_value();
            assert!(!row.summary.ends_with('.'), "{}: the summary ends with a full stop", row.name);
            assert!(row.details.ends_with('.'), "{}: the details do not", row.name);
            assert_eq!(row.value.is_empty(), matches!(row.kind, Kind::Switch), "{}", row.name);
            assert!(!row.details.contains("  ") && !row.gunicorn.contains("  "), "{}", row.name);
        }
    }

    #[test]
    fn no_name_or_flag_is_used_twice() {
        let mut seen = BTreeSet::new();
        let commands = COMMANDS.iter().flat_map(|(short, long, ..)| {
            short.map(|short| format!("-{short}")).into_iter().chain([format!("--{long}")])
        });
        let rows = TABLE.iter().flat_map(|row| {
            row.flags.iter().map(ToString::to_string).chain([row.name.to_string()])
        });
        let absent = ABSENT.iter().flat_map(|row| {
            row.flags.iter().map(ToString::to_string).chain([row.name.to_string()])
        });
        for word in commands.chain(rows).chain(absent) {
            assert!(seen.insert(word.clone()), "{word} is used twice");
        }
    }

    #[test]
    fn groups_are_not_scattered() {
        let mut headings: Vec<_> = TABLE.iter().map(|row| row.group).collect();
        headings.dedup();
        let distinct: BTreeSet<_> = headings.iter().collect();
        assert_eq!(distinct.len(), headings.len(), "{headings:?}");
    }
}
