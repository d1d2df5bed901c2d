//! The synthetic records of `candor bench` and the sample data: from a seed, reserved names and domains only.

/// SplitMix64 (Steele, Lea, Flood, 2014).
pub struct Seed(pub u64);

impl Seed {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

const NAMES: [&str; 12] =
    ["Thabo", "Lerato", "Johan", "Aisha", "Zanele", "Pieter", "Nomsa", "Sipho", "Anna", "Kagiso", "Fatima", "Willem"];
const SURNAMES: [&str; 10] =
    ["Naidoo", "Dlamini", "Botha", "Khumalo", "Smit", "Jacobs", "Mokoena", "Patel", "Nkosi", "Fourie"];
const SUBJECTS: [&str; 8] = [
    "Your order {} has shipped",
    "Refund for order {} is on its way",
    "Invoice {} from the shop",
    "We received your return {}",
    "Order {} confirmed, thank you",
    "Your ticket {} was answered",
    "Delivery of {} tomorrow morning",
    "Payment reminder for invoice {}",
];
const TEMPLATES: [&str; 6] = ["order-shipped", "refund", "invoice", "return-received", "order-confirmed", "reminder"];
const PRODUCTS: [&str; 10] =
    ["kettle", "lantern", "rooibos", "blanket", "notebook", "headlamp", "toolbox", "teapot", "backpack", "umbrella"];

/// What a workload is made of.
pub struct Workload {
    pub seed: Seed,
    pub subjects: u64,
    pub start_ms: u64,
    made: u64,
    new_subjects: u64,
    last: Option<String>,
}

impl Workload {
    pub fn new(seed: u64, subjects: u64, start_ms: u64) -> Workload {
        Workload { seed: Seed(seed), subjects, start_ms, made: 0, new_subjects: 0, last: None }
    }

    /// One record: 60 % counted recipients (document 2), 40 % a sealed address (document 1), of which 5 % a new
    /// subject; 1 % repeats.
    pub fn line(&mut self) -> String {
        if self.seed.below(100) == 0
            && let Some(last) = &self.last
        {
            return last.clone();
        }
        self.made += 1;
        let line = if self.seed.below(10) < 6 { self.counted() } else { self.addressed() };
        self.last = Some(line.clone());
        line
    }

    fn common(&mut self, kind: &str) -> String {
        let at = proof::time::UnixMillis(self.start_ms + self.made / 10).rfc3339();
        let (a, b) = (self.seed.next(), self.seed.next());
        format!(
            r#""timestamp":"{at}","event_type":"{kind}","correlation_id":"{:08x}-{:04x}-{:04x}-{:04x}-{:012x}","source_component":"smtp-relay","environment":"production","severity":"info","event_id":"ev-{}-{:x}""#,
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xffff,
            b >> 48,
            b & 0xffff_ffff_ffff,
            self.made,
            self.seed.0 & 0xffff
        )
    }

    fn counted(&mut self) -> String {
        let kind = self.seed.pick(&[
            "EMAIL_SENT",
            "EMAIL_DELIVERY_STATUS",
            "NOTIF_CREATED",
            "EMAIL_SEND_ATTEMPT",
            "ACTION_TOKEN_ISSUED",
        ]);
        let common = self.common(kind);
        let n = self.seed.below(1_000_000);
        format!(
            r#"{{{common},"message_id":"{:016x}.{n}@relay.example","recipient_count":{},"approver_group":"{}-approvals-johannesburg","template_id":"approval-request-{}","document_id":"purchase-order-2026-{:08}","document_version":"{}.0.0","workflow_step_id":"step-{}-of-9-second-signature","status":"{}","dsn":"2.0.0","relay":"mx{}.relay-out.mail.example","delay_ms":{},"queue_id":"{:010X}","size_bytes":{},"site":"johannesburg-1","reason_category":"{}","evidence":"relay-accepted-by-next-hop"}}"#,
            self.seed.next(),
            1 + self.seed.below(5),
            self.seed.pick(&["finance", "sales", "operations", "board"]),
            self.seed.pick(&TEMPLATES),
            n,
            1 + self.seed.below(9),
            self.seed.below(8),
            self.seed.pick(&["sent", "deferred", "queued", "bounced"]),
            self.seed.below(4),
            self.seed.below(90_000),
            self.seed.next() & 0xff_ffff_ffff,
            2000 + self.seed.below(90_000),
            self.seed.pick(&["none", "mailbox-temporarily-unavailable", "greylisted-try-again-later"])
        )
    }

    fn addressed(&mut self) -> String {
        let kind = "EMAIL_SENT";
        let common = self.common(kind);
        let customer = if self.seed.below(20) == 0 {
            self.new_subjects += 1;
            self.subjects + self.new_subjects
        } else {
            self.seed.below(self.subjects)
        };
        let (name, surname) =
            (NAMES[customer as usize % NAMES.len()], SURNAMES[customer as usize / 7 % SURNAMES.len()]);
        let order = 20_000_000 + self.seed.below(9_999_999);
        let subject = self.seed.pick(&SUBJECTS).replace("{}", &order.to_string());
        let at = proof::time::UnixMillis(self.start_ms + self.made / 10 + 1500).rfc3339();
        format!(
            r#"{{{common},"email_id":"{order}.{}@shop.example","sender_details":{{"email":"orders@shop.example","name":"Orders","department":"customer_service","user_id":"u-{}"}},"recipient_details":{{"email":"{}.{customer}@mail.example","customer_id":"c-{customer}","name":"{name} {surname}","consent_status":"explicit_consent_verified"}},"message_content":{{"subject":"{subject}, {} and {}","template_id":"{}","attachments":[{{"name":"invoice-{order}.pdf","sha256":"{:016x}{:016x}{:016x}{:016x}"}}]}},"delivery_tracking":{{"delivery_status":"successful","delivery_time":"{at}"}},"compliance_data":{{"popia_consent":"verified","unsubscribe_link":true,"data_classification":"transactional","retention_period":"P7Y"}}}}"#,
            self.made,
            self.seed.below(40),
            name.to_lowercase(),
            self.seed.pick(&PRODUCTS),
            self.seed.pick(&PRODUCTS),
            self.seed.pick(&TEMPLATES),
            self.seed.next(),
            self.seed.next(),
            self.seed.next(),
            self.seed.next()
        )
    }
}
