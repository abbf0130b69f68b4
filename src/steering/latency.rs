//! `steer = "latency"`: by measured round-trip time; those within `tolerance` of the best are equals, those without come
//! after, by distance (SPEC 4.5).
//!
//! What is compiled for a place is the order by distance, with all of it a run. What is measured is looked up for each
//! query:
//!
//! ```text
//!  run, as compiled     us-east  eu-west  ap-south  sa-east
//!  measured             80 ms    31 ms    –         35 ms
//!  for this client      [ eu-west  sa-east ]  us-east  ap-south        equals by the client's key
//! ```

use std::net::IpAddr;

use super::fence;
use super::nearest::{by_bias, of_unknown, open, position};
use super::order::{By, Ranking};
use super::service::Map;
use super::trace::Trace;
use crate::fleet::{Fleet, RegionId};
use crate::geo::{Atlas, Code, Place, RangeMap};
use crate::latency::{Entry, Rtt, View, find};
use crate::prefetch;

/// Clients explore by this number: another than any region's.
pub(super) const EXPLORER: u32 = 0x6578_706c;

/// The order of `present` regions for a client of whom nothing is measured, all of it a run.
pub(super) fn order<T: Trace>(
    map: Option<&Map>,
    tolerance: u16,
    place: &Place,
    fleet: &Fleet,
    present: &[RegionId],
    trace: &mut T,
) -> Ranking {
    let (how, regions) = match position(place) {
        Some(client) => ("by distance", by_bias(fleet, &open(fleet, present), client)),
        None => {
            let (how, order) = of_unknown(map, fleet, present);
            (how, order.regions)
        }
    };
    trace.note("order", || format!("where nothing is measured, {how}: {}", fence::names(fleet, &regions)));
    let count = regions.len();
    Ranking::fixed(regions).with_run(count, By::Latency { tolerance })
}

/// Groups that are sorted one by one as they come: what sorts many costs too much for a few.
const FEW: usize = 12;

/// Moves the last to where it belongs among the others, which are sorted.
fn sink(room: &mut [(f64, u32)]) {
    for at in (1..room.len()).rev() {
        if room[at - 1].0 <= room[at].0 {
            return;
        }
        room.swap(at - 1, at);
    }
}

/// Whose every address is, as far as measuring tells clients apart: less than a place says, so that it is found sooner and
/// holds for wider prefixes.
#[derive(Debug)]
pub struct Homes(RangeMap<Home>);

/// Autonomous system and country.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Home {
    /// 0 = unknown.
    as_number: u32,
    country: Option<Code>,
}

/// Nobody's.
impl Default for Homes {
    fn default() -> Homes {
        Homes(RangeMap::uniform(Home::default()))
    }
}

impl Homes {
    /// What an atlas says of that.
    pub(super) fn of(atlas: &Atlas) -> Homes {
        let home = |place: &Place| Home { as_number: place.as_number.unwrap_or(0), country: place.country };
        Homes(atlas.map().map(|place| home(atlas.place(place))))
    }

    /// Asks the processor for all that says how long the ways from these clients are, step by step for all of them, so that
    /// they wait for memory together.
    pub fn prefetch(&self, view: &View, clients: &[IpAddr]) {
        clients.iter().for_each(|&client| self.0.prefetch_index(client));
        clients.iter().for_each(|&client| view.measured.prefetch_index(client));
        clients.iter().for_each(|&client| self.0.prefetch_runs(client));
        clients.iter().for_each(|&client| view.measured.prefetch_runs(client));
        for &client in clients {
            let mut ways = Ways::new(view, self, client);
            let around = ways.around();
            around.iter().chain([&ways.own]).for_each(|row| prefetch::lines(row, 1));
        }
    }
}

/// What is measured of the ways from one client.
pub(super) struct Ways<'a> {
    view: &'a View,
    homes: &'a Homes,
    address: IpAddr,
    own: &'a [Entry],
    /// Those of its system and its country, once they are needed.
    around: Option<[&'a [Entry]; 2]>,
    /// The widest prefix in which all that was looked up is the same.
    pub(super) scope: u8,
}

impl<'a> Ways<'a> {
    pub(super) fn new(view: &'a View, homes: &'a Homes, address: IpAddr) -> Ways<'a> {
        let (own, scope) = view.measured.of_prefix(address);
        Ways { view, homes, address, own, around: None, scope }
    }

    /// The way to a region: by the client's prefix, else its system, else its country.
    #[inline]
    fn to(&mut self, region: RegionId) -> Option<Rtt> {
        let number = self.view.number(region)?;
        if let Some(entry) = find(self.own, number) {
            return Some(entry.rtt);
        }
        let around = self.around();
        around.iter().find_map(|row| find(row, number)).map(|entry| entry.rtt)
    }

    fn around(&mut self) -> [&'a [Entry]; 2] {
        if let Some(around) = self.around {
            return around;
        }
        let (home, scope) = self.homes.0.lookup(self.address);
        self.scope = self.scope.max(scope);
        *self.around.insert(self.of_home(home))
    }

    fn of_home(&self, home: Home) -> [&'a [Entry]; 2] {
        let measured = &self.view.measured;
        let system = if home.as_number == 0 { &[] } else { measured.of_system(home.as_number) };
        [system, home.country.map_or(&[][..], |code| measured.of_country(code))]
    }

    /// Sorts groups by the way to their region, those without behind in the order they are in; `room` is for the ranks.
    /// How many of the first are within `tolerance` of the best.
    pub(super) fn sort(
        &mut self,
        groups: &mut [u32],
        tolerance: u16,
        region: impl Fn(u32) -> RegionId,
        room: &mut Vec<(f64, u32)>,
    ) -> usize {
        /// Above all times.
        const NONE: u32 = 1 << 16;
        /// Ranks are times, and among equal ones places.
        const PLACES: f64 = 4_294_967_296.0;
        room.clear();
        let (mut best, mut equals) = (NONE, 0);
        for (place, &group) in groups.iter().enumerate() {
            let time = self.to(region(group)).map_or(NONE, |rtt| rtt.0.into());
            best = best.min(time);
            let rank = f64::from(time) * PLACES + place as f64;
            room.push((rank, group));
            if groups.len() <= FEW {
                sink(room);
            }
        }
        if groups.len() > FEW {
            room.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        }
        let limit = f64::from((best + u32::from(tolerance)).min(NONE - 1) + 1) * PLACES;
        for (to, &(rank, group)) in groups.iter_mut().zip(room.iter()) {
            *to = group;
            equals += usize::from(rank < limit);
        }
        equals
    }

    /// How many of the groups that are sorted are within `tolerance` of the best.
    pub(super) fn equals(&mut self, groups: &[u32], tolerance: u16, region: impl Fn(u32) -> RegionId) -> usize {
        let best = groups.iter().map_while(|&group| self.to(region(group))).min();
        let Some(limit) = best.map(|best| u32::from(best.0) + u32::from(tolerance)) else { return 0 };
        groups.iter().map_while(|&group| self.to(region(group))).filter(|time| u32::from(time.0) <= limit).count()
    }

    /// Whose measurement decides about a region, and what it says, in words.
    pub(super) fn tell(&self, region: RegionId) -> String {
        let Some(number) = self.view.number(region) else { return "not measured".into() };
        let (home, _) = self.homes.0.lookup(self.address);
        let [system, country] = self.of_home(home);
        let (_, length) = self.view.measured.of_prefix(self.address);
        let prefix = format!("{}/{length}", super::client::mask(self.address, length));
        let system_name = format!("AS {}", home.as_number);
        let country_name = home.country.map_or(String::new(), |code| format!("country {code}"));
        let rows = [(self.own, prefix), (system, system_name), (country, country_name)];
        let known = rows.into_iter().find_map(|(row, whose)| Some((find(row, number)?, whose)));
        known.map_or("not measured".into(), |(entry, whose)| {
            format!("{} ms by {whose}, {} samples", entry.rtt.ms(), entry.samples)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::geo::{Data, Network};
    use crate::latency::{Book, ENOUGH, Measured, Policy, Sample};
    use crate::steering::fence::names;
    use crate::steering::testing::{map, world};
    use crate::steering::trace::Silent;
    use crate::time::Tick;

    fn germany() -> Place {
        Place { country: Code::parse("DE"), as_number: Some(64500), ..Place::default() }
    }

    fn homes() -> Homes {
        let network = |prefix: &str, place| Network { prefix: prefix.parse().expect("a prefix"), place };
        let france = Place { country: Code::parse("FR"), ..Place::default() };
        let networks = vec![network("10.0.0.0/8", germany()), network("11.0.0.0/8", france)];
        Homes::of(&Atlas::compile(&Data { networks, ..Data::default() }))
    }

    /// By client, region of the test world, milliseconds.
    fn view(fleet: &Fleet, samples: &[(&str, usize, f64)]) -> View {
        let mut book = Book::new(Policy::default());
        for &(client, region, ms) in samples {
            let region = book.region(&fleet.regions[region].name);
            let Place { as_number, country, .. } = germany();
            let client = client.parse().expect("a prefix");
            let sample = Sample { client, as_number, country, region, rtt: Rtt::from_ms(ms) };
            (0..ENOUGH).for_each(|_| book.take(&sample, Tick::START));
        }
        View::of(Arc::new(book.freeze(&Measured::default())), fleet, 0)
    }

    #[test]
    fn groups_are_sorted_by_what_is_measured() {
        let (fleet, homes) = (world(), homes());
        let view = view(
            &fleet,
            &[("10.0.0.0/24", 2, 80.0), ("10.0.0.0/24", 1, 31.0), ("10.0.0.0/24", 0, 35.0), ("10.9.0.0/24", 3, 200.0)],
        );
        for (address, groups, tolerance, sorted, equals, scope) in [
            // By the prefix, and by its system, for there is one way that it did not measure.
            ("10.0.0.7", &[0, 1, 2, 3, 4][..], 0, &[1, 0, 2, 3, 4][..], 1, 24),
            ("10.0.0.7", &[0, 1, 2], 40, &[1, 0, 2], 2, 24),
            ("10.0.0.7", &[0, 1, 2], 39, &[1, 0, 2], 1, 24),
            ("10.0.0.7", &[0, 1, 2], 10_000, &[1, 0, 2], 3, 24),
            // A region of which nobody measured the way stays behind, and asks for no wider look.
            ("10.0.0.7", &[4, 5, 2], 0, &[2, 4, 5], 1, 24),
            ("10.200.0.7", &[0, 1, 2, 3], 0, &[1, 0, 2, 3], 1, 9),
            ("10.200.0.7", &[4, 5], 0, &[4, 5], 0, 9),
            ("11.0.0.7", &[2, 1, 0, 3], 0, &[2, 1, 0, 3], 0, 8),
            ("12.0.0.7", &[2, 1, 0, 3], 100, &[2, 1, 0, 3], 0, 6),
            ("10.0.0.7", &[], 0, &[], 0, 24),
        ] {
            let mut groups = groups.to_vec();
            let address = address.parse().expect("an address");
            let mut ways = Ways::new(&view, &homes, address);
            let region = |group| RegionId(group as u16);
            assert_eq!(ways.sort(&mut groups, tolerance, region, &mut Vec::new()), equals, "{address}");
            assert_eq!((&groups[..], ways.scope), (sorted, scope), "{address} {tolerance}");
            assert_eq!(ways.equals(&groups, tolerance, region), equals, "{address}");
        }
    }

    #[test]
    fn what_is_measured_holds_for_all_cities_of_a_system() {
        let city = |prefix: &str, place| Network { prefix: prefix.parse().expect("a prefix"), place };
        let networks = vec![
            city("10.0.0.0/10", Place { city: Some(1), ..germany() }),
            city("10.64.0.0/10", Place { city: Some(2), ..germany() }),
            // Nobody knows whose; what is measured of a system of number 0 is not theirs.
            city("10.128.0.0/9", Place { city: Some(3), ..Place::default() }),
        ];
        let homes = Homes::of(&Atlas::compile(&Data { networks, ..Data::default() }));
        let fleet = world();
        let mut book = Book::new(Policy::default());
        let region = book.region(&fleet.regions[0].name);
        for (client, as_number) in [("192.0.2.0/24", 64500), ("198.51.100.0/24", 0)] {
            let client = client.parse().expect("a prefix");
            let sample = Sample { client, as_number: Some(as_number), country: None, region, rtt: Rtt::from_ms(5.0) };
            (0..ENOUGH).for_each(|_| book.take(&sample, Tick::START));
        }
        let view = View::of(Arc::new(book.freeze(&Measured::default())), &fleet, 0);
        for (address, time, scope) in [
            ("10.0.0.7", Some(Rtt::from_ms(5.0)), 9),
            ("10.64.0.7", Some(Rtt::from_ms(5.0)), 9),
            ("10.200.0.7", None, 9),
        ] {
            let address = address.parse().expect("an address");
            homes.prefetch(&view, &[address]);
            let mut ways = Ways::new(&view, &homes, address);
            assert_eq!((ways.to(RegionId(0)), ways.scope), (time, scope), "{address}");
        }
    }

    /// Few and many are sorted alike.
    #[test]
    fn any_number_of_groups_is_sorted() {
        let region = |name: String| crate::fleet::Region { name, location: None, bias: 0, only_named: false };
        let fleet = Fleet { regions: (0..60).map(|at| region(format!("r{at}"))).collect(), ..Fleet::default() };
        let ms = |region: usize| 1.0 + (region * 37 % 23) as f64;
        let measured = |region: usize| !region.is_multiple_of(5);
        let samples: Vec<(&str, usize, f64)> =
            (0..60).filter(|&region| measured(region)).map(|region| ("10.0.0.0/24", region, ms(region))).collect();
        let (view, homes) = (view(&fleet, &samples), homes());
        for count in 0..60 {
            let mut groups: Vec<u32> = (0..count).map(|at| at * 17 % 60).collect();
            let mut expected = groups.clone();
            let time = |group: u32| if measured(group as usize) { ms(group as usize) } else { f64::INFINITY };
            expected.sort_by(|a, b| time(*a).total_cmp(&time(*b)));
            let best = expected.first().map_or(0.0, |&first| time(first));
            let near = expected.iter().filter(|&&group| time(group).is_finite() && time(group) <= best + 3.0).count();
            let mut ways = Ways::new(&view, &homes, "10.0.0.7".parse().expect("an address"));
            let equals = ways.sort(&mut groups, 30, |group| RegionId(group as u16), &mut Vec::new());
            assert_eq!((groups, equals), (expected, near), "{count}");
        }
    }

    #[test]
    fn it_says_whose_measurement_decides() {
        let (fleet, homes) = (world(), homes());
        let view = view(&fleet, &[("10.0.0.0/24", 2, 80.0), ("10.1.0.0/24", 1, 31.0)]);
        for (address, region, said) in [
            ("10.0.0.7", 2, "80 ms by 10.0.0.0/24, 3 samples"),
            ("10.0.0.7", 1, "31 ms by AS 64500, 3 samples"),
            ("10.0.0.7", 0, "not measured"),
            ("11.0.0.7", 2, "not measured"),
        ] {
            let ways = Ways::new(&view, &homes, address.parse().expect("an address"));
            assert_eq!(ways.tell(RegionId(region)), said, "{address} {region}");
        }
    }

    #[test]
    fn without_measurements_it_is_distance_or_what_is_configured() {
        let fleet = world();
        let all: Vec<RegionId> = (0..fleet.regions.len() as u16).map(RegionId).collect();
        let default = map(&fleet, "ap-south us-east", &[]);
        let singapore = Place { country: Code::parse("SG"), ..Place::default() };
        for (map, place, expected) in [
            (None, &singapore, "ap-south, eu-central, eu-west, us-east, nowhere"),
            (Some(&default), &singapore, "ap-south, eu-central, eu-west, us-east, nowhere"),
            (Some(&default), &Place::default(), "ap-south, us-east"),
            (None, &Place::default(), "eu-west, eu-central, us-east, ap-south, nowhere"),
        ] {
            let order = order(map, 100, place, &fleet, &all, &mut Silent);
            assert_eq!(names(&fleet, &order.regions), expected);
            let run = &order.runs[0];
            assert_eq!((run.from, run.to as usize, order.runs.len()), (0, order.regions.len(), 1));
        }
    }
}
