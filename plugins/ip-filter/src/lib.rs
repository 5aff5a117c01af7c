//! Lets addresses in or keeps them out.
//!
//! ```yaml
//! plugin: ip-filter
//! config: { allow: [10.0.0.0/8, "2001:db8::/32"], deny: [10.0.13.0/24] }
//! ```
//!
//! `deny` comes first. Whoever is in neither list passes unless there is an `allow`. The address
//! is the gateway's `client:ip`: the peer, or what a trusted proxy says. IPv4 addresses that are
//! mapped into IPv6 (`::ffff:10.0.0.1`) count as IPv4. Refused requests get 403.

use std::net::IpAddr;

use witgate::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses and networks (CIDR) that may come in; empty: all.
    #[serde(default)]
    allow: Vec<String>,
    /// Addresses and networks (CIDR) that may not, whatever `allow` says.
    #[serde(default)]
    deny: Vec<String>,
}

pub struct IpFilter {
    allow: Networks,
    deny: Networks,
    client: Read,
}

/// Networks as disjoint ranges in order, so that thousands cost a binary search.
struct Networks {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Policy for IpFilter {
    type Config = Config;

    fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
        if config.allow.is_empty() && config.deny.is_empty() {
            return Err("neither `allow` nor `deny` names an address".into());
        }
        Ok(IpFilter {
            allow: Networks::parse("allow", &config.allow)?,
            deny: Networks::parse("deny", &config.deny)?,
            client: plan.read("client:ip"),
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        let address = request.get(self.client).and_then(|text| text.parse::<IpAddr>().ok());
        let welcome = address.is_some_and(|address| {
            let address = address.to_canonical();
            !self.deny.contain(address) && (self.allow.is_empty() || self.allow.contain(address))
        });
        Ok(if welcome {
            Verdict::Proceed
        } else {
            Reply::problem(403, "Your address is not allowed here").into()
        })
    }
}

witgate::policy!(IpFilter: on_request);

impl Networks {
    fn parse(list: &str, texts: &[String]) -> Result<Self, String> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for text in texts {
            match parse_network(text).map_err(|why| format!("{list}: `{text}` {why}"))? {
                (IpAddr::V4(first), length) => {
                    let first = u32::from(first);
                    v4.push((first, first | u32::MAX.checked_shr(length).unwrap_or(0)));
                }
                (IpAddr::V6(first), length) => {
                    let first = u128::from(first);
                    v6.push((first, first | u128::MAX.checked_shr(length).unwrap_or(0)));
                }
            }
        }
        Ok(Networks { v4: disjoint(v4), v6: disjoint(v6) })
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn contain(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => lies_in(&self.v4, u32::from(address)),
            IpAddr::V6(address) => lies_in(&self.v6, u128::from(address)),
        }
    }
}

/// The first address and the length of the prefix.
fn parse_network(text: &str) -> Result<(IpAddr, u32), String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr =
        address.parse().map_err(|_| "is no address or network, such as `10.0.0.0/8`".to_string())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => bits,
        Some(length) => length
            .parse::<u32>()
            .ok()
            .filter(|length| *length <= bits && !text.contains('+'))
            .ok_or_else(|| format!("has no prefix length from 0 to {bits}"))?,
    };
    let first: IpAddr = match address {
        IpAddr::V4(address) => {
            (u32::from(address) & !u32::MAX.checked_shr(length).unwrap_or(0)).to_be_bytes().into()
        }
        IpAddr::V6(address) => {
            (u128::from(address) & !u128::MAX.checked_shr(length).unwrap_or(0)).to_be_bytes().into()
        }
    };
    if first != address {
        return Err(format!("has bits beyond its prefix: the network is `{first}/{length}`"));
    }
    match (first, first.to_canonical()) {
        (IpAddr::V6(_), mapped @ IpAddr::V4(_)) if length >= 96 => Ok((mapped, length - 96)),
        _ => Ok((first, length)),
    }
}

fn disjoint<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let overlaps = next.0 <= kept.1;
        if overlaps {
            kept.1 = kept.1.max(next.1);
        }
        overlaps
    });
    ranges
}

fn lies_in<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= value);
    after > 0 && value <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use witgate::testing;

    fn check(allow: &[&str], deny: &[&str], welcome: &[&str], refused: &[&str]) {
        let config = json!({ "allow": allow, "deny": deny });
        let policy = testing::policy::<IpFilter>(config).expect("configured");
        for address in welcome {
            assert_eq!(policy.request([("client:ip", *address)]), Verdict::Proceed, "{address}");
        }
        for address in refused {
            assert_eq!(policy.request([("client:ip", *address)]).status(), Some(403), "{address}");
        }
    }

    #[test]
    fn allow_and_deny() {
        check(
            &["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"],
            &["10.13.0.0/16", "2001:db8:bad::/48"],
            &["10.0.0.1", "10.255.255.255", "192.0.2.1", "2001:db8::1", "::ffff:10.0.0.1"],
            &["11.0.0.0", "9.255.255.255", "10.13.1.1", "192.0.2.2", "2001:db8:bad::1", "2001:db9::"],
        );
        check(&[], &["::ffff:10.0.0.0/104"], &["11.0.0.1", "::1"], &["10.1.2.3", "::ffff:10.1.2.3"]);
    }

    #[test]
    fn families_are_apart() {
        check(&["::/0"], &[], &["::1"], &["10.0.0.1", "::ffff:10.0.0.1"]);
        check(&["0.0.0.0/0"], &[], &["255.255.255.255", "::ffff:1.2.3.4"], &["::1"]);
    }

    #[test]
    fn an_unknown_address_is_refused() {
        check(&[], &["10.0.0.0/8"], &[], &["", "unknown", "10.0.0.1:80", "010.0.0.1"]);
        let policy = testing::policy::<IpFilter>(json!({ "deny": ["10.0.0.0/8"] })).expect("configured");
        assert_eq!(policy.request([]).status(), Some(403));
    }

    #[test]
    fn overlapping_networks_become_one() {
        let networks =
            Networks::parse("allow", &["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/9"].map(String::from));
        assert_eq!(networks.map(|networks| networks.v4.len()), Ok(1));
    }

    #[test]
    fn mistakes() {
        let check = |text: &str, expected: &str| {
            let error = testing::policy::<IpFilter>(json!({ "allow": [text] })).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("10.0.0.1/8", "the network is `10.0.0.0/8`");
        check("10.0.0.0/33", "from 0 to 32");
        check("10.0.0.0/+8", "from 0 to 32");
        check("::/129", "from 0 to 128");
        check("example.com", "no address or network");
        check("", "no address or network");
        assert!(testing::policy::<IpFilter>(json!({})).is_err());
    }
}
