use super::*;

fn shipped() -> Policy {
    Policy::new(SHIPPED).expect("the shipped policies hold")
}

fn may(role: Role, action: Action, change: impl FnOnce(&mut Asked<'_>)) -> Decision {
    let roles = [role];
    let mut asked = Asked::plain(&roles, action);
    change(&mut asked);
    shipped().decide(&asked)
}

/// Every rule of the documents' access table: what it permits, and the nearest thing that it does not.
#[test]
fn each_rule_of_the_access_table_permits_and_its_neighbour_is_refused() {
    let one = |asked: &mut Asked<'_>| {
        (asked.persons, asked.justified) = (1, true);
        asked.classes = BTreeSet::from(["communication"]);
    };
    let many = move |asked: &mut Asked<'_>| {
        one(asked);
        asked.persons = 2;
    };
    type Change = Box<dyn Fn(&mut Asked<'_>)>;
    let table: Vec<(&str, Role, Action, Change, Option<&str>)> = vec![
        // compliance_officer: full_audit_trail_access
        ("all of it", Role::ComplianceOfficer, Action::ReadHistory, Box::new(many), Some("compliance-reads-all")),
        (
            "without a reason",
            Role::ComplianceOfficer,
            Action::ReadHistory,
            Box::new(move |a| {
                one(a);
                a.justified = false;
            }),
            None,
        ),
        ("users are not its own", Role::ComplianceOfficer, Action::ManageUsers, Box::new(|_| {}), None),
        // management: summary_reports_and_analytics
        ("sums", Role::Management, Action::Count, Box::new(|_| {}), Some("management-sees-sums")),
        ("sums", Role::Board, Action::ReadStatistics, Box::new(|_| {}), Some("management-sees-sums")),
        ("a person", Role::Management, Action::ReadEntry, Box::new(one), None),
        ("an entry's facts", Role::Management, Action::ReadEntry, Box::new(|_| {}), None),
        ("a list", Role::Board, Action::ListThings, Box::new(|_| {}), None),
        // customer_service: customer_specific_communication_history; customer_data: business_justification_required
        ("one customer", Role::CustomerService, Action::ReadHistory, Box::new(one), Some("service-history")),
        ("two customers", Role::CustomerService, Action::ReadHistory, Box::new(many), None),
        (
            "a case by its id",
            Role::CustomerService,
            Action::ReadHistory,
            Box::new(|a| a.parts = BTreeSet::from(["cases"])),
            None,
        ),
        (
            "no reason",
            Role::CustomerService,
            Action::ReadHistory,
            Box::new(move |a| {
                one(a);
                a.justified = false;
            }),
            None,
        ),
        (
            "a ticket",
            Role::CustomerService,
            Action::ReadThing,
            Box::new(move |a| {
                one(a);
                a.register = Some("tickets");
            }),
            Some("service-one-customer"),
        ),
        (
            "a session",
            Role::CustomerService,
            Action::ReadThing,
            Box::new(move |a| {
                one(a);
                a.parts = BTreeSet::from(["sessions"]);
            }),
            None,
        ),
        (
            "an access entry",
            Role::CustomerService,
            Action::ReadEntry,
            Box::new(move |a| {
                one(a);
                a.classes = BTreeSet::from(["access"]);
            }),
            None,
        ),
        ("sums", Role::CustomerService, Action::Count, Box::new(|_| {}), None),
        (
            "tickets by state",
            Role::CustomerService,
            Action::ListThings,
            Box::new(|a| a.register = Some("tickets")),
            Some("service-worklists"),
        ),
        (
            "breaches by state",
            Role::CustomerService,
            Action::ListThings,
            Box::new(|a| a.register = Some("breaches")),
            None,
        ),
        // customers: own_data_access_only
        (
            "their own",
            Role::Customer,
            Action::ReadHistory,
            Box::new(|a| {
                a.persons = 1;
                a.own = true;
            }),
            Some("own-history"),
        ),
        ("another's", Role::Customer, Action::ReadHistory, Box::new(one), None),
        ("a search", Role::Customer, Action::Search, Box::new(|a| a.own = true), None),
        // bulk_exports: management_approval_required
        (
            "two hundred",
            Role::ComplianceOfficer,
            Action::Search,
            Box::new(move |a| {
                one(a);
                a.persons = 200;
            }),
            Some("compliance-reads-all"),
        ),
        (
            "one more",
            Role::ComplianceOfficer,
            Action::Search,
            Box::new(move |a| {
                one(a);
                a.persons = 201;
            }),
            None,
        ),
        (
            "approved",
            Role::ComplianceOfficer,
            Action::Search,
            Box::new(move |a| {
                one(a);
                a.persons = 201;
                a.approvals = BTreeSet::from(["management"]);
            }),
            Some("compliance-reads-all"),
        ),
        (
            "by another",
            Role::ComplianceOfficer,
            Action::Search,
            Box::new(move |a| {
                one(a);
                a.persons = 201;
                a.approvals = BTreeSet::from(["legal"]);
            }),
            None,
        ),
        // sensitive_data: dual_approval_required
        (
            "a breach",
            Role::Legal,
            Action::ReadThing,
            Box::new(move |a| {
                one(a);
                (a.parts, a.approvers) = (BTreeSet::from(["breaches"]), 2);
            }),
            Some("legal-reads-with-a-case"),
        ),
        (
            "a breach by one's leave",
            Role::Legal,
            Action::ReadThing,
            Box::new(move |a| {
                one(a);
                (a.parts, a.approvers) = (BTreeSet::from(["breaches"]), 1);
            }),
            None,
        ),
        // regulatory_requests: legal_approval_required
        (
            "by legal",
            Role::Regulator,
            Action::Search,
            Box::new(move |a| {
                one(a);
                a.approvals = BTreeSet::from(["legal"]);
            }),
            Some("auditor-by-grant"),
        ),
        (
            "by management",
            Role::Regulator,
            Action::Search,
            Box::new(move |a| {
                one(a);
                a.approvals = BTreeSet::from(["management"]);
            }),
            None,
        ),
        ("no grant", Role::Auditor, Action::ReadEntry, Box::new(one), None),
        ("proofs need none", Role::Auditor, Action::ReadProofs, Box::new(|_| {}), Some("auditor-proofs")),
        // Operations, security, legal.
        ("sources", Role::Operations, Action::ReadSources, Box::new(|_| {}), Some("operations-sees-health")),
        ("a customer", Role::Operations, Action::ReadEntry, Box::new(one), None),
        (
            "alerts",
            Role::Operations,
            Action::ListThings,
            Box::new(|a| a.register = Some("alerts")),
            Some("operations-lists-alerts"),
        ),
        ("tickets", Role::Operations, Action::ListThings, Box::new(|a| a.register = Some("tickets")), None),
        (
            "a session",
            Role::Security,
            Action::ReadThing,
            Box::new(move |a| {
                one(a);
                a.classes = BTreeSet::from(["access"]);
            }),
            Some("security-sees-access"),
        ),
        ("a mail", Role::Security, Action::ReadThing, Box::new(one), None),
        ("a case", Role::Security, Action::StepCase, Box::new(|_| {}), Some("security-steps-alerts")),
        ("a case", Role::Management, Action::StepCase, Box::new(|_| {}), None),
        (
            "a review",
            Role::Management,
            Action::SignReview,
            Box::new(|a| a.register = Some("reviews")),
            Some("management-reviews"),
        ),
        ("a review", Role::Board, Action::SignReview, Box::new(|a| a.register = Some("reviews")), None),
        ("with a case", Role::Legal, Action::ReadHistory, Box::new(one), Some("legal-reads-with-a-case")),
        ("without", Role::Legal, Action::ListThings, Box::new(|_| {}), None),
        // Administration and reading are separate; who appends can't read.
        ("users", Role::Administrator, Action::ManageUsers, Box::new(|_| {}), Some("administrator-administers")),
        ("a body", Role::Administrator, Action::ReadEntry, Box::new(one), None),
        ("a count", Role::Administrator, Action::Count, Box::new(|_| {}), None),
        ("append", Role::Source, Action::Append, Box::new(|_| {}), Some("sources-append")),
        ("read", Role::Source, Action::ReadEntry, Box::new(|_| {}), None),
        ("append", Role::ComplianceOfficer, Action::Append, Box::new(|_| {}), None),
        ("tiles", Role::Mirror, Action::ReadProofs, Box::new(|_| {}), Some("mirror-reads-proofs")),
        ("entries", Role::Mirror, Action::ReadEntry, Box::new(|_| {}), None),
        (
            "all",
            Role::LocalOperator,
            Action::ReadHistory,
            Box::new(move |a| {
                one(a);
                a.justified = false;
            }),
            Some("local-operator"),
        ),
    ];
    for (what, role, action, change, rule) in table {
        let decision = may(role, action, |asked| change(asked));
        let said = format!("{what}: {} {}", role.name(), action.name());
        assert_eq!(decision.permitted, rule.is_some(), "{said}: {decision:?}");
        if let Some(rule) = rule {
            assert_eq!(decision.rule.as_deref(), Some(rule), "{said}");
        }
    }
}

#[test]
fn a_reader_that_is_a_source_too_reads_nothing() {
    let roles = [Role::ComplianceOfficer, Role::Source];
    let decision = shipped().decide(&Asked::plain(&roles, Action::Count));
    assert_eq!((decision.permitted, decision.rule.as_deref()), (false, Some("who-writes-does-not-read")));
}

#[test]
fn a_refusal_says_which_rule_what_instead_and_who_may() {
    let policy = shipped();
    let roles = [Role::CustomerService];
    let mut asked = Asked::plain(&roles, Action::ReadHistory);
    (asked.persons, asked.classes) = (1, BTreeSet::from(["communication"]));
    let explained = policy.explain(&asked);
    assert_eq!(explained.rules[0].0, "a-reason-first");
    assert!(explained.instead.contains(&"give a reason: a case number or a sentence"), "{explained:?}");
    (asked.persons, asked.justified) = (3, true);
    let explained = policy.explain(&asked);
    assert!(explained.rules.is_empty() && explained.instead.contains(&"narrow it to one person"), "{explained:?}");
    assert!(explained.roles.contains(&Role::ComplianceOfficer) && !explained.roles.contains(&Role::Management));
    let admin = [Role::Administrator];
    let asked = Asked { roles: &admin, ..asked };
    assert!(policy.explain(&asked).instead.is_empty(), "nothing makes an administrator a reader");
}

#[test]
fn a_text_that_does_not_hold_is_no_policy() {
    let named = r#"@rule("x") @says("y") "#;
    let wrong = [
        ("permit(principal, action, resource)", "no end"),
        ("permit(principal, action, resource);", "no name"),
        (&format!("{named}permit(principal, action == Action::\"Fly\", resource);"), "no such action"),
        (
            &format!("{named}permit(principal, action == Action::\"Count\", resource) when {{ context.shoes }};"),
            "no such field",
        ),
        (&format!("{named}permit(principal, action, resource);\n{named}permit(principal, action, resource);"), "twice"),
        (&" ".repeat(TEXT_BYTES_MAX + 1), "too long"),
    ];
    for (text, why) in wrong {
        assert!(Policy::new(text).is_err(), "{why}");
    }
    let nothing = Policy::new("").expect("nobody may do anything");
    let roles = Role::ALL;
    assert!(Action::ALL.iter().all(|(action, ..)| !nothing.decide(&Asked::plain(&roles, *action)).permitted));
}

#[test]
fn every_action_is_in_the_schema_and_every_role_that_ships_is_known() {
    for (_, name, words) in Action::ALL {
        assert!(SCHEMA.contains(name) && !words.is_empty(), "{name}");
        assert_eq!(Action::parse(name).map(Action::name), Some(name));
    }
    for part in SHIPPED.split("Role::\"").skip(1) {
        let name = part.split('"').next().expect("a name");
        assert!(Role::parse(name).is_some(), "{name}");
    }
}
