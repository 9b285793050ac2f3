//! Tells systemd how the server is (sd_notify(3)): one datagram of `NAME=value` lines each time.
//!
//! Without `NOTIFY_SOCKET` it does nothing. What cannot be sent is said in the log once; the server
//! serves all the same.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::unistd::{Pid, getpid};

use crate::worker::Ms;

pub(crate) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Watchdog>,
    complaint: Complaint,
}

/// systemd restarts a service that is silent for longer than it agreed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Watchdog {
    interval: Ms,
    next: Ms,
}

/// Whether the log has heard that sending fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Complaint {
    Unsaid,
    Said,
}

impl Notify {
    /// As these environment variables ask for.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let mut notify = Self { to: None, watchdog: None, complaint: Complaint::Unsaid };
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return notify;
        };
        match connect(&name) {
            Ok(to) => notify.to = Some(to),
            Err(error) => notify.complain(&error),
        }
        notify.watchdog = watchdog(variable);
        notify
    }

    /// The server serves, as far as it is said here; also the end of a reload.
    pub(crate) fn ready(&mut self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// `now` tells systemd which reload this is the answer to.
    pub(crate) fn reloading(&mut self, now: Ms) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading", now * 1000));
    }

    pub(crate) fn stopping(&mut self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// From now on this process is the service.
    pub(crate) fn main_pid(&mut self, pid: Pid) {
        self.send(&format!("MAINPID={pid}"));
    }

    /// When the next sign of life is due.
    pub(crate) fn due(&self) -> Option<Ms> {
        self.watchdog.map(|watchdog| watchdog.next)
    }

    /// Gives a sign of life if one is due.
    pub(crate) fn beat(&mut self, now: Ms) {
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.next <= now) {
            watchdog.next = now + watchdog.interval;
            self.send("WATCHDOG=1");
        }
    }

    fn send(&mut self, message: &str) {
        let sent = self.to.as_ref().map(|(from, to)| from.send_to_addr(message.as_bytes(), to));
        if let Some(Err(error)) = sent {
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complaint == Complaint::Unsaid {
            self.complaint = Complaint::Said;
            log::warn!("cannot notify systemd (NOTIFY_SOCKET): {error}");
        }
    }
}

/// A path, or after an `@` a name in the abstract namespace (unix(7)).
fn connect(name: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let from = UnixDatagram::unbound()?;
    // The master never waits, not for systemd either.
    from.set_nonblocking(true)?;
    Ok((from, to))
}

/// Twice as often as asked for (sd_watchdog_enabled(3)), if it is this process that is asked.
fn watchdog(variable: impl Fn(&str) -> Option<OsString>) -> Option<Watchdog> {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    let us = u64::try_from(getpid().as_raw()).ok();
    let is_ours = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == us;
    let interval = number("WATCHDOG_USEC").filter(|_| is_ours)? / 2 / 1000;
    Some(Watchdog { interval: interval.max(1), next: 0 })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn heard(by: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = by.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    fn environment<'a>(
        variables: &'a [(&'a str, String)],
    ) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| value.into())
    }

    #[test]
    fn a_socket_is_a_path_or_an_abstract_name() {
        let name = format!("serve-notify-{}", getpid());
        let path = std::env::temp_dir().join(&name);
        let by_path = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        for (to, by) in [(path.to_str().unwrap(), by_path), (&format!("@{name}"), by_name)] {
            let mut notify = Notify::new(environment(&[("NOTIFY_SOCKET", to.to_owned())]));
            notify.ready("workers=2");
            assert_eq!(heard(&by), "READY=1\nSTATUS=workers=2");
            notify.reloading(12);
            assert_eq!(heard(&by), "RELOADING=1\nMONOTONIC_USEC=12000\nSTATUS=reloading");
            notify.stopping();
            assert_eq!(heard(&by), "STOPPING=1\nSTATUS=stopping");
            notify.main_pid(Pid::from_raw(7));
            assert_eq!(heard(&by), "MAINPID=7");
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_asked_and_only_by_us() {
        let name = format!("@serve-watchdog-{}", getpid());
        let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        let by = UnixDatagram::bind_addr(&address).unwrap();
        let mut variables = vec![("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "3000000".to_owned())];
        assert!(Notify::new(environment(&variables)).watchdog.is_some());
        variables.push(("WATCHDOG_PID", getpid().to_string()));
        let mut notify = Notify::new(environment(&variables));
        notify.beat(10_000);
        assert_eq!((heard(&by).as_str(), notify.due()), ("WATCHDOG=1", Some(11_500)));
        notify.beat(11_499);
        by.set_nonblocking(true).unwrap();
        assert!(by.recv(&mut [0]).is_err());
        variables[2].1 = "1".to_owned();
        assert_eq!(Notify::new(environment(&variables)).due(), None);
    }

    #[test]
    fn nobody_to_tell_is_no_failure() {
        let mut silent = Notify::new(|_| None);
        silent.ready("");
        assert_eq!((silent.complaint, silent.due()), (Complaint::Unsaid, None));
        let mut deaf =
            Notify::new(environment(&[("NOTIFY_SOCKET", "/nonexistent/notify".to_owned())]));
        deaf.ready("");
        assert_eq!(deaf.complaint, Complaint::Said);
    }
}
