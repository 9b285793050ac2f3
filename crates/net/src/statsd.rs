//! Metrics as statsd reads them: datagrams of lines `name:value|type`.
//!
//! Lines gather for a turn of the loop and leave in as few datagrams as hold
//! them. Nothing waits: what the socket does not take is lost, which is said
//! now and then. The names are gunicorn's.

use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::io::{self, Write};
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// Bytes of a datagram that fit an Ethernet frame in any network.
const MOST: usize = 1432;
/// statsd's own port.
const PORT: u16 = 8125;
/// How often the log hears of lost datagrams. That one was taken does not mean
/// that it has arrived.
const AGAIN: Duration = Duration::from_secs(60);

/// Lines on their way to a statsd daemon.
#[derive(Debug)]
pub struct Statsd {
    socket: Socket,
    /// What each name begins with.
    prefix: String,
    /// What each line ends with: DogStatsD's tags.
    tags: String,
    lines: Vec<u8>,
    /// Requests of this turn by their status.
    statuses: BTreeMap<u16, u64>,
    /// When the log last heard of a datagram that was lost.
    told: Option<Instant>,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Statsd {
    /// Sends to `target`: `HOST:PORT`, `HOST`, or `unix:PATH`.
    ///
    /// # Errors
    /// When the name cannot be resolved, or nobody has made the socket.
    pub fn connect(target: &str, prefix: &str, tags: &str) -> io::Result<Self> {
        let dot = if prefix.is_empty() || prefix.ends_with('.') { "" } else { "." };
        Ok(Self {
            socket: Socket::connect(target)?,
            prefix: format!("{prefix}{dot}"),
            tags: if tags.is_empty() { String::new() } else { format!("|#{tags}") },
            lines: Vec::new(),
            statuses: BTreeMap::new(),
            told: None,
        })
    }

    /// So much more of something.
    pub fn count(&mut self, name: &str, by: u64) {
        self.line(format_args!("{name}:{by}|c"));
    }

    /// How much there is of something.
    pub fn gauge(&mut self, name: &str, value: u64) {
        self.line(format_args!("{name}:{value}|g"));
    }

    /// A request has been answered.
    pub(crate) fn request(&mut self, status: u16, duration: Duration) {
        let micros = duration.as_micros();
        let (whole, rest) = (micros / 1000, micros % 1000);
        self.line(format_args!("gunicorn.request.duration:{whole}.{rest:03}|ms"));
        *self.statuses.entry(status).or_default() += 1;
    }

    fn line(&mut self, text: Arguments<'_>) {
        let Self { prefix, tags, lines, .. } = self;
        writeln!(lines, "{prefix}{text}{tags}").expect("writing to memory does not fail");
    }

    /// Sends what has gathered.
    pub fn flush(&mut self) {
        let statuses = std::mem::take(&mut self.statuses);
        if !statuses.is_empty() {
            self.line(format_args!("gunicorn.requests:{}|c|@1.0", statuses.values().sum::<u64>()));
        }
        for (status, count) in statuses {
            self.line(format_args!("gunicorn.request.status.{status}:{count}|c|@1.0"));
        }
        let lines = std::mem::take(&mut self.lines);
        for datagram in datagrams(&lines) {
            self.send(datagram);
        }
    }

    fn send(&mut self, datagram: &[u8]) {
        let sent = match &self.socket {
            Socket::Udp(socket) => socket.send(datagram),
            Socket::Unix(socket) => socket.send(datagram),
        };
        match sent {
            Err(error) if self.told.is_none_or(|at| at.elapsed() > AGAIN) => {
                self.told = Some(Instant::now());
                log::warn!("statsd: cannot send: {error}; metrics are lost until it works");
            }
            Ok(_) | Err(_) => {}
        }
    }
}

impl Socket {
    fn connect(target: &str) -> io::Result<Self> {
        if let Some(path) = target.strip_prefix("unix:") {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path.strip_prefix("//").unwrap_or(path))?;
            socket.set_nonblocking(true)?;
            return Ok(Self::Unix(socket));
        }
        let target = target.strip_prefix("udp://").unwrap_or(target);
        let addresses = target.to_socket_addrs().or_else(|_| (target, PORT).to_socket_addrs())?;
        let mut last = io::Error::other("the name has no address");
        for address in addresses {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).and_then(|socket| {
                socket.connect(address)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            match socket {
                Ok(socket) => return Ok(Self::Udp(socket)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Whole lines, as many as one datagram may hold; a longer line is alone.
fn datagrams(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if lines.is_empty() {
            return None;
        }
        let ends = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n');
        let within = ends(&lines[..lines.len().min(MOST)]);
        let end = within.or_else(|| lines.iter().position(|byte| *byte == b'\n'))?;
        let (datagram, rest) = lines.split_at(end + 1);
        lines = rest;
        Some(&datagram[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (UdpSocket, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = socket.local_addr().unwrap().to_string();
        (socket, target)
    }

    fn receive(socket: &UdpSocket) -> String {
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn the_requests_of_a_turn_are_one_datagram() {
        let (socket, target) = listener();
        let mut statsd = Statsd::connect(&target, "app", "a:b,c").unwrap();
        statsd.request(200, Duration::from_micros(1_772));
        statsd.request(404, Duration::from_millis(20));
        statsd.request(200, Duration::ZERO);
        statsd.flush();
        statsd.flush();
        let lines = [
            "gunicorn.request.duration:1.772|ms",
            "gunicorn.request.duration:20.000|ms",
            "gunicorn.request.duration:0.000|ms",
            "gunicorn.requests:3|c|@1.0",
            "gunicorn.request.status.200:2|c|@1.0",
            "gunicorn.request.status.404:1|c|@1.0",
        ];
        assert_eq!(receive(&socket), lines.map(|line| format!("app.{line}|#a:b,c")).join("\n"));
        statsd.gauge("gunicorn.workers", 2);
        statsd.flush();
        assert_eq!(receive(&socket), "app.gunicorn.workers:2|g|#a:b,c");
    }

    #[test]
    fn no_datagram_is_too_long_and_no_line_is_cut() {
        let lines = "x".repeat(99) + "\n";
        let many = lines.repeat(100) + &"y".repeat(2000) + "\nz\n";
        let found: Vec<_> = datagrams(many.as_bytes()).collect();
        assert!(found.iter().all(|found| found.len() <= MOST || found.len() == 2000));
        assert_eq!(found.join(&b'\n'), many.trim_end().as_bytes());
    }

    #[test]
    fn a_daemon_that_is_not_there_costs_nothing() {
        let (socket, target) = listener();
        drop(socket);
        let mut statsd = Statsd::connect(&target, "", "").unwrap();
        for _ in 0..3 {
            statsd.count("a", 1);
            statsd.flush();
        }
        assert!(Statsd::connect("unix:/nowhere/at/all", "", "").is_err());
    }
}
