//! The chunked transfer coding (RFC 9112 7.1): a decoder for requests and the
//! few bytes an encoder needs.
//!
//! Chunk extensions are checked and ignored (RFC 9112 7.1.1), trailers are
//! checked and dropped (RFC 9112 7.1.2 allows it; WSGI has no place for them).
//! Data is handed out as slices of the input, never copied.

use crate::connection::Event;
use crate::error::Kind;
use crate::fields::Field;
use crate::grammar::{is_text, trim};
use crate::limits::Limits;
use crate::line::{self, Bound};

/// Decodes one body; `reset` makes it ready for the next.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    stage: Stage,
    /// The beginning of a line that has not been completed.
    held: Vec<u8>,
    /// Body bytes announced by the chunks so far: `<= max_body`.
    total: u64,
    /// Bytes of complete trailer lines.
    trailers: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Size,
    /// This many bytes of the chunk are still to come; never 0.
    Data(u64),
    /// The CRLF after the data.
    DataEnd,
    Trailers,
    Complete,
}

/// Digits that make a u64.
const SIZE_DIGITS: usize = 16;

impl Decoder {
    pub(crate) fn reset(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        held.clear();
        *self = Self { held, ..Self::default() };
    }

    /// As [`Connection::receive`](crate::Connection::receive), of the body only.
    pub(crate) fn decode<'i>(
        &mut self,
        input: &'i [u8],
        limits: &Limits,
    ) -> Result<(usize, Event<'i>), Kind> {
        let mut taken = 0;
        while taken < input.len() {
            let rest = &input[taken..];
            if let Stage::Data(left) = self.stage {
                let (data, left) = split(rest, left);
                self.stage = if left == 0 { Stage::DataEnd } else { Stage::Data(left) };
                return Ok((taken + data.len(), Event::Data(data)));
            }
            taken += self.read_line(rest, limits)?;
            if self.stage == Stage::Complete {
                return Ok((taken, Event::End));
            }
        }
        Ok((taken, Event::Incomplete))
    }

    /// Takes the rest of a line, or all of `input` if the line does not end.
    fn read_line(&mut self, input: &[u8], limits: &Limits) -> Result<usize, Kind> {
        let Some(len) = line::scan(&self.held, input, self.bound(limits))? else {
            self.held.extend_from_slice(input);
            return Ok(input.len());
        };
        if self.held.is_empty() {
            self.end_line(&input[..len], limits)?;
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(&input[..len]);
            self.end_line(&held, limits)?;
            held.clear();
            self.held = held;
        }
        Ok(len)
    }

    fn bound(&self, limits: &Limits) -> Bound {
        match self.stage {
            Stage::Trailers => {
                // The closing empty line is always let through.
                let left = limits.trailers.saturating_sub(self.trailers).max(2);
                Bound { len: left, excess: Kind::TrailersTooLong }
            }
            Stage::DataEnd => Bound { len: 2, excess: Kind::ChunkEnd },
            _ => {
                let len = limits.chunk_line.saturating_add(2);
                Bound { len, excess: Kind::ChunkLineTooLong }
            }
        }
    }

    fn end_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Kind> {
        let content = line::content(line);
        let next = match (self.stage, content.is_empty()) {
            (Stage::DataEnd, _) => Ok(Stage::Size),
            (Stage::Trailers, true) => Ok(Stage::Complete),
            (Stage::Trailers, false) => {
                self.trailers += line.len();
                Field::parse(content, 0).map(|_| Stage::Trailers)
            }
            _ => self.begin_chunk(content, limits),
        };
        self.stage = next.map_err(|kind| line::judge(line, kind))?;
        Ok(())
    }

    fn begin_chunk(&mut self, content: &[u8], limits: &Limits) -> Result<Stage, Kind> {
        let size = chunk_size(content).ok_or(Kind::ChunkSize)?;
        if size == 0 {
            return Ok(Stage::Trailers);
        }
        let total = self.total.checked_add(size).ok_or(Kind::BodyTooLarge)?;
        if limits.max_body.is_some_and(|max| total > max) {
            return Err(Kind::BodyTooLarge);
        }
        self.total = total;
        Ok(Stage::Data(size))
    }
}

/// `1*16HEXDIG [ BWS ";" ... ]`: the extensions may be any text, since nobody
/// reads them.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (size, rest) = line.split_at(digits);
    let extension = trim(rest).of(rest);
    let ends = rest.is_empty() || (extension.first() == Some(&b';') && is_text(extension));
    if digits == 0 || digits > SIZE_DIGITS || !ends {
        return None;
    }
    u64::from_str_radix(str::from_utf8(size).ok()?, 16).ok()
}

/// The first `left` bytes of `input`, or as many as there are, and how many
/// are still to come.
pub(crate) fn split(input: &[u8], left: u64) -> (&[u8], u64) {
    let len = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (&input[..len], left - len as u64)
}

/// What ends each chunk.
pub(crate) const CHUNK_END: &[u8] = b"\r\n";

/// What ends the body: the last chunk and no trailers.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the size line of a chunk of `len` bytes, `len > 0`.
pub(crate) fn write_size(len: u64, out: &mut Vec<u8>) {
    let digits = (u64::BITS - len.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        let [low, ..] = (len >> (digit * 4)).to_le_bytes();
        out.push(b"0123456789abcdef"[usize::from(low & 0xf)]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_hexadecimal_with_extensions() {
        for (line, size) in [
            ("0", 0),
            ("aF", 0xaf),
            ("0000000000000001", 1),
            ("ffffffffffffffff", u64::MAX),
            ("1;a", 1),
            ("1 ;a=\"b;c\"", 1),
            ("1\t; a = b", 1),
        ] {
            assert_eq!(chunk_size(line.as_bytes()), Some(size), "{line}");
        }
        for bad in ["", " 1", "1 ", "+1", "-1", "0x1", "1_0", "1,", "00000000000000001", ";a", "g"]
        {
            assert_eq!(chunk_size(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_size_is_written_without_zeros_before() {
        for len in [1, 0xf, 0x10, 0xff, 0x100, 65536, u64::MAX] {
            let mut out = Vec::new();
            write_size(len, &mut out);
            assert_eq!(out, format!("{len:x}\r\n").into_bytes());
        }
    }
}
