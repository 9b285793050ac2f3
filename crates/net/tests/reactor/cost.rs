//! What connections leave behind, and what they cost while they are idle.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serve_http::Size;
use serve_net::{Options, Sent};

use crate::rig::*;

/// Counts what this thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: usize, sign: isize) {
    HELD.set(HELD.get() + isize::try_from(bytes).unwrap_or(0) * sign);
}

// SAFETY: everything is passed on to the system's allocator, and counting
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A head as a browser sends it.
const BROWSER: &str = "GET /some/page?with=a&query=string HTTP/1.1\r\n\
    Host: www.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: none\r\n\r\n";

#[test]
fn an_idle_connection_costs_less_than_three_kibibytes() {
    // With the first one a power of two, as the reactor's table grows.
    const COUNT: usize = 511;
    let mut rig = Rig::new(options(), echo);
    // The vectors of the reactor have their size before it counts.
    let mut first = rig.connect();
    first.send(post("/", &noise(100_000)));
    assert_eq!(rig.answer(&mut first).status, 200);
    let mut clients: Vec<_> = (0..COUNT).map(|_| rig.connect()).collect();
    let before = HELD.get();
    for client in &mut clients {
        client.send([BROWSER, BROWSER].concat());
        for _ in 0..2 {
            assert_eq!(rig.answer(client).status, 200);
        }
        client.forget();
    }
    assert_eq!(rig.reactor().connections(), COUNT + 1);
    let each = usize::try_from(HELD.get() - before).unwrap() / COUNT;
    assert!(each < 3 * 1024, "{each} bytes for an idle connection");
}

/// The reader is always behind and the writer always waits for it: what has
/// been written must not stay in memory.
#[test]
fn an_endless_response_costs_no_more_than_its_high_water_mark() {
    let (held, act) = hold();
    let options = Options { high_water: 500_000, ..options() };
    let mut rig = Rig::over(options, vec![narrow_tcp()], act);
    let mut client = rig.connect_narrow();
    client.send(get("/"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let id = held.borrow()[0].id;
    let piece = noise(10_000);
    let before = HELD.get();
    let mut most = 0;
    let mut sent = rig.reactor().begin(id, &response(), Size::Unknown, &piece);
    for _ in 0..3000 {
        while sent == Ok(Sent::Taken) {
            sent = rig.reactor().send(id, &piece);
        }
        client.take(64 * 1024);
        client.input.clear();
        most = most.max(HELD.get() - before);
        rig.turn();
        sent = Ok(rig.reactor().room(id));
    }
    assert!(most < 2_000_000, "{most} bytes held");
}

#[test]
fn thousands_of_connections_leave_no_descriptor_and_no_memory() {
    let mut rig = Rig::new(options(), echo);
    let round = |rig: &mut Rig, count: usize| {
        for i in 0..count {
            let mut client = rig.connect();
            match i % 5 {
                0 => {}
                1 => client.send("GET / HTTP"),
                2 => client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234"),
                3 => client.send(get("/")),
                _ => client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
            }
            if i % 2 == 0 {
                rig.turn();
            }
            if i % 3 == 0 {
                client.reset();
            }
        }
        rig.turn();
        rig.empty();
        rig.log.forget();
    };
    round(&mut rig, 200);
    let (open, held) = (descriptors(), HELD.get());
    round(&mut rig, 10_000);
    // Other tests of this binary may run at the same time, and open some.
    rig.until("no descriptor is left", |_| descriptors() <= open + 100);
    let more = HELD.get() - held;
    assert!(more < 100_000, "{more} bytes more than before");
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs in a process of its own, whose limit is low.
#[test]
#[expect(clippy::disallowed_methods, reason = "the limit is the whole process's")]
fn without_descriptors_the_queue_waits_and_is_served_later() {
    const MARK: &str = "SERVE_TEST_FEW_DESCRIPTORS";
    let name = "cost::without_descriptors_the_queue_waits_and_is_served_later";
    if env::var_os(MARK).is_some() {
        return serve_with_few_descriptors();
    }
    let mut limited = Command::new("sh");
    let script = "ulimit -n 40; exec \"$0\" --exact \"$1\" --test-threads=1";
    limited.arg("-c").arg(script).arg(env::current_exe().unwrap()).arg(name);
    let output = limited.env(MARK, "1").arg0("sh").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn serve_with_few_descriptors() {
    let (held, act) = hold();
    let mut rig = Rig::new(options(), act);
    let mut clients: Vec<_> = (0..6).map(|_| rig.connect()).collect();
    let mut hogs = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        hogs.push(file);
    }
    hogs.truncate(hogs.len() - 2);
    for client in &mut clients {
        client.send(get("/"));
    }
    rig.until("two run", |_| held.borrow().len() == 2);
    rig.calm();
    assert_eq!((rig.reactor().connections(), held.borrow().len()), (2, 2));
    // Each that is answered becomes idle, and makes room for one that waits.
    for (index, client) in clients.iter_mut().enumerate().take(4) {
        rig.until("one runs", |_| !held.borrow().is_empty());
        let exchange = held.borrow_mut().pop_front().unwrap();
        echo(&mut rig.reactor(), exchange);
        assert_eq!(rig.answer(client).status, 200, "{index}");
    }
    rig.until("the last two run", |_| held.borrow().len() == 2);
    for client in &mut clients[..4] {
        assert_eq!(rig.end(client), End::Closed);
    }
    drop(hogs);
    let mut more = rig.connect();
    more.send(get("/"));
    rig.until("three run", |_| held.borrow().len() == 3);
    assert_eq!(rig.reactor().connections(), 3);
}
