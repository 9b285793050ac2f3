//! HTTP/1.1 as a server speaks it, as a machine that never touches a socket or
//! a clock: bytes in, events out, and the other way round.
//!
//! [`Connection`] is the machine, [`Head`] a request as it arrived, [`Response`]
//! what an application answers, [`Limits`] what a client may send, [`Error`] who
//! broke what. RFC 9112 and RFC 9110 are read strictly: what another server
//! might read as a different request is refused, not repaired.
//!
//! Deliberately absent: I/O, time, body buffers, Python, HTTP/2. Anyone may
//! call; a value is used by one thread at a time.

#![forbid(unsafe_code)]

mod chunked;
mod connection;
mod error;
mod fields;
mod framing;
mod grammar;
mod head;
mod limits;
mod line;
mod proxy;
mod request_line;
mod response;
mod state;

pub use connection::{Connection, Event, Wire};
pub use error::{Blame, Error, Kind};
pub use fields::Keep;
pub use framing::Framing;
pub use head::Head;
pub use limits::Limits;
pub use proxy::{ProxyEnds, ProxyHeader, ProxyVersion, proxy_header};
pub use request_line::Version;
pub use response::{Response, Size, Stamp};
