//! Where a line ends, and whether it can still be one.
//!
//! A head, a chunk-size line and a trailer arrive in pieces of any size. The
//! verdict must not depend on the pieces: a line is at fault at its first byte
//! that no line may contain, or where it exceeds its bound, whichever is first;
//! only a line without such a fault is parsed. Bytes that were found good are
//! not looked at again until the line is complete.

use crate::error::Kind;
use crate::grammar::is_control;

/// How long a line may be, CRLF included, and what is wrong if it is longer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) len: usize,
    pub(crate) excess: Kind,
}

/// How many bytes of `input` complete the line that began with `held`, its CRLF
/// included; `None` if more must come, in which case the caller holds `input`
/// too. `held` has been through here before: it is shorter than the bound.
pub(crate) fn scan(held: &[u8], input: &[u8], bound: Bound) -> Result<Option<usize>, Kind> {
    let room = bound.len - held.len();
    let window = &input[..input.len().min(room)];
    let last = held.last().copied();
    if let Some(lf) = memchr::memchr(b'\n', window) {
        let before = if lf == 0 { last } else { Some(window[lf - 1]) };
        return match before {
            Some(b'\r') => Ok(Some(lf + 1)),
            _ => Err(fault_after(last, &window[..=lf]).unwrap_or(Kind::BareLf)),
        };
    }
    match fault_after(last, window) {
        Some(kind) => Err(kind),
        None if window.len() == room => Err(bound.excess),
        None => Ok(None),
    }
}

/// What a complete line must be refused for, if its parser refused it for
/// `kind`: a forbidden byte goes first, since a partial line shows it first.
#[cold]
pub(crate) fn judge(line: &[u8], kind: Kind) -> Kind {
    fault_after(None, line).unwrap_or(kind)
}

/// The line without the CRLF that [`scan`] has found at its end.
pub(crate) fn content(line: &[u8]) -> &[u8] {
    &line[..line.len() - 2]
}

/// The first fault of `bytes`, which follow `last`. A CR at the very end is
/// none yet.
fn fault_after(mut last: Option<u8>, bytes: &[u8]) -> Option<Kind> {
    for &b in bytes {
        let kind = match (last == Some(b'\r'), b) {
            (true, b'\n') | (false, b'\r') => None,
            (true, _) => Some(Kind::BareCr),
            (false, b'\n') => Some(Kind::BareLf),
            (false, b) => is_control(b).then_some(Kind::Control),
        };
        if kind.is_some() {
            return kind;
        }
        last = Some(b);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { len: 8, excess: Kind::FieldTooLong };

    #[test]
    fn a_line_ends_at_crlf() {
        assert_eq!(scan(b"", b"ab\r\ncd\r\n", BOUND), Ok(Some(4)));
        assert_eq!(scan(b"ab\r", b"\ncd", BOUND), Ok(Some(1)));
        assert_eq!(scan(b"", b"ab\r", BOUND), Ok(None));
    }

    #[test]
    fn the_first_fault_wins() {
        for (line, kind) in [
            (&b"a\nb"[..], Kind::BareLf),
            (b"\n", Kind::BareLf),
            (b"a\rb", Kind::BareCr),
            (b"a\r\r", Kind::BareCr),
            (b"a\r\0", Kind::BareCr),
            (b"a\0\n", Kind::Control),
            (b"a\x7f", Kind::Control),
            (b"12345678", Kind::FieldTooLong),
            (b"123456789\0", Kind::FieldTooLong),
            (b"1234567\0", Kind::Control),
            (b"1234567\r\n", Kind::FieldTooLong),
        ] {
            assert_eq!(scan(b"", line, BOUND), Err(kind), "{}", line.escape_ascii());
        }
        assert_eq!(scan(b"", b"123456\r\n", BOUND), Ok(Some(8)));
    }

    #[test]
    fn a_held_cr_wants_its_lf() {
        assert_eq!(scan(b"a\r", b"b", BOUND), Err(Kind::BareCr));
        assert_eq!(scan(b"a\r", b"b\n", BOUND), Err(Kind::BareCr));
    }

    #[test]
    fn a_forbidden_byte_goes_before_the_parser() {
        assert_eq!(judge(b"a\rb\r\n", Kind::Version), Kind::BareCr);
        assert_eq!(judge(b"ab\r\n", Kind::Version), Kind::Version);
    }
}
