//! What proxies say of a request: `X-Forwarded-For` and its kin, or `Forwarded`
//! (RFC 7239). Each proxy appends to a list, so the entries that trusted ones
//! have made are the last; the client can have written any before them.

use std::net::{IpAddr, SocketAddr};

use serve_http::Head;

use super::Scheme;

/// Which headers the proxies use. Only one of the two: the other may have come
/// from the client, and a proxy that does not know it passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// `X-Forwarded-For`, `-Proto`, `-Host`, `-Port`.
    #[default]
    XForwarded,
    /// `Forwarded`.
    Forwarded,
}

/// What is believed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) client: Option<(IpAddr, Option<u16>)>,
    pub(super) scheme: Option<Scheme>,
    pub(super) host: Option<Box<str>>,
    pub(super) port: Option<u16>,
}

impl Style {
    /// What the proxy `hops` before this server said.
    pub(super) fn claims(self, head: &Head, hops: usize) -> Claims {
        match self {
            Self::XForwarded => x_forwarded(head, hops),
            Self::Forwarded => forwarded(head, hops),
        }
    }
}

fn x_forwarded(head: &Head, hops: usize) -> Claims {
    let list = |name: &'static [u8]| {
        let mut items = Vec::new();
        for value in head.values(name) {
            items.extend(value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
        }
        items
    };
    // Proxies often replace these instead of appending; then there are fewer.
    let single = |name: &'static [u8]| {
        let items = list(name);
        let at = items.len().saturating_sub(hops);
        items.get(at).copied()
    };
    let clients = list(b"x-forwarded-for");
    let client = clients.len().checked_sub(hops).map(|at| clients[at]);
    Claims {
        client: client.and_then(address),
        scheme: single(b"x-forwarded-proto").and_then(scheme),
        host: single(b"x-forwarded-host").and_then(host),
        port: single(b"x-forwarded-port").and_then(port),
    }
}

/// A list that cannot be read might be read in another way by the proxy that
/// has appended to it: none of it is believed.
fn forwarded(head: &Head, hops: usize) -> Claims {
    let mut elements = Vec::new();
    for value in head.values(b"forwarded") {
        match parse(value) {
            Some(more) => elements.extend(more),
            None => return Claims::default(),
        }
    }
    let mut claims = Claims::default();
    let Some(at) = elements.len().checked_sub(hops) else { return claims };
    for (name, value) in &elements[at] {
        match name.as_slice() {
            b"for" => claims.client = address(value),
            b"proto" => claims.scheme = scheme(value),
            b"host" => claims.host = host(value),
            _ => {}
        }
    }
    claims
}

type Pair = (Vec<u8>, Vec<u8>);

/// `for=a;proto=b, for="[c]"`: the pairs of each element, names in lower case.
fn parse(value: &[u8]) -> Option<Vec<Vec<Pair>>> {
    let mut elements = vec![Vec::new()];
    let mut rest = value.trim_ascii_start();
    loop {
        let equals = rest.iter().position(|byte| *byte == b'=')?;
        let name = rest[..equals].to_ascii_lowercase();
        if name.is_empty() || !name.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        let (value, after) = word(&rest[equals + 1..])?;
        elements.last_mut()?.push((name, value));
        rest = after.trim_ascii_start();
        match rest.split_first() {
            None => return Some(elements),
            Some((b';', after)) => rest = after.trim_ascii_start(),
            Some((b',', after)) => {
                elements.push(Vec::new());
                rest = after.trim_ascii_start();
            }
            Some(_) => return None,
        }
    }
}

/// A token or a quoted string, and what follows it.
fn word(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| b",; \t\"".contains(byte)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_vec(), &text[end..]));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((value, &quoted[at + 1..])),
            b'\\' => value.push(*bytes.next()?.1),
            _ => value.push(*byte),
        }
    }
    None
}

/// `1.2.3.4`, `1.2.3.4:5`, `[::1]:5`, `[::1]`, `::1`.
fn address(text: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip(), Some(address.port())));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    Some((bare.parse().ok()?, None))
}

fn scheme(text: &[u8]) -> Option<Scheme> {
    match text.to_ascii_lowercase().as_slice() {
        b"https" => Some(Scheme::Https),
        b"http" => Some(Scheme::Http),
        _ => None,
    }
}

fn host(text: &[u8]) -> Option<Box<str>> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    let fits = !text.is_empty() && text.len() <= 255 && text.iter().all(plain);
    fits.then(|| String::from_utf8_lossy(text).into())
}

fn port(text: &[u8]) -> Option<u16> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serve_http::{Connection, Limits};

    use super::*;

    fn claims(style: Style, hops: usize, fields: &[&str]) -> Claims {
        let mut connection = Connection::new(Arc::new(Limits::default()));
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", fields.join("\r\n"));
        connection.receive(text.as_bytes()).unwrap();
        style.claims(connection.head(), hops)
    }

    fn ip(text: &str) -> Option<(IpAddr, Option<u16>)> {
        Some((text.parse().unwrap(), None))
    }

    /// A client can write whatever it likes before what the proxies append.
    #[test]
    fn only_what_trusted_proxies_have_added_counts() {
        let client = |hops, fields: &[&str]| claims(Style::XForwarded, hops, fields).client;
        let list = "X-Forwarded-For: 6.6.6.6, 1.1.1.1 , 2.2.2.2";
        assert_eq!(client(1, &[list]), ip("2.2.2.2"));
        assert_eq!(client(2, &[list]), ip("1.1.1.1"));
        assert_eq!(client(1, &[list, "x-forwarded-for: 3.3.3.3"]), ip("3.3.3.3"));
        assert_eq!(client(4, &[list]), None, "it has not come through four proxies");
        assert_eq!(client(1, &["X-Forwarded-For: 1.1.1.1, unknown"]), None);
        assert_eq!(client(1, &["Forwarded: for=1.1.1.1"]), None, "the other style");
    }

    #[test]
    fn what_proxies_replace_has_fewer_values() {
        let fields = [
            "X-Forwarded-For: 1.1.1.1, 2.2.2.2",
            "X-Forwarded-Proto: HTTPS",
            "X-Forwarded-Host: a.example",
            "X-Forwarded-Port: 8443",
        ];
        let found = claims(Style::XForwarded, 2, &fields);
        assert_eq!((found.scheme, found.host.as_deref()), (Some(Scheme::Https), Some("a.example")));
        assert_eq!((found.port, found.client), (Some(8443), ip("1.1.1.1")));
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        let found = claims(
            Style::Forwarded,
            1,
            &[
                "Forwarded: for=6.6.6.6;by=\"a, b\"",
                "Forwarded: for=\"[2001:db8::17]:4711\" ; Proto=https;host=\"b.example:80\"",
            ],
        );
        let client = found.client.map(|(ip, port)| (ip.to_string(), port));
        assert_eq!(client, Some(("2001:db8::17".into(), Some(4711))));
        assert_eq!(found.host.as_deref(), Some("b.example:80"));
        assert_eq!(found.scheme, Some(Scheme::Https));
    }

    #[test]
    fn forwarded_that_cannot_be_read_is_not_believed() {
        for value in [
            "for=\"1.1.1.1, for=2.2.2.2",
            "for=1.1.1.1,, for=2.2.2.2",
            "for, for=2.2.2.2",
            "for=\"a\"b, for=2.2.2.2",
            "",
        ] {
            let found = claims(Style::Forwarded, 1, &[&format!("Forwarded: {value}")]);
            assert_eq!(found, Claims::default(), "{value}");
        }
    }

    #[test]
    fn a_host_that_is_none_is_not_believed() {
        for value in ["a/b", "a b", "", "<a>", &"a".repeat(256)] {
            let field = format!("X-Forwarded-Host: {value}");
            assert_eq!(claims(Style::XForwarded, 1, &[&field]).host, None, "{value}");
        }
        assert_eq!(claims(Style::XForwarded, 1, &["X-Forwarded-Port: 0"]).port, None);
    }
}
