//! Names of requests, by which the lines of several logs find each other.

use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::process;
use std::time::SystemTime;

/// Bytes of a name that a proxy may give.
const MOST: usize = 128;

/// The name of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestId {
    /// Made here: by which reactor, and how many it had made before.
    Made(u64, u32),
    /// Given by a trusted proxy.
    Given(Box<str>),
}

impl RequestId {
    /// What a proxy gave, if it can be a name: it is to be in logs and headers.
    pub(crate) fn given(text: &[u8]) -> Option<Self> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
        let fits = (1..=MOST).contains(&text.len()) && text.iter().all(plain);
        fits.then(|| Self::Given(String::from_utf8_lossy(text).into()))
    }
}

impl RequestId {
    /// The name, in ASCII, for which `digits` may be needed: each request has one,
    /// and the formatting of the standard library is slow.
    pub fn bytes<'a>(&'a self, digits: &'a mut [u8; 24]) -> &'a [u8] {
        let (maker, number) = match self {
            Self::Made(maker, number) => (*maker, *number),
            Self::Given(text) => return text.as_bytes(),
        };
        let [a, b, c, d, low @ ..] = maker.to_be_bytes();
        let parts = [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes(low), number];
        for (place, part) in digits.chunks_exact_mut(8).zip(parts) {
            place.copy_from_slice(&hexadecimal(part));
        }
        digits
    }
}

/// Eight digits at once: each byte of the result is made of four bits of `number`.
fn hexadecimal(number: u32) -> [u8; 8] {
    let mut digits = u64::from(number);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((digits + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    let to_letter = u64::from(b'a' - b'9' - 1);
    (digits + 0x3030_3030_3030_3030 + letters * to_letter).to_be_bytes()
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.bytes(&mut [0; 24])))
    }
}

/// Where a reactor's names come from.
#[derive(Debug)]
pub(crate) struct Ids {
    maker: u64,
    next: u32,
    wanted: bool,
}

impl Ids {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { maker: chance(), next: 0, wanted }
    }

    /// A new name, if requests are to have names.
    pub(crate) fn next(&mut self) -> Option<RequestId> {
        if !self.wanted {
            return None;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        if self.next == 0 {
            self.maker = chance();
        }
        Some(RequestId::Made(self.maker, number))
    }
}

/// A number that no other reactor has, most probably.
fn chance() -> u64 {
    let random = || -> io::Result<u64> {
        let mut bytes = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    };
    random().unwrap_or_else(|error| {
        log::debug!("/dev/urandom: {error}");
        let mut hasher = DefaultHasher::new();
        (process::id(), SystemTime::now()).hash(&mut hasher);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_made_twice() {
        let mut ids = Ids::new(true);
        let first = ids.next().unwrap();
        ids.next = u32::MAX;
        let last = ids.next().unwrap();
        let after = ids.next().unwrap();
        assert!(first != last && first != after && last != after);
        assert_eq!(first.to_string().len(), 24);
        let name = RequestId::Made(0x0123_4567_89ab_cdef, 0xfabc);
        assert_eq!(name.to_string(), "0123456789abcdef0000fabc");
        assert_ne!(Ids::new(true).next(), Ids::new(true).next());
        assert_eq!(Ids::new(false).next(), None);
    }

    #[test]
    fn a_proxy_cannot_give_what_is_no_name() {
        assert!(RequestId::given(b"Root=1-67891233-abcdef").is_some());
        for bad in [b"".as_slice(), b"a b", b"a\"", b"\xff", &[b'a'; 129]] {
            assert_eq!(RequestId::given(bad), None);
        }
    }
}
