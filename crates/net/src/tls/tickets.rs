//! Session tickets (RFC 8446 section 4.6.1, RFC 5077): what a client keeps of a
//! session, sealed, so that whichever worker it comes back to can resume it.
//!
//! The secret is made once for a generation, before its workers are forked. The
//! key that seals is another one every six hours, and all workers find the same
//! one without a word between them, since it comes of the secret and the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::Error;
use rustls::server::ProducesTickets;

/// How long a key seals tickets, in seconds. It opens them for as long again.
const PERIOD: u64 = 6 * 60 * 60;

/// Bytes of the number of the period, which a ticket begins with.
const NUMBER: usize = 8;

/// See the module's description.
pub(super) struct Tickets {
    secret: hmac::Key,
    random: SystemRandom,
    /// Seconds since 1970.
    now: fn() -> u64,
}

impl Tickets {
    /// With a new secret.
    ///
    /// # Errors
    /// When the kernel has no random numbers.
    pub(super) fn new() -> Result<Self, Error> {
        let random = SystemRandom::new();
        let secret = hmac::Key::generate(HMAC_SHA256, &random);
        let secret = secret.map_err(|_| Error::FailedToGetRandomBytes)?;
        Ok(Self { secret, random, now: clock })
    }

    fn period(&self) -> u64 {
        (self.now)() / PERIOD
    }

    fn key(&self, period: u64) -> Option<LessSafeKey> {
        let bytes = hmac::sign(&self.secret, &period.to_be_bytes());
        UnboundKey::new(&CHACHA20_POLY1305, bytes.as_ref()).ok().map(LessSafeKey::new)
    }
}

fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(PERIOD).unwrap_or(u32::MAX)
    }

    /// The period, the nonce, and the sealed session.
    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let period = self.period();
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = session.to_vec();
        self.key(period)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(period.to_be_bytes()),
                &mut sealed,
            )
            .ok()?;
        Some([&period.to_be_bytes()[..], &nonce, &sealed].concat())
    }

    /// `None`: it is too old, another generation's or nobody's, and the client
    /// needs a whole handshake.
    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (number, rest) = ticket.split_first_chunk::<NUMBER>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (period, now) = (u64::from_be_bytes(*number), self.period());
        if period != now && Some(period) != now.checked_sub(1) {
            return None;
        }
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key(period)?.open_in_place(nonce, Aad::from(number), &mut sealed).ok()?;
        Some(opened.to_vec())
    }
}

impl std::fmt::Debug for Tickets {
    /// Nothing of the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(first: &Tickets, now: fn() -> u64) -> Tickets {
        Tickets { secret: first.secret.clone(), random: SystemRandom::new(), now }
    }

    #[test]
    fn a_ticket_is_good_for_its_period_and_the_next() {
        let first = at(&Tickets::new().expect("random"), || 10 * PERIOD);
        let ticket = first.encrypt(b"session").expect("sealed");
        assert!(!ticket.windows(7).any(|part| part == b"session"));
        for now in [(|| 10 * PERIOD) as fn() -> u64, || 12 * PERIOD - 1] {
            let opened = at(&first, now).decrypt(&ticket);
            assert_eq!(opened.as_deref(), Some(&b"session"[..]), "by every worker");
        }
        for now in [(|| 12 * PERIOD) as fn() -> u64, || 10 * PERIOD - 1, || 0] {
            assert_eq!(at(&first, now).decrypt(&ticket), None);
        }
    }

    #[test]
    fn nobody_elses_ticket_is_opened() {
        let tickets = Tickets::new().expect("random");
        let ticket = tickets.encrypt(b"session").expect("sealed");
        assert_eq!(Tickets::new().expect("random").decrypt(&ticket), None, "another generation's");
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(tickets.decrypt(&forged), None, "byte {at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "{at} bytes");
        }
    }
}
