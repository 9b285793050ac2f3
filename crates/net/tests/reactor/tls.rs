//! TLS between the reactor and its sockets: what was read ahead, and what has not
//! left yet.

use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use serve_http::Size;
use serve_net::{Clients, Exchange, ExchangeId, Options, Reactor, Sent, Tls, TlsFiles};
use socket2::SockRef;

use crate::rig::*;

/// What no machine's own configuration of OpenSSL can change.
const CONFIG: &str = "
[req]
distinguished_name = name
x509_extensions = server
prompt = no
[name]
CN = localhost
[server]
subjectAltName = DNS:localhost
";

/// With a new certificate.
fn secure(options: Options) -> Options {
    let folder = tempfile::tempdir().unwrap();
    let [config, certificate, key] =
        ["config", "certificate", "key"].map(|it| folder.path().join(it));
    std::fs::write(&config, CONFIG).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test may start processes")]
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config".split(' '));
    openssl.arg(config).arg("-out").arg(&certificate).arg("-keyout").arg(&key);
    assert!(openssl.output().unwrap().status.success());
    let files = TlsFiles { certificate, key: Some(key), clients: Clients::Unasked };
    Options { tls: Some(Tls::load(&files).unwrap()), ..options }
}

/// Whoever answers is taken for the server.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_tls12_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client that speaks TLS.
struct Secured {
    tls: ClientConnection,
    wire: Client,
    /// What has been read and not been looked at.
    plain: Vec<u8>,
    /// The server has said that nothing more comes.
    announced: bool,
}

impl Secured {
    fn new(wire: Client) -> Self {
        // What is sent is there at once.
        SockRef::from(&wire).set_tcp_nodelay(true).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        Self { tls, wire, plain: Vec::new(), announced: false }
    }

    /// After the handshake.
    fn shaken(rig: &mut Rig, wire: Client) -> Self {
        let mut client = Self::new(wire);
        rig.until("hands are shaken", |_| {
            client.step(usize::MAX);
            !client.tls.is_handshaking()
        });
        // On the server's side, too.
        client.write();
        rig.calm();
        client
    }

    fn send(&mut self, text: &str) {
        self.tls.writer().write_all(text.as_bytes()).unwrap();
        self.write();
    }

    fn write(&mut self) {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).unwrap();
        }
        self.wire.send(records);
    }

    /// Writes what goes, and reads at most `limit` bytes of the wire.
    fn step(&mut self, limit: usize) {
        self.write();
        self.wire.take(limit.min(64 * 1024));
        let records = std::mem::take(&mut self.wire.input);
        let mut rest = &records[..];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).unwrap();
            let state = self.tls.process_new_packets().unwrap();
            self.announced |= state.peer_has_closed();
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.tls.reader().read_exact(&mut plain).unwrap();
            self.plain.extend(plain);
        }
    }

    /// The body of the next response.
    #[track_caller]
    fn body(&mut self, rig: &mut Rig) -> String {
        let mut body = None;
        rig.until("there is a response", |_| {
            self.step(usize::MAX);
            body = Answer::take(&mut self.plain).map(|answer| answer.text().to_owned());
            body.is_some()
        });
        body.unwrap()
    }
}

/// To know whether the client is still there, TLS has to read, and no event will
/// tell of what it has read.
#[test]
fn what_was_read_to_know_whether_the_client_is_there_is_not_lost() {
    let (held, act) = hold();
    let options = Options { slots: 1, patience: Duration::ZERO, ..options() };
    let mut rig = Rig::new(secure(options), act);
    let [wire, other] = [rig.connect(), rig.connect()];
    let [mut running, mut waits] = [wire, other].map(|wire| Secured::shaken(&mut rig, wire));
    running.send(&get("/running"));
    rig.until("one runs", |_| held.borrow().len() == 1);
    waits.send(&get("/first"));
    rig.calm();
    // The reactor does not turn before it looks.
    waits.send(&get("/second"));
    let first = held.borrow_mut().pop_front().unwrap();
    echo(&mut rig.reactor(), first);
    let next = rig.reactor().next().unwrap();
    echo(&mut rig.reactor(), next);
    assert!(waits.body(&mut rig).starts_with("GET /first "));
    rig.until("the other one runs", |_| held.borrow().len() == 1);
    let next = held.borrow_mut().pop_front().unwrap();
    echo(&mut rig.reactor(), next);
    assert!(waits.body(&mut rig).starts_with("GET /second "));
}

/// The socket has nothing more to say then, and TLS has: that nothing more comes.
#[test]
fn a_goodbye_that_comes_with_the_last_bytes_is_heard() {
    let mut rig = Rig::new(secure(options()), |_, _| panic!("half a request is none"));
    let wire = rig.connect();
    let mut client = Secured::shaken(&mut rig, wire);
    let half = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
    client.tls.writer().write_all(half).unwrap();
    client.tls.send_close_notify();
    client.write();
    rig.calm();
    assert_eq!(rig.reactor().connections(), 0);
}

/// Bytes of each response below, more than the sockets hold.
const SIZE: usize = 300_000;

/// Asks for `path` and for the end of the connection, and lets the client take
/// nothing until all is written that can be, again and again: what it read.
#[track_caller]
fn taken_in_pieces(rig: &mut Rig, path: &str, piece: usize) -> Vec<u8> {
    let wire = rig.connect_narrow();
    let mut client = Secured::shaken(rig, wire);
    client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    while client.wire.end.is_none() {
        rig.calm();
        client.step(piece);
    }
    assert!(
        client.announced,
        "after {} bytes it looks as if some were missing",
        client.plain.len()
    );
    let body = client.plain.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    client.plain.split_off(body)
}

/// Lets a client take the response that `answer` gives, a few bytes at a time:
/// meanwhile the socket is full, and records wait in the middle. It is the last
/// one, so that what has not left by its end never will.
#[track_caller]
fn is_whole_for_who_takes_little(answer: impl Fn(&mut Reactor, ExchangeId) + 'static) {
    let act = move |reactor: &mut Reactor, exchange: Exchange| answer(reactor, exchange.id);
    let mut rig = Rig::over(secure(options()), vec![narrow_tcp()], act);
    let body = taken_in_pieces(&mut rig, "/", 7_000);
    assert!(body == noise(SIZE), "{} bytes of {SIZE}, or others", body.len());
}

#[test]
fn a_whole_response_is_complete_for_a_client_that_takes_little_at_once() {
    is_whole_for_who_takes_little(|reactor, id| ok(reactor, id, &noise(SIZE)));
}

#[test]
fn a_stream_is_complete_for_a_client_that_takes_little_at_once() {
    is_whole_for_who_takes_little(|reactor, id| {
        let mut response = response();
        response.field(b"Content-Length", SIZE.to_string().as_bytes()).unwrap();
        assert_eq!(reactor.begin(id, &response, Size::Unknown, b""), Ok(Sent::Taken));
        for piece in noise(SIZE).chunks(10_001) {
            assert_eq!(reactor.send(id, piece), Ok(Sent::Taken));
        }
        reactor.finish(id).unwrap();
    });
}

#[test]
fn a_file_is_complete_for_a_client_that_takes_little_at_once() {
    is_whole_for_who_takes_little(|reactor, id| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&noise(SIZE)).unwrap();
        assert!(reactor.begin(id, &response(), Size::Known(SIZE as u64), b"").is_ok());
        reactor.send_file(id, file, 0, SIZE as u64).unwrap();
        reactor.finish(id).unwrap();
    });
}

/// Of some sizes: after the last byte there is no room for the goodbye.
#[test]
fn a_goodbye_waits_until_the_socket_has_room_for_it() {
    let act = |reactor: &mut Reactor, exchange: Exchange| {
        let path = reactor.head(exchange.id).unwrap().path();
        let size = std::str::from_utf8(&path[1..]).unwrap().parse().unwrap();
        ok(reactor, exchange.id, &noise(size));
    };
    let mut rig = Rig::over(secure(options()), vec![narrow_tcp()], act);
    for size in (84_000..108_000).step_by(2_000) {
        assert!(taken_in_pieces(&mut rig, &format!("/{size}"), 64_000) == noise(size));
    }
}
