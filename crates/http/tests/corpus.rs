//! Every request in `tests/requests`, fed in every way a network could.
//!
//! `NAME.http` is what a client sends, byte for byte; `NAME.expect` says what
//! must come of it. In `valid` that is the text that `util` writes about each
//! request; in `invalid` the status and the kind of the error. A line
//! `limit NAME NUMBER` before either changes a limit. No case chooses how it is
//! fed: whole, byte by byte, split at every index and, where the connection
//! survives, twice in a row.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "the corpus is files; the crate still opens none")]

mod util;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serve_http::Limits;
use util::{Ending, Outcome, feed, render};

struct Case {
    path: PathBuf,
    bytes: Vec<u8>,
    limits: Arc<Limits>,
    expected: String,
}

#[test]
fn valid_requests_are_understood() {
    let view = |outcome: &Outcome| match outcome.error {
        Some((status, kind)) => format!("status {status}\nkind {kind:?}\n"),
        None => render(outcome),
    };
    let found = cases("valid", 45)
        .into_iter()
        .map(|case| case.check(view).and_then(|()| case.check_twice()));
    report(found);
}

#[test]
fn invalid_requests_are_refused() {
    let view = |outcome: &Outcome| match outcome.error {
        Some((status, kind)) => format!("status {status}\nkind {kind:?}\n"),
        None => format!("no error, {:?}\n{}", outcome.ending, render(outcome)),
    };
    report(cases("invalid", 90).into_iter().map(|case| case.check(view)));
}

fn report(found: impl Iterator<Item = Result<(), String>>) {
    let failures: Vec<String> = found.filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{} failures\n\n{}", failures.len(), failures.join("\n"));
}

impl Case {
    /// Feeds the bytes in every way; each time `view` must be what is expected.
    fn check(&self, view: impl Fn(&Outcome) -> String) -> Result<(), String> {
        let verify = |outcome: &Outcome, how: &str| match view(outcome) {
            seen if seen == self.expected => Ok(()),
            seen => Err(format!("{} fed {how}:\n{seen}", self.path.display())),
        };
        verify(&feed(&self.limits, [&self.bytes[..]]), "whole")?;
        verify(&feed(&self.limits, self.bytes.chunks(1)), "byte by byte")?;
        for at in 0..self.bytes.len() {
            let (a, b) = self.bytes.split_at(at);
            verify(&feed(&self.limits, [a, b]), &format!("split at {at}"))?;
        }
        Ok(())
    }

    /// What survives its own end takes the same again.
    fn check_twice(&self) -> Result<(), String> {
        let once = feed(&self.limits, [&self.bytes[..]]);
        let times = match once.ending {
            Some(Ending::Idle) => 2,
            Some(Ending::Closed) => 1,
            ending => return Err(format!("{} ends {ending:?}", self.path.display())),
        };
        let expected = vec![once.requests; times].concat();
        let bytes = self.bytes.repeat(2);
        for twice in [feed(&self.limits, [&bytes[..]]), feed(&self.limits, bytes.chunks(7))] {
            if (&twice.requests, twice.error) != (&expected, None) {
                return Err(format!("{} pipelined:\n{twice:#?}", self.path.display()));
            }
        }
        Ok(())
    }
}

/// All cases of a folder, of which there must be at least `least`.
fn cases(folder: &str, least: usize) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/requests").join(folder);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "http"))
        .collect();
    paths.sort();
    assert!(paths.len() >= least, "only {} cases in {}", paths.len(), folder.display());
    paths.into_iter().map(case).collect()
}

fn case(path: PathBuf) -> Case {
    let text = fs::read_to_string(path.with_extension("expect"))
        .unwrap_or_else(|error| panic!("{}: no .expect: {error}", path.display()));
    let mut limits = Limits::default();
    let mut expected = String::new();
    for line in text.lines() {
        match line.strip_prefix("limit ").and_then(|rest| rest.split_once(' ')) {
            Some((name, value)) => set(&mut limits, name, value.parse().unwrap()),
            None => expected.extend([line, "\n"]),
        }
    }
    let bytes = fs::read(&path).unwrap();
    Case { path, bytes, limits: Arc::new(limits), expected }
}

fn set(limits: &mut Limits, name: &str, value: usize) {
    match name {
        "request_line" => limits.request_line = value,
        "fields" => limits.fields = value,
        "field_size" => limits.field_size = value,
        "head" => limits.head = value,
        "chunk_line" => limits.chunk_line = value,
        "trailers" => limits.trailers = value,
        "max_body" => limits.max_body = Some(value as u64),
        _ => panic!("no such limit: {name}"),
    }
}
