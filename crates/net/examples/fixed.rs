//! The reactor without an application: answers every request with what it has
//! read from stdin. Whatever a server with Python in it costs above this, Python
//! and the bridge to it cost; `make bench` calls it "no-python".
//!
//! `cargo run --release -p serve-net --example fixed 127.0.0.1:8000 < body`

use std::env;
use std::error::Error;
use std::io::{self, Read};

use serve_http::Response;
use serve_net::{Address, Exchange, Gateway, Listener, Options, Reactor, Shared};

struct Fixed {
    reactor: Shared,
    response: Response,
    body: Vec<u8>,
}

impl Fixed {
    /// As an application does, which has its head to make each time.
    fn fill(&mut self) -> Result<(), serve_http::Error> {
        self.response.start(b"200 OK")?;
        self.response.field(b"Content-Type", b"text/plain; charset=utf-8")?;
        self.response.field(b"Content-Length", self.body.len().to_string().as_bytes())
    }
}

impl Gateway for Fixed {
    fn call(&mut self, exchange: Exchange) {
        let answered = self
            .fill()
            .and_then(|()| self.reactor.lock().respond(exchange.id, &self.response, &self.body));
        if let Err(error) = answered {
            self.reactor.lock().fail(exchange.id, 500, &error.to_string());
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).ok_or("which address?")?;
    let listener = Listener::bind(&Address::parse(&address)?, 2048, 0o660)?;
    let mut body = Vec::new();
    io::stdin().read_to_end(&mut body)?;
    let reactor = Shared::new(Reactor::new(Options::default(), vec![listener], None)?);
    let mut fixed = Fixed { reactor: reactor.clone(), response: Response::new(), body };
    loop {
        reactor.turn(None, &mut fixed)?;
    }
}
