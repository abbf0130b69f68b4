//! `$GENERATE start-stop[/step] owner [TTL] [class] type data`: one record per number, as in BIND.
//!
//! | in the template | stands for |
//! |---|---|
//! | `$` | the number |
//! | `${offset,width,base}` | number + offset, filled with zeros; base `d o x X`, or `n N`: nibbles in reverse with dots |
//! | `$$`, `\$` | a dollar |

/// Most records of one directive.
const MAX_COUNT: u32 = 65_536;
/// Largest width of a number.
const MAX_WIDTH: usize = 255;

/// The numbers that a directive counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    start: u32,
    stop: u32,
    step: u32,
}

impl Range {
    /// From `start-stop` or `start-stop/step`.
    pub(super) fn parse(text: &str) -> Result<Range, &'static str> {
        const BAD: &str = "is not a range, allowed is start-stop or start-stop/step";
        let (range, step) = text.split_once('/').unwrap_or((text, "1"));
        let (start, stop) = range.split_once('-').ok_or(BAD)?;
        let number = |text: &str| {
            let is_plain = text.bytes().all(|octet| octet.is_ascii_digit());
            text.parse::<u32>().ok().filter(|number| is_plain && *number <= i32::MAX as u32).ok_or(BAD)
        };
        let range = Range { start: number(start)?, stop: number(stop)?, step: number(step)? };
        if range.step == 0 || range.stop < range.start {
            return Err("is empty, the start must not be behind the stop and the step not 0");
        }
        if (range.stop - range.start) / range.step >= MAX_COUNT {
            return Err("is too long, at most 65536 records");
        }
        Ok(range)
    }

    /// The numbers.
    pub(super) fn numbers(self) -> impl Iterator<Item = u32> {
        (self.start..=self.stop).step_by(self.step as usize)
    }
}

/// Appends the template for one number.
pub(super) fn substitute(template: &str, number: u32, out: &mut String) -> Result<(), &'static str> {
    let mut rest = template;
    while let Some(at) = rest.find(['$', '\\']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        rest = if let Some(after) = tail.strip_prefix("$$") {
            out.push_str("\\$");
            after
        } else if let Some(after) = tail.strip_prefix("${") {
            let (modifiers, after) = after.split_once('}').ok_or("`${` without `}`")?;
            format(modifiers, number, out)?;
            after
        } else if let Some(after) = tail.strip_prefix('$') {
            out.push_str(&number.to_string());
            after
        } else {
            let escape = tail.chars().take(2).map(char::len_utf8).sum();
            out.push_str(&tail[..escape]);
            &tail[escape..]
        };
    }
    out.push_str(rest);
    Ok(())
}

/// One number by `offset[,width[,base]]`.
fn format(modifiers: &str, number: u32, out: &mut String) -> Result<(), &'static str> {
    const BAD: &str = "bad modifiers, allowed is ${offset,width,base} with base d, o, x, X, n or N";
    let mut parts = modifiers.splitn(3, ',');
    let offset: i64 = parts.next().and_then(|part| part.parse::<i32>().ok()).ok_or(BAD)?.into();
    let width: usize = parts.next().map_or(Some(0), |part| part.parse().ok()).ok_or(BAD)?;
    if width > MAX_WIDTH {
        return Err("a width beyond 255");
    }
    let number = u64::try_from(i64::from(number) + offset).map_err(|_| "the offset makes the number negative")?;
    match parts.next().unwrap_or("d") {
        "d" => out.push_str(&format!("{number:0width$}")),
        "o" => out.push_str(&format!("{number:0width$o}")),
        "x" => out.push_str(&format!("{number:0width$x}")),
        "X" => out.push_str(&format!("{number:0width$X}")),
        "n" => nibbles(&format!("{number:x}"), width, out),
        "N" => nibbles(&format!("{number:X}"), width, out),
        _ => return Err(BAD),
    }
    Ok(())
}

/// Digits in reverse with dots between; the width counts the dots, as in BIND.
fn nibbles(digits: &str, width: usize, out: &mut String) {
    let mut digits = digits.chars().rev().peekable();
    let mut left = width;
    loop {
        out.push(digits.next().unwrap_or('0'));
        left = left.saturating_sub(1);
        if left > 0 || digits.peek().is_some() {
            out.push('.');
            left = left.saturating_sub(1);
        }
        if left == 0 && digits.peek().is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutes() {
        for (template, number, expected) in [
            ("host$", 7, Some("host7")),
            ("$.$", 7, Some("7.7")),
            ("a$$b", 7, Some("a\\$b")),
            ("a\\$b$", 7, Some("a\\$b7")),
            ("a\\\\$", 7, Some("a\\\\7")),
            ("\\é$", 7, Some("\\é7")),
            ("${10}", 7, Some("17")),
            ("${-7}", 7, Some("0")),
            ("${-8}", 7, None),
            ("${0,3}", 7, Some("007")),
            ("${0,3,d}x", 1234, Some("1234x")),
            ("${0,4,x}", 171, Some("00ab")),
            ("${0,4,X}", 171, Some("00AB")),
            ("${0,0,o}", 8, Some("10")),
            ("${0,3,n}", 0xab, Some("b.a")),
            ("${0,7,n}", 0xab, Some("b.a.0.0")),
            ("${0,7,N}", 0xab, Some("B.A.0.0")),
            ("${0,1,n}", 0xab, Some("b.a")),
            ("${0,4,q}", 1, None),
            ("${0,256,d}", 1, None),
            ("${0", 1, None),
            ("${}", 1, None),
            ("\\", 1, Some("\\")),
        ] {
            let mut out = String::new();
            let done = substitute(template, number, &mut out);
            assert_eq!(done.is_ok().then_some(out.as_str()), expected, "{template}");
        }
    }

    #[test]
    fn counts() {
        for (text, count) in [
            ("1-3", Some(3)),
            ("0-0", Some(1)),
            ("0-10/5", Some(3)),
            ("0-65535", Some(65_536)),
            ("0-65536", None),
            ("0-2147483647/65536", Some(32_768)),
            ("3-1", None),
            ("1-3/0", None),
            ("1", None),
            ("+1-3", None),
            ("0-4294967295", None),
            ("-1-3", None),
        ] {
            assert_eq!(Range::parse(text).ok().map(|range| range.numbers().count()), count, "{text}");
        }
    }
}
