//! What one record of a data base says of a place, whichever publisher wrote it.
//!
//! Schemas are told by content. A record is read in one pass that stops at the known names and skips the rest; nothing
//! is allocated but the place. What makes no sense (latitude 900, country `??`, the 0/0 that stands for "don't know")
//! is absent.
//!
//! ```text
//! nested (MaxMind, DB-IP)                          flat (IPinfo, ip-location-db, and others)
//! continent.code                                   continent_code, continent
//! country.iso_code                                 country_code, country_iso_code, country
//! subdivisions[0].iso_code                         subdivision_code, region_code, state_code, subdivision
//! city.geoname_id                                  city_geoname_id, geoname_id beside a city
//! location.latitude, location.longitude            latitude or lat, longitude or lng or lon; numbers or text
//! autonomous_system_number (or inside traits)      asn, as, as_number, asn.asn, as.number; 64500 or "AS64500"
//! ```

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Code, Coordinates, Place};

/// The parts of a record that are understood, as they stand there.
#[derive(Debug, Default)]
pub(super) struct Record<'a> {
    continent_code: Option<&'a str>,
    continent: Option<&'a str>,
    country_code: Option<&'a str>,
    country: Option<&'a str>,
    subdivision: Option<&'a str>,
    city: Option<f64>,
    /// A GeoNames id at the top level is the city's where there is a city, else a country's.
    geoname: Option<f64>,
    has_city: bool,
    latitude: Option<f64>,
    longitude: Option<f64>,
    as_number: Option<f64>,
}

impl Record<'_> {
    /// What of it makes sense.
    pub(super) fn place(&self) -> Place {
        let country = [self.country_code, self.country].into_iter().find_map(|text| country(text?));
        let city = self.city.or(self.geoname.filter(|_| self.has_city));
        let place = Place {
            continent: [self.continent_code, self.continent].into_iter().find_map(|text| continent(text?)),
            country,
            subdivision: self.subdivision.and_then(|text| subdivision(country, text)),
            city: city.and_then(positive),
            as_number: self.as_number.and_then(positive),
            coordinates: self.latitude.zip(self.longitude).and_then(coordinates),
        };
        place.with_continent()
    }
}

fn country(text: &str) -> Option<Code> {
    Code::parse(text).filter(|code| code.is_country())
}

fn continent(text: &str) -> Option<Code> {
    Code::parse(text).filter(|code| code.is_continent())
}

/// `CA` of `US`, or `US-CA`: ISO 3166-2 has one to three letters or digits after the country.
fn subdivision(country: Option<Code>, text: &str) -> Option<Box<str>> {
    let (country, rest) = match text.split_once('-') {
        Some((country, rest)) => (Code::parse(country)?, rest),
        None => (country?, text),
    };
    let shaped = (1..=3).contains(&rest.len()) && rest.bytes().all(|octet| octet.is_ascii_alphanumeric());
    (shaped && country.is_country()).then(|| format!("{country}-{}", rest.to_ascii_uppercase()).into())
}

fn positive(number: f64) -> Option<u32> {
    ((1.0..=f64::from(u32::MAX)).contains(&number) && number.fract() == 0.0).then_some(number as u32)
}

/// To a ten-thousandth of a degree (11 m): some publishers write 32-bit floats, whose 37.751 is 37.750999450683594.
/// Adding zero turns -0 into 0, which must be the same place.
fn coordinates((latitude, longitude): (f64, f64)) -> Option<Coordinates> {
    let rounded = |degrees: f64| (degrees * 10_000.0).round() / 10_000.0 + 0.0;
    let point = Coordinates { latitude: rounded(latitude), longitude: rounded(longitude) };
    (point.is_valid() && (latitude, longitude) != (0.0, 0.0)).then_some(point)
}

/// Where in a record a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Root,
    Continent,
    ContinentCode,
    Country,
    CountryCode,
    Subdivisions,
    Subdivision,
    SubdivisionCode,
    City,
    CityId,
    Geoname,
    Location,
    Latitude,
    Longitude,
    Traits,
    As,
    AsNumber,
}

impl At {
    /// What a name means there; `None` for what is not understood.
    fn named(self, name: &str) -> Option<At> {
        Some(match (self, name) {
            (At::Root, "continent") => At::Continent,
            (At::Continent, "code") | (At::Root, "continent_code") => At::ContinentCode,
            (At::Root, "country") => At::Country,
            (At::Country, "iso_code" | "code") | (At::Root, "country_code" | "country_iso_code") => At::CountryCode,
            (At::Root, "subdivisions") => At::Subdivisions,
            (At::Root, "subdivision" | "region") => At::Subdivision,
            (At::Subdivision, "iso_code" | "code") => At::SubdivisionCode,
            (At::Root, "subdivision_code" | "region_code" | "state_code") => At::SubdivisionCode,
            (At::Root, "city") => At::City,
            (At::City, "geoname_id") | (At::Root, "city_geoname_id") => At::CityId,
            (At::Root, "geoname_id") => At::Geoname,
            (At::Root, "location") => At::Location,
            (At::Root | At::Location, "latitude" | "lat") => At::Latitude,
            (At::Root | At::Location, "longitude" | "lng" | "lon") => At::Longitude,
            (At::Root, "traits") => At::Traits,
            (At::Root, "as" | "asn") => At::As,
            (At::As, "asn" | "number") | (At::Root, "as_number") => At::AsNumber,
            (At::Root | At::Traits, "autonomous_system_number") => At::AsNumber,
            _ => return None,
        })
    }
}

/// Reads the value at a place of the record.
struct Reader<'r, 'a> {
    record: &'r mut Record<'a>,
    at: At,
}

impl<'a> Reader<'_, 'a> {
    fn text(self, text: &'a str) {
        match self.at {
            At::ContinentCode => self.record.continent_code = Some(text),
            At::Continent => self.record.continent = Some(text),
            At::CountryCode => self.record.country_code = Some(text),
            At::Country => self.record.country = Some(text),
            At::SubdivisionCode => self.record.subdivision = Some(text),
            // A name, unless it has the shape of a code; and codes of their own are better.
            At::Subdivision if text.contains('-') => self.record.subdivision = self.record.subdivision.or(Some(text)),
            At::City => self.record.has_city = !text.is_empty(),
            At::As | At::AsNumber => self.number_of(text.trim_start_matches(['A', 'a', 'S', 's'])),
            _ => self.number_of(text),
        }
    }

    fn number_of(self, text: &str) {
        if let Ok(number) = text.trim().parse() {
            self.number(number);
        }
    }

    fn number(self, number: f64) {
        match self.at {
            At::CityId => self.record.city = Some(number),
            At::Geoname => self.record.geoname = Some(number),
            At::Latitude => self.record.latitude = Some(number),
            At::Longitude => self.record.longitude = Some(number),
            At::As | At::AsNumber => self.record.as_number = Some(number),
            _ => (),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key::<&str>()? {
            match self.at.named(name) {
                Some(at) => map.next_value_seed(Reader { record: &mut *self.record, at })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    /// Only the first subdivision counts: it is the largest one.
    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        if self.at == At::Subdivisions {
            seq.next_element_seed(Reader { record: self.record, at: At::Subdivision })?;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.text(text);
        Ok(())
    }

    fn visit_str<E>(self, _copied: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.number(number);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.number(number as f64);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.number(number as f64);
        Ok(())
    }

    fn visit_u128<E>(self, _number: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _yes: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_bytes<E>(self, _octets: &[u8]) -> Result<(), E> {
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Record<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Record<'de>, D::Error> {
        let mut record = Record::default();
        Reader { record: &mut record, at: At::Root }.deserialize(deserializer)?;
        Ok(record)
    }
}

/// What a record has, `country.iso_code`, and whether that is read; what is below a name that is not understood is not
/// looked at.
#[derive(Debug, Default)]
pub(super) struct Paths(pub(super) Vec<(String, bool)>);

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Paths, D::Error> {
        let mut paths = Paths::default();
        PathReader { paths: &mut paths, path: "", at: At::Root }.deserialize(deserializer)?;
        Ok(paths)
    }
}

/// Notes what the value at a path has.
struct PathReader<'r> {
    paths: &'r mut Paths,
    path: &'r str,
    at: At,
}

impl PathReader<'_> {
    fn value(self) {
        if self.at != At::Root {
            self.paths.0.push((self.path.to_owned(), true));
        }
    }
}

impl<'de> DeserializeSeed<'de> for PathReader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PathReader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key::<&str>()? {
            let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
            match self.at.named(name) {
                Some(at) => map.next_value_seed(PathReader { paths: &mut *self.paths, path: &path, at })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                    self.paths.0.push((path, false));
                }
            }
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        if self.at == At::Subdivisions {
            seq.next_element_seed(PathReader { at: At::Subdivision, ..self })?;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, _text: &str) -> Result<(), E> {
        self.value();
        Ok(())
    }

    fn visit_f64<E>(self, _number: f64) -> Result<(), E> {
        self.value();
        Ok(())
    }

    fn visit_u64<E>(self, _number: u64) -> Result<(), E> {
        self.value();
        Ok(())
    }

    fn visit_i64<E>(self, _number: i64) -> Result<(), E> {
        self.value();
        Ok(())
    }

    fn visit_u128<E>(self, _number: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _yes: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_bytes<E>(self, _octets: &[u8]) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(json: &str) -> String {
        serde_json::from_str::<Record<'_>>(json).unwrap().place().to_string()
    }

    #[test]
    fn schemas_are_told_by_content() {
        for (record, said) in [
            (
                r#"{"city":{"geoname_id":5391959,"names":{"en":"San Francisco"}},"continent":{"code":"NA"},
                    "country":{"geoname_id":6252001,"iso_code":"US"},"location":{"latitude":37.7,"longitude":-122.4},
                    "registered_country":{"iso_code":"DE"},"subdivisions":[{"iso_code":"CA"},{"iso_code":"XX"}]}"#,
                "continent NA, country US, subdivision US-CA, city 5391959, at 37.7 -122.4",
            ),
            (r#"{"autonomous_system_number":64500,"autonomous_system_organization":"Example"}"#, "as 64500"),
            (r#"{"traits":{"autonomous_system_number":64500}}"#, "as 64500"),
            (
                r#"{"asn":"AS64500","as_name":"Example","country":"United Kingdom","country_code":"GB",
                    "continent":"Europe","continent_code":"EU"}"#,
                "continent EU, country GB, as 64500",
            ),
            (r#"{"country":"de","continent":"EU","continent_name":"Europe"}"#, "continent EU, country DE"),
            (
                r#"{"city":"San Jose","country":"US","geoname_id":"5392171","lat":"37.3","lng":"-121.9",
                    "region":"California","region_code":"CA"}"#,
                "continent NA, country US, subdivision US-CA, city 5392171, at 37.3 -121.9",
            ),
            (
                r#"{"country_code":"US","region_code":"US-NY","latitude":40,"longitude":-74}"#,
                "continent NA, country US, subdivision US-NY, at 40 -74",
            ),
            (r#"{"latitude":37.750999450683594,"longitude":-0.00000001}"#, "at 37.751 0"),
            (r#"{"as_number":64500}"#, "as 64500"),
            (r#"{"asn":{"asn":64500,"name":"Example"}}"#, "as 64500"),
            (r#"{"country_code":"GB","geoname_id":2635167}"#, "continent EU, country GB"),
        ] {
            assert_eq!(place(record), said, "{record}");
        }
    }

    #[test]
    fn what_a_record_has() {
        let record = r#"{"city":{"geoname_id":5,"names":{"en":"X"}},"country":{"iso_code":"US"},"is_anycast":true,
            "location":{"latitude":1.5,"longitude":2},"subdivisions":[{"iso_code":"CA","geoname_id":7},{"iso_code":"Y"}],
            "asn":"AS64500","region":"California"}"#;
        let paths = serde_json::from_str::<Paths>(record).unwrap().0;
        let of = |read: bool| paths.iter().filter(|(_, is)| *is == read).map(|(path, _)| &**path).collect::<Vec<_>>();
        assert_eq!(
            of(true).join(" "),
            "city.geoname_id country.iso_code location.latitude location.longitude subdivisions.iso_code asn region"
        );
        assert_eq!(of(false).join(" "), "city.names is_anycast subdivisions.geoname_id");
    }

    #[test]
    fn nonsense_is_absent() {
        for record in [
            r#"{"location":{"latitude":900,"longitude":5}}"#,
            r#"{"location":{"latitude":90.5,"longitude":5}}"#,
            r#"{"latitude":50}"#,
            r#"{"latitude":"","longitude":""}"#,
            r#"{"latitude":"NaN","longitude":"inf"}"#,
            r#"{"latitude":0,"longitude":0}"#,
            r#"{"country":{"iso_code":"??"}}"#,
            r#"{"country_code":"ZZ"}"#,
            r#"{"country_code":"-"}"#,
            r#"{"country":["DE"]}"#,
            r#"{"continent":"Europe"}"#,
            r#"{"continent_code":"XX"}"#,
            r#"{"city":{"geoname_id":-4}}"#,
            r#"{"city":{"geoname_id":99999999999}}"#,
            r#"{"asn":0}"#,
            r#"{"asn":"AS"}"#,
            r#"{"as_number":4.5}"#,
            r#"{"subdivisions":[{"iso_code":"CA"}]}"#,
            r#"{"subdivisions":[]}"#,
            r#"{"region_code":"QQ-CA"}"#,
            "[]",
            "5",
        ] {
            assert_eq!(place(record), "unknown", "{record}");
        }
        assert_eq!(place(r#"{"country_code":"US","region_code":"California"}"#), "continent NA, country US");
    }
}
