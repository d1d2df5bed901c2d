//! Normal forms of what people write in many ways: money, places, languages, durations, yes and no.
//!
//! A record keeps what was sent; a register shows the normal form beside it. What has none is left as it is and never
//! refused.

use serde_json::{Value, json};

/// ISO 4217, the active codes of list one (2024), without funds and metals.
const CURRENCIES: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG";

/// ISO 3166-1 alpha-2.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

fn is_listed(list: &str, code: &str) -> bool {
    list.split(' ').any(|listed| listed == code)
}

/// An amount: ten-thousandths of a unit, and the currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Money {
    /// Ten-thousandths.
    pub value: i128,
    /// ISO 4217 code.
    pub currency: String,
}

impl Money {
    /// Reads `{"value": "12.50", "currency": "ZAR"}`, `"ZAR 12.50"`, `"12,50 EUR"` or `"R 1 234.50"`.
    pub fn read(given: &Value) -> Option<Money> {
        match given {
            Value::Object(map) => {
                let currency = map.get("currency")?.as_str()?;
                Money::of(map.get("value")?.as_str()?, currency)
            }
            Value::String(text) => {
                let letters: String = text.chars().filter(char::is_ascii_alphabetic).collect();
                // Home ground: the rand is written with one letter.
                let currency = if letters == "R" { "ZAR" } else { &letters };
                let number: String =
                    text.chars().filter(|char| char.is_ascii_digit() || ".,-".contains(*char)).collect();
                Money::of(&number, currency)
            }
            _ => None,
        }
    }

    fn of(number: &str, currency: &str) -> Option<Money> {
        let currency = currency.to_ascii_uppercase();
        let (negative, number) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        // Where both marks stand, the last is the decimal one; a comma alone before three digits parts thousands.
        let marks: Vec<usize> = number.match_indices(['.', ',']).map(|(at, _)| at).collect();
        let both = number.contains('.') && number.contains(',');
        let decimal = marks
            .last()
            .copied()
            .filter(|at| both || marks.len() == 1 && (number.as_bytes()[*at] == b'.' || number.len() - at - 1 != 3));
        let (whole, fraction) = decimal.map_or((number, ""), |at| (&number[..at], &number[at + 1..]));
        let whole: String = whole.chars().filter(char::is_ascii_digit).collect();
        let known = is_listed(CURRENCIES, &currency) && whole.len() <= 20 && fraction.len() <= 4;
        if !known || whole.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let value: i128 = format!("{whole}{fraction:0<4}").parse().ok()?;
        Some(Money { value: if negative { -value } else { value }, currency })
    }

    /// The decimal, with two places unless it has more.
    pub fn decimal(&self) -> String {
        let (sign, value) = (if self.value < 0 { "-" } else { "" }, self.value.unsigned_abs());
        let fraction = format!("{:04}", value % 10_000);
        let kept = fraction.trim_end_matches('0').len().max(2);
        format!("{sign}{}.{}", value / 10_000, &fraction[..kept])
    }

    /// As registers show it.
    pub fn shown(&self) -> Value {
        json!({"value": self.decimal(), "currency": self.currency})
    }
}

/// The country's code in capitals, if it is one.
pub fn country(given: &str) -> Option<String> {
    let code = given.trim().to_ascii_uppercase();
    is_listed(COUNTRIES, &code).then_some(code)
}

/// A language tag in the case of RFC 5646 (section 2.1.1), if it is well formed as far as language, script and region.
pub fn language(given: &str) -> Option<String> {
    let mut parts = given.trim().split(['-', '_']);
    let alphabetic = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphabetic());
    let first = parts.next().filter(|part| (2..=3).contains(&part.len()) && alphabetic(part))?;
    let mut tag = first.to_ascii_lowercase();
    for part in parts {
        let part = match part.len() {
            2 if alphabetic(part) => part.to_ascii_uppercase(),
            4 if alphabetic(part) => part[..1].to_ascii_uppercase() + &part[1..].to_ascii_lowercase(),
            3 | 5..=8 if part.bytes().all(|byte| byte.is_ascii_alphanumeric()) => part.to_ascii_lowercase(),
            _ => return None,
        };
        tag.push('-');
        tag.push_str(&part);
    }
    Some(tag)
}

/// `yes` and `no` as the documents write them.
pub fn yes(given: &Value) -> Option<bool> {
    match given {
        Value::Bool(yes) => Some(*yes),
        Value::String(text) => match text.as_str() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_a_decimal_and_a_code() {
        let read = |given: Value| Money::read(&given).map(|money| (money.decimal(), money.currency));
        let some = |value: &str, currency: &str| Some((value.to_owned(), currency.to_owned()));
        assert_eq!(read(json!({"value": "12.5", "currency": "ZAR"})), some("12.50", "ZAR"));
        assert_eq!(read(json!("ZAR 1 234.50")), some("1234.50", "ZAR"));
        assert_eq!(read(json!("R 1 234,50")), some("1234.50", "ZAR"));
        assert_eq!(read(json!("1.234,5 EUR")), some("1234.50", "EUR"));
        assert_eq!(read(json!("1,234 USD")), some("1234.00", "USD"));
        assert_eq!(read(json!("1,234,567 USD")), some("1234567.00", "USD"));
        assert_eq!(read(json!("1.234 BHD")), some("1.234", "BHD"));
        assert_eq!(read(json!("-0.01 ZAR")), some("-0.01", "ZAR"));
        for odd in [json!("12.50"), json!("XXY 1"), json!("ZAR"), json!("1.23456 ZAR"), json!(5)] {
            assert_eq!(read(odd), None);
        }
    }

    #[test]
    fn places_and_languages_take_their_usual_case() {
        assert_eq!(country("za").as_deref(), Some("ZA"));
        assert_eq!(country("South Africa"), None);
        assert_eq!(language("AF_za").as_deref(), Some("af-ZA"));
        assert_eq!(language("zh-hans-cn").as_deref(), Some("zh-Hans-CN"));
        assert_eq!(language("x"), None);
        assert_eq!(yes(&json!("yes")), Some(true));
        assert_eq!(yes(&json!("maybe")), None);
    }
}
