//! Where an address is, roughly: by ranges that the deployment names, then by a file in MaxMind's format (its
//! specification: MaxMind-DB 2.0). No address is asked of anybody.

use std::net::IpAddr;
use std::path::Path;

use maxminddb::Reader;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Characters of a place's name, at most.
const NAME_MAX: usize = 128;
/// Mean radius of the earth, in kilometres (IUGG).
const EARTH_KM: f64 = 6371.0;
/// Nearer than this, two places may be one: what a file says of an address is that rough.
const NEAR_KM: f64 = 150.0;
/// Nobody travels faster than this, in kilometres an hour.
const FASTEST_KMH: f64 = 1000.0;
/// Millionths of a degree.
const MICRO: f64 = 1_000_000.0;

/// A point on the earth, in millionths of a degree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// North of the equator.
    pub north: i32,
    /// East of Greenwich.
    pub east: i32,
}

impl Point {
    /// From degrees; none of what is no point.
    pub fn of(latitude: f64, longitude: f64) -> Option<Point> {
        let fits = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        fits.then_some(Point { north: (latitude * MICRO) as i32, east: (longitude * MICRO) as i32 })
    }

    /// Kilometres to another, over the sphere.
    pub fn km_to(self, other: Point) -> f64 {
        let radians = |micro: i32| (f64::from(micro) / MICRO).to_radians();
        let (a, b) = (radians(self.north), radians(other.north));
        let (high, wide) = (b - a, radians(other.east) - radians(self.east));
        let h = (high / 2.0).sin().powi(2) + a.cos() * b.cos() * (wide / 2.0).sin().powi(2);
        2.0 * EARTH_KM * h.sqrt().min(1.0).asin()
    }
}

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What it is called.
    pub name: String,
    /// Country, two letters (ISO 3166-1).
    pub country: Option<String>,
    /// Where it is.
    pub point: Option<Point>,
}

/// Where somebody was last, and when (milliseconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Where.
    pub point: Point,
    /// When.
    pub at_ms: u64,
}

impl Seen {
    /// Whether nobody can have come from there to here by then.
    pub fn is_too_far(self, point: Point, at_ms: u64) -> bool {
        let km = self.point.km_to(point);
        let hours = at_ms.saturating_sub(self.at_ms) as f64 / 3_600_000.0;
        km > NEAR_KM && km > hours * FASTEST_KMH
    }
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: u128,
    mask: u128,
    is_six: bool,
}

impl Range {
    /// Reads a range such as `10.1.0.0/16`; what is wrong, as a sentence.
    ///
    /// # Errors
    /// It is none, or has bits after its prefix.
    pub fn parse(text: &str) -> Result<Range, String> {
        let bad = || format!("{text:?} is no range of addresses such as \"10.1.0.0/16\"");
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let (first, is_six) = number(address);
        let all = if is_six { 128 } else { 32 };
        let bits: u32 = bits.parse().ok().filter(|bits| *bits <= all).ok_or_else(bad)?;
        // As many ones from the top of the address's own width.
        let width = if is_six { u128::MAX } else { u128::from(u32::MAX) };
        let mask = width & !(width.checked_shr(bits).unwrap_or(0));
        if first & !mask & width != 0 {
            return Err(format!("{text:?} has bits after its prefix"));
        }
        Ok(Range { first, mask, is_six })
    }

    /// Whether an address is in it.
    pub fn has(&self, address: IpAddr) -> bool {
        let (at, is_six) = number(address);
        self.is_six == is_six && at & self.mask == self.first
    }
}

/// Who asks, where proxies hand requests on: the last address of `X-Forwarded-For` that is none of theirs. What stands
/// before it was written by whoever asks; nothing is believed of a peer that is no proxy.
pub fn client<'h>(peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'h str>, proxies: &[Range]) -> IpAddr {
    let of_proxy = |address: &IpAddr| proxies.iter().any(|range| range.has(*address));
    let mut client = peer;
    for named in forwarded.rev().flat_map(|line| line.rsplit(',')) {
        if !of_proxy(&client) {
            break;
        }
        // What is no address was not written by a proxy of ours.
        let Ok(address) = named.trim().parse() else { break };
        client = address;
    }
    client
}

/// See the module.
pub struct Places {
    /// The narrowest first.
    ranges: Vec<(Range, Place)>,
    file: Option<Reader<Vec<u8>>>,
}

fn number(address: IpAddr) -> (u128, bool) {
    match address.to_canonical() {
        IpAddr::V4(four) => (u128::from(u32::from(four)), false),
        IpAddr::V6(six) => (u128::from(six), true),
    }
}

impl Places {
    /// Ranges such as `10.1.0.0/16` with their places, and a file; what is wrong, as a sentence.
    ///
    /// # Errors
    /// A range is none, or the file can't be read as one of places.
    pub fn new(ranges: impl IntoIterator<Item = (String, Place)>, file: Option<&Path>) -> Result<Places, String> {
        let mut held = Vec::new();
        for (text, place) in ranges {
            held.push((Range::parse(&text)?, place));
        }
        held.sort_by_key(|(range, _)| std::cmp::Reverse(range.mask.count_ones()));
        let read = |path: &Path| {
            Reader::open_readfile(path).map_err(|_| format!("{} is no file in MaxMind's format", path.display()))
        };
        Ok(Places { ranges: held, file: file.map(read).transpose()? })
    }

    /// Where an address is.
    pub fn of(&self, address: IpAddr) -> Option<Place> {
        if let Some((_, place)) = self.ranges.iter().find(|(range, _)| range.has(address)) {
            return Some(place.clone());
        }
        let found: Value = self.file.as_ref()?.lookup(address.to_canonical()).ok()?.decode().ok()??;
        let text = |path: &str| found.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let country = text("/country/iso_code").filter(|code| code.len() == 2 && code.is_ascii());
        let city = text("/city/names/en").or_else(|| text("/country/names/en"));
        let name: String =
            city.or_else(|| country.clone())?.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
        let degree = |path: &str| found.pointer(path).and_then(Value::as_f64);
        let point = degree("/location/latitude").zip(degree("/location/longitude"));
        Some(Place { name, country, point: point.and_then(|(north, east)| Point::of(north, east)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        Place { name: name.into(), country: None, point: None }
    }

    fn places(ranges: &[&str]) -> Result<Places, String> {
        Places::new(ranges.iter().map(|range| ((*range).to_owned(), place(range))), None)
    }

    #[test]
    fn the_narrowest_range_is_the_place() {
        let places = places(&["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "2001:db8::/32"]).expect("ranges");
        let name = |address: &str| places.of(address.parse().expect("an address")).map(|place| place.name);
        assert_eq!(name("10.1.2.3").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(name("10.2.2.3").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(name("192.0.2.1").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(name("::ffff:10.1.2.3").as_deref(), Some("10.1.0.0/16"), "an address of four within one of six");
        assert_eq!(name("2001:db8::7").as_deref(), Some("2001:db8::/32"));
        assert_eq!(name("2001:db9::7"), None);
    }

    #[test]
    fn who_asks_is_told_by_proxies_alone() {
        let proxies: Vec<Range> = ["10.0.0.0/8", "::1/128"].map(|text| Range::parse(text).expect("a range")).to_vec();
        let of = |peer: &str, lines: &[&str]| {
            client(peer.parse().expect("an address"), lines.iter().copied(), &proxies).to_string()
        };
        assert_eq!(of("10.0.0.1", &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(of("192.0.2.9", &["192.0.2.7"]), "192.0.2.9", "no proxy of ours");
        assert_eq!(of("10.0.0.1", &["198.51.100.1, 192.0.2.7"]), "192.0.2.7", "what the asker wrote before it");
        assert_eq!(of("10.0.0.1", &["198.51.100.1", "192.0.2.7, 10.0.0.2"]), "192.0.2.7", "two proxies, two lines");
        assert_eq!(of("10.0.0.1", &["192.0.2.7, unknown"]), "10.0.0.1");
        assert_eq!(of("::1", &[]), "::1");
    }

    #[test]
    fn what_is_no_range_or_file_is_said() {
        for range in ["10.0.0.0", "10.0.0.0/33", "10.0.0.1/8", "shop/8", "2001:db8::/129"] {
            assert!(places(&[range]).is_err_and(|said| said.contains(range)), "{range}");
        }
        assert!(Places::new([], Some(Path::new("/none.mmdb"))).is_err());
    }

    #[test]
    fn nobody_is_in_two_cities_within_an_hour() {
        let cape_town = Point::of(-33.93, 18.42).expect("a point");
        let johannesburg = Point::of(-26.20, 28.05).expect("a point");
        let km = cape_town.km_to(johannesburg);
        assert!((km - 1262.0).abs() < 10.0, "{km}");
        let seen = Seen { point: cape_town, at_ms: 0 };
        assert!(seen.is_too_far(johannesburg, 3_600_000) && !seen.is_too_far(johannesburg, 2 * 3_600_000));
        assert!(!seen.is_too_far(Point::of(-33.0, 18.5).expect("a point"), 0), "near");
        assert_eq!(Point::of(91.0, 0.0), None);
    }
}
