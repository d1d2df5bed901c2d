//! The objects of one segment, from a list of their versions.

use std::collections::BTreeMap;

use super::bucket::Version;
use super::{FRAMES, TRAIL, name_of};

/// One object of a segment: the version that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The object's name.
    pub(super) name: String,
    /// Its place in the segment.
    pub(super) number: u8,
    /// Id of the version that counts; none where the bucket keeps no versions.
    pub(super) version: Option<String>,
    /// Bytes.
    pub(super) length: u64,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) places: Vec<Place>,
}

impl Table {
    /// The table, and what should not be there, by frame. Frames count up to the first that is missing.
    pub(super) fn of(segment: u32, versions: Vec<Version>) -> (Table, BTreeMap<u64, String>) {
        let mut by_name: BTreeMap<String, Vec<Version>> = BTreeMap::new();
        for version in versions {
            by_name.entry(version.name.clone()).or_default().push(version);
        }
        let first = u64::from(segment) * FRAMES;
        let mut odd = BTreeMap::new();
        let mut table = Table::default();
        if let Some(trail) = by_name.remove(TRAIL) {
            table.places.extend(oldest(&trail).map(|(id, length)| Place {
                name: TRAIL.to_owned(),
                number: 0,
                version: id,
                length,
            }));
        }
        let mut ended = false;
        for place in 0..FRAMES as usize {
            let name = name_of(segment, place);
            let versions = by_name.remove(&name).unwrap_or_default();
            let objects = versions.iter().filter(|version| version.length.is_some()).count();
            let mut say = |what: &str| odd.insert(first + place as u64, what.to_owned());
            if objects < versions.len() {
                say("its object has a delete marker, which nothing of ours makes");
            } else if objects > 1 {
                say("its object has a second version, which nothing of ours makes; the oldest counts");
            }
            match oldest(&versions) {
                None => ended = true,
                Some(_) if ended => {
                    say("it stands after a frame that is missing");
                }
                Some((version, length)) => {
                    if length == 0 {
                        say("its object is empty");
                    }
                    table.places.push(Place { name, number: place as u8, version, length });
                }
            }
        }
        if !by_name.is_empty() {
            odd.insert(first, "objects stand beside its segment's that are none of a trail".to_owned());
        }
        (table, odd)
    }

    /// Bytes of all.
    pub(super) fn bytes(&self) -> u64 {
        self.places.iter().map(|place| place.length).sum()
    }

    /// Whether all its frames are there.
    pub(super) fn is_whole(&self) -> bool {
        self.is_frames() && self.places.len() as u64 == FRAMES
    }

    /// Whether these are frames, and not the object that says which trail it is.
    pub(super) fn is_frames(&self) -> bool {
        self.places.first().is_some_and(|place| place.name != TRAIL)
    }
}

/// Of one object's versions, the newest first, the one that was there first. One that is alone and was put while the bucket
/// kept no versions is read without an id, which not every store takes.
pub(super) fn oldest(versions: &[Version]) -> Option<(Option<String>, u64)> {
    let object = versions.iter().rev().find(|version| version.length.is_some())?;
    let alone = versions.len() == 1;
    let id = object.id.clone().filter(|id| !alone || id != "null");
    Some((id, object.length.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(place: usize, id: &str, length: Option<u64>) -> Version {
        Version { name: name_of(3, place), id: Some(id.to_owned()), length }
    }

    #[test]
    fn the_oldest_version_counts_and_what_stands_over_it_is_told() {
        let (table, odd) = Table::of(
            3,
            vec![
                version(0, "b", Some(9)),
                version(0, "a", Some(5)),
                version(1, "d", None),
                version(1, "c", Some(7)),
                version(2, "e", Some(1)),
                version(4, "f", Some(2)),
            ],
        );
        let held: Vec<_> = table.places.iter().map(|place| (place.number, place.version.as_deref())).collect();
        assert_eq!(held, [(0, Some("a")), (1, Some("c")), (2, Some("e"))]);
        assert_eq!(table.bytes(), 13);
        let told: Vec<_> = odd.keys().copied().collect();
        assert_eq!(told, [192, 193, 196]);
        assert!(odd[&193].contains("delete marker") && odd[&196].contains("missing"));
        let (_, odd) = Table::of(3, vec![Version { name: "frames/0000000003/x".into(), id: None, length: Some(1) }]);
        assert_eq!(odd.len(), 1);
    }

    #[test]
    fn what_was_there_before_a_bucket_kept_versions_is_still_the_oldest() {
        let null = |length| Version { name: name_of(0, 0), id: Some("null".into()), length: Some(length) };
        assert_eq!(oldest(&[null(5)]), Some((None, 5)));
        let over = Version { id: Some("b".into()), ..null(9) };
        assert_eq!(oldest(&[over, null(5)]), Some((Some("null".into()), 5)));
    }

    #[test]
    fn a_trail_without_frames_is_its_header() {
        let trail = Version { name: TRAIL.into(), id: None, length: Some(300) };
        let (table, odd) = Table::of(0, vec![trail]);
        assert!(!table.is_frames() && table.bytes() == 300 && odd.is_empty());
    }
}
