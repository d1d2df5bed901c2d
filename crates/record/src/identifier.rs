//! Identifiers of persons: typed and normalised, so that two spellings of one are compared as one.

/// What sort of identifier it is. The byte is part of the keyed hash and never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum IdentifierType {
    /// The business's own customer number, compared as given.
    CustomerId = 1,
    /// An e-mail address: domain in lower case, local part as given.
    Address = 2,
    /// A telephone number in E.164.
    Phone = 3,
    /// A member of staff or another user of the business's systems, by the opaque id that actors have.
    UserId = 4,
}

impl IdentifierType {
    /// The name used in schemas and on the command line.
    pub fn by_name(name: &str) -> Option<IdentifierType> {
        match name {
            "customer_id" => Some(IdentifierType::CustomerId),
            "address" => Some(IdentifierType::Address),
            "phone" => Some(IdentifierType::Phone),
            "user_id" => Some(IdentifierType::UserId),
            _ => None,
        }
    }
}

/// The normal form, version 1. An identifier that looks odd is kept as given: it is never refused.
pub fn normalise(kind: IdentifierType, given: &str) -> String {
    let given = given.trim();
    match kind {
        IdentifierType::CustomerId | IdentifierType::UserId => given.to_owned(),
        IdentifierType::Address => normalise_address(given),
        IdentifierType::Phone => normalise_phone(given),
    }
}

fn normalise_address(given: &str) -> String {
    let inner = match (given.rfind('<'), given.ends_with('>')) {
        (Some(open), true) => &given[open + 1..given.len() - 1],
        _ => given,
    };
    match inner.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_lowercase().trim_end_matches('.')),
        None => inner.to_owned(),
    }
}

/// `0...` without a country is South African (+27): home ground, and stated in the docs.
fn normalise_phone(given: &str) -> String {
    let digits: String = given.chars().filter(char::is_ascii_digit).collect();
    if given.starts_with('+') {
        format!("+{digits}")
    } else if let Some(rest) = digits.strip_prefix("00") {
        format!("+{rest}")
    } else if let Some(rest) = digits.strip_prefix('0').filter(|rest| rest.len() == 9) {
        format!("+27{rest}")
    } else if digits.len() >= 8 {
        format!("+{digits}")
    } else {
        given.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_identifier_meet() {
        let same = |kind, one: &str, other: &str| assert_eq!(normalise(kind, one), normalise(kind, other));
        same(IdentifierType::Address, "Thabo.4@MAIL.example", "Thabo.4@mail.example.");
        same(IdentifierType::Address, "Thabo <t@mail.example>", "t@mail.example");
        assert_ne!(
            normalise(IdentifierType::Address, "T@mail.example"),
            normalise(IdentifierType::Address, "t@mail.example")
        );
        same(IdentifierType::Phone, "082 555 0100", "+27825550100");
        same(IdentifierType::Phone, "0027 82 555 0100", "+27 (82) 555-0100");
        assert_eq!(normalise(IdentifierType::Phone, "ext 12"), "ext 12");
    }
}
