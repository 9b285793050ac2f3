//! The form of a line: gunicorn's template, compiled once, or JSON.

use std::io::Write;
use std::process;
use std::time::Duration;

use serve_http::Version;

use super::{Entry, json};
use crate::gateway::Peer;

/// The combined format of Apache and nginx, which is gunicorn's default.
const COMBINED: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

/// How lines look.
#[derive(Debug, Clone)]
pub struct Format {
    form: Form,
    /// Names of the response headers that a line shows.
    response: Vec<String>,
    /// Names of the environ's values that a line shows.
    environ: Vec<String>,
    unknown: Vec<String>,
}

#[derive(Debug, Clone)]
enum Form {
    Json,
    Template { parts: Vec<Part>, escapes: Escapes },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Atom(Atom),
}

/// How what could end a field or a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// `\x0a`, as nginx does.
    Hex,
    /// `\u000a`, for a template that makes JSON.
    Json,
}

/// A place in the template that is filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Atom {
    Client,
    /// What nobody knows any more (`l`), or this version does not.
    Nothing,
    User,
    Time,
    Request,
    Method,
    Path,
    Query,
    Protocol,
    Status,
    Bytes,
    Seconds,
    Milliseconds,
    Microseconds,
    DecimalSeconds,
    Pid,
    RequestId,
    Worker,
    Queued,
    App,
    /// A request header.
    In(String),
    /// A response header: which one of [`Format::response`].
    Out(usize),
    /// A value of the environ: which one of [`Format::environ`].
    Environ(usize),
}

impl Default for Format {
    fn default() -> Self {
        Self::parse(COMBINED).expect("tests::the_default_is_the_combined_format")
    }
}

impl Format {
    /// Reads a template such as `%(h)s "%(r)s" %(s)s`, or the word `json`.
    ///
    /// # Errors
    /// What is wrong with it; continues a sentence that the template begins.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (response, environ, unknown) = (Vec::new(), Vec::new(), Vec::new());
        let mut format = Self { form: Form::Json, response, environ, unknown };
        if text == "json" {
            return Ok(format);
        }
        let escapes = if text.starts_with('{') { Escapes::Json } else { Escapes::Hex };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            push(&mut parts, before);
            rest = match after.strip_prefix('%') {
                Some(after) => {
                    push(&mut parts, "%");
                    after
                }
                None => {
                    let (name, after) = placeholder(after)?;
                    let atom = format.atom(name);
                    parts.push(Part::Atom(atom));
                    after
                }
            };
        }
        push(&mut parts, rest);
        format.form = Form::Template { parts, escapes };
        Ok(format)
    }

    /// Atoms that mean nothing here; a line has `-` in their place.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    pub(crate) fn response(&self) -> &[String] {
        &self.response
    }

    pub(crate) fn environ(&self) -> &[String] {
        &self.environ
    }

    fn atom(&mut self, name: &str) -> Atom {
        let header = |kind: char| name.strip_prefix('{')?.strip_suffix(kind)?.strip_suffix('}');
        if let Some(name) = header('i') {
            return Atom::In(name.to_owned());
        }
        if let Some(name) = header('o') {
            return Atom::Out(place(&mut self.response, name));
        }
        if let Some(name) = header('e') {
            return Atom::Environ(place(&mut self.environ, name));
        }
        match name {
            "h" => Atom::Client,
            "l" => Atom::Nothing,
            "u" => Atom::User,
            "t" => Atom::Time,
            "r" => Atom::Request,
            "m" => Atom::Method,
            "U" => Atom::Path,
            "q" => Atom::Query,
            "H" => Atom::Protocol,
            "s" => Atom::Status,
            "B" | "b" => Atom::Bytes,
            "f" => Atom::In("referer".into()),
            "a" => Atom::In("user-agent".into()),
            "T" => Atom::Seconds,
            "M" => Atom::Milliseconds,
            "D" => Atom::Microseconds,
            "L" => Atom::DecimalSeconds,
            "p" => Atom::Pid,
            "request_id" => Atom::RequestId,
            "worker" => Atom::Worker,
            "queue_ms" => Atom::Queued,
            "app_ms" => Atom::App,
            _ => {
                self.unknown.push(name.to_owned());
                Atom::Nothing
            }
        }
    }

    pub(super) fn write(&self, entry: &Entry<'_>, worker: u32, out: &mut Vec<u8>) {
        match &self.form {
            Form::Json => json::write(entry, worker, out),
            Form::Template { parts, escapes } => {
                for part in parts {
                    match part {
                        Part::Text(text) => out.extend_from_slice(text),
                        Part::Atom(atom) => atom.write(entry, worker, *escapes, out),
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

/// A line break in the template would break the line.
fn push(parts: &mut Vec<Part>, text: &str) {
    if text.is_empty() {
        return;
    }
    let text = text.replace(['\r', '\n'], " ").into_bytes();
    match parts.last_mut() {
        Some(Part::Text(before)) => before.extend(text),
        _ => parts.push(Part::Text(text)),
    }
}

/// `(name)s…`: the name, and what follows it.
fn placeholder(text: &str) -> Result<(&str, &str), String> {
    let inner = text.strip_prefix('(').and_then(|text| text.split_once(')'));
    let Some((name, rest)) = inner else {
        let place: String = text.chars().take(8).collect();
        return Err(format!(
            "has a lone '%' before '{place}': expected an atom such as %(h)s, or %% for itself"
        ));
    };
    match rest.strip_prefix(['s', 'd']) {
        Some(rest) => Ok((name, rest)),
        None => Err(format!("has %({name}) without the s after it: expected %({name})s")),
    }
}

fn place(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}

impl Atom {
    fn write(&self, entry: &Entry<'_>, worker: u32, escapes: Escapes, out: &mut Vec<u8>) {
        let head = entry.head;
        let text = |text: Option<&[u8]>, out: &mut Vec<u8>| match text {
            Some(text) => escapes.write(text, out),
            None => out.push(b'-'),
        };
        match self {
            Self::Client => match entry.seen.client {
                Peer::Tcp(address) => put(out, format_args!("{}", address.ip())),
                Peer::Unix => out.push(b'-'),
            },
            Self::Nothing => out.push(b'-'),
            Self::User => text(entry.user().as_deref(), out),
            Self::Time => out.extend_from_slice(entry.clock.local().as_bytes()),
            Self::Request => escapes.write(head.request_line(), out),
            Self::Method => text(known(head.method()), out),
            Self::Path => text(known(head.path()), out),
            Self::Query => escapes.write(head.query(), out),
            Self::Protocol => out.extend_from_slice(match head.version() {
                Version::Http10 => b"HTTP/1.0",
                Version::Http11 => b"HTTP/1.1",
            }),
            Self::Status => put(out, format_args!("{}", entry.status)),
            Self::Bytes => put(out, format_args!("{}", entry.bytes)),
            Self::Seconds => put(out, format_args!("{}", entry.duration.as_secs())),
            Self::Milliseconds => put(out, format_args!("{}", entry.duration.as_millis())),
            Self::Microseconds => put(out, format_args!("{}", entry.duration.as_micros())),
            Self::DecimalSeconds => {
                let (whole, micros) = (entry.duration.as_secs(), entry.duration.subsec_micros());
                put(out, format_args!("{whole}.{micros:06}"));
            }
            Self::Pid => put(out, format_args!("<{}>", process::id())),
            Self::RequestId => match &entry.seen.id {
                Some(id) => put(out, format_args!("{id}")),
                None => out.push(b'-'),
            },
            Self::Worker => put(out, format_args!("{worker}")),
            Self::Queued => span(entry.queued, out),
            Self::App => span(entry.app, out),
            Self::In(name) => text(head.field(name.as_bytes()), out),
            Self::Out(index) => text(noted(&entry.notes.response, *index), out),
            Self::Environ(index) => text(noted(&entry.notes.environ, *index), out),
        }
    }
}

/// What a refused request may lack.
pub(super) fn known(text: &[u8]) -> Option<&[u8]> {
    Some(text).filter(|text| !text.is_empty())
}

fn noted(notes: &[Option<Vec<u8>>], index: usize) -> Option<&[u8]> {
    notes.get(index)?.as_deref()
}

fn span(span: Option<Duration>, out: &mut Vec<u8>) {
    match span {
        Some(span) => milliseconds(span, out),
        None => out.push(b'-'),
    }
}

pub(super) fn milliseconds(span: Duration, out: &mut Vec<u8>) {
    let micros = span.as_micros();
    put(out, format_args!("{}.{:03}", micros / 1000, micros % 1000));
}

pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory does not fail");
}

impl Escapes {
    /// A client must not be able to end the field or forge a line.
    fn write(self, text: &[u8], out: &mut Vec<u8>) {
        for &byte in text {
            match (byte, self) {
                (b'"' | b'\\', _) => out.extend_from_slice(&[b'\\', byte]),
                (0x20..=0x7e, _) => out.push(byte),
                (_, Self::Hex) => put(out, format_args!("\\x{byte:02x}")),
                (_, Self::Json) => put(out, format_args!("\\u{byte:04x}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<Part> {
        match Format::parse(text).unwrap().form {
            Form::Template { parts, .. } => parts,
            Form::Json => panic!("{text} is JSON"),
        }
    }

    #[test]
    fn the_default_is_the_combined_format() {
        assert_eq!(parts(COMBINED).len(), 9 + 9);
        assert_eq!(Format::default().unknown(), [""; 0]);
    }

    #[test]
    fn a_template_is_text_and_atoms() {
        let text = |text: &str| Part::Text(text.into());
        assert_eq!(
            parts("100%% %(s)s\n%(D)d %({X-A}i)s"),
            [
                text("100% "),
                Part::Atom(Atom::Status),
                text(" "),
                Part::Atom(Atom::Microseconds),
                text(" "),
                Part::Atom(Atom::In("X-A".into())),
            ]
        );
    }

    #[test]
    fn what_is_shown_twice_is_kept_once() {
        let format = Format::parse("%({a}o)s %({b}o)s %({a}o)s %({REMOTE_USER}e)s").unwrap();
        assert_eq!(format.response(), ["a", "b"]);
        assert_eq!(format.environ(), ["REMOTE_USER"]);
    }

    #[test]
    fn an_unknown_atom_is_told_and_a_broken_one_refused() {
        assert_eq!(Format::parse("%(h)s %(zz)s").unwrap().unknown(), ["zz"]);
        for (text, complaint) in [
            ("100%", "has a lone '%'"),
            ("%h", "has a lone '%' before 'h'"),
            ("%(h", "has a lone '%' before '(h'"),
            ("%(h) %(l)s", "expected %(h)s"),
        ] {
            let error = Format::parse(text).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn a_field_cannot_be_ended_by_its_content() {
        for (escapes, want) in
            [(Escapes::Hex, r#"a\"b\\c\x0a\xff"#), (Escapes::Json, r#"a\"b\\c\u000a\u00ff"#)]
        {
            let mut out = Vec::new();
            escapes.write(b"a\"b\\c\n\xff", &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
