//! The directives of `telemetry.log_level`.

use tracing_subscriber::filter::{LevelFilter, Targets};

/// Reads levels and `TARGET=LEVEL`, divided by commas. Where no level stands alone, all other targets are heard at
/// `error`.
///
/// A target without a level, which other readers of `RUST_LOG` take, is `None`: `wran` would be one, and silence the rest.
pub fn parse_log_filter(text: &str) -> Option<Targets> {
    let mut filter = Targets::new().with_default(LevelFilter::ERROR);
    for directive in text.split(',') {
        filter = match directive.split_once('=') {
            None => filter.with_default(level(directive)?),
            Some((target, name)) => filter.with_target(self::target(target)?, level(name)?),
        };
    }
    Some(filter)
}

fn target(path: &str) -> Option<&str> {
    let path = path.trim();
    let of_path =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-' | b'.');
    (!path.is_empty() && path.bytes().all(of_path)).then_some(path)
}

fn level(name: &str) -> Option<LevelFilter> {
    let name = name.trim();
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphabetic());
    // The parser takes numbers, too, and nothing for `error`.
    (is_word && !name.is_empty())
        .then(|| name.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_and_targets() {
        let filter = parse_log_filter("warn, claviger=debug ,sqlx = off").unwrap();
        assert!(filter.would_enable("claviger::api", &Level::DEBUG));
        assert!(!filter.would_enable("claviger::api", &Level::TRACE));
        assert!(filter.would_enable("hyper", &Level::WARN));
        assert!(!filter.would_enable("hyper", &Level::INFO));
        assert!(!filter.would_enable("sqlx", &Level::ERROR));
        let filter = parse_log_filter("claviger=info").unwrap();
        assert!(filter.would_enable("hyper", &Level::ERROR));
        assert!(!filter.would_enable("hyper", &Level::WARN));
        assert!(parse_log_filter("INFO").is_some());
    }

    #[test]
    fn a_slip_of_the_pen_is_no_target() {
        for text in [
            "",
            "wran",
            "info,",
            "claviger",
            "=info",
            "claviger=",
            "claviger=loud",
            "a=b=info",
            "3",
            "claviger[{field}]=info",
            "info claviger=debug",
        ] {
            let filter = parse_log_filter(text);
            assert!(filter.is_none(), "{text}");
        }
    }
}
