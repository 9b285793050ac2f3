//! The `ready` pipe at the master's end: what a worker says, word by word.
//!
//! It reads and understands; what follows from a word is the master's.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd::{Pid, read};

use crate::link::{READY, Reason, TIRED};

/// What a worker, or the mold that failed to fork it, says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    Pid(Pid),
    NotForked(String),
    Ready,
    Tired(Reason),
}

/// The master's end of a `ready` pipe: four bytes of pid (or of a negative errno), then one that
/// says "ready", and perhaps much later two that say "tired" and why.
#[derive(Debug)]
pub(crate) struct ReadyPipe {
    pub(crate) fd: OwnedFd,
    /// Read and not understood yet, because it is not whole.
    rest: Vec<u8>,
    named: Named,
}

/// Whether the first word was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    Not,
    Yes,
}

impl ReadyPipe {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, rest: Vec::new(), named: Named::Not }
    }

    /// The words that came, and whether there will be no more.
    pub(crate) fn hear(&mut self) -> (Vec<Word>, bool) {
        let end = self.read();
        let mut words: Vec<Word> = std::iter::from_fn(|| self.word()).collect();
        if end && self.named == Named::Not {
            self.named = Named::Yes;
            words.push(Word::NotForked("it ended before it could say its pid".to_owned()));
        }
        (words, end)
    }

    fn read(&mut self) -> bool {
        let mut bytes = [0; 16];
        loop {
            match read(&self.fd, &mut bytes) {
                Ok(0) => return true,
                Ok(length) => self.rest.extend_from_slice(&bytes[..length]),
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn word(&mut self) -> Option<Word> {
        let (word, length) = match self.named {
            Named::Not => (first_word(i32::from_ne_bytes(*self.rest.first_chunk()?)), 4),
            Named::Yes => match *self.rest.first()? {
                READY => (Word::Ready, 1),
                TIRED => (Word::Tired(Reason::from_byte(*self.rest.get(1)?)), 2),
                _ => {
                    // Not a worker of ours that writes here; nothing it says means anything.
                    self.rest.clear();
                    return None;
                }
            },
        };
        self.named = Named::Yes;
        self.rest.drain(..length);
        Some(word)
    }
}

fn first_word(number: i32) -> Word {
    match number {
        ..0 => Word::NotForked(format!("fork: {}", Errno::from_raw(-number).desc())),
        _ => Word::Pid(Pid::from_raw(number)),
    }
}

#[cfg(test)]
mod tests {
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, write};

    use super::*;

    fn pipe() -> (ReadyPipe, OwnedFd) {
        let (read, write) = pipe2(OFlag::O_NONBLOCK).unwrap();
        (ReadyPipe::new(read), write)
    }

    #[test]
    fn words_are_heard_in_whatever_pieces_they_come() {
        let said = [&712_i32.to_ne_bytes()[..], b"RTN"].concat();
        let words = [Word::Pid(Pid::from_raw(712)), Word::Ready, Word::Tired(Reason::Requests)];
        for piece in 1..=said.len() {
            let (mut pipe, end) = pipe();
            let mut heard = Vec::new();
            for bytes in said.chunks(piece) {
                write(&end, bytes).unwrap();
                heard.extend(pipe.hear().0);
            }
            assert_eq!(heard, words, "in pieces of {piece}");
            drop(end);
            assert_eq!(pipe.hear(), (vec![], true));
        }
    }

    #[test]
    fn a_worker_that_never_was_is_reported_once() {
        for (said, reason) in [
            (&(-11_i32).to_ne_bytes()[..], "fork: Try again"),
            (&[1, 0][..], "it ended before it could say its pid"),
        ] {
            let (mut pipe, end) = pipe();
            write(&end, said).unwrap();
            let mut heard = pipe.hear().0;
            drop(end);
            heard.extend(pipe.hear().0);
            assert_eq!(heard, [Word::NotForked(reason.to_owned())]);
        }
    }
}
