//! How a connection that the application has taken is told that its worker ends:
//! by the close frame of a WebSocket, with time left for the client's answer to
//! reach the application. Who does not go by that finds its input at an end.
//!
//! The frame is written between two frames of the application's, which is known
//! from what the application writes through the socket that it was given. What
//! cannot be followed gets no frame.
//!
//! **Who may call.** [`Voice`] is the application's side. [`Farewell`] belongs to
//! whichever thread hears the master, and to one of its own. It never takes the
//! GIL, and whoever has its locks does nothing that waits.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::alarm::Blocked;
use crate::frames::{Frames, Place};

/// "Going away" (RFC 6455, 7.4.1): what a server that stops has to say.
const GOODBYE: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// How long before the worker has to end clients are told, at most. It is a third
/// of the time, if that is less.
const NOTICE: Duration = Duration::from_secs(3);

/// How long a worker that ends at once waits for a frame that is being written.
const WRITING: Duration = Duration::from_millis(250);
const TICK: Duration = Duration::from_millis(1);

/// How long before the end of this time clients are told.
fn notice(graceful: Duration) -> Duration {
    (graceful / 3).min(NOTICE)
}

/// The connections that the application has taken, and when they are to end.
#[derive(Default)]
pub(crate) struct Farewell(Mutex<Open>);

#[derive(Default)]
struct Open {
    connections: Vec<Weak<Taken>>,
    /// When they are told, and when their input ends; once the worker is to end.
    due: Option<(Instant, Instant)>,
    /// Whether somebody waits for that.
    awaited: bool,
}

impl Farewell {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker is to end within `graceful`.
    pub(crate) fn announce(self: &Arc<Self>, graceful: Duration) {
        let mut open = self.open();
        if open.due.is_none() {
            let notice = notice(graceful);
            let end = Instant::now() + graceful;
            open.due = Some((end - notice, end - notice / 2));
            self.await_due(&mut open);
        }
    }

    /// The worker ends.
    pub(crate) fn say(&self) {
        log::debug!("WebSockets are told that the worker ends");
        self.each(|taken| taken.words().part());
    }

    /// The worker ends at once.
    pub(crate) fn say_and_leave(&self) {
        self.say();
        let until = Instant::now() + WRITING;
        while self.is_owed() && Instant::now() < until {
            thread::sleep(TICK);
        }
    }

    /// Whether somebody is to be told after what is being written.
    fn is_owed(&self) -> bool {
        let connections = self.open().connections.clone();
        connections.iter().filter_map(Weak::upgrade).any(|taken| taken.words().is_owed())
    }

    fn meet(self: &Arc<Self>, taken: &Arc<Taken>) {
        let mut open = self.open();
        if open.connections.len() == open.connections.capacity() {
            open.connections.retain(|it| it.strong_count() > 0);
        }
        open.connections.push(Arc::downgrade(taken));
        self.await_due(&mut open);
    }

    /// By a thread, since the others may be kept by the application. It is not there
    /// for a worker that has no such connection.
    fn await_due(self: &Arc<Self>, open: &mut Open) {
        let Some((told, ended)) = open.due else { return };
        if open.awaited || open.connections.is_empty() {
            return;
        }
        let this = self.clone();
        let wait = move || {
            thread::sleep(told.saturating_duration_since(Instant::now()));
            this.say();
            thread::sleep(ended.saturating_duration_since(Instant::now()));
            this.each(|taken| taken.words().interrupt());
        };
        // It blocks all signals: Python expects them on its own threads.
        let blocked = Blocked::all();
        let spawned = thread::Builder::new().name("serve-farewell".into()).spawn(wait);
        drop(blocked);
        match spawned {
            Ok(_) => open.awaited = true,
            Err(error) => log::warn!("WebSockets will be cut: cannot start a thread: {error}"),
        }
    }

    fn each(&self, act: impl Fn(&Taken)) {
        let connections = self.open().connections.clone();
        connections.iter().filter_map(Weak::upgrade).for_each(|taken| act(&taken));
    }
}

/// A connection that the application has taken.
struct Taken(Mutex<Words>);

impl Taken {
    fn words(&self) -> MutexGuard<'_, Words> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was said on it.
struct Words {
    /// `None` once the application has closed it: the number may be another's.
    fd: Option<RawFd>,
    frames: Frames,
    /// How many threads or greenlets of the application are writing.
    writers: usize,
    goodbye: Goodbye,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    Unsaid,
    /// To be said as soon as a frame is complete.
    Owed,
    Said,
}

impl Words {
    fn new(fd: RawFd, frames: Frames) -> Self {
        Self { fd: Some(fd), frames, writers: 0, goodbye: Goodbye::Unsaid }
    }

    fn part(&mut self) {
        if self.goodbye == Goodbye::Unsaid {
            self.goodbye = Goodbye::Owed;
            self.settle();
        }
    }

    fn is_owed(&self) -> bool {
        self.goodbye == Goodbye::Owed && (self.writers > 0 || self.frames.place() == Place::Inside)
    }

    fn settle(&mut self) {
        if (self.goodbye, self.writers, self.frames.place()) == (Goodbye::Owed, 0, Place::Between)
            && let Some(fd) = self.fd
        {
            self.goodbye = Goodbye::Said;
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: the bytes are ours, and the descriptor is the application's, which
            // takes this lock before it closes it.
            let sent = unsafe { libc::send(fd, GOODBYE.as_ptr().cast(), GOODBYE.len(), flags) };
            // A client that takes nothing is not waited for, and gets no word. That is its
            // own doing, and all it misses is a reason: as any disconnect, it is no more
            // than a line for who debugs.
            let whole = usize::try_from(sent) == Ok(GOODBYE.len());
            let told = if whole { "was told" } else { "takes no word, and was not told" };
            log::debug!("a WebSocket {told} that its worker ends");
        }
    }

    fn interrupt(&self) {
        if let Some(fd) = self.fd {
            // SAFETY: as above. It fails for a connection that is broken.
            unsafe { libc::shutdown(fd, libc::SHUT_RD) };
        }
    }
}

/// What the application's socket tells of its use.
#[pyclass(frozen, module = "serve")]
pub(crate) struct Voice(Arc<Taken>);

impl Voice {
    /// For the connection `fd`, on which the application will speak `protocol`.
    pub(crate) fn new(farewell: &Arc<Farewell>, fd: RawFd, protocol: &str) -> Self {
        let frames = match protocol.trim().eq_ignore_ascii_case("websocket") {
            true => Frames::default(),
            false => Frames::lost(),
        };
        let taken = Arc::new(Taken(Mutex::new(Words::new(fd, frames))));
        farewell.meet(&taken);
        Self(taken)
    }
}

#[pymethods]
impl Voice {
    /// The application is about to write; False if nothing may follow any more.
    fn begin(&self) -> bool {
        let mut words = self.0.words();
        let may = words.goodbye != Goodbye::Said;
        words.writers += usize::from(may);
        may
    }

    /// It has written that.
    fn end(&self, written: &[u8]) {
        let mut words = self.0.words();
        words.writers -= 1;
        words.frames.follow(written);
        words.settle();
    }

    /// It has written, or will write, what is not seen here.
    fn lose(&self) {
        self.0.words().frames = Frames::lost();
    }

    /// It closes its socket.
    fn close(&self) {
        self.0.words().fd = None;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    const HANDSHAKE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

    /// A client, and what the server's application has.
    fn connect(farewell: &Arc<Farewell>, protocol: &str) -> (UnixStream, UnixStream, Voice) {
        let (client, server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        let voice = Voice::new(farewell, server.as_raw_fd(), protocol);
        (client, server, voice)
    }

    fn write(voice: &Voice, bytes: &[u8]) {
        assert!(voice.begin());
        voice.end(bytes);
    }

    /// What the client was told.
    fn told(mut client: &UnixStream) -> Vec<u8> {
        let mut bytes = [0; 100];
        match client.read(&mut bytes) {
            Ok(count) => bytes[..count].to_vec(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn goodbye_is_said_once_and_nothing_after_it() {
        let farewell = Arc::default();
        let (client, _server, voice) = connect(&farewell, "WebSocket");
        write(&voice, HANDSHAKE);
        farewell.say();
        assert_eq!(told(&client), GOODBYE);
        farewell.say();
        assert!(!voice.begin());
        assert!(told(&client).is_empty());
    }

    #[test]
    fn goodbye_waits_for_the_handshake_for_a_frame_and_for_who_is_writing() {
        let farewell = Arc::default();
        let (client, _server, voice) = connect(&farewell, "websocket");
        write(&voice, &HANDSHAKE[..20]);
        farewell.say();
        assert!(told(&client).is_empty());
        write(&voice, &[&HANDSHAKE[20..], &[0x81]].concat());
        assert!(told(&client).is_empty());
        assert!(voice.begin() && voice.begin());
        voice.end(b"\x02a");
        voice.end(b"b");
        assert_eq!(told(&client), GOODBYE);
        let (client, _server, voice) = connect(&farewell, "websocket");
        write(&voice, HANDSHAKE);
        assert!(voice.begin());
        farewell.say();
        assert!(told(&client).is_empty(), "somebody was about to write");
        voice.end(b"");
        assert_eq!(told(&client), GOODBYE);
    }

    #[test]
    fn who_ends_at_once_waits_for_a_frame_but_not_for_ever() {
        let farewell = Arc::default();
        let (client, _server, voice) = connect(&farewell, "websocket");
        write(&voice, HANDSHAKE);
        assert!(voice.begin());
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(WRITING / 5);
                voice.end(&[0x81, 0x01, b'a']);
            });
            farewell.say_and_leave();
            assert_eq!(told(&client), GOODBYE);
        });
        let (client, _server, voice) = connect(&farewell, "websocket");
        write(&voice, HANDSHAKE);
        assert!(voice.begin());
        farewell.say_and_leave();
        assert!(told(&client).is_empty());
    }

    #[test]
    fn what_cannot_be_followed_gets_no_frame_but_an_end() {
        let farewell = Arc::default();
        let (client, mut server, voice) = connect(&farewell, "raw");
        let (other, _server, lost) = connect(&farewell, "websocket");
        write(&voice, HANDSHAKE);
        write(&lost, HANDSHAKE);
        lost.lose();
        farewell.say();
        assert!(told(&client).is_empty() && told(&other).is_empty());
        farewell.each(|taken| taken.words().interrupt());
        assert_eq!(server.read(&mut [0; 10]).unwrap(), 0);
    }

    #[test]
    fn a_socket_that_the_application_has_closed_is_let_alone() {
        let farewell = Arc::default();
        let (client, _server, voice) = connect(&farewell, "websocket");
        write(&voice, HANDSHAKE);
        voice.close();
        farewell.say();
        assert!(told(&client).is_empty());
        drop(voice);
        farewell.each(|_| panic!("it is gone"));
    }

    #[test]
    fn clients_are_told_three_seconds_before_the_end_or_a_third_of_the_time() {
        let seconds = Duration::from_secs;
        assert_eq!(notice(seconds(30)), seconds(3));
        assert_eq!(notice(seconds(6)), seconds(2));
        assert_eq!(notice(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn who_comes_when_the_end_is_known_is_told_in_time() {
        let farewell: Arc<Farewell> = Arc::default();
        farewell.announce(Duration::ZERO);
        let (client, _server, voice) = connect(&farewell, "websocket");
        client.set_nonblocking(false).unwrap();
        write(&voice, HANDSHAKE);
        assert_eq!(told(&client), GOODBYE);
    }
}
