//! What a request asks the backend to do, beyond echoing.
//!
//! By path segment anywhere in the path, or by header (which survives rewrites):
//!
//! | path | header | effect |
//! |---|---|---|
//! | `/status/503` | `x-demo-status: 503` | answers with that status |
//! | `/delay/250` | `x-demo-delay: 250` | waits that many milliseconds first |
//! | `/fail/2/KEY` | `x-demo-fail: 2/KEY` | the first two requests with this key get 503, later ones succeed |
//! | `/drip/10/100` | `x-demo-drip: 10/100` | streams ten lines, one every 100 ms |
//! | `/hold/KEY` | `x-demo-hold: KEY` | streams a line, and a last one when someone asks the backend for `/release/KEY` |
//!
//! *Invariant:* an unreadable wish is no wish; the request is echoed.

use std::time::Duration;

/// What to do with one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Answer with this status.
    pub status: Option<u16>,
    /// Wait first.
    pub delay: Option<Duration>,
    /// Fail the first so many requests of this key.
    pub fail: Option<(u32, String)>,
    /// Stream so many lines with this pause before each.
    pub drip: Option<(u32, Duration)>,
    /// Stream a line, and another when this key is released.
    pub hold: Option<String>,
}

impl Plan {
    /// Reads a plan from a path (query allowed) and a look-up of headers.
    pub fn read<'a>(path: &'a str, header: impl Fn(&str) -> Option<&'a str>) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        let wish = |name: &str| -> Option<&'a str> {
            let in_path = path.split_once(&format!("/{name}/")).map(|(_, rest)| rest);
            header(&format!("x-demo-{name}")).or(in_path)
        };
        let first = |name: &str| wish(name).and_then(|rest| rest.split('/').next());
        let pair = |name: &str| wish(name).and_then(|rest| rest.split_once('/'));
        let millis = |text: &str| {
            text.split('/')
                .next()
                .and_then(|t| t.parse().ok())
                .map(Duration::from_millis)
        };
        Self {
            status: first("status")
                .and_then(|s| s.parse().ok())
                .filter(|s| (200..600).contains(s)),
            delay: first("delay").and_then(millis),
            fail: pair("fail").and_then(|(n, key)| Some((n.parse().ok()?, key.to_owned()))),
            drip: pair("drip").and_then(|(n, pause)| Some((n.parse().ok()?, millis(pause)?))),
            hold: first("hold").map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_header_say_the_same() {
        let ms = Duration::from_millis;
        let cases = [
            ("/", Plan::default()),
            (
                "/a/status/503",
                Plan {
                    status: Some(503),
                    ..Plan::default()
                },
            ),
            ("/status/99", Plan::default()),
            ("/status/x", Plan::default()),
            (
                "/delay/20/more?x=1",
                Plan {
                    delay: Some(ms(20)),
                    ..Plan::default()
                },
            ),
            (
                "/fail/2/some-key",
                Plan {
                    fail: Some((2, "some-key".into())),
                    ..Plan::default()
                },
            ),
            (
                "/drip/10/100",
                Plan {
                    drip: Some((10, ms(100))),
                    ..Plan::default()
                },
            ),
            ("/drip/10", Plan::default()),
            (
                "/hold/k/more",
                Plan {
                    hold: Some("k".into()),
                    ..Plan::default()
                },
            ),
        ];
        for (path, expected) in cases {
            assert_eq!(Plan::read(path, |_| None), expected, "{path}");
            let Some((name, value)) = path
                .trim_start_matches("/a")
                .trim_start_matches('/')
                .split_once('/')
            else {
                continue;
            };
            let value = value.split('?').next().unwrap_or_default();
            let by_header = Plan::read("/", |h| (h == format!("x-demo-{name}")).then_some(value));
            assert_eq!(by_header, expected, "header of {path}");
        }
    }
}
