//! Whose request it is when a proxy sends it. Only what a trusted proxy added itself is believed: the headers are read from the right,
//! one hop after the other, and the first hop that is not trusted is the client. What stands further left is the client's own claim.

use actix_web::HttpRequest;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// An address, or all addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let allowed = || "allowed: an address or a network, as in 10.0.0.1 or 192.168.0.0/16".to_owned();
        let (address, bits) = text.trim().split_once('/').map_or((text.trim(), None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| allowed())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| allowed()))?;
        if bits > most { Err(allowed()) } else { Ok(Network { address, bits }) }
    }
}

impl Network {
    fn contains(self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The address of the client: the peer's, or the one that trusted proxies name.
pub fn client(request: &HttpRequest, trusted: &[Network]) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    Some(behind(peer, request.headers(), trusted))
}

/// Two headers that disagree are not believed at all: a proxy writes one of them, and hands on the other as its client sent it.
fn behind(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let read = |name, address: fn(&str) -> Option<IpAddr>| {
        headers.contains_key(&name).then(|| walk(peer, &hops(headers, &name), trusted, address))
    };
    match (read(X_FORWARDED_FOR, plain_address), read(FORWARDED, forwarded_address)) {
        (Some(one), Some(other)) if one != other => peer,
        (one, other) => one.or(other).unwrap_or(peer),
    }
}

/// From the peer on, to the left, for as long as the address so far is trusted to tell the next one.
fn walk(peer: IpAddr, hops: &[String], trusted: &[Network], address: fn(&str) -> Option<IpAddr>) -> IpAddr {
    let mut known = peer;
    for hop in hops.iter().rev() {
        if !trusted.iter().any(|network| network.contains(known)) {
            break;
        }
        match address(hop.trim()) {
            Some(next) => known = next.to_canonical(),
            None => break,
        }
    }
    known
}

/// All values of the header in the order of the hops. An unreadable one is a hop that names nobody.
fn hops(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).map(|value| value.to_str().unwrap_or("unknown"));
    values.flat_map(|value| value.split(',')).map(str::to_owned).collect()
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.
fn plain_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// The `for` of one hop (RFC 7239).
fn forwarded_address(hop: &str) -> Option<IpAddr> {
    let pairs = hop.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    plain_address(node.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn seen(peer: &str, lines: &[(HeaderName, &str)], trusted: &str) -> String {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|(name, value)| headers.append(name.clone(), HeaderValue::from_str(value).unwrap()));
        let trusted: Vec<Network> = trusted.split_whitespace().map(|text| text.parse().unwrap()).collect();
        behind(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_what_a_trusted_hop_added_is_believed() {
        let own = "10.0.0.0/8 2001:db8:1::/48";
        for (peer, header, trusted, client) in [
            ("10.0.0.1", "198.51.100.7", "", "10.0.0.1"),
            ("192.0.2.9", "198.51.100.7", own, "192.0.2.9"),
            ("10.0.0.1", "198.51.100.7", own, "198.51.100.7"),
            ("10.0.0.1", "1.1.1.1, 198.51.100.7", own, "198.51.100.7"),
            ("10.0.0.1", "1.1.1.1, 198.51.100.7, 10.9.9.9", own, "198.51.100.7"),
            ("10.0.0.1", "10.1.1.1, 10.2.2.2", own, "10.1.1.1"),
            ("10.0.0.1", "198.51.100.7:4711", own, "198.51.100.7"),
            ("10.0.0.1", "198.51.100.7, unknown", own, "10.0.0.1"),
            ("10.0.0.1", "198.51.100.7, , ", own, "10.0.0.1"),
            ("10.0.0.1", "", own, "10.0.0.1"),
            ("2001:db8:1::1", "[2001:db8:2::7]:80, ::ffff:10.0.0.3", own, "2001:db8:2::7"),
        ] {
            assert_eq!(seen(peer, &[(X_FORWARDED_FOR, header)], trusted), client, "{header}");
        }
        assert_eq!(seen("10.0.0.1", &[(X_FORWARDED_FOR, "1.1.1.1"), (X_FORWARDED_FOR, "198.51.100.7")], own), "198.51.100.7");
    }

    #[test]
    fn forwarded_says_the_same_and_two_that_disagree_say_nothing() {
        let by = |value| seen("10.0.0.1", &[(FORWARDED, value)], "10.0.0.0/8");
        assert_eq!(by("for=1.1.1.1, For=\"198.51.100.7:80\";proto=https;by=10.0.0.1"), "198.51.100.7");
        assert_eq!(by("for=1.1.1.1, proto=https; for=\"[2001:db8::7]\""), "2001:db8::7");
        assert_eq!(by("for=1.1.1.1, for=_hidden"), "10.0.0.1");
        let both = |other| seen("10.0.0.1", &[(FORWARDED, "for=198.51.100.7"), (X_FORWARDED_FOR, other)], "10.0.0.1");
        assert_eq!((both("198.51.100.7").as_str(), both("1.1.1.1").as_str()), ("198.51.100.7", "10.0.0.1"));
    }

    #[test]
    fn a_network_is_an_address_and_bits() {
        for bad in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "::/129", "host", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.1.2.3".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
    }
}
