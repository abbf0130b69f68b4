//! `waymark explain`: why does this client get this answer?

use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;

use super::{ControlArg, End, load, output};
use crate::admin::client::{self, Failure, Place};
use crate::admin::explain::{self as question, WhyQuestion};
use crate::control::World;
use crate::control::explain::{Ask, Explanation, offline};
use crate::dns::{Name, RecordType};

/// Show every stage of an answer: whose address decides, its place, the map entry and fences, the regions in order, who
/// is eligible and who is picked. Works from the configuration alone, in which everything is up unless --down says
/// otherwise; with --live or --server from what a running server knows
#[derive(Args, Debug)]
pub(super) struct Explain {
    /// The name to ask for, absolute with or without the final dot
    #[arg(value_parser = question::name)]
    name: Name,
    /// The type to ask for
    #[arg(default_value = "A", value_parser = question::rtype)]
    rtype: RecordType,
    /// The client: a prefix as EDNS Client Subnet would say it, or an address
    #[arg(long, value_name = "PREFIX", value_parser = question::client, required_unless_present = "resolver")]
    client: Option<IpNet>,
    /// The resolver that asks; without --client it sends no client subnet [default: one that may name any client]
    #[arg(long, value_name = "ADDRESS")]
    resolver: Option<IpAddr>,
    /// What is down: region/eu-west, pool/web, instance/web/eu-1, globs allowed; may be repeated
    #[arg(long, value_name = "TARGET")]
    down: Vec<String>,
    /// Ask the running server: its configuration, health, overrides
    #[arg(long)]
    live: bool,
    /// Ask the server whose API is there, http://127.0.0.1:8053
    #[arg(long, value_name = "URL", conflicts_with_all = ["live", "control"])]
    server: Option<String>,
    /// Seed of random draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the explanation as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArg,
}

impl Explain {
    pub(super) fn run(self) -> End {
        let Explain { name, rtype, client, resolver, down, seed, .. } = &self;
        let ask = Ask { name: name.clone(), rtype: *rtype, client: *client, resolver: *resolver, seed: *seed };
        let question = WhyQuestion { ask, down: down.clone() };
        if let Err(problem) = question.check() {
            output::error(&problem);
            return End::Wrong;
        }
        match &self.server {
            Some(server) => self.of_server(server, &question),
            // A control socket is named for nothing else.
            None if self.live || self.control.control.is_some() => self
                .control
                .ask(|socket| client::explain(&Place::Socket(socket), &question), |explanation| self.show(explanation)),
            None => self.of_configuration(&question),
        }
    }

    fn of_server(&self, server: &str, question: &WhyQuestion) -> End {
        let place = match Place::server(server) {
            Ok(place) => place,
            Err(problem) => {
                output::error(&format!("--server {server}: {problem}"));
                return End::Wrong;
            }
        };
        match client::explain(&place, question) {
            Ok(explanation) => {
                self.show(&explanation);
                End::Done
            }
            Err(failure) => {
                let place = if matches!(failure, Failure::Refused(_)) { String::new() } else { format!("{server}: ") };
                output::error(&format!("{place}{failure}"));
                if failure.is_wrong() { End::Wrong } else { End::Failed }
            }
        }
    }

    fn of_configuration(&self, question: &WhyQuestion) -> End {
        let configuration = match load(&self.control.config.path()) {
            Ok(configuration) => configuration,
            Err(end) => return end,
        };
        let world = World::compile(configuration);
        let WhyQuestion { ask, down } = question;
        if let Some(unknown) = down.iter().find(|name| world.fleet().named(name).is_empty()) {
            output::error(&format!(
                "--down {unknown}: matches nothing; allowed are region/NAME, pool/NAME, instance/POOL/NAME and globs of them"
            ));
            return End::Wrong;
        }
        self.show(&offline(&world, ask, down));
        End::Done
    }

    fn show(&self, explanation: &Explanation) {
        if self.json { output::json(explanation) } else { print(explanation) }
    }
}

fn print(explanation: &Explanation) {
    let Explanation { name, rtype, client, resolver, .. } = explanation;
    let by = resolver.as_ref().filter(|resolver| *resolver != client);
    let by = by.map_or(String::new(), |resolver| format!(" by resolver {resolver}"));
    output::line(&format!("{name} {rtype} for client {client}{by}"));
    let width = explanation.stages.iter().map(|stage| stage.stage.len()).max().unwrap_or(0);
    for stage in &explanation.stages {
        output::line(&format!("  {:width$}  {}", stage.stage, stage.text));
    }
}
