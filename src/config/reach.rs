//! Selectors of maps that no client can ever reach, as warnings: for `waymark check` alone, as every place is looked at
//! once more for each map.

use super::Configuration;
use super::value::quoted;
use crate::geo::Atlas;
use crate::problem::{Problem, Span};
use crate::steering::reach::{self, Unreached, Why};

/// Most selectors that are told one by one.
const MAX_TOLD: usize = 20;
/// Most selectors that are looked into: those with a reason in common are told together.
const MAX_LOOKED_INTO: usize = 1_000;
/// Most selectors that are named in one warning.
const MAX_NAMED: usize = 8;

/// Warns of selectors that nobody reaches, given what the networks and data bases in `atlas` say.
#[must_use]
pub fn unreached(configuration: &Configuration, atlas: &Atlas) -> Vec<Problem> {
    let Configuration { maps, services, geo, .. } = configuration;
    let (found, count) = reach::unreached(maps, services, atlas, MAX_LOOKED_INTO);
    let unseen = count - found.len();
    let has_databases = !geo.databases.is_empty();
    let key = |unreached: &Unreached| match unreached.why {
        _ if !has_databases && is_by_place(configuration, unreached) => Some(""),
        Why::NoneOfKind(kind) => Some(kind),
        _ => None,
    };
    let mut groups: Vec<(&str, Vec<&Unreached>)> = Vec::new();
    let mut single = Vec::new();
    for unreached in &found {
        match key(unreached) {
            None => single.push(unreached),
            Some(key) => match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, members)) => members.push(unreached),
                None => groups.push((key, vec![unreached])),
            },
        }
    }
    let span = |unreached: &Unreached| span(configuration, unreached);
    let together = |(kind, members): &(&str, Vec<&Unreached>)| together(kind, members, span(members[0]));
    let mut problems: Vec<Problem> = groups.iter().map(together).collect();
    problems.extend(single.iter().take(MAX_TOLD).map(|one| alone(one, &maps[one.map.0 as usize].name, span(one))));
    let untold = single.len().saturating_sub(MAX_TOLD) + unseen;
    if untold > 0 {
        let last = single.get(MAX_TOLD).or(single.last()).copied().or(found.last());
        let place = last.map_or_else(|| configuration.selectors[0].name, span);
        problems.push(Problem::warning(place, format!("and {untold} more selectors that no client reaches")));
    }
    problems.sort_by_key(|problem| problem.span.map(|span| span.order()));
    problems
}

/// Whether it asks for nothing but what networks and data bases say.
fn is_by_place(configuration: &Configuration, unreached: &Unreached) -> bool {
    let map = &configuration.maps[unreached.map.0 as usize];
    let selector = match unreached.is_fence {
        true => &map.fences[unreached.number].selector,
        false => &map.entries[unreached.number].selector,
    };
    selector.networks().next().is_none()
}

fn span(configuration: &Configuration, unreached: &Unreached) -> Span {
    let spans = &configuration.selectors[unreached.map.0 as usize];
    let those = if unreached.is_fence { &spans.fences } else { &spans.entries };
    those[unreached.number]
}

fn alone(unreached: &Unreached, map: &str, span: Span) -> Problem {
    let what = if unreached.is_fence { "fence " } else { "" };
    let why = match &unreached.why {
        Why::NoneOfKind(kind) => format!("no network or data base says the {kind} of any address"),
        Why::Nobody(words) => format!("no address has {words} in networks or data bases"),
        Why::NotTogether => "no address has all of that together".into(),
        Why::Shadowed(winners, more) => {
            let names: Vec<String> = winners.iter().map(|name| quoted(name).to_string()).collect();
            let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
            format!("always shadowed by {}{more}, which fits its clients better", names.join(", "))
        }
    };
    let message = format!("{what}{} of map \"{map}\" is for nobody: {why}", quoted(&unreached.text));
    Problem::warning(span, message)
}

/// Selectors with one reason; `kind` is what nobody says, empty where nothing but networks says anything.
fn together(kind: &str, members: &[&Unreached], span: Span) -> Problem {
    let names: Vec<String> = members.iter().take(MAX_NAMED).map(|one| quoted(&one.text).to_string()).collect();
    let more = members.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = format!("{}{more}", names.join(", "));
    if kind.is_empty() {
        let message = format!("no data base is configured, and `networks` leaves nobody to {names}");
        return Problem::warning(span, message).hint("name MaxMind DB files in [geo] databases");
    }
    let message = format!("no network or data base says the {kind} of any address; for nobody: {names}");
    Problem::warning(span, message).hint("add a data base that says it to [geo] databases")
}

#[cfg(test)]
mod tests {
    use crate::config::load;
    use crate::geo::mmdb::{Value, Writer, map, text};
    use crate::problem::render;

    use super::*;

    const HEAD: &str = r#"
[server]
listen = ["127.0.0.1:5300"]
[zones."example.com"]
file = "zone"
[regions.a]
[regions.b]
[pools.web.instances]
a1 = { region = "a", address = "192.0.2.1" }
b1 = { region = "b", address = "192.0.2.2" }
[services."www.example.com"]
pool  = "web"
steer = "geo"
map   = "world"
"#;

    /// The warnings of a configuration with these maps, beside a data base of countries, cities and systems.
    fn warnings(geo: &str, maps: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str, octets: &[u8]| std::fs::write(folder.path().join(file), octets).expect("written");
        write("zone", b"$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.53\n");
        write("networks.toml", b"\"198.51.100.0/24\" = { country = \"FR\" }\n");
        let place = |country: &str, city: u32| {
            map([("country", map([("iso_code", text(country))])), ("city", map([("geoname_id", Value::U32(city))]))])
        };
        write(
            "a.mmdb",
            &Writer::new([("1.0.0.0/8", place("DE", 1)), ("2.0.0.0/8", place("US", 2)), ("3.0.0.0/8", place("IT", 3))])
                .write(),
        );
        write("waymark.toml", format!("{geo}{HEAD}{maps}").as_bytes());
        let loaded = load(&folder.path().join("waymark.toml"));
        let shown = render(&loaded.problems, &loaded.sources, false);
        let configuration = loaded.configuration.unwrap_or_else(|| panic!("{shown}"));
        let problems = unreached(&configuration, &Atlas::compile(&configuration.geo));
        let line = |problem: &Problem| {
            let (line, column) = loaded.sources.position(problem.span.as_ref().expect("a place"));
            format!("{line}:{column} {}\n", problem.message)
        };
        problems.iter().map(line).collect()
    }

    const GEO: &str = "geo = { networks = \"networks.toml\", databases = [\"a.mmdb\"] }";

    #[test]
    fn reached_selectors_are_not_told() {
        let maps = r#"
[maps.world]
default = ["*"]
"continent:EU" = ["a"]
"country:DE" = ["b"]
"country:FR" = ["b"]
"city:2" = ["b"]
"10.0.0.0/8" = ["a"]
"1.2.0.0/16,country:DE" = ["a"]
[maps.world.fences]
"country:US" = ["a"]
[maps.unused]
default = ["*"]
"country:AQ" = ["a"]
"#;
        assert_eq!(warnings(GEO, maps), "");
    }

    #[test]
    fn unreached_selectors_are_told_with_the_reason() {
        let maps = r#"
[maps.world]
default = ["*"]
"country:AQ" = ["a"]
"country:US" = ["a"]
"continent:NA" = ["a"]
"city:2" = ["a"]
"country:DE,city:2" = ["a"]
"as:64500" = ["a"]
"as:64501,country:DE" = ["a"]
"10.0.0.0/8" = ["a"]
"10.0.0.0/9" = ["a"]
"10.128.0.0/9" = ["b"]
"2.0.0.0/16,country:DE" = ["a"]
[maps.world.fences]
"city:1" = ["a"]
"city:9" = ["a"]
"#;
        assert_eq!(
            warnings(GEO, maps),
            "18:1 \"country:AQ\" of map \"world\" is for nobody: no address has country AQ in networks or data bases\n\
             19:1 \"country:US\" of map \"world\" is for nobody: always shadowed by \"city:2\", which fits its clients \
             better\n\
             20:1 \"continent:NA\" of map \"world\" is for nobody: always shadowed by \"city:2\", which fits its clients \
             better\n\
             22:1 \"country:DE,city:2\" of map \"world\" is for nobody: no address has all of that together\n\
             23:1 no network or data base says the as of any address; for nobody: \"as:64500\", \
             \"as:64501,country:DE\"\n\
             25:1 \"10.0.0.0/8\" of map \"world\" is for nobody: always shadowed by \"10.0.0.0/9\", \"10.128.0.0/9\", \
             which fits its clients better\n\
             28:1 \"2.0.0.0/16,country:DE\" of map \"world\" is for nobody: no address has all of that together\n\
             31:1 fence \"city:9\" of map \"world\" is for nobody: no address has city 9 in networks or data bases\n"
        );
    }

    #[test]
    fn without_data_bases_it_is_said_once() {
        let maps = "[maps.world]\ndefault = [\"*\"]\n\"country:FR\" = [\"a\"]\n\"country:DE\" = [\"a\"]\n\"city:7\" = [\"a\"]\n";
        assert_eq!(
            warnings("geo = { networks = \"networks.toml\" }", maps),
            "18:1 no data base is configured, and `networks` leaves nobody to \"country:DE\", \"city:7\"\n"
        );
    }

    #[test]
    fn many_are_counted() {
        let cities: String = (100..150).map(|city| format!("\"city:{city}\" = [\"a\"]\n")).collect();
        let told = warnings(GEO, &format!("[maps.world]\ndefault = [\"*\"]\n{cities}"));
        assert_eq!(told.lines().count(), 21);
        assert!(told.ends_with("and 30 more selectors that no client reaches\n"), "{told}");
    }
}
