//! Listening sockets: bound here, or inherited from whoever started us.
//!
//! Called by the master before it forks, and by a worker for the descriptors it
//! was handed. `TCP_NODELAY` is set on the listener, because Linux passes it on
//! to every accepted connection and so costs no call per connection.

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::{Address, info};

/// A bound, listening, non-blocking, close-on-exec socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    local: Local,
    source: Source,
}

/// Whose socket it is.
#[derive(Debug)]
enum Source {
    /// Bound here, with the socket file that was made for it.
    Bound { file: Option<PathBuf> },
    /// Received: whoever made it may go on with it.
    Adopted,
}

/// What a listener is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Local {
    Tcp(SocketAddr),
    Unix(Option<PathBuf>),
    Abstract(Vec<u8>),
}

/// Why an address cannot be listened on, in a sentence for the operator.
#[derive(Debug)]
pub struct BindError {
    address: String,
    reason: String,
    /// What to do about it, when there is something to say.
    advice: String,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}{}", self.address, self.reason, self.advice)
    }
}

impl std::error::Error for BindError {}

impl Listener {
    /// Binds and listens with room for `backlog` connections that wait to be
    /// accepted. A unix socket's file gets `mode`.
    ///
    /// # Errors
    /// In the words of [`BindError`]; nothing is left bound.
    pub fn bind(address: &Address, backlog: i32, mode: u32) -> Result<Self, BindError> {
        let fd = match address {
            Address::Tcp { host, port } => tcp(host, *port, backlog),
            Address::Unix(path) => unix(path, backlog, mode),
            Address::Abstract(name) => abstract_unix(name, backlog),
            Address::Fd(fd) => adopt(*fd),
        };
        let source = match address {
            Address::Unix(path) => Source::Bound { file: Some(path.clone()) },
            Address::Tcp { .. } | Address::Abstract(_) => Source::Bound { file: None },
            Address::Fd(_) => Source::Adopted,
        };
        let listener = fd.and_then(Self::adopted).map_err(|error| refusal(address, &error))?;
        Ok(Self { source, ..listener })
    }

    /// Takes over a listening socket that was received or inherited.
    ///
    /// # Errors
    /// When it is not a listening stream socket of the internet or unix family.
    pub fn adopted(fd: OwnedFd) -> io::Result<Self> {
        let local = local(&fd)?;
        let socket = SockRef::from(&fd);
        socket.set_nonblocking(true)?;
        if matches!(local, Local::Tcp(_)) {
            socket.set_tcp_nodelay(true)?;
        }
        Ok(Self { fd, local, source: Source::Adopted })
    }

    /// Takes over a socket that another of our processes has bound, as if it were
    /// bound here.
    ///
    /// # Errors
    /// As [`Listener::adopted`].
    pub fn succeeded(fd: OwnedFd) -> io::Result<Self> {
        let listener = Self::adopted(fd)?;
        let file = match &listener.local {
            Local::Unix(path) => path.clone(),
            Local::Tcp(_) | Local::Abstract(_) => None,
        };
        Ok(Self { source: Source::Bound { file }, ..listener })
    }

    /// The IP address and port, unless it is a unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match &self.local {
            Local::Tcp(address) => Some(*address),
            Local::Unix(_) | Local::Abstract(_) => None,
        }
    }

    /// As a person would type or click it; `secure`: it speaks TLS.
    pub fn place(&self, secure: bool) -> String {
        match &self.local {
            Local::Tcp(address) if secure => format!("https://{address}"),
            _ => self.to_string(),
        }
    }

    /// The socket file that was made for it, which the master removes at the
    /// end. Whoever passed a socket down may still want its file.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::Bound { file } => file.as_deref(),
            Source::Adopted => None,
        }
    }

    /// From now on the kernel queues at most one more connection. The master
    /// calls it before the last workers drain the queue, so that a client that
    /// comes too late is refused instead of queued and reset. A socket that was
    /// received is left as it is: the next server may get it.
    ///
    /// # Errors
    /// Those of listen(2).
    pub fn narrow(&self) -> io::Result<()> {
        match self.source {
            Source::Bound { .. } => SockRef::from(&self.fd).listen(0),
            Source::Adopted => Ok(()),
        }
    }

    pub(crate) fn into_acceptor(self) -> (Local, Acceptor) {
        let acceptor = match self.local {
            Local::Tcp(_) => {
                Acceptor::Tcp(mio::net::TcpListener::from_std(TcpListener::from(self.fd)))
            }
            Local::Unix(_) | Local::Abstract(_) => {
                Acceptor::Unix(mio::net::UnixListener::from_std(UnixListener::from(self.fd)))
            }
        };
        (self.local, acceptor)
    }
}

impl Local {
    /// Whether a connection whose own end is `end` can have come in here.
    pub(crate) fn accepts(&self, end: &SockAddr) -> bool {
        match self {
            Self::Tcp(address) => end.as_socket().is_some_and(|end| {
                end.port() == address.port()
                    && end.is_ipv4() == address.is_ipv4()
                    && (address.ip().is_unspecified() || end.ip() == address.ip())
            }),
            Self::Unix(path) => end.is_unix() && end.as_pathname() == path.as_deref(),
            Self::Abstract(name) => end.as_abstract_namespace() == Some(name),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// As a person would type or click it: `http://127.0.0.1:8000`, `unix:/run/s`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.local {
            Local::Tcp(address) => write!(f, "http://{address}"),
            Local::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Local::Unix(None) => write!(f, "unix:(unnamed)"),
            Local::Abstract(name) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
        }
    }
}

/// A listener as the reactor polls it.
#[derive(Debug)]
pub(crate) enum Acceptor {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

impl Acceptor {
    /// One connection: its descriptor (non-blocking, close-on-exec) and, for
    /// TCP, where it comes from.
    pub(crate) fn accept(&self) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                listener.accept().map(|(stream, peer)| (OwnedFd::from(stream), Some(peer)))
            }
            Self::Unix(listener) => {
                listener.accept().map(|(stream, _)| (OwnedFd::from(stream), None))
            }
        }
    }

    /// How many connections wait in the queue; `None` where the kernel does not
    /// say, as of a unix socket.
    pub(crate) fn queued(&self) -> Option<usize> {
        match self {
            Self::Tcp(listener) => info::queued(listener),
            Self::Unix(_) => None,
        }
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener) => listener.as_raw_fd(),
        }
    }
}

/// The sockets systemd passed to this process (sd_listen_fds(3)): descriptors 3
/// and up when `LISTEN_PID` names us; otherwise none.
///
/// # Errors
/// When a passed descriptor is not a listening socket.
pub fn inherited() -> Result<Vec<Listener>, BindError> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").and_then(|count| i32::try_from(count).ok()).unwrap_or(0);
    (3..3 + count).map(|fd| Listener::bind(&Address::Fd(fd), 0, 0)).collect()
}

fn tcp(host: &str, port: u16, backlog: i32) -> io::Result<OwnedFd> {
    let address =
        (host, port).to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no such host"))?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
    // Without it a restart would fail for a minute while old connections are in
    // TIME_WAIT. It does not let two servers share the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn unix(path: &Path, backlog: i32, mode: u32) -> io::Result<OwnedFd> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Before listen(2): until then nobody can connect, whatever the umask was.
    let ready = fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .and_then(|()| socket.listen(backlog));
    if let Err(error) = ready {
        fs::remove_file(path)?;
        return Err(error);
    }
    Ok(socket.into())
}

/// A socket file that nobody answers on is left over from a crash.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the file exists and is not a socket",
        ));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

fn abstract_unix(name: &[u8], backlog: i32) -> io::Result<OwnedFd> {
    let listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?;
    SockRef::from(&listener).listen(backlog)?;
    Ok(listener.into())
}

/// Nothing that this process was started with reaches a program that the
/// application runs. To be called before the first fork: afterwards the copies
/// are out of reach.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn keep_descriptors() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok())
        else {
            continue;
        };
        if fd < 3 {
            continue;
        }
        // SAFETY: only borrowed for fcntl(2). It may be the directory that is
        // being read, which is close-on-exec already.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        match fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
            Ok(_) | Err(nix::Error::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Duplicates descriptor `fd`, so that the number itself stays the starter's.
fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only borrowed for fcntl(2), which reports EBADF if nothing is open
    // there; the number comes from the operator, safe code has no name for it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let copy = fcntl(borrowed, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: fcntl has just made this descriptor; nobody else knows it.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    Ok(copy)
}

fn local(fd: &OwnedFd) -> io::Result<Local> {
    let socket = SockRef::from(fd);
    let listens = socket.is_listener().map_err(|error| match error.raw_os_error() {
        Some(code) if code == nix::libc::ENOTSOCK => io::Error::other("it is not a socket"),
        _ => error,
    })?;
    if !listens || socket.r#type()? != Type::STREAM {
        return Err(io::Error::other("it is not a listening stream socket"));
    }
    let address = socket.local_addr()?;
    if let Some(address) = address.as_socket() {
        return Ok(Local::Tcp(address));
    }
    if let Some(name) = address.as_abstract_namespace() {
        return Ok(Local::Abstract(name.to_vec()));
    }
    if address.is_unix() {
        return Ok(Local::Unix(address.as_pathname().map(Path::to_path_buf)));
    }
    Err(io::Error::other("it is neither an internet nor a unix socket"))
}

fn refusal(address: &Address, error: &io::Error) -> BindError {
    let advice = match (error.kind(), address) {
        (io::ErrorKind::AddrInUse, Address::Tcp { port, .. }) => format!(
            "; another process listens there (`ss -ltnp 'sport = :{port}'` shows it), \
             or this server by another --bind. Stop it, or choose another port with --bind"
        ),
        (io::ErrorKind::AddrInUse, _) => {
            "; another process listens there. Stop it, or choose another path with --bind".into()
        }
        (io::ErrorKind::PermissionDenied, Address::Tcp { port, .. }) if *port < 1024 => {
            "; ports below 1024 need a privilege: use one above, or CAP_NET_BIND_SERVICE".into()
        }
        // A name that is not found has no errno.
        (_, Address::Tcp { .. }) if error.raw_os_error().is_none() => {
            "; expected ADDRESS:PORT, as in 127.0.0.1:8000, unix:PATH or fd://N".into()
        }
        (io::ErrorKind::NotFound, Address::Unix(_)) => "; make the directory first".into(),
        _ => String::new(),
    };
    // "(os error 98)" helps nobody who reads the sentence.
    let text = error.to_string();
    let reason = text.split(" (os error").next().unwrap_or(&text).to_owned();
    BindError { address: address.to_string(), reason, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nagle's algorithm and delayed acknowledgement together cost 40 ms.
    #[test]
    fn no_connection_keeps_a_small_piece_back() {
        let any = Address::Tcp { host: "127.0.0.1".into(), port: 0 };
        let bound = Listener::bind(&any, 16, 0o660).expect("any port");
        let passed = std::net::TcpListener::bind("127.0.0.1:0").expect("any port");
        let passed = Listener::adopted(passed.into()).expect("it listens");
        for listener in [bound, passed] {
            let _client =
                std::net::TcpStream::connect(listener.tcp().expect("tcp")).expect("it listens");
            let socket = SockRef::from(&listener.fd);
            socket.set_nonblocking(false).expect("a socket");
            let (connection, _) = socket.accept().expect("it is queued");
            assert!(connection.tcp_nodelay().expect("a TCP socket"));
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_what_to_do() {
        let any = Address::Tcp { host: "127.0.0.1".into(), port: 0 };
        let first = Listener::bind(&any, 16, 0o660).expect("any port");
        let port = first.tcp().expect("tcp").port();
        let again = Address::Tcp { host: "127.0.0.1".into(), port };
        let error = Listener::bind(&again, 16, 0o660).expect_err("taken").to_string();
        assert!(
            error
                .starts_with(&format!("cannot listen on 127.0.0.1:{port}: Address already in use"))
        );
        assert!(error.contains("--bind"), "{error}");
    }

    #[test]
    fn a_name_that_nobody_has_is_answered_with_what_is_expected() {
        let nowhere = Address::Tcp { host: "nowhere.invalid".into(), port: 8000 };
        let error = Listener::bind(&nowhere, 16, 0o660).expect_err("no such name").to_string();
        assert!(error.starts_with("cannot listen on nowhere.invalid:8000: "), "{error}");
        assert!(
            error.ends_with("expected ADDRESS:PORT, as in 127.0.0.1:8000, unix:PATH or fd://N")
        );
    }

    #[test]
    fn a_unix_socket_gets_its_mode_and_replaces_only_a_dead_one() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("s");
        let address = Address::Unix(path.clone());
        let first = Listener::bind(&address, 16, 0o660).expect("bind");
        assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o660);
        let error = Listener::bind(&address, 16, 0o660).expect_err("alive").to_string();
        assert!(error.contains("another process listens"), "{error}");
        drop(first);
        Listener::bind(&address, 16, 0o660).expect("a stale socket is replaced");
    }

    #[test]
    fn an_ordinary_file_is_never_removed() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("precious");
        fs::write(&path, "data").expect("write");
        let error =
            Listener::bind(&Address::Unix(path.clone()), 16, 0o660).expect_err("file").to_string();
        assert!(error.contains("not a socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("read"), "data");
    }

    #[test]
    fn abstract_names_are_bound_and_shown() {
        let name = format!("serve-test-{}", std::process::id());
        let address = Address::Abstract(name.clone().into_bytes());
        let listener = Listener::bind(&address, 16, 0).expect("bind");
        assert_eq!(listener.to_string(), format!("unix:@{name}"));
        assert!(listener.path().is_none());
    }

    #[test]
    fn an_inherited_descriptor_must_listen() {
        let file = tempfile::tempfile().expect("file");
        let error = Listener::bind(&Address::Fd(file.as_raw_fd()), 16, 0).expect_err("file");
        assert!(error.to_string().contains("not a socket"), "{error}");
        let error = Listener::bind(&Address::Fd(9999), 16, 0).expect_err("closed");
        assert!(error.to_string().contains("Bad file descriptor"), "{error}");
        let listener = TcpListener::bind("[::1]:0").expect("v6");
        let adopted = Listener::bind(&Address::Fd(listener.as_raw_fd()), 16, 0).expect("adopt");
        assert_eq!(adopted.tcp(), listener.local_addr().ok());
    }
}
