//! How a connection begins to speak TLS, right away or after a load balancer's
//! introduction, and what becomes of one that does not.

use std::time::{Duration, Instant};

use super::record::Record;
use super::{Conn, Input, Phase};
use crate::core::{Core, Drain};
use crate::stream::Shake;

/// What a client reads that speaks HTTP where TLS is spoken.
const PLAIN: &str = "the client speaks plain HTTP, and this port is for https";

/// How long the first request may be on its way after a handshake.
const FIRST: Duration = Duration::from_secs(2);

impl Conn {
    /// Was just accepted: by TLS, if that is spoken here. What another worker has
    /// put is beyond that, since nothing that speaks TLS moves.
    pub(crate) fn accepted(&mut self, core: &mut Core) {
        self.accepted = true;
        if !self.introduction.is_expected() {
            self.secure(core, &[]);
        }
    }

    /// TLS begins, if it is spoken here, with `early`: whether it does.
    pub(super) fn secure(&mut self, core: &mut Core, early: &[u8]) -> bool {
        let Some(tls) = core.options.tls.as_ref().filter(|_| self.accepted) else { return false };
        if let Err(error) = self.stream.secure(tls, early) {
            log::error!("client={} dropped: TLS cannot begin: {error}", self.peer);
            self.close(core);
            return true;
        }
        self.phase = Phase::Handshake;
        // What came early was taken from the socket, of which no event will tell.
        if self.unread == Input::Empty {
            self.unread = Input::Some;
        }
        true
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.stream.is_secure()
    }

    /// The certificate that the client has shown, in PEM.
    pub(crate) fn certificate(&self) -> Option<String> {
        self.stream.certificate()
    }

    /// Goes on with the handshake.
    #[inline(never)]
    pub(super) fn shake_hands(&mut self, core: &mut Core) {
        match self.stream.shake_hands() {
            Shake::Blocked => self.unread = Input::Empty,
            Shake::Done => {
                self.phase = Phase::Idle;
                self.deadline.clear();
                self.record = Record::new(core.now);
            }
            Shake::Gone => {
                log::debug!("client={} has gone before the TLS handshake's end", self.peer);
                self.close(core);
            }
            Shake::Plain => self.refuse(core, 400, PLAIN),
            Shake::Failed(reason) => {
                log::info!("client={} TLS handshake failed: {reason}", self.peer);
                self.linger(core);
            }
        }
    }

    /// Until when the handshake may take. A client that has not begun it is as
    /// good as an idle one.
    pub(super) fn handshake_until(&self, core: &Core) -> Instant {
        let until = core.now + core.options.header_timeout;
        match core.drain {
            Drain::Since { idle_until, .. } if !self.stream.has_begun() => until.min(idle_until),
            _ => until,
        }
    }

    pub(super) fn handshake_late(&mut self, core: &mut Core) {
        let level = if self.stream.has_begun() { log::Level::Info } else { log::Level::Debug };
        log::log!(level, "client={} closed: the TLS handshake did not end in time", self.peer);
        self.close(core);
    }

    /// In a drain, until when an idle connection may stay. After a handshake there
    /// is a request to come.
    pub(super) fn grace(&self, core: &Core, idle_until: Instant) -> Instant {
        match self.number {
            0 if self.stream.is_secure() => idle_until.max(core.now + FIRST),
            _ => idle_until,
        }
    }

    /// Whether the client has gone. To know it, TLS may have read what came since.
    pub(super) fn has_gone(&mut self) -> bool {
        let ended = self.stream.is_ended();
        if self.unread == Input::Empty && self.stream.is_secure() {
            self.unread = Input::Some;
        }
        ended
    }
}
