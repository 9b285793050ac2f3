//! A request body on its way from the socket to where it waits for the application.

use std::io;
use std::time::{Duration, Instant};

use serve_http::{Event, Framing};

use super::{Conn, Input, Phase};
use crate::body::Body;
use crate::core::{Core, SHARE};
use crate::stream::Moved;

impl Conn {
    pub(super) fn body_piece(&mut self, core: &mut Core, piece: &[u8]) {
        let announced = match self.http.head().framing() {
            Framing::Length(length) => Some(length),
            Framing::None | Framing::Chunked => None,
        };
        self.body_came(core);
        if let Err(error) = self.spool.push(piece, &mut core.room, announced, core.now) {
            self.no_room(core, &error);
        }
    }

    /// The whole body; without room for its end the request is answered.
    pub(super) fn body_whole(&mut self, core: &mut Core) -> Option<Body> {
        match self.spool.finish() {
            Ok(body) => Some(body),
            Err(error) => {
                self.no_room(core, &error);
                None
            }
        }
    }

    #[cold]
    fn no_room(&mut self, core: &mut Core, error: &io::Error) {
        core.cannot_spool(error);
        self.refuse(core, 500, "the server has no room for the request body");
    }

    /// Reads a large body to where it will stay: a copy less.
    pub(super) fn read_body(&mut self, core: &mut Core) -> Option<usize> {
        let Phase::Body { .. } = self.phase else { return None };
        let Framing::Length(length) = self.http.head().framing() else { return None };
        let space = self.spool.space(length).filter(|space| space.len() >= core.inbox.len())?;
        let most = SHARE.min(space.len());
        let space = &mut space[..most];
        match self.stream.read(space) {
            Moved::Bytes(0) | Moved::Gone => self.close(core),
            Moved::Blocked => self.unread = Input::Empty,
            Moved::Bytes(n) => {
                let filled = n == space.len();
                // All of it is the body's: there was no space for more.
                let parsed = self.http.receive(&space[..n]);
                if !matches!(parsed, Ok((used, Event::Data(_))) if used == n) {
                    self.refuse(core, 500, "the server failed");
                    return Some(n);
                }
                self.body_came(core);
                self.spool.filled(n, &mut core.room, core.now);
                self.note_spent(filled);
                self.feed(core, &[]);
                return Some(n);
            }
        }
        Some(0)
    }

    fn body_came(&mut self, core: &Core) {
        if let Phase::Body { came, .. } = &mut self.phase {
            *came = core.now;
        }
    }

    /// Until when more must come of the body: a large one that came quickly would
    /// else have earned hours, in which its room is nobody else's.
    pub(super) fn body_due(&self, core: &Core, since: Instant, came: Instant) -> Instant {
        let options = &core.options;
        let earned = Duration::from_secs(self.spool.len() / options.body_rate.max(1));
        (since + options.body_grace + earned).min(came + options.body_pause)
    }

    pub(super) fn body_late(&mut self, core: &mut Core) {
        let Phase::Body { since, came } = self.phase else { return };
        if self.body_due(core, since, came) <= core.now {
            self.refuse(core, 408, "the request body arrives too slowly");
        }
    }
}
