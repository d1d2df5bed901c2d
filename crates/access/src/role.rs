//! Roles: what somebody is to the trail. Policies say what a role may do.

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Answers the regulator; reads all.
    ComplianceOfficer,
    /// Sums and reports, approvals.
    Management,
    /// Sums and reports.
    Board,
    /// One customer at a time.
    CustomerService,
    /// Health and volumes.
    Operations,
    /// Sessions and reads.
    Security,
    /// What a case needs; grants to outsiders.
    Legal,
    /// What a grant names.
    Auditor,
    /// What a grant names.
    Regulator,
    /// Their own data.
    Customer,
    /// Appends.
    Source,
    /// The proof plane.
    Mirror,
    /// Keys, users, policies; no record.
    Administrator,
    /// A user of the machine that has the data directory and its master key.
    LocalOperator,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 14] = [
        Role::ComplianceOfficer,
        Role::Management,
        Role::Board,
        Role::CustomerService,
        Role::Operations,
        Role::Security,
        Role::Legal,
        Role::Auditor,
        Role::Regulator,
        Role::Customer,
        Role::Source,
        Role::Mirror,
        Role::Administrator,
        Role::LocalOperator,
    ];

    /// Roles that a person or a reading key may be given; the others follow from what somebody is.
    pub const GIVEN: [Role; 10] = [
        Role::ComplianceOfficer,
        Role::Management,
        Role::Board,
        Role::CustomerService,
        Role::Operations,
        Role::Security,
        Role::Legal,
        Role::Auditor,
        Role::Regulator,
        Role::Administrator,
    ];

    /// As it is written in policies, records and requests.
    pub fn name(self) -> &'static str {
        match self {
            Role::ComplianceOfficer => "compliance_officer",
            Role::Management => "management",
            Role::Board => "board",
            Role::CustomerService => "customer_service",
            Role::Operations => "operations",
            Role::Security => "security",
            Role::Legal => "legal",
            Role::Auditor => "auditor",
            Role::Regulator => "regulator",
            Role::Customer => "customer",
            Role::Source => "source",
            Role::Mirror => "mirror",
            Role::Administrator => "administrator",
            Role::LocalOperator => "local_operator",
        }
    }

    /// In plain words.
    pub fn words(self) -> String {
        self.name().replace('_', " ")
    }

    /// Several, as they are written.
    pub fn names(roles: &[Role]) -> Vec<&'static str> {
        roles.iter().map(|role| role.name()).collect()
    }

    /// Several, in plain words.
    pub fn list(roles: &[Role]) -> String {
        let words: Vec<String> = roles.iter().map(|role| role.words()).collect();
        words.join(", ")
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}
