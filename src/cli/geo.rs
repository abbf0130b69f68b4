//! `waymark geo`: where addresses are, and who says so.

mod check;

use std::net::IpAddr;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde::Serialize;

use super::{ConfigArg, End, load, output};
use crate::config::{Configuration, GeoFiles, NetworksFile};
use crate::control::journal::rfc_3339;
use crate::fleet::Region;
use crate::geo::{Atlas, Data, Place, Source, distance_km};
use crate::steering::{Client, biased_km};

/// How many of the nearest regions are printed.
const NEAREST: usize = 5;

/// Show where addresses are as steering sees it, which file says so, and which regions are near. Works from the
/// configuration alone; `geo check FILE` tests a file before it is put in place
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Geo {
    #[command(subcommand)]
    command: Option<GeoCommand>,
    /// Addresses, or prefixes as EDNS Client Subnet would say them
    #[arg(required = true, value_parser = parse, value_name = "ADDRESS")]
    addresses: Vec<IpNet>,
    /// Print the places as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Debug, Subcommand)]
enum GeoCommand {
    Check(check::Check),
}

fn parse(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.ok_or_else(|| "no address or prefix; allowed are 203.0.113.7, 2001:db8::1, 203.0.113.0/24".into())
}

/// Where an address is.
#[derive(Debug, Serialize)]
struct Answer {
    /// As asked.
    address: String,
    /// The address that is looked at, where that is another: IPv4 inside IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_as: Option<String>,
    place: ShownPlace,
    /// The widest prefix around it in which all is as said.
    prefix: String,
    /// Whether that does not hold all that was asked for.
    is_part: bool,
    /// Where a client subnet of `[ecs]` length says less, the place that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_client_subnet: Option<BySubnet>,
    sources: Vec<ShownSource>,
    /// What distances are measured from: `coordinates`, `country`; `None` = there are none.
    measured_from: Option<&'static str>,
    /// All regions with a location, the nearest first.
    regions: Vec<Near>,
}

#[derive(Debug, Serialize)]
struct BySubnet {
    prefix: String,
    place: ShownPlace,
}

/// A place by its parts.
#[derive(Debug, Serialize)]
struct ShownPlace {
    #[serde(skip)]
    text: String,
    continent: Option<String>,
    country: Option<String>,
    subdivision: Option<String>,
    city: Option<u32>,
    #[serde(rename = "as")]
    as_number: Option<u32>,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl From<&Place> for ShownPlace {
    fn from(place: &Place) -> ShownPlace {
        ShownPlace {
            text: place.to_string(),
            continent: place.continent.map(|code| code.to_string()),
            country: place.country.map(|code| code.to_string()),
            subdivision: place.subdivision.as_deref().map(str::to_owned),
            city: place.city,
            as_number: place.as_number,
            latitude: place.coordinates.map(|point| point.latitude),
            longitude: place.coordinates.map(|point| point.longitude),
        }
    }
}

/// One that said something.
#[derive(Debug, Serialize)]
struct ShownSource {
    /// `networks.toml:12:1`, `GeoLite2-City.mmdb`.
    file: String,
    /// What the publisher calls a data base.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    built: Option<String>,
    prefix: String,
    says: ShownPlace,
    used: Vec<&'static str>,
}

/// A region and how far it is.
#[derive(Debug, Serialize)]
struct Near {
    region: String,
    km: u64,
    /// What it counts as, by its bias.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts_as_km: Option<u64>,
}

impl Geo {
    pub(super) fn run(self) -> End {
        if let Some(GeoCommand::Check(check)) = self.command {
            return check.run();
        }
        let configuration = match load(&self.config.path()) {
            Ok(configuration) => configuration,
            Err(end) => return end,
        };
        let atlas = Atlas::compile(&configuration.geo);
        let mut files = Files::new(&configuration.geo_files);
        let answers: Vec<Answer> =
            self.addresses.iter().map(|&asked| answer(asked, &configuration, &atlas, &mut files)).collect();
        if self.json {
            output::json(&answers);
        } else {
            answers.iter().for_each(print);
        }
        End::Done
    }
}

fn answer(asked: IpNet, configuration: &Configuration, atlas: &Atlas, files: &mut Files<'_>) -> Answer {
    let is_address = asked.prefix_len() == asked.max_prefix_len();
    let address = if is_address { Client::of_resolver(asked.addr()).address } else { asked.network() };
    let (id, length) = atlas.lookup(address);
    let place = atlas.place(id);
    let prefix = widest(address, length);
    let point = place.coordinates_or_centroid();
    let measured_from = point.map(|_| if place.coordinates.is_some() { "coordinates" } else { "country" });
    let mut regions: Vec<Near> = Vec::new();
    if let Some(point) = point {
        let near = |region: &Region| {
            let km = distance_km(point, region.location?);
            let counts_as_km = biased_km(region, point).filter(|_| region.bias != 0).map(|km| km.round() as u64);
            Some(Near { region: region.name.clone(), km: km.round() as u64, counts_as_km })
        };
        regions.extend(configuration.fleet.regions.iter().filter_map(near));
        regions.sort_by_key(|near| near.counts_as_km.unwrap_or(near.km));
    }
    Answer {
        address: if is_address { asked.addr().to_string() } else { asked.to_string() },
        read_as: (is_address && address != asked.addr()).then(|| address.to_string()),
        place: place.into(),
        prefix: prefix.to_string(),
        is_part: !is_address && !prefix.contains(&asked.trunc()),
        by_client_subnet: by_client_subnet(address, configuration, atlas),
        sources: configuration.geo.sources(address).iter().map(|one| files.shown(one, &configuration.geo)).collect(),
        measured_from,
        regions,
    }
}

fn widest(address: IpAddr, length: u8) -> IpNet {
    IpNet::new(address, length).map_or_else(|_| address.into(), |net| net.trunc())
}

/// Clients are known by no more bits than `[ecs]` looks at.
fn by_client_subnet(address: IpAddr, configuration: &Configuration, atlas: &Atlas) -> Option<BySubnet> {
    let ecs = &configuration.ecs;
    let bits = if address.is_ipv4() { ecs.ipv4 } else { ecs.ipv6 };
    let prefix = widest(address, bits);
    let (whole, seen) = (atlas.lookup(address).0, atlas.lookup(prefix.network()).0);
    (ecs.enabled && whole != seen).then(|| BySubnet { prefix: prefix.to_string(), place: atlas.place(seen).into() })
}

/// The files that sources are named after.
struct Files<'c> {
    files: &'c GeoFiles,
    /// Read once a network is to be found in it.
    networks: Option<Option<NetworksFile>>,
}

impl<'c> Files<'c> {
    fn new(files: &'c GeoFiles) -> Files<'c> {
        Files { files, networks: None }
    }

    fn shown(&mut self, source: &Source, data: &Data) -> ShownSource {
        let database = data.databases.iter().find(|database| database.name() == source.name);
        ShownSource {
            file: if database.is_some() { source.name.clone() } else { self.place_of(source) },
            kind: database.map(|database| database.kind().to_owned()),
            built: database.and_then(|database| date(database.built())),
            prefix: source.prefix.to_string(),
            says: (&source.place).into(),
            used: source.used.clone(),
        }
    }

    fn place_of(&mut self, source: &Source) -> String {
        let path = self.files.networks.as_ref().map(|file| &*file.path);
        let read = || path.and_then(|path| NetworksFile::read(path).ok());
        let place = self.networks.get_or_insert_with(read).as_ref().and_then(|file| file.place_of(source.prefix));
        place.unwrap_or_else(|| path.map_or_else(|| source.name.clone(), |path| path.display().to_string()))
    }
}

/// `2026-01-01`, of seconds since the Unix epoch; `None` = not said.
fn date(seconds: u64) -> Option<String> {
    let text = rfc_3339(seconds.checked_mul(1000)?);
    (seconds > 0).then(|| text.get(..10).unwrap_or(&text).to_owned())
}

fn print(answer: &Answer) {
    let read_as = answer.read_as.as_ref().map_or_else(String::new, |address| format!(", read as {address}"));
    output::line(&format!("{}{read_as}", answer.address));
    output::line(&format!("  place    {}", answer.place.text));
    let part = if answer.is_part { "; other places are in the rest of what was asked for" } else { "" };
    output::line(&format!("  prefix   {}{part}", answer.prefix));
    if let Some(BySubnet { prefix, place }) = &answer.by_client_subnet {
        output::line(&format!("  subnet   {}: clients behind a resolver that sends {prefix}", place.text));
    }
    for source in &answer.sources {
        let used = if source.used.is_empty() { "nothing used".into() } else { source.used.join(", ") };
        let kind = match (&source.kind, &source.built) {
            (Some(kind), Some(built)) => format!(" ({kind}, built {built})"),
            (Some(kind), None) => format!(" ({kind})"),
            _ => String::new(),
        };
        output::line(&format!(
            "  source   {}{kind} {}: {}; used: {used}",
            source.file, source.prefix, source.says.text
        ));
    }
    if answer.sources.is_empty() {
        output::line("  source   no network or data base knows it");
    }
    let near = |near: &Near| {
        let counts = near.counts_as_km.map_or_else(String::new, |km| format!(", counts as {km}"));
        format!("{} {} km{counts}", near.region, near.km)
    };
    let shown: Vec<String> = answer.regions.iter().take(NEAREST).map(near).collect();
    if !shown.is_empty() {
        let from = if answer.measured_from == Some("country") { " (from the middle of the country)" } else { "" };
        output::line(&format!("  nearest  {}{from}", shown.join("; ")));
    }
}
