//! Sets of addresses, as operators write them.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::gateway::Peer;

/// Addresses and networks; or all there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Networks {
    /// `*`
    All,
    /// Those in one of these.
    Some(Vec<IpNet>),
}

impl Default for Networks {
    /// No address at all.
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

impl Networks {
    /// Reads addresses, networks such as `10.0.0.0/8`, or `*`; `none` is
    /// no address.
    ///
    /// # Errors
    /// What is wrong with one of them, as a sentence.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut networks = Vec::new();
        for text in texts {
            if text == "*" {
                return Ok(Self::All);
            }
            if text == "none" {
                continue;
            }
            let network =
                text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            networks.push(network.map_err(|_| {
                format!("'{text}' is no address, no network such as 10.0.0.0/8, and not *")
            })?);
        }
        Ok(Self::Some(networks))
    }

    /// Whether `peer` is one of these, or comes by a unix socket.
    pub(crate) fn holds(&self, peer: Peer) -> bool {
        match peer {
            Peer::Tcp(address) => self.contains(address.ip()),
            Peer::Unix => true,
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Some(networks) => networks.iter().any(|network| network.contains(&ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_networks_and_all_there_are() {
        let within = |texts: &[&str], ip: &str| {
            Networks::parse(texts.iter().copied()).unwrap().contains(ip.parse().unwrap())
        };
        assert!(within(&["127.0.0.1", "::1"], "::1") && !within(&["127.0.0.1"], "127.0.0.2"));
        assert!(within(&["10.0.0.0/8"], "10.1.2.3") && !within(&["10.0.0.0/8"], "11.0.0.0"));
        assert!(
            within(&["*"], "8.8.8.8")
                && !within(&["none"], "127.0.0.1")
                && !within(&[], "127.0.0.1")
        );
        assert!(Networks::parse(["10.0.0.0/33"]).is_err());
        assert!(Networks::parse(["localhost"]).is_err());
    }
}
