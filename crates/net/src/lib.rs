//! One worker's event loop: sockets on one side, the [`Gateway`] to an
//! application on the other.
//!
//! The reactor accepts, reads, parses (through serve-http), buffers, writes and
//! times out. It never owns its sleep: [`Reactor::fd`], [`Reactor::deadline`]
//! and [`Shared::turn`] let any driver decide who waits, and on what.
//!
//! It knows no Python and no processes: an exchange goes out through
//! [`Gateway::call`], the answer comes back through `begin`, `send`, `finish`.
//! Whoever holds [`Shared`]'s lock acts; [`Handle`] is for those who do not want
//! to wait for it.

mod access;
mod address;
mod body;
mod clock;
mod conn;
mod core;
mod counters;
mod deferred;
mod gateway;
mod handle;
mod handoff;
mod info;
mod listen;
mod options;
mod out;
mod reactor;
mod request_id;
mod socket;
mod statsd;
mod stream;
mod timer;
mod tls;
mod trust;

pub use access::{AccessLog, Format, Skip};
pub use address::Address;
pub use body::{Body, Bytes};
pub use clock::local_time;
pub use counters::Counters;
pub use gateway::{Board, Exchange, ExchangeId, Gateway, NoBoard, Peer, Sent, Shared};
pub use handle::Handle;
pub use handoff::{Company, FORM as HAND_OFF_FORM, hand_off};
pub use listen::{BindError, Listener, inherited, keep_descriptors};
pub use options::{Options, Proxy};
pub use reactor::{Heirs, LateSends, Reactor};
pub use request_id::RequestId;
pub use statsd::Statsd;
pub use tls::{Clients, Tls, TlsError, TlsFile, TlsFiles};
pub use trust::{Networks, Scheme, Seen, Style, Trust, Underscores};
