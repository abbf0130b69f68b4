//! `GET /v1/explain?name=&type=&client=&resolver=&down=&seed=`: why a client gets what it gets from this node now (SPEC
//! 8.4). `down` may be repeated. A refusal is a [`Refusal`] as JSON.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use reqwest::Url;
use tokio::sync::{Semaphore, oneshot};

use super::Api;
use super::overrides::{gone, refuse};
use crate::control::explain::{Ask, Look};
use crate::control::{Change, Refusal, RefusalCode};
use crate::dns::{Name, RecordType};

/// Most explanations at once: each costs a core for a moment.
static EXPLAINING: Semaphore = Semaphore::const_new(2);
/// Most targets to be taken for down.
const MOST_DOWN: usize = 20;
/// Longest value of a parameter, in octets.
const LONGEST: usize = 1024;
const PARAMETERS: &str = "name, type, client, resolver, down, seed";
const TARGETS: &str = "there are region/NAME, pool/NAME, instance/POOL/NAME, with * for any characters of a name";

/// What is asked.
#[derive(Clone, Debug)]
pub struct WhyQuestion {
    /// Of which answer.
    pub ask: Ask,
    /// What is taken for down, `region/eu-west`.
    pub down: Vec<String>,
}

/// A client, `203.0.113.0/24` or `203.0.113.7`.
///
/// # Errors
/// In words, when it is none.
pub fn client(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.ok_or_else(|| "no address or prefix; allowed are 203.0.113.0/24, 2001:db8::/56, 203.0.113.7".into())
}

/// A name, absolute with or without the final dot.
///
/// # Errors
/// In words, when it is none.
pub fn name(text: &str) -> Result<Name, String> {
    Name::parse(text, None).map_err(|problem| problem.to_string())
}

/// A record type.
///
/// # Errors
/// In words, when it is none.
pub fn rtype(text: &str) -> Result<RecordType, String> {
    RecordType::parse(text).ok_or_else(|| "no record type; allowed are A, AAAA, TXT …, or TYPE65280".into())
}

impl WhyQuestion {
    /// As parameters of a request.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let Ask { name, rtype, client, resolver, seed } = &self.ask;
        let client = client.map(|client| ("client", client.to_string()));
        let resolver = resolver.map(|resolver| ("resolver", resolver.to_string()));
        let fixed = [("name", name.to_plain()), ("type", rtype.to_string()), ("seed", seed.to_string())];
        let down = self.down.iter().map(|down| ("down", down.clone()));
        fixed.into_iter().chain(client).chain(resolver).chain(down).collect()
    }

    /// Whether there is a client at all.
    ///
    /// # Errors
    /// In words, when there is none, or too much is down.
    pub fn check(&self) -> Result<(), String> {
        if self.ask.client.is_none() && self.ask.resolver.is_none() {
            return Err("whose answer? give a client, or a resolver that sends no client subnet, or both".into());
        }
        if self.down.len() > MOST_DOWN {
            return Err(format!("down: at most {MOST_DOWN} of them"));
        }
        Ok(())
    }

    fn parse(query: &str) -> Result<WhyQuestion, String> {
        let url = Url::parse(&format!("http://localhost/?{query}")).map_err(|error| error.to_string())?;
        let mut asked = None;
        let mut question = WhyQuestion {
            ask: Ask { name: Name::root(), rtype: RecordType::A, client: None, resolver: None, seed: 0 },
            down: Vec::new(),
        };
        for (key, value) in url.query_pairs() {
            let said = |problem: String| format!("{key}: {problem}");
            if value.len() > LONGEST {
                return Err(said(format!("more than {LONGEST} octets")));
            }
            let ask = &mut question.ask;
            match &*key {
                "name" => asked = Some(name(&value).map_err(said)?),
                "type" => ask.rtype = rtype(&value).map_err(said)?,
                "client" => ask.client = Some(client(&value).map_err(said)?),
                "resolver" => ask.resolver = Some(value.parse().map_err(|_| said(format!("{value:?} is no address")))?),
                "seed" => ask.seed = value.parse().map_err(|_| said(format!("{value:?} is no whole number")))?,
                "down" => question.down.push(value.into_owned()),
                _ => return Err(format!("{key:?} is no parameter; there are {PARAMETERS}")),
            }
        }
        question.ask.name = asked.ok_or("name: it is missing")?;
        question.check()?;
        Ok(question)
    }
}

pub(super) async fn explain(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let example = "as /v1/explain?name=www.example.com&type=A&client=203.0.113.0/24&down=region/eu-west";
    let WhyQuestion { ask, down } = match WhyQuestion::parse(&query.unwrap_or_default()) {
        Ok(question) => question,
        Err(problem) => return refuse(&Refusal::new(RefusalCode::Wrong, problem, Some(example))),
    };
    let Ok(permit) = EXPLAINING.try_acquire() else {
        let busy = "other answers are being explained";
        return refuse(&Refusal::new(RefusalCode::Busy, busy, Some("try again in a moment")));
    };
    let (reply, answer) = oneshot::channel();
    let look = Look { name: ask.name.clone(), rtype: ask.rtype, judges: !down.is_empty(), reply };
    let sent = api.changes.send(Change::Look(Box::new(look))).await;
    let Ok(live) = answer.await else { return refuse(&gone()) };
    if sent.is_err() {
        return refuse(&gone());
    }
    let explained = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        match live.unknown(&down) {
            Some(unknown) => {
                Err(Refusal::new(RefusalCode::NotFound, format!("down: {unknown} names nothing"), Some(TARGETS)))
            }
            None => Ok(live.explain(&ask, &down)),
        }
    });
    match explained.await {
        Ok(Ok(explanation)) => Json(explanation).into_response(),
        Ok(Err(refusal)) => refuse(&refusal),
        Err(_) => refuse(&Refusal::new(RefusalCode::Busy, "explaining failed inside", None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_go_and_come() {
        let query = "name=www.example.com&type=aaaa&client=2001:db8::/56&resolver=192.0.2.53&down=region/eu&down=pool%2Fa%26b&seed=7";
        let question = WhyQuestion::parse(query).expect("well-formed");
        assert_eq!(question.down, ["region/eu", "pool/a&b"]);
        let mut url = Url::parse("http://localhost").expect("a URL");
        url.query_pairs_mut().extend_pairs(question.parameters());
        let again = WhyQuestion::parse(url.query().expect("parameters")).expect("well-formed");
        assert_eq!(format!("{again:?}"), format!("{question:?}"));
    }

    #[test]
    fn questions_are_checked() {
        let long = format!("name=a&client=1.2.3.4&down={}", "x".repeat(LONGEST + 1));
        let many = format!("name=a&client=1.2.3.4{}", "&down=x".repeat(MOST_DOWN + 1));
        for (query, problem) in [
            ("", "name: it is missing"),
            ("name=www", "whose answer?"),
            ("name=a..b&client=192.0.2.1", "name: "),
            ("name=www&client=nobody", "client: no address or prefix"),
            ("name=www&client=192.0.2.0/33", "client: no address or prefix"),
            ("name=www&resolver=192.0.2.0/24", "resolver: \"192.0.2.0/24\" is no address"),
            ("name=www&client=192.0.2.1&type=NONSENSE", "type: no record type"),
            ("name=www&client=192.0.2.1&seed=-1", "seed: \"-1\" is no whole number"),
            ("name=www&client=192.0.2.1&nonsense=1", "\"nonsense\" is no parameter"),
            (&long, "down: more than"),
            (&many, "down: at most"),
        ] {
            let said = WhyQuestion::parse(query).expect_err(query);
            assert!(said.contains(problem), "{query}: {said}");
        }
    }
}
