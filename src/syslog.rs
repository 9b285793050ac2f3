//! Syslog, as RFC 5424 has it, in datagrams or on a stream. Nothing waits, but for
//! the connection of a stream when a process begins: what the socket does not take
//! is lost, which is said now and then.

mod stream;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process;
use std::time::{Duration, Instant};

use log::Level;
use nix::unistd::gethostname;
use serve_config::Settings;
use serve_net::local_time;

use self::stream::Stream;

/// Bytes of a message; relays need not take more (RFC 5426 section 3.2).
const MOST: usize = 8 * 1024;

/// How often the log hears of lost messages.
const AGAIN: Duration = Duration::from_secs(60);

/// The way to a syslog daemon.
pub(crate) struct Syslog {
    socket: Socket,
    facility: usize,
    host: String,
    /// `serve` or `serve.prefix`.
    name: String,
    /// When the log last heard of a message that was lost.
    told: Option<Instant>,
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
    Stream(Stream),
}

impl Syslog {
    /// As the settings say; `None` if they want none.
    pub(crate) fn open(settings: &Settings) -> Result<Option<Self>, String> {
        if !settings.syslog {
            return Ok(None);
        }
        let address = &settings.syslog_addr;
        let socket = Socket::open(address).map_err(|error| {
            format!(
                "{}: {address}: {error}; start the syslog daemon, correct the address \
                 (--log-syslog-to), or do without (--no-log-syslog)",
                settings.place("syslog_addr")
            )
        });
        let host = gethostname().ok().and_then(|name| name.into_string().ok());
        Ok(Some(Self {
            socket: socket?,
            facility: settings.facility(),
            host: host.filter(|host| is_word(host)).unwrap_or_else(|| "-".into()),
            name: match &settings.syslog_prefix {
                Some(prefix) => format!("serve.{prefix}"),
                None => "serve".into(),
            },
            told: None,
        }))
    }

    /// This process is a fork of the one that has opened it.
    pub(crate) fn forked(&mut self) {
        if let Socket::Stream(stream) = &mut self.socket {
            stream.forked();
        }
    }

    /// A message of the server; what went wrong, if that is to be told.
    pub(crate) fn error(&mut self, level: Level, text: &str) -> Option<io::Error> {
        let severity = match level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        self.send(severity, "error", text)
    }

    /// A line of the access log; likewise.
    pub(crate) fn access(&mut self, line: &str) -> Option<io::Error> {
        self.send(6, "access", line)
    }

    fn send(&mut self, severity: usize, log: &str, text: &str) -> Option<io::Error> {
        let message = self.message(severity, log, text);
        let sent = match &mut self.socket {
            Socket::Udp(socket) => socket.send(&message).map(drop),
            Socket::Unix(socket) => socket.send(&message).map(drop),
            Socket::Stream(stream) => stream.send(&message),
        };
        let error = sent.err().filter(|_| self.told.is_none_or(|at| at.elapsed() > AGAIN))?;
        self.told = Some(Instant::now());
        Some(error)
    }

    fn message(&self, severity: usize, log: &str, text: &str) -> Vec<u8> {
        let Self { host, name, facility, .. } = self;
        let time = local_time().strftime("%Y-%m-%dT%H:%M:%S%.6f%:z");
        let pid = process::id();
        let priority = facility * 8 + severity;
        let text = format!("<{priority}>1 {time} {host} {name}.{log} {pid} - - {text}");
        let mut message = text.into_bytes();
        message.truncate(MOST);
        message
    }
}

/// RFC 5424 separates by spaces.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Socket {
    fn open(address: &str) -> io::Result<Self> {
        let (address, kind) = address.split_once('#').unwrap_or((address, "dgram"));
        match (address.split_once("://"), kind) {
            (Some(("tcp", target)), _) => {
                return Stream::tcp(one(target)?).map(Self::Stream);
            }
            (Some(("unix", path)), "stream") => return Stream::unix(path).map(Self::Stream),
            (Some(("unix", path)), "dgram") => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_nonblocking(true)?;
                return Ok(Self::Unix(socket));
            }
            (Some(("udp", _)) | None, _) => {}
            _ => {
                return Err(io::Error::other(
                    "expected udp://HOST:PORT, tcp://HOST:PORT, unix://PATH or unix://PATH#stream",
                ));
            }
        }
        let target = one(address.strip_prefix("udp://").unwrap_or(address))?;
        let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(target)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Udp(socket))
    }
}

/// The address of `HOST:PORT`; syslog's port need not be said.
fn one(target: &str) -> io::Result<SocketAddr> {
    let mut targets = target.to_socket_addrs().or_else(|_| (target, 514).to_socket_addrs())?;
    targets.next().ok_or_else(|| io::Error::other("the name has no address"))
}
