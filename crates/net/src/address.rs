//! The text of `--bind`, parsed: where a listener listens.
//!
//! Parsing touches no network; a host name is looked up when it is bound.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port on a host: an IP address or a name.
    Tcp {
        /// IP address without brackets, or a host name.
        host: String,
        /// Port; 0 lets the kernel choose.
        port: u16,
    },
    /// A unix socket in the file system.
    Unix(PathBuf),
    /// A unix socket in Linux's abstract namespace (unix(7)): no file, gone
    /// with its last holder.
    Abstract(Vec<u8>),
    /// A listening socket inherited as this descriptor.
    Fd(i32),
}

impl Address {
    /// Reads `HOST`, `HOST:PORT`, `[V6]:PORT`, `tcp://…`, `unix:PATH`,
    /// `unix://PATH`, `unix:@NAME` (abstract) or `fd://N`. The port defaults to
    /// 8000.
    ///
    /// # Errors
    /// What is wrong with `text`, for a sentence that quotes it, and the right form.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("fd://") {
            return rest
                .parse()
                .ok()
                .filter(|fd| *fd >= 0)
                .map(Self::Fd)
                .ok_or_else(|| format!("'{rest}' is not a descriptor number, as in fd://3"));
        }
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix(rest.strip_prefix("//").unwrap_or(rest));
        }
        tcp(text.strip_prefix("tcp://").unwrap_or(text))
    }
}

fn unix(path: &str) -> Result<Address, String> {
    match path.strip_prefix('@') {
        Some("") => Err("the abstract name is empty, as in unix:@name".into()),
        Some(name) => Ok(Address::Abstract(name.as_bytes().to_vec())),
        None if path.is_empty() => Err("the path is missing, as in unix:/run/app.sock".into()),
        None => Ok(Address::Unix(PathBuf::from(path))),
    }
}

fn tcp(rest: &str) -> Result<Address, String> {
    let bad_port =
        |port: &str| format!("'{port}' is not a port number from 0 to 65535, as in 0.0.0.0:8000");
    if let Some(inner) = rest.strip_prefix('[') {
        let (host, after) = inner.split_once(']').ok_or("the ']' is missing, as in [::1]:8000")?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(format!("'{host}' is not an IPv6 address"));
        }
        let port = match after.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| bad_port(port))?,
            None if after.is_empty() => 8000,
            None => return Err(bad_port(after)),
        };
        return Ok(Address::Tcp { host: host.to_owned(), port });
    }
    if rest.parse::<Ipv6Addr>().is_ok() {
        let whole = format!("[{rest}]:8000");
        let advice = match rest.rsplit_once(':') {
            // What ends in digits may have been meant with a port.
            Some((host, port))
                if host.parse::<Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok() =>
            {
                format!("[{host}]:{port}, or {whole} if all of it is the address")
            }
            _ => whole,
        };
        return Err(format!("write an IPv6 address in brackets: {advice}"));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| bad_port(port))?),
        None => (rest, 8000),
    };
    // gunicorn reads ":8000" as every interface.
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    if rest.contains("://") {
        return Err("write host and port alone, as in 127.0.0.1:8000".into());
    }
    // Linux would read a lone number as an IPv4 address: 8000 is 0.0.31.64.
    if host.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "'{host}' is no host; for a port, write 127.0.0.1:{host}, or :{host} for \
             every interface"
        ));
    }
    let legal = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if !legal {
        return Err(format!("'{host}' is not a host name or an IP address"));
    }
    Ok(Address::Tcp { host: host.to_owned(), port })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(IpAddr::V6(ip)) => write!(f, "[{ip}]:{port}"),
                _ => write!(f, "{host}:{port}"),
            },
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
            Self::Fd(fd) => write!(f, "fd://{fd}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let tcp = |host: &str, port| Address::Tcp { host: host.into(), port };
        for (text, want) in [
            ("127.0.0.1:80", tcp("127.0.0.1", 80)),
            ("localhost", tcp("localhost", 8000)),
            (":9000", tcp("0.0.0.0", 9000)),
            ("tcp://0.0.0.0:1", tcp("0.0.0.0", 1)),
            ("[::1]:81", tcp("::1", 81)),
            ("[::]", tcp("::", 8000)),
            ("unix:/a/b", Address::Unix("/a/b".into())),
            ("unix:///a/b", Address::Unix("/a/b".into())),
            ("unix:rel.sock", Address::Unix("rel.sock".into())),
            ("unix:@name", Address::Abstract(b"name".to_vec())),
            ("fd://3", Address::Fd(3)),
        ] {
            assert_eq!(Address::parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("127.0.0.1:http", "'http' is not a port"),
            ("127.0.0.1:70000", "'70000' is not a port"),
            ("::1", "in brackets: [::1]:8000"),
            ("fe80::a", "in brackets: [fe80::a]:8000"),
            ("::1:8080", "in brackets: [::1]:8080, or [::1:8080]:8000 if"),
            ("2001:db8::1:443", "in brackets: [2001:db8::1]:443, or"),
            ("[::1", "']' is missing"),
            ("[zz]:1", "not an IPv6"),
            ("unix:", "path is missing"),
            ("unix:@", "name is empty"),
            ("fd://x", "not a descriptor"),
            ("fd://-1", "not a descriptor"),
            ("ho st:1", "not a host name"),
            ("8000", "write 127.0.0.1:8000"),
            ("http://127.0.0.1:8000", "host and port alone"),
        ] {
            let error = Address::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
