//! Names of requests, by which the lines of several logs find each other.

use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::process;
use std::time::SystemTime;

const HEX: &[u8; 16] = b"0123456789abcdef";

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
    /// The name, for which `digits` may be needed: each request has one, and the
    /// formatting of the standard library is slow.
    pub fn text<'a>(&'a self, digits: &'a mut [u8; 24]) -> &'a str {
        let (maker, number) = match self {
            Self::Made(maker, number) => (*maker, *number),
            Self::Given(text) => return text,
        };
        let bytes = maker.to_be_bytes().into_iter().chain(number.to_be_bytes());
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 0xf)];
        }
        str::from_utf8(digits).expect("hexadecimal digits are ASCII")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; 24]))
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
        assert_eq!(RequestId::Made(0x1f, 0xabc).to_string(), "000000000000001f00000abc");
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
