//! The access log: one line for each request that came whole or was answered.
//!
//! Lines gather in memory and are written once per turn of the loop, in one
//! write(2), so that lines of several workers never mix within a line. What a
//! line says is decided beforehand ([`Format`], [`Skip`]); what happened is an
//! [`Entry`], which the connection makes when the exchange is over.

mod entry;
mod format;
mod json;
mod skip;

use std::fmt;
use std::io::{self, Write};

pub(crate) use entry::{Entry, Notes};
pub use format::Format;
pub use skip::Skip;

/// Bytes of lines that are not kept until the end of a turn.
const MOST: usize = 256 * 1024;

/// Lines that wait for the end of the turn, and where they go.
pub struct AccessLog {
    sink: Box<dyn Write + Send>,
    format: Format,
    skip: Vec<Skip>,
    /// One request in so many has a line, unless it went wrong.
    sample: u64,
    /// Requests since the last one that had its line for being in the sample.
    unsampled: u64,
    worker: u32,
    lines: Vec<u8>,
    health: Health,
}

/// Whether the sink takes lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Good,
    /// It does not, which was said once. `torn` if it took a part of a line.
    Failing {
        torn: bool,
    },
}

impl AccessLog {
    /// Writes every request to `sink`, which must append each write as a whole,
    /// in the combined format.
    pub fn new(sink: impl Write + Send + 'static) -> Self {
        Self {
            sink: Box::new(sink),
            format: Format::default(),
            skip: Vec::new(),
            sample: 1,
            unsampled: 0,
            worker: 0,
            lines: Vec::new(),
            health: Health::Good,
        }
    }

    /// Writes lines in `format`, as worker number `worker`.
    #[must_use]
    pub fn format(mut self, format: Format, worker: u32) -> Self {
        (self.format, self.worker) = (format, worker);
        self
    }

    /// Leaves out what one of `skip` describes and, of the requests below status
    /// 500, all but one in `sample`.
    #[must_use]
    pub fn only(mut self, skip: Vec<Skip>, sample: u64) -> Self {
        (self.skip, self.sample) = (skip, sample.max(1));
        // The first is in the sample.
        self.unsampled = self.sample - 1;
        self
    }

    /// What the lines need to be told.
    pub(crate) fn needs(&self) -> &Format {
        &self.format
    }

    /// The line of one exchange, if it is to have one.
    pub(crate) fn line(&mut self, entry: &Entry<'_>) {
        if self.skip.iter().any(|skip| skip.matches(entry)) || !self.is_sampled(entry.status) {
            return;
        }
        self.format.write(entry, self.worker, &mut self.lines);
        if self.lines.len() > MOST {
            self.flush();
        }
    }

    fn is_sampled(&mut self, status: u16) -> bool {
        if status >= 500 {
            return true;
        }
        self.unsampled += 1;
        let sampled = self.unsampled >= self.sample;
        if sampled {
            self.unsampled = 0;
        }
        sampled
    }

    /// Writes what has gathered. A full disk costs lines, never a request; it
    /// is said once.
    pub(crate) fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        if self.health == (Health::Failing { torn: true }) {
            self.lines.insert(0, b'\n');
        }
        let (done, written) = write(&mut self.sink, &self.lines);
        match (written, self.health) {
            (Ok(()), Health::Good) => {}
            (Ok(()), Health::Failing { .. }) => {
                self.health = Health::Good;
                log::info!("access log: it can be written again");
            }
            (Err(error), before) => {
                if before == Health::Good {
                    log::error!("access log: cannot write: {error}; lines are lost until it works");
                }
                let torn = match done {
                    0 => before == (Health::Failing { torn: true }),
                    _ => self.lines[done - 1] != b'\n',
                };
                self.health = Health::Failing { torn };
            }
        }
        self.lines.clear();
    }
}

/// As `write_all`, and how many bytes it came to.
fn write(sink: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut done = 0;
    while done < bytes.len() {
        match sink.write(&bytes[done..]) {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("lines", &self.lines.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A disk with room for so many more bytes.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn room(&self, bytes: usize) {
            self.0.lock().unwrap().1 = bytes;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let taken = bytes.len().min(disk.1);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0.extend_from_slice(&bytes[..taken]);
            disk.1 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_after_a_torn_one_begins_anew() {
        let disk = Disk::default();
        let mut log = AccessLog::new(disk.clone());
        let mut say = |room: usize, text: &str| {
            disk.room(room);
            log.lines.extend_from_slice(text.as_bytes());
            log.flush();
        };
        say(100, "one\n");
        say(2, "two\n");
        say(0, "three\n");
        say(100, "four\n");
        say(100, "five\n");
        say(0, "six\n");
        say(100, "seven\n");
        assert_eq!(disk.text(), "one\ntw\nfour\nfive\nseven\n");
    }

    #[test]
    fn one_in_a_sample_has_its_line_and_each_that_went_wrong() {
        let mut log = AccessLog::new(Vec::new()).only(Vec::new(), 3);
        let sampled = [200, 200, 200, 200, 500, 404, 200, 503];
        let sampled = sampled.map(|status| log.is_sampled(status));
        assert_eq!(sampled, [true, false, false, true, true, false, false, true]);
    }
}
