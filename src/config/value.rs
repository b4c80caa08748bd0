//! Parsers of single values: durations, listen addresses, URIs. Messages show the valid form and never the value.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Deserializer, de::Error};
use url::{Host, Url};

use crate::domain::{IpNetwork, TrustedProxies};

const DURATION: &str = "must be a duration in quotes: whole numbers with the units d, h, m, s or ms, the largest first, such as \"30s\", \"1h30m\" or \"250ms\"";
const ADDRESS: &str = "must be an IP address and a port in quotes, such as \"127.0.0.1:50051\" or \"[::]:50051\" (a host name is not an address; port 0 chooses a free port)";
const WEB_URI: &str = "must be an https:// URI without user name, password and fragment (plain http:// only on a loopback host)";
const ORIGIN: &str = "must be https://host without user name, password, path, query and fragment (plain http:// only on a loopback host)";
const NETWORKS: &str =
    "must be a list of networks in quotes, such as [\"10.0.0.0/8\", \"fd00::/8\"]";
const ENDPOINT: &str = "must be an http:// or https:// URI without user name and password";

/// The milliseconds in each unit, largest first.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

pub(super) fn duration<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    text(value, DURATION, parse_duration)
}

pub(super) fn some_duration<'de, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<Duration>, D::Error> {
    duration(value).map(Some)
}

pub(super) fn listen<'de, D: Deserializer<'de>>(value: D) -> Result<SocketAddr, D::Error> {
    text(value, ADDRESS, |text| text.parse().ok())
}

pub(super) fn some_origin<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    text(value, ORIGIN, |text| origin(text).ok()).map(Some)
}

pub(super) fn some_web_uri<'de, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<String>, D::Error> {
    text(value, WEB_URI, |text| web_uri(text).ok().map(|_| text.to_owned())).map(Some)
}

/// Reads the URI of a collector. Traces contain no credentials, so a collector in the same pod or network may use http.
pub(super) fn some_endpoint<'de, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<String>, D::Error> {
    text(value, ENDPOINT, |text| {
        let url = Url::parse(text).ok()?;
        let web = matches!(url.scheme(), "http" | "https") && url.has_host();
        (web && url.username().is_empty() && url.password().is_none()).then(|| text.to_owned())
    })
    .map(Some)
}

pub(super) fn trusted_proxies<'de, D: Deserializer<'de>>(
    value: D,
) -> Result<TrustedProxies, D::Error> {
    let texts = Vec::<String>::deserialize(value).map_err(|_| D::Error::custom(NETWORKS))?;
    let mut networks = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let network = text.parse::<IpNetwork>();
        networks.push(network.map_err(|problem| {
            D::Error::custom(format!("entry {} of the list: {problem}", index + 1))
        })?);
    }
    Ok(TrustedProxies::new(networks))
}

fn text<'de, D: Deserializer<'de>, T>(
    value: D,
    form: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    let text = String::deserialize(value).map_err(|_| D::Error::custom(form))?;
    parse(&text).ok_or_else(|| D::Error::custom(form))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at_checked(letters)?;
        // The iterator continues after the last unit, which rejects repeated units and wrong order.
        let (_, scale) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*scale)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// Parses an absolute URI that is safe for credentials and for browser redirects.
pub(super) fn web_uri(text: &str) -> Result<Url, &'static str> {
    // Text that the parser would repair is rejected; the check for `@` also finds empty user information.
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let url = Url::parse(text).map_err(|_| WEB_URI)?;
    let host = url.host().ok_or(WEB_URI)?;
    let encrypted = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&host));
    let authority = text.split('/').nth(2).unwrap_or_default();
    if plain && encrypted && !authority.contains('@') && url.fragment().is_none() {
        Ok(url)
    } else {
        Err(WEB_URI)
    }
}

/// Parses a URI with only scheme, host and port; returns it without a trailing slash.
pub(super) fn origin(text: &str) -> Result<String, &'static str> {
    let url = web_uri(text).map_err(|_| ORIGIN)?;
    if url.path() != "/" || text.contains('?') || text.contains('#') {
        return Err(ORIGIN);
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(domain) => *domain == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_durations() {
        for text in [
            "",
            "30",
            "s",
            "-30s",
            "+30s",
            "30 s",
            "1.5h",
            "1m1h",
            "1s1s",
            "30S",
            "30sec",
            "99999999999999999999s",
            "999999999999999999d",
            "３0s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for (text, millis) in
            [("30s", 30_000), ("250ms", 250), ("1h30m", 5_400_000), ("7d", 604_800_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn accepts_only_scheme_host_and_port_as_an_origin() {
        for text in [
            "",
            "sod.superoffice.com",
            "http://sod.superoffice.com",
            "http://10.0.0.1",
            "http://localhost.example",
            "ftp://sod.superoffice.com",
            "https://",
            "https://a@sod.superoffice.com",
            "https://a:b@sod.superoffice.com",
            "https://@sod.superoffice.com",
            "https://sod.superoffice.com/login",
            "https://sod.superoffice.com?x=1",
            "https://sod.superoffice.com#x",
            "https://sod.superoffice.com\\x",
            " https://sod.superoffice.com",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
        for (text, kept) in [
            ("https://sod.superoffice.com", "https://sod.superoffice.com"),
            ("https://sod.superoffice.com/", "https://sod.superoffice.com"),
            ("https://gateway.example:8443", "https://gateway.example:8443"),
            ("http://127.0.0.1:4711", "http://127.0.0.1:4711"),
            ("http://[::1]:4711/", "http://[::1]:4711"),
            ("http://localhost:4711", "http://localhost:4711"),
        ] {
            assert_eq!(origin(text).unwrap(), kept);
        }
    }
}
