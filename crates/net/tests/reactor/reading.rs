//! Requests on their way in: however they arrive, each is handed over once,
//! whole and in order; what is refused is refused in a way the client can read.

use std::os::unix::net::UnixStream;

use serve_http::Limits;
use serve_net::{Address, Body, Listener, Options, Peer};

use crate::rig::*;

#[test]
fn a_connection_is_kept_and_its_requests_answered_in_order() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    for path in ["/a", "/b", "/c"] {
        client.send(get(path));
        let answer = rig.answer(&mut client);
        assert_eq!((answer.status, answer.closes()), (200, false));
        assert!(answer.text().starts_with(&format!("GET {path} ")));
    }
    assert_eq!(rig.reactor().connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    let batch: Vec<u8> = (0..100)
        .flat_map(|i| match i % 3 {
            0 => post(&format!("/{i}"), &noise(i * 50)),
            _ => get(&format!("/{i}")).into_bytes(),
        })
        .collect();
    client.send(batch);
    rig.until("all are answered", |rig| rig.log.requests().len() == 100);
    assert!(rig.log.writes() < 10, "in a few turns");
    for i in 0..100 {
        let answer = rig.answer(&mut client);
        let (method, len) = if i % 3 == 0 { ("POST", i * 50) } else { ("GET", 0) };
        assert!(answer.text().starts_with(&format!("{method} /{i} {len}:")), "{answer:?}");
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    let body = b"0123456789";
    for _ in 0..2 {
        for byte in post("/slow", body) {
            client.send([byte]);
            rig.turn();
        }
        assert_eq!(rig.answer(&mut client).text(), format!("POST /slow {}", digest(body)));
    }
}

#[test]
fn a_request_may_be_split_anywhere() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    let mut two = post("/one", b"body");
    two.extend(post("/two", b"more"));
    for split in 1..two.len() {
        client.send(&two[..split]);
        rig.turn();
        rig.turn();
        client.send(&two[split..]);
        assert!(rig.answer(&mut client).text().starts_with("POST /one 4:"), "split at {split}");
        assert!(rig.answer(&mut client).text().starts_with("POST /two 4:"), "split at {split}");
    }
}

#[test]
fn a_body_is_kept_in_memory_or_in_a_file_and_is_the_same() {
    let options = Options { body_memory: 10_000, body_pool: 0, ..options() };
    let mut rig = Rig::new(options, |reactor, exchange| {
        let place = match &exchange.body {
            Body::Memory(_) => "memory",
            Body::File(..) => "file",
        };
        let text = format!("{place} {}", digest(&contents(&exchange.body)));
        ok(reactor, exchange.id, text.as_bytes());
    });
    let mut client = rig.connect();
    for (len, place) in [(10_000, "memory"), (10_001, "file"), (0, "memory"), (3_000_000, "file")] {
        let body = noise(len);
        client.send(post("/", &body));
        assert_eq!(rig.answer(&mut client).text(), format!("{place} {}", digest(&body)));
    }
}

#[test]
fn large_bodies_that_arrive_beside_each_other_are_the_same_and_so_is_what_follows() {
    let room = Options { body_memory: 10_000, body_pool: 3 << 20, ..options() };
    let mut rig = Rig::new(room, echo);
    let mut clients: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    // The second and third round get the memory of the first, in another order.
    for size in [900_000, 700_000, 800_000] {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(post("/large", &noise(size + number * 64 * 1024)));
            client.send(get("/next"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let body = noise(size + number * 64 * 1024);
            assert_eq!(rig.answer(client).text(), format!("POST /large {}", digest(&body)));
            assert!(rig.answer(client).text().starts_with("GET /next 0:"));
        }
    }
}

#[test]
fn a_chunked_body_arrives_whole() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    let body = noise(100_000);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(777) {
        client.send(format!("{:x}\r\n", chunk.len()));
        client.send([chunk, b"\r\n"].concat());
        rig.turn();
    }
    client.send("0\r\n\r\n");
    assert_eq!(rig.answer(&mut client).text(), format!("POST / {}", digest(&body)));
}

#[test]
fn continue_is_said_once_and_only_to_a_client_that_waits() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    client.send(head);
    assert_eq!(rig.answer(&mut client).status, 100);
    client.send("bo");
    rig.calm();
    client.send("dy");
    assert_eq!(rig.answer(&mut client).status, 200);
    // The body is here already, or there is none.
    client.send(format!("{head}b"));
    rig.calm();
    client.send("ody");
    assert_eq!(rig.answer(&mut client).status, 200);
    client.send(head.replace(" 4", " 0"));
    assert_eq!(rig.answer(&mut client).status, 200);
    assert_eq!(client.text(), "");
}

#[test]
fn a_client_that_is_still_uploading_can_read_why_it_is_refused() {
    let limits = Limits { max_body: Some(1000), ..Limits::default() };
    let mut rig = Rig::new(Options { limits, ..options() }, echo);
    let mut client = rig.connect();
    client.send(post("/big", &noise(5_000_000)));
    // It reads nothing before everything is written, as most clients do.
    rig.until("the upload is written", |_| {
        client.write();
        client.unsent() == 0
    });
    assert!(!client.cut_short);
    let answer = rig.answer(&mut client);
    assert_eq!((answer.status, answer.closes()), (413, true));
    assert_eq!(rig.end(&mut client), End::Closed);
    drop(client);
    rig.empty();
    assert_eq!(rig.log.requests(), [format!("\"POST /big HTTP/1.1\" 413 {}", answer.body.len())]);
}

#[test]
fn an_error_in_a_batch_is_answered_in_its_place() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    client.send([get("/1"), get("/2"), "BAD\r\n\r\n".into(), get("/3")].concat());
    assert!(rig.answer(&mut client).text().starts_with("GET /1 "));
    assert!(rig.answer(&mut client).text().starts_with("GET /2 "));
    assert_eq!(rig.answer(&mut client).status, 400);
    assert_eq!(rig.end(&mut client), End::Closed);
    assert_eq!(client.text(), "");
    let lines = rig.log.requests();
    assert_eq!(lines.len(), 3);
    for (line, want) in
        lines.iter().zip(["/1 HTTP/1.1\" 200 ", "/2 HTTP/1.1\" 200 ", "\"BAD\" 400 "])
    {
        assert!(line.contains(want), "{line}");
    }
}

#[test]
fn a_client_may_close_its_half_and_still_gets_its_answers() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    client.send([get("/1"), get("/2")].concat());
    client.half_close();
    assert_eq!(rig.answer(&mut client).status, 200);
    assert_eq!(rig.answer(&mut client).status, 200);
    assert_eq!(rig.end(&mut client), End::Closed);
    rig.empty();
}

/// The end of the stream comes with the last bytes, in one event: a short read
/// does not mean then that there will be another.
#[test]
fn an_end_that_comes_together_with_a_request_is_noticed() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    client.send(get("/1"));
    assert_eq!(rig.answer(&mut client).status, 200);
    client.send(get("/2"));
    client.half_close();
    assert_eq!(rig.answer(&mut client).status, 200);
    assert_eq!(rig.end(&mut client), End::Closed);
    rig.empty();
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_request_leaves_nothing() {
    let mut rig = Rig::new(options(), echo);
    let whole = post("/", b"0123456789");
    for sent in 0..whole.len() {
        let mut client = rig.connect();
        client.send(&whole[..sent]);
        rig.turn();
        drop(client);
    }
    rig.turn();
    rig.empty();
    assert_eq!(rig.log.requests(), [""; 0]);
}

#[test]
fn unix_sockets_serve_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = Listener::bind(&Address::Unix(path.clone()), 16, 0o660).unwrap();
    let mut rig = Rig::over(options(), vec![listener], |reactor, exchange| {
        assert_eq!(exchange.peer, Peer::Unix);
        echo(reactor, exchange);
    });
    let mut client = Client::new(UnixStream::connect(&path).unwrap().into());
    let body = noise(1_000_000);
    client.send(post("/", &body));
    assert_eq!(rig.answer(&mut client).text(), format!("POST / {}", digest(&body)));
    client.send(get("/again"));
    assert_eq!(rig.answer(&mut client).status, 200);
}

/// The application has the first request; what the client goes on writing
/// stays in the kernel, where it costs the client and not the server.
#[test]
fn a_client_cannot_fill_the_memory_while_its_request_runs() {
    let (held, act) = hold();
    let mut rig = Rig::new(options(), act);
    let mut client = rig.connect();
    client.send(get("/first"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let flood: Vec<u8> = get("/more").into_bytes().repeat(1_000_000);
    let mut taken = usize::MAX;
    client.send(&flood);
    rig.until("the kernel is full", |_| {
        client.write();
        std::mem::replace(&mut taken, client.unsent()) == client.unsent()
    });
    assert!(client.unsent() > flood.len() / 4, "{} of {}", client.unsent(), flood.len());
}
