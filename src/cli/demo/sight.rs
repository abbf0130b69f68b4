//! What can be seen of the running server: health by its status, answers by asking it. Two sights tell what changed.

use std::collections::BTreeMap;
use std::io;

use ipnet::IpNet;
use tokio::sync::oneshot;

use super::backends::Backends;
use super::client::{Client, Resolver};
use super::site::Site;
use crate::control::{Change, Changes, Status};

/// The service whose answers are watched.
pub(super) const WATCHED: &str = "www.gslb.example.com.";
/// Queries for a client in one look: an instance with a quarter of the answers is missed once in a million looks.
const QUERIES: u32 = 48;
/// Looks that may be in vain because the server changed meanwhile.
const MOST_LOOKS: u32 = 4;

/// Looks at the server.
#[derive(Debug)]
pub(super) struct Eyes {
    pub(super) site: Site,
    pub(super) clients: Vec<Client>,
    resolver: Resolver,
    changes: Changes,
}

/// What there is at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sight {
    /// By instance of the site.
    pub(super) health: Vec<Health>,
    /// Services that answer though everything is down, for some clients at least.
    pub(super) failing_open: Vec<String>,
    /// By client: the instances that [`WATCHED`] is answered with.
    pub(super) answers: Vec<Vec<usize>>,
}

/// What the check says of an instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    /// `up`, `down`, `unknown`.
    pub(super) verdict: String,
    /// `status 200`.
    pub(super) reason: String,
}

impl PartialEq for Health {
    /// The reason may change while nothing else does.
    fn eq(&self, other: &Health) -> bool {
        self.verdict == other.verdict
    }
}

impl Eyes {
    pub(super) async fn new(site: Site, changes: Changes, port: u16) -> io::Result<Eyes> {
        Ok(Eyes { site, clients: Client::all(), resolver: Resolver::new(port).await?, changes })
    }

    /// Looks at health and answers of one and the same state of the server, where it holds still for long enough.
    pub(super) async fn look(&mut self) -> Sight {
        let mut status = self.status().await;
        let mut answers = self.answers().await;
        for _ in 1..MOST_LOOKS {
            let after = self.status().await;
            if after.serial == status.serial {
                break;
            }
            status = after;
            answers = self.answers().await;
        }
        let failing = status.services.iter().filter(|service| !service.failing_open.is_empty());
        Sight {
            health: self.health(&status),
            failing_open: failing.map(|service| service.name.clone()).collect(),
            answers,
        }
    }

    /// How often each instance is answered when a client asks `times` times.
    pub(super) async fn sample(&mut self, name: &str, client: IpNet, times: u32) -> BTreeMap<usize, u32> {
        let mut counts = BTreeMap::new();
        for instance in self.in_turn(name, client, times).await {
            *counts.entry(instance).or_default() += 1;
        }
        counts
    }

    /// The instances that a client is answered, query after query.
    pub(super) async fn in_turn(&mut self, name: &str, client: IpNet, times: u32) -> Vec<usize> {
        let mut instances = Vec::new();
        for _ in 0..times {
            // A server that does not answer would make each query wait.
            let Some(addresses) = self.resolver.ask(name, client).await else { break };
            instances.extend(addresses.into_iter().filter_map(|address| self.site.at(address)));
        }
        instances
    }

    async fn answers(&mut self) -> Vec<Vec<usize>> {
        let mut answers = Vec::new();
        for client in self.clients.clone() {
            answers.push(self.sample(WATCHED, client.prefix, QUERIES).await.into_keys().collect());
        }
        answers
    }

    /// Empty once the server has ended.
    async fn status(&self) -> Status {
        let (reply, answer) = oneshot::channel();
        if self.changes.send(Change::Status(reply)).await.is_err() {
            return Status::default();
        }
        answer.await.unwrap_or_default()
    }

    fn health(&self, status: &Status) -> Vec<Health> {
        let instances = status.pools.iter().flat_map(|pool| &pool.instances);
        let addresses: Vec<_> = instances.flat_map(|instance| &instance.addresses).collect();
        let of = |ip| {
            let address = addresses.iter().find(|address| address.address == ip)?;
            let reason = address.checks.first().map_or_else(String::new, |check| check.reason.clone());
            Some(Health { verdict: address.verdict.clone(), reason })
        };
        self.site.instances.iter().map(|placed| of(placed.address.ip()).unwrap_or_default()).collect()
    }
}

impl Sight {
    /// Whether the checks have found out what runs.
    pub(super) fn knows(&self, backends: &Backends) -> bool {
        let right =
            |(index, health): (usize, &Health)| health.verdict == if backends.is_alive(index) { "up" } else { "down" };
        self.health.iter().enumerate().all(right)
    }

    /// What is different from `before`, a line each: health first, it is the cause.
    pub(super) fn changes_since(&self, before: &Sight, site: &Site, clients: &[Client]) -> Vec<String> {
        let health = (site.instances.iter().zip(&self.health).zip(&before.health))
            .filter(|((_, now), before)| now != before)
            .map(|((placed, now), _)| format!("{} is {}: {}", placed.name, now.verdict, now.reason));
        let answers = (clients.iter().zip(&self.answers).zip(&before.answers))
            .filter(|((_, now), before)| now != before)
            .map(|((client, now), before)| {
                let (before, now) = (site.describe(before), site.describe(now));
                format!("{:16} {:10} {before} -> {now}", client.prefix.to_string(), client.place)
            });
        health.chain(self.failing_since(before)).chain(answers).collect()
    }

    fn failing_since(&self, before: &Sight) -> Option<String> {
        if self.failing_open == before.failing_open {
            return None;
        }
        Some(match &self.failing_open[..] {
            [] => "every service serves healthy instances again".into(),
            names => format!(
                "all is down for some clients of {}: they still get the instances lost last (when-all-down)",
                names.iter().map(|name| name.split('.').next().unwrap_or(name)).collect::<Vec<_>>().join(", ")
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::site::tests::site;
    use super::*;

    fn sight(verdicts: [&str; 3], failing_open: &[&str], answers: &[&[usize]]) -> Sight {
        let health = |verdict: &&str| Health { verdict: (*verdict).into(), reason: format!("because {verdict}") };
        Sight {
            health: verdicts.iter().map(health).collect(),
            failing_open: failing_open.iter().map(|name| (*name).into()).collect(),
            answers: answers.iter().map(|instances| instances.to_vec()).collect(),
        }
    }

    #[test]
    fn changes_are_told_cause_first() {
        let clients = Client::all();
        let all_up = sight(["up"; 3], &[], &[&[0, 1], &[2]]);
        assert_eq!(all_up.changes_since(&all_up, &site(), &clients), Vec::<String>::new());
        let lost = sight(["down", "up", "up"], &[], &[&[1], &[2]]);
        assert_eq!(
            lost.changes_since(&all_up, &site(), &clients),
            ["eu-1 is down: because down", "203.0.113.0/24   Germany    eu-west (eu-1, eu-2) -> eu-west (eu-2)"]
        );
        let nothing = sight(["down"; 3], &["www.gslb.example.com", "rr.gslb.example.com"], &[&[1], &[2]]);
        let told = nothing.changes_since(&lost, &site(), &clients);
        assert_eq!(told[..2], ["eu-2 is down: because down", "us-1 is down: because down"]);
        assert!(told[2].contains("clients of www, rr: they still get"), "{told:?}");
        assert!(all_up.changes_since(&nothing, &site(), &clients)[3].contains("healthy instances again"));
    }
}
