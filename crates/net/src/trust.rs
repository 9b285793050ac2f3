//! Whom to believe: what proxies say of a request in headers, and which of them
//! are believed.
//!
//! A header is as good as whoever sent it last. So nothing is believed unless
//! the other end of the connection is a trusted proxy, and of lists that several
//! have added to, only the part that trusted ones have added.

mod forwarded;
mod networks;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serve_http::Head;

use crate::gateway::Peer;
use crate::request_id::{Ids, RequestId};
use forwarded::Claims;
pub use forwarded::Style;
pub use networks::Networks;

/// Names of dropped headers that the log may hear of.
const TOLD: usize = 32;

/// What to believe.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The proxies whose headers are believed. Whoever comes by a unix socket is
    /// one of them.
    pub proxies: Networks,
    /// Headers that tell the scheme, and the value that means https.
    pub scheme_headers: Vec<(String, String)>,
    /// Headers with an underscore that a trusted proxy may send.
    pub forwarder_headers: Vec<String>,
    /// What becomes of other headers with an underscore.
    pub underscores: Underscores,
    /// How many proxies one behind the other are trusted to say who the client
    /// is, and what it asked for.
    pub hops: usize,
    /// In which headers they say so.
    pub style: Style,
}

/// What becomes of headers whose name has an underscore: in an environ they
/// look like those with a dash, which a proxy may have set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underscores {
    /// The application does not see them.
    #[default]
    Drop,
    /// The request is answered 400.
    Refuse,
    /// The application gets them.
    Keep,
}

/// How the client reached the first proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Scheme {
    Http,
    Https,
}

/// A request as it is seen: what its connection shows, and what is believed of
/// its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The client. Its port is 0 if a proxy did not say.
    pub client: Peer,
    /// Whether the other end of the connection is a trusted proxy.
    pub trusted: bool,
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// `None`: http, as nobody says otherwise.
    pub scheme: Option<Scheme>,
    /// The Host that the client asked for; `None`: as the Host header.
    pub host: Option<Box<str>>,
    /// The port that the client asked for; `None`: as in `host`.
    pub port: Option<u16>,
    /// Headers whose names have an underscore and that the application gets, with
    /// names as in an environ.
    pub underscored: Vec<(String, Vec<u8>)>,
    /// Names the request; `None` if requests are to have no names.
    pub id: Option<RequestId>,
}

impl Trust {
    /// Whether the application gets a header whose name has an underscore.
    fn passes(&self, trusted: bool, name: &[u8]) -> bool {
        let known = |known: &String| known == "*" || name.eq_ignore_ascii_case(known.as_bytes());
        self.underscores == Underscores::Keep
            || (trusted && self.forwarder_headers.iter().any(known))
    }

    fn scheme(&self, head: &Head) -> Result<Option<Scheme>, &'static str> {
        let mut found = None;
        for (name, secure) in &self.scheme_headers {
            for value in head.values(name.as_bytes()) {
                let says = match value.eq_ignore_ascii_case(secure.as_bytes()) {
                    true => Scheme::Https,
                    false => Scheme::Http,
                };
                if found.replace(says).is_some_and(|before| before != says) {
                    return Err("headers contradict each other about the scheme");
                }
            }
        }
        Ok(found)
    }
}

/// Looks at the requests of a reactor.
#[derive(Debug)]
pub(crate) struct Witness {
    trust: Trust,
    ids: Ids,
    /// Headers of which the log has heard.
    told: BTreeSet<Vec<u8>>,
}

impl Witness {
    pub(crate) fn new(trust: Trust, request_ids: bool) -> Self {
        Self { trust, ids: Ids::new(request_ids), told: BTreeSet::new() }
    }

    /// Whether what `peer` says of its requests is believed.
    pub(crate) fn believes(&self, peer: Peer) -> bool {
        self.trust.proxies.holds(peer)
    }

    /// A request of which there is nothing to believe.
    pub(crate) fn glimpse(&mut self, client: Peer, trusted: bool) -> Seen {
        Seen { trusted, id: self.ids.next(), ..Seen::of(client) }
    }

    /// Looks at a request from `peer`.
    ///
    /// # Errors
    /// Why it is refused with 400.
    pub(crate) fn see(
        &mut self,
        peer: Peer,
        trusted: bool,
        secure: bool,
        head: &Head,
    ) -> Result<Seen, &'static str> {
        let mut seen = self.glimpse(peer, trusted);
        seen.secure = secure;
        for (name, value) in head.underscored_fields() {
            if self.trust.passes(trusted, name) {
                let name = String::from_utf8_lossy(name).to_ascii_uppercase();
                seen.underscored.push((name.replace('-', "_"), value.to_vec()));
            } else if self.trust.underscores == Underscores::Refuse {
                return Err("a header's name has an underscore");
            } else {
                self.dropped(name);
            }
        }
        if trusted {
            seen.scheme = self.trust.scheme(head)?;
            if seen.id.is_some()
                && let Some(given) = head.field(b"x-request-id").and_then(RequestId::given)
            {
                seen.id = Some(given);
            }
            if self.trust.hops > 0 {
                seen.believe(&self.trust.style.claims(head, self.trust.hops));
            }
        }
        if secure && seen.scheme.is_none() {
            seen.scheme = Some(Scheme::Https);
        }
        Ok(seen)
    }

    /// Said once for each name, of which a client can invent many.
    fn dropped(&mut self, name: &[u8]) {
        let known =
            self.told.len() >= TOLD || self.told.contains(name.to_ascii_lowercase().as_slice());
        if !known {
            self.told.insert(name.to_ascii_lowercase());
            log::warn!(
                "the header {} is left out, since its name has an underscore: --forwarder-headers \
                 and --header-map can change that",
                name.escape_ascii()
            );
        }
    }
}

impl Seen {
    /// As a connection from `client` shows it.
    pub fn of(client: Peer) -> Self {
        let (scheme, host, port, id) = (None, None, None, None);
        let (trusted, secure) = (false, false);
        Self { client, trusted, secure, scheme, host, port, underscored: Vec::new(), id }
    }

    fn believe(&mut self, claims: &Claims) {
        if let Some((ip, port)) = claims.client {
            self.client = Peer::Tcp(SocketAddr::new(ip.to_canonical(), port.unwrap_or(0)));
        }
        self.scheme = claims.scheme.or(self.scheme);
        self.host.clone_from(&claims.host);
        self.port = claims.port;
    }
}
