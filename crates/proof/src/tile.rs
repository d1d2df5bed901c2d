//! Tile coordinates and paths (c2sp.org/tlog-tiles v0.1.0).

use crate::error::{Error, malformed};

/// Hashes in a full tile.
pub const TILE_WIDTH: u64 = 256;
/// The highest level.
pub const LEVEL_MAX: u8 = 63;

const WHAT: &str = "tile path";

/// What a path below a trail's prefix names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TilePath {
    /// Hashes: level, index, and the width of a partial tile.
    Hashes {
        /// Level, 0 to 63; level 0 holds leaf hashes.
        level: u8,
        /// Index in the level.
        index: u64,
        /// 1 to 255 hashes, or a full tile.
        width: Option<u8>,
    },
    /// Entries: index, and the width of a partial bundle.
    Entries {
        /// Index of the bundle.
        index: u64,
        /// 1 to 255 entries, or a full bundle.
        width: Option<u8>,
    },
}

impl std::fmt::Display for TilePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (index, width) = match self {
            TilePath::Hashes { level, index, width } => {
                write!(f, "tile/{level}/")?;
                (index, width)
            }
            TilePath::Entries { index, width } => {
                f.write_str("tile/entries/")?;
                (index, width)
            }
        };
        f.write_str(&index_path(*index))?;
        match width {
            Some(width) => write!(f, ".p/{width}"),
            None => Ok(()),
        }
    }
}

fn index_path(mut index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    index /= 1000;
    while index > 0 {
        path = format!("x{:03}/{path}", index % 1000);
        index /= 1000;
    }
    path
}

impl TilePath {
    /// Reads a path such as `tile/0/x001/234.p/56`.
    ///
    /// # Errors
    /// Any spelling but the canonical one.
    pub fn parse(path: &str) -> Result<TilePath, Error> {
        let Some((level, rest)) = path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')) else {
            return malformed(WHAT, "not tile/<level>/<index>");
        };
        let (digits, width) = match rest.split_once(".p/") {
            Some((digits, width)) => match crate::encoding::decimal(width)? {
                width @ 1..=255 => (digits, Some(width as u8)),
                _ => return malformed(WHAT, "a partial width outside 1 to 255"),
            },
            None => (rest, None),
        };
        let index = parse_index(digits)?;
        if level == "entries" {
            return Ok(TilePath::Entries { index, width });
        }
        match crate::encoding::decimal(level)? {
            level if level <= u64::from(LEVEL_MAX) => Ok(TilePath::Hashes { level: level as u8, index, width }),
            _ => malformed(WHAT, "a level over 63"),
        }
    }
}

fn parse_index(text: &str) -> Result<u64, Error> {
    let mut index = 0u64;
    let mut groups = text.split('/').peekable();
    while let Some(group) = groups.next() {
        let digits = match groups.peek() {
            Some(_) => group.strip_prefix('x'),
            None => Some(group),
        };
        let Some(digits) = digits.filter(|digits| digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()))
        else {
            return malformed(WHAT, "an index group is not three digits");
        };
        let value: u64 = digits.parse().or_else(|_| malformed(WHAT, "an index group is not a number"))?;
        let next = index.checked_mul(1000).and_then(|index| index.checked_add(value));
        let Some(next) = next else {
            return malformed(WHAT, "an index over 2^64-1");
        };
        index = next;
    }
    if index_path(index) != text {
        return malformed(WHAT, "not the canonical index");
    }
    Ok(index)
}

/// Width of the partial tile at `level` for a tree of `size` leaves; 0 = there is none.
pub fn partial_width(level: u8, size: u64) -> u8 {
    (shift(size, u32::from(level) * 8) % TILE_WIDTH) as u8
}

/// Number of full tiles at `level` for a tree of `size` leaves.
pub fn full_tiles(level: u8, size: u64) -> u64 {
    shift(size, u32::from(level) * 8 + 8)
}

fn shift(size: u64, bits: u32) -> u64 {
    size.checked_shr(bits).unwrap_or(0)
}
