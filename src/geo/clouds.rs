//! Where the regions of well-known clouds are, for `location = "aws:eu-west-1"`.
//!
//! Sources: the lists of regions that the providers publish, named at each table below, say the city or the area; the
//! coordinates of cities are common knowledge, to a hundredth of a degree (1 km), which is far more than choosing between
//! regions needs. Where a provider names an area only (Northern Virginia, Oregon, UAE), the town there that is known for
//! its data centres stands for it, or the main city. Regions of which not even that is public are not here.

use super::{Code, Coordinates};

/// A provider of regions.
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// As in a location: `aws`.
    pub key: &'static str,
    /// As it calls itself.
    pub name: &'static str,
    /// Name and city of each region, in ascending order of name.
    regions: &'static [(&'static str, &'static str)],
}

impl Provider {
    /// Names of its regions, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.regions.iter().map(|(name, _)| *name)
    }

    /// Where one of its regions is.
    pub fn location(&self, region: &str) -> Option<Coordinates> {
        let at = self.regions.binary_search_by_key(&region, |(name, _)| *name).ok()?;
        city(self.regions[at].1).map(|city| city.at)
    }
}

/// Where a region is that is named as `aws:eu-west-1`.
pub fn cloud_region(text: &str) -> Option<Coordinates> {
    let (key, region) = text.split_once(':')?;
    PROVIDERS.iter().find(|provider| provider.key == key)?.location(region)
}

/// A city with a region.
#[derive(Clone, Copy, Debug)]
struct City {
    name: &'static str,
    // Tests hold the coordinates against the country's.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold coordinates against it"))]
    country: Code,
    at: Coordinates,
}

fn city(name: &str) -> Option<&'static City> {
    CITIES.iter().find(|city| city.name == name)
}

const fn row(name: &'static str, country: &[u8; 2], latitude: f64, longitude: f64) -> City {
    City { name, country: Code(*country), at: Coordinates { latitude, longitude } }
}

/// All providers, in ascending order of key.
pub static PROVIDERS: &[Provider] = &[
    // “AWS Regions” of the AWS documentation.
    Provider {
        key: "aws",
        name: "Amazon Web Services",
        regions: &[
            ("af-south-1", "Cape Town"),
            ("ap-east-1", "Hong Kong"),
            ("ap-east-2", "Taipei"),
            ("ap-northeast-1", "Tokyo"),
            ("ap-northeast-2", "Seoul"),
            ("ap-northeast-3", "Osaka"),
            ("ap-south-1", "Mumbai"),
            ("ap-south-2", "Hyderabad"),
            ("ap-southeast-1", "Singapore"),
            ("ap-southeast-2", "Sydney"),
            ("ap-southeast-3", "Jakarta"),
            ("ap-southeast-4", "Melbourne"),
            ("ap-southeast-5", "Kuala Lumpur"),
            ("ap-southeast-6", "Auckland"),
            ("ap-southeast-7", "Bangkok"),
            ("ca-central-1", "Montreal"),
            ("ca-west-1", "Calgary"),
            ("cn-north-1", "Beijing"),
            ("cn-northwest-1", "Zhongwei"),
            ("eu-central-1", "Frankfurt"),
            ("eu-central-2", "Zurich"),
            ("eu-north-1", "Stockholm"),
            ("eu-south-1", "Milan"),
            ("eu-south-2", "Zaragoza"),
            ("eu-west-1", "Dublin"),
            ("eu-west-2", "London"),
            ("eu-west-3", "Paris"),
            ("il-central-1", "Tel Aviv"),
            ("me-central-1", "Dubai"),
            ("me-south-1", "Manama"),
            ("mx-central-1", "Querétaro"),
            ("sa-east-1", "São Paulo"),
            ("us-east-1", "Ashburn"),
            ("us-east-2", "Columbus"),
            ("us-west-1", "San Jose"),
            ("us-west-2", "Boardman"),
        ],
    },
    // “List of Azure regions” of the Azure documentation.
    Provider {
        key: "azure",
        name: "Microsoft Azure",
        regions: &[
            ("australiacentral", "Canberra"),
            ("australiacentral2", "Canberra"),
            ("australiaeast", "Sydney"),
            ("australiasoutheast", "Melbourne"),
            ("austriaeast", "Vienna"),
            ("belgiumcentral", "Brussels"),
            ("brazilsouth", "São Paulo"),
            ("brazilsoutheast", "Rio de Janeiro"),
            ("canadacentral", "Toronto"),
            ("canadaeast", "Quebec"),
            ("centralindia", "Pune"),
            ("centralus", "Des Moines"),
            ("chilecentral", "Santiago"),
            ("chinaeast", "Shanghai"),
            ("chinaeast2", "Shanghai"),
            ("chinaeast3", "Shanghai"),
            ("chinanorth", "Beijing"),
            ("chinanorth2", "Beijing"),
            ("denmarkeast", "Copenhagen"),
            ("eastasia", "Hong Kong"),
            ("eastus", "Ashburn"),
            ("eastus2", "Boydton"),
            ("francecentral", "Paris"),
            ("francesouth", "Marseille"),
            ("germanynorth", "Berlin"),
            ("germanywestcentral", "Frankfurt"),
            ("indonesiacentral", "Jakarta"),
            ("israelcentral", "Tel Aviv"),
            ("italynorth", "Milan"),
            ("japaneast", "Tokyo"),
            ("japanwest", "Osaka"),
            ("jioindiacentral", "Nagpur"),
            ("jioindiawest", "Jamnagar"),
            ("koreacentral", "Seoul"),
            ("koreasouth", "Busan"),
            ("malaysiawest", "Kuala Lumpur"),
            ("mexicocentral", "Querétaro"),
            ("newzealandnorth", "Auckland"),
            ("northcentralus", "Chicago"),
            ("northeurope", "Dublin"),
            ("norwayeast", "Oslo"),
            ("norwaywest", "Stavanger"),
            ("polandcentral", "Warsaw"),
            ("qatarcentral", "Doha"),
            ("southafricanorth", "Johannesburg"),
            ("southafricawest", "Cape Town"),
            ("southcentralus", "San Antonio"),
            ("southeastasia", "Singapore"),
            ("southindia", "Chennai"),
            ("spaincentral", "Madrid"),
            ("swedencentral", "Gävle"),
            ("switzerlandnorth", "Zurich"),
            ("switzerlandwest", "Geneva"),
            ("taiwannorth", "Taipei"),
            ("uaecentral", "Abu Dhabi"),
            ("uaenorth", "Dubai"),
            ("uksouth", "London"),
            ("ukwest", "Cardiff"),
            ("usgovarizona", "Phoenix"),
            ("usgovtexas", "San Antonio"),
            ("westcentralus", "Cheyenne"),
            ("westeurope", "Amsterdam"),
            ("westindia", "Mumbai"),
            ("westus", "San Francisco"),
            ("westus2", "Quincy"),
            ("westus3", "Phoenix"),
        ],
    },
    // “Regional Availability” of the DigitalOcean documentation.
    Provider {
        key: "digitalocean",
        name: "DigitalOcean",
        regions: &[
            ("ams2", "Amsterdam"),
            ("ams3", "Amsterdam"),
            ("atl1", "Atlanta"),
            ("blr1", "Bangalore"),
            ("fra1", "Frankfurt"),
            ("lon1", "London"),
            ("nyc1", "New York"),
            ("nyc2", "New York"),
            ("nyc3", "New York"),
            ("ric1", "Richmond"),
            ("sfo1", "San Francisco"),
            ("sfo2", "San Francisco"),
            ("sfo3", "San Francisco"),
            ("sgp1", "Singapore"),
            ("syd1", "Sydney"),
            ("tor1", "Toronto"),
        ],
    },
    // “Regions and zones” of the Compute Engine documentation.
    Provider {
        key: "gcp",
        name: "Google Cloud",
        regions: &[
            ("africa-south1", "Johannesburg"),
            ("asia-east1", "Changhua"),
            ("asia-east2", "Hong Kong"),
            ("asia-northeast1", "Tokyo"),
            ("asia-northeast2", "Osaka"),
            ("asia-northeast3", "Seoul"),
            ("asia-south1", "Mumbai"),
            ("asia-south2", "Delhi"),
            ("asia-southeast1", "Singapore"),
            ("asia-southeast2", "Jakarta"),
            ("australia-southeast1", "Sydney"),
            ("australia-southeast2", "Melbourne"),
            ("europe-central2", "Warsaw"),
            ("europe-north1", "Hamina"),
            ("europe-north2", "Stockholm"),
            ("europe-southwest1", "Madrid"),
            ("europe-west1", "Saint-Ghislain"),
            ("europe-west10", "Berlin"),
            ("europe-west12", "Turin"),
            ("europe-west2", "London"),
            ("europe-west3", "Frankfurt"),
            ("europe-west4", "Eemshaven"),
            ("europe-west6", "Zurich"),
            ("europe-west8", "Milan"),
            ("europe-west9", "Paris"),
            ("me-central1", "Doha"),
            ("me-central2", "Dammam"),
            ("me-west1", "Tel Aviv"),
            ("northamerica-northeast1", "Montreal"),
            ("northamerica-northeast2", "Toronto"),
            ("northamerica-south1", "Querétaro"),
            ("southamerica-east1", "São Paulo"),
            ("southamerica-west1", "Santiago"),
            ("us-central1", "Council Bluffs"),
            ("us-east1", "Moncks Corner"),
            ("us-east4", "Ashburn"),
            ("us-east5", "Columbus"),
            ("us-south1", "Dallas"),
            ("us-west1", "The Dalles"),
            ("us-west2", "Los Angeles"),
            ("us-west3", "Salt Lake City"),
            ("us-west4", "Las Vegas"),
        ],
    },
    // “Locations” of the Hetzner Cloud documentation.
    Provider {
        key: "hetzner",
        name: "Hetzner Cloud",
        regions: &[
            ("ash", "Ashburn"),
            ("fsn1", "Falkenstein"),
            ("hel1", "Helsinki"),
            ("hil", "Hillsboro"),
            ("nbg1", "Nuremberg"),
            ("sin", "Singapore"),
        ],
    },
    // “Regions” of the Akamai cloud documentation.
    Provider {
        key: "linode",
        name: "Linode (Akamai)",
        regions: &[
            ("ap-northeast", "Tokyo"),
            ("ap-south", "Singapore"),
            ("ap-southeast", "Sydney"),
            ("ap-west", "Mumbai"),
            ("au-mel", "Melbourne"),
            ("br-gru", "São Paulo"),
            ("ca-central", "Toronto"),
            ("de-fra-2", "Frankfurt"),
            ("es-mad", "Madrid"),
            ("eu-central", "Frankfurt"),
            ("eu-west", "London"),
            ("fr-par", "Paris"),
            ("gb-lon", "London"),
            ("id-cgk", "Jakarta"),
            ("in-bom-2", "Mumbai"),
            ("in-maa", "Chennai"),
            ("it-mil", "Milan"),
            ("jp-osa", "Osaka"),
            ("jp-tyo-3", "Tokyo"),
            ("nl-ams", "Amsterdam"),
            ("se-sto", "Stockholm"),
            ("sg-sin-2", "Singapore"),
            ("us-central", "Dallas"),
            ("us-east", "Newark"),
            ("us-iad", "Washington"),
            ("us-lax", "Los Angeles"),
            ("us-mia", "Miami"),
            ("us-ord", "Chicago"),
            ("us-sea", "Seattle"),
            ("us-southeast", "Atlanta"),
            ("us-west", "Fremont"),
        ],
    },
    // “Regions and Availability Domains” of the OCI documentation.
    Provider {
        key: "oci",
        name: "Oracle Cloud",
        regions: &[
            ("af-johannesburg-1", "Johannesburg"),
            ("ap-batam-1", "Batam"),
            ("ap-chuncheon-1", "Chuncheon"),
            ("ap-hyderabad-1", "Hyderabad"),
            ("ap-melbourne-1", "Melbourne"),
            ("ap-mumbai-1", "Mumbai"),
            ("ap-osaka-1", "Osaka"),
            ("ap-seoul-1", "Seoul"),
            ("ap-singapore-1", "Singapore"),
            ("ap-singapore-2", "Singapore"),
            ("ap-sydney-1", "Sydney"),
            ("ap-tokyo-1", "Tokyo"),
            ("ca-montreal-1", "Montreal"),
            ("ca-toronto-1", "Toronto"),
            ("eu-amsterdam-1", "Amsterdam"),
            ("eu-frankfurt-1", "Frankfurt"),
            ("eu-madrid-1", "Madrid"),
            ("eu-marseille-1", "Marseille"),
            ("eu-milan-1", "Milan"),
            ("eu-paris-1", "Paris"),
            ("eu-stockholm-1", "Stockholm"),
            ("eu-zurich-1", "Zurich"),
            ("il-jerusalem-1", "Jerusalem"),
            ("me-abudhabi-1", "Abu Dhabi"),
            ("me-dubai-1", "Dubai"),
            ("me-jeddah-1", "Jeddah"),
            ("me-riyadh-1", "Riyadh"),
            ("mx-monterrey-1", "Monterrey"),
            ("mx-queretaro-1", "Querétaro"),
            ("sa-bogota-1", "Bogotá"),
            ("sa-santiago-1", "Santiago"),
            ("sa-saopaulo-1", "São Paulo"),
            ("sa-valparaiso-1", "Valparaíso"),
            ("sa-vinhedo-1", "Vinhedo"),
            ("uk-cardiff-1", "Cardiff"),
            ("uk-london-1", "London"),
            ("us-ashburn-1", "Ashburn"),
            ("us-chicago-1", "Chicago"),
            ("us-phoenix-1", "Phoenix"),
            ("us-sanjose-1", "San Jose"),
        ],
    },
    // “Our data centres” of OVHcloud.
    Provider {
        key: "ovh",
        name: "OVHcloud",
        regions: &[
            ("bhs", "Beauharnois"),
            ("eri", "Erith"),
            ("gra", "Gravelines"),
            ("hil", "Hillsboro"),
            ("lim", "Limburg"),
            ("par", "Paris"),
            ("rbx", "Roubaix"),
            ("sbg", "Strasbourg"),
            ("sgp", "Singapore"),
            ("syd", "Sydney"),
            ("vin", "Vint Hill"),
            ("waw", "Warsaw"),
            ("ynm", "Mumbai"),
        ],
    },
    // “Data center locations” of Vultr.
    Provider {
        key: "vultr",
        name: "Vultr",
        regions: &[
            ("ams", "Amsterdam"),
            ("atl", "Atlanta"),
            ("blr", "Bangalore"),
            ("bom", "Mumbai"),
            ("cdg", "Paris"),
            ("del", "Delhi"),
            ("dfw", "Dallas"),
            ("ewr", "Newark"),
            ("fra", "Frankfurt"),
            ("hnl", "Honolulu"),
            ("icn", "Seoul"),
            ("itm", "Osaka"),
            ("jnb", "Johannesburg"),
            ("lax", "Los Angeles"),
            ("lhr", "London"),
            ("mad", "Madrid"),
            ("man", "Manchester"),
            ("mel", "Melbourne"),
            ("mex", "Mexico City"),
            ("mia", "Miami"),
            ("nrt", "Tokyo"),
            ("ord", "Chicago"),
            ("sao", "São Paulo"),
            ("scl", "Santiago"),
            ("sea", "Seattle"),
            ("sgp", "Singapore"),
            ("sjc", "San Jose"),
            ("sto", "Stockholm"),
            ("syd", "Sydney"),
            ("tlv", "Tel Aviv"),
            ("waw", "Warsaw"),
            ("yto", "Toronto"),
        ],
    },
];

static CITIES: &[City] = &[
    row("Abu Dhabi", b"AE", 24.45, 54.38),
    row("Amsterdam", b"NL", 52.37, 4.9),
    row("Ashburn", b"US", 39.04, -77.49),
    row("Atlanta", b"US", 33.75, -84.39),
    row("Auckland", b"NZ", -36.85, 174.76),
    row("Bangalore", b"IN", 12.97, 77.59),
    row("Bangkok", b"TH", 13.76, 100.5),
    row("Batam", b"ID", 1.13, 104.03),
    row("Beauharnois", b"CA", 45.31, -73.87),
    row("Beijing", b"CN", 39.9, 116.41),
    row("Berlin", b"DE", 52.52, 13.41),
    row("Boardman", b"US", 45.84, -119.7),
    row("Bogotá", b"CO", 4.71, -74.07),
    row("Boydton", b"US", 36.67, -78.39),
    row("Brussels", b"BE", 50.85, 4.35),
    row("Busan", b"KR", 35.18, 129.08),
    row("Calgary", b"CA", 51.05, -114.07),
    row("Canberra", b"AU", -35.28, 149.13),
    row("Cape Town", b"ZA", -33.92, 18.42),
    row("Cardiff", b"GB", 51.48, -3.18),
    row("Changhua", b"TW", 24.08, 120.54),
    row("Chennai", b"IN", 13.08, 80.27),
    row("Cheyenne", b"US", 41.14, -104.82),
    row("Chicago", b"US", 41.88, -87.63),
    row("Chuncheon", b"KR", 37.88, 127.73),
    row("Columbus", b"US", 39.96, -83.0),
    row("Copenhagen", b"DK", 55.68, 12.57),
    row("Council Bluffs", b"US", 41.26, -95.86),
    row("Dallas", b"US", 32.78, -96.8),
    row("Dammam", b"SA", 26.43, 50.1),
    row("Delhi", b"IN", 28.61, 77.21),
    row("Des Moines", b"US", 41.59, -93.62),
    row("Doha", b"QA", 25.29, 51.53),
    row("Dubai", b"AE", 25.2, 55.27),
    row("Dublin", b"IE", 53.35, -6.26),
    row("Eemshaven", b"NL", 53.44, 6.83),
    row("Erith", b"GB", 51.48, 0.18),
    row("Falkenstein", b"DE", 50.48, 12.37),
    row("Frankfurt", b"DE", 50.11, 8.68),
    row("Fremont", b"US", 37.55, -121.99),
    row("Geneva", b"CH", 46.2, 6.14),
    row("Gravelines", b"FR", 50.99, 2.13),
    row("Gävle", b"SE", 60.67, 17.14),
    row("Hamina", b"FI", 60.57, 27.2),
    row("Helsinki", b"FI", 60.17, 24.94),
    row("Hillsboro", b"US", 45.52, -122.99),
    row("Hong Kong", b"HK", 22.32, 114.17),
    row("Honolulu", b"US", 21.31, -157.86),
    row("Hyderabad", b"IN", 17.39, 78.49),
    row("Jakarta", b"ID", -6.21, 106.85),
    row("Jamnagar", b"IN", 22.47, 70.06),
    row("Jeddah", b"SA", 21.49, 39.19),
    row("Jerusalem", b"IL", 31.77, 35.21),
    row("Johannesburg", b"ZA", -26.2, 28.05),
    row("Kuala Lumpur", b"MY", 3.15, 101.69),
    row("Las Vegas", b"US", 36.17, -115.14),
    row("Limburg", b"DE", 50.38, 8.06),
    row("London", b"GB", 51.51, -0.13),
    row("Los Angeles", b"US", 34.05, -118.24),
    row("Madrid", b"ES", 40.42, -3.7),
    row("Manama", b"BH", 26.23, 50.59),
    row("Manchester", b"GB", 53.48, -2.24),
    row("Marseille", b"FR", 43.3, 5.37),
    row("Melbourne", b"AU", -37.81, 144.96),
    row("Mexico City", b"MX", 19.43, -99.13),
    row("Miami", b"US", 25.76, -80.19),
    row("Milan", b"IT", 45.46, 9.19),
    row("Moncks Corner", b"US", 33.2, -80.01),
    row("Monterrey", b"MX", 25.69, -100.32),
    row("Montreal", b"CA", 45.5, -73.57),
    row("Mumbai", b"IN", 19.08, 72.88),
    row("Nagpur", b"IN", 21.15, 79.09),
    row("New York", b"US", 40.71, -74.01),
    row("Newark", b"US", 40.74, -74.17),
    row("Nuremberg", b"DE", 49.45, 11.08),
    row("Osaka", b"JP", 34.69, 135.5),
    row("Oslo", b"NO", 59.91, 10.75),
    row("Paris", b"FR", 48.86, 2.35),
    row("Phoenix", b"US", 33.45, -112.07),
    row("Pune", b"IN", 18.52, 73.86),
    row("Quebec", b"CA", 46.81, -71.21),
    row("Querétaro", b"MX", 20.59, -100.39),
    row("Quincy", b"US", 47.23, -119.85),
    row("Richmond", b"US", 37.54, -77.44),
    row("Rio de Janeiro", b"BR", -22.91, -43.17),
    row("Riyadh", b"SA", 24.71, 46.68),
    row("Roubaix", b"FR", 50.69, 3.17),
    row("Saint-Ghislain", b"BE", 50.45, 3.82),
    row("Salt Lake City", b"US", 40.76, -111.89),
    row("San Antonio", b"US", 29.42, -98.49),
    row("San Francisco", b"US", 37.77, -122.42),
    row("San Jose", b"US", 37.34, -121.89),
    row("Santiago", b"CL", -33.45, -70.67),
    row("Seattle", b"US", 47.61, -122.33),
    row("Seoul", b"KR", 37.57, 126.98),
    row("Shanghai", b"CN", 31.23, 121.47),
    row("Singapore", b"SG", 1.35, 103.82),
    row("Stavanger", b"NO", 58.97, 5.73),
    row("Stockholm", b"SE", 59.33, 18.07),
    row("Strasbourg", b"FR", 48.58, 7.75),
    row("Sydney", b"AU", -33.87, 151.21),
    row("São Paulo", b"BR", -23.55, -46.63),
    row("Taipei", b"TW", 25.03, 121.57),
    row("Tel Aviv", b"IL", 32.09, 34.78),
    row("The Dalles", b"US", 45.59, -121.18),
    row("Tokyo", b"JP", 35.68, 139.69),
    row("Toronto", b"CA", 43.65, -79.38),
    row("Turin", b"IT", 45.07, 7.69),
    row("Valparaíso", b"CL", -33.05, -71.62),
    row("Vienna", b"AT", 48.21, 16.37),
    row("Vinhedo", b"BR", -23.03, -46.98),
    row("Vint Hill", b"US", 38.74, -77.67),
    row("Warsaw", b"PL", 52.23, 21.01),
    row("Washington", b"US", 38.91, -77.04),
    row("Zaragoza", b"ES", 41.65, -0.89),
    row("Zhongwei", b"CN", 37.5, 105.19),
    row("Zurich", b"CH", 47.38, 8.54),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::geo::{centroid_of, distance_km};

    #[test]
    fn tables_are_sorted_and_complete() {
        assert!(PROVIDERS.windows(2).all(|pair| pair[0].key < pair[1].key));
        for provider in PROVIDERS {
            assert!(provider.regions.windows(2).all(|pair| pair[0].0 < pair[1].0), "{}", provider.key);
            for (name, city_name) in provider.regions {
                assert!(city(city_name).is_some(), "{}:{name} is in {city_name}, which has no row", provider.key);
                assert!(cloud_region(&format!("{}:{name}", provider.key)).is_some());
            }
        }
        assert!(CITIES.windows(2).all(|pair| pair[0].name < pair[1].name));
        let used: BTreeSet<&str> = PROVIDERS.iter().flat_map(|one| one.regions).map(|(_, city)| *city).collect();
        assert_eq!(used.into_iter().collect::<Vec<_>>(), CITIES.iter().map(|city| city.name).collect::<Vec<_>>());
        let counts: Vec<usize> = PROVIDERS.iter().map(|provider| provider.regions.len()).collect();
        assert_eq!(counts, [36, 66, 16, 42, 6, 31, 40, 13, 32]);
        assert_eq!(cloud_region("aws:eu-west-9").or(cloud_region("aws")).or(cloud_region("nobody:eu-west-1")), None);
    }

    /// How far from the middle of its country a city can be, in km, where that is more than 650.
    const LARGE: [(&str, f64); 10] = [
        ("AU", 1_950.0),
        ("BR", 1_800.0),
        ("CA", 2_500.0),
        ("CN", 1_800.0),
        ("ID", 1_700.0),
        ("IN", 1_200.0),
        ("MY", 950.0),
        ("SA", 700.0),
        ("US", 2_400.0),
        ("ZA", 900.0),
    ];

    /// A sign that is wrong, or two numbers that changed places, take a city out of its country.
    #[test]
    fn cities_are_in_their_countries() {
        for city in CITIES.iter().filter(|city| city.name != "Honolulu") {
            let country = city.country.to_string();
            let most = LARGE.iter().find(|(code, _)| *code == country).map_or(650.0, |(_, km)| *km);
            let km = distance_km(city.at, centroid_of(city.country).expect("a country"));
            assert!(city.at.is_valid() && km <= most, "{} is {km:.0} km from the middle of {country}", city.name);
        }
    }

    #[test]
    fn known_distances() {
        for (from, to, km) in [
            ("aws:eu-west-1", "aws:eu-west-2", 464.0),
            ("aws:eu-central-1", "gcp:europe-west9", 479.0),
            ("aws:us-east-1", "azure:westus", 3_860.0),
            ("aws:ap-southeast-2", "gcp:australia-southeast2", 713.0),
            ("azure:southeastasia", "aws:ap-east-1", 2_580.0),
            ("aws:sa-east-1", "azure:brazilsoutheast", 361.0),
            ("aws:af-south-1", "gcp:africa-south1", 1_265.0),
            ("hetzner:hel1", "aws:eu-north-1", 396.0),
            ("aws:ap-northeast-1", "aws:ap-northeast-3", 397.0),
            ("vultr:hnl", "vultr:lax", 4_110.0),
            ("linode:us-east", "digitalocean:nyc3", 14.0),
            ("ovh:gra", "oci:uk-london-1", 170.0),
        ] {
            let at = |text: &str| cloud_region(text).unwrap_or_else(|| panic!("{text}"));
            let found = distance_km(at(from), at(to));
            assert!((found - km).abs() <= km * 0.02 + 3.0, "{from} to {to}: {found:.0} km");
        }
    }
}
