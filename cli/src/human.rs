//! Numbers for people.

use std::time::Duration;

/// Bytes in binary units with three digits: `1.50 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Reads a number of bytes as [`bytes`] writes it: `10GiB`, `1.5 TiB`, `500 MB` (10⁶), `0`. `None` if it is none.
pub fn read_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (text[..end].parse::<f64>().ok()?, text[end..].trim());
    let (letter, base) = match unit {
        "" | "B" => ("", 1.0),
        unit if unit.ends_with("iB") => (&unit[..unit.len() - 2], 1024.0_f64),
        unit => (unit.strip_suffix('B').unwrap_or(unit), 1000.0),
    };
    let power = match letter {
        "" if unit.len() < 2 => 0,
        "K" | "k" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        _ => return None,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it has no sign, and what is too large becomes the largest"
    )]
    Some((number * base.powi(power)) as u64)
}

/// A duration: `850 ms`, `7.4 s`, `3 min 05 s`, `2 h 10 min`.
pub fn duration(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

/// A number with its noun: `1 file`, `12,345 files`.
pub fn count(n: u64, noun: &str) -> String {
    let plural = if n == 1 {
        noun.to_owned()
    } else if let Some(stem) = noun.strip_suffix('y') {
        format!("{stem}ies")
    } else {
        format!("{noun}s")
    };
    format!("{} {plural}", number(n))
}

/// A number with commas between thousands.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_right() {
        assert_eq!(
            [0, 1023, 1024, 1536, 10_240, 1_048_575, 1 << 30].map(bytes),
            ["0 B", "1023 B", "1.00 KiB", "1.50 KiB", "10.0 KiB", "1.00 MiB", "1.00 GiB"]
        );
        assert_eq!(
            [5, 7_400, 185_000, 7_800_000].map(|ms| duration(Duration::from_millis(ms))),
            ["5 ms", "7.4 s", "3 min 05 s", "2 h 10 min"]
        );
        assert_eq!(
            ["0", "512 B", "10GiB", "1.5 TiB", "500 MB", "2k"].map(read_bytes),
            [0, 512, 10 << 30, 3 << 39, 500_000_000, 2_000].map(Some)
        );
        for none in ["", "GiB", "-1", "10 parsecs", "1iB", "1e3", "1.2.3"] {
            assert_eq!(read_bytes(none), None, "{none}");
        }
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(12_345, "entry"), "12,345 entries");
    }
}
