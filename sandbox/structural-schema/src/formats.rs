//! The text formats that kube-apiserver validates (`supportedVersionedFormats` of apiextensions-apiserver); all others say nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A format of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Byte,
    DateTime,
    Date,
    Duration,
    Ipv4,
    Ipv6,
    Cidr,
    Mac,
    /// With the version it must have, if any.
    Uuid(Option<char>),
    Hostname,
    Email,
    Uri,
    HexColor,
}

impl Format {
    /// Dashes do not count (`date-time` is `datetime`).
    pub(crate) fn parse(name: &str) -> Option<Format> {
        Some(match name.replace('-', "").as_str() {
            "byte" => Format::Byte,
            "datetime" => Format::DateTime,
            "date" => Format::Date,
            "duration" => Format::Duration,
            "ipv4" => Format::Ipv4,
            "ipv6" => Format::Ipv6,
            "cidr" => Format::Cidr,
            "mac" => Format::Mac,
            "uuid" => Format::Uuid(None),
            "uuid3" => Format::Uuid(Some('3')),
            "uuid4" => Format::Uuid(Some('4')),
            "uuid5" => Format::Uuid(Some('5')),
            "hostname" => Format::Hostname,
            "email" => Format::Email,
            "uri" => Format::Uri,
            "hexcolor" => Format::HexColor,
            _ => return None,
        })
    }

    pub(crate) fn accepts(self, text: &str) -> bool {
        match self {
            Format::Byte => is_base64(text),
            Format::DateTime => is_date_time(text),
            Format::Date => is_date(text),
            Format::Duration => is_duration(text),
            Format::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Format::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Format::Cidr => is_cidr(text),
            Format::Mac => is_mac(text),
            Format::Uuid(version) => is_uuid(text, version),
            Format::Hostname => is_hostname(text),
            Format::Email => text.split_once('@').is_some_and(|(user, host)| {
                !user.is_empty() && !host.is_empty() && !host.contains('@') && !text.contains(' ')
            }),
            Format::Uri => is_uri(text),
            Format::HexColor => {
                let digits = text.strip_prefix('#').unwrap_or(text);
                matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
            }
        }
    }
}

/// Standard alphabet, padded (RFC 4648, section 4).
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    text.len().is_multiple_of(4)
        && padding <= 2
        && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

/// RFC 3339, section 5.6. The time may be separated with `T`, `t` or a blank.
fn is_date_time(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(10) else { return false };
    let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else { return false };
    let Some((time, rest)) = rest.split_at_checked(8) else { return false };
    let fraction =
        rest.strip_prefix('.').map_or(0, |rest| 1 + rest.bytes().take_while(u8::is_ascii_digit).count());
    let zone = &rest[fraction..];
    is_date(date) && is_time(time) && fraction != 1 && (matches!(zone, "Z" | "z") || is_offset(zone))
}

fn is_date(text: &str) -> bool {
    let Some([year, month, day]) = numbers(text, '-', [4, 2, 2]) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

fn is_time(text: &str) -> bool {
    numbers(text, ':', [2, 2, 2])
        .is_some_and(|[hour, minute, second]| hour <= 23 && minute <= 59 && second <= 60)
}

fn is_offset(text: &str) -> bool {
    let clock = text.strip_prefix(['+', '-']);
    clock
        .and_then(|clock| numbers(clock, ':', [2, 2]))
        .is_some_and(|[hour, minute]| hour <= 23 && minute <= 59)
}

/// Numbers of fixed width between separators.
fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[u32; N]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let well_formed = parts.len() == N
        && parts
            .iter()
            .zip(widths)
            .all(|(part, width)| part.len() == width && part.bytes().all(|b| b.is_ascii_digit()));
    let mut numbers = [0; N];
    for (number, part) in numbers.iter_mut().zip(parts).filter(|_| well_formed) {
        *number = part.parse().ok()?;
    }
    well_formed.then_some(numbers)
}

/// Go's `time.ParseDuration`, or `2 days` as Scala writes it.
fn is_duration(text: &str) -> bool {
    is_go_duration(text) || is_scala_duration(text)
}

fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut any = false;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (digits, after) = rest.split_at(number);
        let well_formed = digits.bytes().any(|b| b.is_ascii_digit()) && digits.matches('.').count() <= 1;
        let unit = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"].into_iter().find(|unit| {
            after.strip_prefix(unit).is_some_and(|next| {
                next.is_empty() || next.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            })
        });
        let (true, Some(unit)) = (well_formed, unit) else { return false };
        rest = &after[unit.len()..];
        any = true;
    }
    any
}

fn is_scala_duration(text: &str) -> bool {
    const UNITS: [&str; 8] = ["nano", "micro", "milli", "second", "minute", "hour", "day", "week"];
    let text = text.trim();
    let number = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (digits, unit) = text.split_at(number);
    let unit = unit.trim().trim_end_matches('s');
    !digits.is_empty() && UNITS.contains(&unit)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u8>()) else { return false };
    length <= if address.is_ipv4() { 32 } else { 128 }
}

/// Go's `net.ParseMAC`: 6, 8 or 20 bytes with colons or dashes, or groups of four digits with dots.
fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize, counts: [usize; 3]| {
        let groups: Vec<&str> = text.split(separator).collect();
        counts.contains(&groups.len())
            && groups.iter().all(|group| group.len() == width && group.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    groups(':', 2, [6, 8, 20]) || groups('-', 2, [6, 8, 20]) || groups('.', 4, [3, 4, 10])
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let dashes_fit = !text.contains('-')
        || text.match_indices('-').all(|(i, _)| [8, 13, 18, 23].contains(&i) || text.len() < 36);
    let variant_fits = !matches!(version, Some('4' | '5'))
        || matches!(digits.chars().nth(16), Some('8' | '9' | 'a' | 'b' | 'A' | 'B'));
    let version_fits = version.is_none() || digits.chars().nth(12) == version;
    digits.len() == 32
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && dashes_fit
        && version_fits
        && variant_fits
}

/// RFC 1034, section 3.5, and RFC 1123, section 2.1.
fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= 255 && text.split('.').all(label)
}

/// Go's `url.ParseRequestURI`: an absolute URI or an absolute path.
fn is_uri(text: &str) -> bool {
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            && !rest.is_empty()
    });
    (scheme || text.starts_with('/')) && !text.chars().any(|c| c.is_control() || c == ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_and_refuse() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("byte", &["", "Zm9v", "Zm8=", "Zg=="], &["Zm9", "Zm9v=", "Zm-_"]),
            (
                "date-time",
                &["2026-02-28T23:59:60Z", "2024-02-29t00:00:00.123+02:00"],
                &[
                    "2026-02-29T00:00:00Z",
                    "2026-01-01",
                    "2026-01-01T00:00:00",
                    "2026-01-01T00:00:00.Z",
                    "2026-13-01T00:00:00Z",
                ],
            ),
            ("date", &["2026-12-31"], &["2026-12-32", "26-1-1"]),
            ("duration", &["1h30m", "1.5s", "-2ms", "0", "2 days"], &["", "1", "h", "1x", "1.2.3s"]),
            ("ipv4", &["10.0.0.1"], &["10.0.0", "::1", "10.0.0.256"]),
            ("ipv6", &["::1", "fd00::1:2"], &["10.0.0.1", "fd00::1::2"]),
            ("cidr", &["10.0.0.0/8", "fd00::/64", "10.1.2.3/24"], &["10.0.0.0", "10.0.0.0/33", "fd00::/129"]),
            (
                "mac",
                &["00:11:22:33:44:55", "00-11-22-33-44-55", "0011.2233.4455"],
                &["00:11:22:33:44", "00:11:22:33:44:5g"],
            ),
            (
                "uuid4",
                &["8c0f6a38-2b1a-4c6c-9c1a-0b0f5f4e3d2c"],
                &["8c0f6a38-2b1a-3c6c-9c1a-0b0f5f4e3d2c", "x"],
            ),
            ("hostname", &["a.b-c.d"], &["", "-a", "a..b", "a_b"]),
            ("uri", &["https://a/b?c", "/path"], &["a b", "nothing", ""]),
        ];
        for (name, good, bad) in table {
            let format = Format::parse(name).expect("a known format");
            for text in *good {
                assert!(format.accepts(text), "{name} refuses {text:?}");
            }
            for text in *bad {
                assert!(!format.accepts(text), "{name} accepts {text:?}");
            }
        }
        assert_eq!(Format::parse("no-such-format"), None);
    }
}
