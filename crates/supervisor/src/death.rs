//! How a child ended, and what is known of it afterwards: for the line in the log that answers
//! "what happened?".
//!
//! Data and its words only; the rim finds it out and the table decides what follows.

use std::fmt;

use nix::sys::signal::Signal;

use crate::cgroup::OutOfMemory;
use crate::worker::Ms;

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    Code(i32),
    Signal(i32),
}

impl Ending {
    /// The exit code of a server whose first worker, or mold, ended like this before it was ready:
    /// the codes for "cannot boot" and "no such application" are the worker's to choose; anything
    /// else is "cannot boot".
    pub(crate) fn boot_code(self) -> i32 {
        match self {
            Self::Code(4) => 4,
            _ => 3,
        }
    }

    pub(crate) fn is_kill(self) -> bool {
        self == Self::Signal(Signal::SIGKILL as i32)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "signal {number} ({signal})"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// What is left of a child when it is reaped.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Remains {
    pub(crate) out_of_memory: OutOfMemory,
    /// The most memory it ever had resident, in bytes.
    pub(crate) peak: u64,
    /// Requests that it had ended.
    pub(crate) requests: u64,
    /// The request that it began last, if one was running, and for how long.
    pub(crate) running: Option<(String, Ms)>,
}

impl Remains {
    /// Who sent a SIGKILL that the master did not send is what people ask about. The kernel is named
    /// only when its own counter says so.
    pub(crate) fn blame(&self, ending: Ending) -> &'static str {
        match self.out_of_memory {
            _ if !ending.is_kill() => "",
            OutOfMemory::Yes => {
                ", sent by the kernel: memory ran out (the cgroup's oom_kill counter rose)"
            }
            OutOfMemory::No => {
                ", not sent by the master, nor by the kernel for want of memory (the cgroup's \
                 oom_kill counter did not rise)"
            }
            OutOfMemory::Unknown => {
                ", not sent by the master (an operator, or the kernel when memory runs out)"
            }
        }
    }
}

impl fmt::Display for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peak_rss={}MiB requests={}", self.peak >> 20, self.requests)?;
        match &self.running {
            Some((request, age)) => write!(f, " {request} for={}", Span(*age)),
            None => write!(f, " request=none"),
        }
    }
}

/// `30s` or `31.2s`: seconds to the tenth.
pub(crate) struct Span(pub(crate) Ms);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 1000, self.0 % 1000 / 100) {
            (whole, 0) => write!(f, "{whole}s"),
            (whole, tenth) => write!(f, "{whole}.{tenth}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_blamed_only_when_the_kernel_counted_it() {
        let blame =
            |out_of_memory, ending| Remains { out_of_memory, ..Remains::default() }.blame(ending);
        let kill = Ending::Signal(9);
        assert!(blame(OutOfMemory::Yes, kill).contains("by the kernel: memory ran out"));
        assert!(blame(OutOfMemory::No, kill).contains("not sent by the master, nor by the kernel"));
        assert!(blame(OutOfMemory::Unknown, kill).contains("an operator, or the kernel"));
        assert_eq!(blame(OutOfMemory::Yes, Ending::Signal(11)), "");
    }

    #[test]
    fn remains_are_told_in_one_line() {
        let mut remains = Remains { peak: 212 << 20, requests: 10_233, ..Remains::default() };
        assert_eq!(remains.to_string(), "peak_rss=212MiB requests=10233 request=none");
        remains.running = Some(("request=\"GET /slow\"".into(), 1_240));
        assert!(remains.to_string().ends_with(" requests=10233 request=\"GET /slow\" for=1.2s"));
    }
}
