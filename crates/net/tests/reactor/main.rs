//! The reactor on real sockets, with a gateway written here.
//!
//! Most tests are one thread: it turns the reactor, and between two turns it
//! plays the clients. Nothing sleeps for luck; a small timeout is only set
//! where that timeout is what is tested, and no test asserts that something
//! was quick.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod apart;
mod rig;

mod answering;
mod cost;
mod deferring;
mod fairness;
mod late;
mod queue;
mod reading;
mod sharing;
mod stopping;
mod stress;
mod timers;
mod tls;
