//! Command after command from standard input; after each kill and revive, what changes until it has settled.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{Instant, sleep};

use super::Ports;
use super::backends::Backends;
use super::command::Command;
use super::scratch::Scratch;
use super::screen::{self, Tries};
use super::sight::{Eyes, Sight};
use super::site::Site;
use crate::cli::output;
use crate::control::Changes;

/// Time between two looks at what changes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// How long changes are waited for.
const LONGEST_WATCH: Duration = Duration::from_secs(8);
/// Looks in a row without news after which nothing more is expected.
const CALM_LOOKS: u32 = 2;

/// The user and the demo, talking.
#[derive(Debug)]
pub(super) struct Conversation {
    backends: Backends,
    eyes: Eyes,
    /// As last seen.
    seen: Sight,
    tries: Tries,
    /// Somebody types and reads; otherwise commands are repeated, so that the output can be read alone.
    by_hand: bool,
}

impl Conversation {
    /// Greets, and shows what there is.
    pub(super) async fn new(
        site: Site,
        backends: Backends,
        changes: Changes,
        ports: Ports,
        scratch: &Scratch,
    ) -> io::Result<Conversation> {
        screen::welcome(&site, ports);
        let mut eyes = Eyes::new(site, changes, ports.dns).await?;
        let seen = eyes.look().await;
        let tries = Tries::new(ports, scratch);
        let by_hand = io::stdin().is_terminal() && io::stdout().is_terminal();
        let mut conversation = Conversation { backends, eyes, seen, tries, by_hand };
        conversation.show().await;
        conversation.tries.show();
        screen::help();
        Ok(conversation)
    }

    /// Obeys until told to quit. When no more commands can come, it stays for ever, unless somebody sat at a terminal.
    pub(super) async fn hold(mut self) {
        let mut input = BufReader::new(tokio::io::stdin());
        let mut line = Vec::new();
        loop {
            self.prompt();
            line.clear();
            match input.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&line);
            if !self.by_hand {
                output::line(&format!("\ndemo> {}", line.trim_end()));
            }
            match Command::parse(&line, &self.eyes.site) {
                Ok(Some(Command::Quit)) => return,
                Ok(Some(command)) => self.obey(command).await,
                Ok(None) => {}
                Err(problem) => output::line(&problem),
            }
        }
        if io::stdin().is_terminal() {
            // The prompt stands there still.
            return output::line("");
        }
        output::line("\nNo more commands can come (end of input): serving until Ctrl-C or SIGTERM.");
        std::future::pending().await
    }

    fn prompt(&self) {
        if self.by_hand {
            let mut out = io::stdout().lock();
            let _ = write!(out, "\ndemo> ").and_then(|()| out.flush());
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Kill(instances) => self.kill(&instances).await,
            Command::Revive(instances) => self.revive(&instances).await,
            Command::Show => self.show().await,
            Command::Try => self.tries.show(),
            Command::Help => screen::help(),
            Command::Quit => {}
        }
    }

    async fn show(&mut self) {
        self.seen = self.eyes.look().await;
        screen::health(&self.eyes.site, &self.backends, &self.seen);
        screen::answers(&mut self.eyes).await;
    }

    async fn kill(&mut self, instances: &[usize]) {
        let mut is_news = false;
        for &index in instances {
            if self.backends.kill(index).await {
                is_news = true;
                let placed = &self.eyes.site.instances[index];
                output::line(&format!("{} is killed: {} refuses connections", placed.name, placed.address));
            }
        }
        self.watch_if(is_news, "killed").await;
    }

    async fn revive(&mut self, instances: &[usize]) {
        let mut is_news = false;
        for &index in instances {
            let revived = self.backends.revive(index).await;
            let placed = &self.eyes.site.instances[index];
            match revived {
                Ok(false) => continue,
                Ok(true) => output::line(&format!("{} is alive: {} answers", placed.name, placed.address)),
                Err(problem) => output::line(&format!("{} cannot be revived: {problem}", placed.name)),
            }
            is_news = true;
        }
        self.watch_if(is_news, "alive").await;
    }

    async fn watch_if(&mut self, is_news: bool, state: &str) {
        if is_news {
            self.watch().await;
        } else {
            output::line(&format!("Nothing to do: {state} already."));
        }
    }

    /// Tells every change of health, and of what clients of the watched service are answered.
    async fn watch(&mut self) {
        let began = Instant::now();
        let mut calm = 0;
        while calm < CALM_LOOKS {
            if began.elapsed() > LONGEST_WATCH {
                return output::line("Not all is settled yet; `show` says how it stands.");
            }
            sleep(BETWEEN_LOOKS).await;
            let now = self.eyes.look().await;
            for change in now.changes_since(&self.seen, &self.eyes.site, &self.eyes.clients) {
                output::line(&format!("  +{:.1} s  {change}", began.elapsed().as_secs_f64()));
            }
            let is_calm = now == self.seen && now.knows(&self.backends);
            calm = if is_calm { calm + 1 } else { 0 };
            self.seen = now;
        }
        output::line("Settled. Resolvers ask again within 5 s, the TTL of the answers.");
    }
}
