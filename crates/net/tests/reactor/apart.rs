//! A reactor that one thread turns while others act on it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serve_http::Size;
use serve_net::{Exchange, Heirs, Options, Reactor, Sent, Shared};

use crate::rig::*;

/// The reactor, its address, and a thread that turns it until it is dropped.
struct Turned {
    shared: Shared,
    port: u16,
}

/// Runs `act` while another thread turns a reactor with so many slots. That one
/// sleeps for ever unless there is something to do.
fn turned(slots: usize, act: impl FnOnce(&Turned)) {
    turned_with(slots, |_| {}, act);
}

/// The same with a reactor that is prepared.
fn turned_with(slots: usize, prepare: impl FnOnce(&mut Reactor), act: impl FnOnce(&Turned)) {
    let listener = tcp();
    let port = listener.tcp().unwrap().port();
    let mut reactor = Reactor::new(Options { slots, ..options() }, vec![listener], None).unwrap();
    prepare(&mut reactor);
    let turned = Turned { shared: Shared::apart(reactor), port };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                turned.shared.wait(None).unwrap();
                turned.shared.stir();
            }
        });
        let end = OnDrop(|| {
            done.store(true, Ordering::SeqCst);
            turned.shared.wake();
        });
        act(&turned);
        drop(end);
    });
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Turned {
    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    /// The next request, as soon as there is one.
    fn pull(&self) -> Exchange {
        let start = Instant::now();
        loop {
            if let Some(exchange) = self.shared.lock().pull() {
                return exchange;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no request came");
            thread::yield_now();
        }
    }

    fn answer(&self, exchange: &Exchange, body: &[u8]) {
        ok(&mut self.shared.lock(), exchange.id, body);
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Reads until `end` comes.
fn read_to(client: &mut TcpStream, end: &[u8]) {
    let mut got = Vec::new();
    while !got.ends_with(end) {
        let mut byte = [0];
        assert_eq!(client.read(&mut byte).unwrap(), 1, "closed after {got:?}");
        got.push(byte[0]);
    }
}

#[test]
fn the_reactor_can_be_had_while_another_thread_sleeps() {
    turned(4, |turned| {
        let mut client = turned.connect();
        client.write_all(&[REQUEST, REQUEST].concat()).unwrap();
        for body in [b"first".as_slice(), b"second"] {
            let exchange = turned.pull();
            turned.answer(&exchange, body);
            read_to(&mut client, body);
        }
        assert_eq!(turned.shared.lock().load(), 0);
    });
}

#[test]
fn a_slot_that_gets_free_ends_the_sleep() {
    turned(1, |turned| {
        let mut first = turned.connect();
        // The answer to the second request is no event: the poller knows the
        // connection by then.
        first.write_all(REQUEST).unwrap();
        turned.answer(&turned.pull(), b"zeroth");
        read_to(&mut first, b"zeroth");
        first.write_all(REQUEST).unwrap();
        let exchange = turned.pull();
        // It is not accepted: there is no slot, and so nothing to wake up for.
        let mut second = turned.connect();
        second.write_all(REQUEST).unwrap();
        // Usually it sleeps again by now; if not, there is less to see.
        thread::park_timeout(Duration::from_millis(100));
        turned.answer(&exchange, b"first");
        read_to(&mut first, b"first");
        let exchange = turned.pull();
        turned.answer(&exchange, b"second");
        read_to(&mut second, b"second");
    });
}

#[test]
fn requests_beyond_the_slots_wait() {
    turned(2, |turned| {
        let mut clients: Vec<_> = (0..2).map(|_| turned.connect()).collect();
        for client in &mut clients {
            client.write_all(&[REQUEST, REQUEST].concat()).unwrap();
        }
        let (one, two) = (turned.pull(), turned.pull());
        assert!(turned.shared.lock().pull().is_none());
        turned.answer(&one, b"done");
        let three = turned.pull();
        turned.answer(&three, b"done");
        turned.answer(&two, b"done");
        let four = turned.pull();
        turned.answer(&four, b"done");
    });
}

#[test]
fn the_last_answer_ends_a_drain() {
    turned(2, |turned| {
        let mut client = turned.connect();
        client.write_all(REQUEST).unwrap();
        let exchange = turned.pull();
        turned.shared.lock().drain(Duration::ZERO, Heirs::None);
        turned.shared.wake();
        turned.answer(&exchange, b"last");
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert!(all.ends_with(b"last"));
        let start = Instant::now();
        while !turned.shared.lock().is_drained() {
            assert!(start.elapsed() < Duration::from_secs(20));
            thread::yield_now();
        }
    });
}

#[test]
fn a_head_that_is_taken_out_is_missed_by_nobody() {
    turned(1, |turned| {
        let mut client = turned.connect();
        client.write_all(REQUEST).unwrap();
        let exchange = turned.pull();
        let head = turned.shared.lock().take_head(exchange.id).unwrap();
        assert_eq!(head.method(), b"GET");
        turned.shared.lock().restore_head(exchange.id, head);
        assert_eq!(turned.shared.lock().head(exchange.id).unwrap().path(), b"/");
        turned.answer(&exchange, b"done");
        read_to(&mut client, b"done");
        assert!(turned.shared.lock().take_head(exchange.id).is_none());
    });
}

#[test]
fn a_detached_connection_is_nobodys_but_the_takers() {
    turned(1, |turned| {
        let mut client = turned.connect();
        client.write_all(&[REQUEST, b"early"].concat()).unwrap();
        let exchange = turned.pull();
        let (fd, early) = turned.shared.lock().detach(exchange.id).unwrap();
        assert_eq!(early, b"early");
        assert!(turned.shared.lock().detach(exchange.id).is_none());
        let mut taken = TcpStream::from(fd);
        taken.set_nonblocking(false).unwrap();
        client.write_all(b"late").unwrap();
        let mut late = [0; 4];
        taken.read_exact(&mut late).unwrap();
        assert_eq!(&late, b"late");
        // It keeps its slot until the application has ended, and is sent nothing.
        let mut second = turned.connect();
        second.write_all(REQUEST).unwrap();
        assert_eq!(turned.shared.lock().load(), 1);
        assert_eq!(turned.shared.lock().room(exchange.id), Sent::Gone);
        turned.answer(&exchange, b"never");
        drop(taken);
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"");
        let exchange = turned.pull();
        turned.answer(&exchange, b"second");
        read_to(&mut second, b"second");
    });
}

// ---- what is deferred

/// Pieces and answers wait for so long, while nobody but the thread that turns sees
/// to them.
fn deferring(limit: Duration, act: impl FnOnce(&Turned)) {
    let prepare = |reactor: &mut Reactor| {
        reactor.defer(limit, limit);
        reactor.defer_by_timer().unwrap();
    };
    turned_with(4, prepare, act);
}

impl Turned {
    /// A client, and its request, whose answer has begun.
    fn streaming(&self) -> (TcpStream, Exchange) {
        let mut client = self.connect();
        client.write_all(REQUEST).unwrap();
        let exchange = self.pull();
        let begun = self.shared.lock().begin(exchange.id, &response(), Size::Unknown, b"first");
        assert_eq!(begun, Ok(Sent::Taken));
        read_to(&mut client, b"first\r\n");
        (client, exchange)
    }

    fn send(&self, exchange: &Exchange, piece: &[u8]) {
        assert_eq!(self.shared.lock().send(exchange.id, piece), Ok(Sent::Taken));
    }
}

#[test]
fn pieces_wait_for_the_next_ones_and_for_the_end() {
    deferring(Duration::from_secs(600), |turned| {
        let (mut client, exchange) = turned.streaming();
        turned.send(&exchange, b"second");
        turned.send(&exchange, b"third");
        // The loop turns meanwhile, and others look for requests: that is no reason
        // to send them.
        assert!(turned.shared.lock().pull().is_none());
        let mut other = turned.connect();
        other.write_all(REQUEST).unwrap();
        turned.answer(&turned.pull(), b"quick");
        read_to(&mut other, b"quick");
        client.set_nonblocking(true).unwrap();
        assert_eq!(client.read(&mut [0; 100]).unwrap_err().kind(), ErrorKind::WouldBlock);
        client.set_nonblocking(false).unwrap();
        // An event of the other client may be on its way; then there is nothing to do.
        let is_idle = || {
            let due = turned.shared.lock().deadline();
            due.is_none_or(|at| at > Instant::now())
        };
        let until = Instant::now() + Duration::from_secs(10);
        while !is_idle() {
            assert!(Instant::now() < until, "the loop turns for pieces that wait");
            thread::yield_now();
        }
        turned.shared.lock().finish(exchange.id).unwrap();
        read_to(&mut client, b"6\r\nsecond\r\n5\r\nthird\r\n0\r\n\r\n");
    });
}

#[test]
fn pieces_that_nothing_follows_are_sent_in_time() {
    deferring(Duration::from_millis(50), |turned| {
        let (mut client, exchange) = turned.streaming();
        for _ in 0..5 {
            turned.send(&exchange, b"more");
            turned.send(&exchange, b"last");
            read_to(&mut client, b"4\r\nmore\r\n4\r\nlast\r\n");
        }
    });
}

/// The timer that was set for the first stream finds the second one's pieces, for
/// which it is too early.
#[test]
fn a_timer_that_comes_too_early_is_followed_by_another() {
    deferring(Duration::from_millis(200), |turned| {
        let (mut client, exchange) = turned.streaming();
        turned.send(&exchange, b"second");
        turned.shared.lock().finish(exchange.id).unwrap();
        read_to(&mut client, b"second\r\n0\r\n\r\n");
        let (mut client, exchange) = turned.streaming();
        turned.send(&exchange, b"second");
        read_to(&mut client, b"second\r\n");
    });
}

impl Turned {
    /// Pulls a request, takes some time for it, and answers.
    fn serve(&self, body: &[u8]) {
        let exchange = self.pull();
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(50) {}
        self.answer(&exchange, body);
    }

    /// Clients whose requests wait for an application that was quick so far.
    /// Each sends so many at once; the last client has none.
    fn crowd(&self, requests: &[usize]) -> Vec<TcpStream> {
        let mut client = self.connect();
        for _ in 0..40 {
            client.write_all(REQUEST).unwrap();
            self.serve(b"calm");
            read_to(&mut client, b"calm");
        }
        let mut clients = Vec::new();
        for _ in requests {
            let mut client = self.connect();
            // The poller knows it then, and has no more news of it than its request.
            client.write_all(REQUEST).unwrap();
            self.serve(b"calm");
            read_to(&mut client, b"calm");
            clients.push(client);
        }
        for (number, count) in requests.iter().enumerate() {
            clients[number].write_all(&REQUEST.repeat(*count)).unwrap();
            let start = Instant::now();
            while self.shared.lock().waiting() <= number {
                assert!(start.elapsed() < Duration::from_secs(20), "they do not come");
                thread::yield_now();
            }
        }
        clients.push(client);
        clients
    }
}

#[test]
fn answers_leave_when_no_other_request_waits() {
    deferring(Duration::from_secs(600), |turned| {
        let mut clients = turned.crowd(&[1, 1, 1]);
        for _ in 0..3 {
            turned.serve(b"done");
        }
        clients[0].set_nonblocking(true).unwrap();
        assert_eq!(clients[0].read(&mut [0; 100]).unwrap_err().kind(), ErrorKind::WouldBlock);
        clients[0].set_nonblocking(false).unwrap();
        assert!(turned.shared.lock().pull().is_none());
        clients[..3].iter_mut().for_each(|client| read_to(client, b"done"));
    });
}

#[test]
fn an_answer_waits_in_vain_for_no_longer_than_allowed() {
    deferring(Duration::from_millis(200), |turned| {
        let mut clients = turned.crowd(&[1, 1]);
        turned.serve(b"done");
        read_to(&mut clients[0], b"done");
        assert_eq!(turned.shared.lock().waiting(), 1);
    });
}

/// Who has written them goes to sleep, and the loop sleeps already.
#[test]
fn answers_that_leave_let_pipelined_requests_in() {
    deferring(Duration::from_secs(600), |turned| {
        // The third client's requests are all that may follow in one turn.
        let mut clients = turned.crowd(&[2, 2, 33]);
        for _ in 0..2 + 33 {
            turned.serve(b"done");
        }
        for _ in 0..2 {
            turned.serve(b"more");
        }
        assert!(turned.shared.lock().pull().is_none());
        clients[..2].iter_mut().for_each(|client| read_to(client, b"more"));
    });
}
