//! The countries: their continents, and the points that stand for clients of which only the country is known.
//!
//! ISO 3166-1 alpha-2 and `XK`, which registries use for Kosovo. Continents are those of GeoNames (Russia and Cyprus
//! in Europe, Turkey in Asia), as most publishers have them. A centroid is the middle of the land, in places moved to
//! where most of it is; good to about a degree, which is all that choosing between regions needs.

use super::{Code, Coordinates};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Country {
    code: Code,
    continent: Code,
    centroid: Coordinates,
}

/// The continent a country is counted to; `None` for what is not a country.
pub fn continent_of(country: Code) -> Option<Code> {
    find(country).map(|row| row.continent)
}

/// The middle of a country; `None` for what is not a country.
pub fn centroid_of(country: Code) -> Option<Coordinates> {
    find(country).map(|row| row.centroid)
}

pub(super) fn is_continent(code: Code) -> bool {
    CONTINENTS.contains(&code.0)
}

pub(super) fn is_country(code: Code) -> bool {
    find(code).is_some()
}

fn find(code: Code) -> Option<&'static Country> {
    COUNTRIES.binary_search_by_key(&code, |row| row.code).ok().map(|at| &COUNTRIES[at])
}

const CONTINENTS: [[u8; 2]; 7] = [*b"AF", *b"AN", *b"AS", *b"EU", *b"NA", *b"OC", *b"SA"];

const fn row(code: &[u8; 2], continent: &[u8; 2], latitude: f64, longitude: f64) -> Country {
    Country { code: Code(*code), continent: Code(*continent), centroid: Coordinates { latitude, longitude } }
}

/// In ascending order of code.
static COUNTRIES: [Country; 250] = [
    row(b"AD", b"EU", 42.5, 1.5),
    row(b"AE", b"AS", 24.0, 54.0),
    row(b"AF", b"AS", 33.0, 66.0),
    row(b"AG", b"NA", 17.1, -61.8),
    row(b"AI", b"NA", 18.2, -63.1),
    row(b"AL", b"EU", 41.0, 20.0),
    row(b"AM", b"AS", 40.0, 45.0),
    row(b"AO", b"AF", -12.5, 18.5),
    row(b"AQ", b"AN", -90.0, 0.0),
    row(b"AR", b"SA", -34.0, -64.0),
    row(b"AS", b"OC", -14.3, -170.7),
    row(b"AT", b"EU", 47.5, 14.0),
    row(b"AU", b"OC", -25.5, 134.5),
    row(b"AW", b"NA", 12.5, -70.0),
    row(b"AX", b"EU", 60.2, 20.0),
    row(b"AZ", b"AS", 40.3, 47.7),
    row(b"BA", b"EU", 44.2, 17.8),
    row(b"BB", b"NA", 13.2, -59.5),
    row(b"BD", b"AS", 24.0, 90.0),
    row(b"BE", b"EU", 50.6, 4.7),
    row(b"BF", b"AF", 12.3, -1.7),
    row(b"BG", b"EU", 42.7, 25.3),
    row(b"BH", b"AS", 26.0, 50.5),
    row(b"BI", b"AF", -3.4, 29.9),
    row(b"BJ", b"AF", 9.6, 2.3),
    row(b"BL", b"NA", 17.9, -62.8),
    row(b"BM", b"NA", 32.3, -64.8),
    row(b"BN", b"AS", 4.5, 114.7),
    row(b"BO", b"SA", -16.7, -64.7),
    row(b"BQ", b"NA", 12.2, -68.3),
    row(b"BR", b"SA", -10.8, -53.0),
    row(b"BS", b"NA", 24.3, -76.0),
    row(b"BT", b"AS", 27.4, 90.4),
    row(b"BV", b"AN", -54.4, 3.4),
    row(b"BW", b"AF", -22.2, 23.8),
    row(b"BY", b"EU", 53.5, 28.0),
    row(b"BZ", b"NA", 17.2, -88.7),
    row(b"CA", b"NA", 57.0, -102.0),
    row(b"CC", b"AS", -12.2, 96.8),
    row(b"CD", b"AF", -2.9, 23.6),
    row(b"CF", b"AF", 6.6, 20.5),
    row(b"CG", b"AF", -0.8, 15.2),
    row(b"CH", b"EU", 46.8, 8.2),
    row(b"CI", b"AF", 7.6, -5.6),
    row(b"CK", b"OC", -21.2, -159.8),
    row(b"CL", b"SA", -36.0, -71.4),
    row(b"CM", b"AF", 5.7, 12.7),
    row(b"CN", b"AS", 36.0, 104.0),
    row(b"CO", b"SA", 3.9, -73.1),
    row(b"CR", b"NA", 10.0, -84.2),
    row(b"CU", b"NA", 21.6, -79.0),
    row(b"CV", b"AF", 15.9, -24.0),
    row(b"CW", b"NA", 12.2, -69.0),
    row(b"CX", b"OC", -10.5, 105.6),
    row(b"CY", b"EU", 35.0, 33.2),
    row(b"CZ", b"EU", 49.7, 15.3),
    row(b"DE", b"EU", 51.1, 10.4),
    row(b"DJ", b"AF", 11.7, 42.6),
    row(b"DK", b"EU", 56.0, 10.0),
    row(b"DM", b"NA", 15.4, -61.4),
    row(b"DO", b"NA", 18.9, -70.5),
    row(b"DZ", b"AF", 28.2, 2.6),
    row(b"EC", b"SA", -1.4, -78.8),
    row(b"EE", b"EU", 58.7, 25.5),
    row(b"EG", b"AF", 26.5, 29.9),
    row(b"EH", b"AF", 24.2, -12.2),
    row(b"ER", b"AF", 15.4, 38.8),
    row(b"ES", b"EU", 40.2, -3.6),
    row(b"ET", b"AF", 8.6, 39.6),
    row(b"FI", b"EU", 64.5, 26.3),
    row(b"FJ", b"OC", -17.8, 178.0),
    row(b"FK", b"SA", -51.7, -59.4),
    row(b"FM", b"OC", 6.9, 158.2),
    row(b"FO", b"EU", 62.0, -6.9),
    row(b"FR", b"EU", 46.6, 2.5),
    row(b"GA", b"AF", -0.6, 11.8),
    row(b"GB", b"EU", 54.0, -2.8),
    row(b"GD", b"NA", 12.1, -61.7),
    row(b"GE", b"AS", 42.2, 43.5),
    row(b"GF", b"SA", 3.9, -53.2),
    row(b"GG", b"EU", 49.5, -2.6),
    row(b"GH", b"AF", 8.0, -1.2),
    row(b"GI", b"EU", 36.1, -5.4),
    row(b"GL", b"NA", 72.0, -41.0),
    row(b"GM", b"AF", 13.4, -15.4),
    row(b"GN", b"AF", 10.4, -10.9),
    row(b"GP", b"NA", 16.2, -61.5),
    row(b"GQ", b"AF", 1.7, 10.3),
    row(b"GR", b"EU", 39.1, 22.9),
    row(b"GS", b"AN", -54.4, -36.6),
    row(b"GT", b"NA", 15.7, -90.4),
    row(b"GU", b"OC", 13.4, 144.8),
    row(b"GW", b"AF", 12.0, -15.0),
    row(b"GY", b"SA", 4.8, -58.9),
    row(b"HK", b"AS", 22.4, 114.1),
    row(b"HM", b"AN", -53.1, 73.5),
    row(b"HN", b"NA", 14.8, -86.6),
    row(b"HR", b"EU", 45.1, 16.4),
    row(b"HT", b"NA", 18.9, -72.7),
    row(b"HU", b"EU", 47.2, 19.4),
    row(b"ID", b"AS", -2.5, 118.0),
    row(b"IE", b"EU", 53.2, -8.1),
    row(b"IL", b"AS", 31.5, 35.0),
    row(b"IM", b"EU", 54.2, -4.5),
    row(b"IN", b"AS", 22.9, 79.6),
    row(b"IO", b"AS", -7.3, 72.4),
    row(b"IQ", b"AS", 33.0, 43.7),
    row(b"IR", b"AS", 32.6, 54.3),
    row(b"IS", b"EU", 65.0, -18.6),
    row(b"IT", b"EU", 42.8, 12.1),
    row(b"JE", b"EU", 49.2, -2.1),
    row(b"JM", b"NA", 18.2, -77.3),
    row(b"JO", b"AS", 31.2, 36.8),
    row(b"JP", b"AS", 36.5, 138.0),
    row(b"KE", b"AF", 0.6, 37.8),
    row(b"KG", b"AS", 41.5, 74.6),
    row(b"KH", b"AS", 12.7, 104.9),
    row(b"KI", b"OC", 1.4, 173.0),
    row(b"KM", b"AF", -11.9, 43.7),
    row(b"KN", b"NA", 17.3, -62.7),
    row(b"KP", b"AS", 40.2, 127.2),
    row(b"KR", b"AS", 36.4, 127.8),
    row(b"KW", b"AS", 29.3, 47.6),
    row(b"KY", b"NA", 19.3, -81.2),
    row(b"KZ", b"AS", 48.2, 67.3),
    row(b"LA", b"AS", 18.5, 103.7),
    row(b"LB", b"AS", 33.9, 35.9),
    row(b"LC", b"NA", 13.9, -61.0),
    row(b"LI", b"EU", 47.1, 9.5),
    row(b"LK", b"AS", 7.6, 80.7),
    row(b"LR", b"AF", 6.5, -9.3),
    row(b"LS", b"AF", -29.6, 28.2),
    row(b"LT", b"EU", 55.3, 23.9),
    row(b"LU", b"EU", 49.8, 6.1),
    row(b"LV", b"EU", 56.9, 24.9),
    row(b"LY", b"AF", 27.0, 18.0),
    row(b"MA", b"AF", 31.8, -6.3),
    row(b"MC", b"EU", 43.7, 7.4),
    row(b"MD", b"EU", 47.2, 28.5),
    row(b"ME", b"EU", 42.8, 19.2),
    row(b"MF", b"NA", 18.1, -63.1),
    row(b"MG", b"AF", -19.4, 46.7),
    row(b"MH", b"OC", 7.1, 171.1),
    row(b"MK", b"EU", 41.6, 21.7),
    row(b"ML", b"AF", 17.4, -3.5),
    row(b"MM", b"AS", 21.2, 96.5),
    row(b"MN", b"AS", 46.8, 103.0),
    row(b"MO", b"AS", 22.2, 113.5),
    row(b"MP", b"OC", 15.2, 145.7),
    row(b"MQ", b"NA", 14.7, -61.0),
    row(b"MR", b"AF", 20.3, -10.3),
    row(b"MS", b"NA", 16.7, -62.2),
    row(b"MT", b"EU", 35.9, 14.4),
    row(b"MU", b"AF", -20.3, 57.6),
    row(b"MV", b"AS", 3.2, 73.2),
    row(b"MW", b"AF", -13.2, 34.3),
    row(b"MX", b"NA", 23.9, -102.5),
    row(b"MY", b"AS", 3.8, 109.7),
    row(b"MZ", b"AF", -17.3, 35.5),
    row(b"NA", b"AF", -22.1, 17.2),
    row(b"NC", b"OC", -21.3, 165.7),
    row(b"NE", b"AF", 17.4, 9.4),
    row(b"NF", b"OC", -29.0, 168.0),
    row(b"NG", b"AF", 9.6, 8.1),
    row(b"NI", b"NA", 12.8, -85.0),
    row(b"NL", b"EU", 52.2, 5.6),
    row(b"NO", b"EU", 62.0, 10.0),
    row(b"NP", b"AS", 28.2, 83.9),
    row(b"NR", b"OC", -0.5, 166.9),
    row(b"NU", b"OC", -19.1, -169.9),
    row(b"NZ", b"OC", -41.8, 171.5),
    row(b"OM", b"AS", 20.6, 56.1),
    row(b"PA", b"NA", 8.5, -80.1),
    row(b"PE", b"SA", -9.2, -74.4),
    row(b"PF", b"OC", -17.7, -149.4),
    row(b"PG", b"OC", -6.5, 145.2),
    row(b"PH", b"AS", 11.8, 122.9),
    row(b"PK", b"AS", 30.0, 69.3),
    row(b"PL", b"EU", 52.1, 19.4),
    row(b"PM", b"NA", 46.9, -56.3),
    row(b"PN", b"OC", -25.1, -130.1),
    row(b"PR", b"NA", 18.2, -66.5),
    row(b"PS", b"AS", 31.9, 35.2),
    row(b"PT", b"EU", 39.6, -8.5),
    row(b"PW", b"OC", 7.5, 134.6),
    row(b"PY", b"SA", -23.2, -58.4),
    row(b"QA", b"AS", 25.3, 51.2),
    row(b"RE", b"AF", -21.1, 55.5),
    row(b"RO", b"EU", 45.9, 25.0),
    row(b"RS", b"EU", 44.2, 20.8),
    row(b"RU", b"EU", 61.5, 96.5),
    row(b"RW", b"AF", -2.0, 29.9),
    row(b"SA", b"AS", 24.1, 44.5),
    row(b"SB", b"OC", -8.9, 159.6),
    row(b"SC", b"AF", -4.7, 55.5),
    row(b"SD", b"AF", 16.0, 30.0),
    row(b"SE", b"EU", 62.8, 16.7),
    row(b"SG", b"AS", 1.4, 103.8),
    row(b"SH", b"AF", -15.9, -5.7),
    row(b"SI", b"EU", 46.1, 14.8),
    row(b"SJ", b"EU", 78.0, 16.0),
    row(b"SK", b"EU", 48.7, 19.5),
    row(b"SL", b"AF", 8.6, -11.8),
    row(b"SM", b"EU", 43.9, 12.5),
    row(b"SN", b"AF", 14.4, -14.5),
    row(b"SO", b"AF", 4.8, 45.7),
    row(b"SR", b"SA", 4.1, -55.9),
    row(b"SS", b"AF", 7.3, 30.2),
    row(b"ST", b"AF", 0.4, 6.7),
    row(b"SV", b"NA", 13.7, -88.9),
    row(b"SX", b"NA", 18.0, -63.1),
    row(b"SY", b"AS", 35.0, 38.5),
    row(b"SZ", b"AF", -26.6, 31.5),
    row(b"TC", b"NA", 21.8, -71.8),
    row(b"TD", b"AF", 15.3, 18.6),
    row(b"TF", b"AN", -49.3, 69.3),
    row(b"TG", b"AF", 8.5, 1.0),
    row(b"TH", b"AS", 15.1, 101.0),
    row(b"TJ", b"AS", 38.5, 71.0),
    row(b"TK", b"OC", -9.2, -171.8),
    row(b"TL", b"OC", -8.8, 125.8),
    row(b"TM", b"AS", 39.1, 59.4),
    row(b"TN", b"AF", 34.1, 9.6),
    row(b"TO", b"OC", -21.2, -175.2),
    row(b"TR", b"AS", 39.1, 35.2),
    row(b"TT", b"NA", 10.5, -61.3),
    row(b"TV", b"OC", -8.5, 179.2),
    row(b"TW", b"AS", 23.8, 121.0),
    row(b"TZ", b"AF", -6.3, 34.8),
    row(b"UA", b"EU", 49.0, 31.4),
    row(b"UG", b"AF", 1.3, 32.4),
    row(b"UM", b"OC", 19.3, 166.6),
    row(b"US", b"NA", 39.8, -98.6),
    row(b"UY", b"SA", -32.8, -56.0),
    row(b"UZ", b"AS", 41.8, 63.1),
    row(b"VA", b"EU", 41.9, 12.5),
    row(b"VC", b"NA", 13.2, -61.2),
    row(b"VE", b"SA", 7.1, -66.2),
    row(b"VG", b"NA", 18.4, -64.6),
    row(b"VI", b"NA", 18.3, -64.8),
    row(b"VN", b"AS", 16.6, 106.3),
    row(b"VU", b"OC", -16.2, 167.7),
    row(b"WF", b"OC", -13.3, -176.2),
    row(b"WS", b"OC", -13.8, -172.2),
    row(b"XK", b"EU", 42.6, 20.9),
    row(b"YE", b"AS", 15.9, 47.6),
    row(b"YT", b"AF", -12.8, 45.2),
    row(b"ZA", b"AF", -29.0, 25.1),
    row(b"ZM", b"AF", -13.5, 27.8),
    row(b"ZW", b"AF", -19.0, 29.9),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_complete_and_in_range() {
        assert_eq!(COUNTRIES.len(), 249 + 1, "ISO 3166-1 and XK");
        assert!(COUNTRIES.windows(2).all(|pair| pair[0].code < pair[1].code));
        for row in &COUNTRIES {
            assert!(is_continent(row.continent), "{}", row.code);
            assert!(row.centroid.is_valid(), "{}", row.code);
        }
        let held = |continent: &[u8; 2]| COUNTRIES.iter().filter(|row| row.continent == Code(*continent)).count();
        assert_eq!(CONTINENTS.map(|continent| held(&continent)), HELD);
    }

    /// How many countries each of [`CONTINENTS`] has by GeoNames.
    const HELD: [usize; 7] = [58, 5, 51, 53, 41, 28, 14];

    #[test]
    fn well_known_rows() {
        for (country, continent, latitude, longitude) in [
            ("DE", "EU", 51.0, 10.0),
            ("US", "NA", 39.0, -98.0),
            ("TR", "AS", 39.0, 35.0),
            ("AU", "OC", -25.0, 134.0),
            ("BR", "SA", -10.0, -53.0),
            ("ZA", "AF", -29.0, 25.0),
            ("AQ", "AN", -90.0, 0.0),
            ("XK", "EU", 42.6, 20.9),
        ] {
            let country = Code::parse(country).unwrap();
            assert_eq!(continent_of(country), Code::parse(continent));
            let centroid = centroid_of(country).unwrap();
            assert!((centroid.latitude - latitude).abs() < 1.0, "{country}");
            assert!((centroid.longitude - longitude).abs() < 1.0, "{country}");
        }
        assert_eq!(continent_of(Code(*b"ZZ")), None);
        assert_eq!(centroid_of(Code(*b"EU")), None);
    }
}
