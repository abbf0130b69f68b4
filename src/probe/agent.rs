//! `agent`: what HAProxy calls an agent check. Over TCP an agent says a line of words about its instance, after what it is
//! sent, if it is to be sent something.
//!
//! | word | means |
//! |---|---|
//! | `up` | passes; ends `drain` and `maint`, too |
//! | `down`, `fail`, `failed`, `stopped`, with `#` and why maybe | fails |
//! | `ready` | ends `drain` and `maint` |
//! | `drain`, `maint` | gets no new clients, which is no failure |
//! | `75%` | gets that part of its configured weight; and, where nothing else reports its load, has a load of 25 % |
//! | `maxconn:…` | nothing here |
//!
//! Words are separated by blanks and commas, in any case. What a line does not speak of stays as it was said before: an
//! agent may say `75%` and never of its health, which passes then. A line of which no word is understood fails.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::fleet::Target;
use crate::probe::{Check, Finding, Heard, Probe, reason, socket_address, source_of, tcp};

/// Longest line, in octets.
const LONGEST: usize = 256;
/// The largest part of its weight that an agent can have its instance have, in percent.
const MOST_PERCENT: u16 = 256;

/// The agent of one target.
pub(super) struct Agent {
    send: Vec<u8>,
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
    state: Mutex<State>,
}

/// What the agent has said so far, the last of each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// Why it is down, if it is.
    down: Option<String>,
    drains: bool,
    percent: u16,
}

impl Default for State {
    fn default() -> State {
        State { down: None, drains: false, percent: 100 }
    }
}

/// What one line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    /// `Some(None)` = up, `Some(Some(why))` = down.
    down: Option<Option<String>>,
    drains: Option<bool>,
    percent: Option<u16>,
    is_understood: bool,
}

impl Agent {
    pub(super) fn new(send: &str, check: &Check, target: &Target) -> Agent {
        Agent {
            send: send.as_bytes().to_vec(),
            address: socket_address(target),
            source: source_of(check, target),
            timeout: check.policy.timeout,
            state: Mutex::default(),
        }
    }

    async fn probe(&self) -> Finding {
        match timeout(self.timeout, self.ask()).await {
            Ok(Ok(line)) => self.hear(&line),
            Ok(Err(error)) => reason::of(&error, self.address.ip()),
            Err(_) => reason::timeout(self.timeout, "waiting for a line"),
        }
    }

    /// What the agent says up to the end of the first line, of the connection, or of patience.
    async fn ask(&self) -> io::Result<Vec<u8>> {
        let mut stream = tcp::connect(self.address, self.source).await?;
        stream.write_all(&self.send).await?;
        let mut heard = vec![0; LONGEST + 1];
        let mut length = 0;
        loop {
            let more = match stream.read(&mut heard[length..]).await {
                Ok(more) => more,
                // Who sends a line and resets the connection has said it.
                Err(_) if length > 0 => 0,
                Err(error) => return Err(error),
            };
            let end = heard[length..length + more].iter().position(|octet| matches!(octet, b'\r' | b'\n'));
            length += end.unwrap_or(more);
            if end.is_some() || more == 0 || length == heard.len() {
                heard.truncate(length);
                return Ok(heard);
            }
        }
    }

    fn hear(&self, line: &[u8]) -> Finding {
        if line.len() > LONGEST {
            return Finding::fail(&format!("the agent's line is longer than {LONGEST} octets"));
        }
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        let said = parse(line);
        match line {
            "" => return Finding::fail("the agent said nothing"),
            _ if !said.is_understood => return Finding::fail(&format!("the agent is not understood: {line:?}")),
            _ => {}
        }
        // It is whole at any time.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.follow(&said);
        let part = if state.drains { 0 } else { state.percent };
        let load = said.percent.map(|percent| 100_u16.saturating_sub(percent));
        let finding = match (&state.down, &said.down) {
            (None, _) => Finding::pass(&format!("agent says {line:?}")),
            (Some(_), Some(_)) => Finding::fail(&format!("agent says {line:?}")),
            (Some(why), None) => Finding::fail(&format!("agent says {line:?}, and before {why:?}")),
        };
        Finding { heard: Heard::Agent { part, load }, ..finding }
    }
}

impl State {
    fn follow(&mut self, said: &Said) {
        if let Some(down) = &said.down {
            self.down.clone_from(down);
            self.drains &= down.is_some();
        }
        self.drains = said.drains.unwrap_or(self.drains);
        self.percent = said.percent.unwrap_or(self.percent);
    }
}

impl Probe for Agent {
    fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        Box::pin(self.probe())
    }
}

/// The last word of each sort counts.
fn parse(line: &str) -> Said {
    let (words, _why) = line.split_once('#').unwrap_or((line, ""));
    let mut said = Said::default();
    for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        let lower = word.to_ascii_lowercase();
        match &*lower {
            "up" => said.down = Some(None),
            "down" | "fail" | "failed" | "stopped" => said.down = Some(Some(line.to_string())),
            "ready" => said.drains = Some(false),
            "drain" | "maint" => said.drains = Some(true),
            _ if lower.starts_with("maxconn:") => {}
            _ => match percent(&lower) {
                Some(percent) => said.percent = Some(percent),
                None => continue,
            },
        }
        said.is_understood = true;
    }
    said
}

/// `75%`; beyond the most it is the most.
fn percent(word: &str) -> Option<u16> {
    let digits = word.strip_suffix('%').filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))?;
    let number: u64 = digits.parse().ok()?;
    Some(number.min(MOST_PERCENT.into()) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Outcome;
    use crate::probe::{Kind, backends};

    fn agent(send: &str, address: SocketAddr, timeout: Duration) -> Agent {
        let check = backends::check(Kind::Agent { send: send.into() }, timeout);
        Agent::new(send, &check, &backends::target(address, None))
    }

    fn nobody() -> Agent {
        agent("", "127.0.0.1:1".parse().unwrap(), Duration::from_secs(1))
    }

    /// Line by line: `+` passes, `-` fails; then the part of its weight, and the load.
    #[test]
    fn lines() {
        for (lines, expected) in [
            ("up", "+100"),
            ("75%", "+75 load 25"),
            ("up 75%", "+75 load 25"),
            ("UP\t75%,maxconn:30", "+75 load 25"),
            ("100%", "+100 load 0"),
            ("0%", "+0 load 100"),
            ("256%", "+256 load 0"),
            ("99999999999999999999%", "-"),
            ("1000%", "+256 load 0"),
            ("ready", "+100"),
            ("down#disk full", "-100"),
            ("down # 50% of up", "-100"),
            ("fail", "-100"),
            ("failed", "-100"),
            ("stopped", "-100"),
            ("drain", "+0"),
            ("maint", "+0"),
            ("drain 50%", "+0 load 50"),
            ("up drain", "+0"),
            ("drain down", "-0"),
            ("nonsense up", "+100"),
            ("maxconn:30", "+100"),
            ("up down", "-100"),
            // What is not understood says nothing of weight and load.
            ("", "-"),
            ("   ", "-"),
            ("# up", "-"),
            ("hello", "-"),
            ("75", "-"),
            ("-5%", "-"),
            ("%", "-"),
            ("\u{0}\u{1}\u{ff}", "-"),
            // What a line does not speak of stays.
            ("75%|up", "+75"),
            ("drain|50%", "+0 load 50"),
            ("drain|50%|ready", "+50"),
            ("drain|up", "+100"),
            ("maint|ready up 100%", "+100 load 0"),
            ("down|75%", "-75 load 25"),
            ("down|75%|up", "+75"),
            ("down|ready", "-100"),
            ("50%|hello|up", "+50"),
        ] {
            let agent = nobody();
            let last = lines.split('|').map(|line| agent.hear(line.as_bytes())).last().expect("a line");
            let mark = if last.outcome == Outcome::Pass { "+" } else { "-" };
            let shown = match last.heard {
                Heard::Agent { part, load: Some(load) } => format!("{mark}{part} load {load}"),
                Heard::Agent { part, load: None } => format!("{mark}{part}"),
                _ => mark.into(),
            };
            assert_eq!(shown, expected, "{lines:?}: {}", last.reason);
        }
    }

    #[test]
    fn reasons() {
        let rows = [
            ("up 75%", "agent says \"up 75%\""),
            ("down#disk full", "agent says \"down#disk full\""),
            ("50%", "agent says \"50%\", and before \"down#disk full\""),
            ("hello there", "the agent is not understood: \"hello there\""),
            ("", "the agent said nothing"),
        ];
        let agent = nobody();
        for (line, reason) in rows {
            assert_eq!(&*agent.hear(line.as_bytes()).reason, reason);
        }
        let long = [b'u'; LONGEST + 1];
        assert_eq!(&*agent.hear(&long).reason, "the agent's line is longer than 256 octets");
    }

    #[tokio::test]
    async fn over_tcp() {
        let ample = Duration::from_secs(20);
        let says = |line: &'static [u8]| {
            backends::listen(move |mut stream| async move {
                let _ = stream.write_all(line).await;
            })
        };
        let echo = backends::listen(|mut stream| async move {
            let mut asked = [0; 6];
            let _ = stream.read_exact(&mut asked).await;
            let _ = stream.write_all(if &asked == b"state\n" { b"ready 40%\r\n" } else { b"down\r\n" }).await;
        })
        .await;
        let refusing = backends::refusing().await;
        for (address, send, expected) in [
            (says(b"up 75%\n").await, "", "agent says \"up 75%\""),
            (says(b"up 75%\r\nmore that nobody reads").await, "", "agent says \"up 75%\""),
            (says(b"up 75%").await, "", "agent says \"up 75%\""),
            (says(b"").await, "", "the agent said nothing"),
            (says(b"\n").await, "", "the agent said nothing"),
            (echo, "state\n", "agent says \"ready 40%\""),
            (refusing, "", "connection refused"),
        ] {
            assert_eq!(&*agent(send, address, ample).probe().await.reason, expected);
        }
    }
}
