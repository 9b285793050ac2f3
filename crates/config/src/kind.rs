//! The kinds of values a setting can have: what is accepted, and the one form
//! in which an accepted value is kept.
//!
//! Text from the command line or a variable arrives as a JSON string, so it and
//! a string in a config file mean the same. The kept ("canonical") form is what
//! `--print-config` shows, what [`crate::Settings`] is read from, and is itself
//! accepted: checking it again changes nothing.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use crate::settings::Workers;
use crate::suggest::nearest;

/// What a setting's value may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Any text that is not empty.
    Text,
    /// One or more texts; in text, separated by commas.
    List,
    /// Any number of texts; in text, separated by commas.
    Items,
    /// Any number of `NAME=VALUE`; a text is one of them, commas and all.
    Pairs,
    /// Any number of names with a value each, as a table, or as texts
    /// `NAME=VALUE`; in text, separated by commas.
    Table,
    /// Names with a value of any form each, as a table; in text, as JSON.
    Object,
    /// True or false.
    Switch,
    /// A whole number within bounds, both included.
    Count { least: u64, most: u64 },
    /// A number of worker processes, or `auto`.
    Workers,
    /// A span of time; a bare number is seconds.
    Seconds { least: Duration },
    /// A number of bytes.
    Size,
    /// Permission bits of a file: octal as text, or the number itself.
    Mode,
    /// A user or a group: its name, or its id as text or number.
    Account,
    /// A worker class, by any of the names that it has here and in gunicorn.
    Class,
    /// One of `names`; each of `others` is another word for one of them. One that
    /// knows `true` is what its flag means alone.
    Choice { names: &'static [&'static str], others: &'static [(&'static str, &'static str)] },
}

/// Longer than any sensible time, and short enough to add to any clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl Kind {
    /// The canonical form of `given`, or what is wrong with it: a text that
    /// continues a sentence which the bad value begins.
    pub(crate) fn check(&self, given: &Json) -> Result<Json, String> {
        let accepted = match self {
            Kind::Text => text(given).map(Json::from),
            Kind::List => list(given).filter(|items| !items.is_empty()).map(Json::from),
            Kind::Items => list(given).map(Json::from),
            Kind::Pairs => pairs(given).map(Json::from),
            Kind::Table => table(given).map(Json::from),
            Kind::Object => object(given).map(Json::from),
            Kind::Switch => switch(given).map(Json::from),
            Kind::Count { least, most } => {
                whole(given).filter(|n| (least..=most).contains(&n)).map(Json::from)
            }
            Kind::Workers if is_auto(given) => Some(json!("auto")),
            Kind::Workers => {
                whole(given).filter(|n| (1..=u64::from(Workers::MOST)).contains(n)).map(Json::from)
            }
            Kind::Seconds { least } => duration(given).filter(|d| d >= least).map(seconds),
            Kind::Size => size(given).map(|bytes| Json::from(size_text(bytes))),
            Kind::Mode => mode(given).map(|bits| Json::from(mode_text(bits))),
            Kind::Account => account(given).map(Json::from),
            Kind::Class => return class(given).map(Json::from),
            Kind::Choice { names, others } => return choice(given, names, others),
        };
        accepted.ok_or_else(|| format!("is not {}", self.expected()))
    }

    /// What is accepted, to follow "is not" or "expected".
    pub(crate) fn expected(&self) -> String {
        match self {
            Kind::Text => "a non-empty text".into(),
            Kind::List => "a non-empty text or a list of such".into(),
            Kind::Items => "a text or a list of texts, none of them empty".into(),
            Kind::Pairs => "a NAME=VALUE or a list of such".into(),
            Kind::Table => "a table of names and texts, or NAME=VALUE".into(),
            Kind::Object => "a table, in text a JSON object".into(),
            Kind::Switch => "true or false".into(),
            Kind::Count { least, most } => format!("a whole number from {least} to {most}"),
            Kind::Workers => format!("a whole number from 1 to {} or \"auto\"", Workers::MOST),
            Kind::Seconds { least } if least.is_zero() => {
                "a time from 0 to a year, such as 30, 0.5, 500ms or 2m".into()
            }
            Kind::Seconds { .. } => {
                "a time from 1ms to a year, such as 30, 0.5, 500ms or 2m".into()
            }
            Kind::Size => "a number of bytes, such as 1048576, 512k, 10M or 1G".into(),
            Kind::Mode => {
                "an octal file mode from 0000 to 0777, such as 0660, or 0o660 as a number".into()
            }
            Kind::Account => "a name or an id".into(),
            Kind::Class => alternatives(&CLASSES.map(|(name, _)| name)),
            Kind::Choice { names, .. } => alternatives(names),
        }
    }
}

fn text(given: &Json) -> Option<&str> {
    given.as_str().filter(|text| !text.trim().is_empty())
}

fn list(given: &Json) -> Option<Vec<&str>> {
    let items: Vec<&str> = match given {
        // Commas separate in text only: an item of a list may contain one.
        Json::String(text) if text.trim().is_empty() => Vec::new(),
        Json::String(text) => text.split(',').map(str::trim).collect(),
        Json::Array(items) => items.iter().map(text).collect::<Option<_>>()?,
        _ => return None,
    };
    items.iter().all(|item| !item.is_empty()).then_some(items)
}

fn pairs(given: &Json) -> Option<Vec<&str>> {
    let items: Vec<&str> = match given {
        Json::String(text) if text.is_empty() => Vec::new(),
        Json::String(text) => vec![text],
        Json::Array(items) => items.iter().map(Json::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    let named = |item: &&str| item.split_once('=').is_some_and(|(name, _)| !name.is_empty());
    let whole = |item: &&str| !item.contains('\0');
    items.iter().all(|item| named(item) && whole(item)).then_some(items)
}

fn table(given: &Json) -> Option<Vec<String>> {
    let items: Vec<String> = match given {
        Json::Object(table) => {
            let pair =
                |(name, value): (&String, &Json)| Some(format!("{name}={}", value.as_str()?));
            table.iter().map(pair).collect::<Option<_>>()?
        }
        other => list(other)?.into_iter().map(str::to_owned).collect(),
    };
    let is_pair = |item: &String| {
        item.split_once('=').is_some_and(|(name, value)| !name.is_empty() && !value.is_empty())
    };
    items.iter().all(is_pair).then_some(items)
}

fn object(given: &Json) -> Option<Map<String, Json>> {
    match given {
        Json::Object(table) => Some(table.clone()),
        Json::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    }
}

fn switch(given: &Json) -> Option<bool> {
    match given {
        Json::Bool(on) => Some(*on),
        Json::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn whole(given: &Json) -> Option<u64> {
    match given {
        Json::String(text) => text.trim().parse().ok(),
        other => other.as_u64(),
    }
}

fn is_auto(given: &Json) -> bool {
    given.as_str().is_some_and(|text| text.trim().eq_ignore_ascii_case("auto"))
}

/// Whole milliseconds, from `30`, `0.5`, `"30"`, `"500ms"`, `"30s"`, `"2m"`, `"1h"`.
pub(crate) fn duration(given: &Json) -> Option<Duration> {
    let seconds = match given {
        Json::String(text) => {
            let text = text.trim();
            let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
            let (number, unit) = text.split_at(unit);
            number.trim().parse::<f64>().ok()? * seconds_in(unit)?
        }
        other => other.as_f64()?,
    };
    let exact = Duration::try_from_secs_f64(seconds).ok().filter(|exact| *exact <= LONGEST)?;
    // To the nearest: cut off, a float just below its millisecond would lose it.
    let nearest = (exact + Duration::from_micros(500)).as_millis();
    let kept = Duration::from_millis(u64::try_from(nearest).ok()?);
    // Next to nothing must not become 0, which often means "never".
    let vanished = kept.is_zero() && seconds > 0.0;
    (!vanished).then_some(kept)
}

fn seconds_in(unit: &str) -> Option<f64> {
    match unit {
        "ms" => Some(0.001),
        "" | "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    }
}

/// The canonical form of a duration: a number of seconds.
pub(crate) fn seconds(duration: Duration) -> Json {
    match duration.subsec_millis() {
        0 => Json::from(duration.as_secs()),
        _ => Json::from(duration.as_secs_f64()),
    }
}

/// Powers of 1024, as in nginx.
const UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('k', 1 << 10)];

/// Bytes, from `1024`, `"1024"`, `"512k"`, `"10M"`, `"1G"`; case does not matter.
pub(crate) fn size(given: &Json) -> Option<u64> {
    let Json::String(text) = given else { return given.as_u64() };
    let text = text.trim();
    for (unit, bytes) in UNITS {
        if let Some(number) = text.strip_suffix(|c: char| c.eq_ignore_ascii_case(&unit)) {
            return number.trim().parse::<u64>().ok()?.checked_mul(bytes);
        }
    }
    text.parse().ok()
}

/// The canonical form of a size: in the largest unit that loses nothing.
pub(crate) fn size_text(bytes: u64) -> String {
    match UNITS.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Permission bits, from `"0660"`, `"660"`, `"0o660"`, or from a number, which
/// is what `0o660` in a Python file has become.
pub(crate) fn mode(given: &Json) -> Option<u32> {
    let bits = match given {
        Json::String(text) => {
            let text = text.trim();
            u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8).ok()?
        }
        other => u32::try_from(other.as_u64()?).ok()?,
    };
    (bits <= 0o777).then_some(bits)
}

/// The canonical form of a mode: four octal digits.
pub(crate) fn mode_text(bits: u32) -> String {
    format!("{bits:04o}")
}

/// A name, or what a number is as text.
fn account(given: &Json) -> Option<String> {
    match given {
        Json::Number(id) => u32::try_from(id.as_u64()?).ok().map(|id| id.to_string()),
        other => text(other).map(|name| name.trim().to_owned()),
    }
}

/// The worker classes, and what else they are called.
const CLASSES: [(&str, &[&str]); 4] = [
    ("sync", &["gunicorn.workers.sync.syncworker"]),
    ("threads", &["gthread", "gunicorn.workers.gthread.threadworker"]),
    ("async", &[]),
    (
        "gevent",
        &[
            "gevent_wsgi",
            "gevent_pywsgi",
            "gunicorn.workers.ggevent.geventworker",
            "gunicorn.workers.ggevent.geventpywsgiworker",
        ],
    ),
];

impl Kind {
    /// The words that a choice or a class may be.
    pub(crate) fn words(&self) -> Vec<&'static str> {
        match self {
            Kind::Class => {
                CLASSES.iter().flat_map(|(name, others)| [&[*name], *others].concat()).collect()
            }
            Kind::Choice { names, .. } => names.to_vec(),
            _ => Vec::new(),
        }
    }

    /// What its flag means without a value, if it may be without one.
    pub(crate) fn bare(&self) -> Option<&'static str> {
        match self {
            Kind::Choice { others, .. } => {
                others.iter().find(|(other, _)| *other == "true").map(|(_, name)| *name)
            }
            _ => None,
        }
    }
}

/// Of gunicorn's, and what there is instead.
const OTHER_CLASSES: [(&str, &str); 4] = [
    ("eventlet", "gunicorn itself has dropped it; use async, which is gevent's"),
    ("tornado", "it is for Tornado applications; serve those with Tornado's own server"),
    ("asgi", "it is for ASGI applications, and this version serves WSGI applications"),
    ("uvicorn", "it is for ASGI applications, and this version serves WSGI applications"),
];

fn class(given: &Json) -> Result<&'static str, String> {
    let word = given.as_str().unwrap_or_default().trim().to_ascii_lowercase();
    let word = word.strip_prefix("egg:gunicorn#").unwrap_or(&word);
    let names = CLASSES.map(|(name, _)| name);
    if let Some((name, _)) =
        CLASSES.iter().find(|(name, others)| *name == word || others.contains(&word))
    {
        return Ok(name);
    }
    // Import paths, too: "uvicorn.workers.UvicornWorker", "uvicorn_worker.UvicornWorker".
    if let Some((_, advice)) = OTHER_CLASSES.iter().find(|(name, _)| word.starts_with(name)) {
        return Err(format!("cannot be had: {advice}"));
    }
    let hint = nearest(word, Kind::Class.words()).map(|name| format!(" (did you mean '{name}'?)"));
    Err(format!("is unknown; use {}{}", alternatives(&names), hint.unwrap_or_default()))
}

fn choice(given: &Json, names: &[&str], others: &[(&str, &str)]) -> Result<Json, String> {
    let word = match given {
        Json::Bool(on) => on.to_string(),
        other => other.as_str().unwrap_or_default().trim().to_ascii_lowercase(),
    };
    let other = others.iter().find(|(other, _)| *other == word);
    let word = other.map_or(&*word, |(_, name)| name);
    if names.contains(&word) {
        return Ok(Json::from(word));
    }
    let choices = alternatives(names);
    let hint = match nearest(word, names.iter().copied()) {
        Some(name) if names.len() > 1 => format!(" (did you mean '{name}'?)"),
        _ => String::new(),
    };
    Err(format!("is unknown; use {choices}{hint}"))
}

/// `a, b or c`.
fn alternatives(names: &[&str]) -> String {
    match names {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.join(""),
    }
}

#[cfg(test)]
impl Kind {
    /// Values that are accepted, as text, the extreme ones among them.
    pub(crate) fn samples(&self) -> Vec<String> {
        let words: &[&str] = match self {
            Kind::Text => &["plain", "-", "\u{e9}\"\\'", "a b"],
            Kind::List => &["one:1", "one:1,unix:/two"],
            Kind::Items => &["one", "one,/two"],
            Kind::Pairs => &["ONE=1,2=3", "_="],
            Kind::Table => &["A=b", "A=b,C=d e"],
            Kind::Object => &["{}", r#"{"a": [1, true, null, {"b": "\u00e9"}], "c": 0.5}"#],
            Kind::Switch => &["true", "false", "on", "0"],
            Kind::Count { least, most } => return vec![least.to_string(), most.to_string()],
            Kind::Workers => &["auto", "1", "500"],
            Kind::Seconds { least } if least.is_zero() => &["7", "0", "1ms", "0.1", "8760h"],
            Kind::Seconds { .. } => &["7", "1ms", "0.1", "8760h"],
            Kind::Size => &["10M", "0", "1", "18446744073709551615"],
            Kind::Mode => &["0600", "0", "777"],
            Kind::Account => &["www-data", "33"],
            Kind::Class => &["sync", "gthread", "async", "gevent"],
            Kind::Choice { names, .. } => names,
        };
        words.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(kind: Kind, cases: &[(Json, Json)]) {
        for (given, kept) in cases {
            assert_eq!(kind.check(given).as_ref(), Ok(kept), "{given}");
            assert_eq!(kind.check(kept).as_ref(), Ok(kept), "{kept} checked again");
        }
    }

    fn refuses(kind: Kind, cases: &[Json]) {
        for given in cases {
            assert!(kind.check(given).is_err(), "{given} was accepted");
        }
    }

    #[test]
    fn durations() {
        let kind = Kind::Seconds { least: Duration::ZERO };
        accepts(
            kind,
            &[
                (json!("30"), json!(30)),
                (json!(30.0), json!(30)),
                (json!("0.5"), json!(0.5)),
                (json!("500ms"), json!(0.5)),
                (json!("3ms"), json!(0.003)),
                (json!(" 2 m "), json!(120)),
                (json!("1.5h"), json!(5400)),
                (json!("45s"), json!(45)),
                (json!("0"), json!(0)),
                (json!(0.29), json!(0.29)),
                (json!("31535999999ms"), json!(31_535_999.999)),
                (json!("8760h"), json!(31_536_000)),
            ],
        );
        refuses(
            kind,
            &[
                json!(""),
                json!("-1"),
                json!(-0.0001),
                json!("nan"),
                json!("inf"),
                json!("1e400"),
                json!("1e3"),
                json!("2d"),
                json!("5 S"),
                json!("0.0001"),
                json!(1e-300),
                json!("1d"),
                json!(1e300),
                json!("8761h"),
                json!(true),
                json!([30]),
                json!({"s": 1}),
            ],
        );
        refuses(Kind::Seconds { least: Duration::from_millis(1) }, &[json!(0), json!("0ms")]);
    }

    #[test]
    fn sizes() {
        accepts(
            Kind::Size,
            &[
                (json!("10M"), json!("10M")),
                (json!("10m"), json!("10M")),
                (json!("512k"), json!("512k")),
                (json!("512K"), json!("512k")),
                (json!("1G"), json!("1G")),
                (json!("1048576"), json!("1M")),
                (json!(1025), json!("1025")),
                (json!(0), json!("0")),
                (json!("0k"), json!("0")),
                (json!(u64::MAX), json!("18446744073709551615")),
            ],
        );
        refuses(
            Kind::Size,
            &[
                json!("M"),
                json!("-1"),
                json!("1.5G"),
                json!("10MB"),
                json!("99999999999G"),
                json!(1.5),
            ],
        );
    }

    #[test]
    fn modes() {
        accepts(
            Kind::Mode,
            &[
                (json!("0660"), json!("0660")),
                (json!("660"), json!("0660")),
                (json!("0o600"), json!("0600")),
                (json!(0o660), json!("0660")),
                (json!("0"), json!("0000")),
            ],
        );
        // 660 written without 0o in Python is 0o1224: nobody means that.
        refuses(Kind::Mode, &[json!(660), json!("1000"), json!("0668"), json!("rw"), json!(-1)]);
    }

    #[test]
    fn lists_switches_and_numbers() {
        accepts(
            Kind::List,
            &[
                (json!("a:1, b:2"), json!(["a:1", "b:2"])),
                (json!(["unix:/a,b"]), json!(["unix:/a,b"])),
            ],
        );
        refuses(
            Kind::List,
            &[json!(""), json!("a,,b"), json!([]), json!([""]), json!([1]), json!(8000)],
        );
        accepts(Kind::Items, &[(json!("a, b"), json!(["a", "b"])), (json!([]), json!([]))]);
        accepts(Kind::Object, &[(json!(r#"{"a": {"b": 1}}"#), json!({"a": {"b": 1}}))]);
        refuses(Kind::Object, &[json!("[1]"), json!("{"), json!([]), json!(1)]);
        let table = json!(["A=b", "C=d"]);
        accepts(
            Kind::Table,
            &[(json!({"A": "b", "C": "d"}), table.clone()), (json!("A=b, C=d"), table)],
        );
        refuses(Kind::Table, &[json!({"A": 1}), json!("A"), json!("=b"), json!(["A="])]);
        refuses(Kind::Items, &[json!("a,,b"), json!([1]), json!(["a", ""])]);
        accepts(
            Kind::Pairs,
            &[
                (json!("A=1,B=2"), json!(["A=1,B=2"])),
                (json!(["A=1", "B="]), json!(["A=1", "B="])),
                (json!([]), json!([])),
            ],
        );
        refuses(Kind::Pairs, &[json!("A"), json!("=1"), json!([["A", 1]]), json!({"A": "1"})]);
        accepts(Kind::Switch, &[(json!("Yes"), json!(true)), (json!("0"), json!(false))]);
        refuses(Kind::Switch, &[json!(1), json!("maybe"), json!("")]);
        accepts(Kind::Workers, &[(json!("AUTO"), json!("auto")), (json!("500"), json!(500))]);
        refuses(
            Kind::Workers,
            &[json!(0), json!(501), json!(2.5), json!("-1"), json!(true), json!("")],
        );
        accepts(Kind::Account, &[(json!(33), json!("33")), (json!(" www "), json!("www"))]);
        refuses(Kind::Account, &[json!(""), json!(-1), json!(4_294_967_296_u64), json!(true)]);
        refuses(Kind::Text, &[json!(""), json!("  "), json!(3)]);
    }

    #[test]
    fn worker_classes_have_gunicorns_names_too() {
        accepts(
            Kind::Class,
            &[
                (json!("Sync"), json!("sync")),
                (json!("gthread"), json!("threads")),
                (json!("egg:gunicorn#gevent"), json!("gevent")),
                (json!("gunicorn.workers.ggevent.GeventWorker"), json!("gevent")),
            ],
        );
        for (given, complaint) in [
            ("gevnt", "is unknown; use sync, threads, async or gevent (did you mean 'gevent'?)"),
            ("my.module.Worker", "is unknown; use sync, threads, async or gevent"),
        ] {
            assert_eq!(Kind::Class.check(&json!(given)), Err(complaint.into()));
        }
        for given in ["eventlet", "tornado", "asgi", "uvicorn.workers.UvicornWorker"] {
            let complaint = Kind::Class.check(&json!(given)).unwrap_err();
            assert!(complaint.starts_with("cannot be had: "), "{given} {complaint}");
        }
        refuses(Kind::Class, &[json!(1), json!(null), json!("")]);
    }

    #[test]
    fn a_choice_may_know_other_words() {
        let kind = Kind::Choice { names: &["warning", "error"], others: &[("warn", "warning")] };
        accepts(kind, &[(json!("WARN"), json!("warning")), (json!("error"), json!("error"))]);
        refuses(kind, &[json!("warned"), json!("fatal")]);
        let complaint = "is unknown; use warning or error (did you mean 'error'?)";
        assert_eq!(kind.check(&json!("eror")), Err(complaint.into()));
    }

    #[test]
    fn a_choice_that_knows_true_can_be_a_switch() {
        let others = &[("true", "auto"), ("false", "off")];
        let kind = Kind::Choice { names: &["off", "v1", "auto"], others };
        for (given, name) in [(json!(true), "auto"), (json!("True"), "auto"), (json!(false), "off")]
        {
            accepts(kind, &[(given, json!(name))]);
        }
        refuses(kind, &[json!(1), json!([]), json!("yes")]);
        assert_eq!(kind.bare(), Some("auto"));
        let other = Kind::Choice { names: &["off", "auto"], others: &[] };
        refuses(other, &[json!(true), json!(false)]);
        assert_eq!(other.bare(), None);
    }

    #[test]
    fn alternatives_read_as_a_sentence() {
        assert_eq!(alternatives(&["a"]), "a");
        assert_eq!(alternatives(&["a", "b"]), "a or b");
        assert_eq!(alternatives(&["a", "b", "c"]), "a, b or c");
    }
}
