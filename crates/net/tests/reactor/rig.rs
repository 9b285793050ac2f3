//! A reactor with its listeners and a gateway, clients that never block, and a
//! reader of responses.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::panic::{catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serve_http::Response;
use serve_net::{
    AccessLog, Address, Body, Company, Exchange, ExchangeId, Gateway, Listener, Options, Reactor,
    Shared, hand_off,
};
use socket2::{Domain, SockRef, Socket, Type};

/// Longer than anything takes on a slow machine: whoever waits so long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

type Act = Box<dyn FnMut(&mut Reactor, Exchange)>;

/// The application: a closure.
struct App {
    reactor: Shared,
    act: Act,
}

impl Gateway for App {
    fn call(&mut self, exchange: Exchange) {
        (self.act)(&mut self.reactor.lock(), exchange);
    }
}

/// One reactor and what belongs to it.
pub(crate) struct Rig {
    shared: Shared,
    app: App,
    addresses: Vec<SocketAddr>,
    pub(crate) log: Lines,
}

impl Rig {
    /// On one TCP listener.
    pub(crate) fn new(options: Options, act: impl FnMut(&mut Reactor, Exchange) + 'static) -> Self {
        Self::over(options, vec![tcp()], act)
    }

    pub(crate) fn over(
        options: Options,
        listeners: Vec<Listener>,
        act: impl FnMut(&mut Reactor, Exchange) + 'static,
    ) -> Self {
        let addresses = listeners.iter().filter_map(Listener::tcp).collect();
        let log = Lines::default();
        let reactor = Reactor::new(options, listeners, Some(AccessLog::new(log.clone()))).unwrap();
        let shared = Shared::new(reactor);
        let app = App { reactor: shared.clone(), act: Box::new(act) };
        Self { shared, app, addresses, log }
    }

    pub(crate) fn reactor(&self) -> MutexGuard<'_, Reactor> {
        self.shared.lock()
    }

    pub(crate) fn connect(&self) -> Client {
        self.connect_to(0)
    }

    pub(crate) fn connect_to(&self, listener: usize) -> Client {
        Client::new(TcpStream::connect(self.addresses[listener]).unwrap().into())
    }

    /// A client whose kernel takes little of what it does not read.
    pub(crate) fn connect_narrow(&self) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(&self.addresses[0].into()).unwrap();
        Client::new(socket.into())
    }

    /// One turn, which waits a little if there is nothing to do.
    pub(crate) fn turn(&mut self) {
        self.shared.turn(Some(Duration::from_millis(2)), &mut self.app).unwrap();
    }

    /// One turn, which waits for nothing.
    pub(crate) fn glance(&mut self) {
        self.shared.turn(Some(Duration::ZERO), &mut self.app).unwrap();
    }

    /// Turns until `done`.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
            self.turn();
        }
    }

    /// Turns until nothing is left to do but to wait.
    #[track_caller]
    pub(crate) fn calm(&mut self) {
        let mut quiet = 0;
        self.until("it is calm", |rig| {
            let start = Instant::now();
            rig.turn();
            quiet = if start.elapsed() < Duration::from_millis(2) { 0 } else { quiet + 1 };
            quiet == 3
        });
    }

    /// The next response to `client`.
    #[track_caller]
    pub(crate) fn answer(&mut self, client: &mut Client) -> Answer {
        let mut answer = None;
        self.until("there is a response", |_| {
            client.step();
            answer = client.answer();
            answer.is_some() || client.end.is_some()
        });
        let end = client.end;
        answer.unwrap_or_else(|| panic!("{end:?} after {:?}", client.text()))
    }

    /// How the connection of `client` ends; what comes before is in `input`.
    #[track_caller]
    pub(crate) fn end(&mut self, client: &mut Client) -> End {
        self.until("the connection ends", |_| {
            client.step();
            client.end.is_some()
        });
        client.end.unwrap()
    }

    /// Ends when every connection has been noticed to be over.
    #[track_caller]
    pub(crate) fn empty(&mut self) {
        self.until("no connection is left", |rig| rig.reactor().connections() == 0);
    }
}

/// The ends that every worker gets a copy of.
pub(crate) struct Pair(OwnedFd, OwnedFd);

impl Pair {
    pub(crate) fn new() -> Self {
        let (put, take) = hand_off().unwrap();
        Self(put, take)
    }

    pub(crate) fn share(&self, rig: &Rig) {
        self.share_with(rig, Company::Some);
    }

    pub(crate) fn share_with(&self, rig: &Rig, company: Company) {
        let (put, take) = (self.0.try_clone().unwrap(), self.1.try_clone().unwrap());
        rig.reactor().share(put, take, company).unwrap();
    }
}

/// Any port of the loopback.
pub(crate) fn tcp() -> Listener {
    Listener::bind(&Address::parse("127.0.0.1:0").unwrap(), 4096, 0).unwrap()
}

/// As [`tcp`], but the kernel takes little of a response that nobody reads.
pub(crate) fn narrow_tcp() -> Listener {
    let listener = tcp();
    SockRef::from(&listener).set_send_buffer_size(16 * 1024).unwrap();
    listener
}

/// Timeouts that do not come, so that a test sets the one it is about.
pub(crate) fn options() -> Options {
    Options { slots: 8, patience: Duration::from_secs(3600), ..Options::default() }
}

// ---- applications

/// Answers with what the request was.
pub(crate) fn echo(reactor: &mut Reactor, exchange: Exchange) {
    let id = exchange.id;
    let Some(head) = reactor.head(id) else { return reactor.fail(id, 500, "") };
    let (method, target) = (head.method().escape_ascii(), head.target().escape_ascii());
    let text = format!("{method} {target} {}", digest(&contents(&exchange.body)));
    ok(reactor, id, text.as_bytes());
}

/// 200 with `body`.
pub(crate) fn ok(reactor: &mut Reactor, id: ExchangeId, body: &[u8]) {
    reactor.respond(id, &response(), body).unwrap();
}

pub(crate) fn response() -> Response {
    let mut response = Response::new();
    response.start(b"200 OK").unwrap();
    response
}

/// Exchanges that are answered when the test wants it.
pub(crate) type Held = Rc<RefCell<VecDeque<Exchange>>>;

pub(crate) fn hold() -> (Held, impl FnMut(&mut Reactor, Exchange) + 'static) {
    let held = Held::default();
    let mine = held.clone();
    (held, move |_: &mut Reactor, exchange| mine.borrow_mut().push_back(exchange))
}

pub(crate) fn contents(body: &Body) -> Vec<u8> {
    match body {
        Body::Memory(bytes) => bytes.to_vec(),
        Body::File(file, len) => {
            let mut bytes = vec![0; usize::try_from(*len).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        }
    }
}

/// Length and FNV-1a of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{}:{:x}", bytes.len(), bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Bytes of which no stretch repeats soon.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut rng = Rng::new(len as u64);
    (0..len.div_ceil(8)).flat_map(|_| rng.next().to_le_bytes()).take(len).collect()
}

/// Runs `count` random cases, or the one that `SERVE_SEED` names.
pub(crate) fn seeded(count: u64, case: fn(u64)) {
    let given = env::var("SERVE_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let first = given.unwrap_or_else(|| RandomState::new().hash_one(0) >> 16);
    for seed in first..first + given.map_or(count, |_| 1) {
        if let Err(panic) = catch_unwind(|| case(seed)) {
            // Nothing else would say which case it was.
            let mut stderr = io::stderr();
            writeln!(stderr, "SERVE_SEED={seed} replays it").unwrap();
            resume_unwind(panic);
        }
    }
}

/// xorshift64*: good enough to choose by, and the same everywhere.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        // Odd and spread out: xorshift never leaves 0, and is alike for alike seeds.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

// ---- the access log

/// What the access log wrote, and in how many writes.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<(Vec<u8>, usize)>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().unwrap();
        log.0.extend_from_slice(bytes);
        log.1 += 1;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// `"GET / HTTP/1.1" 200 5` of each line.
    pub(crate) fn requests(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap();
        let request = |line: &str| {
            let rest = line.split_once("] ").unwrap().1;
            rest.strip_suffix(" \"-\" \"-\"").unwrap_or(rest).to_owned()
        };
        text.lines().map(request).collect()
    }

    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap() = Default::default();
    }

    pub(crate) fn writes(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

// ---- clients

/// How the server ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
}

/// A client that never blocks: [`Client::step`] writes and reads what goes.
pub(crate) struct Client {
    socket: Socket,
    /// What it still wants to write.
    output: VecDeque<u8>,
    /// What has been read and not been looked at.
    pub(crate) input: Vec<u8>,
    pub(crate) end: Option<End>,
    /// A write has failed.
    pub(crate) cut_short: bool,
}

impl Client {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let socket = Socket::from(fd);
        socket.set_nonblocking(true).unwrap();
        Self { socket, output: VecDeque::new(), input: Vec::new(), end: None, cut_short: false }
    }

    pub(crate) fn send(&mut self, text: impl AsRef<[u8]>) {
        self.output.extend(text.as_ref());
        self.write();
    }

    /// What the kernel has not taken yet.
    pub(crate) fn unsent(&self) -> usize {
        self.output.len()
    }

    pub(crate) fn local_port(&self) -> u16 {
        self.socket.local_addr().unwrap().as_socket().unwrap().port()
    }

    pub(crate) fn half_close(&mut self) {
        assert_eq!(self.unsent(), 0);
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// The next close is a reset, as of a client that crashed.
    pub(crate) fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    pub(crate) fn step(&mut self) {
        self.write();
        while self.take(64 * 1024) > 0 {}
    }

    /// Writes what goes.
    pub(crate) fn write(&mut self) {
        while !self.output.is_empty() {
            match self.socket.write(self.output.as_slices().0) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.output.clear();
                    self.cut_short = true;
                }
            }
        }
    }

    /// Reads at most `limit` bytes; how many.
    pub(crate) fn take(&mut self, limit: usize) -> usize {
        if self.end.is_some() {
            return 0;
        }
        let old = self.input.len();
        self.input.resize(old + limit, 0);
        let read = self.socket.read(&mut self.input[old..]);
        self.input.truncate(old + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.end = Some(End::Closed),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.end = Some(End::Reset),
            _ => {}
        }
        self.input.len() - old
    }

    /// Takes a complete response from the front of `input`.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        Answer::take(&mut self.input)
    }

    /// Gives its buffers back.
    pub(crate) fn forget(&mut self) {
        (self.input, self.output) = (Vec::new(), VecDeque::new());
    }

    pub(crate) fn text(&self) -> String {
        self.input.escape_ascii().to_string()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Takes a complete response from the front of `input`.
    pub(crate) fn take(input: &mut Vec<u8>) -> Option<Self> {
        let (answer, used) = Self::parse(input)?;
        input.drain(..used);
        Some(answer)
    }

    /// A response with a Content-Length, in chunks, or interim.
    fn parse(input: &[u8]) -> Option<(Self, usize)> {
        let end = input.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&input[..end]).unwrap().to_ascii_lowercase();
        let status = head["http/1.1 ".len()..][..3].parse().unwrap();
        let rest = &input[end..];
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
        let (body, used) = match length {
            Some(length) => {
                let length = length.parse().unwrap();
                (rest.get(..length)?.to_vec(), length)
            }
            None if head.contains("transfer-encoding: chunked") => unchunk(rest)?,
            None => (Vec::new(), 0),
        };
        Some((Self { status, head, body }, end + used))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn closes(&self) -> bool {
        self.head.contains("\r\nconnection: close\r\n")
    }
}

/// The body, and how many bytes it took on the wire.
fn unchunk(wire: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = wire[at..].windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&wire[at..at + line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        at += line + 2;
        body.extend_from_slice(wire.get(at..at + size)?);
        assert_eq!(wire.get(at + size..at + size + 2)?, b"\r\n");
        at += size + 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}

/// A GET of `path`.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A POST of `body`.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
