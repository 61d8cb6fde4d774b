//! Ages as kubectl prints them.

use jiff::Timestamp;

/// How long ago a timestamp was, in one or two units; `<unknown>` where there is none.
pub(crate) fn age(timestamp: Option<&str>, now: Timestamp) -> String {
    let Some(text) = timestamp else { return "<unknown>".to_owned() };
    match text.parse::<Timestamp>() {
        Ok(then) => duration(now.as_second() - then.as_second()),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// The thresholds of Kubernetes' `HumanDuration`: two units while they say something, one afterwards.
fn duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, unit: &str, small: i64, rest: &str| {
        let (whole, left) = (seconds / big, seconds % big / small);
        if left == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{left}{rest}") }
    };
    match seconds {
        // A clock may be a little behind; more than that is an error worth showing.
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(MINUTE, "m", 1, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(HOUR, "h", MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(DAY, "d", HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(YEAR, "y", DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (2 * 86400, "2d"),
            (2 * 86400 + 3600, "2d1h"),
            (9 * 86400, "9d"),
            (800 * 86400, "2y70d"),
            (9 * 365 * 86400, "9y"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
