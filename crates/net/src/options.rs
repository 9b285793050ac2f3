//! What a worker's loop is allowed to do. Plain numbers; whoever makes a reactor
//! decides where they come from.

use std::time::Duration;

use serve_http::{Limits, ProxyVersion};

use crate::tls::Tls;
use crate::trust::{Networks, Trust};

/// What a worker's loop is allowed to do, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bounds on a request.
    pub limits: Limits,
    /// Idle time of a kept connection; zero closes after each response.
    pub keep_alive: Duration,
    /// From the first byte of a head to its last.
    pub header_timeout: Duration,
    /// A client may take nothing of its response for so long.
    pub write_timeout: Duration,
    /// A body may take so long before its rate counts.
    pub body_grace: Duration,
    /// Bytes a second that extend the time of a body.
    pub body_rate: u64,
    /// So long, nothing of a body may come, however much of it came before.
    pub body_pause: Duration,
    /// Bytes of a body that may be in memory although it does not announce its length.
    pub body_memory: usize,
    /// Bytes of memory for all bodies together but the shortest; those without room are
    /// in unlinked files.
    pub body_pool: usize,
    /// Bytes of a response in memory above which its producer must wait.
    pub high_water: usize,
    /// Requests the application may have at the same time; connections are only
    /// accepted while one is free.
    pub slots: usize,
    /// No more complete requests than that are put into the pair, and one that
    /// would be one more to wait here is answered 503.
    pub queue_limit: Option<usize>,
    /// So is one that has waited so long.
    pub queue_timeout: Option<Duration>,
    /// A request that has waited longer is only run if its client is still
    /// there. One that has shut down its writing side counts as gone, since a
    /// client that gave up looks the same.
    pub patience: Duration,
    /// Whether the driver wants to know of a client that goes away in the middle
    /// of its response ([`crate::Reactor::take_gone`]), and the application to
    /// find it gone. As above, one that has shut down its writing side has gone.
    pub notice_gone: bool,
    /// Whose headers are believed, and which.
    pub trust: Trust,
    /// Who begins a connection with the PROXY protocol.
    pub proxy: Option<Proxy>,
    /// What connections that are accepted must speak; `None`: HTTP as it is.
    pub tls: Option<Tls>,
    /// Whether each request has a name.
    pub request_ids: bool,
    /// Value of the Server header.
    pub server: String,
}

/// Who introduces its clients by the PROXY protocol, and in which version.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Where it comes from; from there each connection must begin with it.
    pub from: Networks,
    /// What is accepted.
    pub version: ProxyVersion,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            keep_alive: Duration::from_secs(75),
            header_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(60),
            body_grace: Duration::from_secs(20),
            body_rate: 500,
            body_pause: Duration::from_secs(60),
            body_memory: 512 * 1024,
            body_pool: 16 << 20,
            high_water: 2 * 1024 * 1024,
            slots: 1,
            queue_limit: None,
            queue_timeout: None,
            patience: Duration::from_millis(100),
            notice_gone: false,
            trust: Trust::default(),
            proxy: None,
            tls: None,
            request_ids: true,
            server: "serve".into(),
        }
    }
}
