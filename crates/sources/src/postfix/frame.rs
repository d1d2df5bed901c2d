//! What stands around a line: RFC 3164, Postfix's own logger, ISO stamps, RFC 5424, journald's JSON, a container's JSON.

use std::borrow::Cow;

use proof::time::UnixMillis;

use super::scan::Scan;

/// When a line says it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// With year and zone.
    At(UnixMillis),
    /// Local time without a year.
    Yearless {
        /// 1 to 12.
        month: u8,
        /// 1 to 31.
        day: u8,
        /// Milliseconds since midnight.
        time_ms: u32,
    },
}

impl Stamp {
    /// The moment meant, for a line that was seen at `seen` and written in a zone `east_minutes` east of UTC.
    ///
    /// A stamp without a year means the year that puts it nearest to, but at most a day after, `seen`. `None` if no
    /// year has such a day.
    pub fn resolve(&self, seen: UnixMillis, east_minutes: i32) -> Option<UnixMillis> {
        const DAY_MS: u64 = 86_400_000;
        let (month, day, time_ms) = match *self {
            Stamp::At(at) => return Some(at),
            Stamp::Yearless { month, day, time_ms } => (month, day, time_ms),
        };
        let (this_year, _, _) = UnixMillis(seen.0 + DAY_MS).civil();
        // Nine years: between two 29ths of February there may be eight.
        (0..9).find_map(|back| {
            let year = i64::from(this_year) - back;
            let days = proof::time::days_from_civil(year, i64::from(month), i64::from(day));
            let midnight = UnixMillis(u64::try_from(days).ok()?.checked_mul(DAY_MS)?);
            if midnight.civil() != (u16::try_from(year).ok()?, month, day) {
                return None;
            }
            let local = i64::try_from(midnight.0).ok()? + i64::from(time_ms) - i64::from(east_minutes) * 60_000;
            let at = UnixMillis(u64::try_from(local).ok()?);
            (at.0 <= seen.0 + DAY_MS).then_some(at)
        })
    }
}

/// Which program wrote a line: `instance/service/daemon`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program<'a> {
    /// The first label: which Postfix on this host.
    pub instance: &'a [u8],
    /// What stands between, such as `submission`; often empty.
    pub service: &'a [u8],
    /// The last label: which daemon.
    pub daemon: &'a [u8],
}

impl<'a> Program<'a> {
    fn parse(name: &'a [u8]) -> Program<'a> {
        let first = memchr::memchr(b'/', name).unwrap_or(name.len());
        match memchr::memrchr(b'/', name) {
            None => Program { instance: name, service: b"", daemon: name },
            Some(last) => Program {
                instance: &name[..first],
                service: name.get(first + 1..last).unwrap_or_default(),
                daemon: &name[last + 1..],
            },
        }
    }
}

/// A line taken out of its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framed<'a> {
    /// When.
    pub stamp: Stamp,
    /// On which host; empty where the frame has none.
    pub host: Cow<'a, [u8]>,
    /// The program's name as it stands.
    program: Cow<'a, [u8]>,
    /// Its process, 0 where the frame has none.
    pub pid: u32,
    /// What it said.
    pub text: Cow<'a, [u8]>,
    /// How often, where syslog folded repeats.
    pub times: u32,
}

impl Framed<'_> {
    /// Whether the program's name has labels, as those of Postfix have.
    pub fn is_labelled(&self) -> bool {
        self.program.contains(&b'/')
    }

    /// Which program.
    pub fn program(&self) -> Program<'_> {
        Program::parse(&self.program)
    }
}

/// Takes a line out of its frame; `None` if it has none that is known. A `\r` at the end is dropped.
pub fn frame(line: &[u8]) -> Option<Framed<'_>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.first()? {
        b'{' => json(line),
        b'<' => {
            let mut scan = Scan::new(&line[1..]);
            scan.number().filter(|priority| *priority < 192)?;
            scan.eat(b">")?;
            match scan.eat(b"1 ") {
                Some(()) => rfc5424(scan),
                None => bsd(scan),
            }
        }
        _ => bsd(Scan::new(line)),
    }
}

/// `Jan  5 02:03:04 mx1 postfix/smtp[123]: text`, the same with a padded day, or with an ISO stamp.
fn bsd<'a>(mut scan: Scan<'a>) -> Option<Framed<'a>> {
    let stamp = if scan.rest.first()?.is_ascii_digit() {
        Stamp::At(UnixMillis::parse(scan.until(b" ")?).ok()?)
    } else {
        month_stamp(&mut scan)?
    };
    let host = scan.until(b" ")?;
    let program = scan.run(|byte| !matches!(byte, b'[' | b':' | b' '));
    let pid = match scan.eat(b"[") {
        Some(()) => {
            let pid = scan.number()?;
            scan.eat(b"]")?;
            u32::try_from(pid).ok()?
        }
        None => 0,
    };
    scan.eat(b":")?;
    let _ = scan.eat(b" ");
    framed(stamp, host.into(), program.into(), pid, scan.rest.into())
}

fn month_stamp(scan: &mut Scan<'_>) -> Option<Stamp> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let month = MONTHS.iter().position(|name| scan.rest.starts_with(name))? as u8 + 1;
    scan.eat(MONTHS[usize::from(month) - 1])?;
    scan.eat(b" ")?;
    let _ = scan.eat(b" ");
    let mut part = |limit: u64, end: &[u8]| -> Option<u64> {
        let number = scan.number().filter(|number| *number <= limit)?;
        scan.eat(end)?;
        Some(number)
    };
    let day = part(31, b" ").filter(|day| *day > 0)?;
    let (hour, minute) = (part(23, b":")?, part(59, b":")?);
    let second = scan.number().filter(|second| *second <= 60)?;
    let mut millis = 0;
    if scan.eat(b".").is_some() {
        let digits = scan.run(|byte| byte.is_ascii_digit());
        millis = (0..3).fold(0, |sum, at| sum * 10 + digits.get(at).map_or(0, |digit| u64::from(digit - b'0')));
    }
    scan.eat(b" ")?;
    let time_ms = (((hour * 60 + minute) * 60 + second) * 1000 + millis) as u32;
    Some(Stamp::Yearless { month, day: day as u8, time_ms })
}

/// `2026-01-05T02:03:04.1Z mx1 postfix/smtp 123 - - text`; structured data is gone over.
fn rfc5424<'a>(mut scan: Scan<'a>) -> Option<Framed<'a>> {
    let stamp = Stamp::At(UnixMillis::parse(scan.until(b" ")?).ok()?);
    let host = scan.until(b" ")?;
    let program = scan.until(b" ")?;
    let pid = scan.until(b" ")?;
    let pid = std::str::from_utf8(pid).ok().and_then(|pid| pid.parse().ok()).unwrap_or(0);
    scan.until(b" ")?;
    if scan.eat(b"-").is_none() {
        while scan.eat(b"[").is_some() {
            element(&mut scan)?;
        }
    }
    let _ = scan.eat(b" ");
    let _ = scan.eat(b"\xef\xbb\xbf");
    let host: &[u8] = if host == b"-" { b"" } else { host };
    framed(stamp, host.into(), program.into(), pid, scan.rest.into())
}

/// Goes to the end of one structured-data element: quotes may hide a bracket, a backslash may hide a quote.
fn element(scan: &mut Scan<'_>) -> Option<()> {
    let mut quoted = false;
    let mut at = 0;
    loop {
        match (scan.rest.get(at)?, quoted) {
            (b'\\', true) => at += 1,
            (b'"', _) => quoted = !quoted,
            (b']', false) => {
                scan.rest = &scan.rest[at + 1..];
                return Some(());
            }
            _ => {}
        }
        at += 1;
    }
}

/// journald's export as JSON, or a container runtime's `{"log":"...","time":"..."}` around a line of another frame.
fn json(line: &[u8]) -> Option<Framed<'static>> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    if let Some(log) = value.get("log").and_then(|log| log.as_str()) {
        return frame(log.trim_end_matches('\n').as_bytes()).map(|inner| Framed {
            stamp: inner.stamp,
            host: Cow::Owned(inner.host.into_owned()),
            program: Cow::Owned(inner.program.into_owned()),
            pid: inner.pid,
            text: Cow::Owned(inner.text.into_owned()),
            times: inner.times,
        });
    }
    let text = |name: &str| value.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let micros: u64 = text("__REALTIME_TIMESTAMP").parse().ok()?;
    let message = match value.get("MESSAGE")? {
        serde_json::Value::String(text) => text.clone().into_bytes(),
        // What is not clean UTF-8 comes as its bytes.
        serde_json::Value::Array(bytes) => {
            bytes.iter().map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect::<Option<_>>()?
        }
        _ => Vec::new(),
    };
    let pid = [text("SYSLOG_PID"), text("_PID")].iter().find_map(|pid| pid.parse().ok()).unwrap_or(0);
    let program = text("SYSLOG_IDENTIFIER").as_bytes().to_vec();
    let host = text("_HOSTNAME").as_bytes().to_vec();
    framed(Stamp::At(UnixMillis(micros / 1000)), host.into(), program.into(), pid, message.into())
}

fn framed<'a>(
    stamp: Stamp,
    host: Cow<'a, [u8]>,
    program: Cow<'a, [u8]>,
    pid: u32,
    text: Cow<'a, [u8]>,
) -> Option<Framed<'a>> {
    if program.is_empty() {
        return None;
    }
    let mut framed = Framed { stamp, host, program, pid, text, times: 1 };
    // rsyslog folds what repeats.
    let mut scan = Scan::new(&framed.text);
    let folded = scan.eat(b"message repeated ").and_then(|()| {
        let times = scan.number()?;
        scan.eat(b" times: [ ")?;
        Some((u32::try_from(times).ok()?, scan.rest.strip_suffix(b"]")?.to_vec()))
    });
    if let Some((times, text)) = folded {
        (framed.times, framed.text) = (times, text.into());
    }
    Some(framed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse(text.as_bytes()).expect("a time")
    }

    /// Time, host, instance, service, daemon, pid and text, as one line.
    fn shown(line: &[u8]) -> String {
        let Some(framed) = frame(line) else { return "no frame".into() };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let program = framed.program();
        let time = framed.stamp.resolve(at("2026-02-01T12:00:00Z"), 60).expect("a day").rfc3339();
        format!(
            "{time} {} {}|{}|{} {} x{} {}",
            text(&framed.host),
            text(program.instance),
            text(program.service),
            text(program.daemon),
            framed.pid,
            framed.times,
            text(&framed.text)
        )
    }

    #[test]
    fn every_framing_gives_the_same_line() {
        let expected = "2026-01-05T02:03:04.000Z mx1 postfix||smtp 123 x1 A: b";
        for line in [
            "Jan  5 03:03:04 mx1 postfix/smtp[123]: A: b",
            "Jan 05 03:03:04 mx1 postfix/smtp[123]: A: b\r",
            "<22>Jan  5 03:03:04 mx1 postfix/smtp[123]: A: b",
            "2026-01-05T03:03:04.000000+01:00 mx1 postfix/smtp[123]: A: b",
            "<22>1 2026-01-05T02:03:04.0Z mx1 postfix/smtp 123 - - A: b",
            r#"<22>1 2026-01-05T02:03:04Z mx1 postfix/smtp 123 ID [a@1 b="\"]"][c@1] A: b"#,
            r#"{"__REALTIME_TIMESTAMP":"1767578584000123","SYSLOG_IDENTIFIER":"postfix/smtp","_PID":"123","_HOSTNAME":"mx1","MESSAGE":"A: b"}"#,
            r#"{"__REALTIME_TIMESTAMP":"1767578584000123","SYSLOG_IDENTIFIER":"postfix/smtp","SYSLOG_PID":"123","_PID":"9","_HOSTNAME":"mx1","MESSAGE":[65,58,32,98]}"#,
            r#"{"log":"Jan 05 03:03:04 mx1 postfix/smtp[123]: A: b\n","stream":"stdout","time":"2026-01-05T02:03:04Z"}"#,
        ] {
            assert_eq!(shown(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn programs_repeats_and_strangers() {
        for (line, expected) in [
            ("Jan  5 03:03:04 h postfix/submission/smtpd[1]: x", "h postfix|submission|smtpd 1 x1 x"),
            ("Jan  5 03:03:04 h postfix-239.58.50.50/smtpd[1]: x", "h postfix-239.58.50.50||smtpd 1 x1 x"),
            (
                "Jan  5 03:03:04 h systemd-journald[7]: Suppressed 5 messages",
                "h systemd-journald||systemd-journald 7 x1 Suppressed 5 messages",
            ),
            ("Jan  5 03:03:04 h postfix/smtp[1]: message repeated 3 times: [ A: b]", "h postfix||smtp 1 x3 A: b"),
            ("Jan  5 03:03:04 h postfix/smtp[1]:", "h postfix||smtp 1 x1 "),
        ] {
            assert_eq!(shown(line.as_bytes()).split_once(' ').map(|(_, rest)| rest), Some(expected), "{line}");
        }
        for line in [
            "",
            "{",
            "{}",
            "<",
            "<999>Jan  5 03:03:04 h p[1]: x",
            "Foo  5 03:03:04 h p[1]: x",
            "Jan  5 25:03:04 h p[1]: x",
            "Jan  5 03:03:04 h",
        ] {
            assert_eq!(shown(line.as_bytes()), "no frame", "{line}");
        }
    }

    #[test]
    fn a_year_is_inferred_nearest_before_with_a_day_to_spare() {
        let resolve = |month, day, seen: &str| {
            Stamp::Yearless { month, day, time_ms: 0 }.resolve(at(seen), 120).map(UnixMillis::rfc3339)
        };
        assert_eq!(resolve(12, 31, "2026-01-01T00:00:05Z").as_deref(), Some("2025-12-30T22:00:00.000Z"));
        assert_eq!(resolve(1, 1, "2025-12-31T23:00:00Z").as_deref(), Some("2025-12-31T22:00:00.000Z"));
        assert_eq!(resolve(1, 3, "2025-12-31T23:00:00Z").as_deref(), Some("2025-01-02T22:00:00.000Z"));
        assert_eq!(resolve(2, 29, "2026-03-01T00:00:00Z").as_deref(), Some("2024-02-28T22:00:00.000Z"));
        assert_eq!(resolve(2, 30, "2026-03-01T00:00:00Z"), None);
    }
}
