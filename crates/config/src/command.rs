//! The command line: a clap command made from the table, and what a user asked
//! for with it.
//!
//! clap knows names and arity only. Values are checked by the table's kinds, so
//! that the same mistake reads the same wherever it was made.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value as Json;

use crate::error::Error;
use crate::kind::Kind;
use crate::merge::{Layer, Origin};
use crate::suggest::nearest;
use crate::table::{ABSENT, Absent, COMMANDS, Row, TABLE};

/// A command line that could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Cli {
    /// The settings it gives.
    pub layer: Layer,
    /// The config file that `-c` names.
    pub config: Option<String>,
    /// What it asks for.
    pub action: Action,
}

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Serve.
    Run,
    /// `--check-config`: load everything, serve nothing.
    CheckConfig,
    /// `--print-config`: show [`crate::Settings::print`].
    PrintConfig,
    /// `--help`, `--version`: write this text to stdout and leave with 0.
    Show(String),
}

/// Reads a command line; the first argument is the program's own name.
///
/// # Errors
/// [`Error::Usage`] if the options are wrong, [`Error::Value`] for the first
/// value that its setting does not take.
pub fn parse_args(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Error> {
    read(args, |flag| Origin::CommandLine(flag.into()))
}

/// Reads `GUNICORN_CMD_ARGS`, a command line in a variable.
pub(crate) fn gunicorn_args(text: &str) -> Result<Cli, Error> {
    const NAME: &str = "GUNICORN_CMD_ARGS";
    let wrong = |sentence: &str| Error::Usage(format!("{NAME}: {sentence}"));
    let words = shlex::split(text).ok_or_else(|| wrong("a quotation mark is not closed"))?;
    let args = ["serve".to_string()].into_iter().chain(words).map(OsString::from);
    read(args, |flag| Origin::Environment(format!("{NAME} {flag}"))).map_err(|error| match error {
        Error::Usage(sentence) if !sentence.starts_with(NAME) => wrong(&sentence),
        other => other,
    })
}

fn read(
    args: impl IntoIterator<Item = OsString>,
    origin: impl Fn(&str) -> Origin,
) -> Result<Cli, Error> {
    match command(Extent::Common).try_get_matches_from(args) {
        Ok(matches) => Ok(Cli {
            layer: layer(&matches, origin)?,
            config: matches.get_one("config").cloned(),
            action: action(&matches),
        }),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Cli {
                layer: Layer::default(),
                config: None,
                action: Action::Show(error.to_string()),
            }),
            _ => Err(Error::Usage(sentence(&error))),
        },
    }
}

fn action(matches: &ArgMatches) -> Action {
    if matches.get_flag("help-all") {
        Action::Show(command(Extent::All).render_help().to_string())
    // As in gunicorn, printing implies the rest of the checks and so wins.
    } else if matches.get_flag("print-config") {
        Action::PrintConfig
    } else if matches.get_flag("check-config") {
        Action::CheckConfig
    } else {
        Action::Run
    }
}

fn layer(matches: &ArgMatches, origin: impl Fn(&str) -> Origin) -> Result<Layer, Error> {
    let mut layer = Layer::default();
    for row in TABLE {
        if let Some((flag, value)) = written(row, matches) {
            layer.set(row, origin(flag), &value)?;
        }
    }
    for row in ABSENT.iter().filter(|row| !row.flags.is_empty()) {
        let value = if row.takes_value {
            matches.get_one::<String>(row.name).map(|text| Json::from(text.as_str()))
        } else {
            matches.get_flag(row.name).then_some(Json::Bool(true))
        };
        layer.miss(row, &origin(row.flags[0]), &value.unwrap_or_default())?;
    }
    Ok(layer)
}

/// The flag of `row` and its value, if it is on the command line.
fn written(row: &Row, matches: &ArgMatches) -> Option<(&'static str, Json)> {
    let all = |name| matches.get_many::<String>(name).map(|items| items.cloned().collect());
    match row.kind {
        Kind::Switch => switches(row)
            .find(|flag| matches.get_flag(flag))
            .map(|flag| (flag, Json::Bool(!flag.starts_with("--no-")))),
        // Joined, so that a comma within one separates as it does elsewhere.
        Kind::List | Kind::Items | Kind::Table => {
            let items: Vec<_> = all(row.name)?;
            Some((row.flag(), Json::from(items.join(","))))
        }
        Kind::Pairs => {
            let items: Vec<_> = all(row.name)?;
            Some((row.flag(), Json::from(items)))
        }
        _ => {
            let text = matches.get_one::<String>(row.name)?;
            Some((row.flag(), Json::from(text.as_str())))
        }
    }
}

/// The long flags of a switch, which are also clap's names for them.
fn switches(row: &Row) -> impl Iterator<Item = &'static str> {
    row.flags.iter().copied().filter(|flag| flag.starts_with("--"))
}

/// How much of it `--help` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// What most need.
    Common,
    /// Everything but aliases.
    All,
}

/// What `--help` shows; `--help-all` shows the rest, too.
const COMMON: &[&str] = &[
    "wsgi_app",
    "chdir",
    "preload_app",
    "bind",
    "workers",
    "worker_class",
    "threads",
    "timeout",
    "graceful_timeout",
    "max_requests",
    "max_body_size",
    "accesslog",
    "errorlog",
    "loglevel",
    "reload",
];

/// The whole command line, for a man page and completions.
pub fn command_line() -> Command {
    command(Extent::All)
}

fn command(extent: Extent) -> Command {
    let shown = |row: &Row| extent == Extent::All || COMMON.contains(&row.name);
    let settings = TABLE.iter().flat_map(|row| match row.kind {
        Kind::Switch => switches(row)
            .map(|flag| switch(row, flag).hide(flag.starts_with("--no-") || !shown(row)))
            .collect(),
        _ => vec![option(row).hide(!shown(row))],
    });
    let absent = ABSENT.iter().filter(|row| !row.flags.is_empty());
    let commands = COMMANDS.iter().map(|&(short, long, value, summary)| {
        let action = match (long, value) {
            ("help", _) => ArgAction::Help,
            ("version", _) => ArgAction::Version,
            (_, Some(_)) => ArgAction::Set,
            (_, None) => ArgAction::SetTrue,
        };
        let arg = Arg::new(long).long(long).short(short).action(action).help(summary);
        arg.value_name(value.unwrap_or_default()).help_heading("Other")
    });
    Command::new("serve")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An application server for Python WSGI applications.")
        .override_usage("serve [OPTIONS] [APP]")
        .after_help(AFTER_HELP)
        .disable_help_flag(true)
        .disable_version_flag(true)
        // Scripts append flags to a common set of them: the last one counts.
        .args_override_self(true)
        .max_term_width(100)
        .args(settings)
        .args(absent.map(ignored))
        .args(commands)
}

/// An option of gunicorn's that this server has not.
fn ignored(row: &Absent) -> Arg {
    let action = if row.takes_value { ArgAction::Set } else { ArgAction::SetTrue };
    spelled(Arg::new(row.name).action(action).hide(true), row.flags)
}

const AFTER_HELP: &str = "\
Examples:
  serve main:app -w 4                     app in main.py, with 4 workers
  serve main:app -b unix:/run/app.sock    behind a proxy on the same machine
  serve -c serve.conf.py                  settings from a config file

A setting can also be a variable (SERVE_TIMEOUT=30) or a line of a config file
(timeout = 30). Without -c, the first of these is read that is there:
serve.conf.py, gunicorn.conf.py, serve.toml, serve.json, [tool.serve] of
pyproject.toml. --print-config shows where each value comes from, and
--help-all all options.";

fn option(row: &Row) -> Arg {
    let arg = Arg::new(row.name).value_name(row.value).help(help(row));
    let arg = match row.kind {
        Kind::List | Kind::Items | Kind::Table | Kind::Pairs => arg.action(ArgAction::Append),
        _ => arg.action(ArgAction::Set),
    };
    let arg = match row.kind.bare() {
        Some(value) => arg.num_args(0..=1).default_missing_value(value),
        None => arg,
    };
    if !row.flag().starts_with('-') {
        return arg;
    }
    // A negative number is then a bad value, not an unknown option.
    spelled(arg.help_heading(row.group).allow_negative_numbers(true), row.flags)
}

/// The first long flag is the name, other ones are aliases.
fn spelled(arg: Arg, flags: &[&'static str]) -> Arg {
    flags.iter().fold(arg, |arg, flag| match flag.strip_prefix("--") {
        Some(long) if arg.get_long().is_none() => arg.long(long),
        Some(alias) => arg.alias(alias),
        None => arg.short(flag.chars().nth(1)),
    })
}

/// One flag of a switch. The one that turns it off is not in `--help`: the
/// reference page has it.
fn switch(row: &'static Row, flag: &'static str) -> Arg {
    let short = row.flags.iter().find(|flag| !flag.starts_with("--"));
    Arg::new(flag)
        .long(flag.trim_start_matches('-'))
        .short(short.filter(|_| flag == row.flag()).and_then(|short| short.chars().nth(1)))
        .action(ArgAction::SetTrue)
        .overrides_with_all(switches(row))
        .help(help(row))
        .help_heading(row.group)
}

fn help(row: &Row) -> String {
    match row.default {
        Some(default) if !default.is_empty() && !matches!(row.kind, Kind::Switch) => {
            format!("{} [default: {default}]", row.summary)
        }
        _ => row.summary.into(),
    }
}

/// clap's message in one sentence: without its usage, and with our own guess at
/// what was meant.
fn sentence(error: &clap::Error) -> String {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(given))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        return unknown(given);
    }
    let rendered = error.to_string();
    let first = rendered.lines().next().unwrap_or_default();
    format!("{}; see serve --help", first.strip_prefix("error: ").unwrap_or(first))
}

/// Options of other servers, and what to write here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("--host", "write --bind HOST:PORT, as in --bind 0.0.0.0:8000"),
    ("--port", "write --bind HOST:PORT, as in --bind 127.0.0.1:8000"),
    ("--debug", "--reload reloads what is saved, and --log-level debug says more"),
    ("--factory", "write a call in quotes, as in 'main:create_app()'"),
    ("--app", "write the application alone, as in `serve main:app`"),
];

fn unknown(given: &str) -> String {
    if !given.starts_with('-') {
        return format!(
            "unexpected argument '{given}': what is before it is taken for the application, \
             and one can be served, as in `serve main:app`"
        );
    }
    if let Some((_, advice)) = ELSEWHERE.iter().find(|(flag, _)| *flag == given) {
        return format!("unknown option '{given}'; {advice}");
    }
    let settings = TABLE.iter().flat_map(|row| row.flags.iter().copied());
    let longs = settings.filter_map(|flag| flag.strip_prefix("--"));
    let commands = COMMANDS.iter().map(|(_, long, ..)| *long);
    match nearest(given.trim_start_matches('-'), longs.chain(commands)) {
        Some(meant) => format!("unknown option '{given}'; did you mean '--{meant}'?"),
        None => format!("unknown option '{given}'; see serve --help"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::merge::{Remark, resolve};
    use crate::settings::{LogFile, Settings};
    use crate::table::Fate;

    fn parse(line: &str) -> Result<Cli, Error> {
        parse_args(format!("serve {line}").split_whitespace().map(OsString::from))
    }

    fn settings(line: &str) -> Settings {
        resolve(&[parse(line).unwrap().layer]).unwrap()
    }

    fn refusal(line: &str) -> String {
        parse(line).expect_err(line).to_string()
    }

    #[test]
    fn clap_finds_no_fault_with_the_command() {
        command(Extent::All).debug_assert();
    }

    #[test]
    fn each_flag_and_alias_reaches_its_setting() {
        for row in TABLE {
            for flag in row.flags {
                let sample = row.kind.samples().remove(0);
                let line = match row.kind {
                    Kind::Switch => flag.to_string(),
                    _ if !flag.starts_with('-') => sample.clone(),
                    _ => format!("{flag} {sample}"),
                };
                let sample = match row.kind {
                    Kind::Switch => json!(!flag.starts_with("--no-")),
                    _ => row.kind.check(&json!(sample)).unwrap(),
                };
                let settings = settings(&line);
                assert_eq!(settings.to_value()[row.name], sample, "{line}");
                let origin = settings.origin(row.name).to_string();
                assert!(origin.starts_with("command line ("), "{origin}");
            }
        }
    }

    #[test]
    fn a_gunicorn_command_line_is_understood() {
        let found = settings(
            "-w 4 -k sync -b 0.0.0.0:80 --bind unix:/run/app.sock,[::1]:80 -t 120 --keep-alive 5 \
             --access-logfile - --log-file /var/log/app.log --log-level=DEBUG --preload \
             --limit-request-field_size 0 main:app",
        );
        assert_eq!(found.wsgi_app.as_deref(), Some("main:app"));
        assert_eq!(found.bind, ["0.0.0.0:80", "unix:/run/app.sock", "[::1]:80"]);
        assert_eq!(found.accesslog, Some(LogFile::Standard));
        assert_eq!(found.errorlog, LogFile::File("/var/log/app.log".into()));
        assert_eq!(found.limit_request_field_size, None);
        assert!(found.preload_app);
    }

    #[test]
    fn the_last_of_a_repeated_flag_counts() {
        let timeout = |line| settings(line).to_value()["timeout"].clone();
        assert_eq!(timeout("-t 5 --timeout 10"), json!(10));
        assert!(!settings("--preload --no-preload").preload_app);
        assert!(settings("--no-preload --preload --preload").preload_app);
        let origin = settings("--preload --no-preload").origin("preload_app").to_string();
        assert_eq!(origin, "command line (--no-preload)");
    }

    #[test]
    fn the_proxy_protocol_needs_no_value() {
        let version = |line| settings(line).to_value()["proxy_protocol"].clone();
        for line in ["main:app --proxy-protocol", "--proxy-protocol -w 2 main:app"] {
            assert_eq!(version(line), json!("auto"), "{line}");
        }
        for line in ["--proxy-protocol v1 main:app", "--proxy-protocol=v1 main:app"] {
            assert_eq!(version(line), json!("v1"), "{line}");
        }
        let error = refusal("--proxy-protocol main:app");
        assert!(error.starts_with("--proxy-protocol: 'main:app' is unknown; use off,"), "{error}");
    }

    #[test]
    fn actions() {
        let parsed = |line| parse(line).unwrap();
        assert_eq!(parsed("m:a").action, Action::Run);
        assert_eq!(parsed("--check-config m:a").action, Action::CheckConfig);
        assert_eq!(parsed("--check-config --print-config").action, Action::PrintConfig);
        assert_eq!(parsed("m:a -c x.py").config.as_deref(), Some("x.py"));
        assert_eq!(parsed("m:a").config, None);
        for line in ["-v", "--version", "m:a --version"] {
            assert_eq!(parsed(line).action, Action::Show("serve 0.1.0\n".into()), "{line}");
        }
    }

    #[test]
    fn help_names_everything_within_the_width() {
        let Action::Show(help) = parse("--help-all").unwrap().action else { panic!("no help") };
        for row in TABLE {
            assert!(help.contains(row.flag()), "{}", row.flag());
            assert!(help.contains(row.summary.split(' ').next().unwrap()), "{}", row.name);
        }
        assert!(help.contains("Usage: serve [OPTIONS] [APP]\n"));
        assert!(help.lines().all(|line| line.len() <= 100), "{help}");
        assert!(!help.contains("--no-preload") && !help.contains("--log-file "));
        assert!(!help.contains("--paste"));
    }

    #[test]
    fn the_short_help_fits_a_screen_or_two() {
        for line in ["-h", "--help"] {
            let Action::Show(help) = parse(line).unwrap().action else { panic!("no help") };
            assert!(help.lines().count() <= 60, "{help}");
            for word in ["--bind", "--workers", "--timeout", "--preload", "--config", "--help-all"]
            {
                assert!(help.contains(word), "{word}\n{help}");
            }
            assert!(!help.contains("--initgroups"));
        }
        assert!(COMMON.iter().all(|name| TABLE.iter().any(|row| row.name == *name)));
    }

    #[test]
    fn what_only_gunicorn_has_is_understood() {
        for row in ABSENT.iter().filter(|row| row.fate != Fate::Refused) {
            for flag in row.flags {
                let line = if row.takes_value { format!("{flag} x") } else { flag.to_string() };
                let parsed = parse(&line).expect(&line);
                let told = format!("{} {}", row.flags[0], row.sentence());
                let remark = match row.fate {
                    Fate::Needless => Remark::Note(told),
                    _ => Remark::Warning(told),
                };
                assert_eq!(parsed.layer.remarks(), [remark], "{line}");
            }
        }
        assert!(refusal("--protocol uwsgi").starts_with("--protocol cannot be had: "));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_sentence() {
        for (line, sentence) in [
            ("--wrokers 4", "unknown option '--wrokers'; did you mean '--workers'?"),
            ("--hlep", "unknown option '--hlep'; did you mean '--help'?"),
            ("--colour=always", "unknown option '--colour'; see serve --help"),
            ("-z", "unknown option '-z'; see serve --help"),
            (
                "run c:d",
                "unexpected argument 'c:d': what is before it is taken for the application, \
                 and one can be served, as in `serve main:app`",
            ),
            (
                "-w",
                "a value is required for '--workers <N>' but none was supplied; see serve --help",
            ),
            (
                "--preload=1",
                "unexpected value '1' for '--preload' found; no more were expected; see serve --help",
            ),
            ("-w two", "--workers: 'two' is not a whole number from 1 to 500 or \"auto\""),
            ("-w -1", "--workers: '-1' is not a whole number from 1 to 500 or \"auto\""),
            ("-w 0", "--workers: '0' is not a whole number from 1 to 500 or \"auto\""),
            (
                "-t soon",
                "--timeout: 'soon' is not a time from 0 to a year, such as 30, 0.5, 500ms or 2m",
            ),
            (
                "--header-timeout 0",
                "--header-timeout: '0' is not a time from 1ms to a year, such as 30, 0.5, 500ms or 2m",
            ),
            ("-b a,", "--bind: 'a,' is not a non-empty text or a list of such"),
            ("--backlog 0", "--backlog: '0' is not a whole number from 1 to 2147483647"),
            (
                "--unix-socket-mode rw",
                "--unix-socket-mode: 'rw' is not an octal file mode from 0000 to 0777, such as 0660, or 0o660 as a number",
            ),
            (
                "--max-body-size 1X",
                "--max-body-size: '1X' is not a number of bytes, such as 1048576, 512k, 10M or 1G",
            ),
            (
                "-k gevnt",
                "--worker-class: 'gevnt' is unknown; use sync, threads, async or gevent \
                 (did you mean 'gevent'?)",
            ),
            (
                "-k tornado",
                "--worker-class: 'tornado' cannot be had: it is for Tornado applications; \
                 serve those with Tornado's own server",
            ),
            ("-e A", "--env: [\"A\"] is not a NAME=VALUE or a list of such"),
            (
                "--log-level warnin",
                "--log-level: 'warnin' is unknown; use trace, debug, info, warning, error or critical \
                 (did you mean 'warning'?)",
            ),
        ] {
            assert_eq!(refusal(line), sentence, "{line}");
        }
        let empty = parse_args(["serve", ""].map(OsString::from)).unwrap_err();
        assert_eq!(empty.to_string(), "APP: '' is not a non-empty text");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        use std::os::unix::ffi::OsStringExt;
        let args = [OsString::from("serve"), "--chdir".into(), OsString::from_vec(vec![0xff])];
        let message = parse_args(args).unwrap_err().to_string();
        assert_eq!(
            message,
            "invalid UTF-8 was detected in one or more arguments; see serve --help"
        );
    }
}
