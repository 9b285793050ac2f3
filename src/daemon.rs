//! `--daemon`: the server in the background, and the command that waits until
//! it serves.
//!
//! Until then the server's log lines go to the command, too, which shows them
//! on its own stderr. A NUL and a byte end that: the command ends with the byte
//! as its exit code. If the pipe ends without them, the server has died.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use log::LevelFilter;
use serve_supervisor::{Detached, detach};

use crate::logger;

/// Runs `serve` in a daemon; returns the exit code, there and here.
pub(crate) fn start(serve: impl FnOnce() -> i32) -> i32 {
    // A start in the foreground, if there was one, ended mute.
    log::set_max_level(LevelFilter::Info);
    match detach() {
        Ok(Detached::Daemon(starter)) => {
            logger::also_to(starter);
            serve()
        }
        Ok(Detached::Starter(daemon)) => follow(daemon).unwrap_or_else(|error| {
            log::error!("cannot hear how the start went: {error}");
            1
        }),
        Err(error) => {
            log::error!("{error}");
            1
        }
    }
}

/// Shows what the daemon says until it is ready, or has failed; its exit code.
fn follow(daemon: File) -> io::Result<i32> {
    let mut daemon = BufReader::new(daemon);
    loop {
        let said = daemon.fill_buf()?;
        let (text, end) = match said.iter().position(|byte| *byte == logger::END) {
            Some(end) => (&said[..end], Some(end + 1)),
            None => (said, None),
        };
        io::stderr().lock().write_all(text)?;
        if text.is_empty() && end.is_none() {
            log::error!("the server has died before it could serve");
            return Ok(1);
        }
        let length = end.unwrap_or(text.len());
        daemon.consume(length);
        if end.is_some() {
            let mut code = [1];
            daemon.read_exact(&mut code)?;
            return Ok(code[0].into());
        }
    }
}
