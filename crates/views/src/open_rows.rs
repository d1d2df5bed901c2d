//! Register rows that are not in a run yet, found by key without looking at them all: sorted parts, and a few loose
//! rows at the end. A partition's worth is hundreds of thousands of rows, and a list asks for fifty keys at once.

/// Rows that stand in the order they came.
const LOOSE_MAX: usize = 512;
/// Rows of a part, at most: two parts are merged while the writer waits.
const PART_MAX: usize = 65_536;

/// Key and entry.
pub(crate) type RegisterRow = (u64, u64);

#[derive(Default)]
pub(crate) struct OpenRows {
    /// Each sorted; sizes fall from the first to the last, but for full ones.
    parts: Vec<Vec<RegisterRow>>,
    loose: Vec<RegisterRow>,
}

impl OpenRows {
    pub(crate) fn extend(&mut self, rows: impl Iterator<Item = RegisterRow>) {
        for row in rows {
            self.loose.push(row);
            if self.loose.len() == LOOSE_MAX {
                self.settle();
            }
        }
    }

    /// Sorts the loose rows and merges parts as the carries of a binary number.
    fn settle(&mut self) {
        let mut part = std::mem::take(&mut self.loose);
        part.sort_unstable();
        while let Some(last) = self.parts.pop_if(|last| last.len() <= part.len() && last.len() + part.len() <= PART_MAX)
        {
            part.extend(last);
            // Two sorted runs: the stable sort finds and merges them.
            part.sort();
        }
        self.parts.push(part);
    }

    /// Entries of a key, in no order.
    pub(crate) fn find(&self, key: u64) -> Vec<u64> {
        let mut found: Vec<u64> = self.loose.iter().filter(|(held, _)| *held == key).map(|(_, entry)| *entry).collect();
        for part in &self.parts {
            let from = part.partition_point(|(held, _)| *held < key);
            found.extend(part[from..].iter().take_while(|(held, _)| *held == key).map(|(_, entry)| *entry));
        }
        found
    }

    /// Rows of entries before `end`, in no order.
    pub(crate) fn before(&self, end: u64) -> Vec<RegisterRow> {
        self.parts.iter().flatten().chain(&self.loose).filter(|(_, entry)| *entry < end).copied().collect()
    }

    /// Lets go of rows of entries before `end`.
    pub(crate) fn drop_before(&mut self, end: u64) {
        self.loose.retain(|(_, entry)| *entry >= end);
        self.parts.iter_mut().for_each(|part| part.retain(|(_, entry)| *entry >= end));
        self.parts.retain(|part| !part.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_key_whatever_was_merged_or_let_go() {
        let mut rows = OpenRows::default();
        let key = |entry: u64| (entry % 1000).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let expected = |wanted: u64, from: u64, to: u64| -> Vec<u64> {
            (from..to).filter(|entry| entry % 1000 == wanted).collect()
        };
        let found = |rows: &OpenRows, wanted: u64| {
            let mut found = rows.find(key(wanted));
            found.sort_unstable();
            found
        };
        rows.extend((0..200_000).map(|entry| (key(entry), entry)));
        assert!(rows.parts.len() < 16, "{}", rows.parts.len());
        assert!([0, 7, 999].into_iter().all(|wanted| found(&rows, wanted) == expected(wanted, 0, 200_000)));
        assert!(rows.find(1).is_empty());
        assert_eq!(rows.before(150_000).len(), 150_000);
        rows.drop_before(150_000);
        rows.extend((200_000..200_100).map(|entry| (key(entry), entry)));
        assert!([0, 7, 999].into_iter().all(|wanted| found(&rows, wanted) == expected(wanted, 150_000, 200_100)));
    }
}
