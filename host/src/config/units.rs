//! The small languages inside the configuration's texts: durations, sizes, addresses, URLs, paths.
//!
//! Called by `check` only. Takes a text, gives a value or a `Mistake` that says what is wrong with
//! the text without repeating it, so that the caller decides how (and whether) to show it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Why a text is not a value of its kind. `what` follows the shown value: `"x" {what}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub what: String,
    pub expected: String,
}

fn mistake<T>(what: impl Into<String>, expected: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake { what: what.into(), expected: expected.into() })
}

/// Ten years: longer waits are mistakes, and timers need not care for overflow.
const DURATION_MAX: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// `250ms`, `1.5s`, `5m`, `1h`, `30d`, `0`; at most ten years.
pub fn duration(text: &str) -> Result<Duration, Mistake> {
    const EXPECTED: &str = "a number and a unit (ms, s, m, h, d), such as `1m`";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (number, unit) = split_unit(text);
    let nanos_per_unit = match unit {
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        "d" => 86_400e9,
        "" if decimal(number).is_some() => return mistake("has no unit", EXPECTED),
        _ => return mistake("is not a duration", EXPECTED),
    };
    let Some(number) = decimal(number) else { return mistake("is not a duration", EXPECTED) };
    let nanos = number * nanos_per_unit;
    if nanos > DURATION_MAX.as_nanos() as f64 {
        return mistake("is too long", "at most `3650d`");
    }
    if nanos > 0.0 && nanos < 1e6 {
        return mistake("is too short", "at least `1ms`");
    }
    // Decimal fractions are not exact in binary: 0.29 s is 290 ms, not 289.999999. Timers count
    // whole milliseconds anyway.
    Ok(Duration::from_millis((nanos / 1e6).round() as u64))
}

/// `16MiB`, `1.5 GiB`, `64kB`, `512` (bytes).
pub fn bytes(text: &str) -> Result<u64, Mistake> {
    const EXPECTED: &str = "a number and a unit (B, kB, MB, GB, KiB, MiB, GiB), such as `16MiB`";
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return mistake("is not a size", EXPECTED),
    };
    if let Ok(number) = number.parse::<u64>()
        && number.checked_mul(factor).is_some_and(|bytes| bytes <= BYTES_MAX)
    {
        return Ok(number * factor);
    }
    match decimal(number) {
        Some(number) if number * factor as f64 > BYTES_MAX as f64 => {
            mistake("is too large", "at most `1024GiB`")
        }
        Some(number) if (number * factor as f64).fract() == 0.0 => Ok((number * factor as f64) as u64),
        _ => mistake("is not a size", EXPECTED),
    }
}

/// A tebibyte: more is a mistake, and every smaller number is exact in binary.
const BYTES_MAX: u64 = 1 << 40;

/// A size as one would write it: `16MiB`, `1500B`.
pub fn shown_bytes(bytes: u64) -> String {
    match bytes {
        0 => "0B".to_owned(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ if bytes.is_multiple_of(1_000_000) => format!("{}MB", bytes / 1_000_000),
        _ if bytes.is_multiple_of(1000) => format!("{}kB", bytes / 1000),
        _ => format!("{bytes}B"),
    }
}

/// A duration as one would write it: `1m`, `1500ms`.
pub fn shown_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(86_400_000) => format!("{}d", millis / 86_400_000),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

/// `20%`: whole per cents, 0 to 100.
pub fn percent(text: &str) -> Result<u32, Mistake> {
    const EXPECTED: &str = "a whole number of per cents from 0% to 100%, such as `20%`";
    match text.strip_suffix('%').map(str::trim_end).filter(|number| digits(number)) {
        Some(number) => match number.parse() {
            Ok(number) if number <= 100 => Ok(number),
            _ => mistake("is more than 100%", EXPECTED),
        },
        None => mistake("is not a percentage", EXPECTED),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    // One space at most: `1 GiB` is common, `1   GiB` is a typing error.
    (number, unit.strip_prefix(' ').filter(|unit| !unit.is_empty()).unwrap_or(unit))
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `12` or `1.5`; no sign, exponent, `.5` or `1.`; at most 18 characters.
fn decimal(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if text.len() > 18 || !digits(whole) || !digits(fraction) {
        return None;
    }
    text.parse().ok()
}

/// `0.0.0.0:8080`, `[::]:8080`: an address to listen on.
pub fn address(text: &str) -> Result<SocketAddr, Mistake> {
    const EXPECTED: &str = "an IP address and a port, such as `0.0.0.0:8080` or `[::1]:8080`";
    match text.parse() {
        Ok(address) => Ok(address),
        Err(_) if text.parse::<IpAddr>().is_ok() => mistake("has no port", EXPECTED),
        Err(_) if text.starts_with(':') && digits(&text[1..]) => mistake("has no address", EXPECTED),
        Err(_) if text.starts_with("localhost:") => {
            mistake("is a name, not an address", "`127.0.0.1` (or `[::1]`) and a port")
        }
        Err(_) => mistake("is not an address", EXPECTED),
    }
}

/// `10.0.0.0/8`, `2001:db8::/32`, `10.1.2.3`.
pub fn network(text: &str) -> Result<(IpAddr, u8), Mistake> {
    const EXPECTED: &str = "an IP address or network, such as `10.0.0.0/8` or `::1`";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address, if address.is_ipv4() { 32 } else { 128 }));
    }
    match text.parse::<ipnet::IpNet>() {
        Ok(network) if network.network() == network.addr() => Ok((network.addr(), network.prefix_len())),
        Ok(network) => mistake("has bits set behind its prefix", format!("`{}`", network.trunc())),
        Err(_) => mistake("is not a network", EXPECTED),
    }
}

/// `sha256:` and 64 hexadecimal digits: what is kept of a subscription key.
pub fn key_hash(text: &str) -> Result<[u8; 32], Mistake> {
    const EXPECTED: &str = "`sha256:` and 64 hexadecimal digits, as `witgate key add` writes them";
    let Some(hex) = text.strip_prefix("sha256:") else {
        return mistake("is a key in clear", EXPECTED);
    };
    let mut hash = [0; 32];
    if hex.len() != 64 {
        return mistake(format!("has {} digits", hex.chars().count()), EXPECTED);
    }
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (pair.first().copied().and_then(digit), pair.get(1).copied().and_then(digit)) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return mistake("is not hexadecimal", EXPECTED),
        }
    }
    Ok(hash)
}

/// `2027-01-31T00:00:00Z` as seconds since the Unix epoch.
pub fn instant(text: &str) -> Result<u64, Mistake> {
    const EXPECTED: &str = "a time as in RFC 3339, such as `2027-01-31T00:00:00Z`";
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => match u64::try_from(time.as_second()) {
            Ok(seconds) => Ok(seconds),
            Err(_) => mistake("is before 1970", EXPECTED),
        },
        Err(_) => mistake("is not a time", EXPECTED),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrl {
    pub https: bool,
    /// A name or an address without brackets, in lower case.
    pub host: String,
    pub port: u16,
}

/// `http://host:port`: scheme, host and at most a port.
pub fn endpoint(text: &str) -> Result<EndpointUrl, Mistake> {
    const EXPECTED: &str = "a URL of scheme, host and port, such as `http://127.0.0.1:9001`";
    let Some((scheme, rest)) = text.split_once("://") else {
        return mistake("has no scheme", EXPECTED);
    };
    let https = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return mistake("has a scheme that is neither http nor https", EXPECTED),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !matches!(path, "" | "/") {
        return mistake("has a path or query", format!("{EXPECTED}; a path goes into the API's `rewrite`"));
    }
    if authority.contains('@') {
        return mistake("has a user name or password", EXPECTED);
    }
    let default_port = if https { 443 } else { 80 };
    let (host, port) = match host_and_port(authority) {
        Some((host, port)) => (host, port.unwrap_or(default_port)),
        None => return mistake("has no valid host and port", EXPECTED),
    };
    Ok(EndpointUrl { https, host, port })
}

/// `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`; the host without brackets.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host.to_owned(), rest)
    } else {
        let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        (dns_name(host)?, port)
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        Some(port) if digits(port) => {
            port.parse().ok().filter(|port| *port > 0).map(|port| (host, Some(port)))
        }
        _ => None,
    }
}

/// A name by RFC 1123 (underscores let pass, as container networks use them), in lower case and
/// without the dot at its end. IPv4 addresses have the same form; what only looks like one is
/// refused.
fn dns_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = digits(last) || last.starts_with("0x");
    (name.len() <= 253
        && name.split('.').all(label)
        && (!numeric || name.parse::<std::net::Ipv4Addr>().is_ok()))
    .then_some(name)
}

/// `api.example.com`, `*.example.com`, `192.0.2.1`, `[2001:db8::1]`; in lower case.
pub fn host_pattern(text: &str) -> Result<String, Mistake> {
    const EXPECTED: &str = "a host name such as `api.example.com` or `*.example.com`";
    if text == "*" {
        return mistake("stands for every host", "no `hosts` at all, which means every host");
    }
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && let Ok(address) = address.parse::<std::net::Ipv6Addr>()
    {
        return Ok(format!("[{address}]"));
    }
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", text),
    };
    if name.contains('*') {
        return mistake("has a `*` elsewhere than as its whole first label", EXPECTED);
    }
    if name.contains("://") {
        return mistake("is a URL, not a host name", EXPECTED);
    }
    if let Some((_, port)) = name.rsplit_once(':')
        && digits(port)
    {
        return mistake("has a port", format!("{EXPECTED}; ports belong to `listeners`"));
    }
    match dns_name(name) {
        Some(name) if wildcard.is_empty() || name.parse::<IpAddr>().is_err() => {
            Ok(format!("{wildcard}{name}"))
        }
        _ => mistake("is not a host name", EXPECTED),
    }
}

/// A host with or without a port, as it goes into a `Host` field.
pub fn host_field(text: &str) -> Result<String, Mistake> {
    const EXPECTED: &str = "`preserve`, `endpoint`, or a host such as `api.example.com`";
    match host_and_port(text) {
        Some(_) => Ok(text.to_owned()),
        None => mistake("is not a host", EXPECTED),
    }
}

/// A DNS name without wildcard or port, for `tls.server_name`; an address too.
pub fn server_name(text: &str) -> Result<String, Mistake> {
    match dns_name(text).or_else(|| text.parse::<IpAddr>().ok().map(|address| address.to_string())) {
        Some(name) => Ok(name),
        None => mistake("is not a host name", "a host name such as `api.example.com`"),
    }
}

/// A token by RFC 9110, in upper case.
pub fn method(text: &str) -> Result<String, Mistake> {
    const EXPECTED: &str = "a method in upper case, such as `GET`";
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if text == "*" {
        return mistake("stands for every method", "no `methods` at all, which means every method");
    }
    if text.is_empty() || text.len() > 32 || !text.bytes().all(token) {
        return mistake("is not a method", EXPECTED);
    }
    if text.bytes().any(|b| b.is_ascii_lowercase()) {
        return mistake("is not in upper case", format!("`{}`", text.to_ascii_uppercase()));
    }
    Ok(text.to_owned())
}

/// Bytes of a path or template.
const PATH_BYTES_MAX: usize = 2048;

/// A prefix as the router sees it: normalised, without a slash at its end; `/` alone for all.
pub fn path_prefix(text: &str) -> Result<String, Mistake> {
    if text.contains(['{', '}']) {
        return mistake("has a parameter", "a plain prefix; templates go into `operations[].match.path`");
    }
    if text.ends_with("/*") || text.ends_with("/**") {
        return mistake("has a wildcard", "a plain prefix, which covers all below it");
    }
    path(text, |_| true)?;
    Ok(text.to_owned())
}

/// `/{id}/items`, `/files/{*rest}`; the names of the parameters beside it.
pub fn path_template(text: &str) -> Result<(String, Vec<String>), Mistake> {
    const EXPECTED: &str = "segments that are plain or `{name}`, the last one possibly `{*name}`";
    let mut names: Vec<String> = Vec::new();
    let mut fault = None;
    let count = text.split('/').count();
    for (index, segment) in text.split('/').enumerate() {
        if !segment.contains(['{', '}', '*']) {
            continue;
        }
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let (rest, name) = match name.map(|name| (name.strip_prefix('*'), name)) {
            Some((Some(name), _)) => (true, name),
            Some((None, name)) => (false, name),
            None => {
                fault = fault.or(Some("has a parameter that is not a whole segment".to_owned()));
                continue;
            }
        };
        let valid = !name.is_empty()
            && name.len() <= 64
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let problem = if !valid {
            Some(format!("has a parameter named \"{name}\""))
        } else if rest && index + 1 != count {
            Some("has a `{*…}` that is not its last segment".to_owned())
        } else if names.iter().any(|known| known == name) {
            Some(format!("has the parameter \"{name}\" twice"))
        } else {
            None
        };
        fault = fault.or(problem);
        names.push(name.to_owned());
    }
    if let Some(fault) = fault {
        return mistake(fault, EXPECTED);
    }
    path(text, |segment| !segment.starts_with('{'))?;
    Ok((text.to_owned(), names))
}

/// Holds a path to the one normal form that the router matches (RFC 3986 section 6.2.2): what is
/// not in it could never match, or would match past a policy.
fn path(text: &str, is_plain: impl Fn(&str) -> bool) -> Result<(), Mistake> {
    const EXPECTED: &str = "a path such as `/api/employee`";
    let Some(below) = text.strip_prefix('/') else {
        return mistake("does not begin with `/`", EXPECTED);
    };
    if text.len() > PATH_BYTES_MAX {
        return mistake("is too long", format!("at most {PATH_BYTES_MAX} bytes"));
    }
    if text.contains('?') || text.contains('#') {
        return mistake("has a query or fragment", EXPECTED);
    }
    if text.contains("//") {
        return mistake("has an empty segment (`//`)", EXPECTED);
    }
    if below.is_empty() {
        return Ok(());
    }
    if let Some(trimmed) = text.strip_suffix('/') {
        return mistake("ends with `/`", format!("`{trimmed}`"));
    }
    for segment in below.split('/').filter(|segment| is_plain(segment)) {
        if matches!(segment, "." | "..") {
            return mistake(format!("has a `{segment}` segment"), EXPECTED);
        }
        plain_segment(segment)?;
    }
    Ok(())
}

fn plain_segment(segment: &str) -> Result<(), Mistake> {
    const EXPECTED: &str = "letters, digits, `-._~!$&'()*+,;=:@`, and per cent escapes of others";
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            if !byte.is_ascii_alphanumeric() && !b"-._~!$&'()*+,;=:@".contains(&byte) {
                return mistake(format!("has `{}`", shown_byte(byte)), EXPECTED);
            }
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (rest.next(), rest.next());
        let decoded = match (digit(high), digit(low)) {
            (Some(high), Some(low)) => u8::try_from(high << 4 | low).unwrap_or_default(),
            _ => return mistake("has a `%` that begins no escape", EXPECTED),
        };
        if matches!(decoded, b'/' | b'\\' | b'.' | b'%') || decoded.is_ascii_control() {
            return mistake(format!("has an encoded `{}`", shown_byte(decoded)), EXPECTED);
        }
        if decoded.is_ascii_alphanumeric() || b"-_~".contains(&decoded) {
            let plain = char::from(decoded);
            return mistake(format!("has an escape of `{plain}`, which needs none"), format!("`{plain}`"));
        }
        if [high, low].into_iter().flatten().any(|b| b.is_ascii_lowercase()) {
            return mistake("has an escape in lower case", format!("`%{decoded:02X}`"));
        }
    }
    Ok(())
}

fn shown_byte(byte: u8) -> String {
    match byte {
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

/// The request target of a health check: a path and possibly a query, sent as it is.
pub fn health_path(text: &str) -> Result<String, Mistake> {
    if !text.starts_with('/') {
        return mistake("does not begin with `/`", "a path such as `/healthz`");
    }
    if text.len() > PATH_BYTES_MAX || text.contains('#') || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return mistake("is not a path", "a path such as `/healthz`, other characters escaped");
    }
    Ok(text.to_owned())
}

/// The name of a thing of the configuration, as it appears in paths, metrics and logs.
pub fn name(text: &str) -> Result<String, Mistake> {
    const EXPECTED: &str = "1 to 64 letters, digits, `-`, `_` or `.`, the first a letter or digit";
    let fits = (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits { Ok(text.to_owned()) } else { mistake("is not a name", EXPECTED) }
}

/// A free text for people, or a consumer's name, which an identity provider may have chosen.
pub fn label(text: &str) -> Result<String, Mistake> {
    let count = text.chars().count();
    if (1..=200).contains(&count) && !text.chars().any(char::is_control) && text.trim() == text {
        Ok(text.to_owned())
    } else {
        mistake("is not a name", "1 to 200 characters on one line, no space at the ends")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn what<T: std::fmt::Debug>(result: Result<T, Mistake>) -> String {
        result.unwrap_err().what
    }

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0.29s"), Ok(Duration::from_millis(290)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(duration("1 h"), Ok(Duration::from_secs(3600)));
        assert_eq!((duration("0"), duration("0s")), (Ok(Duration::ZERO), Ok(Duration::ZERO)));
        assert_eq!(what(duration("30")), "has no unit");
        for wrong in
            ["", "s", "1 minute", "-1s", "1e3s", ".5s", "1.s", "1..2s", "1s ", "1h30m", "１s", "1S", "1 "]
        {
            assert_eq!(what(duration(wrong)), "is not a duration", "{wrong}");
        }
        assert_eq!(what(duration("4000d")), "is too long");
        assert_eq!(what(duration("99999999999999999d")), "is too long");
        assert_eq!(what(duration("0.0001ms")), "is too short");
    }

    #[test]
    fn sizes_and_percentages() {
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        assert_eq!(bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(bytes("64kB"), Ok(64_000));
        assert_eq!(bytes("512"), Ok(512));
        for wrong in ["", "MiB", "16mb", "16M", "-1", "1.5", "0.3B", "1 2kB"] {
            assert_eq!(what(bytes(wrong)), "is not a size", "{wrong}");
        }
        assert_eq!(what(bytes("99999999999999999GiB")), "is too large");
        assert_eq!(what(bytes("1025GiB")), "is too large");
        assert_eq!((percent("0%"), percent("20 %"), percent("100%")), (Ok(0), Ok(20), Ok(100)));
        assert_eq!(what(percent("101%")), "is more than 100%");
        assert_eq!(what(percent("99999999999%")), "is more than 100%");
        assert_eq!(what(percent("20")), "is not a percentage");
        assert_eq!(what(percent("2.5%")), "is not a percentage");
    }

    #[test]
    fn addresses_and_networks() {
        assert!(address("0.0.0.0:8080").is_ok() && address("[::]:80").is_ok());
        assert_eq!(what(address("127.0.0.1")), "has no port");
        assert_eq!(what(address("::1")), "has no port");
        assert_eq!(what(address(":8080")), "has no address");
        assert_eq!(what(address("localhost:80")), "is a name, not an address");
        assert_eq!(what(address("0.0.0.0:99999")), "is not an address");
        assert_eq!(network("10.0.0.0/8"), Ok((IpAddr::from([10, 0, 0, 0]), 8)));
        assert_eq!(network("::1").map(|(_, prefix)| prefix), Ok(128));
        assert_eq!(network("10.1.0.0/8").unwrap_err().expected, "`10.0.0.0/8`");
        assert_eq!(what(network("10.0.0.0/33")), "is not a network");
    }

    #[test]
    fn hashes_and_instants() {
        assert_eq!(key_hash(&format!("sha256:{}", "aF".repeat(32))), Ok([0xaf; 32]));
        assert_eq!(what(key_hash("hunter2")), "is a key in clear");
        assert_eq!(what(key_hash("sha256:ab")), "has 2 digits");
        assert_eq!(what(key_hash(&format!("sha256:{}", "g".repeat(64)))), "is not hexadecimal");
        assert_eq!(what(key_hash(&format!("sha256:{}", "é".repeat(32)))), "is not hexadecimal");
        assert_eq!(instant("1970-01-02T00:00:00Z"), Ok(86_400));
        assert_eq!(instant("1970-01-02T01:00:00+01:00"), Ok(86_400));
        assert_eq!(what(instant("1969-01-01T00:00:00Z")), "is before 1970");
        assert_eq!(what(instant("tomorrow")), "is not a time");
    }

    #[test]
    fn endpoints() {
        let url = |https, host: &str, port| Ok(EndpointUrl { https, host: host.into(), port });
        assert_eq!(endpoint("http://127.0.0.1:9001"), url(false, "127.0.0.1", 9001));
        assert_eq!(endpoint("HTTPS://API.example.com./"), url(true, "api.example.com", 443));
        assert_eq!(endpoint("http://[::1]:80"), url(false, "::1", 80));
        assert_eq!(endpoint("http://my_service"), url(false, "my_service", 80));
        assert_eq!(what(endpoint("127.0.0.1:9001")), "has no scheme");
        assert_eq!(what(endpoint("ftp://a")), "has a scheme that is neither http nor https");
        assert_eq!(what(endpoint("http://a/b")), "has a path or query");
        assert_eq!(what(endpoint("http://a?b")), "has a path or query");
        assert_eq!(what(endpoint("http://u:p@a")), "has a user name or password");
        for wrong in
            ["http://", "http://:80", "http://a:", "http://a:0", "http://a:65536", "http://::1", "http://[a]"]
        {
            assert_eq!(what(endpoint(wrong)), "has no valid host and port", "{wrong}");
        }
        for wrong in ["http://1.2.3", "http://256.1.1.1", "http://a b", "http://-a", "http://0x7f"] {
            assert_eq!(what(endpoint(wrong)), "has no valid host and port", "{wrong}");
        }
    }

    #[test]
    fn hosts_and_methods() {
        assert_eq!(host_pattern("API.Example.com."), Ok("api.example.com".into()));
        assert_eq!(host_pattern("*.example.com"), Ok("*.example.com".into()));
        assert_eq!(host_pattern("[::1]"), Ok("[::1]".into()));
        assert_eq!(what(host_pattern("*")), "stands for every host");
        assert_eq!(what(host_pattern("api.*.com")), "has a `*` elsewhere than as its whole first label");
        assert_eq!(what(host_pattern("*api.com")), "has a `*` elsewhere than as its whole first label");
        assert_eq!(what(host_pattern("a.com:80")), "has a port");
        assert_eq!(what(host_pattern("http://a.com")), "is a URL, not a host name");
        assert_eq!(what(host_pattern("*.10.0.0.1")), "is not a host name");
        assert_eq!(what(host_pattern("")), "is not a host name");
        assert_eq!(method("GET"), Ok("GET".into()));
        assert_eq!(method("get").unwrap_err().expected, "`GET`");
        assert_eq!(what(method("*")), "stands for every method");
        assert_eq!(what(method("GE T")), "is not a method");
        assert_eq!(host_field("api.internal:8080"), Ok("api.internal:8080".into()));
        assert_eq!(what(host_field("a/b")), "is not a host");
    }

    #[test]
    fn paths() {
        for fine in ["/", "/api", "/api/v1.2/x", "/a%20b", "/a;b=c", "/~a"] {
            assert_eq!(path_prefix(fine), Ok(fine.to_owned()));
        }
        for (wrong, why) in [
            ("", "does not begin with `/`"),
            ("api", "does not begin with `/`"),
            ("//", "has an empty segment (`//`)"),
            ("/a//b", "has an empty segment (`//`)"),
            ("/a/", "ends with `/`"),
            ("/a/../b", "has a `..` segment"),
            ("/.", "has a `.` segment"),
            ("/a?b", "has a query or fragment"),
            ("/a%2fb", "has an encoded `/`"),
            ("/a%5Cb", "has an encoded `\\`"),
            ("/%2e%2e", "has an encoded `.`"),
            ("/%252f", "has an encoded `%`"),
            ("/%00", "has an encoded `%00`"),
            ("/%41", "has an escape of `A`, which needs none"),
            ("/%c3%a9", "has an escape in lower case"),
            ("/%zz", "has a `%` that begins no escape"),
            ("/%4", "has a `%` that begins no escape"),
            ("/a b", "has ` `"),
            ("/a\\b", "has `\\`"),
            ("/é", "has `%C3`"),
            ("/a/{id}", "has a parameter"),
            ("/a/*", "has a wildcard"),
        ] {
            assert_eq!(what(path_prefix(wrong)), why, "{wrong}");
        }
    }

    #[test]
    fn templates() {
        let names = |text: &str| path_template(text).map(|(_, names)| names.join(" "));
        assert_eq!(names("/"), Ok(String::new()));
        assert_eq!(names("/{id}/x/{*rest}"), Ok("id rest".into()));
        for (wrong, why) in [
            ("{id}", "does not begin with `/`"),
            ("/a{id}", "has a parameter that is not a whole segment"),
            ("/*", "has a parameter that is not a whole segment"),
            ("/{}", "has a parameter named \"\""),
            ("/{a-b}", "has a parameter named \"a-b\""),
            ("/{*a}/b", "has a `{*…}` that is not its last segment"),
            ("/{a}/{a}", "has the parameter \"a\" twice"),
            ("/{a}/../b", "has a `..` segment"),
            ("/{a}/", "ends with `/`"),
        ] {
            assert_eq!(what(path_template(wrong)), why, "{wrong}");
        }
    }

    #[test]
    fn names_and_labels() {
        assert!(
            name("employee-api_v1.2").is_ok() && label("Employee API").is_ok() && label("auth0|12").is_ok()
        );
        for wrong in ["", "-a", "a b", "a/b", "é", &"a".repeat(65)] {
            assert_eq!(what(name(wrong)), "is not a name");
        }
        for wrong in ["", " a", "a\nb"] {
            assert_eq!(what(label(wrong)), "is not a name");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,40}") {
            let _ = (duration(&text), bytes(&text), percent(&text), address(&text), network(&text));
            let _ = (key_hash(&text), instant(&text), endpoint(&text), host_pattern(&text), method(&text));
            let _ = (host_field(&text), server_name(&text), path_prefix(&text), path_template(&text));
        }

        #[test]
        fn what_looks_like_a_path_does_not_panic(text in "(/|%|[0-9a-f]|\\.|\\{|\\}|\\*){0,20}") {
            if let Ok(path) = path_prefix(&text) {
                prop_assert!(path == "/" || !path.ends_with('/'));
                prop_assert!(!path.contains("//") && !path.contains("/../"));
            }
            let _ = path_template(&text);
        }

        #[test]
        fn whole_durations_are_exact(number in 1_u64..100_000, unit in 0_usize..4) {
            let (unit, millis) = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)][unit];
            if number * millis <= DURATION_MAX.as_millis() as u64 {
                prop_assert_eq!(duration(&format!("{number}{unit}")), Ok(Duration::from_millis(number * millis)));
            }
        }
    }
}
