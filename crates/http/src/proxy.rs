//! The PROXY protocol, versions 1 and 2: what a load balancer that does not
//! speak HTTP says of a connection before its first byte.
//!
//! Read strictly, since it decides who the client is. What follows the addresses
//! (TLVs) is skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::{Error, Kind};

/// Which versions are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "their names say it")]
pub enum ProxyVersion {
    V1,
    V2,
    Either,
}

/// A complete header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyHeader {
    /// Its length in bytes; what follows is the client's.
    pub len: usize,
    /// `None` if the proxy speaks for itself, or does not know.
    pub ends: Option<ProxyEnds>,
}

/// Between whom the proxied connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyEnds {
    /// The client.
    pub source: SocketAddr,
    /// Where the client has found the proxy.
    pub destination: SocketAddr,
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest first version, with its CRLF.
const LONGEST: usize = 107;
/// The most bytes that may follow the first sixteen of the second version.
const MOST: usize = 2048;

/// Looks for a header at the beginning of `input`; `None` if more is needed,
/// which is never more than some two thousand bytes.
///
/// # Errors
/// [`Kind::Proxy`]: it does not begin with one, or with one that is wrong.
pub fn proxy_header(input: &[u8], version: ProxyVersion) -> Result<Option<ProxyHeader>, Error> {
    let begins = |text: &[u8]| input.iter().zip(text).all(|(a, b)| a == b);
    let found = match version {
        ProxyVersion::V1 | ProxyVersion::Either if begins(b"PROXY ") => first(input),
        ProxyVersion::V2 | ProxyVersion::Either if begins(SIGNATURE) => second(input),
        _ => Err(Kind::Proxy),
    };
    Ok(found?)
}

fn first(input: &[u8]) -> Result<Option<ProxyHeader>, Kind> {
    let window = &input[..input.len().min(LONGEST)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if window.len() < LONGEST { Ok(None) } else { Err(Kind::Proxy) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(Kind::Proxy)?;
    let line = std::str::from_utf8(line).map_err(|_| Kind::Proxy)?;
    let words: Vec<&str> = line.split(' ').collect();
    let ends = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family, source, destination, from, to] => {
            let source: IpAddr = source.parse().map_err(|_| Kind::Proxy)?;
            let destination: IpAddr = destination.parse().map_err(|_| Kind::Proxy)?;
            let fits = match *family {
                "TCP4" => source.is_ipv4() && destination.is_ipv4(),
                "TCP6" => source.is_ipv6() && destination.is_ipv6(),
                _ => false,
            };
            let (from, to) = port(from).zip(port(to)).filter(|_| fits).ok_or(Kind::Proxy)?;
            let (source, destination) =
                (SocketAddr::new(source, from), SocketAddr::new(destination, to));
            Some(ProxyEnds { source, destination })
        }
        _ => return Err(Kind::Proxy),
    };
    Ok(Some(ProxyHeader { len: end + 1, ends }))
}

fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let leads = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| plain && !leads)
}

fn second(input: &[u8]) -> Result<Option<ProxyHeader>, Kind> {
    let Some((fixed, rest)) = input.split_at_checked(16) else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if len > MOST {
        return Err(Kind::Proxy);
    }
    let local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(Kind::Proxy),
    };
    let Some(body) = rest.get(..len) else { return Ok(None) };
    let ends = match fixed[13] {
        _ if local => None,
        // Unspecified, and a unix socket's client.
        0x00 | 0x31 => None,
        0x11 => {
            let body: &[u8; 12] = body.first_chunk().ok_or(Kind::Proxy)?;
            let ip = |at| Ipv4Addr::from(part::<4>(body, at)).into();
            Some(ends(body, (ip(0), ip(4)), 8))
        }
        0x21 => {
            let body: &[u8; 36] = body.first_chunk().ok_or(Kind::Proxy)?;
            let ip = |at| Ipv6Addr::from(part::<16>(body, at)).into();
            Some(ends(body, (ip(0), ip(16)), 32))
        }
        _ => return Err(Kind::Proxy),
    };
    Ok(Some(ProxyHeader { len: 16 + len, ends }))
}

/// The addresses with their ports, which are in `body` from `at` on.
fn ends(body: &[u8], (source, destination): (IpAddr, IpAddr), at: usize) -> ProxyEnds {
    let port = |at| u16::from_be_bytes(part(body, at));
    ProxyEnds {
        source: SocketAddr::new(source, port(at)),
        destination: SocketAddr::new(destination, port(at + 2)),
    }
}

/// `N` bytes from `at` on, all of which are there.
fn part<const N: usize>(body: &[u8], at: usize) -> [u8; N] {
    body[at..at + N].try_into().expect("the slice has that length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_of(input: &[u8], version: ProxyVersion) -> Option<String> {
        let header = proxy_header(input, version).unwrap().unwrap();
        assert_eq!(&input[header.len..], b"GET");
        header.ends.map(|ends| format!("{} to {}", ends.source, ends.destination))
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &len, body, b"GET"].concat()
    }

    const FOUR: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 0x1f, 0x90, 0, 80];

    #[test]
    fn both_versions_tell_both_ends() {
        let either = ProxyVersion::Either;
        let v1 = |text: &str| ends_of(format!("{text}\r\nGET").as_bytes(), either);
        assert_eq!(
            v1("PROXY TCP4 1.2.3.4 5.6.7.8 8080 80"),
            Some("1.2.3.4:8080 to 5.6.7.8:80".into())
        );
        assert_eq!(v1("PROXY TCP6 2001:db8::1 ::1 1 2"), Some("[2001:db8::1]:1 to [::1]:2".into()));
        assert_eq!(v1("PROXY UNKNOWN"), None);
        assert_eq!(v1("PROXY UNKNOWN ffff::1 ::1 1 2"), None);
        let tlv = [FOUR.as_slice(), &[4, 0, 1, 9]].concat();
        assert_eq!(
            ends_of(&v2(0x21, 0x11, &FOUR), either),
            Some("1.2.3.4:8080 to 5.6.7.8:80".into())
        );
        assert_eq!(
            ends_of(&v2(0x21, 0x11, &tlv), either),
            Some("1.2.3.4:8080 to 5.6.7.8:80".into())
        );
        assert_eq!(ends_of(&v2(0x21, 0x21, &[0; 36]), either), Some("[::]:0 to [::]:0".into()));
        assert_eq!(ends_of(&v2(0x20, 0x11, &FOUR), either), None);
        assert_eq!(ends_of(&v2(0x21, 0x00, b""), either), None);
        assert_eq!(ends_of(&v2(0x21, 0x31, &[0; 216]), either), None);
    }

    #[test]
    fn a_header_may_come_byte_by_byte() {
        for input in [b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), v2(0x21, 0x11, &FOUR)] {
            let whole = proxy_header(&input, ProxyVersion::Either).unwrap().unwrap();
            for end in 0..whole.len {
                assert_eq!(proxy_header(&input[..end], ProxyVersion::Either), Ok(None), "{end}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let refused = |input: &[u8], version| {
            let error = proxy_header(input, version).unwrap_err();
            assert_eq!(error.kind(), Kind::Proxy);
        };
        for line in [
            "GET / HTTP/1.1",
            "proxy TCP4 1.2.3.4 5.6.7.8 1 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3",
            "PROXY TCP4  1.2.3.4 5.6.7.8 1 2",
            "PROXY TCP4 ::1 ::1 1 2",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 2",
            "PROXY TCP4 a b 1 2",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1 2",
            "PROXY ",
        ] {
            refused(format!("{line}\r\n").as_bytes(), ProxyVersion::Either);
        }
        refused(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", ProxyVersion::V1);
        refused(&[b"PROXY ".as_slice(), &[b'x'; 200]].concat(), ProxyVersion::V1);
        refused(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", ProxyVersion::V2);
        refused(&v2(0x21, 0x11, &FOUR), ProxyVersion::V1);
        refused(&v2(0x22, 0x11, &FOUR), ProxyVersion::V2);
        refused(&v2(0x31, 0x11, &FOUR), ProxyVersion::V2);
        refused(&v2(0x21, 0x12, &FOUR), ProxyVersion::V2);
        refused(&v2(0x21, 0x11, &FOUR[..11]), ProxyVersion::V2);
        refused(&v2(0x21, 0x21, &[0; 35]), ProxyVersion::V2);
        refused(&[SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(), ProxyVersion::V2);
    }

    /// No input makes it panic, or want more without end.
    #[test]
    fn it_survives_every_byte_anywhere() {
        for input in [b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), v2(0x21, 0x11, &FOUR)] {
            for at in 0..input.len() {
                for byte in 0..=255 {
                    let mut bent = input.clone();
                    bent[at] = byte;
                    let one = proxy_header(&bent, ProxyVersion::Either);
                    bent.resize(16 + MOST, b'x');
                    assert!(
                        one.is_err()
                            || !matches!(proxy_header(&bent, ProxyVersion::Either), Ok(None))
                    );
                }
            }
        }
    }
}
