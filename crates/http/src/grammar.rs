//! The character classes of RFC 9110 and the small parts they make up.
//!
//! Pure functions over bytes; what an element means is decided elsewhere.

use std::net::Ipv6Addr;

/// A part of a buffer that may grow (and so move) after the part was found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub(crate) start: usize,
    /// `start <= end`
    pub(crate) end: usize,
}

impl Span {
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start..self.end]
    }
}

const ALPHANUMERIC: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `tchar` (RFC 9110 5.6.2): 0 if it is none, and a bit more for an underscore, so
/// that one pass over a name finds both.
static TOKEN: [u8; 256] = {
    let members = class(b"!#$%&'*+-.^_`|~");
    let mut table = [0; 256];
    let mut i = 0;
    while i < members.len() {
        table[i] = members[i] as u8;
        i += 1;
    }
    table[b'_' as usize] |= UNDERSCORE;
    table
};

const UNDERSCORE: u8 = 2;

/// `unreserved / sub-delims` (RFC 3986 3.2.2).
static REG_NAME: [bool; 256] = class(b"-._~!$&'()*+,;=");

const fn class(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut i = 0;
    while i < ALPHANUMERIC.len() {
        table[ALPHANUMERIC[i] as usize] = true;
        i += 1;
    }
    i = 0;
    while i < others.len() {
        table[others[i] as usize] = true;
        i += 1;
    }
    table
}

/// Length of the token that `bytes` begin with; 0 if none.
pub(crate) fn token_len(bytes: &[u8]) -> usize {
    field_name(bytes).0
}

/// The same, of a field's name, and whether an underscore is in it.
pub(crate) fn field_name(bytes: &[u8]) -> (usize, bool) {
    let mut all = 0;
    let end = bytes.iter().position(|&b| {
        all |= TOKEN[usize::from(b)];
        TOKEN[usize::from(b)] == 0
    });
    (end.unwrap_or(bytes.len()), all & UNDERSCORE != 0)
}

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token_len(bytes) == bytes.len()
}

/// A control character, which no line of a head may contain; HTAB is none here.
pub(crate) fn is_control(b: u8) -> bool {
    (b < b' ' && b != b'\t') || b == 0x7f
}

/// `field-vchar / SP / HTAB` throughout (RFC 9110 5.5). Folded instead of
/// searched, so that it becomes vector code: long values are the rule.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |bad, &b| bad | is_control(b))
}

/// Printable ASCII without space. `#` is none either: a fragment is never sent
/// (RFC 9110 4.2.5), and servers that cut it off disagree with those that do
/// not about the path.
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |bad, &b| bad | !matches!(b, b'!'..=b'~') | (b == b'#'))
}

/// The span of `bytes` without the optional white space (RFC 9110 5.6.3) around.
pub(crate) fn trim(bytes: &[u8]) -> Span {
    let ows = |&b: &u8| b == b' ' || b == b'\t';
    let start = bytes.iter().position(|b| !ows(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !ows(b)).map_or(start, |last| last + 1);
    Span { start, end }
}

/// The elements of a comma-separated list (RFC 9110 5.6.1), empty ones included.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(|element| trim(element).of(element))
}

/// `1*DIGIT` that fits 64 bits: no sign, no space, no list.
pub(crate) fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// `uri-host [ ":" port ]` (RFC 9110 7.2). Empty is valid: a client sends that
/// when the target has no authority (RFC 9112 3.2).
pub(crate) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.iter().rposition(|&b| b == b':') {
        Some(colon) if !value.ends_with(b"]") => (&value[..colon], &value[colon + 1..]),
        _ => (value, &b""[..]),
    };
    port.iter().all(u8::is_ascii_digit) && (is_ip_literal(host) || is_reg_name(host))
}

fn is_ip_literal(host: &[u8]) -> bool {
    let inner = host.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    let text = inner.and_then(|inner| str::from_utf8(inner).ok());
    text.is_some_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// `*( unreserved / pct-encoded / sub-delims )`, which includes IPv4.
fn is_reg_name(mut host: &[u8]) -> bool {
    loop {
        match host {
            [] => return true,
            [b'%', a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                host = rest;
            }
            [b, rest @ ..] if REG_NAME[usize::from(*b)] => host = rest,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_is_digits_that_fit() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "18446744073709551616", "+1", "-1", " 1", "1 ", "1,1", "0x1", "1_0"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn host_is_a_name_or_a_literal_with_a_port() {
        for good in ["", "a", "a.b:80", "a:", "1.2.3.4", "[::1]", "[::1]:80", "x_y~z", "%C3%A9"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in ["a b", "a/b", "u@h", "a:b", "a:1:2", "::1", "[::1", "[::1]x", "[x]", "%4", "é"]
        {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn classes_agree_with_the_rfc_for_every_byte() {
        for b in 0..=255_u8 {
            let special = b"!#$%&'*+-.^_`|~".contains(&b);
            assert_eq!(is_token(&[b]), b.is_ascii_alphanumeric() || special, "{b}");
            assert_eq!(is_text(&[b]), b == b'\t' || (b >= b' ' && b != 0x7f), "{b}");
            assert_eq!(is_target(&[b]), b.is_ascii_graphic() && b != b'#', "{b}");
        }
    }

    #[test]
    fn trim_takes_spaces_and_tabs_only() {
        for (value, trimmed) in [("", ""), (" \t ", ""), ("\ta b ", "a b"), ("\u{b}a", "\u{b}a")] {
            assert_eq!(trim(value.as_bytes()).of(value.as_bytes()), trimmed.as_bytes());
        }
    }
}
