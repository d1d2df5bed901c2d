//! Settings in files, as whoever administers is shown how they differ from what holds.

use std::sync::Arc;

/// Settings in the files that are not those that hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// SHA-256 of them as text.
    pub sha256: String,
    /// How they differ, by lines.
    pub diff: String,
    /// Whether more differs than is shown.
    pub cut: bool,
}

/// Looks whether the files differ from what holds; else why they cannot be read.
pub type Differ = Arc<dyn Fn() -> Result<Option<Settings>, String> + Send + Sync>;
