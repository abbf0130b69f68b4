//! What can be known of where a client is, and the codes it is said in.

use std::fmt;

use super::{countries, distance_km};

/// Degrees; latitude -90..=90, longitude -180..=180.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinates {
    /// North positive.
    pub latitude: f64,
    /// East positive.
    pub longitude: f64,
}

impl Coordinates {
    /// Whether this is a point of the earth.
    pub fn is_valid(self) -> bool {
        (-90.0..=90.0).contains(&self.latitude) && (-180.0..=180.0).contains(&self.longitude)
    }
}

/// Two ASCII letters in upper case: an ISO 3166-1 country or a continent (AF AN AS EU NA OC SA).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub [u8; 2]);

impl Code {
    /// Takes two ASCII letters of either case; says nothing of whether the code is in use.
    pub fn parse(text: &str) -> Option<Code> {
        let code: [u8; 2] = text.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_alphabetic).then(|| Code(code.map(|letter| letter.to_ascii_uppercase())))
    }

    /// Whether it is a country of ISO 3166-1, or XK.
    pub fn is_country(self) -> bool {
        countries::is_country(self)
    }

    /// Whether it is one of AF AN AS EU NA OC SA.
    pub fn is_continent(self) -> bool {
        countries::is_continent(self)
    }
}

/// What is known of where a client is; every part is optional.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// Continent.
    pub continent: Option<Code>,
    /// Country.
    pub country: Option<Code>,
    /// ISO 3166-2 with its country, `US-CA`.
    pub subdivision: Option<Box<str>>,
    /// GeoNames id.
    pub city: Option<u32>,
    /// Autonomous system number.
    pub as_number: Option<u32>,
    /// Coordinates.
    pub coordinates: Option<Coordinates>,
}

impl Place {
    /// The place of clients of which nothing is known.
    pub const UNKNOWN: Place =
        Place { continent: None, country: None, subdivision: None, city: None, as_number: None, coordinates: None };

    /// The point to measure from: its own, else the middle of its country (SPEC 4.4).
    pub fn coordinates_or_centroid(&self) -> Option<Coordinates> {
        self.coordinates.or_else(|| self.country.and_then(countries::centroid_of))
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Place::UNKNOWN
    }

    /// With the continent of its country, where it has a country and names no continent.
    pub(super) fn with_continent(mut self) -> Place {
        self.continent = self.continent.or_else(|| self.country.and_then(countries::continent_of));
        self
    }

    /// This place, and what only `below` says. Where the two name different countries or continents they speak of
    /// different places, and nothing but the autonomous system is taken over: a city of one country is no part of a
    /// client of another.
    pub(super) fn over(&self, below: &Place) -> Place {
        let mut place = self.clone();
        place.as_number = place.as_number.or(below.as_number);
        if differ(self.country, below.country) || differ(self.continent, below.continent) {
            return place;
        }
        place.continent = place.continent.or(below.continent);
        place.country = place.country.or(below.country);
        place.subdivision = place.subdivision.or_else(|| below.subdivision.clone());
        place.city = place.city.or(below.city);
        place.coordinates = place.coordinates.or(below.coordinates);
        place
    }

    /// Whether [`Place::over`] makes more of it.
    pub(super) fn gains_from(&self, below: &Place) -> bool {
        let apart = differ(self.country, below.country) || differ(self.continent, below.continent);
        let geography = self.continent.is_none() && below.continent.is_some()
            || self.country.is_none() && below.country.is_some()
            || self.subdivision.is_none() && below.subdivision.is_some()
            || self.city.is_none() && below.city.is_some()
            || self.coordinates.is_none() && below.coordinates.is_some();
        self.as_number.is_none() && below.as_number.is_some() || !apart && geography
    }

    /// What it says, in the words of `networks.toml`: `continent`, `country`, …, `coordinates`.
    pub(super) fn parts(&self) -> Vec<&'static str> {
        PARTS.into_iter().zip(self.given()).filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }

    /// By [`PARTS`], whether it says that.
    pub(super) fn given(&self) -> [bool; PARTS.len()] {
        [
            self.continent.is_some(),
            self.country.is_some(),
            self.subdivision.is_some(),
            self.city.is_some(),
            self.as_number.is_some(),
            self.coordinates.is_some(),
        ]
    }

    /// By [`PARTS`], whether both say that, and about the same: coordinates within `within_km`.
    pub(super) fn agrees(&self, other: &Place, within_km: f64) -> [bool; PARTS.len()] {
        let near = |(here, there)| distance_km(here, there) <= within_km;
        [
            self.continent.is_some() && self.continent == other.continent,
            self.country.is_some() && self.country == other.country,
            self.subdivision.is_some() && self.subdivision == other.subdivision,
            self.city.is_some() && self.city == other.city,
            self.as_number.is_some() && self.as_number == other.as_number,
            self.coordinates.zip(other.coordinates).is_some_and(near),
        ]
    }
}

/// All that can be said of a place, in the words of `networks.toml`.
pub const PARTS: [&str; 6] = ["continent", "country", "subdivision", "city", "as", "coordinates"];

fn differ(above: Option<Code>, below: Option<Code>) -> bool {
    above.zip(below).is_some_and(|(above, below)| above != below)
}

/// `continent EU, country DE, as 64500, at 50.1 8.7`, or `unknown`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.continent.map(|code| format!("continent {code}")),
            self.country.map(|code| format!("country {code}")),
            self.subdivision.as_ref().map(|text| format!("subdivision {text}")),
            self.city.map(|id| format!("city {id}")),
            self.as_number.map(|number| format!("as {number}")),
            self.coordinates.map(|point| format!("at {} {}", point.latitude, point.longitude)),
        ];
        let known: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(if known.is_empty() { "unknown".into() } else { known.join(", ") }.as_str())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or("??"))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for (text, code) in
            [("de", Some("DE")), ("US", Some("US")), ("??", None), ("DEU", None), ("", None), ("ä", None)]
        {
            assert_eq!(Code::parse(text).map(|code| code.to_string()).as_deref(), code, "{text}");
        }
        let known = |text: &str| Code::parse(text).map(|code| (code.is_country(), code.is_continent())).unwrap();
        assert_eq!(known("DE"), (true, false));
        assert_eq!(known("EU"), (false, true));
        assert_eq!(known("AF"), (true, true));
        assert_eq!(known("ZZ"), (false, false));
    }

    #[test]
    fn a_country_stands_for_missing_coordinates() {
        let german = Place { country: Code::parse("DE"), ..Place::UNKNOWN };
        assert_eq!(german.coordinates_or_centroid(), countries::centroid_of(Code(*b"DE")));
        let exact = Coordinates { latitude: 50.1, longitude: 8.7 };
        assert_eq!(Place { coordinates: Some(exact), ..german }.coordinates_or_centroid(), Some(exact));
        assert_eq!(Place::UNKNOWN.coordinates_or_centroid(), None);
        assert_eq!(Place { continent: Code::parse("EU"), ..Place::UNKNOWN }.coordinates_or_centroid(), None);
    }

    #[test]
    fn another_country_takes_over_nothing_but_the_as() {
        let below = Place {
            continent: Code::parse("EU"),
            country: Code::parse("DE"),
            city: Some(1),
            as_number: Some(64500),
            ..Place::UNKNOWN
        };
        let french = Place { country: Code::parse("FR"), ..Place::UNKNOWN }.with_continent();
        assert_eq!(french.over(&below), Place { as_number: Some(64500), ..french.clone() });
        assert_eq!(Place::UNKNOWN.over(&below), below);
        assert!(french.gains_from(&below) && !below.gains_from(&french) && !below.gains_from(&below));
        let numbered = Place { as_number: Some(64501), ..Place::UNKNOWN };
        assert_eq!(numbered.over(&below), Place { as_number: Some(64501), ..below });
    }

    #[test]
    fn in_words() {
        let place = Place {
            country: Code::parse("DE"),
            coordinates: Some(Coordinates { latitude: 50.1, longitude: 8.7 }),
            ..Place::UNKNOWN
        };
        assert_eq!(place.to_string(), "country DE, at 50.1 8.7");
        assert_eq!(Place::UNKNOWN.to_string(), "unknown");
    }
}
