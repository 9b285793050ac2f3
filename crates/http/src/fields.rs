//! Header fields: where each of them is, and what those say that decide about the
//! connection (Host, Content-Length, Transfer-Encoding, Connection, Expect). All
//! others are only checked.

use crate::error::Kind;
use crate::framing::{Framing, content_length, transfer_coding};
use crate::grammar::{Span, field_name, is_host, is_text, list, trim};
use crate::line;
use crate::request_line::Version;

/// Whether the connection may carry another exchange after this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// It may.
    Alive,
    /// It ends with this exchange.
    Close,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Expects {
    #[default]
    Nothing,
    Continue,
}

/// The fields of one head. Spans count from its first field line.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    all: Vec<Field>,
    pub(crate) host: Option<Span>,
    pub(crate) framing: Framing,
    /// What the Connection fields ask for; `close` wins.
    pub(crate) asked: Option<Keep>,
    pub(crate) expects: Expects,
    /// Whether the name of a field has an underscore.
    pub(crate) underscored: bool,
    /// A bit for each length that a name has: most of those that are looked for are
    /// not there.
    lengths: u64,
}

impl Fields {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Name and value of each in `lines`, in order.
    pub(crate) fn of<'a>(&'a self, lines: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.all.iter().map(|field| (field.name.of(lines), field.value.of(lines)))
    }

    /// The values of those of that name, in whatever case.
    pub(crate) fn named<'a>(
        &'a self,
        lines: &'a [u8],
        name: &[u8],
    ) -> impl Iterator<Item = &'a [u8]> {
        let all = if self.lengths & bit(name.len()) == 0 { &[] } else { &self.all[..] };
        let named = all.iter().filter(|field| field.name.of(lines).eq_ignore_ascii_case(name));
        named.map(|field| field.value.of(lines))
    }

    /// Forgets them and keeps the buffer.
    pub(crate) fn clear(&mut self) {
        let mut all = std::mem::take(&mut self.all);
        all.clear();
        *self = Self { all, ..Self::default() };
    }

    pub(crate) fn shrink_to(&mut self, most: usize) {
        self.all.shrink_to(most);
    }

    /// Adds the last one of `lines`, which begins at `start`, and is complete.
    pub(crate) fn add(&mut self, lines: &[u8], start: usize, version: Version) -> Result<(), Kind> {
        let field = Field::parse(line::content(&lines[start..]), start)?;
        self.all.push(field);
        self.underscored |= field.underscored;
        let name = field.name.of(lines);
        self.lengths |= bit(name.len());
        let value = field.value.of(lines);
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => {
                if self.host.is_some() {
                    return Err(Kind::HostRepeated);
                }
                if !is_host(value) {
                    return Err(Kind::Host);
                }
                self.host = Some(field.value);
            }
            6 if is(b"expect") => self.expects = expectation(version, value)?,
            10 if is(b"connection") => self.asked = connection(self.asked, value),
            14 if is(b"content-length") => {
                self.framing = content_length(self.framing, value)?;
            }
            17 if is(b"transfer-encoding") => {
                self.framing = transfer_coding(self.framing, version, value)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// All long names share one.
fn bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// RFC 9110 10.1.1: an expectation in an HTTP/1.0 request is to be ignored.
fn expectation(version: Version, value: &[u8]) -> Result<Expects, Kind> {
    match version {
        Version::Http10 => Ok(Expects::Nothing),
        Version::Http11 if value.eq_ignore_ascii_case(b"100-continue") => Ok(Expects::Continue),
        Version::Http11 => Err(Kind::Expectation),
    }
}

/// RFC 9112 9.3: `close` wins, wherever it stands.
fn connection(asked: Option<Keep>, value: &[u8]) -> Option<Keep> {
    list(value).fold(asked, |asked, option| match asked {
        _ if option.eq_ignore_ascii_case(b"close") => Some(Keep::Close),
        None if option.eq_ignore_ascii_case(b"keep-alive") => Some(Keep::Alive),
        _ => asked,
    })
}

/// Where a field's name and value are. Trailers are made of the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: Span,
    value: Span,
    underscored: bool,
}

impl Field {
    /// Parses a field line without its CRLF, which begins at `start` of the
    /// buffer that the spans are to point into.
    pub(crate) fn parse(line: &[u8], start: usize) -> Result<Self, Kind> {
        if matches!(line, [b' ' | b'\t', ..]) {
            return Err(Kind::ObsFold);
        }
        let (colon, underscored) = field_name(line);
        if colon == 0 || line.get(colon) != Some(&b':') {
            return Err(Kind::FieldName);
        }
        let rest = &line[colon + 1..];
        if !is_text(rest) {
            return Err(Kind::Control);
        }
        let value = trim(rest);
        let offset = start + colon + 1;
        Ok(Self {
            name: Span { start, end: start + colon },
            value: Span { start: offset + value.start, end: offset + value.end },
            underscored,
        })
    }
}
