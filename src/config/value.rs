//! What the value of a setting can look like: from the text of a source to the type of the field, and back.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use toml::Value;

use super::{LogFormat, MigrateMode, Mode, Rate, TokenKey};

/// A value as its source has it. Variables are always text. Not `Debug`: it may be a secret.
#[derive(Clone, PartialEq)]
pub(super) enum Raw {
    Text(String),
    Integer(i128),
    Boolean(bool),
    List(Vec<String>),
    /// A type of TOML that no setting has.
    Other,
}

/// A way to write a value. An error says what is expected, and never repeats the value.
pub(super) trait Kind {
    /// The type of the field.
    type Value;
    /// Whether the value is masked wherever it is shown, and can be read from a file of its own.
    const SECRET: bool = false;

    fn parse(raw: Raw) -> Result<Self::Value, &'static str>;

    /// For people to read; a secret is masked. `None` if there is no value.
    fn render(value: &Self::Value) -> Option<Value>;
}

/// Any text.
pub(super) struct Text;

impl Kind for Text {
    type Value = String;

    fn parse(raw: Raw) -> Result<String, &'static str> {
        match raw {
            Raw::Text(text) => Ok(text),
            _ => Err("expected a text in quotes"),
        }
    }

    fn render(value: &String) -> Option<Value> {
        Some(Value::String(value.clone()))
    }
}

/// A path prefix. `/` is the same as none, so that an environment variable, which can't be empty, can say so.
pub(super) struct Prefix;

impl Kind for Prefix {
    type Value = String;

    fn parse(raw: Raw) -> Result<String, &'static str> {
        let text = Text::parse(raw)?;
        Ok(if text == "/" { String::new() } else { text })
    }

    fn render(value: &String) -> Option<Value> {
        Text::render(value)
    }
}

/// A secret of which nothing is shown.
pub(super) struct Secret;

impl Kind for Secret {
    type Value = SecretString;
    const SECRET: bool = true;

    fn parse(raw: Raw) -> Result<SecretString, &'static str> {
        Text::parse(raw).map(SecretString::from)
    }

    fn render(_: &SecretString) -> Option<Value> {
        Some(Value::String(MASK.to_owned()))
    }
}

/// What is shown instead of a secret.
pub(super) const MASK: &str = "***";

/// `true` or `false`.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn parse(raw: Raw) -> Result<bool, &'static str> {
        let expected = "expected true or false";
        match raw {
            Raw::Boolean(value) => Ok(value),
            Raw::Text(text) => text.trim().parse().map_err(|_| expected),
            _ => Err(expected),
        }
    }

    fn render(value: &bool) -> Option<Value> {
        Some(Value::Boolean(*value))
    }
}

/// A whole number, not negative.
pub(super) struct Number<T>(PhantomData<T>);

impl<T: Copy + TryFrom<i128> + TryInto<i64>> Kind for Number<T> {
    type Value = T;

    fn parse(raw: Raw) -> Result<T, &'static str> {
        let expected = "expected a whole number, not negative and not too large";
        let number = match raw {
            Raw::Integer(number) => number,
            Raw::Text(text) => text.trim().parse().map_err(|_| expected)?,
            _ => return Err(expected),
        };
        T::try_from(number).map_err(|_| expected)
    }

    fn render(value: &T) -> Option<Value> {
        Some(Value::Integer((*value).try_into().unwrap_or(i64::MAX)))
    }
}

/// A number of bytes.
pub(super) struct Size;

const SIZE_UNITS: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Kind for Size {
    type Value = usize;

    fn parse(raw: Raw) -> Result<usize, &'static str> {
        let expected = "expected a size such as `16 KiB` or `1 MiB`, or a number of bytes";
        let text = match raw {
            Raw::Integer(bytes) => return usize::try_from(bytes).map_err(|_| expected),
            Raw::Text(text) => text,
            _ => return Err(expected),
        };
        let text = text.trim();
        let (number, factor) = SIZE_UNITS
            .iter()
            .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), *factor)))
            .unwrap_or((text, 1));
        let number = digits(number).ok_or(expected)?;
        usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .ok_or(expected)
    }

    fn render(value: &usize) -> Option<Value> {
        let unit = SIZE_UNITS
            .iter()
            .find(|(_, factor)| *value > 0 && value.is_multiple_of(*factor));
        match unit {
            Some((unit, factor)) => Some(Value::String(format!("{} {unit}", value / factor))),
            None => Number::<usize>::render(value),
        }
    }
}

/// Parses decimal digits and nothing else: no sign, no blank.
fn digits(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// A length of time.
pub(super) struct Span;

/// Units of time, in milliseconds, the largest first.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// A hundred years: more is a mistake, and adding it to a point in time could overflow.
const LONGEST: Duration = Duration::from_hours(36_500 * 24);

impl Kind for Span {
    type Value = Duration;

    fn parse(raw: Raw) -> Result<Duration, &'static str> {
        match raw {
            Raw::Text(text) => parse_duration(text.trim()),
            Raw::Integer(_) => Err(UNIT_MISSING),
            _ => Err(DURATION_EXPECTED),
        }
    }

    fn render(value: &Duration) -> Option<Value> {
        Some(Value::String(duration_text(*value)))
    }
}

const DURATION_EXPECTED: &str =
    "expected a duration such as `500ms`, `2s`, `15m`, `24h`, `90d` or `1h30m`, at most `36500d`";
const UNIT_MISSING: &str =
    "a number alone has no unit: add `ms`, `s`, `m`, `h` or `d`, as in `15m`";

/// Reads a length of time as settings have it: `500ms`, `2s`, `1h30m`.
///
/// # Errors
/// What is expected.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    if text.is_empty() {
        return Err(DURATION_EXPECTED);
    }
    if digits(text).is_some() {
        return Err(UNIT_MISSING);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    // Each unit at most once, the larger first: `30m1h` is more likely a slip than an hour and a half.
    let mut units = TIME_UNITS.iter();
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit());
        let (number, tail) = rest.split_at(number_end.ok_or(DURATION_EXPECTED)?);
        let unit_end = tail.find(|c: char| c.is_ascii_digit());
        let (unit, next) = tail.split_at(unit_end.unwrap_or(tail.len()));
        let (_, factor) = units
            .find(|(name, _)| *name == unit)
            .ok_or(DURATION_EXPECTED)?;
        total = digits(number)
            .and_then(|number| number.checked_mul(*factor))
            .and_then(|millis| total.checked_add(Duration::from_millis(millis)))
            .filter(|total| *total <= LONGEST)
            .ok_or(DURATION_EXPECTED)?;
        rest = next;
    }
    Ok(total)
}

/// In the largest unit that needs no fraction; a single day is `24h`, as people say it of a session.
fn duration_text(value: Duration) -> String {
    let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    let fits = |(name, factor): &&(&str, u64)| {
        millis.is_multiple_of(*factor) && (*name != "d" || millis > *factor)
    };
    match TIME_UNITS.iter().find(fits) {
        Some((unit, factor)) if millis > 0 => format!("{}{unit}", millis / factor),
        _ => "0s".to_owned(),
    }
}

/// So many times within a length of time.
pub(super) struct Frequency;

impl Kind for Frequency {
    type Value = Rate;

    fn parse(raw: Raw) -> Result<Rate, &'static str> {
        let expected = "expected a rate such as `20/15m`: how many, `/`, within which time";
        let Raw::Text(text) = raw else {
            return Err(expected);
        };
        let (count, per) = text.trim().split_once('/').ok_or(expected)?;
        let count = digits(count).and_then(|count| u32::try_from(count).ok());
        Ok(Rate {
            count: count.ok_or(expected)?,
            per: parse_duration(per).map_err(|_| expected)?,
        })
    }

    fn render(value: &Rate) -> Option<Value> {
        let text = format!("{}/{}", value.count, duration_text(value.per));
        Some(Value::String(text))
    }
}

/// Address and port.
pub(super) struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn parse(raw: Raw) -> Result<SocketAddr, &'static str> {
        let expected = "expected an address and a port, such as `0.0.0.0:8000` or `[::]:8000`";
        match raw {
            Raw::Text(text) => text.trim().parse().map_err(|_| expected),
            _ => Err(expected),
        }
    }

    fn render(value: &SocketAddr) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// A list of networks. A plain address is a network of one.
pub(super) struct Networks;

impl Kind for Networks {
    type Value = Vec<IpNet>;

    fn parse(raw: Raw) -> Result<Vec<IpNet>, &'static str> {
        let expected =
            "expected a list of addresses or networks, such as `10.0.0.0/8, 192.0.2.7, fd00::/8`";
        let parts: Vec<Cow<'_, str>> = match &raw {
            Raw::Text(text) => text.split(',').map(Cow::Borrowed).collect(),
            Raw::List(items) => items
                .iter()
                .map(|item| Cow::Borrowed(item.as_str()))
                .collect(),
            _ => return Err(expected),
        };
        parts
            .iter()
            .map(|part| part.trim())
            .filter(|part| !part.is_empty())
            .map(|part| {
                let network = part.parse::<IpNet>();
                let alone = |_| part.parse::<IpAddr>().map(IpNet::from);
                network.map(|network| network.trunc()).or_else(alone)
            })
            .collect::<Result<_, _>>()
            .map_err(|_| expected)
    }

    fn render(value: &Vec<IpNet>) -> Option<Value> {
        let texts = value.iter().map(|net| Value::String(net.to_string()));
        Some(Value::Array(texts.collect()))
    }
}

/// One of a few words.
pub(super) struct Word<T>(PhantomData<T>);

/// A type of which each value has a word.
pub(super) trait Words: Sized + Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
    const EXPECTED: &'static str;
}

impl Words for Mode {
    const WORDS: &'static [(&'static str, Self)] = &[("dev", Self::Dev), ("prod", Self::Prod)];
    const EXPECTED: &'static str = "expected `dev` or `prod`";
}

impl Words for MigrateMode {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("check", Self::Check)];
    const EXPECTED: &'static str = "expected `auto` or `check`";
}

impl Words for TokenKey {
    const WORDS: &'static [(&'static str, Self)] =
        &[("plain", Self::Plain), ("sha256", Self::Sha256)];
    const EXPECTED: &'static str = "expected `plain` or `sha256`";
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
    const EXPECTED: &'static str = "expected `text` or `json`";
}

impl<T: Words> Kind for Word<T> {
    type Value = T;

    fn parse(raw: Raw) -> Result<T, &'static str> {
        let Raw::Text(text) = raw else {
            return Err(T::EXPECTED);
        };
        let found = T::WORDS.iter().find(|(word, _)| *word == text.trim());
        found.map(|(_, value)| *value).ok_or(T::EXPECTED)
    }

    fn render(value: &T) -> Option<Value> {
        let found = T::WORDS.iter().find(|(_, other)| other == value);
        found.map(|(word, _)| Value::String((*word).to_owned()))
    }
}

/// A value that may be missing; an empty text stands for that.
pub(super) struct Optional<K>(PhantomData<K>);

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;
    const SECRET: bool = K::SECRET;

    fn parse(raw: Raw) -> Result<Self::Value, &'static str> {
        match raw {
            Raw::Text(text) if text.is_empty() => Ok(None),
            raw => K::parse(raw).map(Some),
        }
    }

    fn render(value: &Self::Value) -> Option<Value> {
        value.as_ref().and_then(K::render)
    }
}

/// A value that is worked out at the start unless it is set; `auto` stands for that.
pub(super) struct Auto<K>(PhantomData<K>);

impl<K: Kind> Kind for Auto<K> {
    type Value = Option<K::Value>;

    fn parse(raw: Raw) -> Result<Self::Value, &'static str> {
        match raw {
            Raw::Text(text) if text.trim() == "auto" => Ok(None),
            raw => K::parse(raw)
                .map(Some)
                .map_err(|_| "expected `auto` or a whole number"),
        }
    }

    fn render(value: &Self::Value) -> Option<Value> {
        match value {
            None => Some(Value::String("auto".to_owned())),
            Some(value) => K::render(value),
        }
    }
}
