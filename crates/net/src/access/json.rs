//! A line as a JSON object (RFC 8259): always the same members, in the same
//! order; what is not known is null.

use std::process;
use std::time::Duration;

use serve_http::Version;

use super::Entry;
use super::format::{known, milliseconds, put};
use crate::gateway::Peer;

pub(super) fn write(entry: &Entry<'_>, worker: u32, out: &mut Vec<u8>) {
    let head = entry.head;
    out.extend_from_slice(b"{\"time\":\"");
    entry.clock.timestamp(out);
    out.push(b'"');
    match entry.seen.client {
        Peer::Tcp(address) => put(out, format_args!(",\"client\":\"{}\"", address.ip())),
        Peer::Unix => out.extend_from_slice(b",\"client\":null"),
    }
    match &entry.seen.id {
        Some(id) => put(out, format_args!(",\"request_id\":\"{id}\"")),
        None => out.extend_from_slice(b",\"request_id\":null"),
    }
    let whole = known(head.method()).is_some();
    let version = match head.version() {
        _ if !whole => None,
        Version::Http10 => Some(b"HTTP/1.0".as_slice()),
        Version::Http11 => Some(b"HTTP/1.1".as_slice()),
    };
    // Of a request line that could not be read there is nothing but the line.
    let line = head.request_line();
    for (name, text) in [
        ("request", known(line).filter(|_| !whole)),
        ("method", known(head.method())),
        ("path", known(head.path())),
        ("query", known(head.query())),
        ("protocol", version),
        ("host", head.host()),
        ("referer", head.field(b"referer")),
        ("agent", head.field(b"user-agent")),
    ] {
        put(out, format_args!(",\"{name}\":"));
        string(text, out);
    }
    put(out, format_args!(",\"status\":{},\"bytes\":{}", entry.status, entry.bytes));
    for (name, span) in
        [("duration_ms", Some(entry.duration)), ("queue_ms", entry.queued), ("app_ms", entry.app)]
    {
        put(out, format_args!(",\"{name}\":"));
        number(span, out);
    }
    put(out, format_args!(",\"worker\":{worker},\"pid\":{}}}", process::id()));
}

fn number(span: Option<Duration>, out: &mut Vec<u8>) {
    match span {
        Some(span) => milliseconds(span, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// UTF-8 stays as it is; a byte that is none becomes the character of the same
/// number, as in WSGI's strings.
fn string(text: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(text) = text else { return out.extend_from_slice(b"null") };
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => put(out, format_args!("\\{character}")),
                // Also the line separators that some readers of lines know.
                '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    put(out, format_args!("\\u{:04x}", u32::from(character)));
                }
                _ => put(out, format_args!("{character}")),
            }
        }
        for byte in chunk.invalid() {
            put(out, format_args!("\\u{byte:04x}"));
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_holds_whatever_a_client_sends() {
        let mut out = Vec::new();
        string(Some("a\"b\\c\nd\u{2028}é\u{7f}".as_bytes()), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#""a\"b\\c\u000ad\u2028é\u007f""#);
        let mut out = Vec::new();
        string(Some(b"\xffx\xc3"), &mut out);
        assert_eq!(out, br#""\u00ffx\u00c3""#);
    }
}
