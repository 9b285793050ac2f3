//! Many clients that cut valid pipelined requests into random pieces, read at
//! random, close at random: each gets exactly its answers, in its order.
//!
//! `SERVE_SEED=n` replays one case.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serve_http::Size;
use serve_net::{Options, Reactor, Sent};

use crate::rig::*;

const CASES: u64 = 6;
const CLIENTS: usize = 24;

/// A client's script, and what it must get.
struct Script {
    client: Client,
    /// Not yet given to the client.
    bytes: Vec<u8>,
    want: Vec<String>,
    got: usize,
}

#[test]
fn every_client_gets_exactly_its_answers_in_order() {
    seeded(CASES, case);
}

fn case(seed: u64) {
    let mut rng = Rng::new(seed);
    let options = Options {
        slots: 1 + rng.below(8),
        // Some clients shut their writing side, and wait for all answers.
        patience: Duration::MAX,
        body_memory: 1000,
        high_water: 20_000,
        ..Options::default()
    };
    let listeners = vec![tcp(), narrow_tcp()];
    let late = Rc::new(RefCell::new(Vec::new()));
    let (mine, mut dice) = (late.clone(), Rng::new(seed ^ 1));
    let mut rig =
        Rig::over(options, listeners, move |reactor: &mut Reactor, exchange| match dice.below(3) {
            0 => mine.borrow_mut().push(exchange),
            1 => echo(reactor, exchange),
            _ => stream(reactor, exchange),
        });
    let mut scripts: Vec<_> = (0..CLIENTS).map(|i| script(&rig, i, &mut rng)).collect();
    rig.until("all have their answers", |rig| {
        for script in &mut scripts {
            play(script, &mut rng);
        }
        if rng.below(2) == 0 && !late.borrow().is_empty() {
            let index = rng.below(late.borrow().len());
            let exchange = late.borrow_mut().swap_remove(index);
            echo(&mut rig.reactor(), exchange);
        }
        scripts.iter().all(|script| script.got == script.want.len())
    });
    let answers: usize = scripts.iter().map(|script| script.want.len()).sum();
    rig.turn();
    assert_eq!(rig.log.requests().len(), answers);
    drop(scripts);
    rig.empty();
}

/// As [`echo`], in pieces.
fn stream(reactor: &mut Reactor, exchange: serve_net::Exchange) {
    let id = exchange.id;
    let head = reactor.head(id).unwrap();
    let (method, target) = (head.method().escape_ascii(), head.target().escape_ascii());
    let text = format!("{method} {target} {}", digest(&contents(&exchange.body)));
    let (first, rest) = text.as_bytes().split_at(text.len() / 2);
    assert_ne!(reactor.begin(id, &response(), Size::Unknown, first), Ok(Sent::Gone));
    assert_ne!(reactor.send(id, rest), Ok(Sent::Gone));
    reactor.finish(id).unwrap();
}

fn script(rig: &Rig, index: usize, rng: &mut Rng) -> Script {
    let client = rig.connect_to(index % 2);
    let (mut bytes, mut want) = (Vec::new(), Vec::new());
    for number in 0..1 + rng.below(20) {
        let target = format!("/{index}/{number}");
        let body = noise(rng.below(4) * rng.below(3000));
        if body.is_empty() {
            bytes.extend(get(&target).bytes());
            want.push(format!("GET {target} {}", digest(b"")));
            continue;
        }
        want.push(format!("POST {target} {}", digest(&body)));
        if rng.below(2) == 0 {
            bytes.extend(post(&target, &body));
            continue;
        }
        bytes.extend(
            format!("POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
                .bytes(),
        );
        for chunk in body.chunks(1 + rng.below(2000)) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend([chunk, b"\r\n"].concat());
        }
        bytes.extend(b"0\r\n\r\n");
    }
    Script { client, bytes, want, got: 0 }
}

fn play(script: &mut Script, rng: &mut Rng) {
    let client = &mut script.client;
    if rng.below(2) == 0 && !script.bytes.is_empty() {
        let most = [3, 50, 5000][rng.below(3)];
        let count = (1 + rng.below(most)).min(script.bytes.len());
        client.send(script.bytes.drain(..count).collect::<Vec<u8>>());
        if script.bytes.is_empty() && client.unsent() == 0 && rng.below(2) == 0 {
            client.half_close();
        }
    }
    client.write();
    if rng.below(2) == 0 {
        client.take(1 + rng.below(3000));
    }
    while let Some(answer) = client.answer() {
        assert_eq!(answer.text(), script.want[script.got]);
        script.got += 1;
    }
    let early = client.end.is_some() && script.got < script.want.len();
    assert!(!early, "{:?} after {} of {}", client.end, script.got, script.want.len());
}
