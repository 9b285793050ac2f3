//! What the kernel knows of a TCP socket (`TCP_INFO`, tcp(7)).

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use nix::libc;

/// How many connections wait in the queue of a listener; `None` if it is not a
/// TCP socket.
pub(crate) fn queued(listener: &impl AsRawFd) -> Option<usize> {
    // Of a listener, this field is the length of its queue (tcp_get_info).
    info(listener.as_raw_fd()).map(|info| usize::try_from(info.tcpi_unacked).unwrap_or(usize::MAX))
}

/// How long ago the last byte came, or the connection; `None` if it is not a TCP
/// socket.
pub(crate) fn silent_for(connection: &impl AsRawFd) -> Option<Duration> {
    let info = info(connection.as_raw_fd())?;
    Some(Duration::from_millis(info.tcpi_last_data_recv.into()))
}

fn info(fd: RawFd) -> Option<libc::tcp_info> {
    // SAFETY: plain numbers, for which all zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut size = u32::try_from(size_of_val(&info)).ok()?;
    // SAFETY: the pointers are to live values of the sizes they claim. Neither nix
    // nor socket2 has this option.
    let failed = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut size,
        )
    };
    (failed == 0).then_some(info)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    #[test]
    fn it_tells_who_is_queued_and_since_when() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        assert_eq!(queued(&listener), Some(0));
        let mut client =
            TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        client.write_all(b"x").expect("write");
        let written = Instant::now();
        assert_eq!(queued(&listener), Some(1));
        let (connection, _) = listener.accept().expect("accept");
        let pause = Duration::from_millis(200);
        while written.elapsed() < pause {
            std::thread::park_timeout(pause - written.elapsed());
        }
        // The kernel's clock ticks, in up to ten milliseconds.
        assert!(silent_for(&connection).expect("TCP") > pause / 2);
        let (one, _other) = UnixStream::pair().expect("pair");
        assert_eq!(silent_for(&one), None);
    }
}
