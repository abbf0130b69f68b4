//! Selectors of map entries, and the codes of places in them and in networks files.

use super::kinds;
use super::text::nearest;
use super::value::quoted;
use crate::geo::Code;
use crate::steering::{Part, Selector};

/// What is wrong, and what is allowed or what to do.
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) allowed: Option<String>,
    pub(super) hint: Option<String>,
}

impl Wrong {
    fn new(message: impl Into<String>) -> Wrong {
        Wrong { message: message.into(), allowed: None, hint: None }
    }
}

const CONTINENTS: &[&str] = &["AF", "AN", "AS", "EU", "NA", "OC", "SA"];
const KINDS: &[&str] = &["continent", "country", "subdivision", "city", "as"];

/// ISO 3166-1 alpha-2, and XK for Kosovo as all data bases have it.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR \
    BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET \
    FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ \
    IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML \
    MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS \
    PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL \
    TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// A continent's code.
pub(super) fn continent(text: &str) -> Result<Code, Wrong> {
    if CONTINENTS.contains(&text) {
        return code(text);
    }
    let upper = text.to_uppercase();
    let hint = CONTINENTS.contains(&upper.as_str()).then(|| format!("write {upper:?}"));
    let message = format!("{} is not a continent", quoted(text));
    Err(Wrong { message, allowed: Some(CONTINENTS.join(", ")), hint })
}

/// A country's code.
pub(super) fn country(text: &str) -> Result<Code, Wrong> {
    let is_country = |text: &str| COUNTRIES.split_ascii_whitespace().any(|code| code == text);
    if is_country(text) {
        return code(text);
    }
    let upper = text.to_uppercase();
    let hint = match upper.as_str() {
        "UK" => Some("the United Kingdom is \"GB\"".to_string()),
        "EL" => Some("Greece is \"GR\"".to_string()),
        upper if is_country(upper) => Some(format!("write {upper:?}")),
        upper if CONTINENTS.contains(&upper) => Some(format!("as a continent it is \"continent:{upper}\"")),
        _ => None,
    };
    let message = format!("{} is not a country", quoted(text));
    Err(Wrong { message, allowed: Some("two letters of ISO 3166-1: DE, US, JP …".into()), hint })
}

fn code(text: &str) -> Result<Code, Wrong> {
    <[u8; 2]>::try_from(text.as_bytes()).map(Code).map_err(|_| Wrong::new("not two letters"))
}

/// A subdivision's code, `US-CA`.
pub(super) fn subdivision(text: &str) -> Result<Box<str>, Wrong> {
    let allowed = Some("a code of ISO 3166-2 with its country: US-CA, GB-ENG".to_string());
    let wrong =
        |hint| Wrong { message: format!("{} is not a subdivision", quoted(text)), allowed: allowed.clone(), hint };
    let is_part = |part: &str| {
        (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_uppercase() || octet.is_ascii_digit())
    };
    match text.split_once('-') {
        Some((of, part)) if is_part(part) => {
            country(of)?;
            Ok(text.into())
        }
        _ if text != text.to_uppercase() => Err(wrong(Some(format!("write {:?}", text.to_uppercase())))),
        _ => Err(wrong(None)),
    }
}

/// A whole selector: parts joined with `,`.
pub(super) fn selector(text: &str) -> Result<Selector, Wrong> {
    let mut parts: Vec<Part> = Vec::new();
    for written in text.split(',') {
        let part = part(written)?;
        if parts.iter().any(|other| std::mem::discriminant(other) == std::mem::discriminant(&part)) {
            let mut wrong = Wrong::new(format!("{} joins two of one kind, no client fits both", quoted(text)));
            wrong.hint = Some("write an entry for each".into());
            return Err(wrong);
        }
        parts.push(part);
    }
    Ok(Selector(parts))
}

fn part(text: &str) -> Result<Part, Wrong> {
    let Some((kind, value)) = text.split_once(':').filter(|_| text.parse::<ipnet::IpNet>().is_err()) else {
        return network(text);
    };
    match kind {
        "continent" => continent(value).map(Part::Continent),
        "country" => country(value).map(Part::Country),
        "subdivision" => subdivision(value).map(Part::Subdivision),
        "city" => number(value, "a GeoNames id").map(Part::City),
        "as" => number(value, "an AS number").map(Part::As),
        _ if text.contains('/') || text.parse::<std::net::IpAddr>().is_ok() => network(text),
        _ => Err(Wrong {
            message: format!("{} is not a selector", quoted(text)),
            allowed: Some(format!("{} before the colon, or a prefix", KINDS.join(", "))),
            hint: nearest(kind.trim(), KINDS.iter().copied())
                .map(|kind| format!("did you mean \"{kind}:{}\"?", value.trim())),
        }),
    }
}

fn network(text: &str) -> Result<Part, Wrong> {
    kinds::prefix_of(text).map(Part::Network).map_err(|(message, hint)| {
        let allowed = hint.is_none().then(|| format!("{} with a colon, or a prefix", KINDS.join(", ")));
        Wrong { message, allowed, hint }
    })
}

fn number(text: &str, what: &str) -> Result<u32, Wrong> {
    let digits = text.trim_start_matches(['A', 'S', 'a', 's']);
    let parsed = digits.parse::<u32>().ok().filter(|number| *number > 0 && !digits.starts_with('+'));
    match parsed {
        Some(number) if digits == text => Ok(number),
        other => Err(Wrong {
            message: format!("{} is not {what}", quoted(text)),
            allowed: Some("1 to 4294967295".into()),
            hint: other.map(|number| format!("write the number alone: {number}")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_selectors() {
        for (text, parts) in [
            ("continent:EU", 1),
            ("country:XK", 1),
            ("subdivision:US-CA", 1),
            ("city:2643743", 1),
            ("as:64500", 1),
            ("198.51.100.0/24", 1),
            ("2001:db8::/32", 1),
            ("2001:db8::1", 1),
            ("as:64501,country:DE", 2),
            ("192.0.2.0/24,country:DE,as:1", 3),
        ] {
            assert_eq!(selector(text).ok().map(|selector| selector.0.len()), Some(parts), "{text}");
        }
        for text in [
            "",
            ",",
            "continent:",
            "continent:eu",
            "country:UK",
            "country:de",
            "subdivision:CA",
            "subdivision:XX-1",
            "city:0",
            "city:-1",
            "city:+1",
            "as:AS64500",
            "as:4294967296",
            "asn:1",
            "10.0.0.1/8",
            "as:1,as:2",
            "as:1, country:DE",
            "region:eu",
            "*",
            "::1/0",
        ] {
            assert!(selector(text).is_err(), "{text}");
        }
    }
}
