//! `waymark explain`: why does this client get this answer?

use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;

use super::{ConfigArg, End, load, output};
use crate::control::World;
use crate::control::explain::{Ask, Explanation, explain};
use crate::dns::{Name, RecordType};

/// Show every stage of an answer: whose address decides, its place, the map entry and fences, the regions in order, who
/// is eligible and who is picked. Works from the configuration alone: everything is up unless --down says otherwise
#[derive(Args, Debug)]
pub(super) struct Explain {
    /// The name to ask for, absolute with or without the final dot
    #[arg(value_parser = parse_name)]
    name: Name,
    /// The type to ask for
    #[arg(default_value = "A", value_parser = parse_type)]
    rtype: RecordType,
    /// The client: a prefix as EDNS Client Subnet would say it, or an address
    #[arg(long, value_name = "PREFIX", value_parser = parse_client)]
    client: IpNet,
    /// What is down: region/eu-west, pool/web, instance/web/eu-1, globs allowed; may be repeated
    #[arg(long, value_name = "TARGET")]
    down: Vec<String>,
    /// Seed of random draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the explanation as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

fn parse_name(text: &str) -> Result<Name, String> {
    Name::parse(text, None).map_err(|problem| problem.to_string())
}

fn parse_type(text: &str) -> Result<RecordType, String> {
    RecordType::parse(text).ok_or_else(|| "no record type; allowed are A, AAAA, TXT …, or TYPE65280".into())
}

fn parse_client(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.ok_or_else(|| "no address or prefix; allowed are 203.0.113.0/24, 2001:db8::/56, 203.0.113.7".into())
}

impl Explain {
    pub(super) fn run(self) -> End {
        let configuration = match load(&self.config.path()) {
            Ok(configuration) => configuration,
            Err(end) => return end,
        };
        let world = World::compile(configuration);
        if let Some(unknown) = self.down.iter().find(|name| world.fleet().named(name).is_empty()) {
            output::error(&format!(
                "--down {unknown}: matches nothing; allowed are region/NAME, pool/NAME, instance/POOL/NAME and globs of them"
            ));
            return End::Wrong;
        }
        let ask = Ask { name: self.name, rtype: self.rtype, client: self.client, seed: self.seed };
        let explanation = explain(&world, &world.offline(&self.down), &ask);
        if self.json {
            output::json(&explanation);
        } else {
            print(&explanation);
        }
        End::Done
    }
}

fn print(explanation: &Explanation) {
    output::line(&format!("{} {} for client {}", explanation.name, explanation.rtype, explanation.client));
    let width = explanation.stages.iter().map(|stage| stage.stage.len()).max().unwrap_or(0);
    for stage in &explanation.stages {
        output::line(&format!("  {:width$}  {}", stage.stage, stage.text));
    }
}
